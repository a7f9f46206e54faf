//! The real one, behind the common verbs.

use super::{BoxedAcquire, ObjectLocks};
use crate::config::Backend;
use crate::error::LockError;
use crate::guard::LockGuard;
use crate::hold::Grant;
use crate::manager::FastObjectLockManager;
use crate::observe::LockMetrics;
use crate::request::LockRequest;

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

    fn get_metrics(&self) -> LockMetrics {
        self.get_metrics()
    }

    fn close(&self) {
        self.close();
    }
}
