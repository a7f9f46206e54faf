//! Wakers that a transition has to wake once the mutex is free.

use crate::sync::wake_all;
use std::task::Waker;

/// This many are woken before the mutex is taken again.
const BATCH: usize = 16;

/// A bounded list on the stack.
///
/// A release allocates nothing, however many readers it lets in.
#[must_use]
pub(super) struct Wakes {
    wakers: [Option<Waker>; BATCH],
    count: usize,
}

impl Wakes {
    pub(super) const fn new() -> Self {
        Self { wakers: [const { None }; BATCH], count: 0 }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.count == BATCH
    }

    pub(super) fn push(&mut self, waker: Waker) {
        self.wakers[self.count] = Some(waker);
        self.count += 1;
    }

    /// Wakes all. Caller holds: no mutex.
    pub(super) fn wake(self) {
        wake_all(self.wakers.into_iter().flatten());
    }
}
