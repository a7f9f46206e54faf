//! A subscription to the events of one claimed resource, for one reader at a time: a thread or a task.

use crate::claim_types::{OrRaise, notice};
use crate::fork::Process;
use crate::pending::Pending;
use crate::request::Timeout;
use crate::wait::wait_until;
use keylatch::claim::{ClaimError, ClaimNotice};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// What `keylatch.claims.ClaimEvents` is made of.
#[pyclass(frozen, module = "keylatch._keylatch")]
pub(crate) struct ClaimWatch {
    inbox: Arc<Inbox>,
    process: Process,
}

struct Inbox {
    /// `None` once it was closed.
    watch: Mutex<Option<Open>>,
    /// Whether a reader waits: there is room for one waker.
    ///
    /// The `Release` store in `Reader::drop` pairs with the `Acquire` swap in `Reader::of`.
    is_read: AtomicBool,
}

struct Open {
    watch: keylatch::claim::ClaimWatch,
    /// Wakes the reader when the subscription is closed.
    waker: Option<Waker>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one reader.
struct Reader {
    inbox: Arc<Inbox>,
}

impl Reader {
    fn of(inbox: &Arc<Inbox>) -> PyResult<Self> {
        // Pairs with: the store in `drop`.
        if inbox.is_read.swap(true, Ordering::Acquire) {
            let problem = "another reader waits for an event of this subscription; watch once for each reader";
            return Err(PyRuntimeError::new_err(problem));
        }
        Ok(Self { inbox: Arc::clone(inbox) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Pairs with: the swap in `of`.
        self.inbox.is_read.store(false, Ordering::Release);
    }
}

impl Future for Reader {
    /// `None` when there will be no more.
    type Output = Option<ClaimNotice>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let fresh = context.waker().clone();
        let mut watch = self.inbox.lock();
        let Some(open) = &mut *watch else { return Poll::Ready(None) };
        let old = open.waker.replace(fresh);
        let polled = pin!(open.watch.recv()).poll(context);
        drop(watch);
        drop(old);
        // Closed claims publish nothing more.
        polled.map(Result::ok)
    }
}

impl ClaimWatch {
    pub(crate) fn new(watch: keylatch::claim::ClaimWatch, process: Process) -> Self {
        let watch = Mutex::new(Some(Open { watch, waker: None }));
        Self { inbox: Arc::new(Inbox { watch, is_read: AtomicBool::new(false) }), process }
    }
}

#[pymethods]
impl ClaimWatch {
    /// The next event, or None.
    fn try_next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.process.check(py)?;
        let next = self.inbox.lock().as_mut().map(|open| open.watch.try_next());
        let next = match next {
            None | Some(Err(ClaimError::Closed)) => None,
            Some(next) => next.or_raise(py)?,
        };
        next.map(|next| notice(py, &next)).transpose()
    }

    /// Waits for the next event; None if the time is over, or there will be no more.
    fn next<'py>(&self, py: Python<'py>, timeout: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.process.check(py)?;
        let timeout = Timeout::of(timeout)?.as_duration();
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let next = wait_until(py, Reader::of(&self.inbox)?, deadline)?.flatten();
        next.map(|next| notice(py, &next)).transpose()
    }

    /// The same, for an event loop to wait for.
    fn begin_next(&self, py: Python<'_>) -> PyResult<Pending> {
        self.process.check(py)?;
        let mut reader = Reader::of(&self.inbox)?;
        Ok(Pending::new(move |py, context| {
            let Poll::Ready(next) = Pin::new(&mut reader).poll(context) else { return Poll::Pending };
            Poll::Ready(next.map_or_else(|| Ok(py.None()), |next| notice(py, &next).map(Bound::unbind)))
        }))
    }

    /// Ends the subscription; the reader gets None.
    fn close(&self) {
        if self.process.is_forked() {
            // The mutex may have been held by a thread that is not here.
            return;
        }
        let Some(Open { watch, waker }) = self.inbox.lock().take() else { return };
        drop(watch);
        waker.into_iter().for_each(Waker::wake);
    }

    #[getter]
    fn closed(&self) -> bool {
        self.process.is_forked() || self.inbox.lock().is_none()
    }
}
