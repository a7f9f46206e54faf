//! Errors as RFC 9457 problem documents.

use super::wire::HolderRow;
use crate::machine::{Limit, Refusal};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keylatch::claim::{ClaimAnswer, ClaimError};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

/// Numbers that errors have in `keylatch.h`.
pub(super) mod code {
    pub(crate) const WOULD_BLOCK: i32 = -2;
    pub(crate) const CANCELLED: i32 = -4;
    pub(crate) const CLOSED: i32 = -5;
    pub(crate) const NOT_HELD: i32 = -6;
    pub(crate) const LEASE_LOST: i32 = -7;
    pub(crate) const TABLE_FULL: i32 = -8;
    pub(crate) const KEY: i32 = -9;
    pub(crate) const CONFIG: i32 = -10;
    pub(crate) const WAITERS: i32 = -13;
    pub(crate) const SESSION: i32 = -20;
    pub(crate) const EPOCH: i32 = -21;
    pub(crate) const STALE: i32 = -22;
    pub(crate) const NUMBER: i32 = -23;
    pub(crate) const OPEN: i32 = -24;
    pub(crate) const SESSIONS: i32 = -25;
    pub(crate) const INVALID: i32 = -101;
    pub(crate) const SYSTEM: i32 = -105;
}

/// An error as the service answers it: `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:keylatch:problem:` and the error's name.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// The error in a few words.
    pub title: Cow<'static, str>,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do about it.
    pub detail: String,
    /// The error's number in `keylatch.h`, where the library has one for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The server's epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Who holds the keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<HolderRow>,
    /// Why a hold was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// When the same call may succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

const PREFIX: &str = "urn:keylatch:problem:";

impl Problem {
    /// Makes a problem from its name, its status and what to say.
    #[must_use]
    pub fn new(name: &'static str, status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{PREFIX}{name}").into(),
            title: name.replace('_', " ").into(),
            status: status.as_u16(),
            detail: detail.into(),
            code: None,
            epoch: None,
            holders: Vec::new(),
            reason: None,
            retry_after_ms: None,
        }
    }

    /// Returns the error's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.kind.strip_prefix(PREFIX).unwrap_or(&self.kind)
    }

    pub(super) fn code(self, code: i32) -> Self {
        Self { code: Some(code), ..self }
    }

    pub(super) fn epoch(self, epoch: u64) -> Self {
        Self { epoch: Some(epoch), ..self }
    }

    fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after_ms: Some(wait.as_millis() as u64), ..self }
    }

    /// Says what is wrong with what the client sent.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new("invalid_request", StatusCode::BAD_REQUEST, detail).code(code::INVALID)
    }

    /// Says why the machine refused.
    pub(super) fn of(refusal: &Refusal, epoch: u64) -> Self {
        Self::of_refusal(refusal).epoch(epoch)
    }

    fn of_refusal(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::EpochChanged => Self::new(
                "epoch_changed",
                StatusCode::CONFLICT,
                "the server has started anew since this session was opened, and every lock of it is void; open a session \
                 and ask again",
            )
            .code(code::EPOCH),
            Refusal::SessionGone => Self::new(
                "session_gone",
                StatusCode::GONE,
                "the session has ended and its locks are released; open another one, and renew it in time",
            )
            .code(code::SESSION),
            Refusal::UnknownSession => {
                Self::new("unknown_session", StatusCode::NOT_FOUND, "there is no such session for this client")
                    .code(code::SESSION)
            }
            Refusal::StaleRequest { settled_below } => Self::new(
                "stale_request",
                StatusCode::CONFLICT,
                format!("the client said that numbers below {settled_below} have settled; use a new number"),
            )
            .code(code::STALE),
            Refusal::NumberReused => Self::new(
                "number_reused",
                StatusCode::CONFLICT,
                "this request_id was used for other keys; each request has a number of its own",
            )
            .code(code::NUMBER),
            Refusal::SessionCut => Self::new(
                "session_cut",
                StatusCode::CONFLICT,
                "the session's stream is cut: attach again, or let the request wait",
            )
            .code(code::WOULD_BLOCK),
            Refusal::NotHeld => {
                Self::new("not_held", StatusCode::NOT_FOUND, "this request holds nothing").code(code::NOT_HELD)
            }
            Refusal::StillQueued => {
                Self::new("still_queued", StatusCode::CONFLICT, "this request waits; end that with /v1/cancel")
                    .code(code::NOT_HELD)
            }
            Refusal::OtherGrant => {
                Self::new("other_grant", StatusCode::CONFLICT, "the grant is not this request's; nothing was released")
                    .code(code::NOT_HELD)
            }
            Refusal::Full { what, limit } => Self::full(*what, *limit),
            Refusal::BadTtl { least, most } => {
                let (least, most) = (least.as_millis(), most.as_millis());
                Self::invalid(format!("ttl_ms is from {least} to {most} on this server")).code(code::CONFIG)
            }
            Refusal::Quiet { wait } => Self::new(
                "quiet_period",
                StatusCode::SERVICE_UNAVAILABLE,
                "the server started after a crash, and clients of before may still believe in their locks",
            )
            .code(code::WOULD_BLOCK)
            .retry_after(*wait),
            Refusal::NoFences => Self::new(
                "no_fences",
                StatusCode::SERVICE_UNAVAILABLE,
                "the server cannot write its state file; its log says why",
            )
            .code(code::SYSTEM)
            .retry_after(Duration::from_secs(1)),
            Refusal::Closing => Self::new("closing", StatusCode::SERVICE_UNAVAILABLE, "the server is about to stop")
                .code(code::CLOSED)
                .retry_after(Duration::from_secs(1)),
            Refusal::Claim(error) => Self::of_claim(error),
        }
    }

    fn of_claim(error: &ClaimError) -> Self {
        let (name, status) = match error {
            ClaimError::NotYours { answer: None } => ("not_held", StatusCode::NOT_FOUND),
            ClaimError::NotYours { answer: Some(ClaimAnswer::Yours(_)) } => ("other_grant", StatusCode::CONFLICT),
            ClaimError::NotYours { answer: Some(ClaimAnswer::Waiting { .. }) } => {
                ("still_queued", StatusCode::CONFLICT)
            }
            ClaimError::NotYours { answer: Some(answer) } => return not_owned(0, answer),
            ClaimError::LineFull { .. } => ("line_full", StatusCode::CONFLICT),
            ClaimError::Closed => ("closing", StatusCode::SERVICE_UNAVAILABLE),
            _ => return Self::invalid(error.to_string()).code(error.code()),
        };
        Self::new(name, status, error.to_string()).code(error.code())
    }

    fn full(what: Limit, limit: usize) -> Self {
        let (name, status, code, advice) = match what {
            Limit::Sessions => ("too_many_sessions", 503, code::SESSIONS, "end some, or raise --max-sessions"),
            Limit::Waiters => ("too_many_waiters", 503, code::WAITERS, "try again later, or raise --max-waiters"),
            Limit::Keys => ("too_many_keys", 503, code::TABLE_FULL, "release some, or raise --max-keys"),
            Limit::OpenRequests => {
                ("too_many_open_requests", 429, code::OPEN, "say with settled_below which have their answer")
            }
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        Self::new(name, status, format!("the limit is {limit}; {advice}")).code(code)
    }
}

/// Returns the problem that an answer is for a client that wants to own the work.
pub(super) fn not_owned(epoch: u64, answer: &ClaimAnswer) -> Problem {
    let conflict = |name, detail: &str| Problem::new(name, StatusCode::CONFLICT, detail).epoch(epoch);
    match answer {
        ClaimAnswer::Lost(loss) => Problem {
            reason: Some(loss.word().into()),
            ..conflict("claim_lost", &format!("the work is no longer this request's: {loss}")).code(code::LEASE_LOST)
        },
        ClaimAnswer::Cancelled { .. } => {
            conflict("cancelled", "this request was cancelled; use another number").code(code::CANCELLED)
        }
        _ => conflict("not_yours", "the work is not this request's; claim it first").code(code::NOT_HELD),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.div_ceil(1000)));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
