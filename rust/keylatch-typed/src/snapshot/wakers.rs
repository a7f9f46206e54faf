//! The wakers of futures that wait for one event; part of the snapshot's mutex-protected state.

use std::task::Waker;

/// A waker for each waiting future, found by the slot that the future remembers.
///
/// Invariant: a slot belongs to one future from `register` to `remove`; `take` empties slots and gives none back.
/// No waker is cloned, woken or dropped in here, because that runs foreign code and the caller holds the mutex.
#[derive(Default)]
pub(super) struct Wakers {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Wakers {
    /// Keeps the waker in the future's slot.
    ///
    /// Returns the one that it replaces, to be dropped without the mutex.
    pub(super) fn register(&mut self, slot: &mut Option<usize>, waker: Waker) -> Option<Waker> {
        let index = *slot.get_or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            })
        });
        self.slots[index].replace(waker)
    }

    /// Gives the slot back. Returns its waker, to be dropped without the mutex.
    pub(super) fn remove(&mut self, slot: &mut Option<usize>) -> Option<Waker> {
        let index = slot.take()?;
        self.free.push(index);
        self.slots[index].take()
    }

    /// Returns all wakers, to be woken without the mutex.
    pub(super) fn take(&mut self) -> Vec<Waker> {
        self.slots.iter_mut().filter_map(Option::take).collect()
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn waiting(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
