//! A subscription to a manager's events, for one reader at a time: a thread or a task.

use crate::classes::{mode_to_python, module};
use crate::errors::{cycle_to_python, holders_to_python};
use crate::fork::Process;
use crate::pending::Pending;
use crate::request::Timeout;
use crate::wait::wait_until;
use crate::{key, listed};
use keylatch::Event;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// What `keylatch.events.Events` is made of.
#[pyclass(frozen, module = "keylatch._keylatch")]
pub(crate) struct Subscription {
    inbox: Arc<Inbox>,
    process: Process,
}

struct Inbox {
    /// `None` once it was closed.
    events: Mutex<Option<Open>>,
    /// Whether a reader waits for the next event: there is room for one waker.
    is_read: AtomicBool,
    /// What was dropped by the time it was closed.
    dropped: AtomicU64,
}

struct Open {
    events: keylatch::Events,
    /// The waiting reader, woken when the subscription is closed.
    waker: Option<Waker>,
}

impl Inbox {
    fn events(&self) -> MutexGuard<'_, Option<Open>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one who reads.
struct Reader {
    inbox: Arc<Inbox>,
}

impl Reader {
    fn of(inbox: &Arc<Inbox>) -> PyResult<Self> {
        if inbox.is_read.swap(true, Ordering::Acquire) {
            let problem = "another reader waits for an event of this subscription; subscribe once for each reader";
            return Err(PyRuntimeError::new_err(problem));
        }
        Ok(Self { inbox: Arc::clone(inbox) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.inbox.is_read.store(false, Ordering::Release);
    }
}

impl Future for Reader {
    type Output = Option<Event>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut events = self.inbox.events();
        let Some(open) = &mut *events else { return Poll::Ready(None) };
        let old = open.waker.replace(context.waker().clone());
        let polled = pin!(open.events.recv()).poll(context);
        drop(events);
        drop(old);
        polled
    }
}

impl Subscription {
    pub(crate) fn new(events: keylatch::Events, process: Process) -> Self {
        let events = Mutex::new(Some(Open { events, waker: None }));
        let inbox = Inbox { events, is_read: AtomicBool::new(false), dropped: AtomicU64::new(0) };
        Self { inbox: Arc::new(inbox), process }
    }
}

#[pymethods]
impl Subscription {
    /// The oldest event that was not fetched, or None.
    fn try_next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.process.check(py)?;
        let event = self.inbox.events().as_ref().and_then(|open| open.events.try_next());
        event.map(|event| to_python(py, &event)).transpose()
    }

    /// Waits for the next event; None if the time is over, or there will be no more.
    fn next<'py>(&self, py: Python<'py>, timeout: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.process.check(py)?;
        let timeout = Timeout::of(timeout)?.as_duration();
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let event = wait_until(py, Reader::of(&self.inbox)?, deadline)?.flatten();
        event.map(|event| to_python(py, &event)).transpose()
    }

    /// The same, for an event loop to wait for.
    fn begin_next(&self, py: Python<'_>) -> PyResult<Pending> {
        self.process.check(py)?;
        let mut reader = Reader::of(&self.inbox)?;
        Ok(Pending::new(move |py, context| {
            let Poll::Ready(event) = Pin::new(&mut reader).poll(context) else { return Poll::Pending };
            Poll::Ready(event.map_or_else(|| Ok(py.None()), |event| to_python(py, &event).map(Bound::unbind)))
        }))
    }

    /// Ends the subscription, and the wait for its next event.
    fn close(&self) {
        if self.process.is_forked() {
            // The mutex may have been held by a thread that is not here.
            return;
        }
        let Some(Open { events, waker }) = self.inbox.events().take() else { return };
        self.inbox.dropped.store(events.dropped(), Ordering::Relaxed);
        drop(events);
        waker.into_iter().for_each(Waker::wake);
    }

    #[getter]
    fn closed(&self) -> bool {
        self.process.is_forked() || self.inbox.events().is_none()
    }

    /// How many events were dropped because the queue was full.
    #[getter]
    fn dropped(&self) -> u64 {
        let dropped = || self.inbox.dropped.load(Ordering::Relaxed);
        if self.process.is_forked() {
            return dropped();
        }
        self.inbox.events().as_ref().map_or_else(dropped, |open| open.events.dropped())
    }
}

static EVENTS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn to_python<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyAny>> {
    let class = |name: &str| module(py, &EVENTS, "keylatch.events")?.getattr(name);
    let text = event.to_string();
    match event {
        Event::SlowWait { key, mode, owner, source, waited, granted, .. } => class("SlowWait")?.call1((
            key::to_python(py, key)?,
            mode_to_python(py, *mode)?,
            &**owner,
            *source,
            waited.as_secs_f64(),
            *granted,
            text,
        )),
        Event::SlowHold { key, mode, owner, source, held_for, .. } => class("SlowHold")?.call1((
            key::to_python(py, key)?,
            mode_to_python(py, *mode)?,
            &**owner,
            *source,
            held_for.as_secs_f64(),
            text,
        )),
        Event::Timeout { key, mode, owner, source, waited, holders, .. } => class("Timeout")?.call1((
            key::to_python(py, key)?,
            mode_to_python(py, *mode)?,
            &**owner,
            *source,
            waited.as_secs_f64(),
            holders_to_python(py, holders)?,
            holders.more,
            text,
        )),
        Event::Deadlock { key, cycle, .. } => {
            class("Deadlock")?.call1((key::to_python(py, key)?, cycle_to_python(py, cycle)?, text))
        }
        Event::Expired(hold) => class("Expired")?.call1((listed::holder(py, hold)?, text)),
        Event::Forced(hold) => class("Forced")?.call1((listed::holder(py, hold)?, text)),
        Event::LockOrder(report) => class("LockOrder")?.call1((listed::lock_order(py, report)?, text)),
        _ => class("Other")?.call1((text,)),
    }
}
