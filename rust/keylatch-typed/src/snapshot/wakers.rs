//! The wakers of futures that wait for one event; part of the snapshot's mutex-protected state.

use std::collections::BTreeMap;
use std::collections::btree_map::IntoValues;
use std::task::Waker;

/// A waker for each waiting future, found by the ticket that the future remembers.
///
/// No waker is cloned, woken or dropped in here, because that runs foreign code and the caller holds the mutex.
#[derive(Default)]
pub(super) struct Wakers {
    waiting: BTreeMap<u64, Waker>,
    /// Tickets so far.
    tickets: u64,
}

impl Wakers {
    /// Keeps the waker of a future, and gives it a ticket if it has none.
    ///
    /// Returns the waker that it replaces, to be dropped without the mutex.
    pub(super) fn register(&mut self, ticket: &mut Option<u64>, waker: Waker) -> Option<Waker> {
        let ticket = *ticket.get_or_insert_with(|| {
            self.tickets += 1;
            self.tickets
        });
        self.waiting.insert(ticket, waker)
    }

    /// Takes the ticket back. Returns its waker, to be dropped without the mutex.
    pub(super) fn remove(&mut self, ticket: &mut Option<u64>) -> Option<Waker> {
        self.waiting.remove(&ticket.take()?)
    }

    /// Returns all wakers, to be woken without the mutex.
    pub(super) fn take(&mut self) -> IntoValues<u64, Waker> {
        std::mem::take(&mut self.waiting).into_values()
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
