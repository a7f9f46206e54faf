//! A semaphore that is passed between processes.
//!
//! Each permit is a key of its own, so that a permit has a holder, whose death is noticed. A request tries the permits in
//! turn, beginning after the one that this process had last. When none is free it stands in line, which is a key, too. The
//! first in line waits for all permits at the same time, and gives back what comes beside the first. So of all requests
//! one alone takes as many log records as there are permits.
//!
//! No wake-up is lost: the request that is first is registered for each permit before it sleeps, and a permit that is
//! released has its turn given to it. When it has its permit it withdraws the others, which passes their turns on, and
//! then leaves the line. While a request is first, each other process is served at most once by each permit.
//!
//! Each process also shares a key whose label is the number of permits, for as long as it has the semaphore: so a process
//! that asks for another number is refused.

use crate::numbers::Whole;
use crate::shared::failure::OrRaise;
use crate::shared::holds::{Holds, Whose};
use crate::shared::per_process::PerProcess;
use crate::shared::wait::patience;
use crate::shared::{processes, wait};
use crate::wait::wait_until;
use keylatch::{KeyRef, Mode};
use keylatch_shm::{OwnedAcquire, OwnedPreparedKey, OwnedSharedLockGuard, ShmError};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{Ordering, fence};
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
    state: PerProcess<Mutex<State>>,
}

/// What this process has of it.
///
/// No Python code runs while its mutex is held: that may ask for this semaphore.
struct State {
    /// Looked up with the first use.
    keys: Option<Arc<Keys>>,
    holds: Holds<OwnedSharedLockGuard>,
    /// Where the next search begins.
    next: usize,
}

/// Its keys in the table.
struct Keys {
    permits: Vec<Arc<OwnedPreparedKey>>,
    line: OwnedPreparedKey,
    /// Says how many permits there are.
    _size: OwnedSharedLockGuard,
}

impl State {
    fn new() -> Self {
        Self { keys: None, holds: Holds::new(), next: 0 }
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
        self.state.get().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a permit that is free.
    fn try_acquire(&self, py: Python<'_>) -> PyResult<bool> {
        let mut state = self.state();
        let Some(keys) = state.keys.clone() else { return Ok(false) };
        let count = keys.permits.len();
        for step in 0..count {
            let at = (state.next + step) % count;
            match keys.permits[at].try_acquire(Mode::Exclusive, "") {
                Ok(None) => {}
                Ok(Some(hold)) => {
                    state.holds.push(hold);
                    // The same one the next time, if it is free by then: its entry is in the cache.
                    state.next = at;
                    return Ok(true);
                }
                error => {
                    drop(state);
                    return error.or_raise(py).map(|_| false);
                }
            }
        }
        Ok(false)
    }

    fn wait(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        let keys = self.prepare(py)?;
        let Some(line) = wait::acquire(py, &keys.line, Mode::Exclusive, "", deadline)? else { return Ok(false) };
        let requests = keys.permits.iter().map(|permit| permit.acquire_until(Mode::Exclusive, "", None)).collect();
        let came = wait_until(py, First(requests), deadline)?;
        // The permits that were not wanted have been given back: the next in line finds them.
        drop(line);
        let Some(held) = came else { return Ok(false) };
        let hold = held.or_raise(py)?;
        self.state().holds.push(hold);
        Ok(true)
    }

    /// Looks its keys up in the table, which is opened with the first lock.
    fn prepare(&self, py: Python<'_>) -> PyResult<Arc<Keys>> {
        if let Some(keys) = &self.state().keys {
            return Ok(Arc::clone(keys));
        }
        let table = processes::open(py, &self.path)?;
        let name = self.name.bind(py).to_str()?;
        let key = |part: &str| {
            let key = KeyRef::new(self.kind.as_bytes(), name.as_bytes()).with_version(part.as_bytes());
            table.prepare_owned(key)
        };
        let size = self.agree(py, &key("size").or_raise(py)?)?;
        let permits = (0..self.value).map(|number| key(&number.to_string()).map(Arc::new));
        let permits = permits.collect::<Result<_, _>>().or_raise(py)?;
        let keys = Arc::new(Keys { permits, line: key("line").or_raise(py)?, _size: size });
        Ok(Arc::clone(self.state().keys.get_or_insert(keys)))
    }

    /// Says how many permits there are, unless another process says otherwise.
    fn agree(&self, py: Python<'_>, size: &OwnedPreparedKey) -> PyResult<OwnedSharedLockGuard> {
        let value = self.value.to_string();
        let mine = wait::acquire(py, size, Mode::Shared, &value, None)?;
        let mine = mine.ok_or_else(|| PyRuntimeError::new_err("the wait for a semaphore has no end"))?;
        // Of two processes that disagree one at least sees the other's label.
        fence(Ordering::SeqCst);
        let holders = size.table().holders(Some(size.key().as_ref())).or_raise(py)?;
        let Some(other) = holders.iter().find(|holder| holder.owner != value) else { return Ok(mine) };
        Err(PyValueError::new_err(format!(
            "the semaphore {} has {} permits in process {} ({}), and {value} were asked for; choose the same number or \
             another name",
            self.name.bind(py).repr()?,
            other.owner,
            other.pid,
            other.program
        )))
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
        let state = PerProcess::new(|| Mutex::new(State::new()));
        Ok(Self { path: processes::path(path)?, name: name.unbind(), kind, value, state })
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

    /// Release the permit that this thread acquired last.
    ///
    /// If it has none, that of another thread of this process.
    ///
    /// Raises ValueError if this process holds none; NotHeld if it was revoked.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let hold = self.state().holds.take(Whose::Any);
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
        let keys = self.prepare(py)?;
        let mut free = 0;
        for permit in &keys.permits {
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
        self.state().holds.of(Whose::Any).is_some_and(|held| held.hold.previous_holder_died())
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
