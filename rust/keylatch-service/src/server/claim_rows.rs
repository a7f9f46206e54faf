//! The JSON of claims: rows of listings and events.

use super::claim_wire::{OutcomeBody, ResourceBody, grant_text};
use super::texts::session_text;
use keylatch::claim::{
    ClaimChange, ClaimFailure, ClaimOwned, ClaimOwnerInfo, ClaimPlaceInfo, ClaimProgress, ClaimRequestId, ClaimSnapshot,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

/// Waiting requests that a row of `GET /v1/claims` names.
const NAMED_WAITERS: usize = 8;

/// How far an owner has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressRow {
    /// Units done.
    pub done: u64,
    /// Units in all; 0 if that is unknown.
    pub total: u64,
    /// Where to look at the work; may be empty.
    pub address: String,
}

impl From<&ClaimProgress> for ProgressRow {
    fn from(progress: &ClaimProgress) -> Self {
        Self { done: progress.done, total: progress.total, address: progress.address.to_string() }
    }
}

/// Who does the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimOwnerRow {
    /// The owner's label.
    pub owner: String,
    /// The session.
    pub session: String,
    /// The request's number.
    pub request_id: u64,
    /// The grant.
    pub grant: String,
    /// Its fence.
    pub fence: u64,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// For how long it has owned the work.
    pub owned_ms: u64,
    /// How far it is.
    pub progress: ProgressRow,
}

impl ClaimOwnerRow {
    fn new(owner: &ClaimOwnerInfo, now: Duration) -> Self {
        let session = owner.request.session;
        Self {
            owner: owner.name.to_string(),
            session: session_text(session.epoch, session.number),
            request_id: owner.request.number,
            grant: grant_text(owner.owned.grant),
            fence: owner.owned.grant.fence,
            attempt: owner.owned.attempt,
            owned_ms: now.saturating_sub(owner.since).as_millis() as u64,
            progress: (&owner.progress).into(),
        }
    }
}

/// A request in line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimWaiterRow {
    /// The owner's label.
    pub owner: String,
    /// The session.
    pub session: String,
    /// The request's number.
    pub request_id: u64,
    /// Whether its stream is cut, so that it is passed over for now.
    pub cut: bool,
}

impl From<&ClaimPlaceInfo> for ClaimWaiterRow {
    fn from(place: &ClaimPlaceInfo) -> Self {
        let session = place.request.session;
        Self {
            owner: place.name.to_string(),
            session: session_text(session.epoch, session.number),
            request_id: place.request.number,
            cut: place.dormant,
        }
    }
}

/// A row of `GET /v1/claims`: a resource with an owner, a line or an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// What is claimed.
    pub resource: ResourceBody,
    /// `owned`, `waiting` for the next attempt, `done` or `failed` for good.
    pub state: Cow<'static, str>,
    /// Who does the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_by: Option<ClaimOwnerRow>,
    /// The first in line, at most eight.
    pub waiters: Vec<ClaimWaiterRow>,
    /// How many wait.
    pub waiting: usize,
    /// The outcome that is retained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeBody>,
    /// How long ago that came about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome_ms: Option<u64>,
}

impl ClaimRow {
    pub(super) fn new(claim: &ClaimSnapshot, now: Duration) -> Self {
        let state = match (&claim.owner, &claim.outcome) {
            (Some(_), _) => "owned",
            (None, Some(outcome)) if outcome.result.is_ok() => "done",
            (None, Some(_)) => "failed",
            (None, None) => "waiting",
        };
        Self {
            resource: (&claim.resource).into(),
            state: state.into(),
            owned_by: claim.owner.as_ref().map(|owner| ClaimOwnerRow::new(owner, now)),
            waiters: claim.waiting.iter().take(NAMED_WAITERS).map(ClaimWaiterRow::from).collect(),
            waiting: claim.waiting.len() + claim.more_waiting,
            outcome: claim.outcome.as_deref().map(OutcomeBody::from),
            outcome_ms: claim.outcome.as_ref().map(|outcome| now.saturating_sub(outcome.at).as_millis() as u64),
        }
    }
}

/// The `reset` event of a resource: its state, as of the event's number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimResetBody {
    /// The server's epoch.
    pub epoch: u64,
    /// The state.
    #[serde(flatten)]
    pub claim: ClaimRow,
}

/// A request that an event names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestName {
    /// The session.
    pub session: String,
    /// The request's number.
    pub request_id: u64,
}

impl From<ClaimRequestId> for RequestName {
    fn from(request: ClaimRequestId) -> Self {
        Self { session: session_text(request.session.epoch, request.session.number), request_id: request.number }
    }
}

/// An event of `GET /v1/events?resource=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimEventBody {
    /// `granted`, `failed`, `done`, `progress` or `forgotten`.
    pub event: Cow<'static, str>,
    /// When granted: to which request. It need not ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestName>,
    /// When granted: the owner's label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When granted: the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// When granted, failed or in progress: the attempt's fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// When granted: the attempt's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// When granted: whether the server knows of no earlier attempt since its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_in_epoch: Option<bool>,
    /// When failed: `reported`, `cancelled`, or how the grant was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// When failed: what the owner reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When failed: who owns the work now; its `granted` is the next event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<RequestName>,
    /// When failed: for how long the next attempt is held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// When done: the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeBody>,
    /// When in progress: how far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressRow>,
}

impl From<&ClaimChange> for ClaimEventBody {
    fn from(change: &ClaimChange) -> Self {
        match change {
            ClaimChange::Granted { request, owner, owned } => Self::granted(*request, owner, owned),
            ClaimChange::Failed { fence, reason, next, retry_after } => Self {
                fence: Some(*fence),
                reason: Some(match reason {
                    ClaimFailure::Reported(_) => "reported".into(),
                    ClaimFailure::Lost(loss) => loss.word().into(),
                    ClaimFailure::Cancelled => "cancelled".into(),
                }),
                error: match reason {
                    ClaimFailure::Reported(text) => Some(text.to_string()),
                    _ => None,
                },
                next: next.map(RequestName::from),
                retry_after_ms: Some(retry_after.as_millis() as u64),
                ..Self::named("failed")
            },
            ClaimChange::Done { outcome } => Self { outcome: Some((&**outcome).into()), ..Self::named("done") },
            ClaimChange::Progress { fence, progress } => {
                Self { fence: Some(*fence), progress: Some(progress.into()), ..Self::named("progress") }
            }
            ClaimChange::Forgotten => Self::named("forgotten"),
        }
    }
}

impl ClaimEventBody {
    fn named(event: &'static str) -> Self {
        Self {
            event: event.into(),
            request: None,
            owner: None,
            grant: None,
            fence: None,
            attempt: None,
            first_in_epoch: None,
            reason: None,
            error: None,
            next: None,
            retry_after_ms: None,
            outcome: None,
            progress: None,
        }
    }

    fn granted(request: ClaimRequestId, owner: &str, owned: &ClaimOwned) -> Self {
        Self {
            request: Some(request.into()),
            owner: Some(owner.to_owned()),
            grant: Some(grant_text(owned.grant)),
            fence: Some(owned.grant.fence),
            attempt: Some(owned.attempt),
            first_in_epoch: Some(owned.first_in_epoch),
            ..Self::named("granted")
        }
    }
}
