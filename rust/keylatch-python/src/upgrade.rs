//! An upgrade of a guard that an event loop waits for.

use crate::guard::GuardObject;
use crate::pending::Pending;
use crate::request::Timeout;
use keylatch::FastLockGuard;
use pyo3::prelude::*;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

/// What the loop polls.
///
/// # Safety
/// `guard` is a guard.
pub(crate) unsafe fn pending(py: Python<'_>, guard: Bound<'_, PyAny>, timeout: Timeout) -> PyResult<Pending> {
    // SAFETY: the caller promises a guard.
    let object = unsafe { GuardObject::from_raw(guard.as_ptr()) };
    let mut upgrade = Upgrading::begin(py, object, guard.unbind(), timeout)?;
    Ok(Pending::new(move |py, context| {
        // SAFETY: a guard, which the upgrade keeps alive.
        let guard = unsafe { GuardObject::from_raw(upgrade.guard.as_ptr()) };
        let Some(future) = &mut upgrade.future else { return Poll::Ready(Err(guard.not_held(py))) };
        let Poll::Ready(upgraded) = Pin::new(future).poll(context) else { return Poll::Pending };
        upgrade.end();
        Poll::Ready(upgraded.map(|()| py.None()).map_err(|error| guard.gone(py, &error)))
    }))
}

/// A guard whose hold is lent to an upgrade until that ends, one way or the other.
struct Upgrading {
    future: Option<keylatch::Upgrade<'static, &'static keylatch::FastObjectLockManager>>,
    guard: Py<PyAny>,
}

impl Upgrading {
    fn begin(py: Python<'_>, object: &GuardObject, guard: Py<PyAny>, timeout: Timeout) -> PyResult<Self> {
        let hold = object.lend(py)?;
        // SAFETY: the hold lies in the guard's object, which `guard` keeps alive and in its place; nothing else uses
        // the hold until `end` has dropped the future and given it back.
        let hold: &'static mut FastLockGuard<'static> = unsafe { &mut *hold };
        Ok(Self { future: Some(hold.upgrade(timeout.as_duration())), guard })
    }

    fn end(&mut self) {
        if self.future.take().is_some() {
            // SAFETY: a guard, and its hold was lent to this.
            unsafe { GuardObject::from_raw(self.guard.as_ptr()).give_back() };
        }
    }
}

impl Drop for Upgrading {
    fn drop(&mut self) {
        self.end();
    }
}
