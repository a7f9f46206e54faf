//! Deadlocks that were found, and that one search for them runs at a time.

use crate::listed::Cycle;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use std::collections::VecDeque;

/// Deadlocks that are remembered.
const REMEMBERED: usize = 64;

/// The latest deadlocks. Their mutex is what has one detection run at a time.
#[derive(Debug, Default)]
pub(crate) struct Deadlocks {
    recent: Mutex<VecDeque<Cycle>>,
    /// Lines whose order was changed. Changed under the mutex of the line's shard.
    orders: AtomicU64,
}

impl Deadlocks {
    /// Returns how often the order of a line was changed.
    ///
    /// While a shard's mutex is held, none of its lines changes.
    pub(crate) fn orders(&self) -> u64 {
        self.orders.load(Ordering::Relaxed)
    }

    /// Notes that the order of a line is about to change. The caller owns its shard.
    pub(crate) fn changes_order(&self) {
        self.orders.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins a detection; no other begins before it ends.
    pub(crate) fn detect(&self) -> Detection<'_> {
        Detection(self.recent.lock())
    }

    /// Returns whether a detection runs.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn is_detecting(&self) -> bool {
        self.recent.try_lock().is_none()
    }

    /// Returns the latest, oldest first.
    pub(crate) fn recent(&self) -> Vec<Cycle> {
        self.recent.lock().iter().cloned().collect()
    }
}

/// A detection that runs.
pub(crate) struct Detection<'a>(MutexGuard<'a, VecDeque<Cycle>>);

impl Detection<'_> {
    /// Keeps what was found in mind.
    pub(crate) fn remember(&mut self, cycle: Cycle) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(cycle);
    }
}
