//! Updates of a snapshot: closures that are queued, applied together to one clone, and published once.

use super::outcome::{Outcome, Submitted, UpdateError};
use super::queue::{Queue, Queued};
use super::{Cell, Snapshot, State};
use crate::sync::{MutexGuard, block_on, caught, thread, wake_all};
use std::collections::btree_map::IntoValues;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// After this many batches a thread leaves the rest to another.
const BATCHES: u32 = if cfg!(loom) { 1 } else { 16 };

impl<T: Clone> Snapshot<T> {
    /// Changes the value through a closure.
    ///
    /// Closures that arrive meanwhile share one clone and one publish.
    ///
    /// The closure runs on this thread, or on the thread that applies updates right now. In that case this call returns
    /// before the closure has run; await what it returns, or [`wait`](Update::wait), to go on with the new version.
    /// Closures run in the order in which they were queued, one at a time, and delay no reader. Keep them short:
    /// plan outside, apply inside. While closures keep coming, a thread that has applied several batches leaves the rest to
    /// one that awaits an update. If no thread awaits one, it goes on for as long as closures keep coming.
    pub fn update(&self, apply: impl FnOnce(&mut T) + Send + 'static) -> Update<T> {
        let (submitted, outcome) = Submitted::new();
        let queued = Queued { apply: Box::new(apply), submitted: Some(submitted) };
        self.cell.state.lock().queue.push(queued);
        self.cell.apply_queued();
        Update { cell: Arc::clone(&self.cell), outcome, apply_queued: Cell::apply_queued }
    }

    /// Queues a closure and returns.
    ///
    /// The next update, [`apply_deferred`](Self::apply_deferred) or coalescer applies it.
    ///
    /// Nothing applies it by itself. A closure that is still queued when the snapshot is dropped is dropped unapplied.
    pub fn defer(&self, apply: impl FnOnce(&mut T) + Send + 'static) {
        let queued = Queued { apply: Box::new(apply), submitted: None };
        let wake = {
            let mut state = self.cell.state.lock();
            state.queue.push(queued);
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
    /// Applies queued closures, unless another thread does so.
    ///
    /// Closures of `update` that come meanwhile are applied too, or left to a thread that awaits one of them.
    fn apply_queued(&self) {
        let mut rest = self.apply_some(Queue::has_any);
        while rest == Rest::OfNone {
            // Between two turns another thread that brings an update may go on instead.
            thread::yield_now();
            rest = self.apply_some(Queue::has_awaited);
        }
    }

    /// Applies what is queued with one clone.
    ///
    /// Then, a bounded number of times, what came meanwhile with closures of `update`.
    pub(super) fn apply_some(&self, is_wanted: fn(&Queue<T>) -> bool) -> Rest {
        let mut state = self.state.lock();
        if state.applier.is_some() || !is_wanted(&state.queue) {
            return Rest::Taken;
        }
        state.applier = Some(thread::current().id());
        let turn = Turn(self);
        for batch in 1.. {
            state = self.apply_batch(state);
            if !state.queue.has_awaited() || batch >= BATCHES {
                break;
            }
        }
        std::mem::forget(turn);
        let (rest, wake) = self.end_turn(&mut state);
        drop(state);
        wake.all();
        rest
    }

    /// Takes the queue and publishes its closures' work.
    ///
    /// Everything foreign runs without the mutex and is caught, and submitters learn the outcome before values are dropped.
    fn apply_batch<'a>(&'a self, mut state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        let batch = state.queue.take();
        let (base, version) = (Arc::clone(&state.current), state.version);
        state.base = Some(version);
        drop(state);
        let (value, outcomes) = apply_all(&base, batch);
        let mut state = self.state.lock();
        state.base = None;
        // A publish since then wins: the batch counts as made just before it.
        let (published, unused) =
            if state.version == version { (Some(self.replace(&mut state, value)), None) } else { (None, Some(value)) };
        let version = state.version;
        drop(state);
        outcomes.into_iter().for_each(|(submitted, result)| submitted.settle(result.map(|()| version)));
        drop_caught((base, unused));
        if let Some(published) = published {
            let (_, replaced) = published.wake();
            drop_caught(replaced);
        }
        self.state.lock()
    }
}

impl<T> Cell<T> {
    /// Lets another thread become the applier.
    ///
    /// Caller holds: the mutex; wakes what is returned without it.
    fn end_turn(&self, state: &mut State<T>) -> (Rest, Wake) {
        (state.applier, state.base) = (None, None);
        let has_awaited = state.queue.has_awaited();
        let heirs = if has_awaited { state.queue.take_wakers() } else { Vec::new() };
        let rest = if has_awaited && heirs.is_empty() { Rest::OfNone } else { Rest::Taken };
        // A coalescer sleeps while another thread applies, or has to end.
        let is_looked_for = state.queue.has_any() || state.handles == 0;
        let coalescers = is_looked_for.then(|| state.deferred.take());
        (rest, Wake { heirs, coalescers, readers: state.take_readers_at_end() })
    }
}

/// Who goes on with what is left in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Rest {
    /// A thread that awaits one of the closures, or another applier.
    ///
    /// Or nothing is left but closures of `defer`.
    Taken,
    /// Closures of `update` are left that no thread awaits.
    OfNone,
}

/// What to wake after a turn.
#[must_use]
struct Wake {
    /// They await the closures that are left.
    ///
    /// The first that looks becomes the applier.
    /// All of them, because one may keep a future that it does not poll.
    heirs: Vec<Waker>,
    coalescers: Option<IntoValues<u64, Waker>>,
    readers: Option<IntoValues<u64, Waker>>,
}

impl Wake {
    /// Caller holds: no mutex.
    fn all(self) {
        wake_all(self.heirs.into_iter().chain(self.coalescers.into_iter().flatten()));
        wake_all(self.readers.into_iter().flatten());
    }
}

/// Ends the turn of an applier that unwinds, so that others can go on.
struct Turn<'a, T>(&'a Cell<T>);

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let (_, wake) = self.0.end_turn(&mut self.0.state.lock());
        wake.all();
    }
}

type Outcomes = Vec<(Submitted, Result<(), UpdateError>)>;

/// Runs the closures on a clone.
///
/// When cloning panics, the result is the value as it was.
fn apply_all<T: Clone>(base: &Arc<T>, batch: Vec<Queued<T>>) -> (Arc<T>, Outcomes) {
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut value = caught(|| T::clone(base));
    if let Err(message) = &value {
        report(|| tracing::error!("cloning the value of a snapshot panicked: {message}"));
    }
    for Queued { apply, submitted } in batch {
        let result = match &mut value {
            Ok(value) => caught(|| apply(value)).map_err(UpdateError::Panicked),
            Err(message) => {
                drop_caught(apply);
                Err(UpdateError::CloneFailed(message.clone()))
            }
        };
        if let Err(UpdateError::Panicked(message)) = &result {
            report(|| tracing::error!("an update of a snapshot panicked: {message}"));
        }
        outcomes.extend(submitted.map(|submitted| (submitted, result)));
    }
    (value.map_or_else(|_| Arc::clone(base), Arc::new), outcomes)
}

/// Drops what belongs to the program. A panic in there ends with it.
fn drop_caught<T>(value: T) {
    if let Err(message) = caught(|| drop(value)) {
        report(|| tracing::error!("dropping a part of a snapshot panicked: {message}"));
    }
}

/// Emits an event, to a subscriber that may panic.
fn report(event: impl FnOnce()) {
    drop(caught(event));
}

/// The outcome of an update: the version that contains it.
///
/// Dropping it does not cancel the update. A thread that waits for it, polls or drops it may have to apply queued closures,
/// if the thread that applied them leaves the rest. So poll it or drop it: one that is kept unpolled may hold up what was
/// left, until the next update comes.
///
/// Ready with [`UpdateError::Panicked`] when the closure panicked.
pub struct Update<T> {
    cell: Arc<Cell<T>>,
    outcome: Arc<Outcome>,
    /// Known where the value is known to be `Clone`.
    apply_queued: fn(&Cell<T>),
}

impl<T> Update<T> {
    /// Blocks the thread until the update is published, and returns its version.
    ///
    /// # Errors
    ///
    /// Returns what went wrong in the closure or in cloning the value, and [`UpdateError::InsideUpdate`] when called from
    /// a closure of the same snapshot.
    pub fn wait(self) -> Result<u64, UpdateError> {
        let is_inside = |state: &State<T>| state.applier == Some(thread::current().id());
        if !self.outcome.is_settled() && is_inside(&self.cell.state.lock()) {
            return Err(UpdateError::InsideUpdate);
        }
        block_on(self, |_| None)
    }
}

impl<T> Future for Update<T> {
    type Output = Result<u64, UpdateError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Before the look at the applier: one that leaves the rest to others then finds this waker.
        self.outcome.set_waker(context.waker().clone());
        if !self.outcome.is_settled() {
            (self.apply_queued)(&self.cell);
        }
        self.outcome.result().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Drop for Update<T> {
    fn drop(&mut self) {
        // First, so that no applier leaves the closure to this any more. The last one may have done so.
        self.outcome.clear_waker();
        if !self.outcome.is_settled() {
            (self.apply_queued)(&self.cell);
        }
    }
}

impl<T> fmt::Debug for Update<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update").field("result", &self.outcome.result()).finish_non_exhaustive()
    }
}
