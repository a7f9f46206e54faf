//! What becomes of an update, and where its submitter learns it.

use crate::sync::{Mutex, wake_all};
use std::fmt;
use std::sync::Arc;
use std::task::Waker;

/// A closure in the queue, and where its submitter learns what became of it.
pub(super) struct Queued<T> {
    pub(super) apply: Box<dyn FnOnce(&mut T) + Send>,
    pub(super) outcome: Option<Arc<Outcome>>,
}

/// Why an update has no version of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateError {
    /// The closure panicked with this message.
    ///
    /// What it had changed by then stays: snapshots are never poisoned.
    Panicked(String),
    /// Cloning the value panicked with this message; the closure was not applied.
    CloneFailed(String),
    /// The wait is inside a closure of the same snapshot, and would be for itself.
    ///
    /// Return from the closure first.
    InsideUpdate,
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(message) => write!(f, "the update panicked midway, and what it changed stays: {message}"),
            Self::CloneFailed(message) => {
                write!(f, "the update was not applied: cloning the value panicked: {message}")
            }
            Self::InsideUpdate => {
                f.write_str("an update cannot wait for another of its snapshot: return from the closure, then wait")
            }
        }
    }
}

impl std::error::Error for UpdateError {}

/// What became of one update.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) state: Mutex<OutcomeState>,
}

#[derive(Debug, Default)]
pub(super) struct OutcomeState {
    pub(super) result: Option<Result<u64, UpdateError>>,
    pub(super) waker: Option<Waker>,
}

impl Outcome {
    pub(super) fn settle(&self, result: Result<u64, UpdateError>) {
        let waker = {
            let mut state = self.state.lock();
            state.result = Some(result);
            state.waker.take()
        };
        wake_all(waker);
    }
}
