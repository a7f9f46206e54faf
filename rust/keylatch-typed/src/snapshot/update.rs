//! Updates of a snapshot: closures that are queued, applied together to one clone, and published once.

use super::outcome::{Outcome, Queued, UpdateError};
use super::{Cell, Snapshot, State};
use crate::sync::{block_on, thread, wake_all};
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

impl<T: Clone> Snapshot<T> {
    /// Changes the value through a closure.
    ///
    /// Closures that arrive meanwhile share one clone and one publish.
    ///
    /// The closure runs on this thread, or on the thread that applies updates right now. In that case this call returns
    /// before the closure has run; await what it returns, or [`wait`](Update::wait), to go on with the new version.
    /// Closures run in the order in which they were queued, one at a time, and delay no reader. Keep them short:
    /// plan outside, apply inside.
    pub fn update(&self, apply: impl FnOnce(&mut T) + Send + 'static) -> Update<T> {
        let outcome = Arc::new(Outcome::default());
        let queued = Queued { apply: Box::new(apply), outcome: Some(Arc::clone(&outcome)) };
        self.cell.state.lock().queued.push(queued);
        self.cell.apply_queued();
        Update { cell: Arc::clone(&self.cell), outcome }
    }

    /// Queues a closure and returns.
    ///
    /// The next update, [`apply_deferred`](Self::apply_deferred) or coalescer applies it.
    ///
    /// Nothing applies it by itself. A closure that is still queued when the snapshot is dropped is dropped unapplied.
    pub fn defer(&self, apply: impl FnOnce(&mut T) + Send + 'static) {
        let queued = Queued { apply: Box::new(apply), outcome: None };
        let wake = {
            let mut state = self.cell.state.lock();
            state.queued.push(queued);
            state.deferred.take()
        };
        wake_all(wake);
    }

    /// Applies all queued closures with one clone and one publish.
    ///
    /// Returns the present version.
    ///
    /// Returns before they have run when another thread applies updates right now: that thread will run them.
    pub fn apply_deferred(&self) -> u64 {
        self.cell.apply_queued();
        self.version()
    }
}

impl<T: Clone> Cell<T> {
    /// Applies closures until the queue is empty, unless another thread does so.
    pub(super) fn apply_queued(&self) {
        let mut state = self.state.lock();
        if state.applier.is_some() || state.queued.is_empty() {
            return;
        }
        state.applier = Some(thread::current().id());
        // Wakers and the drops of values are foreign code: when they unwind, the turn ends without an empty queue.
        let turn = ApplierTurn(self);
        loop {
            let batch = std::mem::take(&mut state.queued);
            if batch.is_empty() {
                state.applier = None;
                std::mem::forget(turn);
                return;
            }
            let (base, version) = (Arc::clone(&state.current), state.version);
            state.base = Some(version);
            drop(state);
            let (value, outcomes) = apply_all(&base, batch);
            drop(base);
            state = self.state.lock();
            state.base = None;
            // A publish since then wins: the batch counts as made just before it.
            let (published, unused) = if state.version == version {
                let published = self.replace(&mut state, value);
                (Some(published), None)
            } else {
                (None, Some(value))
            };
            let version = state.version;
            drop(state);
            drop(unused);
            published.map(super::Published::finish);
            outcomes.into_iter().for_each(|(outcome, result)| outcome.settle(result.map(|()| version)));
            state = self.state.lock();
        }
    }
}

/// Lets another thread become the applier when this one unwinds.
struct ApplierTurn<'a, T>(&'a Cell<T>);

impl<T> Drop for ApplierTurn<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        (state.applier, state.base) = (None, None);
    }
}

type Outcomes = Vec<(Arc<Outcome>, Result<(), UpdateError>)>;

/// Runs the closures on a clone.
///
/// When cloning panics, the result is the value as it was.
fn apply_all<T: Clone>(base: &Arc<T>, batch: Vec<Queued<T>>) -> (Arc<T>, Outcomes) {
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut value = catch_unwind(AssertUnwindSafe(|| T::clone(base)));
    for Queued { apply, outcome } in batch {
        let result = match &mut value {
            Ok(value) => catch_unwind(AssertUnwindSafe(|| apply(value))).map_err(|panic| {
                let message = message(&*panic);
                tracing::error!("an update of a snapshot panicked: {message}");
                UpdateError::Panicked(message)
            }),
            Err(panic) => {
                drop(apply);
                Err(UpdateError::CloneFailed(message(&**panic)))
            }
        };
        outcomes.extend(outcome.map(|outcome| (outcome, result)));
    }
    let value = value.map_or_else(
        |panic| {
            tracing::error!("cloning the value of a snapshot panicked: {}", message(&*panic));
            Arc::clone(base)
        },
        Arc::new,
    );
    (value, outcomes)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".into())
}

/// The outcome of an update: the version that contains it.
///
/// Dropping it does not cancel the update.
///
/// Ready with [`UpdateError::Panicked`] when the closure panicked.
pub struct Update<T> {
    cell: Arc<Cell<T>>,
    outcome: Arc<Outcome>,
}

impl<T> Update<T> {
    /// Blocks the thread until the update is published, and returns its version.
    ///
    /// # Errors
    ///
    /// Returns what went wrong in the closure or in cloning the value, and [`UpdateError::InsideUpdate`] when called from
    /// a closure of the same snapshot.
    pub fn wait(self) -> Result<u64, UpdateError> {
        let inside = |state: &State<T>| state.applier == Some(thread::current().id());
        if self.outcome.state.lock().result.is_none() && inside(&self.cell.state.lock()) {
            return Err(UpdateError::InsideUpdate);
        }
        block_on(self, |_| None)
    }
}

impl<T> Future for Update<T> {
    type Output = Result<u64, UpdateError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = context.waker().clone();
        let mut state = self.outcome.state.lock();
        if let Some(result) = state.result.clone() {
            return Poll::Ready(result);
        }
        let replaced = state.waker.replace(waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl<T> fmt::Debug for Update<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update").field("result", &self.outcome.state.lock().result).finish_non_exhaustive()
    }
}
