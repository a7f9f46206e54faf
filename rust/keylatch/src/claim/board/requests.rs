//! The verbs of requests: claim, complete, cancel, progress and the lease of a grant.

use super::super::answer::{ClaimAnswer, ClaimFailure, ClaimLoss, ClaimProgress, ClaimResult};
use super::super::error::ClaimError;
use super::super::id::{ClaimGrant, ClaimRequestId};
use super::super::policy::{ClaimLine, ClaimPolicy, ClaimWhenTaken};
use super::super::session::{Request, RequestState};
use super::grants::Withdrawal;
use super::{ClaimBoard, ClaimCall, Subject};
use crate::key::{KeyRef, ObjectKey};
use std::sync::Arc;
use std::time::Duration;

impl ClaimBoard {
    /// Asks for the work of a resource.
    ///
    /// A repetition under the same number gets the stored answer, never a new claim.
    ///
    /// `Waiting` is not the end: [`ClaimEffect::Answered`](super::ClaimEffect::Answered) follows.
    ///
    /// # Errors
    /// [`ClaimError::EpochChanged`], [`ClaimError::SessionGone`], [`ClaimError::StaleRequest`],
    /// [`ClaimError::NumberInUse`], a limit, or what is wrong with key or policy.
    pub fn claim(
        &mut self,
        now: Duration,
        call: ClaimCall,
        resource: KeyRef<'_>,
        policy: &ClaimPolicy,
    ) -> Result<ClaimAnswer, ClaimError> {
        self.advance(now);
        self.check_session(call.request.session)?;
        self.check_key(resource)?;
        self.check_policy(policy)?;
        self.enter(call)?;
        let answer = match self.known(call.request, Some(resource))? {
            Some(answer) => Ok(answer),
            None => self.claim_anew(call.request, &resource.to_owned(), policy),
        };
        self.evict();
        answer
    }

    /// Returns the answer of a request that the board knows.
    fn known(&self, id: ClaimRequestId, resource: Option<KeyRef<'_>>) -> Result<Option<ClaimAnswer>, ClaimError> {
        let Some(request) = self.request(id) else { return Ok(None) };
        let Some(key) = &request.resource else { return Ok(Some(ClaimAnswer::Cancelled { grant: None })) };
        if resource.is_some_and(|resource| resource != key.as_ref()) {
            return Err(ClaimError::NumberInUse);
        }
        Ok(Some(match &request.state {
            RequestState::Answered(answer) => answer.clone(),
            RequestState::Queued { place, .. } => {
                ClaimAnswer::Waiting { ahead: self.resources.get(key).map_or(0, |found| found.line.ahead_of(*place)) }
            }
        }))
    }

    fn request(&self, id: ClaimRequestId) -> Option<&Request> {
        self.sessions.get(&id.session.number)?.requests.get(&id.number)
    }

    fn remember(&mut self, id: ClaimRequestId, request: Request) {
        if let Some(session) = self.sessions.get_mut(&id.session.number) {
            session.requests.insert(id.number, request);
        }
    }

    fn check_room(&self, id: ClaimRequestId) -> Result<(), ClaimError> {
        let limit = self.config.max_open;
        let open = self.sessions.get(&id.session.number).map_or(0, |session| session.requests.len());
        if open >= limit { Err(ClaimError::TooManyOpen { limit }) } else { Ok(()) }
    }

    fn claim_anew(
        &mut self,
        id: ClaimRequestId,
        key: &ObjectKey,
        policy: &ClaimPolicy,
    ) -> Result<ClaimAnswer, ClaimError> {
        self.check_room(id)?;
        if let Some(outcome) = self.resources.get(key).and_then(|resource| resource.outcome.clone()) {
            let answer = ClaimAnswer::Done(outcome);
            self.remember(id, Request { resource: Some(key.clone()), state: RequestState::Answered(answer.clone()) });
            return Ok(answer);
        }
        let in_line = self.resources.get(key).map_or(0, |resource| resource.line.len());
        let is_free = self.is_free(id, key);
        if !is_free && policy.when_taken == ClaimWhenTaken::Skip {
            let owner = self.resources.get(key).and_then(|resource| resource.owner.as_ref());
            let answer = ClaimAnswer::Skipped { owner: owner.map(|owner| Arc::clone(&owner.name)) };
            self.remember(id, Request { resource: Some(key.clone()), state: RequestState::Answered(answer.clone()) });
            return Ok(answer);
        }
        if !is_free {
            let makes_room = policy.line == ClaimLine::LatestOnly;
            if let Some(limit) =
                policy.max_waiting.filter(|limit| if makes_room { *limit == 0 } else { in_line >= *limit })
            {
                return Err(ClaimError::LineFull { limit });
            }
            let limit = self.config.max_waiters;
            if self.waiting - if makes_room { in_line } else { 0 } >= limit {
                return Err(ClaimError::LineFull { limit });
            }
            if makes_room {
                self.supersede(key, id);
            }
        }
        self.queue(id, key, policy);
        self.grant_next_and_publish(key);
        Ok(self.known(id, None)?.unwrap_or(ClaimAnswer::Waiting { ahead: in_line }))
    }

    /// Returns whether a new request would own the work right away.
    fn is_free(&self, id: ClaimRequestId, key: &ObjectKey) -> bool {
        use super::super::resource::Standing;
        let present =
            self.sessions.get(&id.session.number).map(|session| session.standing()) == Some(Standing::Present);
        let held_back = self.timers.get(&Subject::Quiet).is_some() || self.fences.is_empty();
        let open = self.resources.get(key).is_none_or(|resource| {
            resource.owner.is_none() && resource.not_before.is_none() && resource.line.first_present().is_none()
        });
        present && !held_back && open
    }

    fn queue(&mut self, id: ClaimRequestId, key: &ObjectKey, policy: &ClaimPolicy) {
        let Some(session) = self.sessions.get(&id.session.number) else { return };
        let standing = session.standing();
        let place = self.resource(key).line.push(id, standing);
        self.waiting += 1;
        let state = RequestState::Queued { place, policy: Box::new(policy.clone()) };
        self.remember(id, Request { resource: Some(key.clone()), state });
        self.review(key);
    }

    /// Ends all places of a resource in favour of a later request.
    fn supersede(&mut self, key: &ObjectKey, by: ClaimRequestId) {
        let line = std::mem::take(&mut self.resource(key).line);
        self.waiting -= line.len();
        for (request, _) in line.iter() {
            self.answer(request, ClaimAnswer::Superseded { by });
        }
    }

    /// Ends the work with a result.
    ///
    /// On success everyone in line is answered `Done`; on failure the first present waiter owns the work before
    /// anything is published. A repetition gets the stored answer.
    ///
    /// # Errors
    /// As [`claim`](Self::claim); [`ClaimError::NotYours`] if the grant is not the request's.
    pub fn complete(
        &mut self,
        now: Duration,
        call: ClaimCall,
        grant: ClaimGrant,
        result: ClaimResult,
    ) -> Result<ClaimAnswer, ClaimError> {
        self.advance(now);
        self.check_session(call.request.session)?;
        self.check_text("note", result.as_ref().unwrap_or_else(|reason| reason))?;
        self.enter(call)?;
        let answer = match self.owned_by(call.request, grant) {
            Ok(key) => {
                match result.clone() {
                    Ok(note) => self.succeed(&key, note),
                    Err(reason) => {
                        self.fail(&key, ClaimFailure::Reported(reason), ClaimAnswer::Ended(result.clone()));
                    }
                }
                Ok(ClaimAnswer::Ended(result))
            }
            Err(Some(answer)) if answer.is_final() => Ok(answer),
            Err(answer) => Err(ClaimError::NotYours { answer }),
        };
        self.evict();
        answer
    }

    /// Returns the resource that the request owns by this grant.
    ///
    /// Otherwise what the board knows of the request.
    fn owned_by(&self, id: ClaimRequestId, grant: ClaimGrant) -> Result<ObjectKey, Option<ClaimAnswer>> {
        match (self.request(id).and_then(|request| request.resource.clone()), self.known(id, None).ok().flatten()) {
            (Some(key), Some(ClaimAnswer::Yours(owned))) if owned.grant == grant => Ok(key),
            (_, answer) => Err(answer),
        }
    }

    /// Gives a request up: its place, or its grant, which then has failed.
    ///
    /// A claim of that number that is still on its way finds the cancellation and has no effect.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub fn cancel(&mut self, now: Duration, call: ClaimCall) -> Result<ClaimAnswer, ClaimError> {
        self.advance(now);
        self.enter(call)?;
        let id = call.request;
        if self.request(id).is_none() {
            self.check_room(id)?;
            let state = RequestState::Answered(ClaimAnswer::Cancelled { grant: None });
            self.remember(id, Request { resource: None, state });
        }
        self.withdraw(id.session.number, &[id.number], Withdrawal::Cancelled);
        let answer = self.known(id, None)?.unwrap_or(ClaimAnswer::Cancelled { grant: None });
        self.evict();
        Ok(answer)
    }

    /// The stored answer of a request, or `None` if the board has not heard of it.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub fn look_up(&mut self, now: Duration, id: ClaimRequestId) -> Result<Option<ClaimAnswer>, ClaimError> {
        self.advance(now);
        self.check_session(id.session)?;
        self.known(id, None)
    }

    /// Reports how far the owner is.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub fn progress(
        &mut self,
        now: Duration,
        call: ClaimCall,
        grant: ClaimGrant,
        progress: ClaimProgress,
    ) -> Result<(), ClaimError> {
        use super::super::event::ClaimChange;
        self.advance(now);
        self.check_session(call.request.session)?;
        self.check_text("address", &progress.address)?;
        self.enter(call)?;
        let key = self.owned_by(call.request, grant).map_err(|answer| ClaimError::NotYours { answer })?;
        if let Some(owner) = &mut self.resource(&key).owner {
            owner.progress = progress.clone();
        }
        self.publish(&key, ClaimChange::Progress { fence: grant.fence, progress });
        Ok(())
    }

    /// Lets the lease of a grant begin again, with a new length.
    ///
    /// `None` is for as long as the session.
    ///
    /// # Errors
    /// As [`complete`](Self::complete); [`ClaimError::InvalidTtl`].
    pub fn renew_grant(
        &mut self,
        now: Duration,
        call: ClaimCall,
        grant: ClaimGrant,
        lease: Option<Duration>,
    ) -> Result<(), ClaimError> {
        self.advance(now);
        self.check_session(call.request.session)?;
        self.check_ttl(lease)?;
        self.enter(call)?;
        let key = self.owned_by(call.request, grant).map_err(|answer| ClaimError::NotYours { answer })?;
        let ends = lease.map(|lease| self.now.saturating_add(lease));
        self.timers.set(&Subject::Lease(key), ends);
        Ok(())
    }

    /// How long the lease of a grant lasts: `None` within for as long as the session.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub fn remaining(
        &mut self,
        now: Duration,
        id: ClaimRequestId,
        grant: ClaimGrant,
    ) -> Result<Option<Duration>, ClaimError> {
        self.advance(now);
        self.check_session(id.session)?;
        let key = self.owned_by(id, grant).map_err(|answer| ClaimError::NotYours { answer })?;
        Ok(self.timers.get(&Subject::Lease(key)).map(|at| at.saturating_sub(self.now)))
    }

    /// Ends the owner's grant as a failure, whatever was promised.
    ///
    /// Returns the grant that ended.
    pub fn force_release(&mut self, now: Duration, resource: KeyRef<'_>) -> Option<ClaimGrant> {
        self.advance(now);
        let key = resource.to_owned();
        let grant = self.resources.get(&key)?.owner.as_ref()?.owned.grant;
        self.lose_grant(&key, ClaimLoss::ForceReleased);
        self.evict();
        Some(grant)
    }

    /// Drops a retained outcome, so that the next request does the work again.
    ///
    /// `false` if none is retained.
    pub fn forget(&mut self, now: Duration, resource: KeyRef<'_>) -> bool {
        self.advance(now);
        let key = resource.to_owned();
        let retained = self.resources.get(&key).is_some_and(|resource| resource.outcome.is_some());
        if retained {
            self.forget_outcome(&key);
        }
        retained
    }
}
