//! The tables that this process has open for locks that are passed between processes: one a file.

use crate::shared::failure::OrRaise;
use crate::shared::per_process::PerProcess;
use keylatch_shm::{SharedTable, ShmError, TableConfig};
use pyo3::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Locks that may be held at the same time, processes, and holds: 15 MB of memory.
const KEYS: u32 = 8_192;
const MEMBERS: u16 = 1_024;
const HOLDS: u32 = 81_920;

/// A forked child makes its own.
static TABLES: PerProcess<Mutex<HashMap<PathBuf, SharedTable>>> = PerProcess::new(Mutex::default);

/// The file that was asked for, or the default.
///
/// That is the one that `KEYLATCH_SHARED_TABLE` names, or that of this user. As it is meant now, whatever folder this process, or one that gets the lock, goes to.
pub(crate) fn path(asked: Option<PathBuf>) -> PyResult<PathBuf> {
    let named = || std::env::var_os("KEYLATCH_SHARED_TABLE").filter(|name| !name.is_empty()).map(PathBuf::from);
    // SAFETY: takes nothing and cannot fail.
    let user = unsafe { libc::geteuid() };
    Ok(std::path::absolute(asked.or_else(named).unwrap_or_else(|| format!("/dev/shm/keylatch-{user}").into()))?)
}

/// The table of a file, opened when it is first needed.
pub(crate) fn open(py: Python<'_>, path: &Path) -> PyResult<SharedTable> {
    py.detach(|| {
        let mut open = TABLES.get().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = open.get(path) {
            return Ok(table.clone());
        }
        // One that is there is used as it is, whatever its size.
        let table = match SharedTable::attach(path, &TableConfig::default()) {
            Err(ShmError::File { errno: libc::ENOENT, .. }) => {
                SharedTable::open(path, &TableConfig::default().keys(KEYS).members(MEMBERS).holds(HOLDS))?
            }
            attached => attached?,
        };
        open.insert(path.to_owned(), table.clone());
        Ok(table)
    })
    .or_raise(py)
}
