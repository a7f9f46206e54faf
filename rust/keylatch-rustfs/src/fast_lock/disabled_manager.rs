//! The manager that locks nothing.

use super::guard::FastLockGuard;
use super::manager_trait::forwards_lock_manager;
use super::metrics::AggregatedMetrics;
use super::types::{
    BatchLockRequest, BatchLockResult, LockConfig, LockResult, ObjectKey, ObjectLockInfo, ObjectLockRequest,
};
use std::sync::Arc;

/// Grants everything and excludes nothing.
#[derive(Debug, Default)]
pub struct DisabledLockManager {}

impl DisabledLockManager {
    /// Makes a manager that excludes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }

    /// Makes a manager that excludes nothing, whatever the settings.
    #[must_use]
    pub fn with_config(_config: LockConfig) -> Self {
        Self {}
    }

    /// Returns a guard that holds nothing.
    ///
    /// # Errors
    /// Never.
    pub async fn acquire_lock(&self, request: ObjectLockRequest) -> Result<FastLockGuard, LockResult> {
        Ok(FastLockGuard::new_disabled(request))
    }

    /// Returns a guard that holds nothing.
    ///
    /// # Errors
    /// Never.
    pub async fn acquire_read_lock(
        &self,
        key: ObjectKey,
        owner: impl Into<Arc<str>>,
    ) -> Result<FastLockGuard, LockResult> {
        Ok(FastLockGuard::new_disabled(ObjectLockRequest::new_read(key, owner)))
    }

    /// Returns a guard that holds nothing.
    ///
    /// # Errors
    /// Never.
    pub async fn acquire_write_lock(
        &self,
        key: ObjectKey,
        owner: impl Into<Arc<str>>,
    ) -> Result<FastLockGuard, LockResult> {
        Ok(FastLockGuard::new_disabled(ObjectLockRequest::new_write(key, owner)))
    }

    /// Returns a guard that holds nothing for each request.
    pub async fn acquire_locks_batch(&self, batch_request: BatchLockRequest) -> BatchLockResult {
        let guards: Vec<_> = batch_request.requests.into_iter().map(FastLockGuard::new_disabled).collect();
        let successful_locks = guards.iter().map(|guard| guard.key().clone()).collect();
        BatchLockResult { successful_locks, failed_locks: Vec::new(), all_acquired: true, guards }
    }

    /// Returns `None`: nothing is ever held.
    #[must_use]
    pub fn get_lock_info(&self, _key: &ObjectKey) -> Option<ObjectLockInfo> {
        None
    }

    /// Returns zeros.
    #[must_use]
    pub fn get_metrics(&self) -> AggregatedMetrics {
        AggregatedMetrics::empty()
    }

    /// Returns 0.
    #[must_use]
    pub fn total_lock_count(&self) -> usize {
        0
    }

    /// Returns nothing.
    #[must_use]
    pub fn get_pool_stats(&self) -> Vec<(u64, u64, u64, usize)> {
        Vec::new()
    }

    /// Does nothing.
    pub async fn cleanup_expired(&self) -> usize {
        0
    }

    /// Does nothing.
    pub async fn cleanup_expired_traditional(&self) -> usize {
        0
    }

    /// Does nothing.
    pub async fn shutdown(&self) {}
}

forwards_lock_manager!(DisabledLockManager, disabled: true);
