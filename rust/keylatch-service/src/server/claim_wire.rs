//! The JSON of claims: requests and answers.

use super::texts::{first_number, joined_key, key_parts, session_text};
use keylatch::ObjectKey;
use keylatch::claim::{ClaimAnswer, ClaimGrant, ClaimOutcome};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceBody {
    /// The bucket.
    pub bucket: String,
    /// The object's name in its bucket.
    pub object: String,
    /// The version; none for the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl From<&ObjectKey> for ResourceBody {
    fn from(key: &ObjectKey) -> Self {
        let (bucket, object, version) = key_parts(key);
        Self { bucket, object, version }
    }
}

impl From<&ResourceBody> for ObjectKey {
    fn from(body: &ResourceBody) -> Self {
        joined_key(&body.bucket, &body.object, body.version.as_deref())
    }
}

/// `POST /v1/claim`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimBody {
    /// The session. Without one, the request gets a session that ends with its lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The request's number in its session, common to locks and claims. Default: 1.
    #[serde(default = "first_number")]
    pub request_id: u64,
    /// What is claimed.
    pub resource: ResourceBody,
    /// For how long this call waits for an answer.
    ///
    /// Its end keeps the place. Default: 0.
    #[serde(default)]
    pub wait_ms: u64,
    /// When the client gives up this call; the server answers in time before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_timeout_ms: Option<u64>,
    /// If this request's attempt has that number and fails, that is the outcome.
    ///
    /// All who wait get it.
    ///
    /// They get it as the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// For how long the next attempt is held back when this request's attempt fails.
    ///
    /// Default: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry_after_ms: u64,
    /// Answers `skipped` where the work is another's, instead of taking a place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_if_claimed: bool,
    /// Takes the places of all that wait: they are answered `superseded`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub latest_only: bool,
    /// How many may be in line for this one to join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_waiting: Option<usize>,
    /// How long the grant lasts unless `/v1/progress` renews it.
    ///
    /// Default: as long as the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Without a session: the label of the one that is made. Default: empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Without a session: its lease. Default: 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Each lower number has its answer or was given up.
    #[serde(default)]
    pub settled_below: u64,
}

/// `POST /v1/complete`: with `note` a success, with `error` a failure.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompleteBody {
    /// The session.
    pub session: String,
    /// The number of the claim. Default: 1.
    #[serde(default = "first_number")]
    pub request_id: u64,
    /// The grant, as `/v1/claim` answered it.
    pub grant: String,
    /// The work succeeded; what those who wait are to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The work failed, for this reason; the next in line owns it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Each lower number has its answer or was given up.
    #[serde(default)]
    pub settled_below: u64,
}

/// `POST /v1/progress`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgressBody {
    /// The session.
    pub session: String,
    /// The number of the claim. Default: 1.
    #[serde(default = "first_number")]
    pub request_id: u64,
    /// The grant, as `/v1/claim` answered it.
    pub grant: String,
    /// Units done, such as bytes. Without it only the lease is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// Units in all; 0 if that is unknown. Default: 0.
    #[serde(default)]
    pub total: u64,
    /// Where to look at the work, such as a URL. Default: empty.
    #[serde(default)]
    pub address: String,
    /// The lease of the grant begins again with this length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Each lower number has its answer or was given up.
    #[serde(default)]
    pub settled_below: u64,
}

/// The answer to `POST /v1/progress`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProgressedBody {
    /// The server's epoch.
    pub epoch: u64,
    /// For how long the grant is safe, from the moment this call was sent.
    pub valid_ms: u64,
}

/// The end of a resource's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeBody {
    /// The note of a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The reason of the last failure, where the attempts were used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The grant of the attempt.
    pub grant: String,
    /// Its fence.
    pub fence: u64,
    /// The attempt's number.
    pub attempt: u32,
    /// The owner's label.
    pub owner: String,
}

impl From<&ClaimOutcome> for OutcomeBody {
    fn from(outcome: &ClaimOutcome) -> Self {
        let (note, error) = note_or_error(&outcome.result);
        Self {
            note,
            error,
            grant: grant_text(outcome.grant),
            fence: outcome.grant.fence,
            attempt: outcome.attempt,
            owner: outcome.owner.to_string(),
        }
    }
}

fn note_or_error(result: &keylatch::claim::ClaimResult) -> (Option<String>, Option<String>) {
    match result {
        Ok(note) => (Some(note.to_string()), None),
        Err(reason) => (None, Some(reason.to_string())),
    }
}

pub(super) fn grant_text(grant: ClaimGrant) -> String {
    crate::machine::Grant { epoch: grant.epoch, fence: grant.fence }.to_string()
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedBody {
    /// The server's epoch.
    pub epoch: u64,
    /// The session.
    pub session: String,
    /// The request's number.
    pub request_id: u64,
    /// `yours`, `waiting`, `done`, `ended`, `lost`, or one of those below.
    ///
    /// Those are `skipped`, `superseded` and `cancelled`.
    pub state: Cow<'static, str>,
    /// When yours: what completes it. When cancelled: the grant that ended with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The grant's fence: greater than that of every grant before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// When yours: 1 for the first attempt, one more after each failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// When yours: whether the server knows of no earlier attempt since its start.
    ///
    /// Look at the artefact first then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_in_epoch: Option<bool>,
    /// When yours: how long the grant is safe from the sending of this call.
    ///
    /// That is by the renewals so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_ms: Option<u64>,
    /// When waiting: 1 is next in line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<usize>,
    /// When done: the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeBody>,
    /// When ended with a success: its note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When ended with a failure: its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When lost: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// When skipped: whose the work is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

impl ClaimedBody {
    pub(super) fn new(epoch: u64, session: u64, number: u64, answer: &ClaimAnswer) -> Self {
        let body = |state: &'static str| Self {
            epoch,
            session: session_text(epoch, session),
            request_id: number,
            state: state.into(),
            grant: None,
            fence: None,
            attempt: None,
            first_in_epoch: None,
            valid_ms: None,
            place: None,
            outcome: None,
            note: None,
            error: None,
            reason: None,
            owner: None,
        };
        match answer {
            ClaimAnswer::Waiting { ahead } => Self { place: Some(ahead + 1), ..body("waiting") },
            ClaimAnswer::Yours(owned) => Self {
                grant: Some(grant_text(owned.grant)),
                fence: Some(owned.grant.fence),
                attempt: Some(owned.attempt),
                first_in_epoch: Some(owned.first_in_epoch),
                ..body("yours")
            },
            ClaimAnswer::Done(outcome) => Self { outcome: Some((&**outcome).into()), ..body("done") },
            ClaimAnswer::Ended(result) => {
                let (note, error) = note_or_error(result);
                Self { note, error, ..body("ended") }
            }
            ClaimAnswer::Lost(loss) => Self { reason: Some(loss.word().into()), ..body("lost") },
            ClaimAnswer::Skipped { owner } => Self { owner: owner.as_deref().map(str::to_owned), ..body("skipped") },
            ClaimAnswer::Superseded { .. } => body("superseded"),
            ClaimAnswer::Cancelled { grant } => {
                Self { grant: grant.map(grant_text), fence: grant.map(|grant| grant.fence), ..body("cancelled") }
            }
        }
    }

    pub(super) fn valid_for(self, valid: Duration) -> Self {
        Self { valid_ms: Some(valid.as_millis() as u64), ..self }
    }
}
