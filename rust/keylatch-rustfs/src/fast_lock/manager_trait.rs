//! What enabled and disabled managers have in common.

use super::guard::FastLockGuard;
use super::metrics::AggregatedMetrics;
use super::types::{BatchLockRequest, BatchLockResult, LockResult, ObjectKey, ObjectLockInfo, ObjectLockRequest};
use std::sync::Arc;

/// Locks objects, or pretends to.
#[async_trait::async_trait]
pub trait LockManager: Send + Sync {
    /// Waits for a lock.
    async fn acquire_lock(&self, request: ObjectLockRequest) -> Result<FastLockGuard, LockResult>;

    /// Waits to share a key.
    async fn acquire_read_lock(
        &self,
        key: ObjectKey,
        owner: impl Into<Arc<str>> + Send,
    ) -> Result<FastLockGuard, LockResult>;

    /// Waits to hold a key alone.
    async fn acquire_write_lock(
        &self,
        key: ObjectKey,
        owner: impl Into<Arc<str>> + Send,
    ) -> Result<FastLockGuard, LockResult>;

    /// Waits for several locks.
    async fn acquire_locks_batch(&self, batch_request: BatchLockRequest) -> BatchLockResult;

    /// Describes who holds a key.
    fn get_lock_info(&self, key: &ObjectKey) -> Option<ObjectLockInfo>;

    /// Returns the figures.
    fn get_metrics(&self) -> AggregatedMetrics;

    /// Returns how many keys are held.
    fn total_lock_count(&self) -> usize;

    /// Returns warm hits, misses, releases and keys in the table of each shard.
    fn get_pool_stats(&self) -> Vec<(u64, u64, u64, usize)>;

    /// Removes idle keys, and returns how many there were.
    async fn cleanup_expired(&self) -> usize;

    /// Removes idle keys, and returns how many there were.
    async fn cleanup_expired_traditional(&self) -> usize;

    /// Ends the background work. Locks that are held stay, and more can be taken.
    async fn shutdown(&self);

    /// Says whether locks exclude nothing.
    fn is_disabled(&self) -> bool;
}
