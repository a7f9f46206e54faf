//! The face as it was first designed: verbs that take bucket, object and owner apart.
//!
//! The first design of `FastObjectLockManager` had `acquire_write_lock(bucket, object, owner)`; `rustfs-lock` 1.0 takes an
//! [`ObjectKey`] and the owner. A method has one number of parameters, so that code written for the first design uses
//! the names of this module. All else is the same: the manager derefs to the one of [`fast_lock`].
//!
//! ```
//! use keylatch_rustfs::early::{BatchLockRequest, FastObjectLockManager, LockResult};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), LockResult> {
//! let manager = FastObjectLockManager::new();
//! let owner = "node-7".to_string();
//! let _guard = manager.acquire_write_lock("photos", "cat.jpg", &owner).await?;
//! let batch = BatchLockRequest::new(&owner).add_write_lock("photos", "dog.jpg").add_read_lock("photos", "bird.jpg");
//! assert!(manager.acquire_locks_batch(batch).await.all_acquired);
//! # Ok(()) }
//! ```

use crate::fast_lock;
use std::ops::Deref;
use std::sync::Arc;

pub use crate::fast_lock::metrics::{AggregatedMetrics, MetricsSnapshot};
pub use crate::fast_lock::shard::LockShard;
pub use crate::fast_lock::{
    BatchLockResult, FastLockGuard, LockConfig, LockMode, LockPriority, LockResult, ObjectKey, ObjectLockInfo,
    ObjectLockRequest,
};

/// Locks objects: any number of readers, or one writer, a key.
#[derive(Debug, Clone, Default)]
pub struct FastObjectLockManager {
    manager: fast_lock::FastObjectLockManager,
}

impl FastObjectLockManager {
    /// Makes a manager with the default settings.
    ///
    /// # Panics
    /// If the process may not even reserve address space for a small table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a manager, with the default settings where these cannot be.
    ///
    /// # Panics
    /// If the process may not even reserve address space for a small table.
    #[must_use]
    pub fn with_config(config: LockConfig) -> Self {
        Self { manager: fast_lock::FastObjectLockManager::with_config(config) }
    }

    /// Waits to share an object.
    ///
    /// # Errors
    /// [`LockResult::Timeout`].
    pub async fn acquire_read_lock(
        &self,
        bucket: impl AsRef<str>,
        object: impl AsRef<str>,
        owner: impl AsRef<str>,
    ) -> Result<FastLockGuard, LockResult> {
        let key = ObjectKey::new(bucket.as_ref(), object.as_ref());
        self.manager.acquire_read_lock(key, owner.as_ref()).await
    }

    /// Waits to hold an object alone.
    ///
    /// # Errors
    /// [`LockResult::Timeout`].
    pub async fn acquire_write_lock(
        &self,
        bucket: impl AsRef<str>,
        object: impl AsRef<str>,
        owner: impl AsRef<str>,
    ) -> Result<FastLockGuard, LockResult> {
        let key = ObjectKey::new(bucket.as_ref(), object.as_ref());
        self.manager.acquire_write_lock(key, owner.as_ref()).await
    }

    /// Waits to share one version of an object.
    ///
    /// # Errors
    /// [`LockResult::Timeout`].
    pub async fn acquire_read_lock_versioned(
        &self,
        bucket: impl AsRef<str>,
        object: impl AsRef<str>,
        version: impl AsRef<str>,
        owner: impl AsRef<str>,
    ) -> Result<FastLockGuard, LockResult> {
        let key = ObjectKey::with_version(bucket.as_ref(), object.as_ref(), version.as_ref());
        self.manager.acquire_read_lock(key, owner.as_ref()).await
    }

    /// Waits to hold one version of an object alone.
    ///
    /// # Errors
    /// [`LockResult::Timeout`].
    pub async fn acquire_write_lock_versioned(
        &self,
        bucket: impl AsRef<str>,
        object: impl AsRef<str>,
        version: impl AsRef<str>,
        owner: impl AsRef<str>,
    ) -> Result<FastLockGuard, LockResult> {
        let key = ObjectKey::with_version(bucket.as_ref(), object.as_ref(), version.as_ref());
        self.manager.acquire_write_lock(key, owner.as_ref()).await
    }

    /// Waits for several locks.
    ///
    /// See [`acquire_locks_batch`](fast_lock::FastObjectLockManager::acquire_locks_batch).
    pub async fn acquire_locks_batch(&self, batch: impl Into<fast_lock::BatchLockRequest>) -> BatchLockResult {
        self.manager.acquire_locks_batch(batch.into()).await
    }
}

impl Deref for FastObjectLockManager {
    type Target = fast_lock::FastObjectLockManager;

    fn deref(&self) -> &Self::Target {
        &self.manager
    }
}

/// Asks for several locks together.
#[derive(Debug)]
#[must_use = "a request does nothing until it is given to a manager"]
pub struct BatchLockRequest {
    batch: fast_lock::BatchLockRequest,
}

impl BatchLockRequest {
    /// Begins an empty batch.
    pub fn new(owner: impl AsRef<str>) -> Self {
        Self { batch: fast_lock::BatchLockRequest::new(owner.as_ref()) }
    }

    /// Adds an object to share.
    pub fn add_read_lock(self, bucket: impl AsRef<str>, object: impl AsRef<str>) -> Self {
        Self { batch: self.batch.add_read_lock(ObjectKey::new(bucket.as_ref(), object.as_ref())) }
    }

    /// Adds an object to hold alone.
    pub fn add_write_lock(self, bucket: impl AsRef<str>, object: impl AsRef<str>) -> Self {
        Self { batch: self.batch.add_write_lock(ObjectKey::new(bucket.as_ref(), object.as_ref())) }
    }

    /// Sets whether a lock that cannot be had makes the batch give up all others.
    pub fn with_all_or_nothing(self, enable: bool) -> Self {
        Self { batch: self.batch.with_all_or_nothing(enable) }
    }
}

impl From<BatchLockRequest> for fast_lock::BatchLockRequest {
    fn from(request: BatchLockRequest) -> Self {
        request.batch
    }
}

impl From<Vec<ObjectLockRequest>> for fast_lock::BatchLockRequest {
    fn from(requests: Vec<ObjectLockRequest>) -> Self {
        let owner = requests.first().map_or_else(Arc::default, |request| Arc::clone(&request.owner));
        Self { requests, ..Self::new(owner) }
    }
}
