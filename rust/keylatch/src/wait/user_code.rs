//! Values of the user's: wakers and callbacks. They may panic when they are called or dropped.
//!
//! The engine calls and drops them in the middle of paths that have to be completed: a release that still has threads to
//! wake, or a request whose grant has no guard yet. A panic there would leave a lock without a holder. So it ends here,
//! after the panic hook has run.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// A value of the user's, whose drop does not panic.
#[derive(Debug)]
pub(crate) struct UserCode<T>(ManuallyDrop<T>);

impl<T> UserCode<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    /// Returns the value itself, to be used where a panic does no harm.
    pub(crate) fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is neither dropped nor used again.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T: ?Sized> UserCode<Box<T>> {
    /// Hands the box to `with`, which may call it.
    pub(crate) fn call(self, with: impl FnOnce(Box<T>)) {
        without_panic(|| with(self.into_inner()));
    }
}

impl UserCode<Waker> {
    pub(crate) fn wake(self) {
        without_panic(|| self.into_inner().wake());
    }

    pub(crate) fn will_wake(&self, other: &Self) -> bool {
        self.0.will_wake(&other.0)
    }
}

impl<T> Drop for UserCode<T> {
    fn drop(&mut self) {
        // SAFETY: dropped once, here.
        without_panic(|| unsafe { ManuallyDrop::drop(&mut self.0) });
    }
}

/// Returns what the code returns, or `None` if it panics.
pub(crate) fn without_panic<T>(call: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => Some(value),
        Err(panic) => {
            // The payload may panic in its drop, too, and so may the payload of that panic; the third one is forgotten.
            let again = catch_unwind(AssertUnwindSafe(|| drop(panic))).err();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(again))).map_err(std::mem::forget);
            None
        }
    }
}
