//! A request for one lock that an event loop waits for.

use crate::guard;
use crate::pending::Pending;
use keylatch::Acquire;
use pyo3::prelude::*;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// A request in line, and the objects that it refers to.
///
/// The order matters: the future goes first.
pub(crate) struct LongAcquire {
    pub(crate) future: Acquire<'static, 'static>,
    pub(crate) manager: Py<PyAny>,
    pub(crate) key: Py<PyAny>,
    pub(crate) owner: Option<Py<PyAny>>,
    pub(crate) renewed: Option<Duration>,
    /// Whatever else the request borrows from.
    pub(crate) _kept: (Vec<Py<PyAny>>, Option<Py<PyAny>>),
}

impl LongAcquire {
    /// What the loop polls; it was polled once and is in line.
    pub(crate) fn into_pending(self) -> Pending {
        let mut wait = self;
        Pending::new(move |py, context| {
            // The whole of it: a closure that names single fields keeps no others.
            let wait = &mut wait;
            let Poll::Ready(held) = Pin::new(&mut wait.future).poll(context) else { return Poll::Pending };
            let owner = wait.owner.as_ref().map_or(std::ptr::null_mut(), Py::as_ptr);
            let guard = guard::from_answer(py, held, wait.manager.as_ptr(), wait.key.as_ptr(), owner);
            let guard = guard::renewed(py, guard, wait.renewed);
            // SAFETY: a new reference.
            Poll::Ready(guard.map(|guard| unsafe { Bound::from_owned_ptr(py, guard).unbind() }))
        })
    }
}
