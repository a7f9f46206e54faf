//! The manager: making it, its settings and its metrics. The calls that lock are in `manager/verbs.rs`.

mod inspection;
mod verbs;
mod weak;

use crate::config::LockConfig;
use crate::engine::Core;
use crate::error::LockError;
use crate::hold::Owner;
use crate::inspect::{Cycle, Filter};
use crate::key::KeyRef;
use crate::observe::{AdaptiveState, Health, LockMetrics};
use crate::request::LockRequest;
use crate::tier::Tier;
use crate::wait::Ticket;
use std::sync::Arc;
use std::time::Duration;

/// Who may read or write this bucket, object, version now.
///
/// A manager is a handle: clones share everything, and dropping the last one closes it. It can be used from any thread and
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
    /// Closes the manager with the last handle.
    closer: Arc<CloseOnDrop>,
}

#[derive(Debug)]
struct CloseOnDrop(Arc<Core>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Default for FastObjectLockManager {
    fn default() -> Self {
        Self::new()
    }
}

impl FastObjectLockManager {
    /// Makes a manager with the default settings.
    ///
    /// # Panics
    /// If the process may not even reserve address space for a small table. Where address space is limited, fewer locks
    /// than the default can be had; [`config`](Self::config) tells how many.
    #[must_use]
    pub fn new() -> Self {
        Self::fitting(LockConfig::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`with_config`](Self::with_config), with as many locks as there is room for.
    ///
    /// For settings with a default `max_locks`: with less address space there is room for fewer locks.
    /// [`config`](Self::config) returns for how many.
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
                // They are valid: what is reserved last found no room, perhaps.
                Err(LockError::InvalidConfig { setting: "max_locks" | "max_waiters", .. })
                    if config.max_locks > 4096 =>
                {
                    config.max_locks /= 4;
                }
                answer => return answer,
            }
        }
    }

    /// Makes a manager with these settings.
    ///
    /// # Errors
    /// [`LockError::InvalidConfig`] names the setting and a valid value.
    pub fn with_config(config: LockConfig) -> Result<Self, LockError> {
        let core = Core::shared(config)?;
        Ok(Self { closer: Arc::new(CloseOnDrop(Arc::clone(&core))), core })
    }

    /// Makes a manager that shares its keys with other processes through a tier.
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

    /// Returns the settings.
    #[must_use]
    pub fn config(&self) -> &LockConfig {
        &self.core.config
    }

    /// Makes an owner by name, to be used again without a look-up.
    ///
    /// It is a label: errors and listings show it.
    ///
    /// At most 65,536 names are kept; past that, requests go on without a name.
    #[must_use]
    pub fn owner(&self, name: &str) -> Owner {
        Owner(self.core.keep_owner(name))
    }

    /// As [`owner`](Self::owner), with its place in the program, for listings.
    #[must_use]
    pub fn owner_with_source(&self, name: &str, source: &'static str) -> Owner {
        Owner(self.core.keep_owner_with_source(name, source))
    }

    /// Returns whether the exclusive hold with this fence still has the key.
    ///
    /// `false` after it was released, downgraded or revoked. The fence is [`LockGuard::fence`](crate::LockGuard::fence).
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

    /// Returns whether the key is held at this moment, or a lock delay keeps it.
    ///
    /// That may have changed when this returns: a caller that wants the lock asks for it.
    ///
    /// # Errors
    /// [`LockError::Forked`].
    pub fn is_locked<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<bool, LockError> {
        self.core.is_locked(&LockRequest::read(key))
    }

    /// Releases what an owner of this name holds of a key by grants.
    ///
    /// For callers that keep no grants. Returns how many holds it released. A hold with a guard stays: the guard releases
    /// it. This searches all holds, so [`release`](Self::release) is much faster.
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
        Ok(holds.into_iter().filter(|hold| !hold.in_lock_delay && self.release(hold.grant).is_ok()).count())
    }

    /// Ends the wait of a request that was made with a callback or a queue.
    ///
    /// Its result arrives as [`LockError::Cancelled`]. `false` if it has ended already: then its result has arrived or
    /// is about to.
    pub fn cancel(&self, ticket: Ticket) -> bool {
        !self.core.is_forked() && self.core.cancel(ticket)
    }

    /// Returns counts and times of what happened so far.
    ///
    /// Takes the mutex of each shard for a moment, one after the other.
    #[must_use]
    pub fn get_metrics(&self) -> LockMetrics {
        self.core.metrics()
    }

    /// Returns the figures with the [`HOTTEST_KEYS`](crate::HOTTEST_KEYS) at most.
    ///
    /// Those are the keys that most requests wait for.
    ///
    /// This names keys, and [`to_openmetrics`](LockMetrics::to_openmetrics) makes labels of them: a time series each.
    #[must_use]
    pub fn get_metrics_with_hottest_keys(&self) -> LockMetrics {
        let hottest_keys = self.top(crate::HOTTEST_KEYS, crate::TopBy::Waiters);
        LockMetrics { hottest_keys, ..self.get_metrics() }
    }

    /// Returns the latest broken deadlocks among sessions, at most 64, oldest first.
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
    ///     let Err(LockError::Deadlock { cycle, .. }) = refused else { panic!("no session could ever go on") };
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

    /// Returns how long a request waits that names no timeout; `None` for no limit.
    ///
    /// The timeout is learned, or a setting.
    #[must_use]
    pub fn default_timeout(&self) -> Option<Duration> {
        self.core.default_timeout()
    }

    /// Returns the state of the learned timeout; `None` if the manager learns none.
    ///
    /// See [`AdaptiveTimeout`](crate::AdaptiveTimeout).
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

    /// Returns whether the manager is doing well, and what is wrong if not.
    #[must_use]
    pub fn health(&self) -> Health {
        self.get_metrics().health()
    }

    /// Closes the manager: waiting and later requests fail.
    ///
    /// They fail with [`LockError::Closed`]; what is held stays held until it is released. Dropping the last handle closes
    /// the manager, too.
    pub fn close(&self) {
        self.core.close();
    }

    /// Drops the listeners of [`on_lost`](Self::on_lost) that were not called.
    ///
    /// For grants that end with their manager, though a queue of it stays.
    #[doc(hidden)]
    pub fn forget_listeners(&self) {
        self.core.losses.forget_all();
    }

    /// Waits until the threads of a closed manager have ended.
    ///
    /// All its callbacks were called then: a plug-in that contains the library may be unloaded.
    #[doc(hidden)]
    pub fn join_threads(&self) {
        self.core.join_threads();
    }

    /// Returns whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }
}
