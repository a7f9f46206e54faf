//! What goes wrong, as Python's exceptions. The classes are Python's own, in `keylatch._exceptions`.

use crate::{key, listed};
use keylatch::{Holder, Holders, LockError, Mode};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule, PyTuple};

/// A module of the package, imported when it is first needed.
pub(crate) fn module<'py>(
    py: Python<'py>,
    place: &'static PyOnceLock<Py<PyModule>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyModule>> {
    place.get_or_try_init(py, || py.import(name).map(Bound::unbind)).map(|module| module.bind(py))
}

static EXCEPTIONS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
/// A class of `keylatch._exceptions`.
pub(crate) fn exception_class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    module(py, &EXCEPTIONS, "keylatch._exceptions")?.getattr(name)
}

static TYPES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// A class of `keylatch._types`.
pub(crate) fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    module(py, &TYPES, "keylatch._types")?.getattr(name)
}

/// The exception for an error. If even that cannot be made, whatever went wrong instead.
pub(crate) fn to_exception(py: Python<'_>, error: &LockError) -> PyErr {
    make(py, error).map_or_else(|why| why, PyErr::from_value)
}

fn make<'py>(py: Python<'py>, error: &LockError) -> PyResult<Bound<'py, PyAny>> {
    let details = PyDict::new(py);
    // A batch fails as its lock did; only the message says that there were others.
    let mut cause = error;
    while let LockError::Batch { cause: inner, .. } = cause {
        cause = inner;
    }
    let class = match cause {
        LockError::Timeout { key, waited, holders } => {
            details.set_item("key", key::to_python(py, key)?)?;
            details.set_item("waited", waited.as_secs_f64())?;
            add_holders(&details, holders)?;
            "LockTimeout"
        }
        LockError::WouldBlock { key, holders } => {
            details.set_item("key", key::to_python(py, key)?)?;
            add_holders(&details, holders)?;
            "WouldBlock"
        }
        LockError::UpgradeConflict { key, holders } => {
            details.set_item("key", key::to_python(py, key)?)?;
            add_holders(&details, holders)?;
            "UpgradeConflict"
        }
        LockError::Deadlock { key, cycle } => {
            details.set_item("key", key::to_python(py, key)?)?;
            details.set_item("cycle", listed::cycle(py, cycle)?)?;
            "LockDeadlock"
        }
        LockError::LeaseLost { .. } => "LeaseLost",
        LockError::Cancelled { key } => {
            details.set_item("key", key::to_python(py, key)?)?;
            "Cancelled"
        }
        LockError::Closed => "Closed",
        LockError::NotHeld { .. } => "NotHeld",
        LockError::TableFull { limit } => {
            details.set_item("limit", limit)?;
            "TableFull"
        }
        LockError::TooManyWaiters { limit } => {
            details.set_item("limit", limit)?;
            "TooManyWaiters"
        }
        LockError::InvalidKey { bytes, limit } => {
            details.set_item("bytes", bytes)?;
            details.set_item("limit", limit)?;
            "InvalidKey"
        }
        LockError::InvalidConfig { setting, .. } => {
            details.set_item("setting", setting)?;
            "InvalidConfig"
        }
        LockError::Forked => "Forked",
        _ => "KeylatchError",
    };
    if let LockError::Batch { key, .. } = error {
        details.set_item("key", key::to_python(py, key)?)?;
    }
    details.set_item("code", error.code())?;
    details.set_item("transient", error.is_transient())?;
    let exception = exception_class(py, class)?.call1((error.to_string(),))?;
    exception.getattr("__dict__")?.cast_into::<PyDict>()?.update(details.as_mapping())?;
    Ok(exception)
}

fn add_holders(details: &Bound<'_, PyDict>, holders: &Holders) -> PyResult<()> {
    details.set_item("holders", holders_to_python(details.py(), holders)?)?;
    details.set_item("more_holders", holders.more)
}

/// A tuple of `keylatch.Holder`.
pub(crate) fn holders_to_python<'py>(py: Python<'py>, holders: &Holders) -> PyResult<Bound<'py, PyTuple>> {
    let named = holders.named.iter().map(|holder| holder_to_python(py, holder)).collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(py, named)
}

fn holder_to_python<'py>(py: Python<'py>, holder: &Holder) -> PyResult<Bound<'py, PyAny>> {
    class(py, "Holder")?.call1((&*holder.owner, mode_to_python(py, holder.mode)?, holder.held_for.as_secs_f64()))
}

/// A member of `keylatch.Mode`.
pub(crate) fn mode_to_python(py: Python<'_>, mode: Mode) -> PyResult<Bound<'_, PyAny>> {
    class(py, "Mode")?.getattr(match mode {
        Mode::Shared => "SHARED",
        Mode::Exclusive => "EXCLUSIVE",
    })
}

/// An error on its way to Python.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, LockError> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| to_exception(py, &error))
    }
}
