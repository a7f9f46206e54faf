//! Requests that ask for more than a lock: of a session, for a lease, or to be answered again as before.

use super::core::Core;
use super::lease::nanos_of;
use super::wanted::Wanted;
use crate::config::invalid;
use crate::error::{Holders, LockError};
use crate::hold::{Begun, Grant, OwnerRef, SessionState, Standing, Turn};
use crate::key::ObjectKey;
use crate::mode::Mode;
use crate::request::{Limit, LockRequest};
use crate::sync::fault::fault;
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
        loose: bool,
        patience: Patience,
    ) -> Result<Grant, LockError> {
        self.check_special(&request, loose)?;
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
        let wanted = Wanted { loose, ..self.wanted(local, &request) };
        let grant = match (self.acquire_fast(local, &wanted), patience) {
            (Ok(grant), _) => {
                self.note_hold_and_look(wanted.owner, wanted.hash, grant);
                grant
            }
            (Err(_), Patience::None) => self.try_slow(local, wanted)?,
            (Err(_), Patience::Sleeps) => self.blocking_until(local, &wanted, limit)?,
        };
        self.start_lease(grant, request.lease());
        if let Some(turn) = turn.filter(|_| !fault!("answer-not-remembered")) {
            turn.answer(grant);
        }
        Ok(grant)
    }

    /// The grant that a session's numbered request was answered with, or the turn to make it. While the same request
    /// waits already, waits for how that ends.
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
            let grant = match session.begin_request(id, |grant| self.standing(grant).is_ok()) {
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
            match session.begin_request(id, |grant| self.standing(grant).is_ok()) {
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

    fn holders_of(&self, request: &LockRequest<'_>) -> Holders {
        let hash = self.hash(&request.key);
        let mut shard = self.lock_shard(hash);
        let Some((index, entry)) = shard.find(hash, &request.key) else { return Holders::default() };
        shard.unbias(index, entry);
        self.holders(index, entry)
    }

    /// Refuses what cannot be meant.
    pub(crate) fn check_special(&self, request: &LockRequest<'_>, loose: bool) -> Result<(), LockError> {
        self.check_owner(request.owner)?;
        request.lease().map_or(Ok(0), nanos_of)?;
        if request.number().is_some() && !loose {
            let problem =
                "a guard exists once, so the same one cannot be had again; use grant_blocking() or grant_now()";
            return Err(invalid("request_id", problem.into()));
        }
        Ok(())
    }

    /// Begins the lease of a hold that was had at once; one that was waited for has begun already.
    pub(crate) fn start_lease(&self, grant: Grant, ttl: Option<Duration>) {
        if let Some(ttl) = ttl
            && self.leases.deadline(grant).is_none()
        {
            // It can only be that the hold was taken away by force meanwhile, as its holder will find out.
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

    /// The grant that a numbered request was answered with, if it is held. An error if that was for something else.
    fn answered_before(&self, id: u64, grant: Grant, request: &LockRequest<'_>) -> Result<Option<Grant>, LockError> {
        let Ok((key, mode)) = self.key_and_mode(grant) else { return Ok(None) };
        if key.as_ref() == request.key && mode >= request.mode {
            return Ok(Some(grant));
        }
        let problem =
            format!("this session's request {id} was for {key:#} ({mode}), which it holds; use another number");
        Err(invalid("request_id", problem))
    }

    /// What a grant stands for.
    pub(crate) fn key_and_mode(&self, grant: Grant) -> Result<(ObjectKey, Mode), LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        let (_shard, held) = self.lock_shard_of_hold(grant)?;
        Ok((self.table.entry(held.entry).key(self.table.arena()), held.mode))
    }

    /// The number of a grant's hold; see `LockGuard::fence`.
    pub(crate) fn fence(&self, grant: Grant) -> Result<u64, LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        let (_shard, held) = self.lock_shard_of_hold(grant)?;
        Ok(self.table.entry(held.entry).fence())
    }

    /// Whether anybody holds the key now, or a lock delay keeps it.
    pub(crate) fn is_locked(&self, request: &LockRequest<'_>) -> Result<bool, LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        let hash = self.hash(&request.key);
        let mut shard = self.lock_shard(hash);
        let Some((index, entry)) = shard.find(hash, &request.key) else { return Ok(false) };
        shard.unbias(index, entry);
        let word = entry.word();
        Ok(word.is_exclusive() || word.readers() > 0)
    }

    /// Whether the exclusive hold with this number has the key now.
    pub(crate) fn is_current(&self, request: &LockRequest<'_>, fence: u64) -> Result<bool, LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        let hash = self.hash(&request.key);
        let shard = self.lock_shard(hash);
        let Some((index, entry)) = shard.find(hash, &request.key) else { return Ok(false) };
        // Only what is on record has its number; a holder that is not yet does not know its own.
        let on_record = self.exclusive_holder(index, entry).is_some();
        Ok(on_record && entry.fence() == fence)
    }

    /// Does something to a hold by its number, as its guard would. Meanwhile the number is that call's.
    pub(crate) fn as_guard<T>(&self, grant: Grant, act: impl FnOnce() -> Result<T, LockError>) -> Result<T, LockError> {
        self.catch(grant)?;
        let done = act();
        self.let_loose(grant);
        done
    }

    /// Has `listener` called once when the hold is lost, at once if it is. An error if it is not held.
    pub(crate) fn on_lost(&self, grant: Grant, listener: super::loss::Listener) -> Result<(), LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        self.standing(grant).or_else(|error| self.lost_before(grant).map(|_| ()).ok_or(error))?;
        let record = self.records.get(grant.index());
        // First known, then marked: whoever takes the lock away after the mark finds it.
        let early = fault!("listener-marked-before-known").then(|| record.mark_watched(grant));
        self.losses.add(grant, listener, |grant| self.is_void(grant));
        if early.unwrap_or_else(|| record.mark_watched(grant)) {
            return Ok(());
        }
        match self.lost_before(grant) {
            Some(why) => self.losses.tell(grant, why),
            None => self.losses.forget(grant),
        }
        Ok(())
    }

    /// Whether a grant is held no more, and was not lost.
    pub(super) fn is_void(&self, grant: Grant) -> bool {
        !self.records.could_be(grant.index()) || self.records.get(grant.index()).standing(grant) == Standing::Unknown
    }

    fn lost_before(&self, grant: Grant) -> Option<crate::hold::Lost> {
        if !self.records.could_be(grant.index()) {
            return None;
        }
        match self.records.get(grant.index()).standing(grant) {
            Standing::Lost(why) => Some(why),
            _ => None,
        }
    }
}
