//! `AsyncMutex`: one holder at a time, first come, first served.

use crate::acquire::{Acquire, Lock};
use crate::error::LockTimeoutError;
use crate::guard::{ExclusiveGuard, LockRef, sealed::Sealed};
use crate::id::LockId;
use crate::options::LockOptions;
use crate::stats::{LockStats, OwnedStats};
use std::cell::UnsafeCell;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// A mutex around a value, with timeouts and statistics.
///
/// Requests are served in the order of their arrival. Dropping a future that waits leaves nothing behind. A panic while
/// the guard is held does not poison the mutex.
///
/// ```
/// use keylatch_typed::AsyncMutex;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), keylatch_typed::LockTimeoutError> {
/// let journal = AsyncMutex::new(Vec::new(), Duration::from_secs(5));
/// journal.lock_with_timeout().await?.push("started");
/// assert_eq!(journal.stats().total_acquisitions(), 1);
/// # Ok(()) }
/// ```
pub struct AsyncMutex<T: ?Sized> {
    stats: OwnedStats,
    value: UnsafeCell<T>,
}

const _: () = assert!(size_of::<AsyncMutex<()>>() <= 64, "the size of a mutex beside its value");

/// A lock that borrows its [`AsyncMutex`].
pub type AsyncMutexGuard<'a, T> = ExclusiveGuard<&'a AsyncMutex<T>>;
/// A lock that shares ownership of its [`AsyncMutex`].
pub type OwnedAsyncMutexGuard<T> = ExclusiveGuard<Arc<AsyncMutex<T>>>;

// SAFETY: the mutex owns the value.
unsafe impl<T: ?Sized + Send> Send for AsyncMutex<T> {}
// SAFETY: only one holder has access, from any thread.
unsafe impl<T: ?Sized + Send> Sync for AsyncMutex<T> {}

impl<T> AsyncMutex<T> {
    /// Makes a mutex with this default timeout; its id says where it was made.
    #[track_caller]
    pub fn new(value: T, default_timeout: Duration) -> Self {
        Self::with_options(value, LockOptions::new(default_timeout))
    }

    /// Makes a mutex with an id for errors and reports.
    #[track_caller]
    pub fn with_id(value: T, default_timeout: Duration, id: LockId) -> Self {
        Self::with_options(value, LockOptions::new(default_timeout).id(id))
    }

    /// Makes a mutex with these settings.
    #[track_caller]
    pub fn with_options(value: T, options: LockOptions) -> Self {
        Self { stats: options.into_stats(Location::caller()), value: UnsafeCell::new(value) }
    }

    /// Returns the value of a mutex that is not shared any more.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> AsyncMutex<T> {
    /// Acquires the lock; gives up after the default timeout.
    ///
    /// # Errors
    ///
    /// [`LockTimeoutError::Timeout`] when the time is over, [`LockTimeoutError::Cancelled`] after
    /// [`cancel_waiters`](Self::cancel_waiters).
    #[track_caller]
    #[inline]
    pub fn lock_with_timeout(&self) -> Acquire<&Self, Lock> {
        Acquire::new(self, None, Location::caller())
    }

    /// Acquires the lock; gives up after this time.
    ///
    /// Zero does not wait, [`Duration::MAX`] waits without an end.
    #[track_caller]
    #[inline]
    pub fn lock_with_custom_timeout(&self, timeout: Duration) -> Acquire<&Self, Lock> {
        Acquire::new(self, Some(timeout), Location::caller())
    }

    /// Acquires the lock if it is free and has no line.
    #[track_caller]
    #[inline]
    pub fn try_lock(&self) -> Option<AsyncMutexGuard<'_, T>> {
        Acquire::<_, Lock>::new(self, None, Location::caller()).try_now()
    }

    /// Blocks the thread for the lock.
    ///
    /// In a task this stops every task of the thread: await there instead.
    ///
    /// # Errors
    ///
    /// As [`lock_with_timeout`](Self::lock_with_timeout).
    #[track_caller]
    #[inline]
    pub fn blocking_lock_with_timeout(&self) -> Result<AsyncMutexGuard<'_, T>, LockTimeoutError> {
        Acquire::<_, Lock>::new(self, None, Location::caller()).blocking()
    }

    /// Blocks the thread for the lock, for at most this time.
    ///
    /// # Errors
    ///
    /// As [`lock_with_timeout`](Self::lock_with_timeout).
    #[track_caller]
    #[inline]
    pub fn blocking_lock_with_custom_timeout(
        &self,
        timeout: Duration,
    ) -> Result<AsyncMutexGuard<'_, T>, LockTimeoutError> {
        Acquire::<_, Lock>::new(self, Some(timeout), Location::caller()).blocking()
    }

    /// Acquires the lock; its guard shares ownership of the mutex.
    #[track_caller]
    pub fn lock_owned_with_timeout(self: &Arc<Self>) -> Acquire<Arc<Self>, Lock> {
        Acquire::new(Arc::clone(self), None, Location::caller())
    }

    /// Acquires the lock.
    ///
    /// Its guard shares ownership of the mutex; gives up after this time.
    #[track_caller]
    pub fn lock_owned_with_custom_timeout(self: &Arc<Self>, timeout: Duration) -> Acquire<Arc<Self>, Lock> {
        Acquire::new(Arc::clone(self), Some(timeout), Location::caller())
    }

    /// Acquires the lock as [`try_lock`](Self::try_lock) does.
    ///
    /// Its guard shares ownership of the mutex.
    #[track_caller]
    pub fn try_lock_owned(self: &Arc<Self>) -> Option<OwnedAsyncMutexGuard<T>> {
        Acquire::<_, Lock>::new(Arc::clone(self), None, Location::caller()).try_now()
    }

    /// Ends every wait in line with [`LockTimeoutError::Cancelled`].
    ///
    /// Returns how many there were.
    ///
    /// The holder keeps the lock, and later requests are served.
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

    /// Returns the value; exclusive access to the mutex needs no locking.
    pub const fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> fmt::Debug for AsyncMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the value: showing it would be an acquisition.
        f.debug_struct("AsyncMutex").field("stats", self.stats()).finish_non_exhaustive()
    }
}

impl<T: ?Sized> Sealed for &AsyncMutex<T> {}
impl<T: ?Sized> Sealed for Arc<AsyncMutex<T>> {}

// SAFETY: both come from the mutex that is borrowed.
unsafe impl<T: ?Sized> LockRef for &AsyncMutex<T> {
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

// SAFETY: both come from the mutex that the counted reference keeps.
unsafe impl<T: ?Sized> LockRef for Arc<AsyncMutex<T>> {
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
