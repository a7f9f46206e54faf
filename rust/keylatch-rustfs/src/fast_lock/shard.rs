//! The locks of a manager whose keys have one hash.

use super::guard::FastLockGuard;
use super::key::ObjectKey;
use super::locks::{Listed, Locks};
use super::metrics::{MetricsSnapshot, ShardMetrics};
use super::request::{LockMode, LockResult, ObjectLockInfo, ObjectLockRequest};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// Shows the locks whose keys have one [`shard_index`](ObjectKey::shard_index).
///
/// keylatch has shards of its own, so that this is a view of a manager: a listing of one looks through all locks, and
/// [`metrics`](Self::metrics) are those of keylatch's shard of the same number.
pub struct LockShard {
    id: usize,
    mask: usize,
    locks: Arc<Locks>,
    metrics: ShardMetrics,
    /// Locks that were taken without a guard, in no order.
    kept: Mutex<Vec<FastLockGuard>>,
}

impl LockShard {
    /// Makes a shard that stands alone, with locks of its own.
    #[must_use]
    pub fn new(shard_id: usize) -> Self {
        Self::of(&Arc::new(Locks::new(1)), shard_id, 0)
    }

    pub(crate) fn of(locks: &Arc<Locks>, id: usize, mask: usize) -> Self {
        Self { id, mask, locks: Arc::clone(locks), metrics: ShardMetrics::new(), kept: Mutex::default() }
    }

    /// Takes a lock without a guard, for [`release_lock`](Self::release_lock).
    ///
    /// # Errors
    /// [`LockResult::Timeout`].
    pub async fn acquire_lock(&self, request: &ObjectLockRequest) -> Result<(), LockResult> {
        let guard = self.locks.acquire(request.clone()).await?;
        self.kept.lock().push(guard);
        Ok(())
    }

    /// Takes a lock without a guard if it is free, and says whether it did.
    #[must_use]
    pub fn try_fast_path_only(&self, request: &ObjectLockRequest) -> bool {
        match self.locks.try_acquire(request.clone()) {
            Ok(guard) => {
                self.kept.lock().push(guard);
                true
            }
            Err(_) => false,
        }
    }

    /// Releases a lock that was taken without a guard, and says whether there was one.
    pub fn release_lock(&self, key: &ObjectKey, owner: &Arc<str>, mode: LockMode) -> bool {
        let mut kept = self.kept.lock();
        let is_it = |guard: &FastLockGuard| guard.key() == key && guard.owner() == owner && guard.mode() == mode;
        let Some(place) = kept.iter().position(is_it) else { return false };
        let mut guard = kept.swap_remove(place);
        drop(kept);
        guard.release()
    }

    /// Describes who holds a key: the writer, or the reader that came first.
    #[must_use]
    pub fn get_lock_info(&self, key: &ObjectKey) -> Option<ObjectLockInfo> {
        self.locks.first_holder(key)
    }

    /// Lists the locks of this shard: each owner of a key once.
    #[must_use]
    pub fn list_locks(&self) -> Vec<ObjectLockInfo> {
        let mut seen = HashSet::new();
        let listed = self.listed().map(|listed| listed.info);
        listed.filter(|info| seen.insert((info.key.clone(), Arc::clone(&info.owner)))).collect()
    }

    /// Takes a key away from all who hold it, and returns from how many owners.
    pub fn force_release_all(&self, key: &ObjectKey) -> usize {
        self.locks.force_unlock(key)
    }

    /// Returns the share of the keys in the table that are held.
    #[must_use]
    pub fn current_load_factor(&self) -> f64 {
        if self.lock_count() == 0 { 0.0 } else { 1.0 }
    }

    /// Returns how many keys are held.
    #[must_use]
    pub fn active_lock_count(&self) -> usize {
        self.listed().map(|listed| listed.info.key).collect::<HashSet<_>>().len()
    }

    /// Returns how many keys are held; idle ones are not kept.
    #[must_use]
    pub fn lock_count(&self) -> usize {
        self.active_lock_count()
    }

    /// Does nothing: idle keys are not kept.
    pub fn adaptive_cleanup(&self) -> usize {
        0
    }

    /// Does nothing: idle keys are not kept.
    pub fn cleanup_expired(&self, _max_idle_secs: u64) -> usize {
        0
    }

    /// Does nothing: idle keys are not kept.
    pub fn cleanup_expired_millis(&self, _max_idle_millis: u64) -> usize {
        0
    }

    /// Reads the figures of keylatch's shard of this number.
    #[must_use]
    pub fn metrics(&self) -> &ShardMetrics {
        if let Some(figures) = self.figures() {
            self.metrics.store(&MetricsSnapshot::from(&figures));
        }
        &self.metrics
    }

    /// Returns locks whose key was warm, and was not; releases; and keys in the table.
    #[must_use]
    pub fn pool_stats(&self) -> (u64, u64, u64, usize) {
        self.figures().map_or((0, 0, 0, 0), |figures| pool_stats(&figures))
    }

    /// Returns the share of locks whose key was warm.
    #[must_use]
    pub fn pool_hit_rate(&self) -> f64 {
        let (hits, misses, ..) = self.pool_stats();
        if hits + misses == 0 { 0.0 } else { hits as f64 / (hits + misses) as f64 }
    }

    fn figures(&self) -> Option<keylatch::ShardMetrics> {
        self.locks.manager.get_metrics().shards.get(self.id & self.mask).cloned()
    }

    fn listed(&self) -> impl Iterator<Item = Listed> {
        let (id, mask) = (self.id & self.mask, self.mask);
        self.locks.list().into_iter().filter(move |listed| listed.info.key.shard_index(mask) == id)
    }
}

/// Returns what a pool of lock states would have counted.
pub(crate) fn pool_stats(figures: &keylatch::ShardMetrics) -> (u64, u64, u64, usize) {
    (figures.fast, figures.inserted, figures.releases, figures.entries as usize)
}

impl fmt::Debug for LockShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockShard").field("id", &self.id).finish_non_exhaustive()
    }
}
