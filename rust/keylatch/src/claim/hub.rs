//! A board with a mutex and a clock around it: who waits for which answer, and a thread that keeps time.
//!
//! A verb runs under the mutex. What it leaves is delivered after the mutex is free, so no user code runs under it.

use super::answer::{ClaimAnswer, ClaimLoss};
use super::board::{ClaimBoard, ClaimCall, ClaimEffect};
use super::error::ClaimError;
use super::id::ClaimRequestId;
use super::signal::Signal;
use crate::key::ObjectKey;
#[cfg(not(loom))]
use crate::sync::thread;
use crate::sync::thread::Running;
use crate::sync::{Mutex, MutexGuard};
use crate::wait::UserCode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a claim comes to for its caller.
pub(super) type Settled = Result<ClaimAnswer, ClaimError>;

/// Stores what a claim came to; called once, and never user code.
pub(super) type SettledSink = Box<dyn FnOnce(Settled) + Send>;

/// Called once with what a claim came to.
pub(super) type SettledFn = UserCode<Box<dyn FnOnce(Settled) + Send>>;

pub(super) struct Hub {
    state: Mutex<HubState>,
    started: Instant,
    process: u32,
    /// Raised when the keeper has something to do before it planned to wake.
    keeper: Arc<Signal>,
}

struct HubState {
    board: ClaimBoard,
    /// Who waits for an answer. Removed when it is delivered.
    parked: BTreeMap<ClaimRequestId, Vec<Waiter>>,
    /// When a parked caller has waited long enough.
    deadlines: BTreeSet<(Duration, ClaimRequestId)>,
    watchers: BTreeMap<ObjectKey, Vec<Arc<Signal>>>,
    /// Callbacks that the keeper has to run.
    due: Vec<(SettledFn, Settled)>,
    thread: Option<Running>,
    closed: bool,
}

/// How an answer reaches a caller that waits for it.
pub(super) enum Parked {
    /// It looks at the board itself.
    Signal(Arc<Signal>),
    /// The keeper runs it.
    Callback(SettledFn),
    /// It is handed the answer on the thread that delivers, and only stores it.
    Sink(SettledSink),
}

/// A caller that waits for the answer of a request.
struct Waiter {
    how: Parked,
    since: Duration,
    deadline: Option<Duration>,
}

/// What is left to do after the mutex is free.
#[derive(Default)]
struct Deliveries {
    signals: Vec<Arc<Signal>>,
    sinks: Vec<(SettledSink, Settled)>,
}

impl Deliveries {
    fn run(self) {
        self.sinks.into_iter().for_each(|(sink, settled)| sink(settled));
        self.signals.iter().for_each(|signal| signal.raise());
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Hub {
    pub(super) fn new(board: ClaimBoard) -> Arc<Self> {
        let state = HubState {
            board,
            parked: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            watchers: BTreeMap::new(),
            due: Vec::new(),
            thread: None,
            closed: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            started: Instant::now(),
            process: std::process::id(),
            keeper: Signal::new(),
        })
    }

    /// Returns the time on the board's clock.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn is_forked(&self) -> bool {
        std::process::id() != self.process
    }

    fn open(&self) -> Result<MutexGuard<'_, HubState>, ClaimError> {
        if self.is_forked() {
            // Before the mutex, which another thread of the parent may hold for ever.
            return Err(ClaimError::Forked);
        }
        let state = self.state.lock();
        if state.closed { Err(ClaimError::Closed) } else { Ok(state) }
    }

    /// Runs one verb and delivers what it leaves.
    pub(super) fn call<T>(
        self: &Arc<Self>,
        verb: impl FnOnce(&mut ClaimBoard, Duration) -> Result<T, ClaimError>,
    ) -> Result<T, ClaimError> {
        let mut state = self.open()?;
        let result = verb(&mut state.board, self.now());
        self.finish(state);
        result
    }

    /// Collects what the verbs left, frees the mutex, and delivers.
    fn finish(self: &Arc<Self>, mut state: MutexGuard<'_, HubState>) {
        let deliveries = state.collect();
        let is_due = !state.due.is_empty();
        let needs_keeper = is_due || state.next_deadline().is_some();
        if needs_keeper && state.thread.is_none() && !state.closed {
            state.thread = self.start_keeper();
        }
        drop(state);
        if needs_keeper {
            self.keeper.raise();
        }
        deliveries.run();
    }

    /// Claims, and parks the caller if there is no answer yet.
    pub(super) fn claim(
        self: &Arc<Self>,
        request: ClaimRequestId,
        claim: impl FnOnce(&mut ClaimBoard, Duration) -> Settled,
        how: Parked,
        timeout: Option<Duration>,
    ) -> Result<Option<ClaimAnswer>, ClaimError> {
        let mut state = self.open()?;
        let now = self.now();
        let answer = claim(&mut state.board, now);
        let is_waiting = matches!(answer, Ok(ClaimAnswer::Waiting { .. }));
        if is_waiting {
            state.park(request, how, now, timeout);
        } else {
            // Off the mutex: dropping it may run user code.
            self.finish(state);
            drop(how);
            return answer.map(Some);
        }
        self.finish(state);
        Ok(None)
    }

    /// As [`claim`](Self::claim), with the answer for the callback, when there is one.
    pub(super) fn claim_with_callback(
        self: &Arc<Self>,
        request: ClaimRequestId,
        claim: impl FnOnce(&mut ClaimBoard, Duration) -> Settled,
        callback: SettledFn,
        timeout: Option<Duration>,
    ) -> Result<(), ClaimError> {
        let mut state = self.open()?;
        if state.thread.is_none() {
            state.thread = self.start_keeper();
        }
        if state.thread.is_none() {
            drop(state);
            return Err(ClaimError::System { kind: std::io::ErrorKind::WouldBlock });
        }
        let now = self.now();
        match claim(&mut state.board, now) {
            Ok(ClaimAnswer::Waiting { .. }) => state.park(request, Parked::Callback(callback), now, timeout),
            Ok(answer) => state.due.push((callback, Ok(answer))),
            Err(error) => {
                self.finish(state);
                return Err(error);
            }
        }
        self.finish(state);
        Ok(())
    }

    /// Returns the answer of a request, if it has one.
    ///
    /// A caller that saw it is parked no longer.
    pub(super) fn answer_of(self: &Arc<Self>, request: ClaimRequestId) -> Result<Option<ClaimAnswer>, ClaimError> {
        let mut state = self.open()?;
        let answer = state.board.look_up(self.now(), request);
        self.finish(state);
        match answer? {
            None => Err(ClaimError::NotYours { answer: None }),
            Some(ClaimAnswer::Waiting { .. }) => Ok(None),
            answer => Ok(answer),
        }
    }

    /// Gives a request up unless it has an answer; returns that.
    pub(super) fn give_up(
        self: &Arc<Self>,
        request: ClaimRequestId,
        signal: &Arc<Signal>,
    ) -> Result<Option<ClaimAnswer>, ClaimError> {
        let mut state = self.open()?;
        let now = self.now();
        let answer = state.board.look_up(now, request)?;
        let is_waiting = matches!(answer, Some(ClaimAnswer::Waiting { .. }));
        if is_waiting {
            state.unpark(request, signal);
            if !state.parked.contains_key(&request) {
                state.board.cancel(now, ClaimCall { request, settled_below: 0 })?;
            }
        }
        self.finish(state);
        Ok(answer.filter(|_| !is_waiting))
    }

    pub(super) fn watch(self: &Arc<Self>, key: &ObjectKey, signal: &Arc<Signal>) -> Result<(), ClaimError> {
        let mut state = self.open()?;
        state.board.check_key(key.as_ref())?;
        state.board.watch(key.as_ref());
        state.watchers.entry(key.clone()).or_default().push(Arc::clone(signal));
        self.finish(state);
        Ok(())
    }

    pub(super) fn unwatch(self: &Arc<Self>, key: &ObjectKey, signal: &Arc<Signal>) {
        let Ok(mut state) = self.open() else { return };
        if let Some(watchers) = state.watchers.get_mut(key) {
            watchers.retain(|it| !Arc::ptr_eq(it, signal));
            if watchers.is_empty() {
                state.watchers.remove(key);
            }
        }
        state.board.unwatch(key.as_ref());
        self.finish(state);
    }

    /// Ends everything: those who wait are answered `Closed`.
    pub(super) fn close(self: &Arc<Self>) {
        let Ok(mut state) = self.open() else { return };
        state.board.close(self.now());
        state.closed = true;
        let mut deliveries = state.collect();
        let left = std::mem::take(&mut state.parked);
        for waiter in left.into_values().flatten() {
            state.deliver(waiter.how, Err(ClaimError::Closed), &mut deliveries);
        }
        state.deadlines.clear();
        deliveries.signals.extend(std::mem::take(&mut state.watchers).into_values().flatten());
        drop(state);
        self.keeper.raise();
        deliveries.run();
    }

    /// Waits until the keeper has ended. Call `close` before, and not from the keeper.
    pub(super) fn join_thread(&self) {
        let thread = self.state.lock().thread.take();
        thread.into_iter().for_each(Running::join);
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.open(), Err(ClaimError::Closed | ClaimError::Forked))
    }

    #[cfg(not(loom))]
    fn start_keeper(self: &Arc<Self>) -> Option<Running> {
        let hub = Arc::clone(self);
        thread::spawn("keylatch-claims", move || hub.keep_time()).ok()
    }

    #[cfg(loom)]
    fn start_keeper(self: &Arc<Self>) -> Option<Running> {
        None
    }

    /// The keeper: runs callbacks, and the board when something is due.
    ///
    /// Ends with the claims.
    #[cfg(not(loom))]
    fn keep_time(self: Arc<Self>) {
        loop {
            self.keeper.clear();
            let mut state = self.state.lock();
            let now = self.now();
            state.board.advance(now);
            let mut deliveries = state.collect();
            state.give_up_due(now, &mut deliveries);
            let due = std::mem::take(&mut state.due);
            let (closed, next) = (state.closed, state.next_deadline());
            drop(state);
            deliveries.run();
            let ran = !due.is_empty();
            for (callback, settled) in due {
                callback.call(|callback| callback(settled));
            }
            if ran {
                continue;
            }
            if closed {
                return;
            }
            self.keeper.wait(next.and_then(|at| self.started.checked_add(at)));
        }
    }
}

impl HubState {
    fn next_deadline(&self) -> Option<Duration> {
        let parked = self.deadlines.first().map(|(at, _)| *at);
        [self.board.next_deadline(), parked].into_iter().flatten().min()
    }

    /// Takes the board's effects and finds out whom they concern.
    fn collect(&mut self) -> Deliveries {
        let mut deliveries = Deliveries::default();
        for effect in self.board.take_effects() {
            match effect {
                ClaimEffect::Answered { request, answer } => {
                    for waiter in self.parked.remove(&request).unwrap_or_default() {
                        self.forget_deadline(request, &waiter);
                        self.deliver(waiter.how, settled(&answer), &mut deliveries);
                    }
                }
                ClaimEffect::Published { resource } => {
                    deliveries.signals.extend(self.watchers.get(&resource).into_iter().flatten().cloned());
                }
                ClaimEffect::SessionEnded { .. } => {}
            }
        }
        deliveries
    }

    fn park(&mut self, request: ClaimRequestId, how: Parked, since: Duration, timeout: Option<Duration>) {
        // A sum beyond the clock's range is never.
        let deadline = timeout.and_then(|timeout| since.checked_add(timeout));
        self.parked.entry(request).or_default().push(Waiter { how, since, deadline });
        self.deadlines.extend(deadline.map(|at| (at, request)));
    }

    fn deliver(&mut self, how: Parked, settled: Settled, deliveries: &mut Deliveries) {
        match how {
            Parked::Signal(signal) => deliveries.signals.push(signal),
            Parked::Callback(callback) => self.due.push((callback, settled)),
            Parked::Sink(sink) => deliveries.sinks.push((sink, settled)),
        }
    }

    fn forget_deadline(&mut self, request: ClaimRequestId, waiter: &Waiter) {
        if let Some(at) = waiter.deadline {
            self.deadlines.remove(&(at, request));
        }
    }

    /// Removes a caller that waits by its signal.
    fn unpark(&mut self, request: ClaimRequestId, signal: &Arc<Signal>) {
        let Some(waiters) = self.parked.get_mut(&request) else { return };
        let at = waiters.iter().position(|it| matches!(&it.how, Parked::Signal(it) if Arc::ptr_eq(it, signal)));
        let removed = at.map(|at| waiters.remove(at));
        if waiters.is_empty() {
            self.parked.remove(&request);
        }
        if let Some(waiter) = removed {
            self.forget_deadline(request, &waiter);
        }
    }

    /// Answers the callers that have waited long enough.
    ///
    /// The request of the last of them leaves the line.
    #[cfg(not(loom))]
    fn give_up_due(&mut self, now: Duration, deliveries: &mut Deliveries) {
        while let Some(&(at, request)) = self.deadlines.first().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, request));
            let Some(mut waiters) = self.parked.remove(&request) else { continue };
            let Some(index) = waiters.iter().position(|waiter| waiter.deadline == Some(at)) else { continue };
            if let Parked::Signal(signal) = &waiters[index].how {
                // It gives up by itself.
                deliveries.signals.push(Arc::clone(signal));
                waiters[index].deadline = None;
            } else {
                let waiter = waiters.remove(index);
                let waited = now.saturating_sub(waiter.since);
                self.deliver(waiter.how, Err(ClaimError::Timeout { waited }), deliveries);
            }
            if waiters.is_empty() {
                let _ = self.board.cancel(now, ClaimCall { request, settled_below: 0 });
            } else {
                self.parked.insert(request, waiters);
            }
        }
    }
}

/// An answer as a caller that waits gets it: the end of its session is an error.
fn settled(answer: &ClaimAnswer) -> Settled {
    match answer {
        ClaimAnswer::Lost(ClaimLoss::Closed) => Err(ClaimError::Closed),
        ClaimAnswer::Lost(ClaimLoss::SessionEnded | ClaimLoss::SessionExpired) => Err(ClaimError::SessionGone),
        answer => Ok(answer.clone()),
    }
}
