//! One `T` for each thread that uses an object, found without a lock; a thread that ends leaves its `T` to a later one.

#[cfg(not(loom))]
pub(crate) use real::PerThread;

#[cfg(loom)]
pub(crate) use modelled::PerThread;

#[cfg(not(loom))]
mod real {
    use crossbeam_utils::CachePadded;

    /// See the module. Padded, because the list keeps those of several threads side by side, and each thread writes to
    /// its own all the time.
    #[derive(Debug)]
    pub(crate) struct PerThread<T: Send>(thread_local::ThreadLocal<CachePadded<T>>);

    impl<T: Send + Sync> PerThread<T> {
        pub(crate) fn new() -> Self {
            Self(thread_local::ThreadLocal::new())
        }

        /// The calling thread's `T`, made on its first use.
        #[inline(always)]
        pub(crate) fn get_or(&self, make: impl FnOnce() -> T) -> &T {
            match self.0.get() {
                Some(already) => already,
                None => self.insert_slow(make),
            }
        }

        /// Out of the way: what is made here is large, and would have every caller keep aligned room for it.
        #[cold]
        #[inline(never)]
        fn insert_slow(&self, make: impl FnOnce() -> T) -> &T {
            self.0.get_or(|| CachePadded::new(make()))
        }

        /// Everybody's.
        pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
            self.0.iter().map(|padded| &**padded)
        }
    }
}

#[cfg(loom)]
mod modelled {
    //! Under the model checker all model threads share one thread of the operating system, so the real thing would give
    //! them one `T` to share. The list is behind a plain mutex: no model thread is switched while it is held. What is new
    //! is seen by others as it is in the real thing, which publishes each `T` by a mark of its own.

    use loom::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, PoisonError};

    #[derive(Debug)]
    pub(crate) struct PerThread<T> {
        made: Mutex<Vec<(loom::thread::ThreadId, Box<T>)>>,
        present: [AtomicBool; MOST_THREADS],
    }

    /// More than the model checker has.
    const MOST_THREADS: usize = 8;

    impl<T: Send + Sync> PerThread<T> {
        pub(crate) fn new() -> Self {
            Self { made: Mutex::new(Vec::new()), present: std::array::from_fn(|_| AtomicBool::new(false)) }
        }

        fn list(&self) -> Vec<(loom::thread::ThreadId, &T)> {
            let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the boxes are never moved out or dropped before `self`, and only shared references are given out.
            made.iter().map(|(by, value)| (*by, unsafe { &*std::ptr::from_ref(&**value) })).collect()
        }

        pub(crate) fn get_or(&self, make: impl FnOnce() -> T) -> &T {
            let me = loom::thread::current().id();
            if let Some((_, value)) = self.list().into_iter().find(|(by, _)| *by == me) {
                return value;
            }
            let value = Box::new(make());
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.push((me, value));
            let position = made.len() - 1;
            drop(made);
            self.present[position].store(true, Ordering::Release);
            self.list()[position].1
        }

        pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
            let present = |position: &usize| self.present[*position].load(Ordering::Acquire);
            let positions = (0..self.list().len()).filter(present);
            positions.map(|position| self.list()[position].1).collect::<Vec<_>>().into_iter()
        }
    }
}
