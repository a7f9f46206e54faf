//! Noticing that a process is the child of another: what it has of that one's locks is a picture, and not the locks.

use crate::errors::to_exception;
use keylatch::LockError;
use pyo3::prelude::*;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// Forks between this process and the one that loaded the module.
static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Has forks counted from now on.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler is a function of this module, which is never unloaded, and does nothing that is forbidden
        // in a child of a threaded process: it adds to an integer.
        unsafe {
            libc::pthread_atfork(None, None, Some(count_fork));
        }
    });
}

/// The process that something was made in.
#[derive(Clone, Copy)]
pub(crate) struct Process {
    forks: u32,
}

impl Process {
    /// The one that asks.
    pub(crate) fn this() -> Self {
        Self { forks: FORKS.load(Ordering::Relaxed) }
    }

    /// Whether this is a child of it.
    #[inline(always)]
    pub(crate) fn is_forked(self) -> bool {
        FORKS.load(Ordering::Relaxed) != self.forks
    }

    /// Raises `Forked` in a child.
    #[inline]
    pub(crate) fn check(self, py: Python<'_>) -> PyResult<()> {
        if self.is_forked() { Err(forked(py)) } else { Ok(()) }
    }
}

/// The error that a forked child gets.
#[cold]
pub(crate) fn forked(py: Python<'_>) -> PyErr {
    to_exception(py, &LockError::Forked)
}
