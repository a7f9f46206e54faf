//! A manager that may be gone, for answers that arrive later.

use super::{CloseOnDrop, FastObjectLockManager};
use crate::engine::Core;
use crate::error::LockError;
use crate::guard::{LockGuard, OwnedLockGuard};
use crate::hold::Grant;
use std::sync::{Arc, Weak};

/// A manager that may be gone, for answers that arrive later.
#[derive(Debug)]
pub(crate) struct WeakManager {
    core: Arc<Core>,
    closer: Weak<CloseOnDrop>,
}

impl WeakManager {
    /// Makes a guard of the grant, or releases it if the last handle is gone.
    pub(crate) fn own(&self, result: Result<Grant, LockError>) -> Result<OwnedLockGuard, LockError> {
        let grant = result?;
        match self.closer.upgrade() {
            Some(closer) => Ok(LockGuard::new(FastObjectLockManager { core: Arc::clone(&self.core), closer }, grant)),
            None => {
                self.core.release_unseen(grant);
                Err(LockError::Closed)
            }
        }
    }
}

impl FastObjectLockManager {
    pub(crate) fn weak(&self) -> WeakManager {
        WeakManager { core: Arc::clone(&self.core), closer: Arc::downgrade(&self.closer) }
    }
}
