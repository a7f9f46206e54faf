//! keylatch as this face sees it: requests, guards and listings translated.

use super::guard::FastLockGuard;
use super::key::ObjectKey;
use super::limits::MAX_ACQUIRE_TIMEOUT;
use super::request::{LockPriority, LockResult, ObjectLockInfo, ObjectLockRequest};
use super::stamps::{Stamp, Stamps};
use keylatch::{Filter, HolderInfo, LockConfig, LockError, LockRequest};
use std::sync::Arc;
use std::time::SystemTime;

/// Shards that keylatch can have.
const MAX_SHARDS: usize = 1 << 16;
/// Bytes that a key of keylatch can have.
const MAX_KEY_BYTES: usize = 65_535;

/// A lock manager with the stamps of its holds.
#[derive(Debug)]
pub(crate) struct Locks {
    pub(crate) manager: keylatch::FastObjectLockManager,
    stamps: Arc<Stamps>,
}

/// A hold, and the number of its guard.
pub(crate) struct Listed {
    pub(crate) info: ObjectLockInfo,
    pub(crate) guard_id: u64,
}

impl Locks {
    /// Locks in a number of shards, a power of two.
    ///
    /// # Panics
    /// If the process may not even reserve address space for a small table.
    pub(crate) fn new(shards: usize) -> Self {
        let config =
            LockConfig { shards: shards.min(MAX_SHARDS) as u32, max_key_bytes: MAX_KEY_BYTES, ..LockConfig::default() };
        let manager = keylatch::FastObjectLockManager::fitting(config).unwrap_or_else(|error| panic!("{error}"));
        Self { manager, stamps: Arc::new(Stamps::new()) }
    }

    pub(crate) async fn acquire(&self, request: ObjectLockRequest) -> Result<FastLockGuard, LockResult> {
        let timeout = request.acquire_timeout.min(MAX_ACQUIRE_TIMEOUT);
        let lock = self.manager.lock(wanted(&request).timeout(timeout)).await.map_err(refusal)?;
        Ok(self.stamp(request, lock))
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_acquire(&self, request: ObjectLockRequest) -> Result<FastLockGuard, LockResult> {
        let lock = self.manager.lock(wanted(&request)).try_now().map_err(refusal)?;
        Ok(self.stamp(request, lock))
    }

    #[inline]
    fn stamp(&self, request: ObjectLockRequest, lock: keylatch::FastLockGuard<'_>) -> FastLockGuard {
        let ObjectLockRequest { lock_timeout, priority, .. } = request;
        let stamp = Stamp { grant: lock.grant_number(), acquired_at: SystemTime::now(), lock_timeout, priority };
        FastLockGuard::new(request, self.stamps.add(stamp), lock.into_owned())
    }

    /// Returns who holds a key: the writer, or one of the readers.
    pub(crate) fn first_holder(&self, key: &ObjectKey) -> Option<ObjectLockInfo> {
        let holders = self.manager.holders(&Filter::new().key(key.borrowed()));
        let described = holders.iter().map(|holder| describe(holder, self.stamps.of(holder.grant.to_raw())));
        described.min_by_key(|info| info.acquired_at)
    }

    /// Returns all holds.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let stamps = self.stamps.by_grant();
        let listed = |holder: &HolderInfo| {
            let guard_id = holder.grant.to_raw();
            Listed { info: describe(holder, stamps.get(&guard_id).copied()), guard_id }
        };
        self.manager.holders(&Filter::new()).iter().map(listed).collect()
    }

    /// Takes a key away from its holders, and says from how many owners.
    pub(crate) fn force_unlock(&self, key: &ObjectKey) -> usize {
        let mut owners: Vec<_> = {
            let taken = self.manager.force_release(&Filter::new().key(key.borrowed()));
            taken.into_iter().map(|holder| holder.owner).collect()
        };
        owners.sort_unstable();
        owners.dedup();
        owners.len()
    }
}

fn wanted(request: &ObjectLockRequest) -> LockRequest<'_> {
    LockRequest::new(request.key.borrowed(), request.mode.into()).owner(&request.owner).priority(request.priority as u8)
}

/// Translates an error. The face has no words for most: the log gets them.
#[cold]
fn refusal(error: LockError) -> LockResult {
    match error {
        LockError::Timeout { .. } => tracing::debug!("{error}"),
        LockError::WouldBlock { .. } => {}
        _ => tracing::error!("a lock cannot be had: {error}"),
    }
    LockResult::Timeout
}

/// Describes a hold.
///
/// One that is being taken or released may have no stamp; its time is that of keylatch.
fn describe(holder: &HolderInfo, stamp: Option<Stamp>) -> ObjectLockInfo {
    let stamp = stamp.unwrap_or_else(|| {
        let now = SystemTime::now();
        Stamp {
            grant: holder.grant.to_raw(),
            acquired_at: now.checked_sub(holder.held_for).unwrap_or(now),
            lock_timeout: super::limits::DEFAULT_LOCK_TIMEOUT,
            priority: LockPriority::Normal,
        }
    });
    ObjectLockInfo {
        key: ObjectKey::from(&holder.key),
        mode: holder.mode.into(),
        owner: Arc::clone(&holder.owner),
        acquired_at: stamp.acquired_at,
        expires_at: stamp.expires_at(),
        priority: stamp.priority,
    }
}
