//! The closures that wait to be applied; part of the snapshot's mutex-protected state.

use super::outcome::Submitted;
use std::task::Waker;

/// A closure in the queue, and where its submitter learns what became of it.
pub(super) struct Queued<T> {
    pub(super) apply: Box<dyn FnOnce(&mut T) + Send>,
    /// `None` for a closure of `defer`.
    pub(super) submitted: Option<Submitted>,
}

/// Closures in the order of their arrival.
pub(super) struct Queue<T> {
    closures: Vec<Queued<T>>,
    /// Those that `update` brought.
    awaited: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { closures: Vec::new(), awaited: 0 }
    }
}

impl<T> Queue<T> {
    pub(super) const fn has_any(&self) -> bool {
        !self.closures.is_empty()
    }

    /// Returns whether one of the closures is of `update`.
    pub(super) const fn has_awaited(&self) -> bool {
        self.awaited > 0
    }

    pub(super) fn push(&mut self, queued: Queued<T>) {
        self.awaited += usize::from(queued.submitted.is_some());
        self.closures.push(queued);
    }

    /// Empties the queue.
    pub(super) fn take(&mut self) -> Vec<Queued<T>> {
        self.awaited = 0;
        std::mem::take(&mut self.closures)
    }

    /// Returns the wakers of threads and tasks that await closures.
    ///
    /// These look at the applier before they sleep again. Wake them without the mutex.
    pub(super) fn take_wakers(&self) -> Vec<Waker> {
        let submitted = self.closures.iter().filter_map(|queued| queued.submitted.as_ref());
        submitted.filter_map(Submitted::take_waker).collect()
    }
}
