//! The waits of one event loop: a descriptor that becomes readable when one of them has news, and whom to wake then.
//!
//! News come from whatever thread releases a lock. It notes whose they are and rings the descriptor; it never enters the
//! interpreter. The loop polls the descriptor and calls its `Listener` in its own thread, which wakes the tasks. Each looks
//! for itself what has come. Nothing is fetched for a task before it does so, so that one that is cancelled, or whose loop
//! is closed, has nothing that would have to be given back: dropping the wait does it.
//!
//! A loop that is closed, or forgotten, takes no more steps, and neither do its tasks. That is noticed by its `Listener`,
//! which nobody but the loop refers to: when it goes, the waits end.

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

/// Waits that an event loop keeps, each with whom to wake. Its tasks refer to it, and the loop by its `Listener`.
#[pyclass(frozen, weakref, module = "keylatch._keylatch")]
pub(crate) struct LoopWaits {
    desk: Arc<Desk>,
    hearing: File,
    waits: Mutex<HashMap<u64, Wait>>,
    next: AtomicU64,
}

struct Wait {
    pending: Py<Pending>,
    waker: Waker,
    /// The loop's future that its task awaits, until it was told.
    news: Option<Py<PyAny>>,
}

/// Where news are noted.
struct Desk {
    news: Mutex<Vec<u64>>,
    ringing: File,
}

/// Notes that one wait has news.
struct Bell {
    desk: Arc<Desk>,
    token: u64,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut news = lock(&self.desk.news);
        news.push(self.token);
        // Rung under the mutex and hushed under it, so that the descriptor is readable exactly while there are news.
        // Once is enough.
        if news.len() == 1 {
            let _ = (&self.desk.ringing).write(&1_u64.to_ne_bytes());
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
        let (ringing, hearing) = descriptors().map_err(PyOSError::new_err)?;
        let desk = Arc::new(Desk { news: Mutex::default(), ringing });
        Ok(Self { desk, hearing, waits: Mutex::default(), next: AtomicU64::new(1) })
    }

    /// The descriptor that is readable while there are news.
    fn fileno(&self) -> i32 {
        self.hearing.as_raw_fd()
    }

    /// How many waits there are.
    fn __len__(&self) -> usize {
        lock(&self.waits).len()
    }

    /// Takes a wait in, and returns its number.
    fn add(&self, pending: Py<Pending>) -> u64 {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let waker = Waker::from(Arc::new(Bell { desk: Arc::clone(&self.desk), token }));
        lock(&self.waits).insert(token, Wait { pending, waker, news: None });
        token
    }

    /// Looks whether a wait has ended: its result, alone in a tuple; None if not, and then `news` will be told when to look
    /// again.
    fn look<'py>(&self, py: Python<'py>, token: u64, news: Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        // The future first: news that come from now on are for it.
        let (old, pending, waker) = match lock(&self.waits).get_mut(&token) {
            Some(wait) => (wait.news.replace(news.unbind()), wait.pending.clone_ref(py), wait.waker.clone()),
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
        // Whoever has the mutex uses what is in there.
        let Ok(waits) = self.waits.try_lock() else { return Ok(()) };
        for wait in waits.values() {
            visit.call(&wait.pending)?;
            visit.call(&wait.news)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.end();
    }
}

impl LoopWaits {
    /// Wakes the tasks that have news.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        let tokens = {
            let mut news = lock(&self.desk.news);
            let mut heard = [0; 64];
            while let Ok(64) = (&self.hearing).read(&mut heard) {}
            std::mem::take(&mut *news)
        };
        let mut told = Ok(());
        for token in tokens {
            let news = lock(&self.waits).get_mut(&token).and_then(|wait| wait.news.take());
            let Some(news) = news else { continue };
            // The others are told, whatever becomes of this one.
            told = told.and(tell(news.bind(py)));
        }
        told
    }

    /// Ends all waits.
    fn end(&self) {
        let waits = std::mem::take(&mut *lock(&self.waits));
        waits.values().for_each(|wait| wait.pending.get().end());
    }
}

/// Wakes the task that awaits a future, unless it was cancelled meanwhile.
fn tell(news: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = news.py();
    if !news.call_method0(intern!(py, "done"))?.is_truthy()? {
        news.call_method1(intern!(py, "set_result"), (py.None(),))?;
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

    /// Wakes the tasks that have news.
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
    // SAFETY: just made, and nobody else's.
    let hearing = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok((hearing.try_clone()?, hearing))
}

#[cfg(not(target_os = "linux"))]
fn descriptors() -> std::io::Result<(File, File)> {
    let (ringing, hearing) = std::os::unix::net::UnixStream::pair()?;
    ringing.set_nonblocking(true)?;
    hearing.set_nonblocking(true)?;
    Ok((OwnedFd::from(ringing).into(), OwnedFd::from(hearing).into()))
}
