//! The one door to everything concurrent.
//!
//! The rest of the crate takes its atomics, mutexes, cells and parking from here. `--cfg loom` swaps all of them for the
//! model checker's, so the code that ships is the code that is checked.

mod block_on;
mod caught;
mod lazy_box;
mod mutex;
mod once_lock;
mod wake;

#[cfg(loom)]
pub(crate) use loom::{sync::atomic, thread};
#[cfg(not(loom))]
pub(crate) use std::{sync::atomic, thread};

pub(crate) use block_on::block_on;
pub(crate) use caught::caught;
pub(crate) use lazy_box::LazyBox;
pub(crate) use mutex::{Mutex, MutexGuard};
pub(crate) use once_lock::OnceLock;
pub(crate) use wake::wake_all;
