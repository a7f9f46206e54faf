//! Grants everything without waiting.

use super::{BoxedAcquire, ObjectLocks, one_by_one};
use crate::config::Backend;
use crate::error::LockError;
use crate::hold::Grant;
use crate::inspect::Filter;
use crate::key::{KeyRef, ObjectKey};
use crate::listed::HolderInfo;
use crate::observe::{LockMetrics, ShardMetrics};
use crate::request::{BatchLockRequest, LockRequest};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Grants everything without waiting and excludes no one.
///
/// For tests of code around it, and for measuring what locking costs.
#[derive(Debug)]
pub struct DisabledLockManager {
    grants: AtomicU64,
    releases: AtomicU64,
    closed: AtomicBool,
    began: Instant,
}

impl Default for DisabledLockManager {
    fn default() -> Self {
        Self::new()
    }
}

impl DisabledLockManager {
    /// Makes a manager of nothing.
    #[must_use]
    pub fn new() -> Self {
        let (grants, releases) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { grants, releases, closed: AtomicBool::new(false), began: Instant::now() }
    }
}

impl ObjectLocks for DisabledLockManager {
    fn backend(&self) -> Backend {
        Backend::Disabled
    }

    fn acquire_blocking(&self, request: &LockRequest<'_>) -> Result<Grant, LockError> {
        self.try_acquire(request)
    }

    fn try_acquire(&self, _request: &LockRequest<'_>) -> Result<Grant, LockError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(LockError::Closed);
        }
        let number = self.grants.fetch_add(1, Ordering::Relaxed) + 1;
        Grant::from_raw(number).ok_or(LockError::Closed)
    }

    fn acquire<'a>(&'a self, request: LockRequest<'a>) -> BoxedAcquire<'a> {
        Box::pin(async move { self.try_acquire(&request) })
    }

    /// Knows no grants, so it cannot tell a second release from a first.
    fn release(&self, _grant: Grant) -> Result<(), LockError> {
        self.releases.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn acquire_batch_blocking(&self, batch: &BatchLockRequest<'_>) -> Result<Vec<(ObjectKey, Grant)>, LockError> {
        one_by_one(self, batch, None)
    }

    fn downgrade(&self, _grant: Grant) -> Result<(), LockError> {
        Ok(())
    }

    fn try_upgrade(&self, _grant: Grant) -> Result<(), LockError> {
        Ok(())
    }

    fn holders(&self, _filter: &Filter) -> Vec<HolderInfo> {
        Vec::new()
    }

    fn is_locked(&self, _key: KeyRef<'_>) -> Result<bool, LockError> {
        Ok(false)
    }

    fn get_metrics(&self) -> LockMetrics {
        let releases = self.releases.load(Ordering::Relaxed);
        let fast = self.grants.load(Ordering::Relaxed);
        let figures =
            ShardMetrics { fast, releases, holders: fast.saturating_sub(releases), ..ShardMetrics::default() };
        LockMetrics::from_shards(vec![figures], self.began.elapsed(), 0)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}
