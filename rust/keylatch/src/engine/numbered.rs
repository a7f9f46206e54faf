//! Requests with a session, a lease or a number: a numbered request that is repeated gets the same grant.

use super::core::Core;
use super::lease::nanos_of;
use super::wanted::Wanted;
use crate::config::invalid;
use crate::error::{Holders, LockError};
use crate::hold::{Begun, Grant, OwnerRef, SessionState, Turn};
use crate::request::{Limit, LockRequest};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whether a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    Sleeps,
}

impl Core {
    /// As `try_now` and `blocking`.
    #[cold]
    #[inline(never)]
    pub(crate) fn special(
        &self,
        request: LockRequest<'_>,
        detached: bool,
        patience: Patience,
    ) -> Result<Grant, LockError> {
        self.check_special(&request, detached)?;
        let mut limit = self.decided(request.limit);
        let session = self.numbered(&request)?;
        let mut turn = None;
        if let Some((session, id)) = &session {
            match self.turn_of(session, *id, &request, patience, &mut limit)? {
                Ok(answered) => return Ok(answered),
                Err(its_turn) => turn = Some(its_turn),
            }
        }
        let local = self.local();
        let wanted = Wanted { detached, ..self.wanted(local, &request) };
        let grant = match (self.acquire_fast(local, &wanted), patience) {
            (Ok(grant), _) => {
                self.note_hold_and_look(wanted.owner, wanted.hash, grant);
                grant
            }
            (Err(_), Patience::None) => self.try_slow(local, wanted)?,
            (Err(_), Patience::Sleeps) => self.blocking_until(local, &wanted, limit)?,
        };
        self.start_lease(grant, request.lease());
        if let Some(turn) = turn {
            turn.answer(grant);
        }
        Ok(grant)
    }

    /// Returns the grant that answered a numbered request, or the turn to make it.
    ///
    /// While the same request waits already, it waits for its end.
    fn turn_of(
        &self,
        session: &Arc<SessionState>,
        id: u64,
        request: &LockRequest<'_>,
        patience: Patience,
        limit: &mut Limit,
    ) -> Result<Result<Grant, Turn>, LockError> {
        let began = Instant::now();
        let deadline = self.deadline(*limit);
        loop {
            let grant = match session.begin_request(id, |grant| self.stays_held(grant)) {
                Begun::Asks(turn) => return Ok(Err(turn)),
                Begun::Has(grant) => grant,
                Begun::Waits(first) => {
                    if patience == Patience::None {
                        return Err(LockError::WouldBlock {
                            key: request.key.to_owned(),
                            holders: self.holders_of(request),
                        });
                    }
                    if !first.is_over_by(deadline) {
                        let (key, waited) = (request.key.to_owned(), began.elapsed());
                        return Err(LockError::Timeout { key, waited, holders: self.holders_of(request) });
                    }
                    // What is left of the time is for its own wait.
                    *limit = deadline.map_or(*limit, Limit::At);
                    continue;
                }
            };
            // `None` if it is released in this moment: then it is asked for anew.
            if let Some(grant) = self.answered_before(id, grant, request)? {
                return Ok(Ok(grant));
            }
        }
    }

    /// A numbered request that is about to be made in a way of the caller's own.
    pub(crate) fn begin_numbered(&self, request: &LockRequest<'_>) -> Result<Begun, LockError> {
        let Some((session, id)) = self.numbered(request)? else {
            return Err(invalid("request_id", "the request has none".into()));
        };
        loop {
            match session.begin_request(id, |grant| self.stays_held(grant)) {
                // As in `turn_of`.
                Begun::Has(grant) => {
                    if let Some(grant) = self.answered_before(id, grant, request)? {
                        return Ok(Begun::Has(grant));
                    }
                }
                begun => return Ok(begun),
            }
        }
    }

    /// Returns whether a grant is held, and has not left the word.
    ///
    /// A release that is between its word and its record is over for one that asks again.
    fn stays_held(&self, grant: Grant) -> bool {
        let record = grant.index();
        let held = self.records.get(record).held().filter(|held| held.grant(record) == grant);
        held.is_some_and(|held| self.is_in_word(record, &held))
    }

    fn holders_of(&self, request: &LockRequest<'_>) -> Holders {
        let hash = self.hash(&request.key);
        let mut shard = self.lock_shard(hash);
        let Some((index, entry)) = shard.find(hash, &request.key) else { return Holders::default() };
        shard.unbias(index, entry);
        self.holders(index, entry)
    }

    /// Refuses what cannot be meant.
    pub(crate) fn check_special(&self, request: &LockRequest<'_>, detached: bool) -> Result<(), LockError> {
        self.check_owner(request.owner)?;
        request.lease().map_or(Ok(0), nanos_of)?;
        if request.number().is_some() && !detached {
            let problem =
                "a guard exists once, so the same one cannot be had again; use grant_blocking() or grant_now()";
            return Err(invalid("request_id", problem.into()));
        }
        Ok(())
    }

    /// Begins the lease of a hold that was granted without a wait.
    ///
    /// After a wait it has begun already.
    pub(crate) fn start_lease(&self, grant: Grant, ttl: Option<Duration>) {
        if let Some(ttl) = ttl
            && self.leases.deadline(grant).is_none()
        {
            // It fails only if the hold was revoked meanwhile, and its holder will find that out.
            let _ = self.renew(grant, ttl);
        }
    }

    fn numbered(&self, request: &LockRequest<'_>) -> Result<Option<(Arc<SessionState>, u64)>, LockError> {
        let Some(id) = request.number() else { return Ok(None) };
        self.service()?;
        self.check_owner(request.owner)?;
        let session = match request.owner {
            OwnerRef::Session(session) => self.sessions.get(session.number),
            _ => None,
        };
        let problem = || "only a session's requests can be numbered; give a session as the owner".into();
        Ok(Some((session.ok_or_else(|| invalid("request_id", problem()))?, id)))
    }

    /// Returns the grant that answered a numbered request, if it is held.
    ///
    /// An error if that was for another key or a weaker mode.
    fn answered_before(&self, id: u64, grant: Grant, request: &LockRequest<'_>) -> Result<Option<Grant>, LockError> {
        let Ok((key, mode)) = self.key_and_mode(grant) else { return Ok(None) };
        if key.as_ref() == request.key && mode >= request.mode {
            return Ok(Some(grant));
        }
        let problem =
            format!("this session's request {id} was for {key:#} ({mode}), which it holds; use another number");
        Err(invalid("request_id", problem))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::{FastObjectLockManager, LockRequest, Mode};
    use std::time::Duration;

    /// A thread is kept from running between the word and the record of its hold.
    #[test]
    fn repeated_request_waits_for_no_release() {
        let locks = FastObjectLockManager::new();
        let session = locks.session("s");
        let (core, write) = (locks.core(), LockRequest::write(("b", "o")));
        let first = locks.lock(write.owner(&session).request_id(1)).grant_now().unwrap();
        let hash = core.hash(&write.key);
        let (_, entry) = core.lock_shard(hash).find(hash, &write.key).expect("held");
        let word = entry.word();
        entry.swap(word, word.released(Mode::Exclusive)).unwrap();
        let (sender, answered) = std::sync::mpsc::channel();
        let (asking, owner) = (locks.clone(), session);
        std::thread::spawn(move || {
            let request = LockRequest::write(("b", "o")).owner(&owner).request_id(1);
            let _ = sender.send(asking.lock(request).grant_now());
        });
        let again = answered.recv_timeout(Duration::from_secs(60)).expect("it asks anew").unwrap();
        assert_ne!(again, first);
        locks.release(again).unwrap();
    }
}
