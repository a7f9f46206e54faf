//! Claims: the sessions, the clock and the fences are the machine's, the rules of requests are the claim board's.
//!
//! Numbers of a session are common to locks and claims, so a number is a lock's or a claim's, never both. The machine
//! calls the board through [`on_board`](Machine::on_board) only, which lends it the fences that are left.
//!
//! Invariant: a session that the board has is one that the machine has, and is suspended there while it is cut here.

use super::call::{Call, Limit, Open, Reason, Refusal, RequestKey, SessionName};
use super::claim_board::ClaimNote;
use super::core::Machine;
use super::grant::Grant;
use super::listing::{LockFilter, Page};
use super::session::{Origin, Presence, Session, State};
use keylatch::ObjectKey;
use keylatch::claim::{
    ClaimAnswer, ClaimBoard, ClaimCall, ClaimEffect, ClaimError, ClaimEventId, ClaimFeed, ClaimFigures, ClaimGrant,
    ClaimLoss, ClaimPolicy, ClaimProgress, ClaimRequestId, ClaimResult, ClaimSessionId, ClaimSnapshot, ClaimWhenTaken,
};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// Resources that one listing looks at before it answers with what it has.
const MOST_RESOURCES: usize = 20_000;

/// What an owner reports between the claim and its end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// How far it is; `None` reports nothing.
    pub progress: Option<ClaimProgress>,
    /// A new length for the grant's lease, which begins again; `None` keeps it.
    pub lease: Option<Duration>,
}

impl Machine {
    /// Runs a verb of the board with the remaining fences, and collects its results.
    pub(super) fn on_board<T>(&mut self, now: Duration, verb: impl FnOnce(&mut ClaimBoard) -> T) -> T {
        if !self.closing {
            self.board.lend_fences(self.fences.lend());
        }
        let result = verb(&mut self.board);
        if !self.closing {
            self.fences.give_back(self.board.take_fences());
        }
        for effect in self.board.take_effects() {
            match effect {
                ClaimEffect::Answered { request, answer } => self.claim_answered(now, request, answer),
                ClaimEffect::Published { resource } => self.published.push(resource),
                // The machine ended it.
                _ => {}
            }
        }
        result
    }

    fn claim_answered(&mut self, now: Duration, request: ClaimRequestId, answer: ClaimAnswer) {
        let key = RequestKey { session: request.session.number, number: request.number };
        self.figures.claim_answered(&answer);
        if matches!(answer, ClaimAnswer::Yours(_))
            && let Some(deadline) = self.sessions.get_mut(&key.session).map(|session| session.deadline_after_grant(now))
        {
            self.set_deadline(key.session, deadline);
        }
        self.settled.push(key);
        self.claim_notes.push(ClaimNote { request: key, answer });
    }

    fn board_session(&self, number: u64) -> ClaimSessionId {
        ClaimSessionId { epoch: self.epoch, number }
    }

    fn board_call(&self, key: RequestKey) -> ClaimCall {
        let request = ClaimRequestId { session: self.board_session(key.session), number: key.number };
        ClaimCall { request, settled_below: 0 }
    }

    pub(super) fn has_claims(&self, session: u64) -> bool {
        self.sessions.get(&session).is_some_and(|session| session.has_claims)
    }

    /// Asks for the work of a resource under a number, or for that number's answer.
    ///
    /// # Errors
    /// [`Refusal::NumberReused`], [`Refusal::Full`], [`Refusal::Claim`], and what each call of a session can be refused
    /// with. Where the request is not to wait, also why nothing is granted now.
    pub fn claim(
        &mut self,
        call: Call<'_>,
        number: u64,
        resource: &ObjectKey,
        policy: &ClaimPolicy,
    ) -> Result<ClaimAnswer, Refusal> {
        self.enter(call)?;
        let key = self.current(call, number)?;
        match self.request(key) {
            Some(request) if request.state == State::Cancelled(None) => {
                return Ok(ClaimAnswer::Cancelled { grant: None });
            }
            Some(_) => return Err(Refusal::NumberReused),
            None => {}
        }
        self.claim_number(call.now, key, resource, policy)
    }

    /// Asks for work in a session that is made for it.
    ///
    /// It ends with its lease, so that a completion can be repeated.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`claim`](Self::claim).
    pub fn claim_implicit(
        &mut self,
        now: Duration,
        open: Open,
        number: u64,
        (resource, policy): (&ObjectKey, &ClaimPolicy),
    ) -> Result<(SessionName, ClaimAnswer), Refusal> {
        self.tick(now);
        let session = self.open_as(now, open, Origin::Implicit)?.session;
        let answer = self.claim_number(now, RequestKey { session: session.number, number }, resource, policy);
        if answer.is_err() {
            self.end_session(now, session.number, Reason::SessionEnded);
        }
        Ok((session, answer?))
    }

    fn claim_number(
        &mut self,
        now: Duration,
        key: RequestKey,
        resource: &ObjectKey,
        policy: &ClaimPolicy,
    ) -> Result<ClaimAnswer, Refusal> {
        let call = self.board_call(key);
        let is_new = self.look_up_claim(now, key).is_none();
        if is_new {
            self.check_new_claim(key, resource)?;
            self.check_may_skip(now, key.session, policy)?;
            self.join_board(now, key.session)?;
        }
        self.on_board(now, |board| board.claim(now, call, resource.as_ref(), policy)).map_err(refusal)
    }

    /// Returns whether there is room for a claim.
    fn check_new_claim(&self, key: RequestKey, resource: &ObjectKey) -> Result<(), Refusal> {
        if self.closing {
            return Err(Refusal::Closing);
        }
        self.check_number(key)?;
        let limit = self.limits.keys;
        let is_new = !self.board.contains(resource.as_ref());
        if is_new && self.table.len() + self.board.figures().resources >= limit {
            return Err(Refusal::Full { what: Limit::Keys, limit });
        }
        Ok(())
    }

    /// Refuses a claim that is not to wait while nothing is granted.
    ///
    /// To skip it would say that another does the work.
    fn check_may_skip(&self, now: Duration, session: u64, policy: &ClaimPolicy) -> Result<(), Refusal> {
        if policy.when_taken != ClaimWhenTaken::Skip {
            return Ok(());
        }
        if !self.may_grant(now) {
            return Err(self.stall(now));
        }
        if self.sessions.get(&session).is_some_and(Session::is_present) { Ok(()) } else { Err(Refusal::SessionCut) }
    }

    /// Makes the session known to the board.
    fn join_board(&mut self, now: Duration, number: u64) -> Result<(), Refusal> {
        let id = self.board_session(number);
        let session = self.sessions.get_mut(&number).ok_or(Refusal::SessionGone)?;
        if session.has_claims {
            return Ok(());
        }
        session.has_claims = true;
        let (owner, settled_below) = (Arc::clone(&session.owner), session.settled_below);
        let is_cut = session.presence == Presence::Cut;
        self.on_board(now, |board| {
            board.open_hosted(now, id, owner)?;
            if is_cut {
                board.suspend(now, id);
            }
            board.settle(now, id, settled_below);
            Ok(())
        })
        .map_err(refusal)
    }

    /// Returns what the board knows of a number; `None` if it is no claim's.
    pub(super) fn look_up_claim(&mut self, now: Duration, key: RequestKey) -> Option<ClaimAnswer> {
        if !self.has_claims(key.session) {
            return None;
        }
        let request = self.board_call(key).request;
        self.on_board(now, |board| board.look_up(now, request)).ok().flatten()
    }

    /// Ends the work with a result.
    ///
    /// # Errors
    /// [`Refusal::Claim`], and what each call of a session can be refused with.
    pub fn complete(
        &mut self,
        call: Call<'_>,
        number: u64,
        grant: Grant,
        result: ClaimResult,
    ) -> Result<ClaimAnswer, Refusal> {
        self.enter(call)?;
        let key = self.current(call, number)?;
        self.check_claim(call.now, key)?;
        let of_board = self.board_call(key);
        let grant = ClaimGrant { epoch: grant.epoch, fence: grant.fence };
        self.on_board(call.now, |board| board.complete(call.now, of_board, grant, result)).map_err(refusal)
    }

    /// Notes how far an owner is, and renews its lease.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub fn report(&mut self, call: Call<'_>, number: u64, grant: Grant, report: Report) -> Result<(), Refusal> {
        self.enter(call)?;
        let key = self.current(call, number)?;
        self.check_claim(call.now, key)?;
        let of_board = self.board_call(key);
        let grant = ClaimGrant { epoch: grant.epoch, fence: grant.fence };
        self.on_board(call.now, |board| {
            if report.lease.is_some() {
                board.renew_grant(call.now, of_board, grant, report.lease)?;
            }
            match report.progress {
                Some(progress) => board.progress(call.now, of_board, grant, progress),
                None => board.remaining(call.now, of_board.request, grant).map(drop),
            }
        })
        .map_err(refusal)
    }

    fn check_claim(&mut self, now: Duration, key: RequestKey) -> Result<(), Refusal> {
        match self.look_up_claim(now, key) {
            Some(_) => Ok(()),
            None => Err(Refusal::Claim(ClaimError::NotYours { answer: None })),
        }
    }

    /// Cancels a number that is a claim's; `None` if it is none.
    pub(super) fn cancel_claim(&mut self, now: Duration, key: RequestKey) -> Option<ClaimAnswer> {
        self.look_up_claim(now, key)?;
        let call = self.board_call(key);
        self.on_board(now, |board| board.cancel(now, call)).ok()
    }

    /// How long a grant is safe from a moment on, by its session and its own lease.
    #[must_use]
    pub fn claim_valid_from(
        &mut self,
        now: Duration,
        key: RequestKey,
        grant: ClaimGrant,
        moment: Duration,
    ) -> Duration {
        let of_session = self.promised_from(key.session, moment);
        let request = self.board_call(key).request;
        let left = self.on_board(now, |board| board.remaining(now, request, grant)).ok().flatten();
        left.map_or(of_session, |left| (now + left).saturating_sub(moment).min(of_session))
    }

    /// Cancels a session's claims below `next`, except the `open` ones.
    ///
    /// Answers what became of the open ones.
    pub(super) fn renew_claims(
        &mut self,
        now: Duration,
        session: u64,
        next: Option<u64>,
        open: &[u64],
    ) -> Vec<(u64, ClaimAnswer)> {
        if !self.has_claims(session) {
            return Vec::new();
        }
        let id = self.board_session(session);
        let renewed = self.on_board(now, |board| board.renew(now, id, next.unwrap_or(0), open));
        renewed.map_or_else(|_| Vec::new(), |renewal| renewal.answers)
    }

    pub(super) fn settle_claims(&mut self, now: Duration, session: u64, below: u64) {
        if self.has_claims(session) {
            let id = self.board_session(session);
            self.on_board(now, |board| board.settle(now, id, below));
        }
    }

    /// Passes the session's presence on to its claims.
    pub(super) fn place_claims(&mut self, now: Duration, session: u64) {
        if !self.has_claims(session) {
            return;
        }
        let is_present = self.sessions.get(&session).is_some_and(Session::is_present);
        let id = self.board_session(session);
        self.on_board(now, |board| if is_present { board.resume(now, id) } else { board.suspend(now, id) });
    }

    pub(super) fn end_claims(&mut self, now: Duration, session: u64, reason: Reason) {
        if self.has_claims(session) {
            let id = self.board_session(session);
            let loss = if reason == Reason::Expired { ClaimLoss::SessionExpired } else { ClaimLoss::SessionEnded };
            self.on_board(now, |board| board.end_hosted(now, id, loss));
        }
    }

    /// Numbers of a session that are claims' and have not settled.
    pub(super) fn open_claims(&self, session: u64) -> usize {
        if !self.has_claims(session) {
            return 0;
        }
        self.board.session(self.board_session(session)).map_or(0, |session| session.open)
    }

    /// Ends by force the grants of resources that pass a filter.
    ///
    /// Returns what they were.
    pub fn force_release_claims(
        &mut self,
        now: Duration,
        filter: &LockFilter,
        may_release: &dyn Fn(&ObjectKey) -> bool,
    ) -> Vec<ClaimSnapshot> {
        self.tick(now);
        let matching = self
            .board
            .snapshots()
            .filter(|claim| claim.owner.is_some() && claim_passes(now, claim, filter) && may_release(&claim.resource));
        let released: Vec<ClaimSnapshot> = matching.collect();
        for claim in &released {
            self.on_board(now, |board| board.force_release(now, claim.resource.as_ref()));
        }
        released
    }

    /// Resources with an owner, a line or an outcome that pass a filter.
    ///
    /// About `most` of them at most.
    #[must_use]
    pub fn claims(
        &self,
        now: Duration,
        filter: &LockFilter,
        after: Option<&ObjectKey>,
        most: usize,
    ) -> Page<ClaimSnapshot> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.clone()));
        let mut rows = Vec::new();
        let mut last = None;
        for (looked_at, claim) in self.board.snapshots_from(from).enumerate() {
            if looked_at == MOST_RESOURCES || rows.len() >= most {
                return Page { rows, next: last };
            }
            last = Some(claim.resource.clone());
            let has_state = claim.owner.is_some() || !claim.waiting.is_empty() || claim.outcome.is_some();
            if has_state && claim_passes(now, &claim, filter) {
                rows.push(claim);
            }
        }
        Page { rows, next: None }
    }

    /// Keeps a resource's events while a subscriber follows them.
    ///
    /// # Errors
    /// [`Refusal::Claim`] for a key that is too long.
    pub fn watch_claim(&mut self, resource: &ObjectKey) -> Result<(), Refusal> {
        self.board.check_key(resource.as_ref()).map_err(refusal)?;
        self.board.watch(resource.as_ref());
        Ok(())
    }

    /// Ends one [`watch_claim`](Self::watch_claim).
    pub fn unwatch_claim(&mut self, resource: &ObjectKey) {
        self.board.unwatch(resource.as_ref());
    }

    /// Returns what a subscriber to a resource gets next.
    #[must_use]
    pub fn claim_feed(&self, resource: &ObjectKey, seen: Option<ClaimEventId>) -> ClaimFeed {
        self.board.feed(resource.as_ref(), seen)
    }

    /// Resources with events since the last call.
    pub fn take_published(&mut self) -> Vec<ObjectKey> {
        std::mem::take(&mut self.published)
    }

    /// Claims whose answers changed since the last call.
    pub fn take_claim_notes(&mut self) -> Vec<ClaimNote> {
        std::mem::take(&mut self.claim_notes)
    }

    /// Returns how much the board has to remember.
    #[must_use]
    pub fn claim_figures(&self) -> ClaimFigures {
        self.board.figures()
    }
}

fn claim_passes(now: Duration, claim: &ClaimSnapshot, filter: &LockFilter) -> bool {
    let owner = claim.owner.as_ref();
    let age = owner.map(|owner| now.saturating_sub(owner.since));
    filter.keys.matches(&claim.resource)
        && filter.owner.as_ref().is_none_or(|name| owner.is_some_and(|owner| *owner.name == **name))
        && filter.session.is_none_or(|number| owner.is_some_and(|owner| owner.request.session.number == number))
        && filter.older_than.is_none_or(|least| age.is_some_and(|age| age >= least))
}

/// Returns the refusal that an error of the board is.
fn refusal(error: ClaimError) -> Refusal {
    match error {
        ClaimError::EpochChanged { .. } => Refusal::EpochChanged,
        ClaimError::SessionGone => Refusal::SessionGone,
        ClaimError::StaleRequest { settled_below } => Refusal::StaleRequest { settled_below },
        ClaimError::NumberInUse => Refusal::NumberReused,
        ClaimError::TooManyOpen { limit } => Refusal::Full { what: Limit::OpenRequests, limit },
        ClaimError::TooManySessions { limit } => Refusal::Full { what: Limit::Sessions, limit },
        other => Refusal::Claim(other),
    }
}
