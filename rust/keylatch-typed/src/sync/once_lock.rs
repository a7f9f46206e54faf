//! A value that is set once: the standard library's, or under ThreadSanitizer one whose steps it sees.
//!
//! The standard library is not instrumented, so a value that its `OnceLock` publishes looks like a data race.

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

    // SAFETY: one thread writes the value, inside `call_once`; every thread reads it only after that.
    unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}

    impl<T> OnceLock<T> {
        pub(crate) const fn new() -> Self {
            Self { once: Once::new(), value: UnsafeCell::new(None) }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            if !self.once.state().done() {
                return None;
            }
            // SAFETY: nothing writes the value once this is done.
            unsafe { &*self.value.get() }.as_ref()
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            // SAFETY: no other thread is inside `call_once`, and none reads the value before its end.
            self.once.call_once(|| unsafe { *self.value.get() = Some(make()) });
            self.get().expect("set above")
        }
    }
}
