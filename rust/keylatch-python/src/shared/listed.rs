//! What the listings of a shared table say.

use crate::classes::{class, mode_to_python};
use crate::key;
use keylatch_shm::{HoldId, HolderInfo};
use pyo3::prelude::*;
use pyo3::types::PyList;

/// Names one hold of one process, for `SharedTable.revoke`.
#[pyclass(frozen, eq, hash, module = "keylatch._keylatch")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct SharedHold(pub(crate) HoldId);

/// A list of `keylatch.SharedHolder`.
pub(crate) fn holders<'py>(py: Python<'py>, infos: &[HolderInfo]) -> PyResult<Bound<'py, PyList>> {
    let holder = |info: &HolderInfo| {
        class(py, "SharedHolder")?.call1((
            &info.owner,
            mode_to_python(py, info.mode)?,
            info.age.as_secs_f64(),
            key::to_python(py, &info.key)?,
            info.pid,
            &info.program,
            &info.label,
            SharedHold(info.hold),
            info.to_string(),
        ))
    };
    PyList::new(py, infos.iter().map(holder).collect::<PyResult<Vec<_>>>()?)
}
