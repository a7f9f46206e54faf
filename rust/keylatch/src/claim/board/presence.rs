//! The verbs of sessions: opening, renewing, streams that are attached and cut, the end.

use super::super::answer::{ClaimAnswer, ClaimLoss};
use super::super::error::ClaimError;
use super::super::id::{ClaimRequestId, ClaimSessionId};
use super::super::resource::Standing;
use super::super::session::{ClaimPresence, ClaimSessionOptions, RequestState, Session, Stream};
use super::grants::Withdrawal;
use super::{ClaimBoard, ClaimEffect, Subject};
use crate::key::ObjectKey;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A session that was opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimOpened {
    /// Its number.
    pub session: ClaimSessionId,
    /// How long the client may rely on it, from the moment it sent the call.
    ///
    /// `None` for until it is ended.
    pub valid_for: Option<Duration>,
}

/// What a renewal comes to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimRenewal {
    /// How long the client may rely on what it has, from the sending of the renewal.
    pub valid_for: Option<Duration>,
    /// The stored answers of the open numbers: grants, and how ended ones ended.
    ///
    /// Only those that the board knows.
    pub answers: Vec<(u64, ClaimAnswer)>,
}

/// One attached stream of a session.
///
/// A later one takes its place, so its end is no end of the session then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimStream {
    /// Whose it is.
    pub session: ClaimSessionId,
    /// Counts within the session.
    pub number: u64,
}

impl ClaimBoard {
    /// Opens a session.
    ///
    /// # Errors
    /// [`ClaimError::TooManySessions`], [`ClaimError::InvalidTtl`], [`ClaimError::TooLong`].
    pub fn open_session(&mut self, now: Duration, options: &ClaimSessionOptions) -> Result<ClaimOpened, ClaimError> {
        self.advance(now);
        self.check_text("owner's name", &options.owner)?;
        self.check_ttl(options.ttl)?;
        let limit = self.config.max_sessions;
        if self.sessions.len() >= limit {
            return Err(ClaimError::TooManySessions { limit });
        }
        let number = self.next_session;
        self.next_session += 1;
        let mut session = Session {
            owner: Arc::clone(&options.owner),
            ttl: options.ttl,
            presence: options.presence,
            stream: Stream::None,
            streams: 0,
            promised_until: self.now,
            settled_below: 0,
            requests: BTreeMap::new(),
        };
        let valid_for = session.promise(self.config.grace);
        session.promised_until = self.now.saturating_add(valid_for.unwrap_or_default());
        self.timers.set(&Subject::Session(number), options.ttl.map(|ttl| self.now.saturating_add(ttl)));
        self.sessions.insert(number, session);
        Ok(ClaimOpened { session: ClaimSessionId { epoch: self.epoch, number }, valid_for })
    }

    /// Renews a session, and cancels its numbers below `next` that are not `open`.
    ///
    /// The client waits for those no more: a cancellation that got lost is made up for here. Never creates or revives a
    /// request.
    ///
    /// # Errors
    /// [`ClaimError::EpochChanged`], [`ClaimError::SessionGone`].
    pub fn renew(
        &mut self,
        now: Duration,
        id: ClaimSessionId,
        next: u64,
        open: &[u64],
    ) -> Result<ClaimRenewal, ClaimError> {
        self.advance(now);
        let number = self.check_session(id)?;
        let given_up: Vec<u64> = self.sessions[&number]
            .requests
            .range(..next)
            .map(|(number, _)| *number)
            .filter(|it| !open.contains(it))
            .collect();
        self.withdraw(number, &given_up, Withdrawal::Cancelled);
        let (now, grace) = (self.now, self.config.grace);
        let deadline = self.timers.get(&Subject::Session(number));
        let session = self.sessions.get_mut(&number).ok_or(ClaimError::SessionGone)?;
        let valid_for = session.promise(grace);
        session.promised_until = session.promised_until.max(now.saturating_add(valid_for.unwrap_or_default()));
        // In the grace a renewal extends by the promise alone: the stream has to come back.
        let extended = if session.stream == Stream::Cut { valid_for } else { session.ttl };
        let deadline = deadline.max(extended.map(|more| now.saturating_add(more)));
        self.timers.set(&Subject::Session(number), deadline);
        let known =
            |number: &u64| self.stored(ClaimRequestId { session: id, number: *number }).map(|answer| (*number, answer));
        let answers = open.iter().filter_map(known).collect();
        self.evict();
        Ok(ClaimRenewal { valid_for, answers })
    }

    fn stored(&self, id: ClaimRequestId) -> Option<ClaimAnswer> {
        match &self.sessions.get(&id.session.number)?.requests.get(&id.number)?.state {
            RequestState::Answered(answer) => Some(answer.clone()),
            RequestState::Queued { .. } => None,
        }
    }

    /// Notes that the session's client has a stream open.
    ///
    /// Its places are present again.
    ///
    /// # Errors
    /// [`ClaimError::EpochChanged`], [`ClaimError::SessionGone`].
    pub fn attach(&mut self, now: Duration, id: ClaimSessionId) -> Result<ClaimStream, ClaimError> {
        self.advance(now);
        let number = self.check_session(id)?;
        let deadline = self.timers.get(&Subject::Session(number));
        let now = self.now;
        let session = self.sessions.get_mut(&number).ok_or(ClaimError::SessionGone)?;
        session.streams += 1;
        session.stream = Stream::Attached(session.streams);
        session.presence = ClaimPresence::Stream;
        let stream = ClaimStream { session: id, number: session.streams };
        let deadline = deadline.max(session.ttl.map(|ttl| now.saturating_add(ttl)));
        self.timers.set(&Subject::Session(number), deadline);
        for key in self.set_standing(number, Standing::Present) {
            self.grant_next_and_publish(&key);
        }
        self.evict();
        Ok(stream)
    }

    /// Notes that a stream ended.
    ///
    /// The session's places are passed over, and it ends after the grace, but not before what was promised. The end of
    /// a stream that a later one replaced has no effect.
    pub fn detach(&mut self, now: Duration, stream: ClaimStream) {
        self.advance(now);
        let Ok(number) = self.check_session(stream.session) else { return };
        let (now, grace) = (self.now, self.config.grace);
        let deadline = self.timers.get(&Subject::Session(number));
        let Some(session) = self.sessions.get_mut(&number) else { return };
        if session.stream != Stream::Attached(stream.number) {
            return;
        }
        session.stream = Stream::Cut;
        let end = now.saturating_add(grace).max(session.promised_until);
        let deadline = deadline.map_or(end, |deadline| deadline.min(end));
        self.timers.set(&Subject::Session(number), Some(deadline));
        self.set_standing(number, Standing::Dormant);
    }

    /// Moves all places of a session, and returns their resources.
    pub(super) fn set_standing(&mut self, session: u64, standing: Standing) -> Vec<ObjectKey> {
        let mut moved = Vec::new();
        let Some(session) = self.sessions.get(&session) else { return moved };
        for request in session.requests.values() {
            if let (RequestState::Queued { place, .. }, Some(key)) = (&request.state, &request.resource)
                && let Some(resource) = self.resources.get_mut(key)
            {
                resource.line.set_standing(*place, standing);
                moved.push(key.clone());
            }
        }
        moved
    }

    /// Ends a session: its places and grants end with it, as failures.
    ///
    /// # Errors
    /// [`ClaimError::EpochChanged`], [`ClaimError::SessionGone`].
    pub fn end_session(&mut self, now: Duration, id: ClaimSessionId) -> Result<(), ClaimError> {
        self.advance(now);
        let number = self.check_session(id)?;
        self.end_session_now(number, ClaimLoss::SessionEnded);
        self.evict();
        Ok(())
    }

    /// Ends all sessions, and grants nothing to another.
    ///
    /// Nothing has an owner afterwards.
    pub fn close(&mut self, now: Duration) {
        self.advance(now);
        // Without fences nothing is granted in between.
        self.fences.end = self.fences.start;
        let sessions: Vec<u64> = self.sessions.keys().copied().collect();
        sessions.into_iter().for_each(|session| self.end_session_now(session, ClaimLoss::Closed));
        self.evict();
    }

    pub(super) fn end_session_now(&mut self, session: u64, reason: ClaimLoss) {
        let Some(found) = self.sessions.get(&session) else { return };
        let numbers: Vec<u64> = found.requests.keys().copied().collect();
        self.withdraw(session, &numbers, Withdrawal::Lost(reason));
        self.sessions.remove(&session);
        self.timers.set(&Subject::Session(session), None);
        let id = ClaimSessionId { epoch: self.epoch, number: session };
        self.effects.push(ClaimEffect::SessionEnded { session: id, reason });
    }

    /// Ends and forgets all requests below a number.
    pub(super) fn settle_below(&mut self, session: u64, below: u64) {
        let Some(found) = self.sessions.get(&session) else { return };
        let numbers: Vec<u64> = found.requests.range(..below).map(|(number, _)| *number).collect();
        self.withdraw(session, &numbers, Withdrawal::Cancelled);
        if let Some(session) = self.sessions.get_mut(&session) {
            session.requests = session.requests.split_off(&below);
            session.settled_below = below;
        }
    }
}
