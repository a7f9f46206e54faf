//! A value on the heap that is made when it is first needed, in one word.
//!
//! `OnceLock<Box<T>>` takes two, and neither model checker nor ThreadSanitizer sees what it publishes.

use super::atomic::{AtomicPtr, Ordering};
use std::fmt;
use std::marker::PhantomData;
use std::ptr;

pub(crate) struct LazyBox<T> {
    /// Null until the value is made; then it stays the same until the drop.
    pointer: AtomicPtr<T>,
    owned: PhantomData<Box<T>>,
}

impl<T: Send + Sync> LazyBox<T> {
    pub(crate) fn new() -> Self {
        Self { pointer: AtomicPtr::new(ptr::null_mut()), owned: PhantomData }
    }

    /// Returns the value if it was made.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        // Pairs with: the swap in `get_or_init`.
        // SAFETY: null, or from the box that lives until this is dropped.
        unsafe { self.pointer.load(Ordering::Acquire).as_ref() }
    }

    /// Returns the value, and makes it if it was not made yet.
    ///
    /// Two threads may each make one; the second is dropped.
    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let made = Box::into_raw(Box::new(make()));
        // Pairs with: the load in `get`, and the one here when it fails.
        let first = self.pointer.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire);
        let kept = first.map_or_else(
            |earlier| {
                // SAFETY: made above, and shown to no other thread.
                drop(unsafe { Box::from_raw(made) });
                earlier
            },
            |_| made,
        );
        // SAFETY: not null, and from the box that lives until this is dropped.
        unsafe { &*kept }
    }
}

impl<T> Drop for LazyBox<T> {
    fn drop(&mut self) {
        let made = self.pointer.load(Ordering::Relaxed);
        if !made.is_null() {
            // SAFETY: from the box that was made, which nothing borrows any more.
            drop(unsafe { Box::from_raw(made) });
        }
    }
}

impl<T: Send + Sync + fmt::Debug> fmt::Debug for LazyBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    #[test]
    fn threads_agree_and_all_is_dropped() {
        for _ in 0..500 {
            let (lazy, counted, begin) = (LazyBox::new(), Arc::new(()), Barrier::new(3));
            assert!(lazy.get().is_none());
            let addresses: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..3)
                    .map(|_| {
                        scope.spawn(|| {
                            begin.wait();
                            ptr::from_ref(lazy.get_or_init(|| Arc::clone(&counted))).addr()
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(addresses.iter().all(|address| *address == addresses[0]));
            assert_eq!(Arc::strong_count(&counted), 2);
            drop(lazy);
            assert_eq!(Arc::strong_count(&counted), 1);
        }
    }
}
