//! A wait that an event loop keeps: a future of the lock manager's, and what it becomes in Python when it is done.

use crate::classes::module;
use crate::guard::{self, GuardObject};
use crate::request::Timeout;
use keylatch::{Acquire, FastLockGuard};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// Polled with the thread attached until it has a result.
pub(crate) type Waiting = Box<dyn FnMut(Python<'_>, &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> + Send>;

/// A wait that has begun: its task and the loop's `LoopWaits` refer to it. Dropping it ends the wait.
#[pyclass(frozen, module = "keylatch._keylatch")]
pub(crate) struct Pending {
    state: Mutex<State>,
}

enum State {
    Waiting(Waiting),
    /// Somebody polls it, off the mutex: that calls Python, which may do anything.
    Polled,
    Ended,
}

impl Pending {
    pub(crate) fn new(
        waiting: impl FnMut(Python<'_>, &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> + Send + 'static,
    ) -> Self {
        Self { state: Mutex::new(State::Waiting(Box::new(waiting))) }
    }

    fn swap(&self, state: State) -> State {
        std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), state)
    }

    /// Looks whether there is a result, which it gives once.
    pub(crate) fn poll(&self, py: Python<'_>, context: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        let mut waiting = match self.swap(State::Polled) {
            State::Waiting(waiting) => waiting,
            other => {
                drop(self.swap(other));
                return Poll::Ready(Err(PyRuntimeError::new_err("the wait has ended")));
            }
        };
        let polled = waiting(py, context);
        let next = if polled.is_pending() { State::Waiting(waiting) } else { State::Ended };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Otherwise it was ended meanwhile, and stays so.
        if matches!(*state, State::Polled) {
            *state = next;
        }
        polled
    }

    /// Ends the wait: what was asked for is asked for no more, and what has come and was not fetched is given back.
    pub(crate) fn end(&self) {
        drop(self.swap(State::Ended));
    }

    /// The coroutine that waits.
    pub(crate) fn into_coroutine(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        asyncio(py)?.getattr("wait")?.call1((Bound::new(py, self)?,))
    }

    /// A request for one lock that was polled once and is in line.
    pub(crate) fn acquire(wait: LongAcquire) -> Self {
        let mut wait = wait;
        Self::new(move |py, context| {
            // The whole of it: a closure that names single fields keeps no others.
            let wait = &mut wait;
            let Poll::Ready(held) = Pin::new(&mut wait.future).poll(context) else { return Poll::Pending };
            let owner = wait.owner.as_ref().map_or(std::ptr::null_mut(), Py::as_ptr);
            let guard = guard::from_answer(py, held, wait.manager.as_ptr(), wait.key.as_ptr(), owner);
            let guard = guard::renewed(py, guard, wait.renewed);
            // SAFETY: a new reference.
            Poll::Ready(guard.map(|guard| unsafe { Bound::from_owned_ptr(py, guard).unbind() }))
        })
    }

    /// A guard's upgrade.
    ///
    /// # Safety
    /// `guard` is a guard.
    pub(crate) unsafe fn upgrade(py: Python<'_>, guard: Bound<'_, PyAny>, timeout: Timeout) -> PyResult<Self> {
        // SAFETY: the caller promises a guard.
        let object = unsafe { GuardObject::from_raw(guard.as_ptr()) };
        let mut upgrade = Upgrading::begin(py, object, guard.unbind(), timeout)?;
        Ok(Self::new(move |py, context| {
            // SAFETY: a guard, which the upgrade keeps alive.
            let guard = unsafe { GuardObject::from_raw(upgrade.guard.as_ptr()) };
            let Some(future) = &mut upgrade.future else { return Poll::Ready(Err(guard.not_held(py))) };
            let Poll::Ready(upgraded) = Pin::new(future).poll(context) else { return Poll::Pending };
            upgrade.end();
            Poll::Ready(upgraded.map(|()| py.None()).map_err(|error| guard.gone(py, &error)))
        }))
    }
}

/// A request in line, and the objects that it refers to. The order matters: the future goes first.
pub(crate) struct LongAcquire {
    pub(crate) future: Acquire<'static, 'static>,
    pub(crate) manager: Py<PyAny>,
    pub(crate) key: Py<PyAny>,
    pub(crate) owner: Option<Py<PyAny>>,
    pub(crate) renewed: Option<Duration>,
    /// Whatever else the request borrows from.
    pub(crate) _kept: (Vec<Py<PyAny>>, Option<Py<PyAny>>),
}

/// A guard whose hold is lent to an upgrade until that ends, one way or the other.
struct Upgrading {
    future: Option<keylatch::Upgrade<'static, &'static keylatch::FastObjectLockManager>>,
    guard: Py<PyAny>,
}

impl Upgrading {
    fn begin(py: Python<'_>, object: &GuardObject, guard: Py<PyAny>, timeout: Timeout) -> PyResult<Self> {
        let hold = object.lend(py)?;
        // SAFETY: the hold lies in the guard's object, which `guard` keeps alive and in its place; nobody else uses the
        // hold until `end` has dropped the future and given it back.
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

static ASYNCIO: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// The module that waits in event loops.
pub(crate) fn asyncio(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    module(py, &ASYNCIO, "keylatch._asyncio")
}

/// An object that is kept from now on.
///
/// # Safety
/// An object, on a thread that is attached.
pub(crate) unsafe fn keep(py: Python<'_>, object: *mut ffi::PyObject) -> Py<PyAny> {
    // SAFETY: the caller says so.
    unsafe { Bound::from_borrowed_ptr(py, object).unbind() }
}
