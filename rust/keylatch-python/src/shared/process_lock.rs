//! A lock that is passed between processes: what `Lock`, `RLock` and `RWLock` of `keylatch.multiprocessing` are made of.

use crate::errors::mode_to_python;
use crate::fork::Process;
use crate::shared::failure::OrRaise;
use crate::shared::thread::this_thread;
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
    state: Mutex<State>,
}

/// What this process has of it.
struct State {
    process: Process,
    /// Looked up with the first use.
    key: Option<Arc<OwnedPreparedKey>>,
    /// One, unless it is shared.
    holds: Vec<OwnedSharedLockGuard>,
    /// Which thread acquired it last, and how often it has it.
    owner: usize,
    depth: usize,
}

impl ProcessLock {
    #[inline]
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.process.is_forked() {
            state.begin_anew();
        }
        state
    }

    /// Takes it if that is possible without waiting.
    #[inline]
    fn try_acquire(&self, py: Python<'_>) -> PyResult<bool> {
        let mut state = self.state();
        if self.reentrant && state.depth > 0 && state.owner == this_thread() {
            state.depth += 1;
            return Ok(true);
        }
        let Some(key) = &state.key else { return Ok(false) };
        let Some(hold) = key.try_acquire(self.mode, "").or_raise(py)? else { return Ok(false) };
        state.keep(hold);
        Ok(true)
    }

    #[cold]
    #[inline(never)]
    fn wait(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        let known = self.state().key.clone();
        let key = if let Some(key) = known { key } else { self.prepare(py)? };
        let Some(hold) = wait::acquire(py, &key, self.mode, "", deadline)? else { return Ok(false) };
        self.state().keep(hold);
        Ok(true)
    }

    /// Looks the key up in the table, which is opened with the first lock.
    fn prepare(&self, py: Python<'_>) -> PyResult<Arc<OwnedPreparedKey>> {
        let table = processes::open(py, &self.path)?;
        let key = Arc::new(table.prepare_owned(&self.key).or_raise(py)?);
        self.state().key = Some(Arc::clone(&key));
        Ok(key)
    }

    /// Lets `look` at the latest hold, if there is one.
    fn look<T>(&self, look: impl FnOnce(&OwnedSharedLockGuard) -> T) -> Option<T> {
        self.state().holds.last().map(look)
    }
}

impl State {
    fn new() -> Self {
        Self { process: Process::this(), key: None, holds: Vec::new(), owner: 0, depth: 0 }
    }

    /// Forgets what the parent of a forked child had, and has still.
    #[cold]
    fn begin_anew(&mut self) {
        std::mem::forget(std::mem::replace(self, Self::new()));
    }

    #[inline]
    fn keep(&mut self, hold: OwnedSharedLockGuard) {
        self.holds.push(hold);
        self.owner = this_thread();
        self.depth = 1;
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
        let path = path.unwrap_or_else(processes::default_path);
        Ok(Self { path, name: name.unbind(), key, mode, reentrant, state: Mutex::new(State::new()) })
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
        let mut state = self.state();
        if self.reentrant {
            if state.depth == 0 || state.owner != this_thread() {
                return Err(PyAssertionError::new_err("attempt to release recursive lock not owned by thread"));
            }
            state.depth -= 1;
            if state.depth > 0 {
                return Ok(());
            }
        }
        let hold = state.holds.pop();
        drop(state);
        match hold {
            Some(hold) => hold.try_release().or_raise(py),
            None => Err(PyValueError::new_err(
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
