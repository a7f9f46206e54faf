//! A value that is set once: the standard library's.
//!
//! ThreadSanitizer does not see inside the standard library, so for it there is one whose every step it sees.

#[cfg(not(tsan))]
pub(crate) use std::sync::OnceLock;

#[cfg(tsan)]
pub(crate) use seen::OnceLock;

#[cfg(tsan)]
mod seen {
    use parking_lot::Once;
    use std::cell::UnsafeCell;

    pub(crate) struct OnceLock<T> {
        once: Once,
        value: UnsafeCell<Option<T>>,
    }

    // SAFETY: written by one thread before `once` is done, and only read after that, from any thread.
    unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}

    impl<T> OnceLock<T> {
        pub(crate) const fn new() -> Self {
            Self { once: Once::new(), value: UnsafeCell::new(None) }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            // SAFETY: done, so no thread writes any more.
            if self.once.state().done() { unsafe { &*self.value.get() }.as_ref() } else { None }
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            // SAFETY: inside `call_once` there is only this thread, and readers wait for its end.
            self.once.call_once(|| unsafe { *self.value.get() = Some(make()) });
            self.get().expect("set a moment ago")
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            let mut value = Some(value);
            // SAFETY: as above.
            self.once.call_once(|| unsafe { *self.value.get() = value.take() });
            value.map_or(Ok(()), Err)
        }
    }

    impl<T> Default for OnceLock<T> {
        fn default() -> Self {
            Self::new()
        }
    }

    impl<T: std::fmt::Debug> std::fmt::Debug for OnceLock<T> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.get().fmt(f)
        }
    }
}
