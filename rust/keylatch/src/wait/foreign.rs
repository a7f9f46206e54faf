//! Values of the caller's: wakers, callbacks. What they do when they are called or dropped may panic.
//!
//! They are called and dropped in the middle of paths that have to be walked to their end: a release that still has others
//! to wake, a request whose grant has no guard yet. A panic there would leave a lock with nobody, so it ends here, after
//! the panic hook has told of it.

use crate::sync::fault::fault;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// A foreign value whose drop does not panic.
#[derive(Debug)]
pub(crate) struct Foreign<T>(ManuallyDrop<T>);

impl<T> Foreign<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    /// The value itself, to be used where a panic does no harm.
    pub(crate) fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is neither dropped nor used again.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T: ?Sized> Foreign<Box<T>> {
    /// Calls it, or whatever else takes the box itself.
    pub(crate) fn call(self, with: impl FnOnce(Box<T>)) {
        without_panic(|| with(self.into_inner()));
    }
}

impl Foreign<Waker> {
    pub(crate) fn wake(self) {
        without_panic(|| self.into_inner().wake());
    }

    pub(crate) fn will_wake(&self, other: &Self) -> bool {
        self.0.will_wake(&other.0)
    }
}

impl<T> Drop for Foreign<T> {
    fn drop(&mut self) {
        // SAFETY: dropped once, here.
        without_panic(|| unsafe { ManuallyDrop::drop(&mut self.0) });
    }
}

/// What it returns, or `None` if it panics.
pub(crate) fn without_panic<T>(foreign: impl FnOnce() -> T) -> Option<T> {
    if fault!("foreign-panic-let-through") {
        return Some(foreign());
    }
    match catch_unwind(AssertUnwindSafe(foreign)) {
        Ok(value) => Some(value),
        Err(panic) => {
            // What was thrown may panic in its drop, too, and so may what that throws, and so on: there it ends.
            let again = catch_unwind(AssertUnwindSafe(|| drop(panic))).err();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(again))).map_err(std::mem::forget);
            None
        }
    }
}
