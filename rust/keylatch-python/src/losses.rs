//! Telling Python of locks that were taken away.
//!
//! The thread that takes a lock away notes it here and wakes a thread of Python's own, which calls back: no other ever
//! enters the interpreter for that.

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
pub(crate) struct RevocationListeners {
    ended: Arc<Mutex<Ended>>,
}

#[derive(Default)]
struct Ended {
    holds: VecDeque<(u64, Option<Lost>)>,
    waker: Option<Waker>,
}

/// A hold that is watched: tells of its end when it is dropped.
struct Watch {
    ended: Arc<Mutex<Ended>>,
    token: u64,
    why: Option<Lost>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.holds.push_back((self.token, self.why));
        let waker = ended.waker.take();
        drop(ended);
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
impl RevocationListeners {
    #[new]
    fn new() -> Self {
        Self { ended: Arc::default() }
    }

    /// Watches a guard's hold; its end is reported with this token.
    fn watch(&self, py: Python<'_>, guard: &Bound<'_, PyAny>, token: u64) -> PyResult<()> {
        let guard = GuardObject::from_object(guard).ok_or_else(|| PyTypeError::new_err("watch() takes a guard"))?;
        let mut watch = Watch { ended: Arc::clone(&self.ended), token, why: None };
        guard.look(py, |hold| {
            hold.on_lost(move |why| {
                // The whole of it comes along, and is dropped with the listener.
                let watch = &mut watch;
                watch.why = Some(why);
            });
        })
    }

    /// Waits for the end of a hold: its token, and why it was lost, or `None`.
    fn next(&self, py: Python<'_>) -> PyResult<(u64, Option<&'static str>)> {
        let next = std::future::poll_fn(|context| {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(hold) = ended.holds.pop_front() {
                return Poll::Ready(hold);
            }
            ended.waker = Some(context.waker().clone());
            Poll::Pending
        });
        let (token, why) = wait_for(py, next)?;
        Ok((token, why.map(word)))
    }
}
