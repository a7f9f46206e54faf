//! What goes wrong, as Python's exceptions. The classes are Python's own, in `keylatch._exceptions`.

use crate::classes::{class, exception_class, mode_to_python};
use crate::key;
use keylatch::tier::TierErrorKind;
use keylatch::{DeadlockLink, Holder, Holders, LockError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// The exception for an error; if that cannot be made, one that says why.
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
            details.set_item("cycle", cycle_to_python(py, cycle)?)?;
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
        LockError::Tier { error } => {
            details.set_item("kind", word_of(error.kind()))?;
            "TierFailed"
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

/// What failed, as `keylatch.TierFailed` says it.
fn word_of(kind: TierErrorKind) -> &'static str {
    match kind {
        TierErrorKind::Unavailable => "unavailable",
        TierErrorKind::TermOver => "term_over",
        TierErrorKind::Full => "full",
        TierErrorKind::NotPermitted => "not_permitted",
        TierErrorKind::Unsupported => "unsupported",
        TierErrorKind::Closed => "closed",
        TierErrorKind::Damaged => "damaged",
        _ => "other",
    }
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

/// A tuple of `keylatch.DeadlockLink`.
pub(crate) fn cycle_to_python<'py>(py: Python<'py>, links: &[DeadlockLink]) -> PyResult<Bound<'py, PyTuple>> {
    let link = |link: &DeadlockLink| {
        class(py, "DeadlockLink")?.call1((
            &*link.session,
            link.source,
            key::to_python(py, &link.key)?,
            mode_to_python(py, link.mode)?,
            link.blocked_by.map(|mode| mode_to_python(py, mode)).transpose()?,
            link.to_string(),
        ))
    };
    PyTuple::new(py, links.iter().map(link).collect::<PyResult<Vec<_>>>()?)
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
