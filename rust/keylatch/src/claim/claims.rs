//! Claims inside a process: the handle, its owners, and the verbs that do not wait.

use super::answer::{ClaimAnswer, ClaimOwned, ClaimProgress, ClaimResult};
use super::board::{ClaimBoard, ClaimCall, ClaimFigures, ClaimStart};
use super::error::ClaimError;
use super::event::ClaimSnapshot;
use super::hub::Hub;
use super::id::{ClaimEventId, ClaimGrant, ClaimRequestId, ClaimSessionId};
use super::pending::PendingClaim;
use super::policy::ClaimConfig;
use super::queue::ClaimQueue;
use super::session::ClaimSessionOptions;
use super::watch::ClaimWatch;
use crate::key::KeyRef;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Claims on resources, shared by the threads and tasks of a process.
///
/// Cloning gives another handle to the same claims.
///
/// When the last handle is dropped, every caller that still waits is answered [`ClaimError::Closed`].
///
/// ```
/// use keylatch::claim::{ClaimAnswer, Claims};
/// # fn main() -> Result<(), keylatch::claim::ClaimError> {
/// let claims = Claims::new();
/// let (fetcher, reader) = (claims.owner("fetcher")?, claims.owner("reader")?);
/// let layer = ("layers", "sha256:4711");
/// let ClaimAnswer::Yours(work) = claims.claim(layer, &fetcher, 1).blocking()? else { panic!("nothing is done yet") };
/// claims.progress(work, 5, 12, "http://node-1/sha256:4711")?;
/// claims.complete(work, Ok("12 MiB"))?;
/// let ClaimAnswer::Done(outcome) = claims.claim(layer, &reader, 1).blocking()? else { panic!("it is done") };
/// assert_eq!(outcome.result, Ok("12 MiB".into()));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Claims {
    hub: Arc<Hub>,
    closer: Arc<CloseOnDrop>,
}

#[derive(Debug)]
struct CloseOnDrop(Arc<Hub>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Different for each `Claims` of a process: foreign grants are recognised.
static EPOCH: AtomicU64 = AtomicU64::new(1);

impl Default for Claims {
    fn default() -> Self {
        Self::new()
    }
}

impl Claims {
    /// Claims with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::with_config(ClaimConfig::default()).expect("the defaults are valid")
    }

    /// Claims with these limits.
    ///
    /// # Errors
    /// [`ClaimError::InvalidConfig`].
    pub fn with_config(config: ClaimConfig) -> Result<Self, ClaimError> {
        let epoch = EPOCH.fetch_add(1, Ordering::Relaxed);
        let hub = Hub::new(ClaimBoard::new(config, ClaimStart { epoch, ..ClaimStart::default() })?);
        Ok(Self { closer: Arc::new(CloseOnDrop(Arc::clone(&hub))), hub })
    }

    /// Makes an owner that lives until it is dropped.
    ///
    /// # Errors
    /// [`ClaimError::TooManySessions`], [`ClaimError::TooLong`], [`ClaimError::Closed`].
    pub fn owner(&self, name: &str) -> Result<ClaimOwner, ClaimError> {
        self.owner_with(&ClaimSessionOptions { owner: name.into(), ..ClaimSessionOptions::default() })
    }

    /// Makes an owner that has to be [renewed](ClaimOwner::renew) within its ttl.
    ///
    /// # Errors
    /// As [`owner`](Self::owner); [`ClaimError::InvalidTtl`].
    pub fn owner_with(&self, options: &ClaimSessionOptions) -> Result<ClaimOwner, ClaimError> {
        let opened = self.hub.call(|board, now| board.open_session(now, options))?;
        Ok(ClaimOwner { hub: Arc::clone(&self.hub), session: opened.session, settled_below: AtomicU64::new(0) })
    }

    /// Asks for the work of a resource.
    ///
    /// A repetition under the same number gets the same answer.
    ///
    /// The result says how to wait: [`blocking`](PendingClaim::blocking), `.await`,
    /// [`with_callback`](PendingClaim::with_callback), [`with_queue`](PendingClaim::with_queue), or
    /// [`now`](PendingClaim::now) for not at all.
    pub fn claim<'k>(&self, resource: impl Into<KeyRef<'k>>, owner: &ClaimOwner, number: u64) -> PendingClaim {
        PendingClaim::new(Arc::clone(&self.hub), resource.into().to_owned(), owner.call(number))
    }

    /// Ends the work with a note, or with the reason of its failure.
    ///
    /// A repetition gets the stored answer.
    ///
    /// The answer is `Ended` if this call, or an earlier one, completed it; otherwise how the grant was lost.
    ///
    /// # Errors
    /// [`ClaimError::SessionGone`] when its owner was dropped, [`ClaimError::TooLong`], [`ClaimError::NotYours`].
    pub fn complete(&self, work: ClaimOwned, result: Result<&str, &str>) -> Result<ClaimAnswer, ClaimError> {
        let result: ClaimResult = result.map(Into::into).map_err(Into::into);
        self.hub.call(|board, now| board.complete(now, call_of(work.request), work.grant, result))
    }

    /// Reports how far the owner is: units done, units in all, and where to look.
    ///
    /// Units in all are 0 if unknown; the place may be empty.
    ///
    /// # Errors
    /// As [`complete`](Self::complete); [`ClaimError::NotYours`] when the grant was lost.
    pub fn progress(&self, work: ClaimOwned, done: u64, total: u64, address: &str) -> Result<(), ClaimError> {
        let progress = ClaimProgress { done, total, address: address.into() };
        self.hub.call(|board, now| board.progress(now, call_of(work.request), work.grant, progress))
    }

    /// Lets the lease of a grant begin again with this length.
    ///
    /// # Errors
    /// As [`progress`](Self::progress); [`ClaimError::InvalidTtl`].
    pub fn renew(&self, work: ClaimOwned, lease: Duration) -> Result<(), ClaimError> {
        self.hub.call(|board, now| board.renew_grant(now, call_of(work.request), work.grant, Some(lease)))
    }

    /// Returns how long the lease of a grant lasts; `None` if it has none.
    ///
    /// # Errors
    /// As [`progress`](Self::progress).
    pub fn remaining(&self, work: ClaimOwned) -> Result<Option<Duration>, ClaimError> {
        self.hub.call(|board, now| board.remaining(now, work.request, work.grant))
    }

    /// Gives a request up.
    ///
    /// If it owns the work, that is a failure. Callers that wait for it are answered `Cancelled`.
    ///
    /// # Errors
    /// [`ClaimError::SessionGone`], [`ClaimError::StaleRequest`].
    pub fn cancel(&self, request: ClaimRequestId) -> Result<ClaimAnswer, ClaimError> {
        self.hub.call(|board, now| board.cancel(now, call_of(request)))
    }

    /// Ends the owner's grant as a failure.
    ///
    /// Returns it, or `None` if the resource has no owner.
    ///
    /// # Errors
    /// [`ClaimError::Closed`], [`ClaimError::TooLong`].
    pub fn force_release<'k>(&self, resource: impl Into<KeyRef<'k>>) -> Result<Option<ClaimGrant>, ClaimError> {
        let resource = resource.into();
        self.hub.call(|board, now| board.check_key(resource).map(|()| board.force_release(now, resource)))
    }

    /// Drops a retained outcome, so that the next request does the work again.
    ///
    /// `false` if none is retained.
    ///
    /// # Errors
    /// [`ClaimError::Closed`].
    pub fn forget<'k>(&self, resource: impl Into<KeyRef<'k>>) -> Result<bool, ClaimError> {
        let resource = resource.into();
        self.hub.call(|board, now| board.check_key(resource).map(|()| board.forget(now, resource)))
    }

    /// Returns who owns a resource, who waits, and its outcome.
    ///
    /// # Errors
    /// [`ClaimError::Closed`].
    pub fn snapshot<'k>(&self, resource: impl Into<KeyRef<'k>>) -> Result<ClaimSnapshot, ClaimError> {
        let resource = resource.into();
        self.hub.call(|board, now| {
            board.advance(now);
            Ok(board.snapshot(resource))
        })
    }

    /// Returns how much is remembered.
    ///
    /// # Errors
    /// [`ClaimError::Closed`].
    pub fn figures(&self) -> Result<ClaimFigures, ClaimError> {
        self.hub.call(|board, now| {
            board.advance(now);
            Ok(board.figures())
        })
    }

    /// Subscribes to the events of a resource, after the last one seen or a snapshot.
    ///
    /// # Errors
    /// [`ClaimError::Closed`].
    pub fn watch<'k>(
        &self,
        resource: impl Into<KeyRef<'k>>,
        last: Option<ClaimEventId>,
    ) -> Result<ClaimWatch, ClaimError> {
        ClaimWatch::new(&self.hub, resource.into(), last)
    }

    /// Makes a queue that claims can deliver to.
    ///
    /// # Errors
    /// [`ClaimError::System`] when there is no descriptor left.
    pub fn completion_queue(&self) -> Result<ClaimQueue, ClaimError> {
        ClaimQueue::new(&self.hub)
    }

    /// Does the work of a resource once among all that ask.
    ///
    /// Runs `work` if it is this caller's, or waits for the outcome.
    ///
    /// `work` gets its grant, and returns a note or the reason of its failure. A panic is a failure, and goes on.
    ///
    /// ```
    /// use keylatch::claim::Claims;
    /// # fn main() -> Result<(), keylatch::claim::ClaimError> {
    /// let claims = Claims::new();
    /// let fetched = std::sync::atomic::AtomicU32::new(0);
    /// std::thread::scope(|threads| {
    ///     for node in ["node-1", "node-2", "node-3"] {
    ///         let (claims, fetched) = (&claims, &fetched);
    ///         threads.spawn(move || {
    ///             claims.run_once(("layers", "sha256:4711"), node, |_| {
    ///                 fetched.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    ///                 Ok("in the cache".into())
    ///             })
    ///         });
    ///     }
    /// });
    /// assert_eq!(fetched.into_inner(), 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`owner`](Self::owner) and [`complete`](Self::complete).
    pub fn run_once<'k>(
        &self,
        resource: impl Into<KeyRef<'k>>,
        owner: &str,
        work: impl FnOnce(ClaimOwned) -> Result<String, String>,
    ) -> Result<ClaimAnswer, ClaimError> {
        let owner = self.owner(owner)?;
        let answer = self.claim(resource, &owner, 1).blocking()?;
        let ClaimAnswer::Yours(owned) = answer else { return Ok(answer) };
        match catch_unwind(AssertUnwindSafe(|| work(owned))) {
            Ok(result) => self.complete(owned, result.as_deref().map_err(String::as_str)),
            Err(panic) => {
                // The owner ends here in any case; the reason says why.
                let _ = self.complete(owned, Err("the work panicked"));
                resume_unwind(panic)
            }
        }
    }

    /// Ends everything: waiting and later calls get [`ClaimError::Closed`].
    pub fn close(&self) {
        self.closer.0.close();
    }

    /// Waits until the thread of closed claims has ended.
    ///
    /// A plug-in that contains the library may be unloaded then.
    #[doc(hidden)]
    pub fn join_thread(&self) {
        self.hub.join_thread();
    }

    /// Returns whether the claims were closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.hub.is_closed()
    }
}

fn call_of(request: ClaimRequestId) -> ClaimCall {
    ClaimCall { request, settled_below: 0 }
}

/// A party that claims, and counts its own requests.
///
/// Dropping it ends what it waits for and what it owns, as failures.
#[derive(Debug)]
pub struct ClaimOwner {
    hub: Arc<Hub>,
    session: ClaimSessionId,
    settled_below: AtomicU64,
}

impl ClaimOwner {
    /// Returns its number.
    #[must_use]
    pub fn session(&self) -> ClaimSessionId {
        self.session
    }

    /// Returns its request of a number.
    #[must_use]
    pub fn request(&self, number: u64) -> ClaimRequestId {
        ClaimRequestId { session: self.session, number }
    }

    /// Declares that it is done with all lower numbers.
    ///
    /// Its next claim has their answers forgotten, and ends what they still wait for or own. Lowering it has no effect.
    pub fn settle_below(&self, number: u64) {
        self.settled_below.fetch_max(number, Ordering::Relaxed);
    }

    /// What its request of a number owns by this fence, for callers that keep numbers.
    #[must_use]
    pub fn owned(&self, number: u64, fence: u64) -> ClaimOwned {
        let grant = ClaimGrant { epoch: self.session.epoch, fence };
        ClaimOwned { request: self.request(number), grant, attempt: 0, first_in_epoch: false }
    }

    /// Ends it: what it waits for and what it owns end as failures.
    ///
    /// Callers that wait get [`ClaimError::SessionGone`]. Ending it twice is harmless.
    pub fn end(&self) {
        let _ = self.hub.call(|board, now| board.end_session(now, self.session));
    }

    /// Renews it for its ttl.
    ///
    /// # Errors
    /// [`ClaimError::SessionGone`] when it ran out.
    pub fn renew(&self) -> Result<(), ClaimError> {
        self.hub.call(|board, now| board.renew(now, self.session, 0, &[])).map(drop)
    }

    fn call(&self, number: u64) -> ClaimCall {
        let settled_below = self.settled_below.load(Ordering::Relaxed);
        ClaimCall { request: self.request(number), settled_below }
    }
}

impl Drop for ClaimOwner {
    fn drop(&mut self) {
        self.end();
    }
}
