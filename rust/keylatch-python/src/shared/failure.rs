//! What goes wrong at a shared table, as Python's exceptions.

use crate::classes::exception_class;
use crate::fork::Process;
use crate::key;
use crate::shared::listed;
use keylatch_shm::ShmError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// The exception for an error, or for what went wrong while it was made.
#[cold]
pub(crate) fn to_exception(py: Python<'_>, error: &ShmError) -> PyErr {
    make(py, error).map_or_else(|why| why, PyErr::from_value)
}

/// Raises `Forked` in a forked child.
///
/// The locks are the parent's, and the table is to be opened again.
pub(crate) fn check_process(py: Python<'_>, process: Process) -> PyResult<()> {
    if process.is_forked() { Err(to_exception(py, &ShmError::Forked)) } else { Ok(()) }
}

/// An error on its way to Python.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, ShmError> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| to_exception(py, &error))
    }
}

fn make<'py>(py: Python<'py>, error: &ShmError) -> PyResult<Bound<'py, PyAny>> {
    let details = PyDict::new(py);
    let text = || (error.to_string(),).into_pyobject(py);
    let (class, arguments) = match error {
        ShmError::Timeout { key, waited, holders } => {
            details.set_item("key", key::to_python(py, key)?)?;
            details.set_item("waited", waited.as_secs_f64())?;
            details.set_item("holders", listed::holders(py, holders)?.to_tuple())?;
            ("LockTimeout", text()?)
        }
        ShmError::WouldBlock { key, holders } => {
            details.set_item("key", key::to_python(py, key)?)?;
            details.set_item("holders", listed::holders(py, holders)?.to_tuple())?;
            ("WouldBlock", text()?)
        }
        ShmError::UpgradeConflict { key } => {
            details.set_item("key", key::to_python(py, key)?)?;
            ("UpgradeConflict", text()?)
        }
        ShmError::Revoked { .. } => ("NotHeld", text()?),
        ShmError::Closed => ("Closed", text()?),
        ShmError::TableFull { keys } => {
            details.set_item("limit", keys)?;
            ("TableFull", text()?)
        }
        ShmError::LogFull { holds } => {
            details.set_item("limit", holds)?;
            ("TableFull", text()?)
        }
        ShmError::TooManyMembers { members } => {
            details.set_item("limit", members)?;
            ("TooManyProcesses", text()?)
        }
        ShmError::InvalidKey { bytes, limit } => {
            details.set_item("bytes", bytes)?;
            details.set_item("limit", limit)?;
            ("InvalidKey", text()?)
        }
        ShmError::InvalidConfig { setting, .. } => {
            details.set_item("setting", setting)?;
            ("InvalidConfig", text()?)
        }
        ShmError::Forked => ("Forked", text()?),
        ShmError::File { path, problem, errno } if *errno != 0 => (
            "SharedFileError",
            PyTuple::new(
                py,
                [
                    errno.into_pyobject(py)?.into_any(),
                    problem.into_pyobject(py)?.into_any(),
                    path.as_os_str().into_pyobject(py)?.into_any(),
                ],
            )?,
        ),
        ShmError::File { .. } | ShmError::WrongFile { .. } | ShmError::Damaged { .. } => ("SharedFileError", text()?),
        _ => ("KeylatchError", text()?),
    };
    details.set_item("code", error.code())?;
    details.set_item("transient", error.is_transient())?;
    let exception = exception_class(py, class)?.call1(arguments)?;
    exception.getattr("__dict__")?.cast_into::<PyDict>()?.update(details.as_mapping())?;
    Ok(exception)
}
