//! The tables that this process has open for locks that are passed between processes: one a file.

use crate::fork::Process;
use crate::shared::failure::OrRaise;
use keylatch_shm::{SharedTable, ShmError, TableConfig};
use pyo3::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

/// Locks that may be held at the same time, processes, and holds: 15 MB of memory.
const KEYS: u32 = 8_192;
const MEMBERS: u16 = 1_024;
const HOLDS: u32 = 81_920;

struct Tables {
    process: Process,
    open: Mutex<HashMap<PathBuf, SharedTable>>,
}

/// Those of this process.
///
/// A forked child makes its own, and lets its parent's be: another thread may have been in there.
static TABLES: AtomicPtr<Tables> = AtomicPtr::new(null_mut());

fn tables() -> &'static Tables {
    let seen = TABLES.load(Ordering::Acquire);
    // SAFETY: null, or leaked below.
    if let Some(tables) = unsafe { seen.as_ref() }.filter(|tables| !tables.process.is_forked()) {
        return tables;
    }
    let fresh = Box::into_raw(Box::new(Tables { process: Process::this(), open: Mutex::default() }));
    // Pairs with: the load above. The loser's stays unused.
    match TABLES.compare_exchange(seen, fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: leaked here and never freed.
        Ok(_) => unsafe { &*fresh },
        // SAFETY: leaked by another thread and never freed.
        Err(other) => unsafe { &*other },
    }
}

/// The file of this user, or the one that `KEYLATCH_SHARED_TABLE` names.
pub(crate) fn default_path() -> PathBuf {
    // SAFETY: takes nothing and cannot fail.
    let user = unsafe { libc::geteuid() };
    let named = std::env::var_os("KEYLATCH_SHARED_TABLE").filter(|name| !name.is_empty());
    named.map_or_else(|| format!("/dev/shm/keylatch-{user}").into(), PathBuf::from)
}

/// The table of a file, opened when it is first needed.
pub(crate) fn open(py: Python<'_>, path: &Path) -> PyResult<SharedTable> {
    let tables = tables();
    py.detach(|| {
        let mut open = tables.open.lock().unwrap_or_else(PoisonError::into_inner);
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
