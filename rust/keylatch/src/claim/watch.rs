//! Subscribing to the events of one resource.

use super::error::ClaimError;
use super::event::{ClaimEvent, ClaimFeed, ClaimSnapshot};
use super::hub::Hub;
use super::id::ClaimEventId;
use super::signal::Signal;
use crate::key::{KeyRef, ObjectKey};
use crate::sync::ParkedUntil;
use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What a subscriber of a resource gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimNotice {
    /// The next event: its number is one more than that of the notice before.
    Event(ClaimEvent),
    /// The events in between are not kept. The snapshot stands for all up to `id`.
    Reset {
        /// The latest event that the snapshot contains.
        id: ClaimEventId,
        /// The state after that event.
        snapshot: Arc<ClaimSnapshot>,
    },
}

/// A subscription to one resource; made by [`watch`](super::Claims::watch).
///
/// It costs the claims no memory however slow it is: when the ring no longer has the next event, it gets one reset.
///
/// ```
/// use keylatch::claim::{ClaimChange, ClaimNotice, Claims};
/// # fn main() -> Result<(), keylatch::claim::ClaimError> {
/// let claims = Claims::new();
/// let node = claims.owner("node-1")?;
/// let mut watch = claims.watch(("layers", "a"), None)?;
/// assert!(matches!(watch.try_next()?, Some(ClaimNotice::Reset { .. })));
/// claims.claim(("layers", "a"), &node, 1).now()?;
/// let Some(ClaimNotice::Event(event)) = watch.next(None)? else { panic!("no timeout was set") };
/// assert!(matches!(event.change, ClaimChange::Granted { .. }));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ClaimWatch {
    hub: Arc<Hub>,
    key: ObjectKey,
    signal: Arc<Signal>,
    last: Option<ClaimEventId>,
    fetched: VecDeque<ClaimEvent>,
}

impl ClaimWatch {
    pub(super) fn new(hub: &Arc<Hub>, key: KeyRef<'_>, last: Option<ClaimEventId>) -> Result<Self, ClaimError> {
        let (key, signal) = (key.to_owned(), Signal::new());
        hub.watch(&key, &signal)?;
        Ok(Self { hub: Arc::clone(hub), key, signal, last, fetched: VecDeque::new() })
    }

    /// Returns the number of the latest event that was fetched, to go on from later.
    #[must_use]
    pub fn last(&self) -> Option<ClaimEventId> {
        self.last
    }

    /// Returns the next notice, if there is one.
    ///
    /// After `None` the [`descriptor`](Self::descriptor) is unreadable until there is.
    ///
    /// # Errors
    /// [`ClaimError::Closed`].
    pub fn try_next(&mut self) -> Result<Option<ClaimNotice>, ClaimError> {
        if self.fetched.is_empty() {
            // Cleared first, looked at after: what is published in between raises it again.
            self.signal.clear();
            let (key, last) = (&self.key, self.last);
            match self.hub.call(|board, _| Ok(board.feed(key.as_ref(), last)))? {
                ClaimFeed::Events(events) => self.fetched = events.into(),
                ClaimFeed::Reset { id, snapshot } => {
                    self.last = Some(id);
                    return Ok(Some(ClaimNotice::Reset { id, snapshot }));
                }
            }
        }
        let next = self.fetched.pop_front();
        if let Some(event) = &next {
            self.last = Some(event.id);
        }
        Ok(next.map(ClaimNotice::Event))
    }

    /// Sleeps until there is a notice. `None` if the time is over first.
    ///
    /// # Errors
    /// [`ClaimError::Closed`].
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<ClaimNotice>, ClaimError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(notice) = self.try_next()? {
                return Ok(Some(notice));
            }
            if self.signal.wait(deadline) == ParkedUntil::Deadline {
                return self.try_next();
            }
        }
    }

    /// As [`next`](Self::next) without a timeout, as a future, on any executor.
    ///
    /// Dropping it loses no event.
    pub fn recv(&mut self) -> NextClaimNotice<'_> {
        NextClaimNotice { watch: self }
    }

    /// Returns a descriptor that is readable when there may be a notice to fetch.
    ///
    /// # Errors
    /// [`ClaimError::System`] when there is no descriptor left.
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>, ClaimError> {
        self.signal.descriptor().map_err(|error| ClaimError::System { kind: error.kind() })
    }
}

impl Drop for ClaimWatch {
    fn drop(&mut self) {
        self.hub.unwatch(&self.key, &self.signal);
    }
}

/// The next notice; see [`ClaimWatch::recv`].
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct NextClaimNotice<'w> {
    watch: &'w mut ClaimWatch,
}

impl Future for NextClaimNotice<'_> {
    type Output = Result<ClaimNotice, ClaimError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some(notice) = self.watch.try_next().transpose() {
                return Poll::Ready(notice);
            }
            if self.watch.signal.poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
