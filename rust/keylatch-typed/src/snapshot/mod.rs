//! A value that is replaced as a whole: readers keep the version they have and never wait for a writer.
//!
//! The cell is a `Mutex<Arc<T>>` and a version word. A reader handle keeps its own `Arc` and the version that it
//! belongs to. A load compares the word with that version: equal, and the handle's `Arc` is the value; different, and
//! the handle clones the cell's `Arc` under the mutex. A load without a publish in between is one load of a word that
//! nothing writes, so readers share its cache line and do not slow each other down.
//!
//! Memory is safe by construction: every `Arc` is cloned under the mutex. What the word has to be right about is
//! freshness: a load that happens after a publish returns that publish or a later one.
//!
//! | mutex-protected state | who changes it |
//! |---|---|
//! | `current`, `version`, `published_at` | the publisher, all three together, and the word last |
//! | `queue` | `update` and `defer` append, the applier takes the whole queue |
//! | `applier` | the thread that runs queued closures; at most one |
//! | `base` | the version that the applier cloned and has not replaced yet |
//! | `handles`, `coalescers` | making and dropping a handle or a coalescer |
//!
//! # Updates
//!
//! An update is a closure over `&mut T`. The first thread that brings one becomes the applier: it takes all queued
//! closures, clones the value once, runs them in order without the mutex, and publishes once. Threads that bring closures
//! meanwhile only queue them. A publish that arrives while the applier works wins, and the batch counts as made just
//! before it: no reader could have seen it. [`Snapshot::publish_if`] refuses during a batch, or it would lose the batch.
//!
//! The applier goes on with a further batch only for closures of `update`; those of `defer` wait for their own turn. After
//! some batches it leaves the rest to a thread that awaits one of them.
//!
//! # The end
//!
//! No version will come any more when no handle is left, no applier works, and no queued closure has anything left that
//! applies it. Whatever brings that about last wakes the readers that wait.

#[cfg(feature = "tokio")]
pub(crate) mod coalesce;
mod outcome;
mod queue;
mod reader;
mod update;
mod wakers;

pub use outcome::UpdateError;
pub use reader::{Changed, Freshness, SnapshotClosed, SnapshotReader};
pub use update::Update;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, thread, wake_all};
use queue::Queue;
use std::collections::btree_map::IntoValues;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};
use wakers::Wakers;

/// A value that writers replace as a whole while readers read on.
///
/// Clones are handles to the same value. Each thread or task that reads often keeps a [`reader`](Self::reader).
/// The value is dropped with its last version in use: a reader handle that never loads keeps its old version alive.
///
/// ```
/// use keylatch_typed::Snapshot;
/// use std::collections::HashMap;
///
/// let nodes = Snapshot::new(HashMap::from([("node-1", 3)]));
/// let mut reader = nodes.reader();
/// let before = reader.load().clone();
///
/// nodes.update(|nodes| drop(nodes.insert("node-2", 0)));
/// assert_eq!(reader.load().len(), 2);
/// assert_eq!(before.len(), 1); // a version that is in use stays as it is
/// ```
pub struct Snapshot<T> {
    cell: Arc<Cell<T>>,
}

/// What handles and readers share.
struct Cell<T> {
    /// The version of `State::current`. Written under the mutex, read without it.
    version: AtomicU64,
    state: Mutex<State<T>>,
}

struct State<T> {
    current: Arc<T>,
    version: u64,
    published_at: Instant,
    /// `Snapshot` handles.
    handles: usize,
    /// Coalescers that were not dropped.
    coalescers: usize,
    queue: Queue<T>,
    applier: Option<thread::ThreadId>,
    base: Option<u64>,
    /// Readers that wait for a publish.
    changed: Wakers,
    /// Coalescers that wait for a deferred closure.
    deferred: Wakers,
}

/// The value of [`Snapshot::publish_if`] and the version that came first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishConflict<T> {
    /// The value that was not published.
    pub value: T,
    /// The version that the value would have hidden.
    ///
    /// It is published, or will be by an update that runs now; wait for it with [`SnapshotReader::load_no_older_than`],
    /// then plan again.
    pub version: u64,
}

impl<T> fmt::Display for PublishConflict<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} came first: load it, plan again and publish on top of it", self.version)
    }
}

impl<T: fmt::Debug> std::error::Error for PublishConflict<T> {}

impl<T> Snapshot<T> {
    /// Makes a snapshot whose version 1 is this value.
    pub fn new(value: T) -> Self {
        let state = State {
            current: Arc::new(value),
            version: 1,
            published_at: Instant::now(),
            handles: 1,
            coalescers: 0,
            queue: Queue::default(),
            applier: None,
            base: None,
            changed: Wakers::default(),
            deferred: Wakers::default(),
        };
        Self { cell: Arc::new(Cell { version: AtomicU64::new(1), state: Mutex::new(state) }) }
    }

    /// Returns a handle for one thread or task, with the present version loaded.
    pub fn reader(&self) -> SnapshotReader<T> {
        SnapshotReader::new(Arc::clone(&self.cell))
    }

    /// Returns the present value; takes the mutex.
    ///
    /// Frequent readers keep a [`reader`](Self::reader).
    pub fn load(&self) -> Arc<T> {
        Arc::clone(&self.cell.state.lock().current)
    }

    /// Returns the present version.
    ///
    /// 1 for the first value, one more with every publish.
    pub fn version(&self) -> u64 {
        self.cell.version()
    }

    /// Returns the time since the present version was published.
    pub fn age(&self) -> Duration {
        self.cell.state.lock().published_at.elapsed()
    }

    /// Replaces the value and returns its version. Waits for no reader and no update.
    pub fn publish(&self, value: T) -> u64 {
        self.publish_arc(Arc::new(value))
    }

    /// Replaces the value by one that is shared already.
    pub fn publish_arc(&self, value: Arc<T>) -> u64 {
        let mut state = self.cell.state.lock();
        let published = self.cell.replace(&mut state, value);
        drop(state);
        published.finish()
    }

    /// Replaces the value if `version` is still the present one.
    ///
    /// Plan outside, apply inside: load a version, prepare the next value in peace, and publish it on top of that
    /// version only.
    ///
    /// ```
    /// # use keylatch_typed::Snapshot;
    /// let limit = Snapshot::new(10);
    /// let mut reader = limit.reader();
    /// let planned = **reader.load() * 2;
    /// assert_eq!(limit.publish_if(reader.version(), planned), Ok(2));
    /// assert_eq!(limit.publish_if(1, 99).unwrap_err().version, 2);
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the value and the newer version when that version is not the present one any more.
    pub fn publish_if(&self, version: u64, value: T) -> Result<u64, PublishConflict<T>> {
        // Allocated before the mutex is taken.
        let value = Arc::new(value);
        let mut state = self.cell.state.lock();
        let newer = if state.base == Some(state.version) { state.version + 1 } else { state.version };
        if newer != version {
            drop(state);
            let value = Arc::into_inner(value).expect("a value that was never published has one owner");
            return Err(PublishConflict { value, version: newer });
        }
        let published = self.cell.replace(&mut state, value);
        drop(state);
        Ok(published.finish())
    }
}

impl<T> State<T> {
    /// Returns whether no newer version can come.
    const fn is_closed(&self) -> bool {
        self.handles == 0 && self.applier.is_none() && !self.has_future()
    }

    /// Returns whether something will apply queued closures.
    const fn has_future(&self) -> bool {
        self.queue.has_awaited() || (self.coalescers > 0 && self.queue.has_any())
    }

    /// Returns the wakers of the readers if no newer version can come.
    ///
    /// Called after everything that may have been the last. Wake them without the mutex.
    fn take_readers_at_end(&mut self) -> Option<IntoValues<u64, Waker>> {
        self.is_closed().then(|| self.changed.take())
    }
}

impl<T> Cell<T> {
    fn version(&self) -> u64 {
        // Pairs with: the release store in `replace`, so that what the publisher wrote before is seen with the version.
        self.version.load(Ordering::Acquire)
    }

    /// Makes `value` the present one.
    ///
    /// Caller holds: the mutex; finishes what is returned without it.
    fn replace(&self, state: &mut State<T>, value: Arc<T>) -> Published<T> {
        let replaced = std::mem::replace(&mut state.current, value);
        state.version += 1;
        state.published_at = Instant::now();
        // Pairs with: the acquire load in `version`. The mutex orders everything else.
        self.version.store(state.version, Ordering::Release);
        Published { version: state.version, replaced, wake: state.changed.take() }
    }
}

/// What is left to do without the mutex.
///
/// Drop the old value and wake the readers that wait.
#[must_use]
struct Published<T> {
    version: u64,
    replaced: Arc<T>,
    wake: IntoValues<u64, Waker>,
}

impl<T> Published<T> {
    fn finish(self) -> u64 {
        self.wake().0
    }

    /// Wakes the readers, and returns the version and the value to drop.
    fn wake(self) -> (u64, Arc<T>) {
        wake_all(self.wake);
        (self.version, self.replaced)
    }
}

impl<T> Clone for Snapshot<T> {
    fn clone(&self) -> Self {
        self.cell.state.lock().handles += 1;
        Self { cell: Arc::clone(&self.cell) }
    }
}

impl<T> Drop for Snapshot<T> {
    fn drop(&mut self) {
        let mut state = self.cell.state.lock();
        state.handles -= 1;
        if state.handles == 0 {
            let (readers, coalescers) = (state.take_readers_at_end(), state.deferred.take());
            drop(state);
            wake_all(readers.into_iter().flatten().chain(coalescers));
        }
    }
}

impl<T: Default> Default for Snapshot<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, version) = {
            let state = self.cell.state.lock();
            (Arc::clone(&state.current), state.version)
        };
        f.debug_struct("Snapshot").field("version", &version).field("value", &value).finish()
    }
}
