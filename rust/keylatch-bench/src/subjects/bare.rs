//! Locks without keys: what a lock costs before anything is looked up.

use std::cell::UnsafeCell;

use crate::keys::Key;
use crate::polling::block_on;
use crate::subject::{Exclusive, ExclusiveAsync, Shared, Subject};

/// `std::sync::RwLock`.
pub(crate) struct Std(std::sync::RwLock<()>);

impl Subject for Std {
    const NAME: &'static str = "std";

    fn create() -> Self {
        Self(std::sync::RwLock::new(()))
    }
}

impl Exclusive for Std {
    #[inline(always)]
    fn exclusive(&self, _: Key<'_>, inside: impl FnOnce()) {
        let _guard = self.0.write().expect("nothing panics while holding");
        inside();
    }
}

impl Shared for Std {
    #[inline(always)]
    fn shared(&self, _: Key<'_>, inside: impl FnOnce()) {
        let _guard = self.0.read().expect("nothing panics while holding");
        inside();
    }
}

/// `parking_lot::RwLock`: the control of the contended rows.
pub(crate) struct ParkingLot(parking_lot::RwLock<()>);

impl Subject for ParkingLot {
    const NAME: &'static str = "parking_lot";

    fn create() -> Self {
        Self(parking_lot::RwLock::new(()))
    }
}

impl Exclusive for ParkingLot {
    #[inline(always)]
    fn exclusive(&self, _: Key<'_>, inside: impl FnOnce()) {
        let _guard = self.0.write();
        inside();
    }
}

impl Shared for ParkingLot {
    #[inline(always)]
    fn shared(&self, _: Key<'_>, inside: impl FnOnce()) {
        let _guard = self.0.read();
        inside();
    }
}

/// `parking_lot::Mutex`: the control of the parked hand-off.
pub(crate) struct ParkingLotMutex(parking_lot::Mutex<()>);

impl Subject for ParkingLotMutex {
    const NAME: &'static str = "parking_lot_mutex";

    fn create() -> Self {
        Self(parking_lot::Mutex::new(()))
    }
}

impl Exclusive for ParkingLotMutex {
    #[inline(always)]
    fn exclusive(&self, _: Key<'_>, inside: impl FnOnce()) {
        let _guard = self.0.lock();
        inside();
    }
}

/// `tokio::sync::RwLock`, polled without a runtime.
pub(crate) struct Tokio(tokio::sync::RwLock<()>);

impl Subject for Tokio {
    const NAME: &'static str = "tokio";

    fn create() -> Self {
        Self(tokio::sync::RwLock::new(()))
    }
}

impl Exclusive for Tokio {
    #[inline(always)]
    fn exclusive(&self, _: Key<'_>, inside: impl FnOnce()) {
        let _guard = block_on(self.0.write());
        inside();
    }
}

impl Shared for Tokio {
    #[inline(always)]
    fn shared(&self, _: Key<'_>, inside: impl FnOnce()) {
        let _guard = block_on(self.0.read());
        inside();
    }
}

impl ExclusiveAsync for Tokio {
    #[inline(always)]
    async fn exclusive_async<'a>(&'a self, _: Key<'a>, inside: impl FnOnce() + 'a) {
        let _guard = self.0.write().await;
        inside();
    }
}

/// `pthread_rwlock_t`, boxed because it may not move once it is in use.
pub(crate) struct Pthread(Box<UnsafeCell<libc::pthread_rwlock_t>>);

// SAFETY: a pthread_rwlock_t is made to be used by several threads together through its address, which the box keeps.
unsafe impl Sync for Pthread {}

impl Subject for Pthread {
    const NAME: &'static str = "pthread_rwlock";

    fn create() -> Self {
        Self(Box::new(UnsafeCell::new(libc::PTHREAD_RWLOCK_INITIALIZER)))
    }
}

impl Pthread {
    #[inline(always)]
    fn unlock(&self) {
        // SAFETY: called only by the thread that has just locked it, in the two functions below.
        let status = unsafe { libc::pthread_rwlock_unlock(self.0.get()) };
        debug_assert_eq!(status, 0);
    }
}

impl Exclusive for Pthread {
    #[inline(always)]
    fn exclusive(&self, _: Key<'_>, inside: impl FnOnce()) {
        // SAFETY: the lock is initialised and stays where it is for as long as `self` lives.
        let status = unsafe { libc::pthread_rwlock_wrlock(self.0.get()) };
        assert_eq!(status, 0, "pthread_rwlock_wrlock");
        inside();
        self.unlock();
    }
}

impl Shared for Pthread {
    #[inline(always)]
    fn shared(&self, _: Key<'_>, inside: impl FnOnce()) {
        // SAFETY: the lock is initialised and stays where it is for as long as `self` lives.
        let status = unsafe { libc::pthread_rwlock_rdlock(self.0.get()) };
        assert_eq!(status, 0, "pthread_rwlock_rdlock");
        inside();
        self.unlock();
    }
}

impl Drop for Pthread {
    fn drop(&mut self) {
        // SAFETY: no thread can hold it: every holder borrows `self`.
        unsafe { libc::pthread_rwlock_destroy(self.0.get()) };
    }
}

/// `saa::Lock`.
pub(crate) struct Saa(saa::Lock);

/// Releases on the way out, as a guard does.
struct Release<F: FnMut()>(F);

impl<F: FnMut()> Drop for Release<F> {
    #[inline(always)]
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Subject for Saa {
    const NAME: &'static str = "saa";

    fn create() -> Self {
        Self(saa::Lock::default())
    }
}

impl Exclusive for Saa {
    #[inline(always)]
    fn exclusive(&self, _: Key<'_>, inside: impl FnOnce()) {
        assert!(self.0.lock_sync(), "never poisoned");
        let _release = Release(|| {
            self.0.release_lock();
        });
        inside();
    }
}

impl Shared for Saa {
    #[inline(always)]
    fn shared(&self, _: Key<'_>, inside: impl FnOnce()) {
        assert!(self.0.share_sync(), "never poisoned");
        let _release = Release(|| {
            self.0.release_share();
        });
        inside();
    }
}

impl ExclusiveAsync for Saa {
    #[inline(always)]
    async fn exclusive_async<'a>(&'a self, _: Key<'a>, inside: impl FnOnce() + 'a) {
        assert!(self.0.lock_async().await, "never poisoned");
        let _release = Release(|| {
            self.0.release_lock();
        });
        inside();
    }
}
