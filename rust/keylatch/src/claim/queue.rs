//! Answers of claims, to be fetched by an event loop.

use super::error::ClaimError;
use super::hub::{Hub, Settled};
use super::id::ClaimRequestId;
use super::signal::Signal;
use crate::sync::{Mutex, ParkedUntil};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Answers of claims made [with this queue](super::PendingClaim::with_queue).
///
/// Poll [`as_fd`](AsFd::as_fd) for reading, then call [`try_next`](Self::try_next) until it returns `None`. One thread
/// fetches at a time.
///
/// ```
/// use keylatch::claim::{ClaimAnswer, Claims};
/// # fn main() -> Result<(), keylatch::claim::ClaimError> {
/// let claims = Claims::new();
/// let queue = claims.completion_queue()?;
/// let node = claims.owner("node-1")?;
/// claims.claim(("layers", "a"), &node, 1).with_queue(&queue, 42)?;
/// let completion = queue.next(None).expect("no timeout was set");
/// assert_eq!(completion.token, 42);
/// assert!(matches!(completion.result?, ClaimAnswer::Yours(_)));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ClaimQueue {
    hub: Arc<Hub>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    arrived: Mutex<VecDeque<ClaimCompletion>>,
    signal: Arc<Signal>,
}

/// One answer from a [`ClaimQueue`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimCompletion {
    /// The request.
    pub request: ClaimRequestId,
    /// What the caller gave along.
    pub token: u64,
    /// The answer, or why there is none.
    pub result: Settled,
}

impl ClaimQueue {
    pub(super) fn new(hub: &Arc<Hub>) -> Result<Self, ClaimError> {
        if hub.is_closed() {
            return Err(if hub.is_forked() { ClaimError::Forked } else { ClaimError::Closed });
        }
        let signal = Signal::new();
        signal.descriptor().map_err(|error| ClaimError::System { kind: error.kind() })?;
        Ok(Self { hub: Arc::clone(hub), shared: Arc::new(Shared { arrived: Mutex::default(), signal }) })
    }

    pub(super) fn check(&self, hub: &Arc<Hub>) -> Result<(), ClaimError> {
        if Arc::ptr_eq(&self.hub, hub) {
            return Ok(());
        }
        let problem = "it belongs to other claims; use one made by completion_queue() of these";
        Err(ClaimError::InvalidConfig { setting: "queue", problem })
    }

    /// Returns what stores an answer.
    pub(super) fn sink(&self, request: ClaimRequestId, token: u64) -> impl FnOnce(Settled) + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move |result| {
            shared.arrived.lock().push_back(ClaimCompletion { request, token, result });
            shared.signal.raise();
        }
    }

    /// Returns the oldest answer that was not fetched.
    ///
    /// After `None` the descriptor is unreadable until more arrive.
    #[must_use]
    pub fn try_next(&self) -> Option<ClaimCompletion> {
        if self.hub.is_forked() {
            return None;
        }
        let oldest = self.shared.arrived.lock().pop_front();
        oldest.or_else(|| {
            // Cleared first, fetched after: what arrives in between raises the signal again or is fetched here.
            self.shared.signal.clear();
            let late = self.shared.arrived.lock().pop_front();
            if late.is_some() {
                self.shared.signal.raise();
            }
            late
        })
    }

    /// Sleeps until an answer arrives. `None` if the time is over first.
    #[must_use]
    pub fn next(&self, timeout: Option<Duration>) -> Option<ClaimCompletion> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(completion) = self.try_next() {
                return Some(completion);
            }
            if self.hub.is_forked() || self.shared.signal.wait(deadline) == ParkedUntil::Deadline {
                return self.try_next();
            }
        }
    }
}

impl AsFd for ClaimQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.signal.descriptor().expect("made with the queue")
    }
}
