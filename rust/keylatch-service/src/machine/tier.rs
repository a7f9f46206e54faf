//! Permission from a lock space that several servers share.
//!
//! With a tier, a request whose turn it is here does not hold yet. It is `Reserved`: it keeps others of this server off its
//! keys, and asks the tier for all of them in one step. What the tier answers makes it `Held`, with the tier's fence.
//!
//! ```text
//!   Queued --turn--> Reserved --tier_granted--> Held --tier_lost, another lease--> Lost
//!                       |---tier_refused (not to wait)--> Refused
//!                       |---tier_too_large--------------> TooLarge
//!                       +---cancel, end of the session--> Cancelled
//! ```
//!
//! Invariant: each [`TierNote::Ask`] is followed by one [`TierNote::Over`] of the same request.
//!
//! Invariant: no client is promised more than the tier's lease lasts, counted from the moment of the promise.

use super::call::{Answer, Call, Reason, Refusal, RequestKey, Wait};
use super::core::Machine;
use super::session::State;
use super::tier_notes::{TierAsk, TierNote, TierState};
use std::sync::Arc;
use std::time::Duration;

impl Machine {
    /// Grants nothing from now on that the tier has not granted.
    pub fn use_tier(&mut self) {
        self.tier = Some(TierState::default());
    }

    /// Notes the tier's lease: its number, and for how long it lasts.
    ///
    /// All holds under another one are lost.
    pub fn note_lease(&mut self, now: Duration, lease: Option<(u64, Duration)>) {
        let Some(tier) = self.tier.as_mut().filter(|tier| !tier.is_ending) else { return };
        let number = lease.map(|(number, _)| number);
        let before = std::mem::replace(&mut tier.lease, number);
        tier.until = lease.map_or(now, |(_, remaining)| now + remaining);
        if before.is_some() && before != number {
            self.lose_all(now);
        }
    }

    /// Makes no promise any more that reaches further than those that were made.
    ///
    /// Returns for how long clients may still believe that they hold something.
    pub fn end_tier(&mut self, now: Duration) -> Duration {
        let believed = self.holds() > 0;
        let Some(tier) = &mut self.tier else { return Duration::ZERO };
        tier.is_ending = true;
        if believed { tier.until.saturating_sub(now) } else { Duration::ZERO }
    }

    fn lose_all(&mut self, now: Duration) {
        let held = self.sessions.iter().flat_map(|(&session, state)| {
            let held = state.requests.iter().filter(|(_, request)| matches!(request.state, State::Held(_)));
            held.map(move |(&number, _)| RequestKey { session, number })
        });
        let mut held: Vec<RequestKey> = held.collect();
        held.sort_unstable();
        held.into_iter().for_each(|request| self.tier_lost(now, request));
    }

    /// Returns what the shell has to do since the last call, in order.
    pub fn take_tier_notes(&mut self) -> Vec<TierNote> {
        self.tier.as_mut().map_or_else(Vec::new, |tier| std::mem::take(&mut tier.notes))
    }

    /// Makes a request hold what the tier granted. Returns whether it still wants it.
    pub fn tier_granted(&mut self, now: Duration, key: RequestKey, fence: u64) -> bool {
        self.tick(now);
        let Some(request) = self.request(key).filter(|request| request.state == State::Reserved) else { return false };
        // A try took no place in line.
        let waited = (request.wait == Wait::Queue).then(|| now.saturating_sub(request.since));
        self.hold(now, key, waited, fence);
        true
    }

    /// Refuses a request that was not to wait, because the tier did.
    pub fn tier_refused(&mut self, now: Duration, key: RequestKey) {
        self.tick(now);
        if self.request(key).is_some_and(|request| request.state == State::Reserved) {
            self.figures.refused += 1;
            let freed = self.finish(now, key, State::Refused);
            self.hand_over(now, freed.as_slice());
            self.end_if_idle(now, key.session);
        }
    }

    /// Ends a request whose keys the tier cannot take in one step.
    ///
    /// A session that was made for it lasts until its time is over, so that the client can be answered.
    pub fn tier_too_large(&mut self, now: Duration, key: RequestKey) {
        self.tick(now);
        if self.request(key).is_some_and(|request| request.state == State::Reserved) {
            self.figures.refused += 1;
            let freed = self.finish(now, key, State::TooLarge);
            self.hand_over(now, freed.as_slice());
        }
    }

    /// Answers a try whose time is over: it is refused unless the tier has granted it.
    ///
    /// # Errors
    /// As [`lock`](Self::lock). A session that was made for the try has ended if the try was refused before.
    pub fn end_try(&mut self, call: Call<'_>, number: u64) -> Result<Answer, Refusal> {
        self.enter(call)?;
        let key = self.current(call, number)?;
        if self.request(key).is_some_and(|request| request.state == State::Reserved && request.wait == Wait::Try) {
            self.tier_refused(call.now, key);
            return Ok(Answer::Refused { holders: Vec::new() });
        }
        self.state_of(key).ok_or(Refusal::SessionGone)
    }

    /// Takes a hold away that the tier has lost.
    pub fn tier_lost(&mut self, now: Duration, key: RequestKey) {
        let Some(State::Held(grant)) = self.request(key).map(|request| request.state) else { return };
        let freed = self.finish(now, key, State::Lost(grant, Reason::TierLost));
        self.hand_over(now, freed.as_slice());
    }

    /// Keeps a request's keys from others of this server while the tier is asked.
    pub(super) fn reserve(&mut self, key: RequestKey) {
        let Some(session) = self.sessions.get_mut(&key.session) else { return };
        let owner = Arc::clone(&session.owner);
        let Some(request) = session.requests.get_mut(&key.number) else { return };
        request.state = State::Reserved;
        let (items, place, wait) = (Arc::clone(&request.items), request.place, request.wait);
        items.iter().for_each(|item| self.table.admit(item, place, key));
        self.note(TierNote::Ask(TierAsk { request: key, items, owner, wait }));
    }

    pub(super) fn note(&mut self, note: TierNote) {
        if let Some(tier) = &mut self.tier {
            tier.notes.push(note);
        }
    }

    /// Gives up what waits for the tier, because nothing is granted any more.
    pub(super) fn cancel_reserved(&mut self, now: Duration) {
        let reserved = self.sessions.iter().flat_map(|(&session, state)| {
            let reserved = state.requests.iter().filter(|(_, request)| request.state == State::Reserved);
            reserved.map(move |(&number, _)| RequestKey { session, number })
        });
        for key in reserved.collect::<Vec<_>>() {
            let _ = self.finish(now, key, State::Cancelled(None));
        }
    }

    /// Returns the part of a promise that the tier's lease covers.
    pub(super) fn covered(&self, now: Duration, promise: Duration) -> Duration {
        self.tier.as_ref().map_or(promise, |tier| promise.min(tier.until.saturating_sub(now)))
    }
}
