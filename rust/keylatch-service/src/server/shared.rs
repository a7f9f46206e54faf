//! The machine in its mutex, and what happens around each step: polls are answered, subscribers woken, timers set.

use super::auth::Access;
use super::marks::Marks;
use super::outbox::{Last, Outbox};
use super::problem::{Problem, code};
use super::tier_link::Tier;
use crate::machine::{Call, Limits, Machine, Refusal, Replay, RequestKey, SessionName, Start, Stream};
use ahash::AHashMap;
use axum::http::StatusCode;
use keylatch::ObjectKey;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot, watch};

/// Whether the server goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// Nothing is granted any more; holders may release.
    Draining,
    /// Streams end, connections close.
    Stopping,
}

#[derive(Debug)]
struct Guarded {
    machine: Machine,
    /// One parked call for a waiting request.
    ///
    /// A later one takes its place, and the earlier one answers.
    polls: AHashMap<RequestKey, oneshot::Sender<()>>,
    /// The box of each session's attached stream.
    streams: AHashMap<u64, Arc<Outbox>>,
    /// What wakes the subscribers of each claimed resource, and how many there are.
    followers: AHashMap<ObjectKey, (watch::Sender<u64>, usize)>,
    /// The number of the latest event that was put into boxes.
    posted: u64,
    /// When the timer is set to wake.
    armed: Option<Duration>,
}

impl Guarded {
    /// Puts what happened in this step into the boxes of those that it concerns.
    fn post(&mut self) {
        if !self.streams.is_empty()
            && let Replay::Events { events, .. } = self.machine.events_after(self.posted, usize::MAX)
        {
            for event in events {
                if let Some(outbox) = self.streams.get(&event.request.session) {
                    outbox.put(&event);
                }
            }
        }
        self.posted = self.machine.head();
        for note in self.machine.take_claim_notes() {
            if let Some(outbox) = self.streams.get(&note.request.session) {
                outbox.put_claim(note);
            }
        }
        for session in self.machine.take_ended() {
            if let Some(outbox) = self.streams.remove(&session) {
                outbox.end(Last::Gone);
            }
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    guarded: Mutex<Guarded>,
    started: Instant,
    epoch: u64,
    limits: Limits,
    /// The number of the latest event.
    head: watch::Sender<u64>,
    /// Counts steps that published events of claims.
    claim_changes: watch::Sender<u64>,
    phase: watch::Sender<Phase>,
    rearm: Notify,
    low_fences: Notify,
    marks: Mutex<Marks>,
    /// The longest promise that is safe on disk, in milliseconds.
    promise_ms: AtomicU64,
    access: RwLock<Arc<Access>>,
    /// The lock space that has to grant, too.
    tier: Option<Tier>,
}

impl Shared {
    pub(super) fn new(limits: Limits, (marks, start): (Marks, Start), access: Access, tier: Option<Tier>) -> Arc<Self> {
        let mut machine = Machine::new(limits.clone(), start.clone());
        if tier.is_some() {
            machine.use_tier();
        }
        Arc::new(Self {
            guarded: Mutex::new(Guarded {
                machine,
                polls: AHashMap::new(),
                streams: AHashMap::new(),
                followers: AHashMap::new(),
                posted: 0,
                armed: None,
            }),
            started: Instant::now(),
            epoch: start.epoch,
            limits,
            head: watch::Sender::new(0),
            claim_changes: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Serving),
            rearm: Notify::new(),
            low_fences: Notify::new(),
            marks: Mutex::new(marks),
            promise_ms: AtomicU64::new(start.quiet.as_millis() as u64),
            access: RwLock::new(Arc::new(access)),
            tier,
        })
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns whether another lock space has to grant, too.
    pub(super) fn has_tier(&self) -> bool {
        self.tier.is_some()
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read())
    }

    pub(super) fn set_access(&self, access: Access) {
        *self.access.write() = Arc::new(access);
    }

    /// Takes one step of the machine, then wakes what it concerns.
    pub(super) fn step<T>(&self, step: impl FnOnce(&mut Machine, Duration) -> T) -> T {
        self.step_guarded(|guarded, now| step(&mut guarded.machine, now))
    }

    /// As `step`; parks the caller until the named request, if any, leaves its queue.
    pub(super) fn step_and_park<T>(
        &self,
        step: impl FnOnce(&mut Machine, Duration) -> (T, Option<RequestKey>),
    ) -> (T, Option<oneshot::Receiver<()>>) {
        self.step_guarded(|guarded, now| {
            let (result, park) = step(&mut guarded.machine, now);
            let parked = park.map(|key| {
                let (sender, receiver) = oneshot::channel();
                guarded.polls.insert(key, sender);
                receiver
            });
            (result, parked)
        })
    }

    /// Attaches a stream to a session. An earlier stream of it ends.
    pub(super) fn attach(&self, session: SessionName, principal: &str) -> Result<(Stream, Arc<Outbox>), Refusal> {
        self.step_guarded(|guarded, now| {
            let stream = guarded.machine.attach(Call { now, session, principal, settled_below: 0 })?;
            let outbox = Arc::<Outbox>::default();
            if let Some(earlier) = guarded.streams.insert(session.number, Arc::clone(&outbox)) {
                earlier.end(Last::Replaced);
            }
            Ok((stream, outbox))
        })
    }

    /// Notes that a stream ended.
    pub(super) fn detach(&self, stream: Stream, outbox: &Arc<Outbox>) {
        self.step_guarded(|guarded, now| {
            guarded.machine.detach(now, stream);
            if guarded.streams.get(&stream.session).is_some_and(|present| Arc::ptr_eq(present, outbox)) {
                guarded.streams.remove(&stream.session);
            }
        });
    }

    /// Follows a claimed resource's events.
    ///
    /// That lasts until [`unfollow_claim`](Self::unfollow_claim).
    pub(super) fn follow_claim(&self, resource: &ObjectKey) -> Result<watch::Receiver<u64>, Refusal> {
        self.step_guarded(|guarded, _| {
            guarded.machine.watch_claim(resource)?;
            let new = || (watch::Sender::new(0), 0);
            let (sender, followers) = guarded.followers.entry(resource.clone()).or_insert_with(new);
            *followers += 1;
            Ok(sender.subscribe())
        })
    }

    pub(super) fn unfollow_claim(&self, resource: &ObjectKey) {
        self.step_guarded(|guarded, _| {
            guarded.machine.unwatch_claim(resource);
            if let Some((_, followers)) = guarded.followers.get_mut(resource) {
                *followers -= 1;
                if *followers == 0 {
                    guarded.followers.remove(resource);
                }
            }
        });
    }

    /// Takes a step under the mutex. Time is read there, so it never runs back.
    fn step_guarded<T>(&self, step: impl FnOnce(&mut Guarded, Duration) -> T) -> T {
        let mut guarded = self.guarded.lock();
        let now = self.started.elapsed();
        if let Some(tier) = &self.tier {
            guarded.machine.note_lease(now, tier.lease());
        }
        let result = step(&mut guarded, now);
        if let Some(tier) = &self.tier {
            tier.pass_on(guarded.machine.take_tier_notes());
        }
        guarded.post();
        let settled = guarded.machine.take_settled();
        let polls: Vec<_> = settled.iter().filter_map(|key| guarded.polls.remove(key)).collect();
        let published = guarded.machine.take_published();
        let followed: Vec<_> = published.iter().filter_map(|key| Some(guarded.followers.get(key)?.0.clone())).collect();
        let due = guarded.machine.due();
        let is_earlier = due.is_some_and(|due| guarded.armed.is_none_or(|armed| due < armed));
        if is_earlier {
            guarded.armed = due;
        }
        let head = guarded.machine.head();
        let wants_fences = guarded.machine.wants_fences();
        drop(guarded);
        // A poll whose client has gone is not there to be woken; the machine has the answer.
        for poll in polls {
            let _ = poll.send(());
        }
        for follower in followed {
            follower.send_modify(|changes| *changes += 1);
        }
        if !published.is_empty() {
            self.claim_changes.send_modify(|changes| *changes += 1);
        }
        // One that begins to follow now reads what this step did: its look at the machine comes after it.
        if self.head.receiver_count() > 0 {
            self.head.send_if_modified(|seen| std::mem::replace(seen, head.max(*seen)) < head);
        }
        if is_earlier {
            self.rearm.notify_one();
        }
        if wants_fences {
            self.low_fences.notify_one();
        }
        result
    }

    /// Follows the number of the latest event.
    pub(super) fn follow_head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Follows the number of steps that published events of claims.
    pub(super) fn follow_claims(&self) -> watch::Receiver<u64> {
        self.claim_changes.subscribe()
    }

    /// Returns when nothing is granted any more.
    pub(super) async fn draining(&self) {
        let _ = self.phase.subscribe().wait_for(|phase| *phase != Phase::Serving).await;
    }

    /// Returns when streams and connections are to end.
    pub(super) async fn stopped(&self) {
        // The sender is in `self`, so this does not fail.
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Stopping).await;
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Makes sure that a promise of this length outlives a crash, before it is made.
    pub(super) async fn ensure_promise(self: &Arc<Self>, promise: Duration) -> Result<(), Problem> {
        // In whole seconds: a client cannot make the server write for each millisecond.
        let wanted = Duration::from_secs(promise.min(self.limits.max_ttl).as_secs_f64().ceil() as u64);
        if wanted.as_millis() as u64 <= self.promise_ms.load(Ordering::Relaxed) {
            return Ok(());
        }
        let shared = Arc::clone(self);
        let raised = tokio::task::spawn_blocking(move || {
            let safe = shared.marks.lock().raise_promise(wanted)?;
            shared.promise_ms.fetch_max(safe.as_millis() as u64, Ordering::Relaxed);
            Ok::<(), std::io::Error>(())
        });
        let error = match raised.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(%error, "the state file cannot be written");
        let detail = "the server cannot write its state file; its log says why";
        Err(Problem::new("state_not_written", StatusCode::SERVICE_UNAVAILABLE, detail).code(code::SYSTEM))
    }

    /// Ends what is due when it is due, until the server stops.
    pub(super) async fn run_timer(self: Arc<Self>) {
        loop {
            let due = self.step(|machine, now| machine.tick(now));
            self.guarded.lock().armed = due;
            let at = due.map(|due| self.started + due);
            tokio::select! {
                () = sleep_until(at) => {}
                () = self.rearm.notified() => {}
                () = self.stopped() => return,
            }
        }
    }

    /// Makes ranges of fences safe ahead of their use, until the server stops.
    pub(super) async fn run_fences(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.low_fences.notified() => {}
                () = self.stopped() => return,
            }
            if !self.step(|machine, _| machine.wants_fences()) {
                continue;
            }
            let shared = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || shared.marks.lock().raise_fences()).await {
                Ok(Ok(range)) => self.step(|machine, now| machine.allot_fences(now, range)),
                failed => {
                    tracing::error!(?failed, "the state file cannot be written; fences run out");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    self.low_fences.notify_one();
                }
            }
        }
    }

    /// Stops granting and waits for holders. Returns whether every lock is free.
    pub(super) async fn drain(self: &Arc<Self>, patience: Duration) -> bool {
        self.phase.send_replace(Phase::Draining);
        let deadline = tokio::time::Instant::now() + patience;
        let (mut head, mut claims) = (self.follow_head(), self.claim_changes.subscribe());
        // Parked calls answer that the server is closing.
        let polls = std::mem::take(&mut self.guarded.lock().polls);
        drop(polls);
        let is_free = loop {
            if self.step(|machine, now| machine.close(now)) {
                break true;
            }
            // A release is an event, and so is the end of a claim.
            tokio::select! {
                _ = head.changed() => {}
                _ = claims.changed() => {}
                () = tokio::time::sleep_until(deadline) => break false,
            }
        };
        if is_free {
            let shared = Arc::clone(self);
            let written = tokio::task::spawn_blocking(move || shared.marks.lock().stop_clean()).await;
            if let Ok(Err(error)) = &written {
                tracing::error!(%error, "the state file cannot be written; the next start waits as after a crash");
            }
            return matches!(written, Ok(Ok(())));
        }
        false
    }

    pub(super) fn stop(&self) {
        self.phase.send_replace(Phase::Stopping);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
