//! The real one, behind the common verbs.

use super::{BoxedAcquire, ObjectLocks};
use crate::config::Backend;
use crate::error::LockError;
use crate::guard::LockGuard;
use crate::hold::Grant;
use crate::inspect::Filter;
use crate::key::{KeyRef, ObjectKey};
use crate::listed::HolderInfo;
use crate::manager::FastObjectLockManager;
use crate::observe::{Health, LockMetrics};
use crate::request::{BatchLockRequest, LockRequest};

impl ObjectLocks for FastObjectLockManager {
    fn backend(&self) -> Backend {
        Backend::Fast
    }

    fn acquire_blocking(&self, request: &LockRequest<'_>) -> Result<Grant, LockError> {
        self.lock(*request).grant_blocking()
    }

    fn try_acquire(&self, request: &LockRequest<'_>) -> Result<Grant, LockError> {
        self.lock(*request).grant_now()
    }

    fn acquire<'a>(&'a self, request: LockRequest<'a>) -> BoxedAcquire<'a> {
        Box::pin(async move { self.lock(request).await.map(LockGuard::into_grant) })
    }

    fn release(&self, grant: Grant) -> Result<(), LockError> {
        self.release(grant)
    }

    fn acquire_batch_blocking(&self, batch: &BatchLockRequest<'_>) -> Result<Vec<(ObjectKey, Grant)>, LockError> {
        let held = self.acquire_locks_batch_blocking(batch.clone())?;
        Ok(held.into_guards().into_iter().map(|guard| (guard.key(), guard.into_grant())).collect())
    }

    fn downgrade(&self, grant: Grant) -> Result<(), LockError> {
        self.downgrade(grant)
    }

    fn try_upgrade(&self, grant: Grant) -> Result<(), LockError> {
        self.try_upgrade(grant)
    }

    fn holders(&self, filter: &Filter) -> Vec<HolderInfo> {
        self.holders(filter)
    }

    fn is_locked(&self, key: KeyRef<'_>) -> Result<bool, LockError> {
        self.is_locked(key)
    }

    fn health(&self) -> Health {
        self.health()
    }

    fn get_metrics(&self) -> LockMetrics {
        self.get_metrics()
    }

    fn close(&self) {
        self.close();
    }
}
