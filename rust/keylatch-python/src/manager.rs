//! The manager: `LockManager`, whose verbs are in `acquire` and `manager_methods`.

use crate::fork::Process;
use crate::remote::Remote;
use keylatch::{Acquire, FastLockGuard, FastObjectLockManager, LockError, LockRequest};
use pyo3::ffi;
use pyo3::prelude::*;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

/// What `keylatch.LockManager` is made of.
#[pyclass(frozen, subclass, weakref, name = "LockManager", module = "keylatch._keylatch")]
pub(crate) struct LockManager {
    locks: FastObjectLockManager,
    remote: Option<Remote>,
    /// Tells managers apart, for owners.
    id: u64,
    process: Process,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl LockManager {
    pub(crate) fn new(locks: FastObjectLockManager, remote: Option<Remote>) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        remote.iter().for_each(|remote| remote.remember(id));
        Self { locks, remote, id, process: Process::this() }
    }

    /// The manager that a method was called on.
    ///
    /// # Safety
    /// It is one, and outlives the use: the caller of a method holds a reference to it, and so does a guard.
    #[inline(always)]
    pub(crate) unsafe fn from_raw<'a>(object: *mut ffi::PyObject) -> &'a Self {
        // SAFETY: the caller says so. The value lies in the object, and is never borrowed mutably.
        unsafe {
            let this = Borrowed::from_ptr(Python::assume_attached(), object);
            let this: &Self = this.cast_unchecked::<Self>().get();
            &*std::ptr::from_ref(this)
        }
    }

    #[inline(always)]
    pub(crate) fn locks(&self) -> &FastObjectLockManager {
        &self.locks
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The process that it was made in.
    #[inline(always)]
    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// The locks, unless they are a parent's.
    ///
    /// Of those nothing is touched that its threads may have left in between.
    pub(crate) fn own_locks(&self, py: Python<'_>) -> PyResult<&FastObjectLockManager> {
        self.process.check(py).map(|()| &self.locks)
    }

    /// Asks for a lock, without waiting.
    ///
    /// A pending request is in line, and sees its result when it is polled again.
    #[inline(always)]
    pub(crate) fn ask<'m, 'k>(
        &'m self,
        request: LockRequest<'k>,
    ) -> Result<Result<FastLockGuard<'m>, LockError>, Acquire<'m, 'k>> {
        let mut future = self.locks.lock(request).into_future();
        match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(held) => Ok(held),
            Poll::Pending => Err(future),
        }
    }
}

impl Drop for LockManager {
    fn drop(&mut self) {
        // While the manager is there: dropped while an event arrives, it would leave this to another thread.
        if let Some(remote) = self.remote.take().filter(|_| !self.process.is_forked()) {
            self.locks.close();
            remote.close(self.id);
        }
    }
}
