//! The manager: the verbs.

mod inspection;

use crate::config::LockConfig;
use crate::engine::lease::nanos_of;
use crate::engine::{Core, batch};
use crate::error::LockError;
use crate::guard::{FastLockGuard, LockBatch, LockGuard, OwnedLockGuard, UnfinishedBatch};
use crate::hold::{Grant, Owner, OwnerRef};
use crate::inspect::{Cycle, Filter};
use crate::key::KeyRef;
use crate::mode::Mode;
use crate::observe::{AdaptiveState, EventOptions, Health, LockMetrics};
use crate::pending::{Acquire, CompletionQueue, Lock};
use crate::request::{BatchLockRequest, BatchMode, LockRequest};
use crate::session::Session;
use crate::subscription::Events;
use crate::sync::runtime::{Step, check_may_sleep};
use crate::tier::Tier;
use crate::wait::Ticket;
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

/// Who may read or write this bucket, object, version now.
///
/// A manager is a handle: clones share everything, and the last one to go closes it. It can be used from any thread and
/// any async runtime.
///
/// ```
/// # fn main() -> Result<(), keylatch::LockError> {
/// use keylatch::FastObjectLockManager;
/// let locks = FastObjectLockManager::new();
/// let writer = locks.acquire_write_lock_blocking("photos", "cat.jpg", "uploader")?;
/// assert!(locks.try_acquire_read_lock("photos", "cat.jpg", "viewer").is_err());
/// let version = locks.try_acquire_read_lock_versioned("photos", "cat.jpg", "v1", "viewer")?; // another key
/// drop(writer);
/// # drop(version); Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct FastObjectLockManager {
    core: Arc<Core>,
    closer: Arc<CloseOnDrop>,
}

#[derive(Debug)]
struct CloseOnDrop(Arc<Core>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A manager that may be gone, for answers that arrive later.
#[derive(Debug)]
pub(crate) struct WeakManager {
    core: Arc<Core>,
    closer: Weak<CloseOnDrop>,
}

impl WeakManager {
    /// The grant as a guard. If the last handle is gone there is nobody to hold it: it is released.
    pub(crate) fn own(&self, result: Result<Grant, LockError>) -> Result<OwnedLockGuard, LockError> {
        let grant = result?;
        match self.closer.upgrade() {
            Some(closer) => Ok(LockGuard::new(FastObjectLockManager { core: Arc::clone(&self.core), closer }, grant)),
            None => {
                self.core.release_unseen(grant);
                Err(LockError::Closed)
            }
        }
    }
}

impl Default for FastObjectLockManager {
    fn default() -> Self {
        Self::new()
    }
}

impl FastObjectLockManager {
    /// A manager with the default settings.
    ///
    /// # Panics
    /// If the process may not even reserve address space for a small table. Where address space is limited, fewer locks
    /// than the default can be had; [`config`](Self::config) tells how many.
    #[must_use]
    pub fn new() -> Self {
        Self::fitting(LockConfig::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`with_config`](Self::with_config), but if there is not enough address space for as many locks, then for fewer:
    /// for settings whose `max_locks` nobody has chosen. [`config`](Self::config) says what came of it.
    ///
    /// ```
    /// use keylatch::{Fairness, FastObjectLockManager, LockConfig};
    /// let locks = FastObjectLockManager::fitting(LockConfig { fairness: Fairness::Fifo, ..LockConfig::default() })?;
    /// assert!(locks.config().max_locks >= 1024);
    /// # Ok::<(), keylatch::LockError>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn fitting(mut config: LockConfig) -> Result<Self, LockError> {
        config.validate()?;
        loop {
            match Self::with_config(config.clone()) {
                Err(LockError::InvalidConfig { setting: "max_locks", .. }) if config.max_locks > 4096 => {
                    config.max_locks /= 4;
                }
                answer => return answer,
            }
        }
    }

    /// A manager with these settings.
    ///
    /// # Errors
    /// [`LockError::InvalidConfig`] says which setting is wrong and what would be right.
    pub fn with_config(config: LockConfig) -> Result<Self, LockError> {
        let core = Core::shared(config)?;
        Ok(Self { closer: Arc::new(CloseOnDrop(Arc::clone(&core))), core })
    }

    /// A manager that shares its keys with other processes through a tier.
    ///
    /// The verbs are the same. A request waits for the other processes as it does for the threads of this one; see
    /// [`tier`](crate::tier) for what differs.
    ///
    /// # Errors
    /// As [`with_config`](Self::with_config), and [`LockError::Tier`] if the tier cannot be attached.
    pub fn with_tier(config: LockConfig, tier: Arc<dyn Tier>) -> Result<Self, LockError> {
        let core = Core::shared_through(config, tier)?;
        Ok(Self { closer: Arc::new(CloseOnDrop(Arc::clone(&core))), core })
    }

    #[inline(always)]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn weak(&self) -> WeakManager {
        WeakManager { core: Arc::clone(&self.core), closer: Arc::downgrade(&self.closer) }
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &LockConfig {
        &self.core.config
    }

    /// An owner by name, made once and then used without a look-up. It is a label: errors and listings show it.
    ///
    /// At most 65,536 names are kept; past that, requests go on without a name.
    #[must_use]
    pub fn owner(&self, name: &str) -> Owner {
        Owner(self.core.keep_owner(name))
    }

    /// As [`owner`](Self::owner), with where in the program it comes from, for listings.
    #[must_use]
    pub fn owner_with_source(&self, name: &str, source: &'static str) -> Owner {
        Owner(self.core.keep_owner_with_source(name, source))
    }

    /// Begins a session: an owner that is one logical thread of control, such as a transaction. Deadlocks among sessions
    /// are found, and a session that asks again for what it holds is recognised; see [`Session`].
    #[must_use]
    pub fn session(&self, name: &str) -> Session {
        Session::begin(self, name, "")
    }

    /// As [`session`](Self::session), with where in the program it comes from, for listings.
    #[must_use]
    pub fn session_with_source(&self, name: &str, source: &'static str) -> Session {
        Session::begin(self, name, source)
    }

    /// Gives the manager a request; what comes back offers the ways to wait for it.
    #[inline(always)]
    pub fn lock<'k>(&self, request: LockRequest<'k>) -> Lock<'_, 'k> {
        Lock::new(self, request)
    }

    /// Waits for an object to hold alone.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_write_lock<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Acquire<'_, 'k> {
        Acquire::new(self, LockRequest::write(KeyRef::new(bucket, object)).owner(owner))
    }

    /// Waits for an object to share.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_read_lock<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Acquire<'_, 'k> {
        Acquire::new(self, LockRequest::read(KeyRef::new(bucket, object)).owner(owner))
    }

    /// Waits for one version of an object to hold alone.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_write_lock_versioned<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        version: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Acquire<'_, 'k> {
        Acquire::new(self, LockRequest::write((bucket, object, version)).owner(owner))
    }

    /// Waits for one version of an object to share.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_read_lock_versioned<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        version: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Acquire<'_, 'k> {
        Acquire::new(self, LockRequest::read((bucket, object, version)).owner(owner))
    }

    /// [`acquire_write_lock`](Self::acquire_write_lock) for threads.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_write_lock_blocking<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::write(KeyRef::new(bucket, object)).owner(owner)).blocking()
    }

    /// [`acquire_read_lock`](Self::acquire_read_lock) for threads.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_read_lock_blocking<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::read(KeyRef::new(bucket, object)).owner(owner)).blocking()
    }

    /// [`acquire_write_lock_versioned`](Self::acquire_write_lock_versioned) for threads.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_write_lock_versioned_blocking<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        version: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::write((bucket, object, version)).owner(owner)).blocking()
    }

    /// [`acquire_read_lock_versioned`](Self::acquire_read_lock_versioned) for threads.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline(always)]
    pub fn acquire_read_lock_versioned_blocking<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        version: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::read((bucket, object, version)).owner(owner)).blocking()
    }

    /// Takes an object to hold alone, if it is free.
    ///
    /// # Errors
    /// As [`Lock::try_now`].
    #[inline(always)]
    pub fn try_acquire_write_lock<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::write(KeyRef::new(bucket, object)).owner(owner)).try_now()
    }

    /// Takes an object to share, if no writer holds it or is entitled to it first.
    ///
    /// # Errors
    /// As [`Lock::try_now`].
    #[inline(always)]
    pub fn try_acquire_read_lock<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::read(KeyRef::new(bucket, object)).owner(owner)).try_now()
    }

    /// [`try_acquire_write_lock`](Self::try_acquire_write_lock) for one version.
    ///
    /// # Errors
    /// As [`Lock::try_now`].
    #[inline(always)]
    pub fn try_acquire_write_lock_versioned<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        version: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::write((bucket, object, version)).owner(owner)).try_now()
    }

    /// [`try_acquire_read_lock`](Self::try_acquire_read_lock) for one version.
    ///
    /// # Errors
    /// As [`Lock::try_now`].
    #[inline(always)]
    pub fn try_acquire_read_lock_versioned<'k>(
        &self,
        bucket: &'k (impl AsRef<[u8]> + ?Sized),
        object: &'k (impl AsRef<[u8]> + ?Sized),
        version: &'k (impl AsRef<[u8]> + ?Sized),
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'_>, LockError> {
        self.lock(LockRequest::read((bucket, object, version)).owner(owner)).try_now()
    }

    /// Waits for many locks, with one deadline for all of them. Nothing is left behind on an error, nor when the future
    /// is dropped.
    ///
    /// # Errors
    /// [`LockError::Batch`] names the key that failed and why. A best-effort batch reports what it did not get in
    /// [`LockBatch::missing`] instead, and fails only when the manager cannot go on.
    pub async fn acquire_locks_batch<'a>(&'a self, batch: BatchLockRequest<'_>) -> Result<LockBatch<'a>, LockError> {
        // A batch that is all free awaits nothing else.
        poll_fn(|context| Step::begin(context).map(|step| step.end(Poll::Ready(())))).await.is_ready();
        if let Some(grants) = self.batch_at_once(&batch)? {
            return Ok(grants);
        }
        let deadline = self.core.deadline(batch.limit);
        let mut gathered = UnfinishedBatch::new(self);
        for (key, mode) in batch::in_order(&batch) {
            let answer = self.lock(one_of(&batch, key, mode, deadline)).await.map(LockGuard::into_bare_grant);
            add_to(&mut gathered, key, answer, batch.batch_mode)?;
        }
        self.begin_leases(&batch, gathered.grants());
        Ok(gathered.finish())
    }

    /// [`acquire_locks_batch`](Self::acquire_locks_batch) for threads.
    ///
    /// # Errors
    /// As there.
    pub fn acquire_locks_batch_blocking<'a>(&'a self, batch: BatchLockRequest<'_>) -> Result<LockBatch<'a>, LockError> {
        check_may_sleep();
        if let Some(grants) = self.batch_at_once(&batch)? {
            return Ok(grants);
        }
        let deadline = self.core.deadline(batch.limit);
        let mut gathered = UnfinishedBatch::new(self);
        for (key, mode) in batch::in_order(&batch) {
            let answer = self.core.blocking(one_of(&batch, key, mode, deadline), false);
            add_to(&mut gathered, key, answer, batch.batch_mode)?;
        }
        self.begin_leases(&batch, gathered.grants());
        Ok(gathered.finish())
    }

    fn batch_at_once<'a>(&'a self, batch: &BatchLockRequest<'_>) -> Result<Option<LockBatch<'a>>, LockError> {
        self.core.check_owner(batch.owner)?;
        batch.ttl.map_or(Ok(0), nanos_of)?;
        self.core.note_batch_order(batch);
        let grants = self.core.batch_at_once(self.core.local(), batch);
        self.begin_leases(batch, grants.as_deref().unwrap_or_default());
        Ok(grants.map(|grants| LockBatch::new(self, grants)))
    }

    /// Begins the leases of a batch, of all its locks once it has them all: what it has while it waits for the rest is
    /// nobody's to take, or it would not be all that the caller gets.
    fn begin_leases(&self, batch: &BatchLockRequest<'_>, grants: &[Grant]) {
        grants.iter().for_each(|grant| self.core.start_lease(*grant, batch.ttl));
    }

    /// Whether the exclusive hold with this [`fence`](LockGuard::fence) still has the key. `false` after it was released,
    /// downgraded, or taken away.
    ///
    /// ```
    /// # fn main() -> Result<(), keylatch::LockError> {
    /// let locks = keylatch::FastObjectLockManager::new();
    /// let first = locks.acquire_write_lock_blocking("b", "o", "writer")?;
    /// let fence = first.fence();
    /// assert!(locks.is_current(("b", "o"), fence)?);
    /// drop(first);
    /// assert!(!locks.is_current(("b", "o"), fence)?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`LockError::Forked`].
    pub fn is_current<'k>(&self, key: impl Into<KeyRef<'k>>, fence: u64) -> Result<bool, LockError> {
        self.core.is_current(&LockRequest::write(key), fence)
    }

    /// Whether anybody holds the key at this moment, or a lock delay keeps it. It may be otherwise when this returns: to
    /// lock, ask for the lock.
    ///
    /// # Errors
    /// [`LockError::Forked`].
    pub fn is_locked<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<bool, LockError> {
        self.core.is_locked(&LockRequest::read(key))
    }

    /// Releases what an owner of this name holds of a key by grants, for callers that keep no numbers, and returns how many
    /// holds that were. A hold that has a guard stays: its guard releases it. Looks through all holds, so
    /// [`release`](Self::release) is much faster.
    ///
    /// # Errors
    /// [`LockError::Forked`].
    ///
    /// ```
    /// use keylatch::{FastObjectLockManager, LockRequest};
    /// # fn main() -> Result<(), keylatch::LockError> {
    /// let locks = FastObjectLockManager::new();
    /// let _number = locks.lock(LockRequest::write(("photos", "cat.jpg")).owner("node-7")).grant_now()?;
    /// assert_eq!(locks.release_key(("photos", "cat.jpg"), "node-8")?, 0);
    /// assert_eq!(locks.release_key(("photos", "cat.jpg"), "node-7")?, 1);
    /// assert!(!locks.is_locked(("photos", "cat.jpg"))?);
    /// # Ok(()) }
    /// ```
    pub fn release_key<'k>(&self, key: impl Into<KeyRef<'k>>, owner: &str) -> Result<usize, LockError> {
        if self.core.is_forked() {
            return Err(LockError::Forked);
        }
        let holds = self.holders(&Filter::default().key(key.into()).owner(owner));
        Ok(holds.into_iter().filter(|hold| !hold.kept_shut && self.release(hold.grant).is_ok()).count())
    }

    /// A queue for the results of requests that have to wait; see [`Lock::with_queue`].
    ///
    /// # Errors
    /// What the system says when it has no descriptor left.
    pub fn completion_queue(&self) -> std::io::Result<CompletionQueue> {
        CompletionQueue::new(self.clone())
    }

    /// Ends the wait of a request that was made with a callback or a queue; its result arrives as
    /// [`LockError::Cancelled`]. `false` if it has ended already: then its result has arrived or is about to.
    pub fn cancel(&self, ticket: Ticket) -> bool {
        !self.core.is_forked() && self.core.cancel(ticket)
    }

    /// What happened so far, in figures. Takes the mutex of each shard for a moment, one after the other.
    #[must_use]
    pub fn get_metrics(&self) -> LockMetrics {
        self.core.metrics()
    }

    /// Returns the figures with the keys that most requests wait for, at most [`HOTTEST_KEYS`](crate::HOTTEST_KEYS).
    ///
    /// This names keys, and [`to_openmetrics`](LockMetrics::to_openmetrics) makes labels of them: a time series each.
    #[must_use]
    pub fn get_metrics_with_hottest_keys(&self) -> LockMetrics {
        let hottest_keys = self.top(crate::HOTTEST_KEYS, crate::TopBy::Waiters);
        LockMetrics { hottest_keys, ..self.get_metrics() }
    }

    /// The latest deadlocks among sessions that were broken, at most 64 of them, oldest first.
    ///
    /// ```
    /// use keylatch::{FastObjectLockManager, LockConfig, LockError, LockRequest};
    /// use std::time::Duration;
    /// # fn main() -> Result<(), LockError> {
    /// let config = LockConfig { deadlock_delay: Some(Duration::ZERO), ..LockConfig::default() };
    /// let locks = FastObjectLockManager::with_config(config)?;
    /// let (alice, bob) = (locks.session("alice"), locks.session("bob"));
    /// let _a = locks.lock(LockRequest::write(("b", "x")).owner(&alice)).blocking()?;
    /// let b = locks.lock(LockRequest::write(("b", "y")).owner(&bob)).blocking()?;
    /// std::thread::scope(|scope| {
    ///     let alice_waits = scope.spawn(|| locks.lock(LockRequest::write(("b", "y")).owner(&alice)).blocking().map(drop));
    ///     while locks.get_metrics().shard_metrics.waiters == 0 {
    ///         std::thread::yield_now();
    ///     }
    ///     let refused = locks.lock(LockRequest::write(("b", "x")).owner(&bob)).blocking();
    ///     let Err(LockError::Deadlock { cycle, .. }) = refused else { panic!("nobody could ever go on") };
    ///     assert_eq!((&*cycle[0].session, &*cycle[1].session), ("bob", "alice"));
    ///     drop(b); // bob gives way, and alice goes on
    ///     alice_waits.join().expect("no panic")
    /// })?;
    /// assert_eq!(locks.recent_deadlocks().len(), 1);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn recent_deadlocks(&self) -> Vec<Cycle> {
        self.core.recent_deadlocks()
    }

    /// How long a request waits that names no timeout: what was learned, or what is set; `None` for as long as it takes.
    #[must_use]
    pub fn default_timeout(&self) -> Option<Duration> {
        self.core.default_timeout()
    }

    /// What the [`AdaptiveTimeout`](crate::AdaptiveTimeout) has learned so far; `None` if there is none.
    ///
    /// ```
    /// use keylatch::{AdaptiveTimeout, FastObjectLockManager, LockConfig};
    /// # fn main() -> Result<(), keylatch::LockError> {
    /// let config = LockConfig { adaptive: Some(AdaptiveTimeout::default()), ..LockConfig::default() };
    /// let locks = FastObjectLockManager::with_config(config)?;
    /// let state = locks.adaptive_timeout().expect("it was asked for");
    /// println!("{:?} after {} waits", state.timeout, state.samples);
    /// assert_eq!(locks.default_timeout(), Some(state.timeout));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn adaptive_timeout(&self) -> Option<AdaptiveState> {
        self.core.adaptive_state()
    }

    /// Whether the manager is doing well, and what is wrong if not.
    #[must_use]
    pub fn health(&self) -> Health {
        self.get_metrics().health()
    }

    /// Tells what is worth telling from now on: long waits and holds, timeouts with the holders at that moment, deadlocks,
    /// and locks that were taken away; see [`Events`].
    #[must_use = "events are told for as long as the subscription is kept"]
    pub fn subscribe(&self, options: EventOptions) -> Events {
        Events::new(&self.core, &options)
    }

    /// Hands events on to [`tracing`](https://docs.rs/tracing), with the target `keylatch`: long waits and holds,
    /// timeouts, expiries and locks released by force as warnings, deadlocks as errors. They are formed on the thread
    /// that they happen on.
    #[cfg(feature = "tracing")]
    #[must_use = "events are handed on for as long as the subscription is kept"]
    pub fn trace_events(&self, options: EventOptions) -> crate::TracedEvents {
        crate::TracedEvents::new(&self.core, &options)
    }

    /// Closes the manager: requests that wait and those to come fail with [`LockError::Closed`]; what is held stays
    /// held until it is released. The last handle to go does this too.
    pub fn close(&self) {
        self.core.close();
    }

    /// Drops what [`on_lost`](Self::on_lost) was given and has not called: where grants end with their manager, though a queue
    /// of it stays.
    #[doc(hidden)]
    pub fn forget_listeners(&self) {
        self.core.losses.forget_all();
    }

    /// Waits until the threads of a closed manager have ended, once all its callbacks were called: a plug-in that contains
    /// the library may be unloaded then.
    #[doc(hidden)]
    pub fn join_threads(&self) {
        self.core.join_threads();
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }
}

/// The request for one key of a batch that waits.
pub(crate) fn one_of<'k>(
    batch: &BatchLockRequest<'k>,
    key: KeyRef<'k>,
    mode: Mode,
    deadline: Option<Instant>,
) -> LockRequest<'k> {
    let request = LockRequest::new(key, mode).owner(batch.owner).priority(batch.priority);
    deadline.map_or(request.no_timeout(), |at| request.deadline(at))
}

/// Takes in the answer for one key of a batch; an error is the whole batch's.
fn add_to(
    gathered: &mut UnfinishedBatch<'_>,
    key: KeyRef<'_>,
    answer: Result<Grant, LockError>,
    batch_mode: BatchMode,
) -> Result<(), LockError> {
    match answer {
        Ok(grant) => gathered.push(grant),
        Err(cause @ (LockError::Closed | LockError::Forked)) => return Err(cause),
        Err(cause) if batch_mode == BatchMode::BestEffort => gathered.miss(key.to_owned(), cause),
        Err(cause) => return Err(LockError::Batch { key: key.to_owned(), cause: Box::new(cause) }),
    }
    Ok(())
}
