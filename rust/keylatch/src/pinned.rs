//! Pinned keys: keys that a program locks often.

use crate::error::LockError;
use crate::guard::{FastLockGuard, LockGuard};
use crate::hold::{FirstState, Grant, OwnerRef};
use crate::key::{KeyRef, ObjectKey};
use crate::key_verbs::key_verbs;
use crate::manager::FastObjectLockManager;
use crate::mode::Mode;
use crate::pending::Acquire;
use crate::request::{BatchLockRequest, LockRequest};
use crate::sync::runtime::check_may_sleep;
use crate::table::Pin;
use std::fmt;
use std::sync::Arc;

/// A key that stays in the table, so that locking it costs less.
///
/// The calls here need no hash, no look-up and no comparison. Requests with leases, priorities or timeouts are made with
/// [`write`](Self::write) and [`read`](Self::read), and cost what others cost. The pin and the key without it are one lock.
/// Given to another manager, a request of a pin is for the key of that name there.
///
/// It costs one place of `max_locks` as long as it exists, whether the key is held or not. Clones share the pin. It keeps its
/// manager, as an owned guard does; once that is closed, requests fail.
///
/// ```
/// # fn main() -> Result<(), keylatch::LockError> {
/// use keylatch::FastObjectLockManager;
/// let locks = FastObjectLockManager::new();
/// let inode = locks.pin(("inodes", "4711"))?;
/// for _ in 0..3 {
///     let guard = inode.acquire_write_lock_blocking("writer")?;
///     assert!(locks.try_acquire_read_lock("inodes", "4711", "reader").is_err());
///     drop(guard);
/// }
/// let mine = locks.lock(inode.read().owner("reader").priority(3)).blocking()?;
/// # drop(mine); Ok(()) }
/// ```
#[derive(Clone)]
pub struct PinnedKey {
    shared: Arc<Shared>,
}

struct Shared {
    manager: FastObjectLockManager,
    key: ObjectKey,
    pin: Pin,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.manager.core().unpin(&self.pin);
    }
}

key_verbs!(PinnedKey);

impl PinnedKey {
    /// As [`try_acquire_write_lock`](Self::try_acquire_write_lock), but fast only.
    ///
    /// `None` gives no reason: the caller goes on with a request. For bindings to other languages.
    #[doc(hidden)]
    #[inline(always)]
    #[must_use]
    pub fn grant_if_free<const EXCLUSIVE: bool>(&self, owner: OwnerRef<'_>, priority: u8) -> Option<Grant> {
        self.take_if_free::<EXCLUSIVE>(owner, (priority, true))
    }

    #[inline(always)]
    fn if_free<const EXCLUSIVE: bool>(&self, owner: OwnerRef<'_>) -> Option<FastLockGuard<'_>> {
        let grant = self.take_if_free::<EXCLUSIVE>(owner, (0, false))?;
        Some(LockGuard::new(&self.shared.manager, grant))
    }

    /// Takes the lock if the fast path can.
    ///
    /// Without a request, which would have to be put together first. The grant is a number if it is `loose`.
    #[inline(always)]
    fn take_if_free<const EXCLUSIVE: bool>(
        &self,
        owner: OwnerRef<'_>,
        (priority, detached): (u8, bool),
    ) -> Option<Grant> {
        if matches!(owner, OwnerRef::Session(_)) {
            return None;
        }
        let Shared { manager, pin, .. } = &*self.shared;
        let core = manager.core();
        let mode = if EXCLUSIVE { Mode::Exclusive } else { Mode::Shared };
        let state = FirstState::new(mode, priority, detached).with_owner(core.label_number(owner));
        core.try_pinned::<EXCLUSIVE>(pin, state)
    }

    /// Returns the entry for a request that this gives to its manager itself.
    #[inline(always)]
    fn entry(&self) -> u32 {
        self.shared.pin.entry
    }
}

impl FastObjectLockManager {
    /// Keeps a key in the table, held or not, as long as the pin exists.
    ///
    /// # Errors
    /// [`LockError::TableFull`], [`LockError::InvalidKey`], [`LockError::Closed`] or [`LockError::Forked`].
    pub fn pin<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<PinnedKey, LockError> {
        let key = key.into();
        let pin = self.core().pin(&key)?;
        Ok(PinnedKey { shared: Arc::new(Shared { manager: self.clone(), key: key.to_owned(), pin }) })
    }
}

impl<'a> BatchLockRequest<'a> {
    /// Adds a pinned key in a mode.
    ///
    /// Given to another manager than the pin's, the batch locks a key of that name there.
    ///
    /// ```
    /// # fn main() -> Result<(), keylatch::LockError> {
    /// use keylatch::{BatchLockRequest, FastObjectLockManager, Mode};
    /// let locks = FastObjectLockManager::new();
    /// let (from, to) = (locks.pin(("inodes", "1"))?, locks.pin(("inodes", "2"))?);
    /// let batch = BatchLockRequest::new("mover").add_pinned(&from, Mode::Exclusive).add_pinned(&to, Mode::Exclusive);
    /// let both = locks.acquire_locks_batch_blocking(batch)?;
    /// # drop(both); Ok(()) }
    /// ```
    #[inline]
    pub fn add_pinned(self, key: &'a PinnedKey, mode: Mode) -> Self {
        let manager = key.shared.manager.core().identity();
        // Of two managers one is not asked, and a key is as good as its pin there.
        let entry = if self.pins_of.is_none_or(|other| other == manager) { key.shared.pin.entry } else { 0 };
        let pins_of = self.pins_of.or(Some(manager));
        Self { pins_of, ..self.add_at(key.shared.key.as_ref(), mode, entry) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn batch_knows_the_entries_of_its_pins() {
        let (mine, other) = (FastObjectLockManager::new(), FastObjectLockManager::new());
        let pins = ["x", "y"].map(|object| mine.pin(("b", object)).unwrap());
        let foreign = other.pin(("b", "z")).unwrap();
        let batch = BatchLockRequest::new("o")
            .add_pinned(&pins[0], Mode::Exclusive)
            .add_write_lock("b", "w")
            .add_pinned(&pins[1], Mode::Shared)
            .add_pinned(&foreign, Mode::Shared);
        let entries: Vec<u32> = batch.wanted.iter().map(|(.., entry)| *entry).collect();
        let [x, y] = pins.each_ref().map(|pin| pin.shared.pin.entry);
        assert!(x != 0 && y != 0 && x != y);
        assert_eq!(entries, [x, 0, y, 0]);
        assert_eq!(batch.pins_of, Some(mine.core().identity()));
    }
}
