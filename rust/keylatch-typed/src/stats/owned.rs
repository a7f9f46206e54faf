//! The statistics as a lock has them: when the lock is dropped, they know.

use super::LockStats;
use std::ops::Deref;
use std::sync::Arc;

/// Belongs to one lock.
pub(crate) struct OwnedStats(Arc<LockStats>);

impl OwnedStats {
    pub(crate) fn new(stats: LockStats) -> Self {
        Self(Arc::new(stats))
    }

    pub(crate) const fn shared(&self) -> &Arc<LockStats> {
        &self.0
    }
}

impl Deref for OwnedStats {
    type Target = LockStats;

    #[inline]
    fn deref(&self) -> &LockStats {
        &self.0
    }
}

impl Drop for OwnedStats {
    fn drop(&mut self) {
        self.0.end();
    }
}
