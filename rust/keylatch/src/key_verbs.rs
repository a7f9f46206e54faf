//! The verbs of keys that a program keeps to lock them often.

/// Defines the verbs of a type that has `entry`, `if_free` and `shared`.
///
/// The last one has the manager and the key.
macro_rules! key_verbs {
    ($key:ty) => {
        impl $key {
            /// Returns the key.
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
            #[inline(always)]
            pub fn acquire_write_lock<'k>(&'k self, owner: impl Into<OwnerRef<'k>>) -> Acquire<'k, 'k> {
                Acquire::of_pin(self.manager(), self.write().owner(owner), self.entry())
            }

            /// As [`FastObjectLockManager::acquire_read_lock`].
            #[inline(always)]
            pub fn acquire_read_lock<'k>(&'k self, owner: impl Into<OwnerRef<'k>>) -> Acquire<'k, 'k> {
                Acquire::of_pin(self.manager(), self.read().owner(owner), self.entry())
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
            pub fn try_acquire_read_lock<'k>(
                &'k self,
                owner: impl Into<OwnerRef<'k>>,
            ) -> Result<FastLockGuard<'k>, LockError> {
                let owner = owner.into();
                self.if_free::<false>(owner).map_or_else(|| self.try_slow(owner, Mode::Shared), Ok)
            }

            #[inline(always)]
            fn manager(&self) -> &FastObjectLockManager {
                &self.shared.manager
            }

            #[inline(always)]
            fn ask(&self, mode: Mode) -> LockRequest<'_> {
                LockRequest::new(self.shared.key.as_ref(), mode)
            }

            #[cold]
            #[inline(never)]
            fn blocking_slow<'k>(&'k self, owner: OwnerRef<'k>, mode: Mode) -> Result<FastLockGuard<'k>, LockError> {
                self.manager().lock(self.ask(mode).owner(owner)).blocking()
            }

            #[cold]
            #[inline(never)]
            fn try_slow<'k>(&'k self, owner: OwnerRef<'k>, mode: Mode) -> Result<FastLockGuard<'k>, LockError> {
                self.manager().lock(self.ask(mode).owner(owner)).try_now()
            }
        }

        impl fmt::Debug for $key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($key)).field(&self.shared.key).finish()
            }
        }
    };
}

pub(crate) use key_verbs;
