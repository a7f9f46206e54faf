//! Sessions: owners that are one logical thread of control, such as a transaction.

use crate::fork::Process;
use crate::numbers::text_of;
use keylatch::{FastObjectLockManager, OwnerRef};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use std::sync::atomic::{AtomicBool, Ordering};

/// An owner that is one logical thread of control, such as a transaction.
///
/// `LockManager.session` makes it.
///
/// Of an owner's name nothing is concluded. Of a session it is known that while one of its requests waits it lets go of
/// nothing. So circles of sessions that wait for each other are found: one of them gets LockDeadlock and can start again.
/// And a session that asks again for what it holds is recognised; see the manager's option reentrancy.
///
/// In a `with` block, whatever the session still holds is released at the end. Afterwards its requests raise RuntimeError,
/// until another block begins with it.
///
/// >>> from keylatch import LockManager
/// >>> locks = LockManager()
/// >>> with locks.session("txn-17") as transaction:
/// ...     guard = locks.lock(("accounts", "alice"), owner=transaction)
/// ...     print(locks.holders()[0])
/// txn-17 holds "accounts"/"alice" (exclusive, ...)
/// >>> locks.holders()
/// []
#[pyclass(frozen, weakref, module = "keylatch")]
pub(crate) struct Session {
    session: keylatch::Session,
    /// The name as it was given.
    #[pyo3(get)]
    name: Py<PyString>,
    /// Where in the program it comes from, for listings; empty for nothing.
    #[pyo3(get)]
    source: &'static str,
    /// The name once more, as text.
    text: String,
    /// The manager that knows it.
    manager: u64,
    process: Process,
    /// Whether a block has begun that releases what the session holds.
    entered: AtomicBool,
    /// Whether its block has ended, and none has begun since.
    ended: AtomicBool,
}

#[pymethods]
impl Session {
    /// Release by force all that the session holds, and return how many locks it was.
    ///
    /// Their guards are void then: releasing one raises NotHeld, and changes nothing.
    fn release_all(&self, py: Python<'_>) -> PyResult<usize> {
        self.process.check(py)?;
        Ok(py.detach(|| self.session.release_all()))
    }

    /// Return the session itself.
    ///
    /// Raises RuntimeError within a block of the same session.
    fn __enter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Self>> {
        slf.get().process.check(py)?;
        if slf.get().entered.swap(true, Ordering::Relaxed) {
            let problem = "a block has the session already, and releases what it holds at the end";
            return Err(PyRuntimeError::new_err(problem));
        }
        slf.get().ended.store(false, Ordering::Relaxed);
        Ok(slf)
    }

    /// Release what the session still holds; nothing in a forked child.
    ///
    /// There it is the parent's.
    #[pyo3(signature = (*_exc_info), text_signature = "($self, /, *exc_info)")]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) {
        self.ended.store(true, Ordering::Relaxed);
        self.entered.store(false, Ordering::Relaxed);
        if !self.process.is_forked() {
            py.detach(|| self.session.release_all());
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<keylatch.Session {}>", self.name.bind(py).repr()?))
    }

    fn __str__(&self) -> &str {
        &self.text
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a Session belongs to one LockManager in one process and cannot be pickled or copied"))
    }
}

impl Session {
    pub(crate) fn begin(
        locks: &FastObjectLockManager,
        name: &Bound<'_, PyString>,
        source: &'static str,
        manager: u64,
    ) -> Self {
        let text = text_of(name);
        Self {
            session: locks.session_with_source(&text, source),
            name: name.clone().unbind(),
            source,
            text,
            manager,
            process: Process::this(),
            entered: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// The owner as a manager takes it, which refuses a session of another one.
    pub(crate) fn as_owner(&self) -> OwnerRef<'_> {
        (&self.session).into()
    }

    /// Refuses requests after the end of its block.
    pub(crate) fn check_open(&self) -> PyResult<()> {
        if self.ended.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err(
                "the session's block has ended: begin another with session(), or a block with this one",
            ));
        }
        Ok(())
    }

    /// Whether this manager began it.
    pub(crate) fn is_of(&self, manager: u64) -> bool {
        self.manager == manager
    }

    pub(crate) fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        self.name.bind(py).clone()
    }
}
