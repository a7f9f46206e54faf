//! Sessions that the host keeps: it leases them, watches their streams and ends them. The board keeps their requests.
//!
//! The lock service has one session for locks and claims alike, and one place where its time is counted. So the board
//! counts none for it, and takes its fences from the sequence that the locks use too.

use super::super::answer::ClaimLoss;
use super::super::error::ClaimError;
use super::super::id::ClaimSessionId;
use super::super::resource::Standing;
use super::super::session::{ClaimPresence, Session, Stream};
use super::ClaimBoard;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

impl ClaimBoard {
    /// Opens a session under the host's number.
    ///
    /// It lasts until [`end_hosted`](Self::end_hosted).
    ///
    /// # Errors
    /// [`ClaimError::EpochChanged`], [`ClaimError::TooManySessions`], [`ClaimError::NumberInUse`].
    pub fn open_hosted(&mut self, now: Duration, id: ClaimSessionId, owner: Arc<str>) -> Result<(), ClaimError> {
        self.advance(now);
        if id.epoch != self.epoch {
            return Err(ClaimError::EpochChanged { epoch: self.epoch });
        }
        let limit = self.config.max_sessions;
        if self.sessions.len() >= limit {
            return Err(ClaimError::TooManySessions { limit });
        }
        if self.sessions.contains_key(&id.number) {
            return Err(ClaimError::NumberInUse);
        }
        self.next_session = self.next_session.max(id.number.saturating_add(1));
        let session = Session {
            owner,
            ttl: None,
            presence: ClaimPresence::Renewals,
            stream: Stream::None,
            streams: 0,
            promised_until: self.now,
            settled_below: 0,
            requests: BTreeMap::new(),
        };
        self.sessions.insert(id.number, session);
        Ok(())
    }

    /// Notes that the host cannot reach the session's client.
    ///
    /// Its places are passed over, and kept.
    pub fn suspend(&mut self, now: Duration, id: ClaimSessionId) {
        self.advance(now);
        let Ok(number) = self.check_session(id) else { return };
        if let Some(session) = self.sessions.get_mut(&number) {
            session.stream = Stream::Cut;
        }
        self.set_standing(number, Standing::Dormant);
    }

    /// Notes that the host reaches the session's client again.
    ///
    /// Its places are as they were.
    pub fn resume(&mut self, now: Duration, id: ClaimSessionId) {
        self.advance(now);
        let Ok(number) = self.check_session(id) else { return };
        if let Some(session) = self.sessions.get_mut(&number) {
            session.stream = Stream::None;
        }
        for key in self.set_standing(number, Standing::Present) {
            self.grant_next_and_publish(&key);
        }
        self.evict();
    }

    /// Ends and forgets what the session has below a number.
    ///
    /// Its client has those answers, or gave them up.
    pub fn settle(&mut self, now: Duration, id: ClaimSessionId, below: u64) {
        self.advance(now);
        let Ok(number) = self.check_session(id) else { return };
        if below > self.sessions[&number].settled_below {
            self.settle_below(number, below);
        }
        self.evict();
    }

    /// Ends a session for a reason that the host has. One that is gone stays so.
    pub fn end_hosted(&mut self, now: Duration, id: ClaimSessionId, why: ClaimLoss) {
        self.advance(now);
        if let Ok(number) = self.check_session(id) {
            self.end_session_now(number, why);
        }
        self.evict();
    }

    /// Takes the fences that are left.
    ///
    /// Until the host lends some again, nothing is granted.
    #[must_use = "fences that are dropped are lost"]
    pub fn take_fences(&mut self) -> Range<u64> {
        let end = self.fences.end;
        std::mem::replace(&mut self.fences, end..end)
    }

    /// Lends fences to the board, in place of those that it has.
    ///
    /// Grants nothing by itself.
    pub fn lend_fences(&mut self, fences: Range<u64>) {
        self.fences = fences;
    }

    /// Gives out all work that lay idle for want of fences.
    pub fn grant_idle(&mut self, now: Duration) {
        self.advance(now);
        self.grant_everywhere();
        self.evict();
    }
}
