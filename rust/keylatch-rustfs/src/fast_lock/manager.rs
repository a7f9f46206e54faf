//! The manager.

use super::guard::FastLockGuard;
use super::limits::DEFAULT_SHARD_COUNT;
use super::locks::Locks;
use super::manager_trait::forwards_lock_manager;
use super::metrics::{AggregatedMetrics, GlobalMetrics, MetricsSnapshot};
use super::shard::{LockShard, pool_stats};
use super::types::{
    BatchLockRequest, BatchLockResult, LockConfig, LockMode, LockPriority, LockResult, ObjectKey, ObjectLockInfo,
    ObjectLockRequest,
};
use crate::error::LockError;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

/// Locks objects: any number of readers, or one writer, a key.
///
/// Clones are handles to the same locks.
///
/// ```
/// use keylatch_rustfs::fast_lock::{FastObjectLockManager, LockResult, ObjectKey};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), LockResult> {
/// let locks = FastObjectLockManager::new();
/// let guard = locks.acquire_write_lock(ObjectKey::new("photos", "cat.jpg"), "node-7").await?;
/// assert_eq!(locks.get_lock_info(guard.key()).unwrap().owner.as_ref(), "node-7");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct FastObjectLockManager {
    /// Views of the locks by the hash of their keys.
    pub shards: Vec<Arc<LockShard>>,
    locks: Arc<Locks>,
    metrics: Arc<GlobalMetrics>,
    config: LockConfig,
}

impl FastObjectLockManager {
    /// Makes a manager with the default settings.
    ///
    /// # Panics
    /// If the process may not even reserve address space for a small table.
    #[must_use]
    pub fn new() -> Self {
        Self::with_config(LockConfig::default())
    }

    /// Makes a manager, with the default settings where these cannot be.
    ///
    /// The log has a warning then.
    ///
    /// # Panics
    /// If the process may not even reserve address space for a small table.
    #[must_use]
    pub fn with_config(config: LockConfig) -> Self {
        Self::try_with_config(config).unwrap_or_else(|error| {
            tracing::warn!("{error}; the lock manager has the default settings");
            Self::build(LockConfig::default())
        })
    }

    /// Makes a manager.
    ///
    /// # Errors
    /// [`LockError::Configuration`] for a number of shards that is no power of two.
    ///
    /// # Panics
    /// If the process may not even reserve address space for a small table.
    pub fn try_with_config(config: LockConfig) -> crate::Result<Self> {
        if !config.shard_count.is_power_of_two() {
            let (count, usual) = (config.shard_count, DEFAULT_SHARD_COUNT);
            return Err(LockError::configuration(format!(
                "shard count must be a non-zero power of 2 such as {usual}, got {count}"
            )));
        }
        Ok(Self::build(config))
    }

    fn build(config: LockConfig) -> Self {
        let count = config.shard_count;
        let locks = Arc::new(Locks::new(count));
        let shards = (0..count).map(|id| Arc::new(LockShard::of(&locks, id, count - 1))).collect();
        Self { shards, locks, metrics: Arc::new(GlobalMetrics::new(count)), config }
    }

    /// Returns the manager behind this face.
    ///
    /// It has `try`, blocking calls, leases, chains of waiters, events and more.
    #[must_use]
    pub fn keylatch(&self) -> &keylatch::FastObjectLockManager {
        &self.locks.manager
    }

    /// Waits for a lock.
    ///
    /// # Errors
    /// [`LockResult::Timeout`].
    pub async fn acquire_lock(&self, request: ObjectLockRequest) -> Result<FastLockGuard, LockResult> {
        self.locks.acquire(request).await
    }

    /// Waits to share a key.
    ///
    /// # Errors
    /// [`LockResult::Timeout`].
    pub async fn acquire_read_lock(
        &self,
        key: ObjectKey,
        owner: impl Into<Arc<str>>,
    ) -> Result<FastLockGuard, LockResult> {
        self.locks.acquire(self.usual(key, LockMode::Shared, owner.into())).await
    }

    /// Waits to hold a key alone.
    ///
    /// # Errors
    /// [`LockResult::Timeout`].
    pub async fn acquire_write_lock(
        &self,
        key: ObjectKey,
        owner: impl Into<Arc<str>>,
    ) -> Result<FastLockGuard, LockResult> {
        self.locks.acquire(self.usual(key, LockMode::Exclusive, owner.into())).await
    }

    /// Waits to share a key, ahead of normal requests.
    ///
    /// # Errors
    /// [`LockResult::Timeout`].
    pub async fn acquire_high_priority_read_lock(
        &self,
        key: ObjectKey,
        owner: impl Into<Arc<str>>,
    ) -> Result<FastLockGuard, LockResult> {
        let request = self.usual(key, LockMode::Shared, owner.into());
        self.locks.acquire(request.with_priority(LockPriority::High)).await
    }

    /// Waits to hold a key alone, ahead of normal requests.
    ///
    /// # Errors
    /// [`LockResult::Timeout`].
    pub async fn acquire_high_priority_write_lock(
        &self,
        key: ObjectKey,
        owner: impl Into<Arc<str>>,
    ) -> Result<FastLockGuard, LockResult> {
        let request = self.usual(key, LockMode::Exclusive, owner.into());
        self.locks.acquire(request.with_priority(LockPriority::High)).await
    }

    /// Waits to share a key, ahead of all others.
    ///
    /// # Errors
    /// [`LockResult::Timeout`].
    pub async fn acquire_critical_read_lock(
        &self,
        key: ObjectKey,
        owner: impl Into<Arc<str>>,
    ) -> Result<FastLockGuard, LockResult> {
        let request = self.usual(key, LockMode::Shared, owner.into());
        self.locks.acquire(request.with_priority(LockPriority::Critical)).await
    }

    /// Waits to hold a key alone, ahead of all others.
    ///
    /// # Errors
    /// [`LockResult::Timeout`].
    pub async fn acquire_critical_write_lock(
        &self,
        key: ObjectKey,
        owner: impl Into<Arc<str>>,
    ) -> Result<FastLockGuard, LockResult> {
        let request = self.usual(key, LockMode::Exclusive, owner.into());
        self.locks.acquire(request.with_priority(LockPriority::Critical)).await
    }

    /// Waits for several locks, in the order of their keys.
    ///
    /// So two batches never wait for each other. A key that is named twice is taken once, exclusively if either asks for that.
    pub async fn acquire_locks_batch(&self, batch_request: BatchLockRequest) -> BatchLockResult {
        let BatchLockRequest { mut requests, all_or_nothing, .. } = batch_request;
        requests.sort_by(|a, b| (&a.key, Reverse(is_write(a))).cmp(&(&b.key, Reverse(is_write(b)))));
        requests.dedup_by(|later, earlier| later.key == earlier.key);
        let mut failed_locks = Vec::new();
        let mut guards = Vec::with_capacity(requests.len());
        for request in requests {
            let key = request.key.clone();
            match self.locks.acquire(request).await {
                Ok(guard) => guards.push(guard),
                Err(why) => failed_locks.push((key, why)),
            }
            if all_or_nothing && !failed_locks.is_empty() {
                guards.clear();
                break;
            }
        }
        let successful_locks = guards.iter().map(|guard| guard.key().clone()).collect();
        BatchLockResult { successful_locks, all_acquired: failed_locks.is_empty(), failed_locks, guards }
    }

    /// Describes who holds a key: the writer, or the reader that came first.
    #[must_use]
    pub fn get_lock_info(&self, key: &ObjectKey) -> Option<ObjectLockInfo> {
        self.locks.first_holder(key)
    }

    /// Lists all locks: each owner of a key once.
    #[must_use]
    pub fn list_locks(&self) -> Vec<ObjectLockInfo> {
        self.list_locks_with_holder_generations().into_iter().map(|(info, ..)| info).collect()
    }

    /// Lists all locks, each with how many guards its owner has.
    #[must_use]
    pub fn list_locks_with_holder_counts(&self) -> Vec<(ObjectLockInfo, u32)> {
        self.list_locks_with_holder_generations().into_iter().map(|(info, count, _)| (info, count)).collect()
    }

    /// Lists all locks, each with the number and the numbers of its guards.
    #[must_use]
    pub fn list_locks_with_holder_generations(&self) -> Vec<(ObjectLockInfo, u32, Option<Vec<u64>>)> {
        let mut places = HashMap::new();
        let mut lists: Vec<(ObjectLockInfo, Vec<u64>)> = Vec::new();
        for listed in self.locks.list() {
            let name = (listed.info.key.clone(), Arc::clone(&listed.info.owner));
            let place = *places.entry(name).or_insert(lists.len());
            match lists.get_mut(place) {
                None => lists.push((listed.info, vec![listed.guard_id])),
                Some((first, ids)) => {
                    if listed.info.acquired_at < first.acquired_at {
                        *first = listed.info;
                    }
                    ids.push(listed.guard_id);
                }
            }
        }
        let counted = lists.into_iter().map(|(info, mut ids)| {
            ids.sort_unstable();
            (info, u32::try_from(ids.len()).unwrap_or(u32::MAX), Some(ids))
        });
        counted.collect()
    }

    /// Takes a key away from all who hold it, and returns from how many owners.
    ///
    /// The guards that lose it release nothing later, and the next in line gets the lock.
    pub fn force_unlock(&self, key: &ObjectKey) -> usize {
        self.locks.force_unlock(key)
    }

    /// Returns the figures.
    #[must_use]
    pub fn get_metrics(&self) -> AggregatedMetrics {
        let all = self.locks.manager.get_metrics().shard_metrics;
        self.metrics.aggregate_shard_metrics(&[MetricsSnapshot::from(&all)])
    }

    /// Returns how many keys are held. It goes through all of them.
    #[must_use]
    pub fn total_lock_count(&self) -> usize {
        let mut keys: Vec<_> = self.locks.list().into_iter().map(|listed| listed.info.key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    }

    /// Returns how many locks are held and how many requests wait.
    ///
    /// Each reader counts. While locks come and go, the first may be off by as many as there are threads.
    #[must_use]
    pub fn current_lock_counts(&self) -> (u64, u64) {
        let all = self.locks.manager.get_metrics().shard_metrics;
        (all.holders, all.waiters)
    }

    /// Returns warm hits, misses, releases and keys in the table of each shard.
    #[must_use]
    pub fn get_pool_stats(&self) -> Vec<(u64, u64, u64, usize)> {
        self.locks.manager.get_metrics().shards.iter().map(pool_stats).collect()
    }

    /// Counts a cleanup, and removes nothing: idle keys are not kept.
    pub async fn cleanup_expired(&self) -> usize {
        self.metrics.record_cleanup_run(0);
        0
    }

    /// Counts a cleanup, and removes nothing: idle keys are not kept.
    pub async fn cleanup_expired_traditional(&self) -> usize {
        self.cleanup_expired().await
    }

    /// Counts a last cleanup. Locks that are held stay, and more can be taken.
    pub async fn shutdown(&self) {
        self.cleanup_expired().await;
    }

    /// Returns the view of the locks to which a key belongs.
    #[must_use]
    pub fn get_shard(&self, key: &ObjectKey) -> &Arc<LockShard> {
        &self.shards[key.shard_index(self.shards.len() - 1)]
    }

    /// Returns a request as the settings have it.
    fn usual(&self, key: ObjectKey, mode: LockMode, owner: Arc<str>) -> ObjectLockRequest {
        ObjectLockRequest {
            key,
            mode,
            owner,
            acquire_timeout: self.config.default_acquire_timeout,
            lock_timeout: self.config.default_lock_timeout,
            priority: LockPriority::Normal,
        }
    }
}

fn is_write(request: &ObjectLockRequest) -> bool {
    request.mode == LockMode::Exclusive
}

impl Default for FastObjectLockManager {
    fn default() -> Self {
        Self::new()
    }
}

forwards_lock_manager!(FastObjectLockManager, disabled: false);
