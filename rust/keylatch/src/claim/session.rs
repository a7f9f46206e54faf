//! One session of a board: who asks, for how long it is believed alive, and what it was answered.

use super::answer::ClaimAnswer;
use super::policy::ClaimPolicy;
use super::resource::Standing;
use crate::key::ObjectKey;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How a session shows that it is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClaimPresence {
    /// By renewals alone. The session, and what it owns, last until its ttl is over.
    #[default]
    Renewals,
    /// By a stream that the host attaches; when it ends, the session has the grace.
    ///
    /// Each renewal promises the shorter of ttl and grace, so that the client stops believing before the board frees.
    Stream,
}

/// What a session is opened with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ClaimSessionOptions {
    /// Its name in listings and events.
    pub owner: Arc<str>,
    /// How long it lives without a renewal.
    ///
    /// `None` for until it is ended: for owners in the board's own process.
    pub ttl: Option<Duration>,
    /// How it shows that it is alive.
    pub presence: ClaimPresence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stream {
    /// None was ever attached, or the session needs none.
    None,
    Attached(u64),
    /// The attached stream ended: the grace runs.
    Cut,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Session {
    pub(super) owner: Arc<str>,
    pub(super) ttl: Option<Duration>,
    pub(super) presence: ClaimPresence,
    pub(super) stream: Stream,
    pub(super) streams: u64,
    /// The board frees nothing of the session before this, except by force.
    pub(super) promised_until: Duration,
    pub(super) settled_below: u64,
    pub(super) requests: BTreeMap<u64, Request>,
}

impl Session {
    pub(super) fn standing(&self) -> Standing {
        if self.stream == Stream::Cut { Standing::Dormant } else { Standing::Present }
    }

    /// How long a renewal is good for, by the client's clock from its sending on.
    pub(super) fn promise(&self, grace: Duration) -> Option<Duration> {
        match self.presence {
            ClaimPresence::Renewals => self.ttl,
            ClaimPresence::Stream => self.ttl.map(|ttl| ttl.min(grace)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Request {
    /// `None` for a tombstone: cancelled before its claim arrived.
    pub(super) resource: Option<ObjectKey>,
    pub(super) state: RequestState,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum RequestState {
    Queued { place: u64, policy: Box<ClaimPolicy> },
    Answered(ClaimAnswer),
}
