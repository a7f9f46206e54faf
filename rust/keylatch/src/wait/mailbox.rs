//! News for those who neither sleep nor poll: a list of finished waiters, and a bell.
//!
//! Posting happens on the release path, so it allocates nothing: the list goes through the waiters themselves.

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::fault::fault;
use std::sync::Arc;

/// The links of the list: one for each waiter.
pub(crate) trait Links {
    fn next(&self, index: u32) -> &AtomicU32;
}

/// Where finished waiters lie until somebody fetches them.
pub(crate) struct Mailbox {
    ends: Mutex<Ends>,
    /// Rung, off the mutex, after every post.
    bell: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Ends {
    first: u32,
    last: u32,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the mutex, which nobody may wait for in a forked child.
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl Mailbox {
    pub(crate) fn new(bell: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { ends: Mutex::new(Ends::default()), bell: Box::new(bell) })
    }

    /// Adds a finished waiter.
    pub(crate) fn post(&self, waiters: &impl Links, index: u32) {
        let mut ends = self.ends.lock();
        waiters.next(index).store(0, Ordering::Relaxed);
        if ends.first == 0 || fault!("letter-on-top-of-letter") {
            ends.first = index;
        } else {
            waiters.next(ends.last).store(index, Ordering::Relaxed);
        }
        ends.last = index;
        drop(ends);
        (self.bell)();
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
