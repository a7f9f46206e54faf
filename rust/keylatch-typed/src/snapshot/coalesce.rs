//! A task that applies deferred updates at a bounded rate.

use super::queue::Queue;
use super::update::Rest;
use super::{Cell, Snapshot};
use crate::sync::wake_all;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Stands for a time that the clock cannot express: some 30 years.
const FAR: Duration = Duration::from_secs(1_000_000_000);

impl<T: Clone + Send + Sync + 'static> Snapshot<T> {
    /// Returns a future that applies deferred closures as they come; spawn it once.
    ///
    /// It makes one clone every `gap` at most, on average over late timers.
    ///
    /// The first closure after a quiet time is applied right away, those that follow within `gap` together, and
    /// none waits longer than that. A timer or a runtime that is late delays
    /// one clone and not those after it: the next is due when it would have been. Closures of `update` do not wait for the
    /// gap. The future ends when every `Snapshot` handle is gone and nothing is queued; until then readers that wait know
    /// that a version may come. It runs on tokio's clock.
    ///
    /// ```
    /// # use keylatch_typed::Snapshot;
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let beats = Snapshot::new(0);
    /// let mut reader = beats.reader();
    /// let coalescer = tokio::spawn(beats.coalescer(Duration::from_millis(50)));
    /// (0..100).for_each(|_| beats.defer(|beats| *beats += 1));
    /// reader.changed().await.unwrap();
    /// assert_eq!((**reader.load(), reader.version()), (100, 2));
    /// drop(beats);
    /// coalescer.await.unwrap();
    /// # });
    /// ```
    pub fn coalescer(&self, gap: Duration) -> impl Future<Output = ()> + Send + use<T> {
        let coalescer = Coalescer::new(self);
        async move {
            // The next clone comes no earlier than this.
            let mut due = Instant::now();
            while coalescer.work_arrives().await {
                let arrived = Instant::now();
                if arrived < due {
                    sleep_until(due).await;
                } else {
                    due = arrived;
                }
                due = due.checked_add(gap).unwrap_or_else(|| arrived + FAR);
                let mut rest = coalescer.apply();
                // Closures that keep coming must not keep the thread from its other tasks, however short the gap.
                tokio::task::yield_now().await;
                while rest == Rest::OfNone {
                    rest = coalescer.apply_awaited();
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// A coalescer that may still publish; readers wait for it.
pub(crate) struct Coalescer<T> {
    cell: Arc<Cell<T>>,
}

impl<T> Coalescer<T> {
    pub(crate) fn new(snapshot: &Snapshot<T>) -> Self {
        snapshot.cell.state.lock().coalescers += 1;
        Self { cell: Arc::clone(&snapshot.cell) }
    }

    /// Waits for a queued closure that no other thread applies.
    ///
    /// `false` when none can come any more.
    pub(crate) fn work_arrives(&self) -> impl Future<Output = bool> + Send + use<'_, T>
    where
        T: Send + Sync,
    {
        WorkArrives { cell: &self.cell, ticket: None }
    }
}

impl<T: Clone> Coalescer<T> {
    /// Applies what is queued, unless another thread does so.
    ///
    /// No thread awaits what closures of `defer` do, so those that come meanwhile are left for the next time.
    pub(crate) fn apply(&self) -> Rest {
        self.cell.apply_some(Queue::has_any)
    }

    /// Applies what is queued if closures of `update` are among it.
    fn apply_awaited(&self) -> Rest {
        self.cell.apply_some(Queue::has_awaited)
    }
}

impl<T> Drop for Coalescer<T> {
    fn drop(&mut self) {
        let readers = {
            let mut state = self.cell.state.lock();
            state.coalescers -= 1;
            state.take_readers_at_end()
        };
        wake_all(readers.into_iter().flatten());
    }
}

struct WorkArrives<'a, T> {
    cell: &'a Arc<Cell<T>>,
    ticket: Option<u64>,
}

impl<T> Future for WorkArrives<'_, T> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let this = &mut *self;
        let waker = context.waker().clone();
        let mut state = this.cell.state.lock();
        let has_work = state.queue.has_any() && state.applier.is_none();
        let is_over = !state.queue.has_any() && state.handles == 0;
        let replaced = if has_work || is_over {
            state.deferred.remove(&mut this.ticket)
        } else {
            state.deferred.register(&mut this.ticket, waker)
        };
        drop(state);
        drop(replaced);
        if has_work || is_over { Poll::Ready(has_work) } else { Poll::Pending }
    }
}

impl<T> Drop for WorkArrives<'_, T> {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            let waker = self.cell.state.lock().deferred.remove(&mut self.ticket);
            drop(waker);
        }
    }
}
