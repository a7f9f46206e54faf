//! Requests: lock, unlock, cancel, force-release.

use super::call::{
    Answer, Ask, Call, CancelAnswer, Holder, Item, Limit, Open, Reason, Refusal, RequestKey, SessionName, Wait,
};
use super::core::Machine;
use super::grant::Grant;
use super::listing::{HeldLock, LockFilter};
use super::session::{Origin, Request, State};
use super::table::{AtKey, Place};
use keylatch::ObjectKey;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Holders that an answer names.
const NAMED_HOLDERS: usize = 8;

impl Machine {
    /// Asks for locks under a number, or asks what became of that number.
    ///
    /// # Errors
    /// [`Refusal::StaleRequest`], [`Refusal::NumberReused`], [`Refusal::Full`], [`Refusal::Quiet`] and what each call of
    /// a session can be refused with. The number is not used then.
    pub fn lock(&mut self, call: Call<'_>, number: u64, ask: Ask) -> Result<Answer, Refusal> {
        self.enter(call)?;
        let key = self.current(call, number)?;
        if let Some(request) = self.request(key) {
            if !matches!(request.state, State::Cancelled(None)) && request.items != ask.items {
                return Err(Refusal::NumberReused);
            }
            return self.state_of(key).ok_or(Refusal::SessionGone);
        }
        if self.look_up_claim(call.now, key).is_some() {
            return Err(Refusal::NumberReused);
        }
        self.lock_new(call.now, key, ask)
    }

    /// Asks for locks in a session that is made for them, and ends with them.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`lock`](Self::lock).
    pub fn lock_implicit(
        &mut self,
        now: Duration,
        open: Open,
        number: u64,
        ask: Ask,
    ) -> Result<(SessionName, Answer), Refusal> {
        self.tick(now);
        let session = self.open_as(now, open, Origin::Implicit)?.session;
        let answer = self.lock_new(now, RequestKey { session: session.number, number }, ask);
        self.end_if_idle(now, session.number);
        Ok((session, answer?))
    }

    fn lock_new(&mut self, now: Duration, key: RequestKey, ask: Ask) -> Result<Answer, Refusal> {
        self.check_room(key, &ask)?;
        if self.closing {
            return Err(Refusal::Closing);
        }
        let place = Place { priority: Reverse(ask.priority), arrival: self.next_arrival };
        self.next_arrival += 1;
        let session = self.sessions.get_mut(&key.session).ok_or(Refusal::SessionGone)?;
        let is_present = session.is_present();
        let owner = Arc::clone(&session.owner);
        let items = Arc::clone(&ask.items);
        let request = Request { items: ask.items, place, wait: ask.wait, state: State::Queued, since: now };
        session.requests.insert(key.number, Box::new(request));
        for item in items.iter() {
            self.table.join(&item.key, place, AtKey { request: key, mode: item.mode });
        }
        self.waiting += 1;
        let may_grant = self.may_grant(now);
        // What waits for the tier waits, too.
        let has_room = self.tier.is_none() || self.waiting <= self.limits.waiters;
        if is_present && may_grant && has_room && self.is_turn(key) {
            self.grant(now, key, None);
            if self.tier.is_some() && ask.wait == Wait::Queue {
                self.figures.queued += 1;
                self.publish_queued(now, key, owner, items);
            }
        } else if ask.wait == Wait::Queue && self.waiting <= self.limits.waiters {
            self.stalled |= !may_grant;
            self.figures.queued += 1;
            self.publish_queued(now, key, owner, items);
        } else {
            items.iter().for_each(|item| self.table.leave(&item.key, place));
            self.waiting -= 1;
            let wait = if has_room { ask.wait } else { Wait::Queue };
            self.refuse(now, key, wait)?;
        }
        self.state_of(key).ok_or(Refusal::SessionGone)
    }

    /// Leaves a request that is not in the table as refused.
    ///
    /// Forgets it where the refusal is not about its keys.
    fn refuse(&mut self, now: Duration, key: RequestKey, wait: Wait) -> Result<(), Refusal> {
        let stall = (!self.may_grant(now)).then(|| self.stall(now));
        let limit = self.limits.waiters;
        let session = self.sessions.get_mut(&key.session).ok_or(Refusal::SessionGone)?;
        let refusal = match (wait, stall) {
            (Wait::Queue, _) => Some(Refusal::Full { what: Limit::Waiters, limit }),
            (Wait::Try, _) if !session.is_present() => Some(Refusal::SessionCut),
            (Wait::Try, stall) => stall,
        };
        if let Some(refusal) = refusal {
            session.requests.remove(&key.number);
            return Err(refusal);
        }
        if let Some(request) = session.requests.get_mut(&key.number) {
            request.state = State::Refused;
        }
        self.figures.refused += 1;
        Ok(())
    }

    fn check_room(&self, key: RequestKey, ask: &Ask) -> Result<(), Refusal> {
        self.check_number(key)?;
        let new_keys = ask.items.iter().filter(|item| !self.table.contains(&item.key)).count();
        if self.table.len() + new_keys > self.limits.keys {
            return Err(Refusal::Full { what: Limit::Keys, limit: self.limits.keys });
        }
        Ok(())
    }

    pub(super) fn check_number(&self, key: RequestKey) -> Result<(), Refusal> {
        let limit = self.limits.open_requests;
        let locks = self.sessions.get(&key.session).map_or(0, |session| session.requests.len());
        if locks + self.open_claims(key.session) >= limit {
            Err(Refusal::Full { what: Limit::OpenRequests, limit })
        } else {
            Ok(())
        }
    }

    /// Returns the request of a number that has not settled.
    pub(super) fn current(&self, call: Call<'_>, number: u64) -> Result<RequestKey, Refusal> {
        let session = self.sessions.get(&call.session.number).ok_or(Refusal::SessionGone)?;
        if number < session.settled_below {
            return Err(Refusal::StaleRequest { settled_below: session.settled_below });
        }
        Ok(RequestKey { session: call.session.number, number })
    }

    /// Releases what a number holds.
    ///
    /// # Errors
    /// [`Refusal::NotHeld`], [`Refusal::StillQueued`], [`Refusal::OtherGrant`], [`Refusal::StaleRequest`], and what each
    /// call of a session can be refused with.
    pub fn unlock(&mut self, call: Call<'_>, number: u64, grant: Option<Grant>) -> Result<Answer, Refusal> {
        self.enter(call)?;
        let key = self.current(call, number)?;
        let state = self.request(key).ok_or(Refusal::NotHeld)?.state;
        let (State::Held(held) | State::Ended(held) | State::Lost(held, _) | State::Cancelled(Some(held))) = state
        else {
            return Err(if matches!(state, State::Queued | State::Reserved) {
                Refusal::StillQueued
            } else {
                Refusal::NotHeld
            });
        };
        if grant.is_some_and(|grant| grant != held) {
            return Err(Refusal::OtherGrant);
        }
        if let Some(freed) = self.finish(call.now, key, State::Ended(held)) {
            self.figures.released += 1;
            self.hand_over(call.now, &[freed]);
        }
        let answer = self.state_of(key).ok_or(Refusal::SessionGone);
        self.end_if_idle(call.now, key.session);
        answer
    }

    /// Cancels a number, in whatever state it is, whether it is a lock's or a claim's.
    ///
    /// # Errors
    /// [`Refusal::StaleRequest`], [`Refusal::Full`] and what each call of a session can be refused with.
    pub fn cancel(&mut self, call: Call<'_>, number: u64) -> Result<CancelAnswer, Refusal> {
        self.enter(call)?;
        let key = self.current(call, number)?;
        if let Some(answer) = self.cancel_claim(call.now, key) {
            return Ok(CancelAnswer::Claim(answer));
        }
        match self.request(key).map(|request| request.state) {
            None => self.leave_tombstone(call.now, key)?,
            Some(State::Queued | State::Reserved) => self.end_by_cancel(call.now, key, None),
            Some(State::Held(grant)) => self.end_by_cancel(call.now, key, Some(grant)),
            Some(_) => {}
        }
        let answer = self.state_of(key).ok_or(Refusal::SessionGone);
        self.end_if_idle(call.now, key.session);
        answer.map(CancelAnswer::Lock)
    }

    fn end_by_cancel(&mut self, now: Duration, key: RequestKey, grant: Option<Grant>) {
        self.figures.cancelled += 1;
        if let Some(freed) = self.finish(now, key, State::Cancelled(grant)) {
            self.hand_over(now, &[freed]);
        }
    }

    /// Remembers a cancelled number whose request may still be on the way.
    fn leave_tombstone(&mut self, now: Duration, key: RequestKey) -> Result<(), Refusal> {
        self.check_number(key)?;
        let place = Place { priority: Reverse(0), arrival: self.next_arrival };
        let wait = Wait::Queue;
        let tombstone = Request { items: Arc::new([]), place, wait, state: State::Cancelled(None), since: now };
        if let Some(session) = self.sessions.get_mut(&key.session) {
            session.requests.insert(key.number, Box::new(tombstone));
        }
        Ok(())
    }

    /// Ends an implicit session that holds nothing and waits for nothing.
    pub(super) fn end_if_idle(&mut self, now: Duration, number: u64) {
        let Some(session) = self.sessions.get(&number) else { return };
        let is_active = |request: &Request| matches!(request.state, State::Queued | State::Reserved | State::Held(_));
        if session.has_claims {
            return;
        }
        if session.origin == Origin::Implicit && !session.requests.values().any(|request| is_active(request)) {
            self.end_session(now, number, Reason::SessionEnded);
        }
    }

    /// Releases by force every request that holds a matching key.
    ///
    /// Returns the keys that were held by them, those that do not match included: a request is released whole.
    pub fn force_release(
        &mut self,
        now: Duration,
        filter: &LockFilter,
        may_release: &dyn Fn(&ObjectKey) -> bool,
    ) -> Vec<HeldLock> {
        self.tick(now);
        let matching: BTreeSet<RequestKey> = self.matching_holds(now, filter).map(|hold| hold.request).collect();
        let mut released = Vec::new();
        let mut freed = Vec::new();
        for key in matching {
            let Some(request) = self.request(key) else { continue };
            let State::Held(grant) = request.state else { continue };
            if !request.items.iter().all(|item| may_release(&item.key)) {
                continue;
            }
            released.extend(self.holds_of(now, key));
            freed.extend(self.finish(now, key, State::Lost(grant, Reason::Forced)));
        }
        self.hand_over(now, &freed);
        released
    }

    /// What became of a request; `None` if its number is unknown or its session gone.
    pub(super) fn state_of(&self, key: RequestKey) -> Option<Answer> {
        let request = self.request(key)?;
        Some(match request.state {
            State::Queued => Answer::Waiting {
                place: 1 + request
                    .items
                    .iter()
                    .map(|item| self.reserved(&item.key).count() + self.table.ahead(&item.key, request.place))
                    .max()
                    .unwrap_or(0),
                holders: self.holders_of(&request.items, request.since),
            },
            // Who holds them elsewhere is not known here.
            State::Reserved => Answer::Waiting { place: 1, holders: Vec::new() },
            State::Held(grant) => Answer::Granted { grant },
            State::Refused => Answer::Refused { holders: self.holders_of(&request.items, request.since) },
            State::TooLarge => Answer::TooLarge,
            State::Ended(grant) => Answer::Ended { grant },
            State::Cancelled(grant) => Answer::Cancelled { grant },
            State::Lost(grant, reason) => Answer::Lost { grant, reason },
        })
    }

    /// Returns who holds some of the items now.
    fn holders_of(&self, items: &[Item], now: Duration) -> Vec<Holder> {
        let holders = items.iter().flat_map(|item| {
            self.table.holders(&item.key).filter_map(move |holder| {
                let session = self.sessions.get(&holder.request.session)?;
                let request = session.requests.get(&holder.request.number)?;
                let since = request.since;
                matches!(request.state, State::Held(_)).then(|| Holder {
                    item: Item { key: item.key.clone(), mode: holder.mode },
                    owner: Arc::clone(&session.owner),
                    session: holder.request.session,
                    held_for: now.saturating_sub(since),
                })
            })
        });
        holders.take(NAMED_HOLDERS).collect()
    }
}
