//! Telling Python of locks that were taken away.
//!
//! Whoever takes a lock away, in whatever thread, notes it here and rings. A thread of Python's own fetches the news and
//! calls back: no other ever enters the interpreter for that.

use crate::guard::GuardObject;
use crate::wait::wait_for;
use keylatch::Lost;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

/// Holds that are watched.
#[pyclass(frozen, module = "keylatch._keylatch")]
pub(crate) struct Losses {
    desk: Arc<Mutex<Desk>>,
}

#[derive(Default)]
struct Desk {
    news: VecDeque<(u64, Option<Lost>)>,
    waker: Option<Waker>,
}

/// A hold that is watched: tells of its end when it is dropped.
struct Watch {
    desk: Arc<Mutex<Desk>>,
    token: u64,
    why: Option<Lost>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.news.push_back((self.token, self.why));
        let waker = desk.waker.take();
        drop(desk);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The word for it, which is that of `keylatch.Lost`.
pub(crate) fn word(why: Lost) -> &'static str {
    match why {
        Lost::Expired => "expired",
        _ => "forced",
    }
}

#[pymethods]
impl Losses {
    #[new]
    fn new() -> Self {
        Self { desk: Arc::default() }
    }

    /// Watches a guard's hold; its end will be told with this token.
    fn watch(&self, py: Python<'_>, guard: &Bound<'_, PyAny>, token: u64) -> PyResult<()> {
        let guard = GuardObject::from_object(guard).ok_or_else(|| PyTypeError::new_err("watch() takes a guard"))?;
        let mut watch = Watch { desk: Arc::clone(&self.desk), token, why: None };
        guard.look(py, |hold| {
            hold.on_lost(move |why| {
                // The whole of it comes along, and is dropped with the listener.
                let watch = &mut watch;
                watch.why = Some(why);
            });
        })
    }

    /// Waits for the end of one of the holds: its token, and why it was lost; None if it was released.
    fn next(&self, py: Python<'_>) -> PyResult<(u64, Option<&'static str>)> {
        let news = std::future::poll_fn(|context| {
            let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(news) = desk.news.pop_front() {
                return Poll::Ready(news);
            }
            desk.waker = Some(context.waker().clone());
            Poll::Pending
        });
        let (token, why) = wait_for(py, news)?;
        Ok((token, why.map(word)))
    }
}
