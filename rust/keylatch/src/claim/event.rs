//! The numbered events of a resource, and the bounded ring that keeps the latest of them.

use super::answer::{ClaimFailure, ClaimOutcome, ClaimOwned, ClaimProgress};
use super::id::{ClaimEventId, ClaimRequestId};
use crate::key::ObjectKey;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How many waiting requests a snapshot lists; it counts the others.
pub(super) const LISTED: usize = 64;

/// One event of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimEvent {
    /// Its number; the next event of the resource has the next one.
    pub id: ClaimEventId,
    /// What happened.
    pub change: ClaimChange,
}

/// What an event reports.
///
/// The board's state has changed already when it is published.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimChange {
    /// A request became the owner.
    ///
    /// This is the answer that the board stored for it, so the owner need not ask again.
    Granted {
        /// The request.
        request: ClaimRequestId,
        /// Its owner's name.
        owner: Arc<str>,
        /// What it was given.
        owned: ClaimOwned,
    },
    /// An attempt failed.
    Failed {
        /// The fence of the attempt.
        fence: u64,
        /// Why.
        reason: ClaimFailure,
        /// Who has it now; its `Granted` is the next event.
        next: Option<ClaimRequestId>,
        /// How long the next attempt is held back.
        retry_after: Duration,
    },
    /// The work has an outcome. Every request that waited is answered with it.
    Done {
        /// The outcome.
        outcome: Arc<ClaimOutcome>,
    },
    /// The owner reported how far it is.
    Progress {
        /// The fence of the attempt.
        fence: u64,
        /// What it reported.
        progress: ClaimProgress,
    },
    /// The outcome is no longer retained: the next request does the work again.
    Forgotten,
}

/// What a subscriber gets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimFeed {
    /// The events after the one it saw last, in order; empty if there are none.
    Events(Vec<ClaimEvent>),
    /// The events after the one it saw last are not kept.
    ///
    /// The snapshot stands for all up to `id`, and goes on from there.
    Reset {
        /// The latest event that the snapshot contains.
        id: ClaimEventId,
        /// The state after that event.
        snapshot: Arc<ClaimSnapshot>,
    },
}

/// The state of a resource at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimSnapshot {
    /// The resource.
    pub resource: ObjectKey,
    /// Who does the work.
    pub owner: Option<ClaimOwnerInfo>,
    /// Who waits, in order, at most 64 of them.
    pub waiting: Vec<ClaimPlaceInfo>,
    /// How many more wait.
    pub more_waiting: usize,
    /// The outcome, if one is retained.
    pub outcome: Option<Arc<ClaimOutcome>>,
}

/// The owner in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimOwnerInfo {
    /// Its request.
    pub request: ClaimRequestId,
    /// Its name.
    pub name: Arc<str>,
    /// What it was given.
    pub owned: ClaimOwned,
    /// How far it is.
    pub progress: ClaimProgress,
    /// Since when, on the board's clock.
    pub since: Duration,
}

/// A waiting request in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimPlaceInfo {
    /// The request.
    pub request: ClaimRequestId,
    /// Its owner's name.
    pub name: Arc<str>,
    /// Whether its session is in its grace, so that it is passed over for now.
    pub dormant: bool,
}

/// The latest events of one resource, without gaps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EventRing {
    epoch: u64,
    head: u64,
    capacity: usize,
    kept: VecDeque<ClaimChange>,
}

impl EventRing {
    /// Makes a ring whose first event will have the number `head + 1`.
    pub(super) fn new(epoch: u64, head: u64, capacity: usize) -> Self {
        Self { epoch, head, capacity: capacity.max(1), kept: VecDeque::new() }
    }

    /// Returns the number of the latest event.
    pub(super) fn head(&self) -> ClaimEventId {
        ClaimEventId { epoch: self.epoch, sequence: self.head }
    }

    pub(super) fn push(&mut self, change: ClaimChange) {
        if self.kept.len() >= self.capacity {
            self.kept.pop_front();
        }
        self.kept.push_back(change);
        self.head += 1;
    }

    /// Returns the events after `last`, or `None` if the ring does not have them all.
    pub(super) fn after(&self, last: Option<ClaimEventId>) -> Option<Vec<ClaimEvent>> {
        let last = last.filter(|last| last.epoch == self.epoch)?;
        let missed = usize::try_from(self.head.checked_sub(last.sequence)?).ok()?;
        let skipped = self.kept.len().checked_sub(missed)?;
        let numbered = (last.sequence + 1..).zip(self.kept.iter().skip(skipped));
        Some(
            numbered
                .map(|(sequence, change)| ClaimEvent {
                    id: ClaimEventId { epoch: self.epoch, sequence },
                    change: change.clone(),
                })
                .collect(),
        )
    }
}
