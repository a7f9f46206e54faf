//! `AsyncRwLock`: readers together or one writer, first come, first served.

use crate::acquire::{Acquire, Read, Write};
use crate::error::LockTimeoutError;
use crate::guard::{Downgradable, ExclusiveGuard, LockRef, ReadGuard, sealed::Sealed};
use crate::id::LockId;
use crate::options::LockOptions;
use crate::stats::{LockStats, OwnedStats};
use std::cell::UnsafeCell;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// A read-write lock around a value, with timeouts and statistics.
///
/// Requests are served in the order of their arrival: neighbouring readers together, a writer alone. A writer never waits
/// for readers that came after it. A task that holds a read lock and asks for another waits behind a writer that came in
/// between, so it waits for itself until the timeout: hold one guard a task.
///
/// Dropping a future that waits leaves nothing behind. A panic while a guard is held does not poison the lock.
///
/// ```
/// use keylatch_typed::AsyncRwLock;
/// use std::collections::HashMap;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), keylatch_typed::LockTimeoutError> {
/// let scores = AsyncRwLock::new(HashMap::new(), Duration::from_secs(5));
/// scores.write_with_timeout().await?.insert("ada", 3);
///
/// let reading = scores.read_with_timeout().await?;
/// assert_eq!(reading["ada"], 3);
///
/// // A reader is in the way: the error says where it took the lock.
/// let refused = scores.write_with_custom_timeout(Duration::from_millis(1)).await.unwrap_err();
/// assert!(refused.to_string().contains("held by 1 reader, last acquired at"));
/// # Ok(()) }
/// ```
pub struct AsyncRwLock<T: ?Sized> {
    stats: OwnedStats,
    value: UnsafeCell<T>,
}

const _: () = assert!(size_of::<AsyncRwLock<()>>() <= 64, "the size of a lock beside its value");

/// A read lock that borrows its [`AsyncRwLock`].
pub type AsyncRwLockReadGuard<'a, T> = ReadGuard<&'a AsyncRwLock<T>>;
/// A write lock that borrows its [`AsyncRwLock`].
pub type AsyncRwLockWriteGuard<'a, T> = ExclusiveGuard<&'a AsyncRwLock<T>>;
/// A read lock that shares ownership of its [`AsyncRwLock`].
pub type OwnedAsyncRwLockReadGuard<T> = ReadGuard<Arc<AsyncRwLock<T>>>;
/// A write lock that shares ownership of its [`AsyncRwLock`].
pub type OwnedAsyncRwLockWriteGuard<T> = ExclusiveGuard<Arc<AsyncRwLock<T>>>;

// SAFETY: the lock owns the value.
unsafe impl<T: ?Sized + Send> Send for AsyncRwLock<T> {}
// SAFETY: a shared lock gives shared access from several threads, and exclusive access from any.
unsafe impl<T: ?Sized + Send + Sync> Sync for AsyncRwLock<T> {}

impl<T> AsyncRwLock<T> {
    /// Makes a lock with this default timeout; its id says where it was made.
    #[track_caller]
    pub fn new(value: T, default_timeout: Duration) -> Self {
        Self::with_options(value, LockOptions::new(default_timeout))
    }

    /// Makes a lock with an id for errors and reports.
    #[track_caller]
    pub fn with_id(value: T, default_timeout: Duration, id: LockId) -> Self {
        Self::with_options(value, LockOptions::new(default_timeout).id(id))
    }

    /// Makes a lock with these settings.
    #[track_caller]
    pub fn with_options(value: T, options: LockOptions) -> Self {
        Self { stats: options.into_stats(Location::caller()), value: UnsafeCell::new(value) }
    }

    /// Returns the value of a lock that is not shared any more.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> AsyncRwLock<T> {
    /// Acquires a read lock; gives up after the default timeout.
    ///
    /// # Errors
    ///
    /// [`LockTimeoutError::Timeout`] when the time is over, [`LockTimeoutError::Cancelled`] after
    /// [`cancel_waiters`](Self::cancel_waiters).
    #[track_caller]
    #[inline]
    pub fn read_with_timeout(&self) -> Acquire<&Self, Read> {
        Acquire::new(self, None, Location::caller())
    }

    /// Acquires a read lock; gives up after this time.
    ///
    /// Zero does not wait, [`Duration::MAX`] waits without an end.
    #[track_caller]
    #[inline]
    pub fn read_with_custom_timeout(&self, timeout: Duration) -> Acquire<&Self, Read> {
        Acquire::new(self, Some(timeout), Location::caller())
    }

    /// Acquires the write lock; gives up after the default timeout.
    #[track_caller]
    #[inline]
    pub fn write_with_timeout(&self) -> Acquire<&Self, Write> {
        Acquire::new(self, None, Location::caller())
    }

    /// Acquires the write lock; gives up after this time.
    ///
    /// Zero does not wait, [`Duration::MAX`] waits without an end.
    #[track_caller]
    #[inline]
    pub fn write_with_custom_timeout(&self, timeout: Duration) -> Acquire<&Self, Write> {
        Acquire::new(self, Some(timeout), Location::caller())
    }

    /// Acquires a read lock if the lock is free for it and has no line.
    #[track_caller]
    #[inline]
    pub fn try_read(&self) -> Option<AsyncRwLockReadGuard<'_, T>> {
        Acquire::<_, Read>::new(self, None, Location::caller()).try_now()
    }

    /// Acquires the write lock if the lock is free and has no line.
    #[track_caller]
    #[inline]
    pub fn try_write(&self) -> Option<AsyncRwLockWriteGuard<'_, T>> {
        Acquire::<_, Write>::new(self, None, Location::caller()).try_now()
    }

    /// Blocks the thread for a read lock.
    ///
    /// In a task this stops every task of the thread: await there instead.
    ///
    /// # Errors
    ///
    /// As [`read_with_timeout`](Self::read_with_timeout).
    #[track_caller]
    #[inline]
    pub fn blocking_read_with_timeout(&self) -> Result<AsyncRwLockReadGuard<'_, T>, LockTimeoutError> {
        Acquire::<_, Read>::new(self, None, Location::caller()).blocking()
    }

    /// Blocks the thread for a read lock, for at most this time.
    ///
    /// # Errors
    ///
    /// As [`read_with_timeout`](Self::read_with_timeout).
    #[track_caller]
    #[inline]
    pub fn blocking_read_with_custom_timeout(
        &self,
        timeout: Duration,
    ) -> Result<AsyncRwLockReadGuard<'_, T>, LockTimeoutError> {
        Acquire::<_, Read>::new(self, Some(timeout), Location::caller()).blocking()
    }

    /// Blocks the thread for the write lock.
    ///
    /// In a task this stops every task of the thread: await there instead.
    ///
    /// # Errors
    ///
    /// As [`read_with_timeout`](Self::read_with_timeout).
    #[track_caller]
    #[inline]
    pub fn blocking_write_with_timeout(&self) -> Result<AsyncRwLockWriteGuard<'_, T>, LockTimeoutError> {
        Acquire::<_, Write>::new(self, None, Location::caller()).blocking()
    }

    /// Blocks the thread for the write lock, for at most this time.
    ///
    /// # Errors
    ///
    /// As [`read_with_timeout`](Self::read_with_timeout).
    #[track_caller]
    #[inline]
    pub fn blocking_write_with_custom_timeout(
        &self,
        timeout: Duration,
    ) -> Result<AsyncRwLockWriteGuard<'_, T>, LockTimeoutError> {
        Acquire::<_, Write>::new(self, Some(timeout), Location::caller()).blocking()
    }

    /// Acquires a read lock whose guard shares ownership of the lock.
    #[track_caller]
    pub fn read_owned_with_timeout(self: &Arc<Self>) -> Acquire<Arc<Self>, Read> {
        Acquire::new(Arc::clone(self), None, Location::caller())
    }

    /// Acquires a read lock whose guard shares ownership of the lock.
    ///
    /// Gives up after this time.
    #[track_caller]
    pub fn read_owned_with_custom_timeout(self: &Arc<Self>, timeout: Duration) -> Acquire<Arc<Self>, Read> {
        Acquire::new(Arc::clone(self), Some(timeout), Location::caller())
    }

    /// Acquires the write lock; its guard shares ownership of the lock.
    #[track_caller]
    pub fn write_owned_with_timeout(self: &Arc<Self>) -> Acquire<Arc<Self>, Write> {
        Acquire::new(Arc::clone(self), None, Location::caller())
    }

    /// Acquires the write lock.
    ///
    /// Its guard shares ownership of the lock; gives up after this time.
    #[track_caller]
    pub fn write_owned_with_custom_timeout(self: &Arc<Self>, timeout: Duration) -> Acquire<Arc<Self>, Write> {
        Acquire::new(Arc::clone(self), Some(timeout), Location::caller())
    }

    /// Acquires a read lock as [`try_read`](Self::try_read) does.
    ///
    /// Its guard shares ownership of the lock.
    #[track_caller]
    pub fn try_read_owned(self: &Arc<Self>) -> Option<OwnedAsyncRwLockReadGuard<T>> {
        Acquire::<_, Read>::new(Arc::clone(self), None, Location::caller()).try_now()
    }

    /// Acquires the write lock as [`try_write`](Self::try_write) does.
    ///
    /// Its guard shares ownership of the lock.
    #[track_caller]
    pub fn try_write_owned(self: &Arc<Self>) -> Option<OwnedAsyncRwLockWriteGuard<T>> {
        Acquire::<_, Write>::new(Arc::clone(self), None, Location::caller()).try_now()
    }

    /// Ends every wait in line with [`LockTimeoutError::Cancelled`].
    ///
    /// Returns how many there were.
    ///
    /// Holders keep the lock, and later requests are served.
    pub fn cancel_waiters(&self) -> u32 {
        self.stats.raw().cancel_line()
    }

    /// Returns the statistics of the lock.
    ///
    /// They are to be read, or to be registered with a [`LockMonitor`](crate::LockMonitor).
    pub const fn stats(&self) -> &Arc<LockStats> {
        self.stats.shared()
    }

    /// Begins a new period of statistics.
    ///
    /// [`LockStats::reset`] also returns the one that ends.
    pub fn reset_stats(&self) {
        self.stats.reset();
    }

    /// Returns the value; exclusive access to the lock needs no locking.
    pub const fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> fmt::Debug for AsyncRwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the value: showing it would be an acquisition.
        f.debug_struct("AsyncRwLock").field("stats", self.stats()).finish_non_exhaustive()
    }
}

impl<T: ?Sized> Sealed for &AsyncRwLock<T> {}
impl<T: ?Sized> Sealed for Arc<AsyncRwLock<T>> {}
impl<T: ?Sized> Downgradable for &AsyncRwLock<T> {}
impl<T: ?Sized> Downgradable for Arc<AsyncRwLock<T>> {}

// SAFETY: both come from the lock that is borrowed.
unsafe impl<T: ?Sized> LockRef for &AsyncRwLock<T> {
    type Value = T;
    #[inline]
    fn stats(&self) -> &LockStats {
        &self.stats
    }
    #[inline]
    fn value(&self) -> *mut T {
        self.value.get()
    }
}

// SAFETY: both come from the lock that the counted reference keeps.
unsafe impl<T: ?Sized> LockRef for Arc<AsyncRwLock<T>> {
    type Value = T;
    #[inline]
    fn stats(&self) -> &LockStats {
        &self.stats
    }
    #[inline]
    fn value(&self) -> *mut T {
        self.value.get()
    }
}
