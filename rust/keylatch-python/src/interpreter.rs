//! One interpreter of a process may use the module: types that are made at its import are kept for the whole process.

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicI64, Ordering};

const NONE_YET: i64 = -1;

/// The interpreter that imported the module first.
static INTERPRETER: AtomicI64 = AtomicI64::new(NONE_YET);

/// Says that the current interpreter imports the module.
///
/// Raises `ImportError` if another one did so before: what is made in one would be taken for the other's.
pub(crate) fn claim(_py: Python<'_>) -> PyResult<()> {
    // SAFETY: the thread is attached, so that there is a current interpreter.
    let this = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    match INTERPRETER.compare_exchange(NONE_YET, this, Ordering::Relaxed, Ordering::Relaxed) {
        Err(other) if other != this => Err(PyImportError::new_err(
            "another interpreter of this process has imported keylatch, which serves one; have it take the locks for this one, too",
        )),
        _ => Ok(()),
    }
}
