//! The value of one setting. A wrong type is a `TypeError`, and whatever else is wrong `InvalidConfig`.

use crate::errors::to_exception;
use crate::numbers::{Seconds, shown};
use keylatch::LockError;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

/// What is said of a setting that cannot be.
pub(crate) fn invalid(py: Python<'_>, setting: &'static str, problem: String) -> PyErr {
    to_exception(py, &LockError::InvalidConfig { setting, problem })
}

pub(crate) fn wrong_type(setting: &str, wanted: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let kind = value.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
    PyTypeError::new_err(format!("{setting} is {wanted}, not {kind}"))
}

pub(crate) fn path(setting: &'static str, value: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    value.extract().map_err(|_| wrong_type(setting, "a path or None", value))
}

pub(crate) fn seconds(setting: &'static str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds: Seconds = value.extract().map_err(|_| wrong_type(setting, "a number of seconds", value))?;
    let problem = || invalid(value.py(), setting, format!("{} is no number of seconds from 0 on", shown(value)));
    seconds.duration().ok_or_else(problem)
}
