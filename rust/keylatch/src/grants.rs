//! What can be done with a grant, the number of a hold.

use crate::engine::loss::Listener;
use crate::error::LockError;
use crate::guard::{FastLockGuard, LockGuard};
use crate::hold::{Grant, Lost};
use crate::key::ObjectKey;
use crate::manager::FastObjectLockManager;
use crate::mode::Mode;
use crate::request::Limit;
use crate::sync::runtime::check_may_sleep;
use std::time::Duration;

impl FastObjectLockManager {
    /// Releases a grant, from any thread. Never blocks.
    ///
    /// # Errors
    /// [`LockError::NotHeld`] if it is not held: released before, by force, made up, or another manager's.
    /// [`LockError::LeaseLost`] if its lease ran out and it was taken away; of the 65,536 that were lost last. Nothing is
    /// released then.
    pub fn release(&self, grant: Grant) -> Result<(), LockError> {
        self.core().release_number(grant)
    }

    /// Releases a grant, for bindings to other languages.
    ///
    /// Returns `None` if the grant is not held, and [`release`](Self::release) says why. If the lock was revoked in this very
    /// moment, it returns how.
    #[doc(hidden)]
    #[inline(always)]
    #[must_use]
    pub fn release_fast(&self, grant: Grant) -> Option<Result<(), Lost>> {
        if !self.core().adopt_fast(grant) {
            return None;
        }
        Some(self.core().release_guard(grant).map_or(Ok(()), Err))
    }

    /// Turns a grant back into a guard.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn adopt(&self, grant: Grant) -> Result<FastLockGuard<'_>, LockError> {
        self.core().adopt(grant)?;
        Ok(LockGuard::new(self, grant))
    }

    /// Renews the lease of a grant from now on, or begins one.
    ///
    /// # Errors
    /// [`LockError::LeaseLost`] and [`LockError::NotHeld`] as [`release`](Self::release), [`LockError::InvalidConfig`]
    /// for a `ttl` of zero.
    pub fn renew(&self, grant: Grant, ttl: Duration) -> Result<(), LockError> {
        self.core().renew(grant, ttl)
    }

    /// Returns how long a grant is safe from now on; `None` if it has no lease.
    ///
    /// It is zero once the lease has run out, although the grant is held until the lock is revoked.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn remaining(&self, grant: Grant) -> Result<Option<Duration>, LockError> {
        self.core().remaining(grant)
    }

    /// Returns whether a grant is held and, if it is a lease, safe at this moment.
    #[must_use]
    pub fn is_valid(&self, grant: Grant) -> bool {
        self.core().is_valid(grant)
    }

    /// As [`LockGuard::fence`], of a grant.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn fence(&self, grant: Grant) -> Result<u64, LockError> {
        self.core().fence(grant)
    }

    /// As [`LockGuard::previous_holder_died`], of a grant.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn previous_holder_died(&self, grant: Grant) -> Result<bool, LockError> {
        self.core().fence(grant)?;
        Ok(self.core().records.get(grant.index()).follows_death(grant))
    }

    /// Returns what a grant holds, and how.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn key_and_mode(&self, grant: Grant) -> Result<(ObjectKey, Mode), LockError> {
        self.core().key_and_mode(grant)
    }

    /// As [`LockGuard::downgrade`], of a grant, which no other may use meanwhile.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn downgrade(&self, grant: Grant) -> Result<(), LockError> {
        self.core().as_guard(grant, || {
            self.core().downgrade(grant);
            Ok(())
        })
    }

    /// As [`LockGuard::try_upgrade`], of a grant, which no other may use meanwhile.
    ///
    /// # Errors
    /// As there, and as [`release`](Self::release).
    pub fn try_upgrade(&self, grant: Grant) -> Result<(), LockError> {
        self.core().as_guard(grant, || self.core().try_upgrade(grant))
    }

    /// As [`LockGuard::upgrade_blocking`], of a grant, which no other may use then.
    ///
    /// # Errors
    /// As there, and as [`release`](Self::release).
    pub fn upgrade_blocking(&self, grant: Grant, timeout: Option<Duration>) -> Result<(), LockError> {
        let limit = timeout.map_or(Limit::Never, Limit::after);
        check_may_sleep();
        self.core().as_guard(grant, || self.core().upgrade_blocking(grant, limit))
    }

    /// Has `listener` called once if the hold is revoked.
    ///
    /// The revoking thread calls it, or this thread if the hold was revoked before. The listener is dropped uncalled when
    /// the hold is released. It must not block.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn on_lost(&self, grant: Grant, listener: impl FnOnce(Lost) + Send + 'static) -> Result<(), LockError> {
        self.core().on_lost(grant, Listener::new(listener))
    }
}
