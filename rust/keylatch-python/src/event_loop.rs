//! The waits of one event loop: a descriptor that becomes readable when one of them may go on, and whom to wake then.
//!
//! The thread that releases a lock notes the wait and signals the descriptor; it never enters the interpreter. The loop
//! polls the descriptor and calls its `Listener` in its own thread, which wakes the tasks. Each looks
//! for itself what has come. Nothing is fetched for a task before it does so, so that one that is cancelled, or whose loop
//! is closed, has nothing that would have to be given back: dropping the wait does it.
//!
//! A loop that is closed, or forgotten, takes no more steps, and neither do its tasks. That is noticed by its `Listener`,
//! to which only the loop refers: when it goes, the waits end.

use crate::pending::Pending;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Waits that an event loop keeps, each with whom to wake.
///
/// Its tasks refer to it, and the loop by its `Listener`.
#[pyclass(frozen, weakref, module = "keylatch._keylatch")]
pub(crate) struct LoopWaits {
    ready: Arc<Ready>,
    reader: File,
    waits: Mutex<HashMap<u64, Wait>>,
    next: AtomicU64,
}

struct Wait {
    pending: Py<Pending>,
    waker: Waker,
    /// The loop's future that its task awaits, until it is completed.
    future: Option<Py<PyAny>>,
}

/// The waits that may go on, by token.
struct Ready {
    tokens: Mutex<Vec<u64>>,
    writer: File,
}

/// Notes that one wait may go on.
struct TaskWaker {
    ready: Arc<Ready>,
    token: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut tokens = lock(&self.ready.tokens);
        tokens.push(self.token);
        // Signalled and cleared under the mutex, so that the descriptor is readable exactly while there are tokens.
        // Once is enough.
        if tokens.len() == 1 {
            let _ = (&self.ready.writer).write(&1_u64.to_ne_bytes());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl LoopWaits {
    #[new]
    fn new() -> PyResult<Self> {
        let (writer, reader) = descriptors().map_err(PyOSError::new_err)?;
        let ready = Arc::new(Ready { tokens: Mutex::default(), writer });
        Ok(Self { ready, reader, waits: Mutex::default(), next: AtomicU64::new(1) })
    }

    /// The descriptor that is readable while there are tokens.
    fn fileno(&self) -> i32 {
        self.reader.as_raw_fd()
    }

    /// How many waits there are.
    fn __len__(&self) -> usize {
        lock(&self.waits).len()
    }

    /// Takes a wait in, and returns its number.
    fn add(&self, pending: Py<Pending>) -> u64 {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let waker = Waker::from(Arc::new(TaskWaker { ready: Arc::clone(&self.ready), token }));
        lock(&self.waits).insert(token, Wait { pending, waker, future: None });
        token
    }

    /// Returns the result of an ended wait, alone in a tuple; otherwise `None`.
    ///
    /// Then `future` is completed when it is time to look again.
    fn look<'py>(
        &self,
        py: Python<'py>,
        token: u64,
        future: Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        // The future first: what happens from now on completes it.
        let (old, pending, waker) = match lock(&self.waits).get_mut(&token) {
            Some(wait) => (wait.future.replace(future.unbind()), wait.pending.clone_ref(py), wait.waker.clone()),
            None => return Err(PyRuntimeError::new_err("the wait has ended")),
        };
        drop(old);
        let Poll::Ready(result) = pending.get().poll(py, &mut Context::from_waker(&waker)) else { return Ok(None) };
        self.discard(token);
        PyTuple::new(py, [result?]).map(Some)
    }

    /// Ends a wait, if it has not ended.
    fn discard(&self, token: u64) {
        let wait = lock(&self.waits).remove(&token);
        wait.iter().for_each(|wait| wait.pending.get().end());
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Another thread that has the mutex uses what is in there.
        let Ok(waits) = self.waits.try_lock() else { return Ok(()) };
        for wait in waits.values() {
            visit.call(&wait.pending)?;
            visit.call(&wait.future)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.end();
    }
}

impl LoopWaits {
    /// Wakes the tasks whose waits may go on.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        let tokens = {
            let mut tokens = lock(&self.ready.tokens);
            let mut bytes = [0; 64];
            while let Ok(64) = (&self.reader).read(&mut bytes) {}
            std::mem::take(&mut *tokens)
        };
        let mut result = Ok(());
        for token in tokens {
            let future = lock(&self.waits).get_mut(&token).and_then(|wait| wait.future.take());
            let Some(future) = future else { continue };
            // The others are completed even if this one fails.
            result = result.and(complete(future.bind(py)));
        }
        result
    }

    /// Ends all waits.
    fn end(&self) {
        let waits = std::mem::take(&mut *lock(&self.waits));
        waits.values().for_each(|wait| wait.pending.get().end());
    }
}

/// Wakes the task that awaits a future, unless it was cancelled meanwhile.
fn complete(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}

/// What an event loop calls when the descriptor is readable.
#[pyclass(frozen, module = "keylatch._keylatch")]
pub(crate) struct Listener {
    waits: Py<LoopWaits>,
}

#[pymethods]
impl Listener {
    #[new]
    fn new(waits: Py<LoopWaits>) -> Self {
        Self { waits }
    }

    /// Wakes the tasks whose waits may go on.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        self.waits.get().drain(py)
    }

    // Without a `__clear__`: every circle goes through the waits, which have one.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.waits)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.waits.get().end();
    }
}

#[cfg(target_os = "linux")]
fn descriptors() -> std::io::Result<(File, File)> {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: just made, and owned by nothing else.
    let reader = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok((reader.try_clone()?, reader))
}

#[cfg(not(target_os = "linux"))]
fn descriptors() -> std::io::Result<(File, File)> {
    let (writer, reader) = std::os::unix::net::UnixStream::pair()?;
    writer.set_nonblocking(true)?;
    reader.set_nonblocking(true)?;
    Ok((OwnedFd::from(writer).into(), OwnedFd::from(reader).into()))
}
