//! A lock that is passed between processes: what `Lock`, `RLock` and `RWLock` of `keylatch.multiprocessing` are made of.

use crate::classes::mode_to_python;
use crate::shared::failure::OrRaise;
use crate::shared::holds::{Ended, Holds, Whose};
use crate::shared::per_process::PerProcess;
use crate::shared::wait::patience;
use crate::shared::{processes, wait};
use keylatch::{KeyRef, Mode, ObjectKey};
use keylatch_shm::{OwnedPreparedKey, OwnedSharedLockGuard};
use pyo3::exceptions::{PyAssertionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What `keylatch.multiprocessing.Lock` and its kin are made of.
#[pyclass(frozen, subclass, weakref, name = "ProcessLock", module = "keylatch._keylatch")]
pub(crate) struct ProcessLock {
    path: PathBuf,
    name: Py<PyString>,
    key: ObjectKey,
    mode: Mode,
    /// Whether the thread that holds it may acquire it again.
    reentrant: bool,
    state: PerProcess<Mutex<State>>,
}

/// What this process has of it.
///
/// No Python code runs while its mutex is held: that may ask for this lock.
struct State {
    /// Looked up with the first use.
    key: Option<Arc<OwnedPreparedKey>>,
    holds: Holds<OwnedSharedLockGuard>,
}

impl ProcessLock {
    #[inline]
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.get().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it if that is possible without waiting.
    #[inline]
    fn try_acquire(&self, py: Python<'_>) -> PyResult<bool> {
        let mut state = self.state();
        if self.reentrant && state.holds.again(Whose::Mine, OwnedSharedLockGuard::is_valid) {
            return Ok(true);
        }
        let Some(key) = &state.key else { return Ok(false) };
        let tried = key.try_acquire(self.mode, "");
        if let Ok(Some(hold)) = tried {
            state.holds.push(hold);
            return Ok(true);
        }
        drop(state);
        tried.or_raise(py).map(|_| false)
    }

    #[cold]
    #[inline(never)]
    fn wait(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        let known = self.state().key.clone();
        let key = if let Some(key) = known { key } else { self.prepare(py)? };
        let Some(hold) = wait::acquire(py, &key, self.mode, "", deadline)? else { return Ok(false) };
        self.state().holds.push(hold);
        Ok(true)
    }

    /// Looks the key up in the table, which is opened with the first lock.
    fn prepare(&self, py: Python<'_>) -> PyResult<Arc<OwnedPreparedKey>> {
        let table = processes::open(py, &self.path)?;
        let key = Arc::new(table.prepare_owned(&self.key).or_raise(py)?);
        self.state().key = Some(Arc::clone(&key));
        Ok(key)
    }

    /// Lets `look` at the hold that a release would end, if there is one.
    fn look<T>(&self, look: impl FnOnce(&OwnedSharedLockGuard) -> T) -> Option<T> {
        self.state().holds.of(Whose::Any).map(|held| look(&held.hold))
    }
}

#[pymethods]
impl ProcessLock {
    #[new]
    #[pyo3(signature = (kind, name, shared, reentrant, path = None))]
    fn new(
        kind: &str,
        name: Bound<'_, PyString>,
        shared: bool,
        reentrant: bool,
        path: Option<PathBuf>,
    ) -> PyResult<Self> {
        let key = KeyRef::new(kind.as_bytes(), name.to_str()?.as_bytes()).to_owned();
        let mode = if shared { Mode::Shared } else { Mode::Exclusive };
        let state = PerProcess::new(|| Mutex::new(State { key: None, holds: Holds::new() }));
        Ok(Self { path: processes::path(path)?, name: name.unbind(), key, mode, reentrant, state })
    }

    /// Acquire the lock, and return whether it was acquired.
    ///
    /// With block=False this does not wait. timeout is in seconds; None is for as long as it takes, and what is not above
    /// zero does not wait.
    #[pyo3(signature = (block = true, timeout = None))]
    fn acquire(&self, py: Python<'_>, block: bool, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let patience = patience(block, timeout)?;
        if self.try_acquire(py)? {
            return Ok(true);
        }
        match patience {
            Some(deadline) => self.wait(py, deadline),
            // Without its key there was nothing to try.
            None if self.state().key.is_none() => {
                self.prepare(py)?;
                self.try_acquire(py)
            }
            None => Ok(false),
        }
    }

    /// Release the lock.
    ///
    /// Any thread of the process that acquired it may, but for that of an RLock.
    ///
    /// Raises ValueError if this process does not hold it, or AssertionError for an RLock; NotHeld if it was revoked.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let whose = if self.reentrant { Whose::Mine } else { Whose::Any };
        let ended = self.state().holds.end(whose);
        match ended {
            Ended::Last(hold) => hold.try_release().or_raise(py),
            Ended::StillHeld => Ok(()),
            Ended::NotHeld if self.reentrant => {
                Err(PyAssertionError::new_err("attempt to release recursive lock not owned by thread"))
            }
            Ended::NotHeld => Err(PyValueError::new_err(
                "this process does not hold the lock; only the one that acquired it can release it",
            )),
        }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        if self.try_acquire(py)? { Ok(true) } else { self.wait(py, None) }
    }

    #[pyo3(signature = (kind, value, traceback, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (value, traceback);
        let released = self.release(py);
        // An exception of the block goes on instead.
        if kind.is_none() { released } else { Ok(()) }
    }

    /// Tell whether a process holds it at this moment.
    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        processes::open(py, &self.path)?.is_locked(&self.key).or_raise(py)
    }

    /// Whether the last process that held it alone was killed while it did.
    ///
    /// What it protects may be half-written then. False while this process does not hold it.
    #[getter]
    fn previous_holder_died(&self) -> bool {
        self.look(OwnedSharedLockGuard::previous_holder_died).unwrap_or(false)
    }

    /// A number greater than that of every exclusive hold of it before.
    ///
    /// None while this process does not hold it.
    #[getter]
    fn fence(&self) -> Option<u64> {
        self.look(OwnedSharedLockGuard::fence)
    }

    /// Its name: the one that it was given, or one by chance.
    #[getter]
    fn name(&self, py: Python<'_>) -> Py<PyString> {
        self.name.clone_ref(py)
    }

    /// Whether it shares what it acquires.
    #[getter]
    fn _shared(&self) -> bool {
        self.mode == Mode::Shared
    }

    /// The file of its table.
    #[getter]
    fn _path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(self.path.as_os_str().into_pyobject(py)?)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (py, this) = (slf.py(), slf.get());
        let held = if this.look(|_| ()).is_some() { "held by this process" } else { "not held by this process" };
        let mode = mode_to_python(py, this.mode)?;
        Ok(format!("<{} {} ({mode}), {held}>", slf.get_type().fully_qualified_name()?, this.name.bind(py)))
    }
}
