//! A request that needs a way to wait.

use crate::acquire::{Patience, Wanted, acquire, try_fast};
use crate::error::ShmError;
use crate::guard::SharedLockGuard;
use crate::handle::SharedTable;
use crate::lookup::find;
use crate::progress::Progress;
use crate::request::LockRequest;
use keylatch::KeyRef;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

/// A request at a table: `.blocking()`, `.now()` or `.await`.
#[must_use = "a request does nothing until it is waited for"]
#[derive(Debug, Clone, Copy)]
pub struct Lock<'a> {
    pub(crate) table: &'a SharedTable,
    pub(crate) request: LockRequest<'a>,
}

impl<'a> Lock<'a> {
    fn wanted(&self) -> Result<Wanted<'a>, ShmError> {
        let LockRequest { key, owner, mode, .. } = self.request;
        Ok(Wanted { key, print: self.table.fingerprint(key)?, mode, owner })
    }

    #[inline(always)]
    fn fast(&self, wanted: &Wanted<'_>) -> Option<SharedLockGuard<'a>> {
        let core = self.table.core();
        if core.is_forked() {
            return None;
        }
        let slot = find(&core.region, wanted.print)?;
        try_fast(core, wanted, slot).map(|hold| SharedLockGuard::new(self.table, hold))
    }

    /// Waits on the calling thread.
    ///
    /// # Errors
    /// [`ShmError::Timeout`] with the holders at the end, and those of every call: `Forked`, `Damaged`, `InvalidKey`,
    /// `TableFull`, `LogFull`.
    #[inline]
    pub fn blocking(self) -> Result<SharedLockGuard<'a>, ShmError> {
        let wanted = self.wanted()?;
        match self.fast(&wanted) {
            Some(guard) => Ok(guard),
            None => self.blocking_slow(&wanted),
        }
    }

    #[cold]
    #[inline(never)]
    fn blocking_slow(self, wanted: &Wanted<'_>) -> Result<SharedLockGuard<'a>, ShmError> {
        let begun = Instant::now();
        let deadline = self.request.limit.deadline(self.table.core().config.default_timeout);
        match acquire(self.table.core_arc(), wanted, Patience::Until(deadline), &mut || true)? {
            Some(hold) => Ok(SharedLockGuard::new(self.table, hold)),
            None => Err(self.timed_out(wanted.key, begun)),
        }
    }

    /// Takes the lock if that is possible now.
    ///
    /// # Errors
    /// [`ShmError::WouldBlock`] with the holders, and those of every call.
    #[inline]
    pub fn now(self) -> Result<SharedLockGuard<'a>, ShmError> {
        let wanted = self.wanted()?;
        match self.fast(&wanted) {
            Some(guard) => Ok(guard),
            None => self.now_slow(&wanted)?.ok_or_else(|| ShmError::WouldBlock {
                key: wanted.key.to_owned(),
                holders: self.table.holders_of_print(wanted.print),
            }),
        }
    }

    /// Takes the lock if that is possible now; `None` if it is held.
    ///
    /// # Errors
    /// Those of every call.
    #[inline]
    pub fn try_now(self) -> Result<Option<SharedLockGuard<'a>>, ShmError> {
        let wanted = self.wanted()?;
        match self.fast(&wanted) {
            Some(guard) => Ok(Some(guard)),
            None => self.now_slow(&wanted),
        }
    }

    #[cold]
    #[inline(never)]
    fn now_slow(self, wanted: &Wanted<'_>) -> Result<Option<SharedLockGuard<'a>>, ShmError> {
        match acquire(self.table.core_arc(), wanted, Patience::Try, &mut || true) {
            Ok(held) => Ok(held.map(|hold| SharedLockGuard::new(self.table, hold))),
            // Another process inserts a key into the same bucket.
            Err(ShmError::WouldBlock { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn timed_out(&self, key: KeyRef<'_>, begun: Instant) -> ShmError {
        let holders = self.table.fingerprint(key).map(|print| self.table.holders_of_print(print)).unwrap_or_default();
        ShmError::Timeout { key: key.to_owned(), waited: begun.elapsed(), holders }
    }
}

impl<'a> IntoFuture for Lock<'a> {
    type Output = Result<SharedLockGuard<'a>, ShmError>;
    type IntoFuture = Acquire<'a>;

    fn into_future(self) -> Acquire<'a> {
        Acquire { lock: self, progress: Progress::new(self.request.limit) }
    }
}

/// A waiting request; see [`Lock`].
///
/// Dropping it before it is done leaves nothing behind.
#[must_use = "a future does nothing until it is awaited"]
pub struct Acquire<'a> {
    lock: Lock<'a>,
    progress: Progress,
}

impl std::fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acquire").field("key", &self.lock.request.key).finish_non_exhaustive()
    }
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<SharedLockGuard<'a>, ShmError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { lock, progress } = self.get_mut();
        let wanted = lock.wanted()?;
        let held = std::task::ready!(progress.poll(lock.table.core_arc(), &wanted, context))?;
        Poll::Ready(match held {
            Some(hold) => Ok(SharedLockGuard::new(lock.table, hold)),
            None => Err(lock.timed_out(wanted.key, progress.begun())),
        })
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        self.progress.abandon(self.lock.table.core());
    }
}
