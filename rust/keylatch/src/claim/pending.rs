//! A claim that was asked for, and the ways to wait for it.

use super::answer::ClaimAnswer;
use super::board::ClaimCall;
use super::error::ClaimError;
use super::hub::{Hub, Parked, Settled};
use super::id::ClaimRequestId;
use super::policy::{ClaimPolicy, ClaimWhenTaken};
use super::queue::ClaimQueue;
use super::signal::Signal;
use crate::key::ObjectKey;
use crate::sync::ParkedUntil;
use crate::wait::UserCode;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A claim that needs a way to wait; made by [`claim`](super::Claims::claim).
#[derive(Debug, Clone)]
#[must_use = "nothing is claimed until one of the methods is called, or it is awaited"]
pub struct PendingClaim {
    hub: Arc<Hub>,
    resource: ObjectKey,
    call: ClaimCall,
    policy: ClaimPolicy,
    timeout: Option<Duration>,
}

impl PendingClaim {
    pub(super) fn new(hub: Arc<Hub>, resource: ObjectKey, call: ClaimCall) -> Self {
        Self { hub, resource, call, policy: ClaimPolicy::default(), timeout: None }
    }

    /// Sets all its rules; see [`ClaimPolicy`].
    pub fn policy(mut self, policy: ClaimPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Gives the grant a lease: unless renewed, it ends as a failure after this time.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.policy.lease = Some(lease);
        self
    }

    /// Has it answered `Skipped` when the work is another's.
    pub fn skip_if_claimed(mut self) -> Self {
        self.policy.when_taken = ClaimWhenTaken::Skip;
        self
    }

    /// Gives up after this time: the request leaves the line, its number is used up.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Returns the request's id, for [`cancel`](super::Claims::cancel).
    #[must_use]
    pub fn request(&self) -> ClaimRequestId {
        self.call.request
    }

    /// Asks without waiting.
    ///
    /// After `Waiting` the request is in line, until it is asked for again or cancelled.
    ///
    /// # Errors
    /// As [`blocking`](Self::blocking).
    pub fn now(&self) -> Settled {
        self.hub.call(|board, now| board.claim(now, self.call, self.resource.as_ref(), &self.policy))
    }

    fn claim(&self, how: Parked, timeout: Option<Duration>) -> Result<Option<ClaimAnswer>, ClaimError> {
        let (call, resource, policy) = (self.call, self.resource.as_ref(), &self.policy);
        self.hub.claim(call.request, |board, now| board.claim(now, call, resource, policy), how, timeout)
    }

    /// Sleeps until the claim has an answer, which is never `Waiting`.
    ///
    /// # Errors
    /// [`ClaimError::Timeout`], [`ClaimError::Closed`], or why the request was refused.
    pub fn blocking(self) -> Settled {
        let (begun, signal) = (Instant::now(), Signal::new());
        // A sum beyond the clock's range is never.
        let deadline = self.timeout.and_then(|timeout| begun.checked_add(timeout));
        // This thread keeps its own time.
        if let Some(answer) = self.claim(Parked::Signal(Arc::clone(&signal)), None)? {
            return Ok(answer);
        }
        loop {
            let ended = signal.wait(deadline);
            signal.clear();
            if ended == ParkedUntil::Deadline {
                let late = self.hub.give_up(self.call.request, &signal)?;
                return late.ok_or_else(|| ClaimError::Timeout { waited: begun.elapsed() });
            }
            if let Some(answer) = self.hub.answer_of(self.call.request)? {
                return Ok(answer);
            }
        }
    }

    /// Has `callback` called once with the answer, on a thread of the claims'.
    ///
    /// It may call anything that does not block. A callback that panics disturbs no other.
    ///
    /// # Errors
    /// Why the request was refused; the callback is dropped uncalled then. [`ClaimError::System`] without a thread.
    pub fn with_callback(self, callback: impl FnOnce(Settled) + Send + 'static) -> Result<ClaimRequestId, ClaimError> {
        let request = self.call.request;
        let callback = UserCode::new(Box::new(callback) as Box<dyn FnOnce(Settled) + Send>);
        let (call, resource, policy) = (self.call, self.resource.as_ref(), &self.policy);
        self.hub.claim_with_callback(
            request,
            |board, now| board.claim(now, call, resource, policy),
            callback,
            self.timeout,
        )?;
        Ok(request)
    }

    /// Has the answer arrive in the queue, with this token.
    ///
    /// # Errors
    /// Why the request was refused; nothing arrives then.
    pub fn with_queue(self, queue: &ClaimQueue, token: u64) -> Result<ClaimRequestId, ClaimError> {
        queue.check(&self.hub)?;
        let request = self.call.request;
        let sink = queue.sink(request, token);
        if let Some(answer) = self.claim(Parked::Sink(Box::new(sink)), self.timeout)? {
            queue.sink(request, token)(Ok(answer));
        }
        Ok(request)
    }
}

impl IntoFuture for PendingClaim {
    type Output = Settled;
    type IntoFuture = ClaimFuture;

    fn into_future(self) -> ClaimFuture {
        ClaimFuture { claim: self, signal: None, deadline: None, begun: None }
    }
}

/// A claim as a future, for any executor.
///
/// Dropping it gives the request up; if it was granted in that instant, that is a failure, and the next in line has the
/// work.
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct ClaimFuture {
    claim: PendingClaim,
    /// While it waits.
    signal: Option<Arc<Signal>>,
    deadline: Option<Instant>,
    begun: Option<Instant>,
}

impl Future for ClaimFuture {
    type Output = Settled;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Settled> {
        let this = &mut *self;
        if this.signal.is_none() {
            let (begun, signal) = (Instant::now(), Signal::new());
            let answer = this.claim.claim(Parked::Signal(Arc::clone(&signal)), this.claim.timeout);
            if let Some(settled) = answer.transpose() {
                return Poll::Ready(settled);
            }
            this.begun = Some(begun);
            this.deadline = this.claim.timeout.and_then(|timeout| begun.checked_add(timeout));
            this.signal = Some(signal);
        }
        let Some(signal) = &this.signal else { return Poll::Pending };
        loop {
            if signal.poll(context).is_pending() {
                return Poll::Pending;
            }
            signal.clear();
            let request = this.claim.call.request;
            let is_late = this.deadline.is_some_and(|at| at <= Instant::now());
            let found =
                if is_late { this.claim.hub.give_up(request, signal) } else { this.claim.hub.answer_of(request) };
            let waited = this.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
            let settled = match found.transpose() {
                None if is_late => Err(ClaimError::Timeout { waited }),
                None => continue,
                Some(settled) => settled,
            };
            this.signal = None;
            return Poll::Ready(settled);
        }
    }
}

impl Drop for ClaimFuture {
    fn drop(&mut self) {
        if let Some(signal) = self.signal.take() {
            let request = self.claim.call.request;
            if let Ok(Some(ClaimAnswer::Yours(_))) = self.claim.hub.give_up(request, &signal) {
                let call = ClaimCall { request, settled_below: 0 };
                let _ = self.claim.hub.call(|board, now| board.cancel(now, call));
            }
        }
    }
}
