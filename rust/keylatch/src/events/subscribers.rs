//! Subscribers to events: long waits and holds, timeouts, deadlocks, and revoked locks.
//!
//! The engine announces an event, and each subscriber has a bounded queue of its own. A subscriber that does not fetch costs
//! the memory of a full queue, and then only a count. Without subscribers, a slow path looks at one word and a fast path at
//! none.
//!
//! Announcing may wake a subscriber, which runs code of the user's. So it happens without any internal mutex.

use super::event::Event;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Mutex, OnceLock};
use crate::wait::{EventFd, UserCode};
use parking_lot::Condvar;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// What a subscriber receives.
///
/// Timeouts, deadlocks, revoked locks, and what a lint finds are always reported.
///
/// ```
/// use keylatch::EventOptions;
/// use std::time::Duration;
/// let options = EventOptions { wait_above: Some(Duration::from_millis(100)), ..EventOptions::default() };
/// assert_eq!(options.hold_above, None); // long holds are not reported
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventOptions {
    /// Reports waits of at least this long. Default `None`: none.
    pub wait_above: Option<Duration>,
    /// Reports holds of at least this long. Default `None`: none.
    ///
    /// This is the only option that costs those who do not wait: while it is set, every request reads the clock and takes
    /// the mutex of its shard, because the fast path does neither.
    pub hold_above: Option<Duration>,
    /// Events that are kept until they are fetched.
    ///
    /// Those that come when the queue is full are dropped and counted. Default 1024; none is taken for one.
    pub capacity: usize,
}

impl Default for EventOptions {
    fn default() -> Self {
        Self { wait_above: None, hold_above: None, capacity: 1024 }
    }
}

/// No wait and no hold is as long as this.
const NEVER: u64 = u64::MAX;

fn nanos(threshold: Option<Duration>) -> u64 {
    threshold.map_or(NEVER, |threshold| u64::try_from(threshold.as_nanos()).unwrap_or(NEVER))
}

/// The subscribers, and what they want to receive.
#[derive(Debug)]
pub(crate) struct Subscribers {
    /// The number of listeners.
    heard: AtomicU32,
    /// The lowest thresholds of all, in nanoseconds.
    wait_above: AtomicU64,
    hold_above: AtomicU64,
    listeners: Mutex<Arc<[Listener]>>,
    /// Events that were noted under a mutex and are still to be delivered.
    noted: Mutex<Vec<Event>>,
    has_noted: AtomicBool,
    /// Events that some subscriber had no room for, including those that have left.
    dropped: AtomicU64,
}

#[derive(Debug, Clone)]
struct Listener {
    wait_above: u64,
    hold_above: u64,
    inbox: Arc<Inbox>,
}

impl Default for Subscribers {
    fn default() -> Self {
        Self {
            heard: AtomicU32::new(0),
            wait_above: AtomicU64::new(NEVER),
            hold_above: AtomicU64::new(NEVER),
            listeners: Mutex::new(Arc::new([])),
            noted: Mutex::default(),
            has_noted: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        }
    }
}

impl Subscribers {
    /// Returns whether there is a listener: asked before an event is put together.
    #[inline]
    pub(crate) fn has_listeners(&self) -> bool {
        self.heard.load(Ordering::Relaxed) != 0
    }

    /// Returns whether a subscriber wants a wait of this many nanoseconds.
    #[inline]
    pub(crate) fn wants_wait(&self, nanos: u64) -> bool {
        nanos >= self.wait_above.load(Ordering::Relaxed)
    }

    /// Returns whether a subscriber wants a hold of this many nanoseconds.
    pub(crate) fn wants_hold(&self, nanos: u64) -> bool {
        nanos >= self.hold_above.load(Ordering::Relaxed)
    }

    /// Whether a subscriber wants long holds at all, so that holds have to be timed.
    #[inline]
    pub(crate) fn times_holds(&self) -> bool {
        self.hold_above.load(Ordering::Relaxed) != NEVER
    }

    /// Runs `run` while it cannot change whether holds are timed.
    pub(crate) fn steadily<T>(&self, run: impl FnOnce(bool) -> T) -> T {
        let _listeners = self.listeners.lock();
        run(self.times_holds())
    }

    /// Returns the inbox of a subscriber that will receive nothing.
    pub(crate) fn closed() -> Arc<Inbox> {
        let inbox = Inbox::new(&EventOptions::default(), Outlet::Queue);
        inbox.close();
        inbox
    }

    /// Adds a subscriber.
    ///
    /// `changed` is called with whether holds are to be timed, before another can change that.
    pub(crate) fn join(&self, options: &EventOptions, outlet: Outlet, changed: impl FnOnce(bool)) -> Arc<Inbox> {
        let inbox = Inbox::new(options, outlet);
        let (wait_above, hold_above) = (nanos(options.wait_above), nanos(options.hold_above));
        let listener = Listener { wait_above, hold_above, inbox: Arc::clone(&inbox) };
        let mut listeners = self.listeners.lock();
        *listeners = listeners.iter().cloned().chain([listener]).collect();
        self.set_thresholds(&listeners);
        changed(self.times_holds());
        inbox
    }

    /// Removes a listener. `changed` as in `join`.
    pub(crate) fn leave(&self, inbox: &Arc<Inbox>, changed: impl FnOnce(bool)) {
        let mut listeners = self.listeners.lock();
        *listeners = listeners.iter().filter(|listener| !Arc::ptr_eq(&listener.inbox, inbox)).cloned().collect();
        self.set_thresholds(&listeners);
        changed(self.times_holds());
    }

    fn set_thresholds(&self, listeners: &[Listener]) {
        let least = |threshold: fn(&Listener) -> u64| listeners.iter().map(threshold).min().unwrap_or(NEVER);
        self.heard.store(listeners.len() as u32, Ordering::Relaxed);
        self.wait_above.store(least(|listener| listener.wait_above), Ordering::Relaxed);
        self.hold_above.store(least(|listener| listener.hold_above), Ordering::Relaxed);
    }

    /// Delivers to every subscriber that wants the event.
    ///
    /// Wakes subscribers: call it off every internal mutex.
    #[cold]
    pub(crate) fn announce(&self, event: &Event) {
        let listeners = Arc::clone(&self.listeners.lock());
        for listener in listeners.iter().filter(|listener| listener.wants(event)) {
            if let Put::NoRoom = listener.inbox.put(event) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Events that were dropped because a listener's queue was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Notes an event under an internal mutex; `deliver_noted` delivers it afterwards.
    pub(crate) fn note(&self, event: Event) {
        let mut noted = self.noted.lock();
        noted.push(event);
        self.has_noted.store(true, Ordering::Relaxed);
    }

    /// Delivers what was noted, off every internal mutex.
    ///
    /// A thread that noted something sees it here, unless another has delivered it.
    #[inline]
    pub(crate) fn deliver_noted(&self) {
        if self.has_noted.load(Ordering::Relaxed) {
            self.deliver_noted_slow();
        }
    }

    #[cold]
    #[inline(never)]
    fn deliver_noted_slow(&self) {
        let mut noted = self.noted.lock();
        let events = std::mem::take(&mut *noted);
        // Under the mutex: what is noted next says so after it.
        self.has_noted.store(false, Ordering::Relaxed);
        drop(noted);
        events.iter().for_each(|event| self.announce(event));
    }

    /// No more events will come: the waits for one end.
    pub(crate) fn close(&self) {
        let listeners = Arc::clone(&self.listeners.lock());
        listeners.iter().for_each(|listener| listener.inbox.close());
    }
}

impl Listener {
    fn wants(&self, event: &Event) -> bool {
        match event {
            Event::SlowWait { waited, .. } => nanos(Some(*waited)) >= self.wait_above,
            Event::SlowHold { held_for, .. } => nanos(Some(*held_for)) >= self.hold_above,
            _ => true,
        }
    }
}

/// Where a listener's events go.
#[derive(Debug)]
pub(crate) enum Outlet {
    /// They are kept until they are fetched.
    Queue,
    /// They are handed on immediately.
    #[cfg(feature = "tracing")]
    Tracing,
}

/// What became of an event that was put into an inbox.
#[must_use]
enum Put {
    Kept,
    NoRoom,
}

/// A subscriber's events that it has not fetched yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    capacity: usize,
    dropped: AtomicU64,
    outlet: Outlet,
    state: parking_lot::Mutex<Waiting>,
    arrived: Condvar,
    /// Made for the first request for a descriptor.
    ///
    /// It is readable while events lie here, and once no more will come. It is signalled and cleared under `state`, so
    /// that neither misses what is put in.
    event_fd: OnceLock<EventFd>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    waker: Option<UserCode<Waker>>,
    closed: bool,
}

impl Inbox {
    fn new(options: &EventOptions, outlet: Outlet) -> Arc<Self> {
        Arc::new(Self {
            capacity: options.capacity.max(1),
            dropped: AtomicU64::new(0),
            outlet,
            state: parking_lot::Mutex::default(),
            arrived: Condvar::new(),
            event_fd: OnceLock::new(),
        })
    }

    fn put(&self, event: &Event) -> Put {
        match self.outlet {
            Outlet::Queue => {}
            #[cfg(feature = "tracing")]
            Outlet::Tracing => {
                super::tracing::hand_on(event);
                return Put::Kept;
            }
        }
        let mut state = self.state.lock();
        if state.events.len() >= self.capacity {
            drop(state);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return Put::NoRoom;
        }
        state.events.push_back(event.clone());
        let waker = state.waker.take();
        drop(state);
        self.arrived.notify_one();
        self.event_fd.get().into_iter().for_each(EventFd::signal);
        waker.into_iter().for_each(UserCode::wake);
        Put::Kept
    }

    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        self.arrived.notify_all();
        self.event_fd.get().into_iter().for_each(EventFd::signal);
        waker.into_iter().for_each(UserCode::wake);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Returns what is readable while there is an event to fetch, and after the end.
    pub(crate) fn event_fd(&self) -> io::Result<&EventFd> {
        if let Some(event_fd) = self.event_fd.get() {
            return Ok(event_fd);
        }
        let made = EventFd::new()?;
        let state = self.state.lock();
        let event_fd = self.event_fd.get_or_init(|| made);
        if state.closed || !state.events.is_empty() {
            event_fd.signal();
        }
        Ok(event_fd)
    }

    pub(crate) fn fetch(&self) -> Option<Event> {
        let mut state = self.state.lock();
        let oldest = state.events.pop_front();
        if let (None, false, Some(event_fd)) = (&oldest, state.closed, self.event_fd.get()) {
            event_fd.clear();
        }
        oldest
    }

    pub(crate) fn fetch_until(&self, deadline: Option<Instant>) -> Option<Event> {
        let mut state = self.state.lock();
        loop {
            if let Some(event) = state.events.pop_front() {
                return Some(event);
            }
            if state.closed {
                return None;
            }
            match deadline {
                None => self.arrived.wait(&mut state),
                Some(at) if Instant::now() >= at => return None,
                Some(at) => drop(self.arrived.wait_until(&mut state, at)),
            }
        }
    }

    /// Returns the next event, or `None` after the end; else keeps the waker.
    pub(crate) fn poll_fetch(&self, waker: &Waker) -> Poll<Option<Event>> {
        // Cloned and dropped off the mutex: either runs user code.
        let fresh = UserCode::new(waker.clone());
        let mut state = self.state.lock();
        if let Some(event) = state.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        let old = state.waker.replace(fresh);
        drop(state);
        drop(old);
        Poll::Pending
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
