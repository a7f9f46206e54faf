//! One resource: its owner, its line, its outcome and its events.

use super::answer::{ClaimOutcome, ClaimOwned, ClaimProgress};
use super::event::EventRing;
use super::id::ClaimRequestId;
use super::policy::ClaimPolicy;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Whether the session of a place can take the work now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    Present,
    /// Its stream was cut: the place is kept and passed over.
    Dormant,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) request: ClaimRequestId,
    pub(super) name: Arc<str>,
    pub(super) owned: ClaimOwned,
    pub(super) policy: Box<ClaimPolicy>,
    pub(super) progress: ClaimProgress,
    pub(super) since: Duration,
}

/// Requests in order of their first arrival.
///
/// Both parts are ordered by place, so each change is O(log n).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Line {
    present: BTreeMap<u64, ClaimRequestId>,
    dormant: BTreeMap<u64, ClaimRequestId>,
    next_place: u64,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.present.len() + self.dormant.len()
    }

    /// Appends a request and returns its place.
    pub(super) fn push(&mut self, request: ClaimRequestId, standing: Standing) -> u64 {
        let place = self.next_place;
        self.next_place += 1;
        self.part(standing).insert(place, request);
        place
    }

    /// Returns the first request that can take the work.
    pub(super) fn first_present(&self) -> Option<(u64, ClaimRequestId)> {
        self.present.first_key_value().map(|(place, request)| (*place, *request))
    }

    pub(super) fn remove(&mut self, place: u64) {
        if self.present.remove(&place).is_none() {
            self.dormant.remove(&place);
        }
        if self.len() == 0 {
            // Nothing is left that a new place could be compared with.
            self.next_place = 0;
        }
    }

    pub(super) fn set_standing(&mut self, place: u64, standing: Standing) {
        if let Some(request) = self.present.remove(&place).or_else(|| self.dormant.remove(&place)) {
            self.part(standing).insert(place, request);
        }
    }

    /// Returns how many are ahead of a place, dormant ones included.
    pub(super) fn ahead_of(&self, place: u64) -> usize {
        self.present.range(..place).count() + self.dormant.range(..place).count()
    }

    /// Everyone in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ClaimRequestId, Standing)> {
        let mut present = self.present.iter().peekable();
        let mut dormant = self.dormant.iter().peekable();
        std::iter::from_fn(move || {
            let present_first = match (present.peek(), dormant.peek()) {
                (Some((left, _)), Some((right, _))) => left < right,
                (left, _) => left.is_some(),
            };
            if present_first {
                present.next().map(|(_, request)| (*request, Standing::Present))
            } else {
                dormant.next().map(|(_, request)| (*request, Standing::Dormant))
            }
        })
    }

    fn part(&mut self, standing: Standing) -> &mut BTreeMap<u64, ClaimRequestId> {
        match standing {
            Standing::Present => &mut self.present,
            Standing::Dormant => &mut self.dormant,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Resource {
    pub(super) owner: Option<Owner>,
    pub(super) line: Line,
    /// Attempts that failed since the last outcome.
    pub(super) failed_attempts: u32,
    /// Whether anything was granted in this epoch, as far as the record reaches back.
    pub(super) granted_before: bool,
    /// Nothing is granted before this time, after a failure with `retry_after`.
    pub(super) not_before: Option<Duration>,
    pub(super) outcome: Option<Arc<ClaimOutcome>>,
    pub(super) ring: EventRing,
    pub(super) watchers: usize,
    /// Its turn to be forgotten, while it has neither owner nor line nor watchers.
    pub(super) retired: Option<u64>,
}

impl Resource {
    pub(super) fn new(ring: EventRing) -> Self {
        Self {
            owner: None,
            line: Line::default(),
            failed_attempts: 0,
            granted_before: false,
            not_before: None,
            outcome: None,
            ring,
            watchers: 0,
            retired: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.owner.is_none() && self.line.len() == 0 && self.watchers == 0
    }
}
