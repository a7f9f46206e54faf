//! A subscription to the events of a manager.

use crate::engine::Core;
use crate::error::LockError;
use crate::events::{Event, EventOptions, Inbox, Outlet};
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A subscription to a manager's events.
///
/// Made by [`FastObjectLockManager::subscribe`](crate::FastObjectLockManager::subscribe).
///
/// Events are kept in a queue of the subscriber's own until they are fetched. When it is full, further events are dropped
/// and counted. Dropping the subscription ends it. It does not keep the manager open. In a forked child it is closed and has
/// no events.
///
/// ```
/// # fn main() -> Result<(), keylatch::LockError> {
/// use keylatch::{Event, EventOptions, FastObjectLockManager, LockRequest};
/// use std::time::Duration;
/// let locks = FastObjectLockManager::new();
/// let events = locks.subscribe(EventOptions::default());
/// let held = locks.acquire_write_lock_blocking("photos", "cat.jpg", "indexer")?;
/// let late = LockRequest::read(("photos", "cat.jpg")).owner("viewer").timeout(Duration::from_millis(1));
/// assert!(locks.lock(late).blocking().is_err());
/// let Some(Event::Timeout { owner, holders, .. }) = events.try_next() else { panic!("a timeout is an event") };
/// assert_eq!((&*owner, &*holders.named[0].owner), ("viewer", "indexer"));
/// # drop(held); Ok(()) }
/// ```
#[derive(Debug)]
pub struct Events {
    core: Arc<Core>,
    inbox: Arc<Inbox>,
}

impl Events {
    pub(crate) fn new(core: &Arc<Core>, options: &EventOptions) -> Self {
        Self { inbox: core.subscribe(options, Outlet::Queue), core: Arc::clone(core) }
    }

    /// Returns the oldest event that was not fetched yet, if there is one.
    ///
    /// Once it returns `None` the [`descriptor`](Self::descriptor) is unreadable until there are more.
    #[must_use]
    pub fn try_next(&self) -> Option<Event> {
        if self.core.is_forked() { None } else { self.inbox.fetch() }
    }

    /// Returns the next event, sleeping until there is one; `None` after the timeout.
    ///
    /// Also `None` when the manager is closed and all events were fetched. Without a timeout it sleeps for as long as it
    /// takes.
    #[must_use]
    pub fn next(&self, timeout: Option<Duration>) -> Option<Event> {
        if self.core.is_forked() {
            return None;
        }
        // A sum that no clock will reach is never.
        self.inbox.fetch_until(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// As [`next`](Self::next) without a timeout, as a future, on any executor.
    ///
    /// Dropping it loses no event.
    pub fn recv(&mut self) -> NextEvent<'_> {
        NextEvent { events: self }
    }

    /// A descriptor that is readable while there are events, and when no more come.
    ///
    /// Event loops poll it. It is made when it is asked for first.
    ///
    /// # Errors
    /// The error of the system when it has no descriptor left; [`LockError::Forked`](crate::LockError::Forked) within.
    pub fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        if self.core.is_forked() {
            return Err(io::Error::other(LockError::Forked));
        }
        Ok(self.inbox.event_fd()?.as_fd())
    }

    /// Ends the subscription: no more events come, and waits for one end.
    ///
    /// What has come can still be fetched.
    pub fn close(&self) {
        if !self.core.is_forked() {
            self.core.unsubscribe(&self.inbox);
            self.inbox.close();
        }
    }

    /// Whether no more events will come: the manager or subscription was closed.
    ///
    /// Some may lie there still.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.is_forked() || self.inbox.is_closed()
    }

    /// Returns how many events were dropped because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.inbox.dropped()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        end(&self.core, &self.inbox);
    }
}

/// A forked child has the parent's mutexes, which may be locked for ever.
fn end(core: &Core, inbox: &Arc<Inbox>) {
    if !core.is_forked() {
        core.unsubscribe(inbox);
    }
}

/// The next event; see [`Events::recv`].
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct NextEvent<'e> {
    events: &'e mut Events,
}

impl Future for NextEvent<'_> {
    type Output = Option<Event>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.events.core.is_forked() {
            return Poll::Ready(None);
        }
        self.events.inbox.poll_fetch(context.waker())
    }
}

/// Hands events on to `tracing` until it is dropped; see
/// [`FastObjectLockManager::trace_events`](crate::FastObjectLockManager::trace_events).
#[cfg(feature = "tracing")]
#[derive(Debug)]
pub struct TracedEvents {
    core: Arc<Core>,
    inbox: Arc<Inbox>,
}

#[cfg(feature = "tracing")]
impl TracedEvents {
    pub(crate) fn new(core: &Arc<Core>, options: &EventOptions) -> Self {
        Self { inbox: core.subscribe(options, Outlet::Tracing), core: Arc::clone(core) }
    }
}

#[cfg(feature = "tracing")]
impl Drop for TracedEvents {
    fn drop(&mut self) {
        end(&self.core, &self.inbox);
    }
}
