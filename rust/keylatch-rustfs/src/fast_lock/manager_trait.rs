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

/// Implements [`LockManager`] by the methods of the same names.
macro_rules! forwards_lock_manager {
    ($manager:ty, disabled: $disabled:literal) => {
        #[async_trait::async_trait]
        impl $crate::fast_lock::manager_trait::LockManager for $manager {
            async fn acquire_lock(&self, request: ObjectLockRequest) -> Result<FastLockGuard, LockResult> {
                self.acquire_lock(request).await
            }

            async fn acquire_read_lock(
                &self,
                key: ObjectKey,
                owner: impl Into<Arc<str>> + Send,
            ) -> Result<FastLockGuard, LockResult> {
                self.acquire_read_lock(key, owner).await
            }

            async fn acquire_write_lock(
                &self,
                key: ObjectKey,
                owner: impl Into<Arc<str>> + Send,
            ) -> Result<FastLockGuard, LockResult> {
                self.acquire_write_lock(key, owner).await
            }

            async fn acquire_locks_batch(&self, batch_request: BatchLockRequest) -> BatchLockResult {
                self.acquire_locks_batch(batch_request).await
            }

            fn get_lock_info(&self, key: &ObjectKey) -> Option<ObjectLockInfo> {
                self.get_lock_info(key)
            }

            fn get_metrics(&self) -> AggregatedMetrics {
                self.get_metrics()
            }

            fn total_lock_count(&self) -> usize {
                self.total_lock_count()
            }

            fn get_pool_stats(&self) -> Vec<(u64, u64, u64, usize)> {
                self.get_pool_stats()
            }

            async fn cleanup_expired(&self) -> usize {
                self.cleanup_expired().await
            }

            async fn cleanup_expired_traditional(&self) -> usize {
                self.cleanup_expired_traditional().await
            }

            async fn shutdown(&self) {
                self.shutdown().await;
            }

            fn is_disabled(&self) -> bool {
                $disabled
            }
        }
    };
}

pub(super) use forwards_lock_manager;
