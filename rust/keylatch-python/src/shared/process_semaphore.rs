//! A semaphore that is passed between processes.
//!
//! Each permit is a key of its own, so that a permit has a holder, whose death is noticed. A request tries the permits in
//! turn, beginning after the one that this process had last. When none is free it waits for all of them at the same time,
//! and gives back what comes beside the first.
//!
//! No wake-up is lost: a request that waits is registered for each permit before it sleeps, and a permit that is released
//! has its turn given to one that is registered. A request that has its permit withdraws the others, which passes their
//! turns on. While a process waits, each other process is served at most once by each permit.

use crate::fork::Process;
use crate::numbers::Whole;
use crate::shared::failure::OrRaise;
use crate::shared::processes;
use crate::shared::wait::patience;
use crate::wait::wait_until;
use keylatch::{KeyRef, Mode};
use keylatch_shm::{OwnedAcquire, OwnedPreparedKey, OwnedSharedLockGuard, ShmError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

/// Permits of one semaphore at most: a request that waits is registered for each.
const MOST: u64 = 256;

/// What `keylatch.multiprocessing.Semaphore` is made of.
#[pyclass(frozen, subclass, weakref, name = "ProcessSemaphore", module = "keylatch._keylatch")]
pub(crate) struct ProcessSemaphore {
    path: PathBuf,
    name: Py<PyString>,
    kind: String,
    value: u16,
    state: Mutex<State>,
}

/// What this process has of it.
struct State {
    process: Process,
    /// Looked up with the first use.
    permits: Arc<[Arc<OwnedPreparedKey>]>,
    holds: Vec<OwnedSharedLockGuard>,
    /// Where the next search begins.
    next: usize,
}

impl State {
    fn new() -> Self {
        Self { process: Process::this(), permits: Arc::from([]), holds: Vec::new(), next: 0 }
    }
}

/// The first of several requests that is granted. The others end with it.
struct First(Vec<OwnedAcquire>);

impl Future for First {
    type Output = Result<OwnedSharedLockGuard, ShmError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        for request in &mut self.0 {
            match Pin::new(request).poll(context) {
                Poll::Ready(Ok(Some(hold))) => return Poll::Ready(Ok(hold)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // Without a deadline of its own it ends in no other way.
                Poll::Ready(Ok(None)) | Poll::Pending => {}
            }
        }
        Poll::Pending
    }
}

impl ProcessSemaphore {
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.process.is_forked() {
            // What the parent of a forked child had it has still.
            std::mem::forget(std::mem::replace(&mut *state, State::new()));
        }
        state
    }

    /// Takes a permit that is free.
    fn try_acquire(&self, py: Python<'_>) -> PyResult<bool> {
        let mut state = self.state();
        let count = state.permits.len();
        for step in 0..count {
            let at = (state.next + step) % count;
            if let Some(hold) = state.permits[at].try_acquire(Mode::Exclusive, "").or_raise(py)? {
                state.holds.push(hold);
                // The same one the next time, if it is free by then: its entry is in the cache.
                state.next = at;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn wait(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        let permits = Arc::clone(&self.state().permits);
        let requests = permits.iter().map(|permit| permit.acquire_until(Mode::Exclusive, "", None)).collect();
        match wait_until(py, First(requests), deadline)? {
            Some(held) => {
                let hold = held.or_raise(py)?;
                self.state().holds.push(hold);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Looks the permits up in the table, which is opened with the first lock.
    fn prepare(&self, py: Python<'_>) -> PyResult<()> {
        if !self.state().permits.is_empty() {
            return Ok(());
        }
        let table = processes::open(py, &self.path)?;
        let name = self.name.bind(py).to_str()?;
        let permit = |number: u16| {
            let number = number.to_string();
            let key = KeyRef::new(self.kind.as_bytes(), name.as_bytes()).with_version(number.as_bytes());
            table.prepare_owned(key).map(Arc::new)
        };
        let permits = (0..self.value).map(permit).collect::<Result<_, _>>().or_raise(py)?;
        self.state().permits = permits;
        Ok(())
    }
}

#[pymethods]
impl ProcessSemaphore {
    #[new]
    #[pyo3(signature = (kind, name, value, path = None))]
    #[expect(clippy::needless_pass_by_value, reason = "as pyo3 calls it")]
    fn new(kind: String, name: Bound<'_, PyString>, value: Whole, path: Option<PathBuf>) -> PyResult<Self> {
        name.to_str()?;
        let value = value.within("the value of a semaphore between processes", &(1..=MOST))? as u16;
        let path = path.unwrap_or_else(processes::default_path);
        Ok(Self { path, name: name.unbind(), kind, value, state: Mutex::new(State::new()) })
    }

    /// Acquire a permit, and return whether one was acquired.
    ///
    /// With block=False this does not wait. timeout is in seconds; None is for as long as it takes, and what is not above
    /// zero does not wait.
    #[pyo3(signature = (block = true, timeout = None))]
    fn acquire(&self, py: Python<'_>, block: bool, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let patience = patience(block, timeout)?;
        self.prepare(py)?;
        if self.try_acquire(py)? {
            return Ok(true);
        }
        patience.map_or(Ok(false), |deadline| self.wait(py, deadline))
    }

    /// Release the permit that this process acquired last.
    ///
    /// Raises ValueError if this process holds none; NotHeld if it was revoked.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let hold = self.state().holds.pop();
        match hold {
            Some(hold) => hold.try_release().or_raise(py),
            None => Err(PyValueError::new_err(
                "this process holds no permit of the semaphore; only the one that acquired it can release it",
            )),
        }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, None)
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

    /// Permits that no process holds at this moment.
    fn get_value(&self, py: Python<'_>) -> PyResult<usize> {
        self.prepare(py)?;
        let permits = Arc::clone(&self.state().permits);
        let mut free = 0;
        for permit in permits.iter() {
            free += usize::from(!permit.table().is_locked(permit.key()).or_raise(py)?);
        }
        Ok(free)
    }

    /// Tell whether all permits are held at this moment.
    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.get_value(py)? == 0)
    }

    /// Whether a process was killed that held the latest permit of this one before.
    #[getter]
    fn previous_holder_died(&self) -> bool {
        self.state().holds.last().is_some_and(OwnedSharedLockGuard::previous_holder_died)
    }

    /// Permits altogether.
    #[getter(value)]
    fn permits(&self) -> u16 {
        self.value
    }

    /// Its name: the one that it was given, or one by chance.
    #[getter]
    fn name(&self, py: Python<'_>) -> Py<PyString> {
        self.name.clone_ref(py)
    }

    /// The file of its table.
    #[getter]
    fn _path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(self.path.as_os_str().into_pyobject(py)?)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let held = this.state().holds.len();
        let name = this.name.bind(slf.py());
        Ok(format!(
            "<{} {name}, {held} of {} held by this process>",
            slf.get_type().fully_qualified_name()?,
            this.value
        ))
    }
}
