//! The list of finished waiters whose requests neither sleep nor poll, and a signal for its reader.
//!
//! The release path adds to the list, so adding allocates nothing: the list is linked through the waiters themselves.

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

/// The links of the list: one for each waiter.
pub(crate) trait Links {
    fn next(&self, index: u32) -> &AtomicU32;
}

/// The finished waiters that have not been fetched.
pub(crate) struct CompletionList {
    ends: Mutex<Ends>,
    /// Called after every addition, without the mutex.
    signal: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Ends {
    first: u32,
    last: u32,
}

impl std::fmt::Debug for CompletionList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Takes no mutex: in a forked child its holder may not exist.
        f.debug_struct("CompletionList").finish_non_exhaustive()
    }
}

impl CompletionList {
    pub(crate) fn new(signal: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { ends: Mutex::new(Ends::default()), signal: Box::new(signal) })
    }

    /// Adds a finished waiter.
    pub(crate) fn post(&self, waiters: &impl Links, index: u32) {
        let mut ends = self.ends.lock();
        waiters.next(index).store(0, Ordering::Relaxed);
        if ends.first == 0 {
            ends.first = index;
        } else {
            waiters.next(ends.last).store(index, Ordering::Relaxed);
        }
        ends.last = index;
        drop(ends);
        (self.signal)();
    }

    /// Takes the oldest finished waiter.
    pub(crate) fn fetch(&self, waiters: &impl Links) -> Option<u32> {
        let mut ends = self.ends.lock();
        let index = ends.first;
        if index == 0 {
            return None;
        }
        ends.first = waiters.next(index).load(Ordering::Relaxed);
        Some(index)
    }
}
