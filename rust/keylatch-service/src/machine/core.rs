//! The state, and how queued requests are granted.

use super::call::{Item, Limits, Reason, Refusal, RequestKey, Start, Wait};
use super::claim_board::{self, ClaimNote};
use super::figures::Figures;
use super::grant::{Fences, Grant};
use super::ring::{Event, EventKind, Replay, Ring};
use super::session::{Request, Session, State};
use super::table::{Place, Table};
use super::tier_notes::{TierNote, TierState};
use ahash::AHashMap;
use keylatch::claim::ClaimBoard;
use keylatch::{Mode, ObjectKey};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The lock server's state; see the module's documentation.
#[derive(Debug, Clone)]
pub struct Machine {
    pub(super) limits: Limits,
    pub(super) epoch: u64,
    pub(super) fences: Fences,
    pub(super) quiet_until: Duration,
    /// Set while something keeps the machine from granting.
    ///
    /// The queues are looked through when that is over.
    pub(super) stalled: bool,
    pub(super) closing: bool,
    pub(super) sessions: AHashMap<u64, Session>,
    pub(super) next_session: u64,
    /// Every session's deadline.
    pub(super) deadlines: BTreeSet<(Duration, u64)>,
    pub(super) table: Table,
    pub(super) next_arrival: u64,
    pub(super) waiting: usize,
    pub(super) ring: Ring,
    /// Requests that left `Queued` and were not fetched by [`Machine::take_settled`].
    pub(super) settled: Vec<RequestKey>,
    /// Sessions that ended and were not fetched by [`Machine::take_ended`].
    pub(super) ended: Vec<u64>,
    pub(super) figures: Figures,
    /// Claims of its sessions; see [`on_board`](Machine::on_board).
    pub(super) board: ClaimBoard,
    /// Resources with events that were not fetched by [`Machine::take_published`].
    pub(super) published: Vec<ObjectKey>,
    /// Answers of claims that were not fetched by [`Machine::take_claim_notes`].
    pub(super) claim_notes: Vec<ClaimNote>,
    /// The lock space that has to grant, too; see its module.
    pub(super) tier: Option<TierState>,
}

impl Machine {
    /// Makes an empty machine at time zero.
    #[must_use]
    pub fn new(limits: Limits, start: Start) -> Self {
        Self {
            ring: Ring::new(limits.events),
            board: claim_board::board(&limits, start.epoch, start.quiet),
            limits,
            epoch: start.epoch,
            fences: Fences::new(start.fences),
            quiet_until: start.quiet,
            stalled: !start.quiet.is_zero(),
            closing: false,
            sessions: AHashMap::new(),
            next_session: 1,
            deadlines: BTreeSet::new(),
            table: Table::default(),
            next_arrival: 0,
            waiting: 0,
            settled: Vec::new(),
            ended: Vec::new(),
            figures: Figures::default(),
            published: Vec::new(),
            claim_notes: Vec::new(),
            tier: None,
        }
    }

    /// Returns the epoch of this start.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns what it accepts.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// For how long nothing is granted yet.
    #[must_use]
    pub fn quiet_left(&self, now: Duration) -> Duration {
        self.quiet_until.saturating_sub(now)
    }

    /// Requests whose state is final since the last call: their polls can be answered.
    pub fn take_settled(&mut self) -> Vec<RequestKey> {
        std::mem::take(&mut self.settled)
    }

    /// Sessions that ended since the last call.
    pub fn take_ended(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.ended)
    }

    /// Ends what is due and grants what that frees. Returns when to call again.
    pub fn tick(&mut self, now: Duration) -> Option<Duration> {
        while let Some(&(deadline, session)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.end_session(now, session, Reason::Expired);
        }
        if self.board.next_deadline().is_some_and(|due| due <= now) {
            self.on_board(now, |board| board.advance(now));
        }
        if now >= self.quiet_until {
            self.quiet_until = Duration::ZERO;
        }
        if self.stalled && self.may_grant(now) {
            self.stalled = false;
            for key in self.table.contended() {
                self.grant_waiters(now, &key);
            }
        }
        self.due()
    }

    /// Returns when something is due that no call brings about.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let quiet = (self.stalled && !self.quiet_until.is_zero() && !self.closing).then_some(self.quiet_until);
        [deadline, quiet, self.board.next_deadline()].into_iter().flatten().min()
    }

    /// Returns whether fences should be allotted ahead now.
    #[must_use]
    pub fn wants_fences(&self) -> bool {
        self.fences.is_low()
    }

    /// Takes in a range of fences that is safe on disk.
    pub fn allot_fences(&mut self, now: Duration, fences: Range<u64>) {
        self.fences.allot(fences);
        self.on_board(now, |board| board.grant_idle(now));
        self.tick(now);
    }

    /// Grants nothing from now on.
    ///
    /// Returns whether every lock is free and no work is claimed.
    pub fn close(&mut self, now: Duration) -> bool {
        self.closing = true;
        self.cancel_reserved(now);
        self.tick(now);
        self.table.holds() == 0 && self.board.figures().owned == 0
    }

    pub(super) fn may_grant(&self, now: Duration) -> bool {
        !self.closing && now >= self.quiet_until && !self.fences.is_empty()
    }

    /// Events after the one with a number, `most` of them at most.
    #[must_use]
    pub fn events_after(&self, seen: u64, most: usize) -> Replay {
        self.ring.after(seen, most)
    }

    /// Returns the number of the latest event.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.ring.head()
    }

    /// Counts since the start.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Sessions that exist now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Holds now, each reader of each key counted.
    #[must_use]
    pub fn holds(&self) -> usize {
        self.table.holds()
    }

    /// Requests that wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Keys that are held or waited for now.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.table.len()
    }

    /// Why a free lock is not granted now.
    pub(super) fn stall(&self, now: Duration) -> Refusal {
        if self.closing {
            return Refusal::Closing;
        }
        let wait = self.quiet_left(now);
        if wait.is_zero() { Refusal::NoFences } else { Refusal::Quiet { wait } }
    }

    /// Grants a key to the waiters whose turn it is.
    ///
    /// Invariant: afterwards no present waiter at the key could be granted, or `stalled` is set.
    pub(super) fn grant_waiters(&mut self, now: Duration, key: &ObjectKey) {
        let mut last: Option<Place> = None;
        let mut shared_stays_ahead = false;
        while let Some((place, waiter)) = self.table.next_waiter(key, last) {
            last = Some(place);
            if !self.is_present(waiter.request) {
                continue;
            }
            if !self.may_grant(now) {
                self.stalled = true;
                return;
            }
            // A present waiter that stays where it is keeps back all behind it, unless both share.
            let is_exclusive = waiter.mode == Mode::Exclusive;
            if !self.table.holders_allow(key, waiter.mode) || (is_exclusive && shared_stays_ahead) {
                return;
            }
            if self.is_turn(waiter.request) {
                let waited = self.request(waiter.request).map(|request| now.saturating_sub(request.since));
                self.grant(now, waiter.request, waited);
            } else {
                shared_stays_ahead = true;
            }
            if is_exclusive {
                return;
            }
        }
    }

    /// Returns whether a request's session could learn of a grant.
    fn is_present(&self, request: RequestKey) -> bool {
        self.sessions.get(&request.session).is_some_and(Session::is_present)
    }

    /// Whether each key of a queued request is free for it, and no waiter conflicts.
    ///
    /// That is: no present waiter ahead.
    pub(super) fn is_turn(&self, request: RequestKey) -> bool {
        let Some(asked) = self.request(request) else { return false };
        asked.items.iter().all(|item| {
            self.table.holders_allow(&item.key, item.mode)
                && !self.table.conflicts_ahead(item, asked.place, |waiter| self.is_present(waiter))
        })
    }

    /// Turns a queued request into a hold of all its keys, or asks the tier to.
    ///
    /// `waited` is for figures: `None` if it never stood in line.
    pub(super) fn grant(&mut self, now: Duration, key: RequestKey, waited: Option<Duration>) {
        if self.tier.is_some() {
            return self.reserve(key);
        }
        let Some(fence) = self.fences.next() else { return };
        if let Some(request) = self.sessions.get(&key.session).and_then(|session| session.requests.get(&key.number)) {
            request.items.iter().for_each(|item| self.table.admit(item, request.place, key));
        }
        self.hold(now, key, waited, fence);
    }

    /// Makes a request hold its keys, which the table has as its own.
    pub(super) fn hold(&mut self, now: Duration, key: RequestKey, waited: Option<Duration>, fence: u64) {
        let grant = Grant { epoch: self.epoch, fence };
        let Some(session) = self.sessions.get_mut(&key.session) else { return };
        let deadline = session.deadline_after_grant(now);
        let owner = Arc::clone(&session.owner);
        let Some(request) = session.requests.get_mut(&key.number) else { return };
        request.state = State::Held(grant);
        request.since = now;
        let items = Arc::clone(&request.items);
        self.set_deadline(key.session, deadline);
        self.waiting -= 1;
        self.figures.granted(waited, items.len());
        self.settled.push(key);
        self.ring.push(Event { at: now, kind: EventKind::Granted { grant }, request: key, owner, items });
    }

    pub(super) fn request(&self, key: RequestKey) -> Option<&Request> {
        self.sessions.get(&key.session)?.requests.get(&key.number).map(Box::as_ref)
    }

    pub(super) fn set_deadline(&mut self, number: u64, deadline: Duration) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        if session.deadline != deadline {
            self.deadlines.remove(&(session.deadline, number));
            session.deadline = deadline;
            self.deadlines.insert((deadline, number));
        }
    }

    pub(super) fn publish_queued(&mut self, now: Duration, request: RequestKey, owner: Arc<str>, items: Arc<[Item]>) {
        self.ring.push(Event { at: now, kind: EventKind::Queued, request, owner, items });
    }

    /// Ends a queued request's wait or a held request's hold, and leaves it final.
    ///
    /// Grants nothing: the caller passes the keys that this returns to [`hand_over`](Self::hand_over).
    pub(super) fn finish(&mut self, now: Duration, key: RequestKey, state: State) -> Option<Arc<[Item]>> {
        let session = self.sessions.get_mut(&key.session)?;
        let owner = Arc::clone(&session.owner);
        let request = session.requests.get_mut(&key.number)?;
        let (before, items) = (std::mem::replace(&mut request.state, state), Arc::clone(&request.items));
        let has_place = request.wait == Wait::Queue;
        request.since = now;
        let kind = match before {
            State::Queued => {
                items.iter().for_each(|item| self.table.leave(&item.key, request.place));
                self.waiting -= 1;
                self.settled.push(key);
                EventKind::Left
            }
            State::Reserved => {
                items.iter().for_each(|item| self.table.release(&item.key, key));
                self.waiting -= 1;
                self.settled.push(key);
                self.note(TierNote::Over(key));
                if !has_place {
                    return Some(items);
                }
                EventKind::Left
            }
            State::Held(grant) => {
                self.note(TierNote::Over(key));
                items.iter().for_each(|item| self.table.release(&item.key, key));
                match state {
                    State::Lost(_, reason) => {
                        self.figures.lost(reason);
                        EventKind::Lost { grant, reason }
                    }
                    _ => EventKind::Released { grant },
                }
            }
            State::Refused | State::TooLarge | State::Ended(_) | State::Cancelled(_) | State::Lost(..) => {
                request.state = before;
                return None;
            }
        };
        self.ring.push(Event { at: now, kind, request: key, owner, items: Arc::clone(&items) });
        Some(items)
    }

    /// Grants keys to the waiters whose turn it has become.
    pub(super) fn hand_over(&mut self, now: Duration, freed: &[Arc<[Item]>]) {
        for item in freed.iter().flat_map(|items| items.iter()) {
            self.grant_waiters(now, &item.key);
        }
    }
}
