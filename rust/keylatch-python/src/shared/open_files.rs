//! The lock files that this process keeps open, by their names.

use crate::shared::failure::OrRaise;
use crate::shared::per_process::PerProcess;
use crate::shared::processes;
use keylatch::KeyRef;
use keylatch_shm::{LockFile, LockFileWatcher, OwnedPreparedKey};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Files that are kept open though no object has them.
const MOST: usize = 64;

/// A lock file and its key in the table.
#[derive(Clone)]
pub(crate) struct OpenFile {
    pub(crate) file: Arc<LockFile>,
    pub(crate) key: Arc<OwnedPreparedKey>,
}

struct Files {
    open: Mutex<HashMap<PathBuf, OpenFile>>,
    watcher: OnceLock<Option<Arc<LockFileWatcher>>>,
}

/// A forked child makes its own: what its parent had open it has closed.
static FILES: PerProcess<Files> = PerProcess::new(|| Files { open: Mutex::default(), watcher: OnceLock::new() });

impl Files {
    fn open(&self) -> MutexGuard<'_, HashMap<PathBuf, OpenFile>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file of that name, opened if it is not kept; with the folder, if need be.
pub(crate) fn open(py: Python<'_>, path: &Path, mode: Option<u32>, table: &Path) -> PyResult<OpenFile> {
    let files = FILES.get();
    if let Some(known) = files.open().get(path) {
        return Ok(known.clone());
    }
    let table = processes::open(py, table)?;
    // The file may be on a network.
    let opened = py.detach(|| {
        let opened = LockFile::open(path, mode, &table);
        match (&opened, path.parent()) {
            (Err(error), Some(folder)) if error.raw_os_error() == Some(libc::ENOENT) => {
                std::fs::create_dir_all(folder).and_then(|()| LockFile::open(path, mode, &table))
            }
            _ => opened,
        }
    });
    let file = Arc::new(opened.map_err(|error| os_error(py, path, &error))?);
    let key = file.id().key();
    let key = table.prepare_owned(KeyRef::new(b"file".as_slice(), key.as_slice())).or_raise(py)?;
    let open = OpenFile { file, key: Arc::new(key) };
    if open.file.is_shared() {
        if let Some(watcher) = files.watcher.get_or_init(LockFileWatcher::start) {
            watcher.watch(&open.file);
        }
        let mut kept = files.open();
        if kept.len() >= MOST {
            kept.retain(|_, other| Arc::strong_count(&other.file) > 1);
        }
        if kept.len() < MOST {
            kept.insert(path.to_owned(), open.clone());
        }
    }
    Ok(open)
}

/// Keeps a file no longer: its name stands for another.
pub(crate) fn forget(path: &Path, stale: &OpenFile) {
    let mut kept = FILES.get().open();
    if kept.get(path).is_some_and(|known| Arc::ptr_eq(&known.file, &stale.file)) {
        kept.remove(path);
    }
}

/// The exception of the system's answer, with the file.
pub(crate) fn os_error(py: Python<'_>, path: &Path, error: &std::io::Error) -> PyErr {
    let Some(errno) = error.raw_os_error() else { return PyOSError::new_err(error.to_string()) };
    // Python's words, and the class that it has for the number.
    let text = py.import("os").and_then(|os| os.call_method1("strerror", (errno,)));
    match text {
        Ok(text) => PyOSError::new_err((errno, text.unbind(), path.as_os_str().to_owned())),
        Err(error) => error,
    }
}
