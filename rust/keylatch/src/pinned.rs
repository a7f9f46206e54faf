//! Keys that a program knows it will lock often.

use crate::error::LockError;
use crate::guard::{FastLockGuard, LockGuard};
use crate::hold::{FirstState, Grant, OwnerRef};
use crate::key::{KeyRef, ObjectKey};
use crate::manager::FastObjectLockManager;
use crate::mode::Mode;
use crate::pending::Acquire;
use crate::request::LockRequest;
use crate::sync::runtime::check_may_sleep;
use crate::table::Pin;
use std::fmt;
use std::sync::Arc;

/// A key that stays in the table, so that locking it costs less.
///
/// The blocking verbs here, and those that try, need no hash, no look-up and no comparison. Requests with more to them are
/// made with [`write`](Self::write) and [`read`](Self::read), and cost what others cost. All contend for one lock with
/// requests for the key without the pin.
///
/// It costs one place of `max_locks` while it is there, whether the key is held or not. Clones share the pin. It keeps its
/// manager, as an owned guard does; once that is closed, requests say so.
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

impl PinnedKey {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &ObjectKey {
        &self.shared.key
    }

    /// Asks to hold the key alone.
    ///
    /// With all that a request may have: a lease, a priority, a timeout, a session.
    #[inline(always)]
    pub fn write(&self) -> LockRequest<'_> {
        self.ask(Mode::Exclusive)
    }

    /// Asks to share the key.
    #[inline(always)]
    pub fn read(&self) -> LockRequest<'_> {
        self.ask(Mode::Shared)
    }

    /// As [`FastObjectLockManager::acquire_write_lock`].
    pub fn acquire_write_lock<'k>(&'k self, owner: impl Into<OwnerRef<'k>>) -> Acquire<'k, 'k> {
        Acquire::new(&self.shared.manager, self.write().owner(owner))
    }

    /// As [`FastObjectLockManager::acquire_read_lock`].
    pub fn acquire_read_lock<'k>(&'k self, owner: impl Into<OwnerRef<'k>>) -> Acquire<'k, 'k> {
        Acquire::new(&self.shared.manager, self.read().owner(owner))
    }

    /// As [`FastObjectLockManager::acquire_write_lock_blocking`].
    ///
    /// # Errors
    /// As [`Lock::blocking`](crate::Lock::blocking).
    #[inline(always)]
    pub fn acquire_write_lock_blocking<'k>(
        &'k self,
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'k>, LockError> {
        check_may_sleep();
        let owner = owner.into();
        self.if_free::<true>(owner).map_or_else(|| self.blocking_slow(owner, Mode::Exclusive), Ok)
    }

    /// As [`FastObjectLockManager::acquire_read_lock_blocking`].
    ///
    /// # Errors
    /// As [`Lock::blocking`](crate::Lock::blocking).
    #[inline(always)]
    pub fn acquire_read_lock_blocking<'k>(
        &'k self,
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'k>, LockError> {
        check_may_sleep();
        let owner = owner.into();
        self.if_free::<false>(owner).map_or_else(|| self.blocking_slow(owner, Mode::Shared), Ok)
    }

    /// As [`FastObjectLockManager::try_acquire_write_lock`].
    ///
    /// # Errors
    /// As [`Lock::try_now`](crate::Lock::try_now).
    #[inline(always)]
    pub fn try_acquire_write_lock<'k>(
        &'k self,
        owner: impl Into<OwnerRef<'k>>,
    ) -> Result<FastLockGuard<'k>, LockError> {
        let owner = owner.into();
        self.if_free::<true>(owner).map_or_else(|| self.try_slow(owner, Mode::Exclusive), Ok)
    }

    /// As [`FastObjectLockManager::try_acquire_read_lock`].
    ///
    /// # Errors
    /// As [`Lock::try_now`](crate::Lock::try_now).
    #[inline(always)]
    pub fn try_acquire_read_lock<'k>(&'k self, owner: impl Into<OwnerRef<'k>>) -> Result<FastLockGuard<'k>, LockError> {
        let owner = owner.into();
        self.if_free::<false>(owner).map_or_else(|| self.try_slow(owner, Mode::Shared), Ok)
    }
}

impl PinnedKey {
    /// As [`try_acquire_write_lock`](Self::try_acquire_write_lock) where the lock is plainly free.
    ///
    /// `None` says nothing: the caller goes on with a request. For faces to other languages.
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

    /// Takes the lock if it is plainly free.
    ///
    /// Without a request, which would have to be put together first. The grant is a number if it is `loose`.
    #[inline(always)]
    fn take_if_free<const EXCLUSIVE: bool>(&self, owner: OwnerRef<'_>, (priority, loose): (u8, bool)) -> Option<Grant> {
        if matches!(owner, OwnerRef::Session(_)) {
            return None;
        }
        let Shared { manager, pin, .. } = &*self.shared;
        let core = manager.core();
        let mode = if EXCLUSIVE { Mode::Exclusive } else { Mode::Shared };
        let state = FirstState::new(mode, priority, loose).with_owner(core.label_number(owner));
        core.try_pinned::<EXCLUSIVE>(pin, state)
    }

    #[cold]
    #[inline(never)]
    fn blocking_slow<'k>(&'k self, owner: OwnerRef<'k>, mode: Mode) -> Result<FastLockGuard<'k>, LockError> {
        self.shared.manager.lock(self.ask(mode).owner(owner)).blocking()
    }

    #[cold]
    #[inline(never)]
    fn try_slow<'k>(&'k self, owner: OwnerRef<'k>, mode: Mode) -> Result<FastLockGuard<'k>, LockError> {
        self.shared.manager.lock(self.ask(mode).owner(owner)).try_now()
    }

    #[inline(always)]
    fn ask(&self, mode: Mode) -> LockRequest<'_> {
        LockRequest::new(self.shared.key.as_ref(), mode)
    }
}

impl fmt::Debug for PinnedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PinnedKey").field(&self.shared.key).finish()
    }
}

impl FastObjectLockManager {
    /// Keeps a key in the table for as long as the pin is there, held or not.
    ///
    /// # Errors
    /// [`LockError::TableFull`], [`LockError::InvalidKey`], [`LockError::Closed`] or [`LockError::Forked`].
    pub fn pin<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<PinnedKey, LockError> {
        let key = key.into();
        let pin = self.core().pin(&key)?;
        Ok(PinnedKey { shared: Arc::new(Shared { manager: self.clone(), key: key.to_owned(), pin }) })
    }
}
