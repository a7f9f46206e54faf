//! Sessions: opening, attaching, renewing, ending.

use super::call::{Call, Limit, Open, Opened, Reason, Refusal, Renewed, RequestKey, SessionName};
use super::core::Machine;
use super::session::{Origin, Presence, Session, State, Stream};
use std::sync::Arc;
use std::time::Duration;

impl Machine {
    /// Opens a session.
    ///
    /// # Errors
    /// [`Refusal::BadTtl`], [`Refusal::Full`], [`Refusal::Closing`].
    pub fn open(&mut self, now: Duration, open: Open) -> Result<Opened, Refusal> {
        self.tick(now);
        self.open_as(now, open, Origin::Opened)
    }

    pub(super) fn open_as(&mut self, now: Duration, open: Open, origin: Origin) -> Result<Opened, Refusal> {
        if self.closing {
            return Err(Refusal::Closing);
        }
        let (least, most) = (self.limits.min_ttl, self.limits.max_ttl);
        if open.ttl < least || open.ttl > most {
            return Err(Refusal::BadTtl { least, most });
        }
        if self.sessions.len() >= self.limits.sessions {
            return Err(Refusal::Full { what: Limit::Sessions, limit: self.limits.sessions });
        }
        let number = self.next_session;
        self.next_session += 1;
        let session = Session::new(now, open, origin, self.limits.grace);
        let valid = self.covered(now, session.promised_until - now);
        self.deadlines.insert((session.deadline, number));
        self.sessions.insert(number, session);
        self.figures.sessions_opened += 1;
        Ok(Opened { session: SessionName { epoch: self.epoch, number }, valid })
    }

    /// The checks that each call of a session passes first. Raises what has settled.
    pub(super) fn enter(&mut self, call: Call<'_>) -> Result<(), Refusal> {
        self.tick(call.now);
        if call.session.epoch != self.epoch {
            return Err(Refusal::EpochChanged);
        }
        if call.session.number == 0 || call.session.number >= self.next_session {
            return Err(Refusal::UnknownSession);
        }
        let session = self.sessions.get_mut(&call.session.number).ok_or(Refusal::SessionGone)?;
        if *session.principal != *call.principal {
            return Err(Refusal::UnknownSession);
        }
        if call.settled_below > session.settled_below {
            session.settled_below = call.settled_below;
            self.forget_settled(call.now, call.session.number, call.settled_below);
        }
        Ok(())
    }

    /// Forgets requests below a number.
    ///
    /// What the server still holds for one of them has no client any more.
    fn forget_settled(&mut self, now: Duration, session: u64, below: u64) {
        let mut freed = Vec::new();
        let first_of = |machine: &Self| machine.sessions.get(&session)?.requests.keys().next().copied();
        while let Some(number) = first_of(self).filter(|number| *number < below) {
            freed.extend(self.give_up(now, session, number));
            if let Some(state) = self.sessions.get_mut(&session) {
                state.requests.remove(&number);
            }
        }
        self.settle_claims(now, session, below);
        self.hand_over(now, &freed);
    }

    /// Cancels a request that its client does not stand behind.
    fn give_up(&mut self, now: Duration, session: u64, number: u64) -> Option<Arc<[super::call::Item]>> {
        let key = RequestKey { session, number };
        let state = match self.request(key)?.state {
            State::Held(grant) => State::Lost(grant, Reason::GivenUp),
            _ => State::Cancelled(None),
        };
        self.finish(now, key, state)
    }

    /// Attaches a stream: the session's places count again, and its end is noticed.
    ///
    /// A later stream replaces this one.
    ///
    /// # Errors
    /// What each call of a session can be refused with.
    pub fn attach(&mut self, call: Call<'_>) -> Result<Stream, Refusal> {
        self.enter(call)?;
        let number = call.session.number;
        let session = self.sessions.get_mut(&number).ok_or(Refusal::SessionGone)?;
        session.presence = Presence::Attached;
        session.streams += 1;
        let stream = Stream { session: number, number: session.streams };
        let deadline = session.deadline.max(call.now + session.ttl);
        self.set_deadline(number, deadline);
        self.reconsider_places(call.now, number);
        Ok(stream)
    }

    /// Notes that a stream ended. The end of one that was replaced changes nothing.
    pub fn detach(&mut self, now: Duration, stream: Stream) {
        self.tick(now);
        let grace = self.limits.grace;
        let Some(session) = self.sessions.get_mut(&stream.session) else { return };
        if session.streams != stream.number || session.presence != Presence::Attached {
            return;
        }
        let deadline = session.cut(now, grace);
        self.set_deadline(stream.session, deadline);
        self.reconsider_places(now, stream.session);
    }

    /// Looks through the queues that a session waits in, after its presence changed.
    fn reconsider_places(&mut self, now: Duration, session: u64) {
        let Some(state) = self.sessions.get(&session) else { return };
        let queued = state.requests.values().filter(|request| request.state == State::Queued);
        let items: Vec<_> = queued.map(|request| Arc::clone(&request.items)).collect();
        self.hand_over(now, &items);
        self.place_claims(now, session);
    }

    /// Renews the session's lease.
    ///
    /// With `next` and `open`, cancels the numbers below `next` that `open` does not list. Never creates or revives a
    /// request.
    ///
    /// # Errors
    /// What each call of a session can be refused with.
    pub fn renew(&mut self, call: Call<'_>, next: Option<u64>, open: &[u64]) -> Result<Renewed, Refusal> {
        self.enter(call)?;
        let number = call.session.number;
        let grace = self.limits.grace;
        let session = self.sessions.get_mut(&number).ok_or(Refusal::SessionGone)?;
        let promise = session.validity(grace);
        let deadline = session.renew(call.now, grace);
        let unlisted: Vec<u64> = next.map_or_else(Vec::new, |next| {
            session.requests.range(..next).map(|(number, _)| *number).filter(|number| !open.contains(number)).collect()
        });
        self.set_deadline(number, deadline);
        let freed: Vec<_> = unlisted.iter().filter_map(|request| self.give_up(call.now, number, *request)).collect();
        self.hand_over(call.now, &freed);
        let claims = self.renew_claims(call.now, number, next, open);
        let answer = |request: &u64| Some((*request, self.state_of(RequestKey { session: number, number: *request })?));
        let valid = self.covered(call.now, promise);
        Ok(Renewed { valid, requests: open.iter().filter_map(answer).collect(), claims })
    }

    /// Ends a session: frees its locks and places.
    ///
    /// # Errors
    /// What each call of a session can be refused with.
    pub fn end(&mut self, call: Call<'_>) -> Result<(), Refusal> {
        self.enter(call)?;
        self.end_session(call.now, call.session.number, Reason::SessionEnded);
        Ok(())
    }

    pub(super) fn end_session(&mut self, now: Duration, number: u64, reason: Reason) {
        let Some(session) = self.sessions.get(&number) else { return };
        self.deadlines.remove(&(session.deadline, number));
        let requests: Vec<(u64, State)> =
            session.requests.iter().map(|(number, request)| (*number, request.state)).collect();
        let mut freed = Vec::new();
        for (request, state) in requests {
            let last = match state {
                State::Held(grant) => State::Lost(grant, reason),
                _ => State::Cancelled(None),
            };
            freed.extend(self.finish(now, RequestKey { session: number, number: request }, last));
        }
        self.end_claims(now, number, reason);
        self.sessions.remove(&number);
        self.ended.push(number);
        if reason == Reason::Expired {
            self.figures.sessions_expired += 1;
        }
        self.hand_over(now, &freed);
    }

    /// How long a session's locks are safe from a moment on, by the promises made.
    #[must_use]
    pub fn promised_from(&self, session: u64, moment: Duration) -> Duration {
        let promised = self.sessions.get(&session).map_or(Duration::ZERO, |session| session.promised_until);
        self.covered(moment, promised.saturating_sub(moment))
    }
}
