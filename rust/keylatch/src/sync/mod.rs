//! The one door to everything concurrent.
//!
//! The rest of the crate takes its atomics, mutexes, parking and per-thread storage from here, so that `--cfg loom`
//! swaps all of them for the model checker's and the very code that ships is the code that is checked.

mod at_fork;
mod barrier;
mod clock;
mod fork;
mod mutex;
pub(crate) mod number_pool;
mod once_lock;
mod park;
mod per_thread;
pub(crate) mod runtime;
#[cfg(all(test, not(loom)))]
mod steps;
pub(crate) mod thread;

#[cfg(loom)]
pub(crate) use loom::sync::atomic;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic;

pub(crate) use at_fork::watch_forks;
pub(crate) use barrier::Barrier;
pub(crate) use clock::Clock;
pub(crate) use fork::forks;
pub(crate) use mutex::{Mutex, MutexGuard};
pub(crate) use once_lock::OnceLock;
pub(crate) use park::{Park, ParkedUntil};
pub(crate) use per_thread::PerThread;
#[cfg(all(test, not(loom)))]
pub(crate) use steps::{step, steps_of};

/// One turn of a bounded wait for another thread.
#[inline]
pub(crate) fn spin_hint() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::hint::spin_loop();
}

/// One step of a walk through everything there is; counted in tests.
#[cfg(not(all(test, not(loom))))]
pub(crate) const fn step() {}

/// Lets other threads run, in case the one that is waited for has lost its core.
pub(crate) fn yield_now() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::thread::yield_now();
}
