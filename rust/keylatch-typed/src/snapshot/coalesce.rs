//! A task that applies deferred updates at a bounded rate.

use super::{Cell, Snapshot};
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
    /// It applies them once every `gap` on average.
    ///
    /// The first closure after a quiet time is applied right away, those that follow within `gap` together: no more than
    /// one clone of the value every `gap`, and no closure waits longer than that. A timer or a runtime that is late delays
    /// one clone and not those after it: the next is due when it would have been. The future ends when every other
    /// `Snapshot` handle is gone and nothing is queued. It runs on tokio's clock.
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
        let cell = Arc::clone(&self.cell);
        async move {
            // The next clone comes no earlier than this.
            let mut due = Instant::now();
            while (DeferredArrived { cell: &cell, slot: None }).await {
                let arrived = Instant::now();
                if arrived < due {
                    sleep_until(due).await;
                } else {
                    due = arrived;
                }
                due = due.checked_add(gap).unwrap_or_else(|| arrived + FAR);
                cell.apply_queued();
            }
        }
    }
}

/// Waits for a queued closure; `false` when none can come any more.
struct DeferredArrived<'a, T> {
    cell: &'a Arc<Cell<T>>,
    slot: Option<usize>,
}

impl<T> Future for DeferredArrived<'_, T> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let this = &mut *self;
        let waker = context.waker().clone();
        let mut state = this.cell.state.lock();
        let ready = (!state.queued.is_empty()).then_some(true).or((state.handles == 0).then_some(false));
        let replaced = match ready {
            Some(_) => state.deferred.remove(&mut this.slot),
            None => state.deferred.register(&mut this.slot, waker),
        };
        drop(state);
        drop(replaced);
        ready.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Drop for DeferredArrived<'_, T> {
    fn drop(&mut self) {
        if self.slot.is_some() {
            let waker = self.cell.state.lock().deferred.remove(&mut self.slot);
            drop(waker);
        }
    }
}
