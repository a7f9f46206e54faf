//! What a caller has while it holds a lock.

use super::key::ObjectKey;
use super::request::{LockMode, ObjectLockInfo, ObjectLockRequest};
use super::stamps::Stamped;
use keylatch::OwnedLockGuard;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a guard still has.
enum Hold {
    /// The lock, and its stamp, which goes first: no stamp is without its lock.
    Held { stamp: Stamped, lock: OwnedLockGuard },
    /// Nothing: the guard has released it.
    Released,
    /// Nothing: the lock was released by force.
    Lost,
    /// Nothing from the beginning: locks are disabled.
    Disabled { released: bool },
}

/// Holds a lock; dropping it releases the lock.
#[must_use = "a guard that is dropped releases its lock"]
pub struct FastLockGuard {
    key: ObjectKey,
    mode: LockMode,
    owner: Arc<str>,
    guard_id: u64,
    hold: Hold,
}

impl FastLockGuard {
    pub(crate) fn new(request: ObjectLockRequest, stamp: Stamped, lock: OwnedLockGuard) -> Self {
        let ObjectLockRequest { key, mode, owner, .. } = request;
        Self { key, mode, owner, guard_id: lock.grant_number(), hold: Hold::Held { stamp, lock } }
    }

    /// Makes a guard that holds nothing.
    pub(crate) fn new_disabled(request: ObjectLockRequest) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let ObjectLockRequest { key, mode, owner, .. } = request;
        let guard_id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { key, mode, owner, guard_id, hold: Hold::Disabled { released: false } }
    }

    /// Returns what is locked.
    #[must_use]
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Returns how it is locked.
    #[must_use]
    pub fn mode(&self) -> LockMode {
        self.mode
    }

    /// Returns the label of the request.
    #[must_use]
    pub fn owner(&self) -> &Arc<str> {
        &self.owner
    }

    /// Releases the lock, and says whether it was held until now.
    pub fn release(&mut self) -> bool {
        match std::mem::replace(&mut self.hold, Hold::Lost) {
            Hold::Held { stamp, lock } => {
                drop(stamp);
                let was_held = lock.try_release().is_ok();
                if was_held {
                    self.hold = Hold::Released;
                }
                was_held
            }
            Hold::Disabled { released } => {
                self.hold = Hold::Disabled { released: true };
                !released
            }
            gone => {
                self.hold = gone;
                false
            }
        }
    }

    /// Says whether this guard has released its lock, rather than lost it.
    #[must_use]
    pub fn is_released(&self) -> bool {
        matches!(self.hold, Hold::Released | Hold::Disabled { released: true })
    }

    /// Says whether the guard holds nothing because locks are disabled.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        matches!(self.hold, Hold::Disabled { .. })
    }

    /// Returns the number of this hold, which no other of its manager has.
    #[must_use]
    pub fn guard_id(&self) -> u64 {
        self.guard_id
    }

    /// Describes this hold; `None` once it is released, and while locks are disabled.
    #[must_use]
    pub fn lock_info(&self) -> Option<ObjectLockInfo> {
        let Hold::Held { stamp, lock } = &self.hold else { return None };
        let stamp = stamp.stamp().filter(|_| lock.is_valid())?;
        Some(ObjectLockInfo {
            key: self.key.clone(),
            mode: self.mode,
            owner: Arc::clone(&self.owner),
            acquired_at: stamp.acquired_at,
            expires_at: stamp.expires_at(),
            priority: stamp.priority,
        })
    }

    /// Returns the fence of the hold, which a store checks.
    ///
    /// `None` once it is released, and while locks are disabled.
    ///
    /// The face of `rustfs-lock` has no such number: see [`keylatch::LockGuard::fence`].
    #[must_use]
    pub fn fence(&self) -> Option<u64> {
        match &self.hold {
            Hold::Held { lock, .. } => Some(lock.fence()),
            _ => None,
        }
    }
}

impl fmt::Debug for FastLockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastLockGuard")
            .field("key", &self.key)
            .field("mode", &self.mode)
            .field("owner", &self.owner)
            .field("released", &self.is_released())
            .field("disabled", &self.is_disabled())
            .field("guard_id", &self.guard_id)
            .finish()
    }
}

/// Holds several locks; dropping it releases all of them.
#[derive(Debug, Default)]
pub struct MultipleLockGuards {
    guards: Vec<FastLockGuard>,
}

impl MultipleLockGuards {
    /// Begins with no guards.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a guard.
    pub fn add(&mut self, guard: FastLockGuard) {
        self.guards.push(guard);
    }

    /// Returns how many guards there are, released ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.guards.len()
    }

    /// Says whether there are no guards.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.guards.is_empty()
    }

    /// Iterates over the guards.
    pub fn iter(&self) -> std::slice::Iter<'_, FastLockGuard> {
        self.guards.iter()
    }

    /// Iterates over the guards, to release some.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, FastLockGuard> {
        self.guards.iter_mut()
    }

    /// Releases all locks, and returns how many were held until now.
    pub fn release_all(&mut self) -> usize {
        self.guards.iter_mut().map(FastLockGuard::release).filter(|was_held| *was_held).count()
    }

    /// Returns how many guards have not released their locks.
    #[must_use]
    pub fn active_count(&self) -> usize {
        self.guards.iter().filter(|guard| !guard.is_released()).count()
    }

    /// Returns the keys, in the order of the guards.
    #[must_use]
    pub fn keys(&self) -> Vec<&ObjectKey> {
        self.guards.iter().map(FastLockGuard::key).collect()
    }

    /// Parts the guards into shared and exclusive ones.
    #[must_use = "guards that are dropped release their locks"]
    pub fn split_by_mode(self) -> (Vec<FastLockGuard>, Vec<FastLockGuard>) {
        self.into_iter().partition(|guard| guard.mode() == LockMode::Shared)
    }

    /// Parts references to the guards into shared and exclusive ones.
    #[must_use]
    pub fn split_by_mode_ref(&self) -> (Vec<&FastLockGuard>, Vec<&FastLockGuard>) {
        self.guards.iter().partition(|guard| guard.mode() == LockMode::Shared)
    }

    /// Takes over the guards of another collection.
    pub fn merge(&mut self, mut other: Self) {
        self.guards.append(&mut other.guards);
    }

    /// Takes over more guards.
    pub fn merge_guards(&mut self, guards: Vec<FastLockGuard>) {
        self.guards.extend(guards);
    }

    /// Returns the guards that a predicate accepts.
    pub fn filter<F>(&self, predicate: F) -> Vec<&FastLockGuard>
    where
        F: Fn(&FastLockGuard) -> bool,
    {
        self.guards.iter().filter(|guard| predicate(guard)).collect()
    }

    /// Keeps the guards that a predicate accepts, and releases the others.
    pub fn filter_owned<F>(self, predicate: F) -> Vec<FastLockGuard>
    where
        F: Fn(&FastLockGuard) -> bool,
    {
        self.guards.into_iter().filter(|guard| predicate(guard)).collect()
    }

    /// Returns the guards of one bucket.
    #[must_use]
    pub fn guards_for_bucket(&self, bucket: &str) -> Vec<&FastLockGuard> {
        self.filter(|guard| &*guard.key.bucket == bucket)
    }

    /// Returns the guards of one owner.
    #[must_use]
    pub fn guards_for_owner(&self, owner: &str) -> Vec<&FastLockGuard> {
        self.filter(|guard| &*guard.owner == owner)
    }
}

impl From<Vec<FastLockGuard>> for MultipleLockGuards {
    fn from(guards: Vec<FastLockGuard>) -> Self {
        Self { guards }
    }
}

impl From<FastLockGuard> for MultipleLockGuards {
    fn from(guard: FastLockGuard) -> Self {
        Self { guards: vec![guard] }
    }
}

impl IntoIterator for MultipleLockGuards {
    type Item = FastLockGuard;
    type IntoIter = std::vec::IntoIter<FastLockGuard>;

    fn into_iter(self) -> Self::IntoIter {
        self.guards.into_iter()
    }
}

impl<'a> IntoIterator for &'a MultipleLockGuards {
    type Item = &'a FastLockGuard;
    type IntoIter = std::slice::Iter<'a, FastLockGuard>;

    fn into_iter(self) -> Self::IntoIter {
        self.guards.iter()
    }
}

impl<'a> IntoIterator for &'a mut MultipleLockGuards {
    type Item = &'a mut FastLockGuard;
    type IntoIter = std::slice::IterMut<'a, FastLockGuard>;

    fn into_iter(self) -> Self::IntoIter {
        self.guards.iter_mut()
    }
}
