//! A request given to a manager, and the ways to wait for it.

use crate::engine::Core;
use crate::engine::acquire::{Answer, Wait};
use crate::engine::completion::Posted;
use crate::engine::fast::Missed;
use crate::engine::waiting::{Ended, Polled};
use crate::error::LockError;
use crate::guard::{FastLockGuard, LockGuard, OwnedLockGuard};
use crate::hold::Grant;
use crate::key::KeyRef;
use crate::manager::FastObjectLockManager;
use crate::memory::NONE;
use crate::request::{Limit, LockRequest};
use crate::sync::runtime::{Step, check_may_sleep};
use crate::wait::{CompletionList, CompletionQueueState, Delivery, EventFd, Ticket, UserCode};
use std::future::{Future, IntoFuture};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A request that needs a way to wait: see [`FastObjectLockManager::lock`].
#[derive(Debug)]
#[must_use = "nothing is locked until one of the methods is called, or it is awaited"]
pub struct Lock<'m, 'k> {
    manager: &'m FastObjectLockManager,
    request: LockRequest<'k>,
}

impl<'m, 'k> Lock<'m, 'k> {
    #[inline(always)]
    pub(crate) fn new(manager: &'m FastObjectLockManager, request: LockRequest<'k>) -> Self {
        Self { manager, request }
    }

    /// Acquires the lock, sleeping until it is free or the time is over.
    ///
    /// # Errors
    /// [`LockError::Timeout`], [`LockError::Closed`], or what is wrong with the request.
    ///
    /// # Panics
    /// In debug builds with the feature `tokio`, on a thread that runs tasks: asleep it would run none of them, and one of
    /// them may be the holder. Await the lock there, or block within `spawn_blocking`.
    #[inline(always)]
    pub fn blocking(self) -> Result<FastLockGuard<'m>, LockError> {
        check_may_sleep();
        let grant = self.manager.core().blocking(self.request, false)?;
        Ok(LockGuard::new(self.manager, grant))
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] with who holds it, or what is wrong with the request.
    #[inline(always)]
    pub fn try_now(self) -> Result<FastLockGuard<'m>, LockError> {
        let grant = self.manager.core().try_now(self.request, false)?;
        Ok(LockGuard::new(self.manager, grant))
    }

    /// As [`blocking`](Self::blocking), but returns a grant instead of a guard.
    ///
    /// It is released by [`FastObjectLockManager::release`]. Costs less than [`LockGuard::into_grant`].
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub fn grant_blocking(self) -> Result<Grant, LockError> {
        check_may_sleep();
        self.manager.core().blocking(self.request, true)
    }

    /// As [`try_now`](Self::try_now), but returns a grant instead of a guard.
    ///
    /// See [`grant_blocking`](Self::grant_blocking).
    ///
    /// ```
    /// # fn main() -> Result<(), keylatch::LockError> {
    /// use keylatch::{FastObjectLockManager, LockRequest};
    /// let locks = FastObjectLockManager::new();
    /// let session = locks.session("upload-4711");
    /// let request = LockRequest::write(("photos", "cat.jpg")).owner(&session).request_id(1);
    /// let grant = locks.lock(request).grant_now()?;
    /// // The answer got lost, so the same request is made again: it is the same lock.
    /// assert_eq!(locks.lock(request).grant_now()?, grant);
    /// locks.release(grant)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub fn grant_now(self) -> Result<Grant, LockError> {
        self.manager.core().try_now(self.request, true)
    }

    /// As [`grant_now`](Self::grant_now), if the fast path gets the lock.
    ///
    /// `None` gives no reason: the caller goes on with one of the others. For bindings to other languages.
    #[doc(hidden)]
    #[inline(always)]
    #[must_use]
    pub fn grant_fast(self) -> Option<Grant> {
        self.manager.core().try_fast_detached(self.request)
    }

    /// Takes the lock if it is free; otherwise has `callback` called with the result.
    ///
    /// It is called once, on a thread of the manager's, when the request has ended: granted, timed out, cancelled or
    /// closed. A callback may call anything that does not block. One that panics loses its guard, and so its lock, and
    /// affects no other.
    ///
    /// If the lock is free it is returned immediately, and the callback is dropped uncalled.
    ///
    /// # Errors
    /// An invalid request; the callback is not called then.
    pub fn with_callback(
        self,
        callback: impl FnOnce(Result<OwnedLockGuard, LockError>) + Send + 'static,
    ) -> Result<Submitted, LockError> {
        let callback = UserCode::new(callback);
        let core = self.manager.core();
        let completions = core.callbacks()?;
        let settled = CallbackSettled(Arc::clone(core));
        let manager = self.manager.weak();
        self.post(&completions, move |_, result| {
            // Last, so that the thread does not end before the callback has returned or panicked.
            let _settled = settled;
            callback.into_inner()(manager.own(result));
        })
    }

    /// Takes the lock if it is free; otherwise the result arrives in the queue.
    ///
    /// It comes with this `token`.
    ///
    /// # Errors
    /// An invalid request; nothing arrives then.
    pub fn with_queue(self, queue: &CompletionQueue, token: u64) -> Result<Submitted, LockError> {
        queue.is_of(self.manager.core())?;
        let pending = queue.state.begin();
        let manager = self.manager.weak();
        self.post(&queue.completions, move |ticket, result| {
            pending.complete(Completion { ticket, token, result: manager.own(result) });
        })
    }

    fn post(
        self,
        completions: &Arc<CompletionList>,
        answer: impl FnOnce(Ticket, Result<Grant, LockError>) + Send + 'static,
    ) -> Result<Submitted, LockError> {
        let core = self.manager.core();
        core.check_special(&self.request, false)?;
        let wanted = core.wanted(core.local(), &self.request);
        Ok(match core.post(&wanted, self.request.limit, completions, answer)? {
            Posted::Granted(grant) => {
                core.start_lease(grant, self.request.lease());
                Submitted::Granted(LockGuard::new(self.manager.clone(), grant))
            }
            Posted::Waiting(ticket) => Submitted::Waiting(ticket),
        })
    }
}

impl FastObjectLockManager {
    /// As [`upgrade_blocking`](Self::upgrade_blocking), with the result in a queue.
    ///
    /// Returns `None` if it was upgraded without waiting, otherwise the ticket of the result, which has this `token`. A
    /// success has the lock, held exclusively, under the same [`Grant`]. After a failure the grant is held shared as before.
    /// Until then the grant cannot be used.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use keylatch::{FastObjectLockManager, LockRequest};
    /// let locks = FastObjectLockManager::new();
    /// let queue = locks.completion_queue()?;
    /// let other = locks.acquire_read_lock_blocking("photos", "cat.jpg", "viewer")?;
    /// let grant = locks.lock(LockRequest::read(("photos", "cat.jpg")).owner("editor")).grant_blocking()?;
    /// assert!(locks.upgrade_with_queue(grant, None, &queue, 42)?.is_some());
    /// drop(other);
    /// let upgraded = queue.next(None)?.expect("no timeout was set").result?;
    /// assert_eq!(upgraded.into_grant(), grant);
    /// # locks.release(grant)?; Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`LockGuard::upgrade_blocking`] and [`release`](Self::release); nothing arrives then, and the hold is
    /// unchanged.
    pub fn upgrade_with_queue(
        &self,
        grant: Grant,
        timeout: Option<Duration>,
        queue: &CompletionQueue,
        token: u64,
    ) -> Result<Option<Ticket>, LockError> {
        let core = self.core();
        queue.is_of(core)?;
        core.adopt(grant)?;
        let (pending, manager) = (queue.state.begin(), self.weak());
        let limit = timeout.map_or(Limit::Never, Limit::after);
        let posted = core.post_upgrade(grant, limit, &queue.completions, move |ticket, result| {
            pending.complete(Completion { ticket, token, result: manager.own(result) });
        });
        if !matches!(posted, Ok(Some(_))) {
            core.detach(grant);
        }
        posted
    }
}

/// A callback that the manager's thread has to call, until dropped.
struct CallbackSettled(Arc<Core>);

impl Drop for CallbackSettled {
    fn drop(&mut self) {
        self.0.callback_settled();
    }
}

/// What [`Lock::with_callback`] and [`Lock::with_queue`] return immediately.
#[derive(Debug)]
#[must_use = "a lock that was free is returned here, and released if dropped"]
pub enum Submitted {
    /// The lock was free; nothing will arrive.
    Granted(OwnedLockGuard),
    /// The result will arrive. [`FastObjectLockManager::cancel`] ends the wait.
    Waiting(Ticket),
}

impl Submitted {
    /// Returns the ticket, if the request waits.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Granted(_) => None,
            Self::Waiting(ticket) => Some(*ticket),
        }
    }
}

/// Results of requests that had to wait, to be fetched by an event loop.
///
/// Poll [`as_fd`](AsFd::as_fd) for reading, then call [`try_next`](Self::try_next) until it returns `None`. Dropping
/// the queue cancels the requests that still wait.
///
/// A granted lock is held while its result is in the queue. So a thread that waits for such a lock before it fetches the
/// result waits for itself.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use keylatch::{FastObjectLockManager, LockRequest, Submitted};
/// let locks = FastObjectLockManager::new();
/// let queue = locks.completion_queue()?;
/// let held = locks.acquire_write_lock_blocking("b", "o", "first")?;
/// let submitted = locks.lock(LockRequest::write(("b", "o")).owner("second")).with_queue(&queue, 42)?;
/// assert!(matches!(submitted, Submitted::Waiting(_)));
/// drop(held);
/// let completion = queue.next(None)?.expect("no timeout was set");
/// assert_eq!(completion.token, 42);
/// let guard = completion.result?;
/// # drop(guard); Ok(()) }
/// ```
#[derive(Debug)]
pub struct CompletionQueue {
    manager: FastObjectLockManager,
    completions: Arc<CompletionList>,
    state: Arc<CompletionQueueState<Completion>>,
    event_fd: Arc<EventFd>,
}

/// One result from a [`CompletionQueue`].
#[derive(Debug)]
pub struct Completion {
    /// The request, as the call that made it returned it.
    pub ticket: Ticket,
    /// The token of the call.
    pub token: u64,
    /// The lock, or the error.
    pub result: Result<OwnedLockGuard, LockError>,
}

impl CompletionQueue {
    fn is_of(&self, core: &Arc<Core>) -> Result<(), LockError> {
        if core.is_forked() {
            // Before its mutexes are asked for anything.
            return Err(LockError::Forked);
        }
        if Arc::ptr_eq(self.manager.core(), core) {
            return Ok(());
        }
        let problem = "it is another manager's; use one made by this manager's completion_queue()".into();
        Err(LockError::InvalidConfig { setting: "queue", problem })
    }

    pub(crate) fn new(manager: FastObjectLockManager) -> std::io::Result<Self> {
        let event_fd = Arc::new(EventFd::new()?);
        let (signalled, at_the_end) = (Arc::clone(&event_fd), Arc::clone(&event_fd));
        let completions = CompletionList::new(move || signalled.signal());
        let state = CompletionQueueState::new(move || at_the_end.signal());
        if !manager.core().is_forked() {
            manager.core().ends_with_it(&state);
        }
        Ok(Self { manager, completions, state, event_fd })
    }

    /// Returns the next result, if one has arrived.
    ///
    /// Once it returns `None` the descriptor is unreadable until more arrives, or until [nothing more
    /// will](Self::is_over).
    #[must_use]
    pub fn try_next(&self) -> Option<Completion> {
        if self.manager.core().is_forked() {
            // Nothing arrives in a forked child, and the descriptor is the parent's.
            return None;
        }
        self.fetch().or_else(|| {
            // Cleared first, fetched after: a result that arrives in between signals again or is fetched here.
            self.event_fd.clear();
            let late = self.fetch();
            if late.is_none() && self.is_over() {
                self.event_fd.signal();
            }
            late
        })
    }

    /// Returns whether nothing will arrive any more: all is closed and fetched.
    ///
    /// The manager is closed, and every result was fetched. The descriptor stays readable then.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.manager.core().is_forked() || self.state.is_over()
    }

    /// Returns the next result, sleeping until one arrives; `None` after the timeout.
    ///
    /// Also `None` when [nothing more will](Self::is_over) arrive.
    ///
    /// # Errors
    /// The error of waiting on the descriptor; [`LockError::Forked`] inside of it.
    pub fn next(&self, timeout: Option<Duration>) -> std::io::Result<Option<Completion>> {
        if self.manager.core().is_forked() {
            return Err(std::io::Error::other(LockError::Forked));
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(completion) = self.try_next() {
                return Ok(Some(completion));
            }
            if self.is_over() {
                return Ok(None);
            }
            if !self.event_fd.wait(deadline)? {
                return Ok(self.try_next());
            }
        }
    }

    fn fetch(&self) -> Option<Completion> {
        loop {
            let oldest = self.state.take();
            if oldest.is_some() {
                return oldest;
            }
            if !self.manager.core().run_completion(&self.completions) {
                return None;
            }
        }
    }
}

impl AsFd for CompletionQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event_fd.as_fd()
    }
}

impl Drop for CompletionQueue {
    /// Cancels requests that still wait, and drops results that were not fetched.
    ///
    /// Granted locks are released.
    fn drop(&mut self) {
        let core = self.manager.core();
        if core.is_forked() {
            return;
        }
        core.cancel_all_of(&self.completions);
        // No new ones can be asked for any more.
        while {
            while let Some(completion) = self.try_next() {
                completion.result.into_iter().for_each(LockGuard::release_unseen);
            }
            self.state.has_pending()
        } {
            // Another thread is between the grant and its completion, and signals the descriptor then.
            let _ = self.event_fd.wait(Instant::now().checked_add(Duration::from_millis(10)));
        }
    }
}

impl<'m, 'k> IntoFuture for Lock<'m, 'k> {
    type Output = Result<FastLockGuard<'m>, LockError>;
    type IntoFuture = Acquire<'m, 'k>;

    #[inline(always)]
    fn into_future(self) -> Acquire<'m, 'k> {
        Acquire::new(self.manager, self.request)
    }
}

/// A request as a future, for any executor.
///
/// Dropping it cancels the request; a lock granted in that instant goes to the next waiter.
///
/// While it waits it has a place in line. If a task keeps it without polling it, for example while it awaits something
/// else, the waiters behind it wait although the lock may be free: poll it, or drop it.
// A task that awaits this has it in a future of its own, which is moved before it is first polled, and where the lock
// is free that is what awaiting costs. So it is small, and has an odd number of words: compilers place that behind what
// an
// `async fn` was called with, and then see that nothing of it is there to be moved yet. `tests/it/sizes.rs` has the bounds.
#[derive(Debug)]
#[must_use = "a future does nothing until it is awaited"]
pub struct Acquire<'m, 'k> {
    manager: &'m FastObjectLockManager,
    stage: Stage<'k>,
}

/// How far a future has come.
///
/// While a request waits, its waiter knows what it asks for, and the room is used again.
#[derive(Debug)]
enum Stage<'k> {
    Asking(LockRequest<'k>),
    Waiting(Waiting<'k>),
    /// It waited, and has had its answer.
    Over,
}

#[derive(Debug)]
struct Waiting<'k> {
    polled: Polled,
    /// What an error names.
    key: KeyRef<'k>,
    limit: Limit,
}

impl<'m> Future for Acquire<'m, '_> {
    type Output = Result<FastLockGuard<'m>, LockError>;

    /// # Panics
    /// If it has waited and was ready.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Poll::Ready(step) = Step::begin(context) else { return Poll::Pending };
        if let Stage::Asking(request) = &this.stage
            && !request.is_special()
        {
            if request.entry != NONE
                && let Some(grant) = this.manager.core().try_request_pinned(request)
            {
                return step.end(Poll::Ready(Ok(LockGuard::new(this.manager, grant))));
            }
            match this.manager.core().try_request(request, false).granted() {
                Ok(grant) => return step.end(Poll::Ready(Ok(LockGuard::new(this.manager, grant)))),
                Err((missed, hash)) => return step.end(this.poll_missed(context, missed, hash)),
            }
        }
        step.end(this.poll_slow(context))
    }
}

impl<'m, 'k> Acquire<'m, 'k> {
    #[inline(always)]
    pub(crate) fn new(manager: &'m FastObjectLockManager, request: LockRequest<'k>) -> Self {
        Self { manager, stage: Stage::Asking(request) }
    }

    /// As `new`, for a key whose entry a pin of the manager's keeps.
    ///
    /// For as long as `'k`; 0 if none does.
    #[inline(always)]
    pub(crate) fn of_pin(manager: &'m FastObjectLockManager, mut request: LockRequest<'k>, entry: u32) -> Self {
        request.entry = entry;
        Self::new(manager, request)
    }

    #[inline(never)]
    fn poll_missed(
        &mut self,
        context: &Context<'_>,
        missed: Missed,
        hash: u64,
    ) -> Poll<Result<FastLockGuard<'m>, LockError>> {
        if let Stage::Asking(request) = self.stage
            && missed != Missed::Held
            && let Some(grant) = self.manager.core().try_request_once_more(request, false, missed, hash)
        {
            return Poll::Ready(Ok(LockGuard::new(self.manager, grant)));
        }
        self.poll_slow(context)
    }

    #[cold]
    #[inline(never)]
    fn poll_slow(&mut self, context: &Context<'_>) -> Poll<Result<FastLockGuard<'m>, LockError>> {
        let manager = self.manager;
        if let Stage::Asking(request) = self.stage {
            match ask(manager.core(), request) {
                Err(error) => return Poll::Ready(Err(error)),
                Ok(Asked::Granted(grant)) => return Poll::Ready(Ok(LockGuard::new(manager, grant))),
                Ok(Asked::Waits(waiting)) => self.stage = Stage::Waiting(waiting),
            }
        }
        let Stage::Waiting(Waiting { polled, key, limit }) = &self.stage else {
            panic!("a future was polled again after it had its answer");
        };
        let Poll::Ready(ended) = polled.poll(manager.core(), context) else { return Poll::Pending };
        let answer = match ended {
            Ended::Granted(grant) => Ok(grant.expect("a request that was queued got its grant")),
            Ended::Failed { why, error } => {
                let (core, limit) = (manager.core(), *limit);
                // One without time is refused by the tier.
                Err(core.as_timeout(core.failure((why, error), limit, key), limit, core.hash(key)))
            }
        };
        self.stage = Stage::Over;
        Poll::Ready(answer.map(|grant| LockGuard::new(manager, grant)))
    }

    #[cold]
    #[inline(never)]
    fn abandon_slow(&mut self) {
        if let Stage::Waiting(waiting) = std::mem::replace(&mut self.stage, Stage::Over) {
            let core = self.manager.core();
            if let Ended::Granted(Some(grant)) = waiting.polled.abandon(core) {
                core.release_unseen(grant);
            }
        }
    }
}

impl Drop for Acquire<'_, '_> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Stage::Waiting(_) = self.stage {
            self.abandon_slow();
        }
    }
}

/// The immediate outcome of a future's request.
enum Asked<'k> {
    Granted(Grant),
    Waits(Waiting<'k>),
}

/// Makes a future's request.
fn ask<'k>(core: &Arc<Core>, request: LockRequest<'k>) -> Result<Asked<'k>, LockError> {
    core.check_special(&request, false)?;
    let local = core.local();
    let wanted = core.wanted(local, &request);
    let limit = core.decided(request.limit);
    let (deadline, wait) = if core.has_no_time(limit) {
        (None, Wait::ForTier(Delivery::Task(None)))
    } else {
        // The time begins before the line does.
        (core.deadline(limit), Wait::InLine(Delivery::Task(None)))
    };
    let answer = core.acquire_slow(local, &wanted, wait);
    match answer.map_err(|error| core.as_timeout(error, limit, wanted.hash))? {
        Answer::Granted(grant) => {
            core.start_lease(grant, request.lease());
            Ok(Asked::Granted(grant))
        }
        Answer::Queued(ticket) => {
            let polled = Polled::new(core, ticket, wanted.hash, deadline);
            Ok(Asked::Waits(Waiting { polled, key: request.key, limit }))
        }
    }
}
