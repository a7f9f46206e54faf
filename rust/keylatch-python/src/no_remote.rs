//! What there is to say of other machines in a module that was built without etcd.

use crate::etcd::Given;
use crate::setting::invalid;
use keylatch::{FastObjectLockManager, LockConfig, LockError};
use pyo3::prelude::*;

/// The tier of a manager; there is none.
pub(crate) enum Remote {}

impl Remote {
    pub(crate) fn remember(&self, _: u64) {}

    pub(crate) fn close(&self, _: u64) {}
}

pub(crate) fn manager(
    py: Python<'_>,
    _: LockConfig,
    _: &Given,
) -> PyResult<Result<(FastObjectLockManager, Remote), LockError>> {
    let problem = "this package was built without etcd; `pip install keylatch[etcd]` gets what is missing";
    Err(invalid(py, "etcd", problem.into()))
}
