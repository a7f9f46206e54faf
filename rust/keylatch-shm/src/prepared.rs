//! Keys that are looked up once.

use crate::acquire::{Patience, Wanted, acquire, try_fast};
use crate::core::Core;
use crate::error::ShmError;
use crate::guard::{LockGuard, OwnedSharedLockGuard, TableRef};
use crate::handle::SharedTable;
use crate::lookup::{Fingerprint, find};
use crate::progress::Progress;
use crate::request::Limit;
use keylatch::{KeyRef, Mode, ObjectKey};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

/// A prepared key that borrows its table; made by [`SharedTable::prepare`].
pub type PreparedKey<'a> = Prepared<&'a SharedTable>;

/// A prepared key with a table handle of its own.
///
/// Made by [`SharedTable::prepare_owned`].
pub type OwnedPreparedKey = Prepared<SharedTable>;

/// A key that is looked up once.
///
/// Acquiring it again costs no hashing and mostly no look-up.
///
/// ```
/// # fn main() -> Result<(), keylatch_shm::ShmError> {
/// use keylatch_shm::{SharedTable, TableConfig};
/// let table = SharedTable::memfd("example", &TableConfig::default().keys(64).members(2))?;
/// let cat = table.prepare(("photos", "cat.jpg"))?;
/// drop(cat.write()?);
/// drop(cat.read()?);
/// # Ok(()) }
/// ```
pub struct Prepared<T: TableRef> {
    table: T,
    key: ObjectKey,
    print: Fingerprint,
    slot: AtomicU32,
}

impl SharedTable {
    /// Looks a key up once, for a caller that acquires it again and again.
    ///
    /// # Errors
    /// [`ShmError::InvalidKey`].
    pub fn prepare<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<PreparedKey<'_>, ShmError> {
        let key = key.into();
        Ok(PreparedKey::new(self, key, self.fingerprint(key)?))
    }

    /// Does the same for a key that can outlive this handle of the table.
    ///
    /// # Errors
    /// [`ShmError::InvalidKey`].
    pub fn prepare_owned<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<OwnedPreparedKey, ShmError> {
        let key = key.into();
        Ok(OwnedPreparedKey::new(self.clone(), key, self.fingerprint(key)?))
    }
}

impl<T: TableRef + Clone> Prepared<T> {
    pub(crate) fn new(table: T, key: KeyRef<'_>, print: Fingerprint) -> Self {
        let slot = find(&table.table().core().region, print).unwrap_or(0);
        Self { table, key: key.to_owned(), print, slot: slot.into() }
    }

    /// The table that it belongs to.
    #[must_use]
    pub fn table(&self) -> &SharedTable {
        self.table.table()
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Waits for the key alone, with the table's default timeout.
    ///
    /// # Errors
    /// As [`Lock::blocking`](crate::Lock::blocking).
    #[inline]
    pub fn write(&self) -> Result<LockGuard<T>, ShmError> {
        match self.fast(Mode::Exclusive, "") {
            Some(guard) => Ok(guard),
            None => self.acquire_slow(Mode::Exclusive),
        }
    }

    /// Waits to share the key, with the table's default timeout.
    ///
    /// # Errors
    /// As [`Lock::blocking`](crate::Lock::blocking).
    #[inline]
    pub fn read(&self) -> Result<LockGuard<T>, ShmError> {
        match self.fast(Mode::Shared, "") {
            Some(guard) => Ok(guard),
            None => self.acquire_slow(Mode::Shared),
        }
    }

    /// Takes the key if that is possible now; `None` if it is held.
    ///
    /// # Errors
    /// Those of every call: `Forked`, `Damaged`, `TableFull`, `LogFull`.
    #[inline]
    pub fn try_acquire(&self, mode: Mode, owner: &str) -> Result<Option<LockGuard<T>>, ShmError> {
        match self.fast(mode, owner) {
            Some(guard) => Ok(Some(guard)),
            None => self.slow(mode, owner, Patience::Try, &mut || true),
        }
    }

    /// Waits on the calling thread until the deadline, or until `go_on` says no.
    ///
    /// `None` if either comes first. `go_on` is asked when the thread has slept, which a signal ends, and at least every 20 milliseconds or so
    /// ([`TableConfig::recheck`](crate::TableConfig::recheck)).
    ///
    /// ```
    /// # fn main() -> Result<(), keylatch_shm::ShmError> {
    /// use keylatch::Mode;
    /// use keylatch_shm::{SharedTable, TableConfig};
    /// let table = SharedTable::memfd("example", &TableConfig::default().keys(64).members(2))?;
    /// let cat = table.prepare(("photos", "cat.jpg"))?;
    /// let held = cat.write()?;
    /// let mut looks = 0;
    /// let refused = cat.acquire_while(Mode::Shared, "", None, &mut || {
    ///     looks += 1;
    ///     looks < 3
    /// })?;
    /// assert!(refused.is_none());
    /// # drop(held); Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    pub fn acquire_while(
        &self,
        mode: Mode,
        owner: &str,
        deadline: Option<Instant>,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<LockGuard<T>>, ShmError> {
        match self.fast(mode, owner) {
            Some(guard) => Ok(Some(guard)),
            None => self.slow(mode, owner, Patience::Until(deadline), go_on),
        }
    }

    fn core(&self) -> &Core {
        self.table.table().core()
    }

    fn wanted<'k>(&'k self, mode: Mode, owner: &'k str) -> Wanted<'k> {
        Wanted { key: self.key.as_ref(), print: self.print, mode, owner }
    }

    #[inline(always)]
    fn fast(&self, mode: Mode, owner: &str) -> Option<LockGuard<T>> {
        let core = self.core();
        if core.is_forked() {
            return None;
        }
        let slot = self.slot.load(Ordering::Relaxed);
        try_fast(core, &self.wanted(mode, owner), slot).map(|hold| LockGuard::new(self.table.clone(), hold))
    }

    #[cold]
    #[inline(never)]
    fn slow(
        &self,
        mode: Mode,
        owner: &str,
        patience: Patience,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<LockGuard<T>>, ShmError> {
        let core = self.table.table().core_arc();
        match acquire(core, &self.wanted(mode, owner), patience, go_on) {
            Ok(Some(hold)) => {
                self.slot.store(hold.slot, Ordering::Relaxed);
                Ok(Some(LockGuard::new(self.table.clone(), hold)))
            }
            // The last two are about the insertion of the key.
            Ok(None) | Err(ShmError::Timeout { .. } | ShmError::WouldBlock { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[cold]
    #[inline(never)]
    fn acquire_slow(&self, mode: Mode) -> Result<LockGuard<T>, ShmError> {
        let begun = Instant::now();
        let deadline = Limit::Default.deadline(self.core().config.default_timeout);
        let held = self.slow(mode, "", Patience::Until(deadline), &mut || true)?;
        held.ok_or_else(|| ShmError::Timeout {
            key: self.key.clone(),
            waited: begun.elapsed(),
            holders: self.table().holders_of_print(self.print),
        })
    }
}

impl OwnedPreparedKey {
    /// Waits as a future that borrows nothing.
    pub fn acquire_until(self: &Arc<Self>, mode: Mode, owner: &str, deadline: Option<Instant>) -> OwnedAcquire {
        let limit = deadline.map_or(Limit::Never, Limit::At);
        OwnedAcquire { key: self.clone(), mode, owner: owner.to_owned(), progress: Progress::new(limit) }
    }
}

impl<T: TableRef> fmt::Debug for Prepared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedKey").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A waiting request that borrows nothing.
///
/// `None` is its result when the deadline is over. Dropping it before it is done leaves nothing behind.
#[must_use = "a future does nothing until it is awaited"]
pub struct OwnedAcquire {
    key: Arc<OwnedPreparedKey>,
    mode: Mode,
    owner: String,
    progress: Progress,
}

impl Future for OwnedAcquire {
    type Output = Result<Option<OwnedSharedLockGuard>, ShmError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { key, mode, owner, progress } = self.get_mut();
        let table = key.table();
        let held = std::task::ready!(progress.poll(table.core_arc(), &key.wanted(*mode, owner), context))?;
        Poll::Ready(Ok(held.map(|hold| OwnedSharedLockGuard::new(table.clone(), hold))))
    }
}

impl Drop for OwnedAcquire {
    fn drop(&mut self) {
        self.progress.abandon(self.key.core());
    }
}

impl fmt::Debug for OwnedAcquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedAcquire").field("key", &self.key.key).finish_non_exhaustive()
    }
}
