//! What is written down while a program runs, and how.
//!
//! Every event has a number from one counter. A number that begins something (a request, the end of a hold) is taken
//! before it is done, and one that says that something is so (a place in line, a grant) after it is: what the numbers
//! say about who held when is then never more than what was so.

use keylatch::Mode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// How a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Thread,
    Task,
    Callback,
    Queue,
    /// It does not wait.
    Try,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A request is about to be made.
    Asking { key: usize, mode: Mode, priority: u8, by: By },
    /// It was seen to stand in line.
    InLine,
    /// It still stood in line when it was polled again; the poll began at this time.
    Polled { began_at: u64 },
    /// It holds the lock.
    Granted { fence: u64 },
    /// The hold is about to change its mode.
    Changing,
    /// It holds the lock like this now.
    Changed { mode: Mode, fence: u64 },
    /// The hold is about to end.
    Releasing,
    /// The request is about to be cancelled, or its future dropped.
    Cancelling,
    /// The request ended without the lock.
    GaveUp,
    /// Its callback was called, or its completion arrived.
    Answered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its place in the order of all events.
    pub(crate) number: u64,
    /// Nanoseconds since the program began.
    pub(crate) time: u64,
    pub(crate) request: u64,
    pub(crate) what: What,
}

/// Where the numbers come from.
#[derive(Debug)]
pub(crate) struct Clock {
    number: AtomicU64,
    requests: AtomicU64,
    began: Instant,
}

impl Clock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { number: AtomicU64::new(0), requests: AtomicU64::new(0), began: Instant::now() })
    }

    pub(crate) fn time(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a program runs for less than centuries")
    }
}

/// One writer's part of the history.
///
/// Clones write to the same part: a request and its callback.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    clock: Arc<Clock>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Log {
    pub(crate) fn new(clock: &Arc<Clock>) -> Self {
        Self { clock: Arc::clone(clock), events: Arc::default() }
    }

    pub(crate) fn time(&self) -> u64 {
        self.clock.time()
    }

    pub(crate) fn asking(&self, key: usize, mode: Mode, priority: u8, by: By) -> u64 {
        // Relaxed: a name, nothing more.
        let request = self.clock.requests.fetch_add(1, Ordering::Relaxed);
        self.note(request, What::Asking { key, mode, priority, by });
        request
    }

    pub(crate) fn note(&self, request: u64, what: What) {
        // SeqCst: all threads agree on the order, and what comes before in the thread stays before. Taken outside of the
        // mutex, which orders nothing but the writing.
        let number = self.clock.number.fetch_add(1, Ordering::SeqCst);
        let event = Event { number, time: self.clock.time(), request, what };
        self.events.lock().expect("no writer panics while it writes").push(event);
    }

    pub(crate) fn into_events(self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().expect("no writer panics while it writes"))
    }
}
