//! What can be seen of a board: snapshots, events and listings.

use super::super::event::{ClaimFeed, ClaimOwnerInfo, ClaimPlaceInfo, ClaimSnapshot, LISTED};
use super::super::id::{ClaimEventId, ClaimSessionId};
use super::super::resource::{Resource, Standing};
use super::super::session::{Session, Stream};
use super::{ClaimBoard, Subject};
use crate::key::{KeyRef, ObjectKey};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// How much a board has to remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClaimFigures {
    /// Open sessions.
    pub sessions: usize,
    /// Resources with an owner, a line, an outcome, events or watchers.
    pub resources: usize,
    /// Requests in line.
    pub waiting: usize,
    /// Resources with an owner.
    pub owned: usize,
}

/// A session in listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimSessionInfo {
    /// The session.
    pub session: ClaimSessionId,
    /// Its owner's name.
    pub owner: Arc<str>,
    /// How many numbers it has from `settled_below` on.
    pub open: usize,
    /// Whether its stream was cut, so that its grace runs.
    pub in_grace: bool,
    /// When it ends if nothing is heard of it, on the board's clock.
    pub ends_at: Option<Duration>,
}

impl ClaimBoard {
    /// One session, or `None` if it is gone.
    #[must_use]
    pub fn session(&self, id: ClaimSessionId) -> Option<ClaimSessionInfo> {
        let number = self.check_session(id).ok()?;
        self.sessions.get(&number).map(|session| self.session_info(number, session))
    }

    /// Returns all sessions, the oldest first.
    pub fn sessions(&self) -> impl Iterator<Item = ClaimSessionInfo> {
        self.sessions.iter().map(|(number, session)| self.session_info(*number, session))
    }

    fn session_info(&self, number: u64, session: &Session) -> ClaimSessionInfo {
        ClaimSessionInfo {
            session: ClaimSessionId { epoch: self.epoch, number },
            owner: Arc::clone(&session.owner),
            open: session.requests.len(),
            in_grace: session.stream == Stream::Cut,
            ends_at: self.timers.get(&Subject::Session(number)),
        }
    }

    /// Returns whether the board remembers anything of a resource.
    #[must_use]
    pub fn contains(&self, resource: KeyRef<'_>) -> bool {
        self.resources.contains_key(&resource.to_owned())
    }

    /// Keeps the events of a resource from being forgotten while it has subscribers.
    pub fn watch(&mut self, resource: KeyRef<'_>) {
        let key = resource.to_owned();
        self.resource(&key).watchers += 1;
        self.review(&key);
    }

    /// Ends one [`watch`](Self::watch).
    pub fn unwatch(&mut self, resource: KeyRef<'_>) {
        let key = resource.to_owned();
        if let Some(found) = self.resources.get_mut(&key) {
            found.watchers = found.watchers.saturating_sub(1);
        }
        self.review(&key);
        self.evict();
    }

    /// The events of a resource after `last`, or one reset if they are not kept.
    ///
    /// They are not if `last` is `None`, of another epoch, or older than the ring reaches.
    #[must_use]
    pub fn feed(&self, resource: KeyRef<'_>, last: Option<ClaimEventId>) -> ClaimFeed {
        let key = resource.to_owned();
        let forgotten = ClaimEventId { epoch: self.epoch, sequence: self.forgotten_head };
        let (events, id) = match self.resources.get(&key) {
            Some(found) => (found.ring.after(last), found.ring.head()),
            // Events of a forgotten resource have lower numbers than this one.
            None => ((last == Some(forgotten)).then(Vec::new), forgotten),
        };
        match events {
            Some(events) => ClaimFeed::Events(events),
            None => ClaimFeed::Reset { id, snapshot: Arc::new(self.snapshot(resource)) },
        }
    }

    /// Returns the state of one resource.
    #[must_use]
    pub fn snapshot(&self, resource: KeyRef<'_>) -> ClaimSnapshot {
        let key = resource.to_owned();
        match self.resources.get(&key) {
            Some(found) => self.snapshot_of(&key, found),
            None => ClaimSnapshot { resource: key, owner: None, waiting: Vec::new(), more_waiting: 0, outcome: None },
        }
    }

    /// Returns the states of all resources in order of their keys.
    pub fn snapshots(&self) -> impl Iterator<Item = ClaimSnapshot> {
        self.resources.iter().map(|(key, found)| self.snapshot_of(key, found))
    }

    /// Returns the states of the resources from a key on, in order of their keys.
    pub fn snapshots_from(&self, from: Bound<ObjectKey>) -> impl Iterator<Item = ClaimSnapshot> {
        self.resources.range((from, Bound::Unbounded)).map(|(key, found)| self.snapshot_of(key, found))
    }

    fn snapshot_of(&self, key: &ObjectKey, resource: &Resource) -> ClaimSnapshot {
        let owner = resource.owner.as_ref().map(|owner| ClaimOwnerInfo {
            request: owner.request,
            name: Arc::clone(&owner.name),
            owned: owner.owned,
            progress: owner.progress.clone(),
            since: owner.since,
        });
        let place = |(request, standing): (super::ClaimRequestId, Standing)| ClaimPlaceInfo {
            request,
            name: self.sessions.get(&request.session.number).map_or_else(|| "".into(), |it| Arc::clone(&it.owner)),
            dormant: standing == Standing::Dormant,
        };
        ClaimSnapshot {
            resource: key.clone(),
            owner,
            waiting: resource.line.iter().take(LISTED).map(place).collect(),
            more_waiting: resource.line.len().saturating_sub(LISTED),
            outcome: resource.outcome.clone(),
        }
    }

    /// Returns how much the board has to remember.
    #[must_use]
    pub fn figures(&self) -> ClaimFigures {
        ClaimFigures {
            sessions: self.sessions.len(),
            resources: self.resources.len(),
            waiting: self.waiting,
            owned: self.owned,
        }
    }
}
