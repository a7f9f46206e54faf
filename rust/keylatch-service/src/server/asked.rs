//! What the calls about locks, claims and sessions have in common.

use super::problem::{Problem, code};
use super::wire::{HolderRow, RequestBody};
use crate::machine::{Answer, Grant, SessionName};
use keylatch::ObjectKey;
use std::time::Duration;

/// No call is parked for longer: proxies cut connections silent for a minute.
const LONGEST_POLL: Duration = Duration::from_secs(30);

/// What a call leaves of the client's timeout, for the way back.
const POLL_MARGIN: Duration = Duration::from_secs(2);

/// Returns the name of the session that a client named.
pub(super) fn name_of(session: &str) -> Result<SessionName, Problem> {
    session.parse().map_err(|()| Problem::invalid("session is not what POST /v1/sessions answered"))
}

/// Says what is wrong with a key.
pub(super) fn check_key(limit: usize, key: &ObjectKey) -> Result<(), Problem> {
    let bytes = key.as_ref().byte_len();
    if bytes > limit {
        let detail = format!("the key {key:#} has {bytes} bytes and may have {limit}");
        return Err(Problem { code: Some(code::KEY), ..Problem::invalid(detail) });
    }
    if key.bucket().is_empty() || key.object().is_empty() {
        return Err(Problem { code: Some(code::KEY), ..Problem::invalid("bucket and object are not empty") });
    }
    Ok(())
}

/// Shorter than the client's patience: it learns its place instead of giving up.
pub(super) fn poll_time(wait_ms: u64, client_timeout_ms: Option<u64>) -> Duration {
    let wanted = Duration::from_millis(wait_ms).min(LONGEST_POLL);
    match client_timeout_ms.map(Duration::from_millis) {
        None => wanted,
        Some(timeout) => wanted.min(timeout.saturating_sub(POLL_MARGIN).max(timeout / 2)),
    }
}

/// Returns what became of a number, as JSON.
pub(super) fn request_body(session: SessionName, number: u64, answer: &Answer, valid: Duration) -> RequestBody {
    let state = |state: &'static str| RequestBody {
        epoch: session.epoch,
        session: session.to_string(),
        request_id: number,
        state: state.into(),
        grant: None,
        fence: None,
        valid_ms: None,
        place: None,
        holders: Vec::new(),
        reason: None,
    };
    let with_grant =
        |word, grant: Grant| RequestBody { grant: Some(grant.to_string()), fence: Some(grant.fence), ..state(word) };
    match answer {
        Answer::Granted { grant } => {
            RequestBody { valid_ms: Some(valid.as_millis() as u64), ..with_grant("granted", *grant) }
        }
        Answer::Waiting { place, holders } => RequestBody {
            place: Some(*place),
            holders: holders.iter().map(HolderRow::from).collect(),
            ..state("waiting")
        },
        Answer::Refused { holders } => {
            RequestBody { holders: holders.iter().map(HolderRow::from).collect(), ..state("refused") }
        }
        Answer::TooLarge => state("too_large"),
        Answer::Ended { grant } => with_grant("ended", *grant),
        Answer::Cancelled { grant } => grant.map_or_else(|| state("cancelled"), |grant| with_grant("cancelled", grant)),
        Answer::Lost { grant, reason } => {
            RequestBody { reason: Some(reason.as_str().into()), ..with_grant("lost", *grant) }
        }
    }
}
