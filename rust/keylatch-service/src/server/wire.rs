//! What goes over the wire: the JSON of requests and answers.

use super::claim_rows::ClaimRow;
use super::claim_wire::ClaimedBody;
use super::texts::{first_number, joined_key, key_parts, session_text};
use crate::machine::{Event, EventKind, Grant, HeldLock, Holder, Item, QueuedRequest};
use keylatch::Mode;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// How a key is wanted or held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeWord {
    /// By many.
    Shared,
    /// By one.
    #[default]
    Exclusive,
}

impl From<Mode> for ModeWord {
    fn from(mode: Mode) -> Self {
        if mode == Mode::Exclusive { Self::Exclusive } else { Self::Shared }
    }
}

impl From<ModeWord> for Mode {
    fn from(word: ModeWord) -> Self {
        match word {
            ModeWord::Shared => Self::Shared,
            ModeWord::Exclusive => Self::Exclusive,
        }
    }
}

/// One key, and how it is wanted or held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemBody {
    /// The bucket.
    pub bucket: String,
    /// The object's name in its bucket.
    pub object: String,
    /// The version; none for the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Default: exclusive.
    #[serde(default)]
    pub mode: ModeWord,
}

impl From<&Item> for ItemBody {
    fn from(item: &Item) -> Self {
        let (bucket, object, version) = key_parts(&item.key);
        Self { bucket, object, version, mode: item.mode.into() }
    }
}

impl From<&ItemBody> for Item {
    fn from(body: &ItemBody) -> Self {
        Self { key: joined_key(&body.bucket, &body.object, body.version.as_deref()), mode: body.mode.into() }
    }
}

/// `POST /v1/sessions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenBody {
    /// A label for listings, events and errors.
    pub owner: String,
    /// The lease. Default: 30 s.
    #[serde(default = "default_ttl_ms")]
    pub ttl_ms: u64,
    /// Whether the client attaches a stream next.
    ///
    /// Then the session ends if none comes within the grace.
    #[serde(default)]
    pub attach: bool,
}

pub(super) fn default_ttl_ms() -> u64 {
    30_000
}

/// The answer to `POST /v1/sessions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenedBody {
    /// The server's epoch.
    pub epoch: u64,
    /// The session's name.
    pub session: String,
    /// For how long its locks are safe, from the moment the call was sent.
    pub valid_ms: u64,
    /// For how long they survive the end of the attached stream.
    pub grace_ms: u64,
}

/// `POST /v1/sessions/{session}/renew` and `POST /v1/renew`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewBody {
    /// The session; in the path of the first form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The client's next number.
    ///
    /// With it, numbers below that `open` does not list are cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Numbers that the client stands behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<u64>,
    /// Each lower number has its answer or was given up.
    #[serde(default)]
    pub settled_below: u64,
}

/// The answer to a renewal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RenewedBody {
    /// The server's epoch.
    pub epoch: u64,
    /// For how long the session's locks are safe, from the moment the call was sent.
    pub valid_ms: u64,
    /// What became of the numbers in `open` that the server knows.
    pub requests: Vec<RequestBody>,
    /// The stored answers of those that are claims'. A claim that waits is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimedBody>,
}

/// `POST /v1/lock`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockBody {
    /// The session. Without one, the request gets a session that ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The request's number in its session. Default: 1.
    #[serde(default = "first_number")]
    pub request_id: u64,
    /// The keys: all of them are granted in one step, or none.
    pub items: Vec<ItemBody>,
    /// For how long this call waits for the grant.
    ///
    /// Zero does not take a place in line. Default: 0.
    #[serde(default)]
    pub wait_ms: u64,
    /// When the client gives up this call; the server answers in time before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_timeout_ms: Option<u64>,
    /// Higher ones stand ahead. Default: 0.
    #[serde(default)]
    pub priority: u8,
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

/// `POST /v1/unlock` and `POST /v1/cancel`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndBody {
    /// The session.
    pub session: String,
    /// The number of the lock request. Default: 1.
    #[serde(default = "first_number")]
    pub request_id: u64,
    /// The grant, as `/v1/lock` answered it; a wrong one releases nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// Each lower number has its answer or was given up.
    #[serde(default)]
    pub settled_below: u64,
}

/// What became of a numbered request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestBody {
    /// The server's epoch.
    pub epoch: u64,
    /// The session.
    pub session: String,
    /// The request's number.
    pub request_id: u64,
    /// `granted`, `waiting`, `refused`, `too_large`, `ended`, `cancelled` or `lost`.
    ///
    /// Of a cancelled claim also `done`, `skipped` or `superseded`.
    pub state: Cow<'static, str>,
    /// The grant that it has or had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The grant's fence: greater than that of every grant before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// When granted: how long the lock is safe from the sending of this call.
    ///
    /// That is by the renewals so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_ms: Option<u64>,
    /// When waiting: 1 is next in line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<usize>,
    /// When waiting or refused: who holds the keys, at most eight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<HolderRow>,
    /// When lost: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
}

/// A holder in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderRow {
    /// What is held.
    #[serde(flatten)]
    pub item: ItemBody,
    /// The owner's label.
    pub owner: String,
    /// For how long it has been held.
    pub held_ms: u64,
}

impl From<&Holder> for HolderRow {
    fn from(holder: &Holder) -> Self {
        Self {
            item: (&holder.item).into(),
            owner: holder.owner.to_string(),
            held_ms: holder.held_for.as_millis() as u64,
        }
    }
}

/// A row of `GET /v1/locks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRow {
    /// The key and how it is held.
    #[serde(flatten)]
    pub item: ItemBody,
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
    /// For how long it has been held.
    pub held_ms: u64,
    /// `attached`, `detached` or `cut`.
    pub presence: Cow<'static, str>,
}

impl LockRow {
    pub(super) fn new(hold: &HeldLock) -> Self {
        Self {
            item: (&hold.item).into(),
            owner: hold.owner.to_string(),
            session: session_text(hold.grant.epoch, hold.request.session),
            request_id: hold.request.number,
            grant: hold.grant.to_string(),
            fence: hold.grant.fence,
            held_ms: hold.held_for.as_millis() as u64,
            presence: hold.presence.as_str().into(),
        }
    }
}

/// A row of `GET /v1/waiters`: a request at one of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiterRow {
    /// The key and how it is wanted.
    #[serde(flatten)]
    pub item: ItemBody,
    /// The owner's label.
    pub owner: String,
    /// The session.
    pub session: String,
    /// The request's number.
    pub request_id: u64,
    /// 1 is next in line at this key.
    pub place: usize,
    /// For how long it has waited.
    pub waited_ms: u64,
    /// `attached`, `detached` or `cut`; a cut one is passed over.
    pub presence: Cow<'static, str>,
}

impl WaiterRow {
    pub(super) fn new(wait: &QueuedRequest, epoch: u64) -> Self {
        Self {
            item: (&wait.item).into(),
            owner: wait.owner.to_string(),
            session: session_text(epoch, wait.request.session),
            request_id: wait.request.number,
            place: wait.place,
            waited_ms: wait.waited.as_millis() as u64,
            presence: wait.presence.as_str().into(),
        }
    }
}

/// The answer to `GET /v1/locks` and `GET /v1/waiters`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListBody<T> {
    /// The server's epoch.
    pub epoch: u64,
    /// Rows in the order of their keys.
    pub rows: Vec<T>,
    /// The cursor of the next page; none on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What is released by force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForceKind {
    /// Locks.
    #[default]
    Locks,
    /// Grants of claims: each counts as a failed attempt.
    Claims,
}

/// `POST /v1/force-release`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceBody {
    /// Of this bucket only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// Whose object begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Whose object is this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Of this owner only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Of this session only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Held for at least this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than_ms: Option<u64>,
    /// Locks or claims. Default: locks.
    #[serde(default)]
    pub kind: ForceKind,
    /// Needed where nothing else is given: releases everything.
    #[serde(default)]
    pub all: bool,
}

/// The answer to `POST /v1/force-release`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForcedBody {
    /// The server's epoch.
    pub epoch: u64,
    /// Released keys, also those of a released request that did not match.
    pub released: Vec<LockRow>,
    /// Claims that were released, as they were before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimRow>,
}

/// An event of `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventBody {
    /// `queued`, `granted`, `released`, `lost` or `left`.
    pub event: Cow<'static, str>,
    /// The session.
    pub session: String,
    /// The request's number.
    pub request_id: u64,
    /// The owner's label.
    pub owner: String,
    /// Its keys.
    pub items: Vec<ItemBody>,
    /// The grant that it has or had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The grant's fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// When lost: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
}

impl EventBody {
    pub(super) fn new(event: &Event, epoch: u64) -> Self {
        let (word, grant, reason): (_, Option<Grant>, _) = match event.kind {
            EventKind::Queued => ("queued", None, None),
            EventKind::Granted { grant } => ("granted", Some(grant), None),
            EventKind::Released { grant } => ("released", Some(grant), None),
            EventKind::Lost { grant, reason } => ("lost", Some(grant), Some(reason)),
            EventKind::Left => ("left", None, None),
        };
        Self {
            event: word.into(),
            session: session_text(epoch, event.request.session),
            request_id: event.request.number,
            owner: event.owner.to_string(),
            items: event.items.iter().map(ItemBody::from).collect(),
            grant: grant.map(|grant| grant.to_string()),
            fence: grant.map(|grant| grant.fence),
            reason: reason.map(|reason| reason.as_str().into()),
        }
    }
}

/// The `reset` event: all that a filter passes, as of the event's number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResetBody {
    /// The server's epoch.
    pub epoch: u64,
    /// Held keys.
    pub locks: Vec<LockRow>,
    /// Waiting requests.
    pub waiters: Vec<WaiterRow>,
}

/// The answer to `GET /healthz`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HealthBody {
    /// `ok`, `quiet` after a crash, or `closing`.
    pub status: Cow<'static, str>,
    /// The server's epoch.
    pub epoch: u64,
    /// Since its start.
    pub uptime_ms: u64,
    /// For how long nothing is granted yet.
    pub quiet_ms: u64,
    /// Sessions now.
    pub sessions: usize,
    /// Holds now.
    pub holders: usize,
    /// Waiting requests now.
    pub waiters: usize,
    /// Resources whose work is claimed now.
    pub claims: usize,
    /// Claims that wait now.
    pub claim_waiters: usize,
}
