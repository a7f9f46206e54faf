//! How ownership moves: the next grant, the end of a grant, the outcome.

use super::super::answer::{
    ClaimAnswer, ClaimFailure, ClaimLoss, ClaimOutcome, ClaimOwned, ClaimProgress, ClaimResult,
};
use super::super::event::ClaimChange;
use super::super::id::{ClaimGrant, ClaimRequestId, ClaimSessionId};
use super::super::resource::Owner;
use super::super::session::RequestState;
use super::{ClaimBoard, ClaimEffect, Subject};
use crate::key::ObjectKey;
use std::sync::Arc;
use std::time::Duration;

impl ClaimBoard {
    /// Stores a request's answer and has it delivered.
    pub(super) fn answer(&mut self, request: ClaimRequestId, answer: ClaimAnswer) {
        let session = self.sessions.get_mut(&request.session.number);
        if let Some(stored) = session.and_then(|session| session.requests.get_mut(&request.number)) {
            stored.state = RequestState::Answered(answer.clone());
        }
        self.effects.push(ClaimEffect::Answered { request, answer });
    }

    /// Gives the first present waiter the work, if it can be given now.
    ///
    /// Publishes nothing.
    fn grant_next(&mut self, key: &ObjectKey) -> Option<ClaimRequestId> {
        let held_back = self.timers.get(&Subject::Quiet).is_some() || self.fences.is_empty();
        let now = self.now;
        let resource = self.resource(key);
        if held_back || resource.owner.is_some() || resource.not_before.is_some() {
            return None;
        }
        let (place, request) = resource.line.first_present()?;
        resource.line.remove(place);
        let (attempt, first_in_epoch) = (resource.failed_attempts.saturating_add(1), !resource.granted_before);
        resource.granted_before = true;
        let grant = ClaimGrant { epoch: self.epoch, fence: self.fences.start };
        self.fences.start += 1;
        self.waiting -= 1;
        self.owned += 1;
        let owned = ClaimOwned { request, grant, attempt, first_in_epoch };
        let session = self.sessions.get_mut(&request.session.number).expect("a place belongs to a live session");
        let stored = session.requests.get_mut(&request.number).expect("a place belongs to a request");
        let state = std::mem::replace(&mut stored.state, RequestState::Answered(ClaimAnswer::Yours(owned)));
        let RequestState::Queued { policy, .. } = state else { unreachable!("only a queued request has a place") };
        let name = Arc::clone(&session.owner);
        self.timers.set(&Subject::Lease(key.clone()), policy.lease.map(|lease| now.saturating_add(lease)));
        let progress = ClaimProgress::default();
        self.resource(key).owner = Some(Owner { request, name, owned, policy, progress, since: now });
        self.effects.push(ClaimEffect::Answered { request, answer: ClaimAnswer::Yours(owned) });
        self.review(key);
        Some(request)
    }

    /// Publishes the grant that `grant_next` made.
    fn publish_granted(&mut self, key: &ObjectKey) {
        let Some(owner) = &self.resource(key).owner else { return };
        let (request, owned, owner) = (owner.request, owner.owned, Arc::clone(&owner.name));
        self.publish(key, ClaimChange::Granted { request, owner, owned });
    }

    pub(super) fn grant_next_and_publish(&mut self, key: &ObjectKey) {
        if self.grant_next(key).is_some() {
            self.publish_granted(key);
        }
    }

    /// Gives out all work that lay idle for a reason of the board's.
    pub(super) fn grant_everywhere(&mut self) {
        let idle = |(key, resource): (&ObjectKey, &super::Resource)| {
            (resource.owner.is_none() && resource.line.len() > 0).then(|| key.clone())
        };
        let keys: Vec<ObjectKey> = self.resources.iter().filter_map(idle).collect();
        keys.iter().for_each(|key| self.grant_next_and_publish(key));
    }

    /// Ends the owner's grant as a failure.
    ///
    /// The next owner is in place before anything is published.
    pub(super) fn fail(&mut self, key: &ObjectKey, reason: ClaimFailure, stored: ClaimAnswer) {
        let now = self.now;
        let resource = self.resource(key);
        let Some(owner) = resource.owner.take() else { return };
        let attempt = owner.owned.attempt;
        let used_up = owner.policy.max_attempts.is_some_and(|most| attempt >= most);
        let retry_after = if used_up { Duration::ZERO } else { owner.policy.retry_after };
        resource.failed_attempts = attempt;
        resource.not_before = (!retry_after.is_zero()).then(|| now.saturating_add(retry_after));
        let not_before = resource.not_before;
        self.owned -= 1;
        self.timers.set(&Subject::Lease(key.clone()), None);
        self.timers.set(&Subject::Retry(key.clone()), not_before);
        self.answer(owner.request, stored);
        let fence = owner.owned.grant.fence;
        if used_up {
            let text: Arc<str> = reason.to_string().into();
            let outcome = self.retain(key, &owner, Err(text));
            self.publish(key, ClaimChange::Failed { fence, reason, next: None, retry_after });
            self.publish(key, ClaimChange::Done { outcome });
            return;
        }
        let next = self.grant_next(key);
        self.publish(key, ClaimChange::Failed { fence, reason, next, retry_after });
        if next.is_some() {
            self.publish_granted(key);
        }
        self.review(key);
    }

    /// Ends the owner's grant because it lost it.
    pub(super) fn lose_grant(&mut self, key: &ObjectKey, loss: ClaimLoss) {
        self.fail(key, ClaimFailure::Lost(loss), ClaimAnswer::Lost(loss));
    }

    /// Ends the owner's grant with a success.
    pub(super) fn succeed(&mut self, key: &ObjectKey, note: Arc<str>) {
        let Some(owner) = self.resource(key).owner.take() else { return };
        self.owned -= 1;
        self.timers.set(&Subject::Lease(key.clone()), None);
        self.answer(owner.request, ClaimAnswer::Ended(Ok(Arc::clone(&note))));
        let outcome = self.retain(key, &owner, Ok(note));
        self.publish(key, ClaimChange::Done { outcome });
    }

    /// Retains an outcome and answers everyone in line with it.
    fn retain(&mut self, key: &ObjectKey, owner: &Owner, result: ClaimResult) -> Arc<ClaimOutcome> {
        let outcome = Arc::new(ClaimOutcome {
            result,
            grant: owner.owned.grant,
            attempt: owner.owned.attempt,
            owner: Arc::clone(&owner.name),
            at: self.now,
        });
        let forgotten_at = self.now.saturating_add(self.config.retain_for);
        let resource = self.resource(key);
        resource.outcome = Some(Arc::clone(&outcome));
        resource.failed_attempts = 0;
        let line = std::mem::take(&mut resource.line);
        self.waiting -= line.len();
        self.timers.set(&Subject::Retention(key.clone()), Some(forgotten_at));
        for (request, _) in line.iter() {
            self.answer(request, ClaimAnswer::Done(Arc::clone(&outcome)));
        }
        self.review(key);
        outcome
    }

    /// Drops a retained outcome.
    pub(super) fn forget_outcome(&mut self, key: &ObjectKey) {
        self.timers.set(&Subject::Retention(key.clone()), None);
        let Some(resource) = self.resources.get_mut(key) else { return };
        resource.failed_attempts = 0;
        if resource.outcome.take().is_some() {
            self.publish(key, ClaimChange::Forgotten);
        }
    }

    /// Ends requests of one session: first all its places, then its grants.
    ///
    /// So no grant goes to a place of its own that ends as well.
    pub(super) fn withdraw(&mut self, session: u64, numbers: &[u64], why: Withdrawal) {
        let id = ClaimSessionId { epoch: self.epoch, number: session };
        let mut owned = Vec::new();
        for &number in numbers {
            let request = ClaimRequestId { session: id, number };
            let Some(stored) = self.sessions.get(&session).and_then(|session| session.requests.get(&number)) else {
                continue;
            };
            let Some(key) = stored.resource.clone() else { continue };
            match &stored.state {
                RequestState::Queued { place, .. } => {
                    let place = *place;
                    self.resource(&key).line.remove(place);
                    self.waiting -= 1;
                    self.review(&key);
                    self.answer(request, why.answer(None));
                }
                RequestState::Answered(ClaimAnswer::Yours(mine)) => owned.push((key, mine.grant)),
                RequestState::Answered(_) => {}
            }
        }
        for (key, grant) in owned {
            self.fail(&key, why.failure(), why.answer(Some(grant)));
        }
    }
}

/// Why requests of a session end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Withdrawal {
    Cancelled,
    Lost(ClaimLoss),
}

impl Withdrawal {
    fn answer(self, grant: Option<ClaimGrant>) -> ClaimAnswer {
        match self {
            Self::Cancelled => ClaimAnswer::Cancelled { grant },
            Self::Lost(loss) => ClaimAnswer::Lost(loss),
        }
    }

    fn failure(self) -> ClaimFailure {
        match self {
            Self::Cancelled => ClaimFailure::Cancelled,
            Self::Lost(loss) => ClaimFailure::Lost(loss),
        }
    }
}
