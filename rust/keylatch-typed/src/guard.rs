//! Guards: access to a locked value, and the end of the hold when they are dropped.
//!
//! A guard refers to its lock by `&AsyncRwLock<T>` or by `Arc<AsyncRwLock<T>>`; everything else is the same, so borrowed
//! and owned guards are one type each. A guard may be moved to another thread and dropped there.
//!
//! No lock is ever poisoned. A panic while a guard is held releases the lock, and the next holder finds the value as the
//! panicking code left it. Build the new state aside and assign it at the end where that matters.

use crate::lock::Mode;
use crate::stats::{HoldStart, LockStats};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// A reference to a lock: borrowed or counted. Implemented by this crate only.
///
/// # Safety
///
/// `stats` and `value` return the same lock state and the same value for as long as the reference lives, wherever the
/// reference itself is moved, and holding the lock in `stats` is what permits access to `value`.
pub unsafe trait LockRef: Unpin + sealed::Sealed {
    /// The locked value.
    type Value: ?Sized;
    #[doc(hidden)]
    fn stats(&self) -> &LockStats;
    #[doc(hidden)]
    fn value(&self) -> *mut Self::Value;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// A reference to a lock whose write guard can become a read guard.
pub trait Downgradable: LockRef {}

/// A lock held together with other readers.
///
/// Named through [`AsyncRwLockReadGuard`](crate::AsyncRwLockReadGuard) and
/// [`OwnedAsyncRwLockReadGuard`](crate::OwnedAsyncRwLockReadGuard).
#[must_use = "the lock is released when the guard is dropped"]
pub struct ReadGuard<R: LockRef> {
    lock: R,
    start: HoldStart,
    /// A guard is as good as a shared reference to the value.
    value: PhantomData<SharedAccess<R>>,
}

/// A lock held alone.
///
/// Named through [`AsyncRwLockWriteGuard`](crate::AsyncRwLockWriteGuard),
/// [`AsyncMutexGuard`](crate::AsyncMutexGuard) and their owned forms. May be sent and shared as an exclusive reference
/// to the value may be:
///
/// ```
/// # use keylatch_typed::AsyncMutex;
/// # use std::{cell::Cell, time::Duration};
/// fn may_be_sent<T: Send>(_: T) {}
/// fn may_be_shared<T: Sync>(_: T) {}
/// let (cell, number) = (AsyncMutex::new(Cell::new(1), Duration::ZERO), AsyncMutex::new(1, Duration::ZERO));
/// may_be_sent(cell.try_lock().unwrap());
/// may_be_shared(number.try_lock().unwrap());
/// ```
///
/// ```compile_fail,E0277
/// # use keylatch_typed::AsyncMutex;
/// # use std::{cell::Cell, time::Duration};
/// fn may_be_shared<T: Sync>(_: T) {}
/// let cell = AsyncMutex::new(Cell::new(1), Duration::ZERO);
/// may_be_shared(cell.try_lock().unwrap());
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct ExclusiveGuard<R: LockRef> {
    lock: R,
    start: HoldStart,
    /// A guard is as good as an exclusive reference to the value.
    ///
    /// Without this, a guard of a value that is `Send` and not `Sync` could be shared between threads.
    value: PhantomData<ExclusiveAccess<R>>,
}

/// Has the auto traits of a value that is shared.
///
/// `Sync` values only, on any thread.
struct SharedAccess<R: LockRef>(PhantomData<*const R::Value>);

/// Has the auto traits of the value itself.
struct ExclusiveAccess<R: LockRef>(PhantomData<*mut R::Value>);

// SAFETY: a shared reference may be sent where the value may be shared.
unsafe impl<R: LockRef> Send for SharedAccess<R> where R::Value: Sync {}
// SAFETY: as above.
unsafe impl<R: LockRef> Sync for SharedAccess<R> where R::Value: Sync {}
// SAFETY: an exclusive reference may be sent where the value may be sent.
unsafe impl<R: LockRef> Send for ExclusiveAccess<R> where R::Value: Send {}
// SAFETY: sharing the guard gives shared references to the value.
unsafe impl<R: LockRef> Sync for ExclusiveAccess<R> where R::Value: Sync {}

impl<R: LockRef> ReadGuard<R> {
    pub(crate) const fn new(lock: R, start: HoldStart) -> Self {
        Self { lock, start, value: PhantomData }
    }
}

impl<R: LockRef> ExclusiveGuard<R> {
    pub(crate) const fn new(lock: R, start: HoldStart) -> Self {
        Self { lock, start, value: PhantomData }
    }
}

impl<R: Downgradable> ExclusiveGuard<R> {
    /// Turns the write lock into a read lock; no writer comes in between.
    ///
    /// Readers at the head of the line join. The hold counts as one, from the beginning of the write lock on.
    ///
    /// ```
    /// # use keylatch_typed::AsyncRwLock;
    /// # use std::time::Duration;
    /// let lock = AsyncRwLock::new(1, Duration::from_secs(5));
    /// let mut writing = lock.try_write().unwrap();
    /// *writing = 2;
    /// let reading = writing.downgrade();
    /// assert_eq!((*reading, *lock.try_read().unwrap()), (2, 2));
    /// ```
    pub fn downgrade(self) -> ReadGuard<R> {
        let guard = ManuallyDrop::new(self);
        guard.lock.stats().raw().downgrade();
        // SAFETY: the guard is not dropped, so the reference is moved out once.
        ReadGuard::new(unsafe { std::ptr::read(&raw const guard.lock) }, guard.start)
    }
}

impl<R: LockRef> Drop for ReadGuard<R> {
    #[inline]
    fn drop(&mut self) {
        self.lock.stats().end_hold(Mode::Shared, self.start);
    }
}

impl<R: LockRef> Drop for ExclusiveGuard<R> {
    #[inline]
    fn drop(&mut self) {
        self.lock.stats().end_hold(Mode::Exclusive, self.start);
    }
}

impl<R: LockRef> Deref for ReadGuard<R> {
    type Target = R::Value;

    #[inline]
    fn deref(&self) -> &R::Value {
        // SAFETY: the guard holds the lock shared, so nothing has exclusive access.
        unsafe { &*self.lock.value() }
    }
}

impl<R: LockRef> Deref for ExclusiveGuard<R> {
    type Target = R::Value;

    #[inline]
    fn deref(&self) -> &R::Value {
        // SAFETY: the guard holds the lock alone, and is borrowed.
        unsafe { &*self.lock.value() }
    }
}

impl<R: LockRef> DerefMut for ExclusiveGuard<R> {
    #[inline]
    fn deref_mut(&mut self) -> &mut R::Value {
        // SAFETY: the guard holds the lock alone, and is borrowed exclusively.
        unsafe { &mut *self.lock.value() }
    }
}

impl<R: LockRef<Value: fmt::Debug>> fmt::Debug for ReadGuard<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<R: LockRef<Value: fmt::Debug>> fmt::Debug for ExclusiveGuard<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<R: LockRef<Value: fmt::Display>> fmt::Display for ReadGuard<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl<R: LockRef<Value: fmt::Display>> fmt::Display for ExclusiveGuard<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}
