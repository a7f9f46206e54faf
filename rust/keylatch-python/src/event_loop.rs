//! The waits of one event loop: a descriptor that becomes readable when one of them has news, and what to do then.
//!
//! News come from whatever thread releases a lock. It notes whose they are and rings the descriptor; it never enters the
//! interpreter. The loop polls the descriptor and calls `drain` in its own thread, which goes on with those waits.

use crate::pending::{Pending, Waiting};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Waits that an event loop keeps, each with the future that is told of its end.
#[pyclass(frozen, module = "keylatch._keylatch")]
pub(crate) struct LoopWaits {
    desk: Arc<Desk>,
    hearing: File,
    waits: Mutex<HashMap<u64, Wait>>,
    next: AtomicU64,
}

struct Wait {
    waiting: Waiting,
    /// The loop's future.
    future: Py<PyAny>,
    waker: Waker,
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

    /// Takes a wait in, and tells `future` when it has ended, which may be at once. Returns a number for `drop`.
    fn add(&self, pending: &Bound<'_, Pending>, future: Bound<'_, PyAny>) -> PyResult<u64> {
        let Some(waiting) = pending.get().take() else {
            return Err(PyRuntimeError::new_err("the wait was given to a loop before"));
        };
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let waker = Waker::from(Arc::new(Bell { desk: Arc::clone(&self.desk), token }));
        self.go_on(pending.py(), token, Wait { waiting, future: future.unbind(), waker })?;
        Ok(token)
    }

    /// Ends a wait, if it has not ended.
    fn discard(&self, token: u64) {
        let wait = lock(&self.waits).remove(&token);
        drop(wait);
    }

    /// Goes on with the waits that have news.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        let tokens = {
            let mut news = lock(&self.desk.news);
            let mut heard = [0; 64];
            while let Ok(64) = (&self.hearing).read(&mut heard) {}
            std::mem::take(&mut *news)
        };
        for token in tokens {
            let wait = lock(&self.waits).remove(&token);
            if let Some(wait) = wait {
                self.go_on(py, token, wait)?;
            }
        }
        Ok(())
    }
}

impl LoopWaits {
    fn go_on(&self, py: Python<'_>, token: u64, mut wait: Wait) -> PyResult<()> {
        let future = wait.future.bind(py);
        // Nobody listens any more; whatever has arrived goes on to others when the wait is dropped.
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        let waker = wait.waker.clone();
        match (wait.waiting)(py, &mut Context::from_waker(&waker)) {
            Poll::Pending => {
                // News since the poll were noted and are found here: only the loop's own thread drains, and it is here.
                lock(&self.waits).insert(token, wait);
                return Ok(());
            }
            Poll::Ready(Ok(result)) => future.call_method1(intern!(py, "set_result"), (result,))?,
            Poll::Ready(Err(error)) => future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))?,
        };
        Ok(())
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
