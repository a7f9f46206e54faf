//! A wait that an event loop keeps: a future of the lock manager's, and what it becomes in Python when it is done.

use crate::classes::module;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

/// Polled with the thread attached until it has a result.
pub(crate) type Waiting = Box<dyn FnMut(Python<'_>, &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> + Send>;

/// A wait that has begun: its task and the loop's `LoopWaits` refer to it.
///
/// Dropping it ends the wait.
#[pyclass(frozen, module = "keylatch._keylatch")]
pub(crate) struct Pending {
    state: Mutex<State>,
}

enum State {
    Waiting(Waiting),
    /// A thread polls it, off the mutex: that calls Python, which may do anything.
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

    /// Ends the wait and its request, and gives back a result that was not fetched.
    pub(crate) fn end(&self) {
        drop(self.swap(State::Ended));
    }

    /// The coroutine that waits.
    pub(crate) fn into_coroutine(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        asyncio(py)?.getattr("wait")?.call1((Bound::new(py, self)?,))
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
