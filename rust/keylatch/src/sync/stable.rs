//! A stand-in, under the model checker, for memory that is read and written without atomics elsewhere: to look at it while
//! another thread may be changing it fails the model.

use loom::cell::UnsafeCell;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Stable(UnsafeCell<()>);

// SAFETY: there is nothing in it; two threads that are in it at once are what it is there to report.
unsafe impl Sync for Stable {}

impl Stable {
    pub(crate) fn look(&self) {
        self.0.with(|_| ());
    }

    pub(crate) fn change(&self) {
        self.0.with_mut(|_| ());
    }
}
