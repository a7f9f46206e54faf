//! The verbs: opening a table, locking, listing, revoking.

use crate::acquire::{Patience, Wanted, acquire};
use crate::config::TableConfig;
use crate::error::ShmError;
use crate::file;
use crate::guard::{LockBatch, SharedLockGuard, Unfinished};
use crate::handle::SharedTable;
use crate::listed::{HoldId, HolderInfo, TableFigures};
use crate::lookup::find;
use crate::pending::Lock;
use crate::region::Bitmap;
use crate::request::{BatchLockRequest, LockRequest};
use crate::{listing, revoke, watch};
use keylatch::KeyRef;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

impl SharedTable {
    /// Creates the table's file, or attaches to it if it is there.
    ///
    /// Any number of processes may do so at the same time.
    ///
    /// A file that dead processes left is used as it is: what they held is free as soon as it is asked for.
    ///
    /// # Errors
    /// [`ShmError::File`], [`ShmError::WrongFile`], [`ShmError::InvalidConfig`], [`ShmError::TooManyMembers`],
    /// [`ShmError::Unsupported`]; each says what to do.
    pub fn open(path: impl AsRef<Path>, config: &TableConfig) -> Result<Self, ShmError> {
        Self::join(file::open(path.as_ref(), config)?, config)
    }

    /// Attaches to a table that another process has created.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`ShmError::File`] if there is none.
    pub fn attach(path: impl AsRef<Path>, config: &TableConfig) -> Result<Self, ShmError> {
        Self::join(file::attach(path.as_ref(), config)?, config)
    }

    /// Makes a table without a name, for forked processes or by its descriptor.
    ///
    /// It cannot be truncated.
    ///
    /// The descriptor is closed by `exec`; clear `FD_CLOEXEC` on a duplicate of it for a program that shall inherit it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn memfd(name: &str, config: &TableConfig) -> Result<Self, ShmError> {
        Self::join(file::memfd(name, config)?, config)
    }

    /// Attaches to a table by its [descriptor](AsFd::as_fd) from another process.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_fd(fd: OwnedFd, config: &TableConfig) -> Result<Self, ShmError> {
        Self::join(file::attach_file(File::from(fd), PathBuf::new(), config)?, config)
    }

    /// Asks for one lock.
    ///
    /// The result says how to wait: `.blocking()`, `.now()` or `.await`.
    #[inline(always)]
    pub fn lock<'a>(&'a self, request: LockRequest<'a>) -> Lock<'a> {
        Lock { table: self, request }
    }

    /// Waits to hold an object alone.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    pub fn acquire_write_lock_blocking<B, O>(
        &self,
        bucket: &B,
        object: &O,
        owner: &str,
    ) -> Result<SharedLockGuard<'_>, ShmError>
    where
        B: AsRef<[u8]> + ?Sized,
        O: AsRef<[u8]> + ?Sized,
    {
        self.acquire_here(LockRequest::write(KeyRef::new(bucket, object)).owner(owner), Patience::Until(None))
    }

    /// Waits to share an object.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    pub fn acquire_read_lock_blocking<B, O>(
        &self,
        bucket: &B,
        object: &O,
        owner: &str,
    ) -> Result<SharedLockGuard<'_>, ShmError>
    where
        B: AsRef<[u8]> + ?Sized,
        O: AsRef<[u8]> + ?Sized,
    {
        self.acquire_here(LockRequest::read(KeyRef::new(bucket, object)).owner(owner), Patience::Until(None))
    }

    /// Holds an object alone if that is possible now.
    ///
    /// # Errors
    /// As [`Lock::now`].
    pub fn try_acquire_write_lock<B, O>(
        &self,
        bucket: &B,
        object: &O,
        owner: &str,
    ) -> Result<SharedLockGuard<'_>, ShmError>
    where
        B: AsRef<[u8]> + ?Sized,
        O: AsRef<[u8]> + ?Sized,
    {
        self.acquire_here(LockRequest::write(KeyRef::new(bucket, object)).owner(owner), Patience::Try)
    }

    /// Shares an object if that is possible now.
    ///
    /// # Errors
    /// As [`Lock::now`].
    pub fn try_acquire_read_lock<B, O>(
        &self,
        bucket: &B,
        object: &O,
        owner: &str,
    ) -> Result<SharedLockGuard<'_>, ShmError>
    where
        B: AsRef<[u8]> + ?Sized,
        O: AsRef<[u8]> + ?Sized,
    {
        self.acquire_here(LockRequest::read(KeyRef::new(bucket, object)).owner(owner), Patience::Try)
    }

    /// Acquires for a guard that borrows the table alone, not the request's parts.
    pub(crate) fn acquire_here(
        &self,
        request: LockRequest<'_>,
        patience: Patience,
    ) -> Result<SharedLockGuard<'_>, ShmError> {
        let LockRequest { key, owner, mode, .. } = request;
        let wanted = Wanted { key, print: self.fingerprint(key)?, mode, owner };
        let begun = Instant::now();
        let patience = match patience {
            Patience::Until(None) => Patience::Until(request.limit.deadline(self.core().config.default_timeout)),
            other => other,
        };
        if let Some(hold) = acquire(self.core_arc(), &wanted, patience, &mut || true)? {
            return Ok(SharedLockGuard::new(self, hold));
        }
        let (key, holders) = (key.to_owned(), self.holders_of_print(wanted.print));
        Err(match patience {
            Patience::Try => ShmError::WouldBlock { key, holders },
            Patience::Until(_) => ShmError::Timeout { key, waited: begun.elapsed(), holders },
        })
    }

    /// Waits for all locks of a batch, on the calling thread.
    ///
    /// # Errors
    /// [`ShmError::Batch`] with the key that could not be had and why; then none is held.
    pub fn acquire_locks_batch_blocking(&self, batch: &BatchLockRequest<'_>) -> Result<LockBatch<'_>, ShmError> {
        let deadline = batch.limit.deadline(self.core().config.default_timeout);
        let mut guards = Unfinished::new(batch.wanted.len());
        for (key, mode) in batch.sorted() {
            let request = LockRequest::new(key, mode).owner(batch.owner);
            let request = deadline.map_or(request.no_timeout(), |deadline| request.deadline(deadline));
            let patience = Patience::Until(deadline);
            match self.acquire_here(request, patience) {
                Ok(guard) => guards.push(guard),
                Err(cause) => return Err(ShmError::Batch { key: key.to_owned(), cause: Box::new(cause) }),
            }
        }
        Ok(guards.finish())
    }

    /// Waits for all locks of a batch, as a future. Dropping it releases what it has.
    ///
    /// # Errors
    /// As [`acquire_locks_batch_blocking`](Self::acquire_locks_batch_blocking).
    pub async fn acquire_locks_batch<'a>(&'a self, batch: &BatchLockRequest<'a>) -> Result<LockBatch<'a>, ShmError> {
        let deadline = batch.limit.deadline(self.core().config.default_timeout);
        let mut guards = Unfinished::new(batch.wanted.len());
        for (key, mode) in batch.sorted() {
            let request = LockRequest::new(key, mode).owner(batch.owner);
            let request = deadline.map_or(request.no_timeout(), |deadline| request.deadline(deadline));
            match self.lock(request).await {
                Ok(guard) => guards.push(guard),
                Err(cause) => return Err(ShmError::Batch { key: key.to_owned(), cause: Box::new(cause) }),
            }
        }
        Ok(guards.finish())
    }

    /// All holds of all processes, or those of one key.
    ///
    /// Stops nothing, so holds that come and go may be missing.
    ///
    /// # Errors
    /// [`ShmError::Forked`], [`ShmError::Damaged`], [`ShmError::InvalidKey`].
    pub fn holders<'k>(&self, key: Option<KeyRef<'k>>) -> Result<Vec<HolderInfo>, ShmError> {
        self.core().check()?;
        match key {
            None => Ok(listing::all(self.core())),
            Some(key) => Ok(self.holders_of_print(self.fingerprint(key)?)),
        }
    }

    /// Whether a process holds the key now.
    ///
    /// # Errors
    /// As [`holders`](Self::holders).
    pub fn is_locked<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<bool, ShmError> {
        self.core().check()?;
        let print = self.fingerprint(key.into())?;
        let region = &self.core().region;
        Ok(find(region, print).is_some_and(|slot| listing::is_held(region, slot)))
    }

    /// Processes that wait for the key now.
    ///
    /// This one counts once, whatever number of its requests waits.
    ///
    /// # Errors
    /// As [`holders`](Self::holders).
    pub fn waiting<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<usize, ShmError> {
        self.core().check()?;
        let print = self.fingerprint(key.into())?;
        let region = &self.core().region;
        Ok(find(region, print).map_or(0, |slot| region.bits(slot, Bitmap::Waiters).count()))
    }

    /// Requests of this process that wait for the key now.
    ///
    /// # Errors
    /// As [`holders`](Self::holders).
    pub fn waiting_here<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<usize, ShmError> {
        let core = self.core();
        core.check()?;
        let print = self.fingerprint(key.into())?;
        Ok(find(&core.region, print).map_or(0, |slot| core.lines.with(slot, |line| line.queue.len())))
    }

    /// Revokes a hold of a process, which may run or be stopped.
    ///
    /// The process is not interrupted: it finds out when it asks.
    ///
    /// Says whether it was taken: not if it was released or revoked before, or while its process is changing it. What the
    /// holder still writes has a lower [fence](crate::LockGuard::fence) than its successor.
    ///
    /// # Errors
    /// [`ShmError::UpgradeConflict`] if several threads of the process share the hold, which cannot be taken apart;
    /// [`ShmError::Forked`], [`ShmError::Damaged`].
    pub fn revoke(&self, hold: HoldId) -> Result<bool, ShmError> {
        self.core().check()?;
        revoke::revoke(self.core(), hold)
    }

    /// Sizes and counts of the table.
    #[must_use]
    pub fn figures(&self) -> TableFigures {
        listing::figures(self.core())
    }

    /// Looks at the file: an error if it was truncated, removed, replaced or damaged.
    ///
    /// Done four times a second anyway.
    ///
    /// # Errors
    /// [`ShmError::Damaged`], [`ShmError::Forked`].
    pub fn check(&self) -> Result<(), ShmError> {
        if !self.core().is_forked() {
            watch::look_at_file(self.core());
        }
        self.core().check()
    }
}

impl AsFd for SharedTable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.core().file.as_fd()
    }
}
