//! The board: every rule of claims in one state machine without threads, clocks or input.
//!
//! A host calls its verbs one after the other, gives each the time, and then delivers the [effects](ClaimEffect). The
//! same code serves three hosts: [`Claims`](super::Claims) in a process, the lock service, and the model checker, which
//! plays a network, crashes and restarts against it (`tests/claims_model`).
//!
//! A verb changes the whole state before it leaves an effect, so nothing is published about a state that is not there
//! yet. That is what closes the race of a failing owner: see `claim/README.md`.

mod grants;
mod hosted;
mod presence;
mod requests;
mod view;

use super::answer::{ClaimAnswer, ClaimLoss};
use super::error::ClaimError;
use super::event::{ClaimChange, EventRing};
use super::id::{ClaimRequestId, ClaimSessionId};
use super::policy::{ClaimConfig, ClaimPolicy};
use super::resource::Resource;
use super::session::Session;
use super::timers::Timers;
use crate::key::{KeyRef, ObjectKey};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

pub use presence::{ClaimOpened, ClaimRenewal, ClaimStream};
pub use view::{ClaimFigures, ClaimSessionInfo};

/// What a board starts with: what it has to know of earlier starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimStart {
    /// Different at every start.
    pub epoch: u64,
    /// Fences that no earlier start used.
    ///
    /// A host that persists them reserves a range first, then uses it.
    pub fences: Range<u64>,
    /// Nothing is granted before this.
    ///
    /// After a crash it is the longest promise that an earlier start made.
    pub quiet_until: Duration,
}

impl Default for ClaimStart {
    /// For a board whose owners all live in its own process, and so end with it.
    fn default() -> Self {
        Self { epoch: 1, fences: 1..u64::MAX, quiet_until: Duration::ZERO }
    }
}

/// A call on a request: which one, and what its client is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimCall {
    /// The request.
    ///
    /// The client repeats a call under the same number until it has its answer.
    pub request: ClaimRequestId,
    /// Every lower number of the session has its answer or was given up.
    ///
    /// The board ends and forgets those.
    pub settled_below: u64,
}

/// What the host has to deliver after a verb, in this order.
///
/// Under no mutex that the receiver may need.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClaimEffect {
    /// The stored answer of a request changed: a parked call of it is to be answered.
    Answered {
        /// The request.
        request: ClaimRequestId,
        /// The answer.
        answer: ClaimAnswer,
    },
    /// The resource has new events, for subscribers to fetch by [`ClaimBoard::feed`].
    Published {
        /// The resource.
        resource: ObjectKey,
    },
    /// A session is gone: its streams are to be ended.
    SessionEnded {
        /// The session.
        session: ClaimSessionId,
        /// Why.
        reason: ClaimLoss,
    },
}

/// What a board does at a point in time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Subject {
    Quiet,
    Session(u64),
    Lease(ObjectKey),
    Retry(ObjectKey),
    Retention(ObjectKey),
}

/// The state machine of claims. Its README tells the races that it is made for.
///
/// Invariants, checked in every state of the model:
///
/// 1. Fences grow.
/// 2. A resource has one owner; grants follow the order of first arrival among present waiters.
/// 3. No failure is published while a present waiter exists and no owner does, unless `retry_after` holds it back.
/// 4. A request has at most one grant; answer, event and repetition name the same one.
/// 5. A duplicate or late message affects its own request only.
/// 6. A completion that was applied is never reported lost.
/// 7. A request that was in line at a success is answered `Done`, however late it asks.
/// 8. Every live request ends when messages arrive; no place or grant stays without a client behind it.
///
/// ```
/// use keylatch::claim::*;
/// use std::time::Duration;
/// # fn main() -> Result<(), ClaimError> {
/// let mut board = ClaimBoard::new(ClaimConfig::default(), ClaimStart::default())?;
/// let now = Duration::ZERO;
/// let options = ClaimSessionOptions { owner: "node-1".into(), ..Default::default() };
/// let session = board.open_session(now, &options)?.session;
/// let call = ClaimCall { request: ClaimRequestId { session, number: 1 }, settled_below: 0 };
/// let layer = keylatch::KeyRef::new("layers", "sha256:4711");
/// let ClaimAnswer::Yours(owned) = board.claim(now, call, layer, &ClaimPolicy::default())? else { panic!() };
/// let ended = board.complete(now, call, owned.grant, Ok("12 MiB".into()))?;
/// assert_eq!(ended, ClaimAnswer::Ended(Ok("12 MiB".into())));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimBoard {
    config: ClaimConfig,
    epoch: u64,
    /// The time of the latest call. It never goes back.
    now: Duration,
    fences: Range<u64>,
    next_session: u64,
    sessions: BTreeMap<u64, Session>,
    resources: BTreeMap<ObjectKey, Resource>,
    timers: Timers<Subject>,
    /// Requests in all lines.
    waiting: usize,
    /// Resources with an owner.
    owned: usize,
    /// Idle resources, in the order in which they are forgotten.
    retired: BTreeMap<u64, ObjectKey>,
    next_retired: u64,
    /// Greater than the number of every event of a forgotten resource.
    forgotten_head: u64,
    effects: Vec<ClaimEffect>,
}

impl ClaimBoard {
    /// Makes an empty board.
    ///
    /// # Errors
    /// [`ClaimError::InvalidConfig`].
    pub fn new(config: ClaimConfig, start: ClaimStart) -> Result<Self, ClaimError> {
        config.check()?;
        let mut timers = Timers::new();
        if start.quiet_until > Duration::ZERO {
            timers.set(&Subject::Quiet, Some(start.quiet_until));
        }
        Ok(Self {
            config,
            epoch: start.epoch,
            now: Duration::ZERO,
            fences: start.fences,
            next_session: 1,
            sessions: BTreeMap::new(),
            resources: BTreeMap::new(),
            timers,
            waiting: 0,
            owned: 0,
            retired: BTreeMap::new(),
            next_retired: 0,
            forgotten_head: 0,
            effects: Vec::new(),
        })
    }

    /// Returns the epoch of this start.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the settings.
    #[must_use]
    pub fn config(&self) -> &ClaimConfig {
        &self.config
    }

    /// Returns when the board has something to do next, if no call comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Does what is due: ends sessions and leases, forgets outcomes, begins attempts.
    ///
    /// Every verb does so too.
    pub fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
        while let Some(subject) = self.timers.pop_due(self.now) {
            match subject {
                Subject::Quiet => self.grant_everywhere(),
                Subject::Session(session) => self.end_session_now(session, ClaimLoss::SessionExpired),
                Subject::Lease(resource) => self.lose_grant(&resource, ClaimLoss::LeaseExpired),
                Subject::Retry(resource) => {
                    self.resource(&resource).not_before = None;
                    self.grant_next_and_publish(&resource);
                }
                Subject::Retention(resource) => self.forget_outcome(&resource),
            }
        }
        self.evict();
    }

    /// Takes the effects of the verbs since the last call.
    #[must_use = "effects are answers and events that the host has to deliver"]
    pub fn take_effects(&mut self) -> Vec<ClaimEffect> {
        std::mem::take(&mut self.effects)
    }

    /// Returns how many fences are left before the host has to add some.
    #[must_use]
    pub fn fences_left(&self) -> u64 {
        self.fences.end.saturating_sub(self.fences.start)
    }

    /// Allows fences below `end`, after the host has persisted that.
    ///
    /// Without fences nothing is granted.
    pub fn add_fences(&mut self, now: Duration, end: u64) {
        self.advance(now);
        self.fences.end = self.fences.end.max(end);
        self.grant_everywhere();
        self.evict();
    }

    /// Returns the resource's record, made if there is none.
    fn resource(&mut self, key: &ObjectKey) -> &mut Resource {
        let (epoch, head, ring) = (self.epoch, self.forgotten_head, self.config.ring);
        self.resources.entry(key.clone()).or_insert_with(|| Resource::new(EventRing::new(epoch, head, ring)))
    }

    fn publish(&mut self, key: &ObjectKey, change: ClaimChange) {
        self.resource(key).ring.push(change);
        self.effects.push(ClaimEffect::Published { resource: key.clone() });
    }

    /// Puts a newly idle resource last among those to be forgotten, or takes it out.
    fn review(&mut self, key: &ObjectKey) {
        let turn = self.next_retired;
        let Some(resource) = self.resources.get_mut(key) else { return };
        match (resource.is_idle(), resource.retired) {
            (true, None) => {
                resource.retired = Some(turn);
                self.retired.insert(turn, key.clone());
                self.next_retired += 1;
            }
            (false, Some(turn)) => {
                resource.retired = None;
                self.retired.remove(&turn);
                if self.retired.is_empty() {
                    self.next_retired = 0;
                }
            }
            _ => {}
        }
    }

    /// Forgets the idle resources that are too many.
    ///
    /// Last in every verb, so that no verb loses its record midway.
    fn evict(&mut self) {
        while self.retired.len() > self.config.retain_count {
            let Some((_, key)) = self.retired.pop_first() else { return };
            if let Some(resource) = self.resources.remove(&key) {
                self.forgotten_head = self.forgotten_head.max(resource.ring.head().sequence + 1);
            }
            self.timers.set(&Subject::Retry(key.clone()), None);
            self.timers.set(&Subject::Retention(key), None);
        }
    }

    /// Checks the epoch and the session, and returns the session's number.
    fn check_session(&self, session: ClaimSessionId) -> Result<u64, ClaimError> {
        if session.epoch != self.epoch {
            return Err(ClaimError::EpochChanged { epoch: self.epoch });
        }
        if self.sessions.contains_key(&session.number) { Ok(session.number) } else { Err(ClaimError::SessionGone) }
    }

    /// Checks a call and ends what its client is done with.
    fn enter(&mut self, call: ClaimCall) -> Result<(), ClaimError> {
        let session = self.check_session(call.request.session)?;
        let settled_below = self.sessions[&session].settled_below;
        if call.request.number < settled_below.max(call.settled_below) {
            return Err(ClaimError::StaleRequest { settled_below });
        }
        if call.settled_below > settled_below {
            self.settle_below(session, call.settled_below);
        }
        Ok(())
    }

    /// Checks a key from outside.
    ///
    /// `watch` and `force_release` take keys as they are.
    ///
    /// # Errors
    /// [`ClaimError::TooLong`].
    pub fn check_key(&self, key: KeyRef<'_>) -> Result<(), ClaimError> {
        self.check_length("key", key.byte_len(), self.config.max_key_bytes)
    }

    fn check_text(&self, what: &'static str, text: &str) -> Result<(), ClaimError> {
        self.check_length(what, text.len(), self.config.max_text_bytes)
    }

    fn check_length(&self, what: &'static str, bytes: usize, limit: usize) -> Result<(), ClaimError> {
        if bytes > limit { Err(ClaimError::TooLong { what, bytes, limit }) } else { Ok(()) }
    }

    fn check_ttl(&self, ttl: Option<Duration>) -> Result<(), ClaimError> {
        let longest = self.config.max_ttl;
        match ttl {
            Some(ttl) if ttl.is_zero() || ttl > longest => Err(ClaimError::InvalidTtl { longest }),
            _ => Ok(()),
        }
    }

    fn check_policy(&self, policy: &ClaimPolicy) -> Result<(), ClaimError> {
        self.check_ttl(policy.lease)
    }
}
