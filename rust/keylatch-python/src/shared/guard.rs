//! The guard of a lock that processes share.

use crate::classes::mode_to_python;
use crate::fork::Process;
use crate::guard::is_not_held;
use crate::shared::failure::{OrRaise, check_process, to_exception};
use keylatch_shm::{OwnedSharedLockGuard, ShmError};
use pyo3::exceptions::{PyResourceWarning, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock held between processes: what `SharedTable.lock` returns.
///
/// It is released at the end of a `with` block, or by `release`, from any thread of the process. A guard that is forgotten
/// while it is held is released with a `ResourceWarning`. If the process dies, the lock is free for the others.
#[pyclass(frozen, weakref, name = "SharedGuard", module = "keylatch")]
pub(crate) struct SharedGuard {
    hold: Mutex<Option<OwnedSharedLockGuard>>,
    key: Py<PyAny>,
    owner: Option<Py<PyString>>,
    /// Whether a block has begun that will release it.
    entered: AtomicBool,
    process: Process,
}

impl SharedGuard {
    pub(crate) fn new(hold: OwnedSharedLockGuard, key: Py<PyAny>, owner: Option<Py<PyString>>) -> Self {
        let entered = AtomicBool::new(false);
        Self { hold: Mutex::new(Some(hold)), key, owner, entered, process: Process::this() }
    }

    fn hold(&self) -> MutexGuard<'_, Option<OwnedSharedLockGuard>> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_held(&self, py: Python<'_>) -> PyErr {
        is_not_held(py, &format!("the guard of {} was released before", self.shown(py)))
    }

    fn shown(&self, py: Python<'_>) -> String {
        self.key.bind(py).repr().map_or_else(|_| "its key".into(), |key| key.to_string())
    }

    /// Lets `look` at the hold, or raises `NotHeld` or `Forked`.
    fn look<T>(&self, py: Python<'_>, look: impl FnOnce(&mut OwnedSharedLockGuard) -> T) -> PyResult<T> {
        check_process(py, self.process)?;
        // The mutex is free again when the exception is made: that asks the key for its text, which is Python code.
        let looked = self.hold().as_mut().map(look);
        looked.ok_or_else(|| self.not_held(py))
    }
}

#[pymethods]
impl SharedGuard {
    /// Return the guard itself. Raises RuntimeError the second time.
    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        slf.look(slf.py(), |_| ())?;
        if slf.entered.swap(true, Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err(
                "a block has the guard already, and is to release it; lock again for another block",
            ));
        }
        Ok(slf)
    }

    /// Release the lock, unless that was done before.
    ///
    /// In a forked child it does nothing: the lock is the parent's.
    #[pyo3(signature = (kind = None, value = None, traceback = None, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (value, traceback);
        if self.process.is_forked() {
            return Ok(());
        }
        let hold = self.hold().take();
        match hold.map_or(Ok(()), OwnedSharedLockGuard::try_release) {
            Err(error) if kind.is_none() => Err(to_exception(py, &error)),
            _ => Ok(()),
        }
    }

    /// Release the lock. Never waits.
    ///
    /// Raises NotHeld if it was released before, or revoked; Forked. The end of a `with` block does the same, unless the
    /// block raised something itself or released the lock.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        check_process(py, self.process)?;
        let hold = self.hold().take();
        hold.ok_or_else(|| self.not_held(py))?.try_release().or_raise(py)
    }

    /// Share the lock from now on.
    ///
    /// There is no moment in between in which another could have it exclusively. Raises NotHeld if it was released, or revoked.
    fn downgrade(&self, py: Python<'_>) -> PyResult<()> {
        self.look(py, OwnedSharedLockGuard::downgrade)?.or_raise(py)
    }

    /// Hold the lock alone from now on, if no other holds it or waits.
    ///
    /// Returns whether it worked; if not, the lock is still shared. Raises NotHeld if it was released, or revoked.
    fn try_upgrade(&self, py: Python<'_>) -> PyResult<bool> {
        match self.look(py, OwnedSharedLockGuard::try_upgrade)? {
            Ok(()) => Ok(true),
            Err(ShmError::UpgradeConflict { .. }) => Ok(false),
            Err(error) => Err(to_exception(py, &error)),
        }
    }

    /// What is locked, as it was given.
    #[getter]
    fn key(&self, py: Python<'_>) -> Py<PyAny> {
        self.key.clone_ref(py)
    }

    /// Whose lock it is, or None.
    #[getter]
    fn owner(&self, py: Python<'_>) -> Option<Py<PyString>> {
        self.owner.as_ref().map(|owner| owner.clone_ref(py))
    }

    /// How the lock is held: Mode.EXCLUSIVE or Mode.SHARED.
    ///
    /// Raises NotHeld once it is released.
    #[getter]
    fn mode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mode = self.look(py, |hold| hold.mode())?;
        mode_to_python(py, mode)
    }

    /// A number greater than that of every exclusive hold of the key before.
    ///
    /// A store that is given the number with each write can refuse a writer whose number is lower than one it has seen. For
    /// a shared hold, the number of the latest exclusive one. Raises NotHeld once it is released.
    #[getter]
    fn fence(&self, py: Python<'_>) -> PyResult<u64> {
        self.look(py, |hold| hold.fence())
    }

    /// Whether the last process that held the key exclusively died with it.
    ///
    /// What the lock protects may be half-written. It may say so once too often, never once too seldom. Raises NotHeld once
    /// it is released.
    #[getter]
    fn previous_holder_died(&self, py: Python<'_>) -> PyResult<bool> {
        self.look(py, |hold| hold.previous_holder_died())
    }

    /// Whether the lock is held: not released, not revoked, and the file is sound.
    ///
    /// It never is in a forked child.
    #[getter]
    fn is_valid(&self) -> bool {
        !self.process.is_forked() && self.hold().as_ref().is_some_and(OwnedSharedLockGuard::is_valid)
    }

    /// Whether the lock was released.
    #[getter]
    fn released(&self) -> bool {
        // Another thread of the parent may have been in the middle of something when the child was forked.
        !self.process.is_forked() && self.hold().is_none()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let state = match self.look(py, |hold| hold.mode().to_string()) {
            Ok(mode) => mode,
            Err(_) => "released".into(),
        };
        format!("<keylatch.SharedGuard of {}, {state}>", self.shown(py))
    }

    /// Refused: a lock is held once, in one process.
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a guard is a lock that this process holds, and cannot be pickled or copied"))
    }
}

impl Drop for SharedGuard {
    fn drop(&mut self) {
        let hold = self.hold.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(hold) = hold else { return };
        if self.process.is_forked() || hold.try_release().is_err() {
            // The parent's, or revoked: nothing was forgotten that this process had.
            return;
        }
        Python::attach(|py| {
            // An exception may be on its way; it goes on undisturbed.
            let on_its_way = PyErr::take(py);
            let text = CString::new(format!("unreleased lock on {}", self.shown(py))).unwrap_or_default();
            if let Err(error) = PyErr::warn(py, &py.get_type::<PyResourceWarning>(), &text, 1) {
                error.write_unraisable(py, None);
            }
            if let Some(error) = on_its_way {
                error.restore(py);
            }
        });
    }
}
