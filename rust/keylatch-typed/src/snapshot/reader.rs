//! Handles that read a snapshot, and how they wait for the next version.

use super::Cell;
use crate::sync::atomic::Ordering;
use crate::sync::block_on;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A handle that reads a [`Snapshot`](super::Snapshot).
///
/// One for each thread or task.
///
/// A load without a publish in between reads one word and writes nothing, so any number of threads read at full speed.
/// A clone has the same version loaded. A handle outlives every `Snapshot` handle and then keeps the last value.
pub struct SnapshotReader<T> {
    cell: Arc<Cell<T>>,
    value: Arc<T>,
    version: u64,
    published_at: Instant,
}

/// How fresh a value has to be; see [`SnapshotReader::load_no_older_than`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// This version or a later one.
    Version(u64),
    /// Published at most this long before the load was first polled.
    ///
    /// Zero waits for the next version.
    Age(Duration),
}

impl From<u64> for Freshness {
    fn from(version: u64) -> Self {
        Self::Version(version)
    }
}

impl From<Duration> for Freshness {
    fn from(age: Duration) -> Self {
        Self::Age(age)
    }
}

/// A freshness as it was asked for at one moment.
///
/// An age that is measured anew at each look would refuse every version that is slower to arrive.
enum Wanted {
    Version(u64),
    /// Published at this moment or later.
    Since(Instant),
    Any,
}

impl Wanted {
    fn now(freshness: Freshness) -> Self {
        match freshness {
            Freshness::Version(version) => Self::Version(version),
            // An age before the clock's beginning admits every version.
            Freshness::Age(age) => Instant::now().checked_sub(age).map_or(Self::Any, Self::Since),
        }
    }

    fn is_met(&self, version: u64, published_at: Instant) -> bool {
        match self {
            Self::Version(wanted) => version >= *wanted,
            Self::Since(moment) => published_at >= *moment,
            Self::Any => true,
        }
    }
}

/// Every `Snapshot` handle is gone.
///
/// Nothing is left that would apply a queued closure, either.
/// No version will follow the one that the reader has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotClosed;

impl fmt::Display for SnapshotClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "every Snapshot handle was dropped, so no newer version will come; the last one can still be loaded",
        )
    }
}

impl std::error::Error for SnapshotClosed {}

impl<T> SnapshotReader<T> {
    pub(super) fn new(cell: Arc<Cell<T>>) -> Self {
        let state = cell.state.lock();
        let (value, version, published_at) = (Arc::clone(&state.current), state.version, state.published_at);
        drop(state);
        Self { cell, value, version, published_at }
    }

    /// Returns the present value.
    ///
    /// A publish that happened before the load is seen. Clone the `Arc` to keep a version.
    #[inline]
    pub fn load(&mut self) -> &Arc<T> {
        // Relaxed is enough: an equal version was read under the mutex before, a different one is read under it now. A
        // publish that happened before this load is seen because the word's own history has one order.
        if self.cell.version.load(Ordering::Relaxed) != self.version {
            self.refresh_slow();
        }
        &self.value
    }

    /// Returns the value of the last load, whatever was published since.
    pub fn loaded(&self) -> &Arc<T> {
        &self.value
    }

    /// Returns the version of the last load.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the time since the version of the last load was published.
    pub fn age(&self) -> Duration {
        self.published_at.elapsed()
    }

    /// Waits for a version that is newer than that of the last load.
    ///
    /// Loads it and returns its number.
    ///
    /// Versions in between are skipped. Dropping the future leaves nothing behind.
    ///
    /// ```
    /// # use keylatch_typed::Snapshot;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let limit = Snapshot::new(10);
    /// let mut reader = limit.reader();
    /// tokio::spawn(async move { limit.publish(20) });
    /// assert_eq!(reader.changed().await, Ok(2));
    /// assert_eq!(**reader.load(), 20);
    /// assert!(reader.changed().await.is_err()); // the task dropped the only handle
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`SnapshotClosed`] when every `Snapshot` handle is gone and nothing newer was published or will be by a
    /// coalescer.
    pub fn changed(&mut self) -> Changed<'_, T> {
        Changed { reader: self, ticket: None }
    }

    /// Blocks the thread like [`changed`](Self::changed) for at most `timeout`.
    ///
    /// `None` when nothing came.
    ///
    /// # Errors
    ///
    /// Returns [`SnapshotClosed`] when every `Snapshot` handle is gone and nothing newer was published or will be by a
    /// coalescer.
    pub fn changed_blocking(&mut self, timeout: Duration) -> Result<Option<u64>, SnapshotClosed> {
        // A moment that the clock cannot express is never reached.
        let deadline = Instant::now().checked_add(timeout);
        let mut changed = pin!(self.changed());
        let until_deadline = poll_fn(|context| match changed.as_mut().poll(context) {
            Poll::Ready(version) => Poll::Ready(version.map(Some)),
            Poll::Pending if deadline.is_some_and(|deadline| Instant::now() >= deadline) => Poll::Ready(Ok(None)),
            Poll::Pending => Poll::Pending,
        });
        block_on(until_deadline, |_| deadline)
    }

    /// Waits until the value is fresh enough, by version or age, and returns it.
    ///
    /// A task that publishes hands its version to those that depend on it:
    ///
    /// ```
    /// # use keylatch_typed::Snapshot;
    /// # use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let limit = Snapshot::new(10);
    /// let (mut reader, version) = (limit.reader(), limit.publish(20));
    /// assert_eq!(**reader.load_no_older_than(version).await?, 20);
    /// assert_eq!(**reader.load_no_older_than(Duration::from_secs(60)).await?, 20);
    /// # Ok::<(), keylatch_typed::SnapshotClosed>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`SnapshotClosed`] when no version as fresh can come any more; the last one stays loaded.
    pub async fn load_no_older_than(&mut self, freshness: impl Into<Freshness>) -> Result<&Arc<T>, SnapshotClosed> {
        let wanted = Wanted::now(freshness.into());
        self.load();
        while !wanted.is_met(self.version, self.published_at) {
            self.changed().await?;
        }
        Ok(&self.value)
    }

    #[cold]
    #[inline(never)]
    fn refresh_slow(&mut self) {
        let state = self.cell.state.lock();
        let value = std::mem::replace(&mut self.value, Arc::clone(&state.current));
        (self.version, self.published_at) = (state.version, state.published_at);
        drop(state);
        // The last use of a version drops it: foreign code, so without the mutex.
        drop(value);
    }
}

impl<T> Clone for SnapshotReader<T> {
    fn clone(&self) -> Self {
        let (cell, value) = (Arc::clone(&self.cell), Arc::clone(&self.value));
        Self { cell, value, version: self.version, published_at: self.published_at }
    }
}

impl<T: fmt::Debug> fmt::Debug for SnapshotReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotReader").field("version", &self.version).field("value", &self.value).finish()
    }
}

/// Waits for a newer version; see [`SnapshotReader::changed`].
#[must_use = "futures do nothing unless awaited"]
pub struct Changed<'a, T> {
    reader: &'a mut SnapshotReader<T>,
    ticket: Option<u64>,
}

impl<T> Future for Changed<'_, T> {
    type Output = Result<u64, SnapshotClosed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let waker = context.waker().clone();
        let mut state = this.reader.cell.state.lock();
        let newer = state.version != this.reader.version;
        if !newer && !state.is_closed() {
            let replaced = state.changed.register(&mut this.ticket, waker);
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
        let replaced = state.changed.remove(&mut this.ticket);
        drop(state);
        drop(replaced);
        if !newer {
            return Poll::Ready(Err(SnapshotClosed));
        }
        this.reader.refresh_slow();
        Poll::Ready(Ok(this.reader.version))
    }
}

impl<T> Drop for Changed<'_, T> {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            let waker = self.reader.cell.state.lock().changed.remove(&mut self.ticket);
            drop(waker);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::Snapshot;
    use futures_util::FutureExt;

    #[test]
    fn changed_dropped_leaves_no_waker() {
        let snapshot = Snapshot::new(0);
        let (mut reader, mut other) = (snapshot.reader(), snapshot.reader());
        let waiting = || snapshot.cell.state.lock().changed.waiting();
        for _ in 0..1000 {
            let mut changed = other.changed();
            assert!((&mut changed).now_or_never().is_none());
            assert!((&mut changed).now_or_never().is_none());
            assert!(reader.changed().now_or_never().is_none());
            assert_eq!(waiting(), 1);
            drop(changed);
            assert_eq!(waiting(), 0);
        }
        assert_eq!(snapshot.cell.state.lock().changed.take().len(), 0);
    }
}
