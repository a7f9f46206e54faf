//! What a caller has while it holds a lock.

use crate::engine::Core;
use crate::engine::loss::Listener;
use crate::error::LockError;
use crate::hold::{Grant, Lost};
use crate::key::ObjectKey;
use crate::manager::FastObjectLockManager;
use crate::mode::Mode;
use crate::request::Limit;
use crate::sync::Mutex;
use crate::sync::forks;
use crate::sync::runtime::{Step, check_may_sleep};
use crate::wait::{Delivery, UserCode};
use std::fmt;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::engine::waiting::{Ended, Polled};

/// How a guard knows its manager: by a free reference, or by a handle of its own.
pub trait ManagerRef: sealed::Sealed {
    #[doc(hidden)]
    fn manager(&self) -> &FastObjectLockManager;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &super::FastObjectLockManager {}
    impl Sealed for super::FastObjectLockManager {}
}

impl ManagerRef for &FastObjectLockManager {
    #[inline(always)]
    fn manager(&self) -> &FastObjectLockManager {
        self
    }
}

impl ManagerRef for FastObjectLockManager {
    #[inline(always)]
    fn manager(&self) -> &FastObjectLockManager {
        self
    }
}

/// A held lock that borrows its manager: what acquiring returns.
///
/// Dropping it releases the lock.
pub type FastLockGuard<'a> = LockGuard<&'a FastObjectLockManager>;

/// A held lock with a manager handle of its own, to be kept and sent anywhere.
///
/// Made by [`FastLockGuard::into_owned`].
pub type OwnedLockGuard = LockGuard<FastObjectLockManager>;

/// A held lock.
///
/// Dropping it releases the lock, from any thread, and never blocks.
///
/// ```
/// # fn main() -> Result<(), keylatch::LockError> {
/// use keylatch::{FastObjectLockManager, Mode};
/// let locks = FastObjectLockManager::new();
/// let mut guard = locks.acquire_write_lock_blocking("photos", "cat.jpg", "indexer")?;
/// guard.downgrade(); // others may read now; no writer could come in between
/// assert_eq!(guard.mode(), Mode::Shared);
/// guard.try_upgrade()?; // there is no other reader, so this works
/// drop(guard);
/// # Ok(()) }
/// ```
#[must_use = "a guard releases its lock when it is dropped"]
pub struct LockGuard<M: ManagerRef> {
    manager: M,
    /// `None` once it has become a number.
    grant: Option<Grant>,
}

impl<M: ManagerRef> LockGuard<M> {
    #[inline(always)]
    pub(crate) fn new(manager: M, grant: Grant) -> Self {
        Self { manager, grant: Some(grant) }
    }

    #[inline(always)]
    fn grant(&self) -> Grant {
        self.grant.expect("a guard that has become a number is gone")
    }

    fn core(&self) -> &Arc<Core> {
        self.manager.manager().core()
    }

    /// Returns its entry and mode, also once it was lost.
    fn held(&self) -> Option<(u32, Mode)> {
        self.core().records.get(self.grant().index()).seen_by_guard(self.grant())
    }

    /// Returns how the lock is held; once it was revoked, how it was held until then.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.held().map_or(Mode::Shared, |(_, mode)| mode)
    }

    /// Returns a copy of the key.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        self.core().guard_key(self.grant()).unwrap_or_else(|| ObjectKey::new("", ""))
    }

    /// Returns the number of this exclusive hold.
    ///
    /// It is greater than that of every earlier exclusive hold of this key. So a store can refuse a writer whose number is
    /// lower than one it has seen. For a shared hold it is the number of the latest exclusive one.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.core().guard_fence(self.grant())
    }

    /// Turns an exclusive hold into a shared one, without a gap for another writer.
    ///
    /// Does nothing to a shared hold, nor to one of several that a session has of the lock ([`Reentrancy::Count`]): as
    /// long as it has another it stays exclusive. Never blocks.
    ///
    /// [`Reentrancy::Count`]: crate::Reentrancy::Count
    pub fn downgrade(&mut self) {
        self.manager.manager().core().downgrade(self.grant());
    }

    /// As [`downgrade`](Self::downgrade); an error if the lock is not held any more.
    ///
    /// # Errors
    /// [`LockError::LeaseLost`] if its lease ran out and another caller took the lock, [`LockError::NotHeld`] if that
    /// was done by force, [`LockError::Forked`]. Then nothing has changed.
    pub fn try_downgrade(&mut self) -> Result<(), LockError> {
        self.manager.manager().core().downgrade_or_tell(self.grant())
    }

    /// Turns a shared hold into an exclusive one, if there is no other holder now.
    ///
    /// Goes ahead of all waiters. Does nothing to an exclusive hold.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] with all who share the lock, this guard's owner among them; the shared hold stays.
    pub fn try_upgrade(&mut self) -> Result<(), LockError> {
        self.manager.manager().core().try_upgrade(self.grant())
    }

    /// Turns a shared hold into an exclusive one, once the other readers are gone.
    ///
    /// Goes ahead of all other waiters. `None` waits for as long as it takes.
    ///
    /// # Errors
    /// [`LockError::UpgradeConflict`] without waiting if another reader already waits to upgrade: neither could go
    /// first. [`LockError::Timeout`], [`LockError::Closed`]. In any case the shared hold stays.
    pub fn upgrade_blocking(&mut self, timeout: Option<Duration>) -> Result<(), LockError> {
        check_may_sleep();
        let core = self.manager.manager().core();
        core.upgrade_blocking(self.grant(), timeout.map_or(Limit::Never, Limit::after))
    }

    /// As [`upgrade_blocking`](Self::upgrade_blocking), as a future.
    ///
    /// Dropping it before it is done leaves the hold shared. A leaked future waits on until the guard is used again or
    /// released.
    ///
    /// # Errors
    /// As there.
    pub fn upgrade(&mut self, timeout: Option<Duration>) -> Upgrade<'_, M> {
        let limit = timeout.map_or(Limit::Never, Limit::after);
        Upgrade { guard: self, limit, waiting: None }
    }

    /// Renews the lease from now on, or begins one.
    ///
    /// # Errors
    /// [`LockError::LeaseLost`] if it ran out and another caller took the lock, [`LockError::NotHeld`] if that was done
    /// by force, [`LockError::InvalidConfig`] for a `ttl` of zero.
    pub fn renew(&self, ttl: Duration) -> Result<(), LockError> {
        self.core().renew(self.grant(), ttl)
    }

    /// Returns how long the hold is safe from now on; `None` if it has no lease.
    ///
    /// Zero once its lease has run out or it was revoked.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.core().remaining(self.grant()).unwrap_or(Some(Duration::ZERO))
    }

    /// Returns whether the lock is held and, if it is a lease, safe at this moment.
    ///
    /// Work that follows this call may still be too late: that is what [`fence`](Self::fence) is for.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.core().is_valid(self.grant())
    }

    /// Returns whether another process died while it had the key exclusively.
    ///
    /// Then the data that the key protects may be half written. The first holder after the death gets `true`. If that
    /// holder loses the lock, the next one gets `true`, too, because the repair may be half done. Always `false` without a
    /// [tier](crate::tier) that notices such deaths.
    #[must_use]
    pub fn previous_holder_died(&self) -> bool {
        self.core().records.get(self.grant().index()).follows_death(self.grant())
    }

    /// Returns the owner's name, as in the request. Empty in a forked child.
    #[must_use]
    pub fn owner(&self) -> Arc<str> {
        self.core().owner_name(self.core().records.get(self.grant().index()).owner())
    }

    /// Has `listener` called once if the lock is revoked.
    ///
    /// The revoking thread calls it, or this thread if the lock was revoked before. It is dropped uncalled when the lock is
    /// released. It must not block.
    pub fn on_lost(&self, listener: impl FnOnce(Lost) + Send + 'static) {
        // The hold is there, or lost: there is no third.
        let _ = self.core().on_lost(self.grant(), Listener::new(listener));
    }

    /// Resolves when the lock is revoked; until then it is pending.
    ///
    /// It stays pending after a release. Race it against the work that the lock is for.
    ///
    /// ```
    /// # async fn work() {}
    /// # async fn doc(locks: &keylatch::FastObjectLockManager) -> Result<(), keylatch::LockError> {
    /// use keylatch::LockRequest;
    /// let lease = LockRequest::write(("photos", "cat.jpg")).ttl(std::time::Duration::from_secs(10));
    /// let guard = locks.lock(lease).await?;
    /// tokio::select! {
    ///     () = work() => {}
    ///     why = guard.lost() => eprintln!("stopped, because the lock is gone: {why:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    pub fn lost(&self) -> impl Future<Output = Lost> + Send + 'static {
        let state = Arc::new(Mutex::new(LossState::default()));
        let writer = Arc::downgrade(&state);
        let reader = Arc::downgrade(&state);
        let set = move |why| {
            let Some(state) = writer.upgrade() else { return };
            let waker = {
                let mut state = state.lock();
                state.why = Some(why);
                state.waker.take()
            };
            waker.into_iter().for_each(UserCode::wake);
        };
        let _ = self.core().on_lost(self.grant(), Listener::for_whom(reader, set));
        let here = forks();
        let is_forked = move || forks() != here;
        std::future::poll_fn(move |context| {
            if is_forked() {
                // A forked child has the mutex as it was, and no thread there takes the lock away.
                return Poll::Pending;
            }
            let fresh = UserCode::new(context.waker().clone());
            let mut state = state.lock();
            if let Some(why) = state.why {
                return Poll::Ready(why);
            }
            let old = state.waker.replace(fresh);
            drop(state);
            drop(old);
            Poll::Pending
        })
    }

    /// Releases the lock; an error if it was not held any more, which a drop hides.
    ///
    /// # Errors
    /// [`LockError::LeaseLost`] if its lease ran out and another caller took the lock, [`LockError::NotHeld`] if that
    /// was done by force. No other hold is touched.
    #[inline(always)]
    pub fn try_release(self) -> Result<(), LockError> {
        let mut this = self;
        let grant = this.grant();
        // From here on the guard has nothing to release, only its handle to drop.
        this.grant = None;
        this.manager.manager().core().release_guard_or_tell(grant)
    }

    /// Returns the grant, for a caller that releases it as a guard does.
    pub(crate) fn into_bare_grant(self) -> Grant {
        ManuallyDrop::new(self).grant()
    }

    /// Releases the lock as if no caller had had the guard.
    ///
    /// A death that it would have reported goes on to the next holder.
    pub(crate) fn release_unseen(mut self) {
        if let Some(grant) = self.grant.take() {
            self.manager.manager().core().release_unseen(grant);
        }
    }

    /// Releases the lock; the same as dropping the guard.
    pub fn release(self) {}

    /// Returns the number of the hold, for listings, logs and stores.
    ///
    /// The guard keeps the lock: the number releases nothing.
    #[must_use]
    pub fn grant_number(&self) -> u64 {
        self.grant().to_raw()
    }

    /// Turns the guard into a number, for [`FastObjectLockManager::release`].
    #[must_use = "the lock is held until the grant is released"]
    pub fn into_grant(self) -> Grant {
        let mut this = self;
        let grant = this.grant();
        // From here on the guard has nothing to release, only its handle to drop.
        this.grant = None;
        let core = this.manager.manager().core();
        core.end_if_forgotten(grant);
        core.detach(grant);
        grant
    }
}

impl FastLockGuard<'_> {
    /// Gives the guard a manager handle of its own, so that it can outlive the borrow.
    pub fn into_owned(self) -> OwnedLockGuard {
        let this = ManuallyDrop::new(self);
        LockGuard::new(this.manager.clone(), this.grant())
    }
}

impl<M: ManagerRef> Drop for LockGuard<M> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(grant) = self.grant {
            self.manager.manager().core().release_guard(grant);
        }
    }
}

impl<M: ManagerRef> fmt::Debug for LockGuard<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("key", &self.key()).field("mode", &self.mode()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct LossState {
    why: Option<Lost>,
    waker: Option<UserCode<Waker>>,
}

/// A waiting upgrade; see [`LockGuard::upgrade`].
#[must_use = "a future does nothing until it is awaited"]
#[derive(Debug)]
pub struct Upgrade<'g, M: ManagerRef> {
    guard: &'g mut LockGuard<M>,
    limit: Limit,
    waiting: Option<Polled>,
}

impl<M: ManagerRef> Future for Upgrade<'_, M> {
    type Output = Result<(), LockError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(step) = Step::begin(context) else { return Poll::Pending };
        step.end(self.get_mut().poll_once(context))
    }
}

impl<M: ManagerRef> Upgrade<'_, M> {
    fn poll_once(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LockError>> {
        let this = self;
        let core = this.guard.manager.manager().core();
        if this.waiting.is_none() {
            let deadline = core.deadline(this.limit);
            match core.begin_upgrade(this.guard.grant(), Delivery::Task(None)) {
                Err(error) => return Poll::Ready(Err(error)),
                Ok(None) => return Poll::Ready(Ok(())),
                Ok(Some((ticket, hash))) => this.waiting = Some(Polled::new(core, ticket, hash, deadline)),
            }
        }
        let Some(waiting) = &this.waiting else { return Poll::Pending };
        let Poll::Ready(ended) = waiting.poll(core, context) else { return Poll::Pending };
        this.waiting = None;
        Poll::Ready(core.upgrade_ended(this.guard.grant(), ended, this.limit))
    }
}

impl<M: ManagerRef> Drop for Upgrade<'_, M> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            let core = self.guard.manager.manager().core();
            let ended = waiting.abandon(core);
            core.waits_no_more_to_upgrade(self.guard.grant());
            if let Ended::Granted(_) = ended {
                core.downgrade(self.guard.grant());
            }
        }
    }
}

/// The locks of a batch. Dropping it releases all of them.
#[must_use = "a batch releases its locks when it is dropped"]
pub struct LockBatch<'a> {
    manager: &'a FastObjectLockManager,
    grants: Vec<Grant>,
    missing: Vec<(ObjectKey, LockError)>,
}

impl<'a> LockBatch<'a> {
    pub(crate) fn new(manager: &'a FastObjectLockManager, grants: Vec<Grant>) -> Self {
        Self { manager, grants, missing: Vec::new() }
    }

    /// Returns how many locks are held: one a key.
    #[must_use]
    pub fn len(&self) -> usize {
        self.grants.len()
    }

    /// Returns whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// Returns what a best-effort batch did not get, and why.
    #[must_use]
    pub fn missing(&self) -> &[(ObjectKey, LockError)] {
        &self.missing
    }

    /// Returns a guard for each lock, to be released one by one.
    #[must_use = "guards release their locks when they are dropped"]
    pub fn into_guards(mut self) -> Vec<FastLockGuard<'a>> {
        let manager = self.manager;
        std::mem::take(&mut self.grants).into_iter().map(|grant| LockGuard::new(manager, grant)).collect()
    }

    /// Returns a number for each lock, for [`FastObjectLockManager::release`].
    #[must_use = "the locks are held until the grants are released"]
    pub fn into_grants(self) -> Vec<Grant> {
        self.into_guards().into_iter().map(LockGuard::into_grant).collect()
    }
}

impl Drop for LockBatch<'_> {
    fn drop(&mut self) {
        self.manager.core().release_guards(&self.grants);
    }
}

/// A batch that its caller does not have yet.
///
/// Dropped, it gives its locks back as if no caller had had them.
#[derive(Debug)]
pub(crate) struct UnfinishedBatch<'a>(LockBatch<'a>);

impl<'a> UnfinishedBatch<'a> {
    pub(crate) fn new(manager: &'a FastObjectLockManager) -> Self {
        Self(LockBatch::new(manager, Vec::new()))
    }

    pub(crate) fn push(&mut self, grant: Grant) {
        self.0.grants.push(grant);
    }

    pub(crate) fn miss(&mut self, key: ObjectKey, why: LockError) {
        self.0.missing.push((key, why));
    }

    pub(crate) fn grants(&self) -> &[Grant] {
        &self.0.grants
    }

    pub(crate) fn finish(mut self) -> LockBatch<'a> {
        let (grants, missing) = (std::mem::take(&mut self.0.grants), std::mem::take(&mut self.0.missing));
        LockBatch { manager: self.0.manager, grants, missing }
    }
}

impl Drop for UnfinishedBatch<'_> {
    fn drop(&mut self) {
        let grants = std::mem::take(&mut self.0.grants);
        grants.into_iter().rev().for_each(|grant| self.0.manager.core().release_unseen(grant));
    }
}

impl fmt::Debug for LockBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockBatch").field("held", &self.grants.len()).field("missing", &self.missing).finish()
    }
}
