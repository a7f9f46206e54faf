//! The manager: `LockManager` without the verbs of the fast path, which are in `acquire`.

use crate::batch;
use crate::errors::OrRaise;
use crate::figures;
use crate::owner::{Owner, text_of};
use crate::pending::Pending;
use crate::request::Timeout;
use keylatch::{Fairness, FastObjectLockManager, LockConfig};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What `keylatch.LockManager` is made of.
#[pyclass(frozen, subclass, weakref, name = "LockManager", module = "keylatch._keylatch")]
pub(crate) struct LockManager {
    locks: FastObjectLockManager,
    /// Tells managers apart, for owners.
    id: u64,
    /// The process it was made in.
    process: u32,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl LockManager {
    /// The manager that a method was called on.
    ///
    /// # Safety
    /// It is one, and outlives the use: the caller of a method holds a reference to it, and so does a guard.
    #[inline(always)]
    pub(crate) unsafe fn from_raw<'a>(object: *mut ffi::PyObject) -> &'a Self {
        // SAFETY: the caller says so. The value lies in the object, and is never borrowed mutably.
        unsafe {
            let this = Borrowed::from_ptr(Python::assume_attached(), object);
            let this: &Self = this.cast_unchecked::<Self>().get();
            &*std::ptr::from_ref(this)
        }
    }

    #[inline(always)]
    pub(crate) fn locks(&self) -> &FastObjectLockManager {
        &self.locks
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether this is a child of the process that made the manager. Takes no lock, and changes nothing.
    pub(crate) fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }
}

#[pymethods]
impl LockManager {
    #[new]
    #[pyo3(signature = (
        *, fairness = "eventual", eventual_after = 0.0005, default_timeout = None, shards = 1024, max_locks = 8_388_608,
        max_waiters = 1_048_576, max_key_bytes = 8192, overtake_limit = 64
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        fairness: &str,
        eventual_after: f64,
        default_timeout: Option<Bound<'_, PyAny>>,
        shards: u32,
        max_locks: u32,
        max_waiters: u32,
        max_key_bytes: usize,
        overtake_limit: u32,
    ) -> PyResult<Self> {
        let fairness = match fairness {
            "eventual" => Fairness::Eventual {
                after: Duration::try_from_secs_f64(eventual_after)
                    .map_err(|error| PyValueError::new_err(format!("eventual_after: {error}")))?,
            },
            "fifo" => Fairness::Fifo,
            "writer_first" => Fairness::WriterFirst,
            "reader_first" => Fairness::ReaderFirst,
            other => {
                let problem = "fairness is \"eventual\", \"fifo\", \"writer_first\" or \"reader_first\", not";
                return Err(PyValueError::new_err(format!("{problem} {other:?}")));
            }
        };
        let default_timeout = match default_timeout {
            Some(timeout) => Timeout::of(&timeout)?.as_duration(),
            None => None,
        };
        let settings = LockConfig {
            shards,
            fairness,
            default_timeout,
            max_locks,
            max_waiters,
            max_key_bytes,
            overtake_limit,
            ..LockConfig::default()
        };
        let locks = FastObjectLockManager::with_config(settings).or_raise(py)?;
        Ok(Self { locks, id: NEXT_ID.fetch_add(1, Ordering::Relaxed), process: std::process::id() })
    }

    /// An owner by name, for many requests: made once, and then used without a look-up.
    fn owner(&self, name: &Bound<'_, PyString>) -> PyResult<Owner> {
        Owner::new(self.locks.owner(&text_of(name)?), name, self.id)
    }

    /// Takes many locks, and returns the guards and what was not had.
    #[pyo3(signature = (exclusive, shared, owner, timeout, priority, best_effort))]
    fn _lock_many<'py>(
        slf: &Bound<'py, Self>,
        exclusive: &Bound<'py, PyAny>,
        shared: &Bound<'py, PyAny>,
        owner: &Bound<'py, PyAny>,
        timeout: &Bound<'py, PyAny>,
        priority: &Bound<'py, PyAny>,
        best_effort: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        batch::Asked::of(slf, exclusive, shared, owner, timeout, priority, best_effort)?.wait()
    }

    /// The same, for an event loop to wait for.
    #[pyo3(signature = (exclusive, shared, owner, timeout, priority, best_effort))]
    fn _begin_lock_many<'py>(
        slf: &Bound<'py, Self>,
        exclusive: &Bound<'py, PyAny>,
        shared: &Bound<'py, PyAny>,
        owner: &Bound<'py, PyAny>,
        timeout: &Bound<'py, PyAny>,
        priority: &Bound<'py, PyAny>,
        best_effort: bool,
    ) -> PyResult<Pending> {
        batch::Asked::of(slf, exclusive, shared, owner, timeout, priority, best_effort)?.begin()
    }

    /// The figures as a `dict` of what `keylatch.LockMetrics` is made of.
    fn _figures<'py>(&self, py: Python<'py>, per_shard: bool) -> PyResult<Bound<'py, PyDict>> {
        let metrics = py.detach(|| self.locks.get_metrics());
        figures::metrics(py, &metrics, per_shard)
    }

    /// The verdict as a `dict` of what `keylatch.Health` is made of.
    fn _verdict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let health = py.detach(|| self.locks.health());
        figures::health(py, &health)
    }

    /// Close the manager: whoever waits, and whoever asks from now on, is told `Closed`.
    ///
    /// What is held stays held until it is released.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.locks.close());
    }

    /// Whether the manager was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.locks.is_closed()
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a LockManager belongs to one process and cannot be pickled or copied"))
    }
}
