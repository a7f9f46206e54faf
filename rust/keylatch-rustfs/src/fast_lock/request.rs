//! What a caller asks for, and the settings of a manager.

use super::key::ObjectKey;
use super::limits::{CLEANUP_INTERVAL, DEFAULT_ACQUIRE_TIMEOUT, DEFAULT_LOCK_TIMEOUT, DEFAULT_SHARD_COUNT};
use keylatch::Mode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LockMode {
    /// Together with other readers.
    Shared,
    /// Alone.
    Exclusive,
}

impl From<LockMode> for Mode {
    fn from(mode: LockMode) -> Self {
        match mode {
            LockMode::Shared => Self::Shared,
            LockMode::Exclusive => Self::Exclusive,
        }
    }
}

impl From<Mode> for LockMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Shared => Self::Shared,
            Mode::Exclusive => Self::Exclusive,
        }
    }
}

/// Orders requests that wait for one lock: higher priorities go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub enum LockPriority {
    /// After all others.
    Low = 1,
    /// What a request has that says nothing about it.
    #[default]
    Normal = 2,
    /// Ahead of normal ones.
    High = 3,
    /// Ahead of all others.
    Critical = 4,
}

/// Asks for one lock.
#[derive(Debug, Clone)]
pub struct ObjectLockRequest {
    /// What to lock.
    pub key: ObjectKey,
    /// How.
    pub mode: LockMode,
    /// The label that listings and errors show.
    pub owner: Arc<str>,
    /// How long to wait, at most [`MAX_ACQUIRE_TIMEOUT`](super::MAX_ACQUIRE_TIMEOUT).
    pub acquire_timeout: Duration,
    /// When listings show the lock as expired; it is not revoked then.
    pub lock_timeout: Duration,
    /// The place in line.
    pub priority: LockPriority,
}

impl ObjectLockRequest {
    /// Asks to share a key.
    pub fn new_read(key: ObjectKey, owner: impl Into<Arc<str>>) -> Self {
        Self::new(key, LockMode::Shared, owner.into())
    }

    /// Asks to hold a key alone.
    pub fn new_write(key: ObjectKey, owner: impl Into<Arc<str>>) -> Self {
        Self::new(key, LockMode::Exclusive, owner.into())
    }

    fn new(key: ObjectKey, mode: LockMode, owner: Arc<str>) -> Self {
        let (acquire_timeout, lock_timeout) = (DEFAULT_ACQUIRE_TIMEOUT, DEFAULT_LOCK_TIMEOUT);
        Self { key, mode, owner, acquire_timeout, lock_timeout, priority: LockPriority::Normal }
    }

    /// Asks for one version of the object.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.key.version = Some(version.into());
        self
    }

    /// Waits for at most this long.
    #[must_use]
    pub fn with_acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// Sets when listings show the lock as expired.
    #[must_use]
    pub fn with_lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Sets the place in line.
    #[must_use]
    pub fn with_priority(mut self, priority: LockPriority) -> Self {
        self.priority = priority;
        self
    }
}

/// Asks for several locks together.
#[derive(Debug)]
pub struct BatchLockRequest {
    /// Each lock.
    pub requests: Vec<ObjectLockRequest>,
    /// The label of those that are added.
    pub owner: Arc<str>,
    /// Whether a lock that cannot be had makes the batch give up all others.
    pub all_or_nothing: bool,
}

impl BatchLockRequest {
    /// Begins an empty batch.
    pub fn new(owner: impl Into<Arc<str>>) -> Self {
        Self { requests: Vec::new(), owner: owner.into(), all_or_nothing: true }
    }

    /// Adds a key to share.
    #[must_use]
    pub fn add_read_lock(mut self, key: ObjectKey) -> Self {
        self.requests.push(ObjectLockRequest::new_read(key, Arc::clone(&self.owner)));
        self
    }

    /// Adds a key to hold alone.
    #[must_use]
    pub fn add_write_lock(mut self, key: ObjectKey) -> Self {
        self.requests.push(ObjectLockRequest::new_write(key, Arc::clone(&self.owner)));
        self
    }

    /// Sets whether a lock that cannot be had makes the batch give up all others.
    #[must_use]
    pub fn with_all_or_nothing(mut self, enable: bool) -> Self {
        self.all_or_nothing = enable;
        self
    }
}

/// Says why a lock was not had.
#[derive(Debug)]
pub enum LockResult {
    /// It was had; never an error.
    Acquired,
    /// The time was over, or the lock cannot be had at all: the log says which.
    Timeout,
    /// Another owner holds it. No manager of this crate answers so.
    Conflict {
        /// The other owner.
        current_owner: Arc<str>,
        /// How it holds the lock.
        current_mode: LockMode,
    },
}

/// The settings of a manager.
#[derive(Debug, Clone)]
pub struct LockConfig {
    /// Parts of the table that change independently: a power of two.
    pub shard_count: usize,
    /// The `lock_timeout` of locks that the verbs without a request take.
    pub default_lock_timeout: Duration,
    /// How long the verbs wait that take no request.
    pub default_acquire_timeout: Duration,
    /// Kept for settings: keylatch cleans up as locks are released.
    pub cleanup_interval: Duration,
    /// Kept for settings: idle keys take no memory.
    pub max_idle_time: Duration,
    /// Kept for settings: figures are always counted.
    pub enable_metrics: bool,
}

impl Default for LockConfig {
    fn default() -> Self {
        Self {
            shard_count: DEFAULT_SHARD_COUNT,
            default_lock_timeout: DEFAULT_LOCK_TIMEOUT,
            default_acquire_timeout: DEFAULT_ACQUIRE_TIMEOUT,
            cleanup_interval: CLEANUP_INTERVAL,
            max_idle_time: Duration::from_secs(300),
            enable_metrics: true,
        }
    }
}

/// Describes a lock that is held.
#[derive(Debug, Clone)]
pub struct ObjectLockInfo {
    /// What is held.
    pub key: ObjectKey,
    /// How.
    pub mode: LockMode,
    /// By whom.
    pub owner: Arc<str>,
    /// Since when.
    pub acquired_at: SystemTime,
    /// When its `lock_timeout` ends; it is held beyond that.
    pub expires_at: SystemTime,
    /// The priority of its request.
    pub priority: LockPriority,
}
