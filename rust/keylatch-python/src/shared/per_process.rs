//! What each process has for itself: a forked child begins anew, and lets be what its parent had.

use crate::fork::Process;
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A value of this process, made when it is first needed.
///
/// The parent's value stays as it is in a child: another thread may have been in the middle of it, or hold its mutex.
pub(crate) struct PerProcess<T> {
    make: fn() -> T,
    current: AtomicPtr<Made<T>>,
    owns: PhantomData<Box<T>>,
}

struct Made<T> {
    process: Process,
    value: T,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new(make: fn() -> T) -> Self {
        Self { make, current: AtomicPtr::new(null_mut()), owns: PhantomData }
    }

    #[inline]
    pub(crate) fn get(&self) -> &T {
        // Pairs with: the exchange below.
        let seen = self.current.load(Ordering::Acquire);
        // SAFETY: null, or made below. It is freed with this only, or never.
        match unsafe { seen.as_ref() } {
            Some(made) if !made.process.is_forked() => &made.value,
            _ => self.make(seen),
        }
    }

    #[cold]
    fn make(&self, seen: *mut Made<T>) -> &T {
        let fresh = Box::into_raw(Box::new(Made { process: Process::this(), value: (self.make)() }));
        // Pairs with: the load above, and itself. What a parent made is leaked.
        match self.current.compare_exchange(seen, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: made above, and freed with this only.
            Ok(_) => unsafe { &(*fresh).value },
            Err(other) => {
                // SAFETY: made above, and no other thread has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: made by another thread of this process, and freed with this only.
                unsafe { &(*other).value }
            }
        }
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let seen = *self.current.get_mut();
        // SAFETY: null, or made above.
        if unsafe { seen.as_ref() }.is_some_and(|made| !made.process.is_forked()) {
            // SAFETY: made above, and no borrow of this is left.
            drop(unsafe { Box::from_raw(seen) });
        }
    }
}
