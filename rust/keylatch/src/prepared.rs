//! Keys whose hash is computed once.

use crate::error::LockError;
use crate::guard::{FastLockGuard, LockGuard};
use crate::hold::{FirstState, OwnerRef};
use crate::key::{KeyRef, ObjectKey};
use crate::key_verbs::key_verbs;
use crate::manager::FastObjectLockManager;
use crate::memory::NONE;
use crate::mode::Mode;
use crate::pending::Acquire;
use crate::request::LockRequest;
use crate::sync::runtime::check_may_sleep;
use crate::table::PackedKey;
use std::fmt;
use std::sync::Arc;

/// A key with its hash, so that locking it costs less.
///
/// The blocking and the trying calls here do not hash the key. They compare it as it is stored, if it has at most eight
/// words: a part of up to 16 bytes has two, one of up to 32 bytes four, and one of 41 to 48 bytes six. Other keys cost what
/// they cost without this, and so do requests that are made with [`write`](Self::write) and [`read`](Self::read). The
/// prepared key and the key itself are one lock.
///
/// Unlike a [`PinnedKey`](crate::PinnedKey) it takes no place in the manager's table, and costs more to lock. Clones share
/// its memory. It keeps its manager; once that is closed, requests fail.
///
/// ```
/// # fn main() -> Result<(), keylatch::LockError> {
/// use keylatch::FastObjectLockManager;
/// let locks = FastObjectLockManager::new();
/// let cat = locks.prepare(("photos", "cat.jpg"))?;
/// for _ in 0..3 {
///     let guard = cat.acquire_write_lock_blocking("writer")?;
///     assert!(locks.try_acquire_read_lock("photos", "cat.jpg", "reader").is_err());
///     drop(guard);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PreparedKey {
    shared: Arc<Shared>,
}

struct Shared {
    manager: FastObjectLockManager,
    key: ObjectKey,
    packed: PackedKey,
}

key_verbs!(PreparedKey);

impl PreparedKey {
    /// Takes the lock if the fast path can.
    ///
    /// Without a request, which would have to be put together first.
    #[inline(always)]
    fn if_free<const EXCLUSIVE: bool>(&self, owner: OwnerRef<'_>) -> Option<FastLockGuard<'_>> {
        if matches!(owner, OwnerRef::Session(_)) {
            return None;
        }
        let Shared { manager, packed, .. } = &*self.shared;
        let core = manager.core();
        let mode = if EXCLUSIVE { Mode::Exclusive } else { Mode::Shared };
        let state = FirstState::new(mode, 0, false).with_owner(core.label_number(owner));
        core.try_prepared::<EXCLUSIVE>(packed, state).map(|grant| LockGuard::new(manager, grant))
    }

    /// No entry is known to be the key's.
    #[inline(always)]
    fn entry(&self) -> u32 {
        NONE
    }
}

impl FastObjectLockManager {
    /// Hashes a key once, for requests that name it again and again.
    ///
    /// # Errors
    /// [`LockError::InvalidKey`].
    pub fn prepare<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<PreparedKey, LockError> {
        let key = key.into();
        let packed = self.core().prepare(&key)?;
        Ok(PreparedKey { shared: Arc::new(Shared { manager: self.clone(), key: key.to_owned(), packed }) })
    }
}
