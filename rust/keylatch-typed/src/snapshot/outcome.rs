//! What becomes of an update, and where its submitter learns it.

use crate::sync::{Mutex, wake_all};
use std::fmt;
use std::sync::Arc;
use std::task::Waker;

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
    /// The closure was dropped before it had a version.
    ///
    /// Updates after it are applied.
    Dropped,
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
            Self::Dropped => f.write_str("the update was dropped before it was published"),
        }
    }
}

impl std::error::Error for UpdateError {}

/// What became of one update.
#[derive(Default)]
pub(super) struct Outcome {
    state: Mutex<OutcomeState>,
}

#[derive(Debug, Default)]
struct OutcomeState {
    result: Option<Result<u64, UpdateError>>,
    waker: Option<Waker>,
}

/// The side of an outcome that settles it, once.
///
/// Dropped unsettled, it settles the outcome with [`UpdateError::Dropped`], so no wait for it is without an end.
pub(super) struct Submitted(Arc<Outcome>);

impl Submitted {
    /// Makes both sides of an outcome.
    pub(super) fn new() -> (Self, Arc<Outcome>) {
        let outcome = Arc::new(Outcome::default());
        (Self(Arc::clone(&outcome)), outcome)
    }

    pub(super) fn settle(self, result: Result<u64, UpdateError>) {
        self.0.settle(result);
    }

    /// Returns the waker of the submitter if it waits; it has to be woken.
    pub(super) fn take_waker(&self) -> Option<Waker> {
        self.0.state.lock().waker.take()
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        self.0.settle(Err(UpdateError::Dropped));
    }
}

impl Outcome {
    /// Returns whether the result is there.
    pub(super) fn is_settled(&self) -> bool {
        self.state.lock().result.is_some()
    }

    /// Returns the result if it is there.
    pub(super) fn result(&self) -> Option<Result<u64, UpdateError>> {
        self.state.lock().result.clone()
    }

    /// Keeps the waker of the submitter, for the result or for a turn as applier.
    pub(super) fn set_waker(&self, waker: Waker) {
        let replaced = self.state.lock().waker.replace(waker);
        drop(replaced);
    }

    /// Forgets the submitter's waker, because the submitter is gone.
    pub(super) fn clear_waker(&self) {
        let waker = self.state.lock().waker.take();
        drop(waker);
    }

    /// Notes the result, unless there is one.
    fn settle(&self, result: Result<u64, UpdateError>) {
        let waker = {
            let mut state = self.state.lock();
            state.result.get_or_insert(result);
            state.waker.take()
        };
        wake_all(waker);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn dropped_closure_settles_its_outcome() {
        let (submitted, outcome) = Submitted::new();
        assert!(!outcome.is_settled());
        drop(submitted);
        assert_eq!(outcome.result(), Some(Err(UpdateError::Dropped)));
        let (submitted, outcome) = Submitted::new();
        submitted.settle(Ok(7));
        assert_eq!(outcome.result(), Some(Ok(7)));
    }
}
