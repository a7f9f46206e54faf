//! Locks that a lock delay keeps closed.

use super::Grant;
use crate::sync::Mutex;
use std::collections::VecDeque;

/// Locks in the queue before those are taken out that were opened already.
const WORTH_A_LOOK: usize = 64;

/// Locks that are kept shut.
#[derive(Debug, Default)]
pub(crate) struct KeptShut(Mutex<Shut>);

#[derive(Debug, Default)]
struct Shut {
    /// All are shut for the same time, so the first opens first.
    line: VecDeque<Kept>,
    /// The length at which those that were opened already are taken out.
    cleared_at: usize,
}

/// A lock that is kept shut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) since: u64,
    pub(crate) until: u64,
    pub(crate) entry: u32,
    /// The one that was revoked.
    pub(crate) grant: Grant,
}

impl KeptShut {
    /// Adds a lock, the last one to open.
    ///
    /// Now and then those are taken out that are not kept shut any more.
    pub(crate) fn add(&self, kept: Kept, is_kept: impl Fn(&Kept) -> bool) {
        let mut shut = self.0.lock();
        if shut.line.len() >= shut.cleared_at {
            shut.line.retain(is_kept);
            shut.cleared_at = WORTH_A_LOOK.max(2 * shut.line.len());
        }
        shut.line.push_back(kept);
    }

    /// Takes the first one out if it is to open by then.
    pub(crate) fn take_due(&self, by: u64) -> Option<Kept> {
        let mut shut = self.0.lock();
        let first = shut.line.front().copied().filter(|kept| kept.until <= by);
        if first.is_some() {
            shut.line.pop_front();
        }
        first
    }

    pub(crate) fn all(&self) -> Vec<Kept> {
        self.0.lock().line.iter().copied().collect()
    }
}
