//! How a thread waits for another process: off the interpreter, in line, and awake for signals.

use crate::numbers::{Seconds, argument};
use crate::shared::failure::OrRaise;
use crate::wait::is_main_thread;
use keylatch::Mode;
use keylatch_shm::{OwnedPreparedKey, OwnedSharedLockGuard};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::time::Instant;

/// Waits until the deadline; `None` if it is over first.
///
/// An exception raised by a signal's handler ends the wait: what has just come is given back.
pub(crate) fn acquire(
    py: Python<'_>,
    key: &OwnedPreparedKey,
    mode: Mode,
    owner: &str,
    deadline: Option<Instant>,
) -> PyResult<Option<OwnedSharedLockGuard>> {
    let handles_signals = is_main_thread(py)?;
    let mut raised = None;
    let held = py.detach(|| {
        key.acquire_while(mode, owner, deadline, &mut || {
            if handles_signals {
                raised = Python::attach(|py| py.check_signals()).err();
            }
            raised.is_none()
        })
    });
    let Some(error) = raised else { return held.or_raise(py) };
    if let Ok(Some(held)) = held {
        held.give_back();
    }
    Err(error)
}

/// Until when `acquire(block, timeout)` waits; `None` if it does not.
///
/// `Some(None)` is for as long as it takes.
pub(crate) fn patience(block: bool, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Option<Instant>>> {
    let Some(timeout) = timeout.filter(|_| block) else { return Ok(block.then_some(None)) };
    let seconds: Seconds = argument("a timeout", "a number of seconds or None", timeout.as_borrowed())?;
    if seconds.0.is_nan() {
        return Err(PyValueError::new_err("a timeout is a number of seconds or None, not NaN"));
    }
    // As in the standard library, what is negative is over.
    let timeout = seconds.duration().unwrap_or_default();
    Ok((!timeout.is_zero()).then(|| Instant::now().checked_add(timeout)))
}
