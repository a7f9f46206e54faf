//! The vocabulary of calls: what the machine is asked, what it answers, why it refuses.

use super::grant::Grant;
use keylatch::claim::{ClaimAnswer, ClaimError};
use keylatch::{Mode, ObjectKey};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// A request of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey {
    /// The session's number.
    pub session: u64,
    /// The request's number in its session.
    pub number: u64,
}

/// A session's name outside of the server: its epoch and number, `epoch.number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionName {
    /// The epoch that it was opened in.
    pub epoch: u64,
    /// Its number.
    pub number: u64,
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::grant::pair_text(self.epoch, self.number))
    }
}

impl FromStr for SessionName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, number) = super::grant::parse_pair(text).ok_or(())?;
        Ok(Self { epoch, number })
    }
}

/// What a server accepts before it refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions that exist.
    pub sessions: usize,
    /// Requests that wait.
    pub waiters: usize,
    /// Keys that are held or waited for.
    pub keys: usize,
    /// Numbers of one session that have not settled.
    pub open_requests: usize,
    /// Keys of one request.
    pub items: usize,
    /// Bytes of one key.
    pub key_bytes: usize,
    /// Bytes of an owner's name.
    pub owner_bytes: usize,
    /// Events that are kept for subscribers.
    pub events: usize,
    /// For how long a session's locks survive the end of its attached stream.
    pub grace: Duration,
    /// For how long the outcome of a claim is retained for later requests.
    pub claim_retention: Duration,
    /// Resources without owner and line whose outcomes and events are remembered.
    pub claim_outcomes: usize,
    /// Events of each resource that are kept for subscribers.
    pub claim_events: usize,
    /// Bytes of a note, a reason or an address of a claim.
    pub text_bytes: usize,
    /// The shortest lease.
    pub min_ttl: Duration,
    /// The longest lease.
    pub max_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 20_000,
            waiters: 50_000,
            keys: 200_000,
            open_requests: 1024,
            items: 256,
            key_bytes: 1024,
            owner_bytes: 256,
            events: 16_384,
            grace: Duration::from_secs(5),
            claim_retention: Duration::from_secs(600),
            claim_outcomes: 10_000,
            claim_events: 64,
            text_bytes: 1024,
            min_ttl: Duration::from_millis(100),
            max_ttl: Duration::from_secs(300),
        }
    }
}

/// What the marks on disk say when a server starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The server's epoch: greater than that of every start before.
    pub epoch: u64,
    /// Fences that it may give out.
    pub fences: Range<u64>,
    /// For how long nothing is granted.
    ///
    /// Clients of the epoch before may still believe in their locks.
    pub quiet: Duration,
}

/// One key of a request, and how it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: ObjectKey,
    /// How it is wanted.
    pub mode: Mode,
}

/// A call of a session: what all of them carry.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// When it arrived, since the start of the server.
    pub now: Duration,
    /// Which session makes it.
    pub session: SessionName,
    /// Who was authenticated; a session answers only the one that opened it.
    pub principal: &'a str,
    /// Each lower number has its answer, or was given up.
    ///
    /// Never lowers what an earlier call said.
    pub settled_below: u64,
}

/// Whether a new session's client is about to attach a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachPlan {
    /// It attaches within the grace, or the session ends.
    Attaches,
    /// It renews only.
    RenewsOnly,
}

/// Opens a session.
#[derive(Debug, Clone)]
pub struct Open {
    /// A label for listings, events and errors.
    pub owner: Arc<str>,
    /// Who was authenticated.
    pub principal: Arc<str>,
    /// The lease.
    pub ttl: Duration,
    /// Whether a stream will be attached.
    pub attach: AttachPlan,
}

/// A session that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Its name.
    pub session: SessionName,
    /// For how long its locks are safe from the moment the call was sent.
    pub valid: Duration,
}

/// Whether a request may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It takes its place and keeps it.
    Queue,
    /// It is refused if it is not granted in this step.
    Try,
}

/// What a lock request asks for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Its keys, in order and each once.
    pub items: Arc<[Item]>,
    /// Higher ones stand ahead.
    pub priority: u8,
    /// Whether it may wait.
    pub wait: Wait,
}

impl Ask {
    /// Puts keys in order; of two equal ones an exclusive one is kept.
    #[must_use]
    pub fn new(mut items: Vec<Item>, priority: u8, wait: Wait) -> Self {
        items.sort_by(|a, b| a.key.cmp(&b.key).then((b.mode == Mode::Exclusive).cmp(&(a.mode == Mode::Exclusive))));
        items.dedup_by(|later, kept| later.key == kept.key);
        Self { items: items.into(), priority, wait }
    }
}

/// A holder, as an answer names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// What is held.
    pub item: Item,
    /// The owner's label.
    pub owner: Arc<str>,
    /// The session.
    pub session: u64,
    /// For how long it has been held.
    pub held_for: Duration,
}

/// Why a hold ended without its client's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was released by force.
    Forced,
    /// The session's lease was over, or its stream ended and the grace was over.
    Expired,
    /// The session was ended.
    SessionEnded,
    /// A later call of the session no longer lists the request.
    GivenUp,
    /// The lock space that the server shares with others took it away.
    TierLost,
}

impl Reason {
    /// Returns the word for it in answers, events and figures.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forced => "forced",
            Self::Expired => "expired",
            Self::SessionEnded => "session_ended",
            Self::GivenUp => "given_up",
            Self::TierLost => "tier_lost",
        }
    }
}

/// What became of a numbered request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Answer {
    /// It holds its keys.
    Granted {
        /// Its grant.
        grant: Grant,
    },
    /// It waits.
    Waiting {
        /// 1 is next in line.
        place: usize,
        /// Who holds its keys, at most eight.
        holders: Vec<Holder>,
    },
    /// It was not to wait, and its keys were not free.
    Refused {
        /// Who holds its keys now, at most eight.
        holders: Vec<Holder>,
    },
    /// The tier cannot take all its keys in one step, however long it waits.
    TooLarge,
    /// It was released.
    Ended {
        /// The grant that it had.
        grant: Grant,
    },
    /// It was cancelled.
    Cancelled {
        /// The grant that it had by then.
        grant: Option<Grant>,
    },
    /// Its hold ended without its client's doing.
    Lost {
        /// The grant that it had.
        grant: Grant,
        /// Why.
        reason: Reason,
    },
}

/// What a renewal answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// For how long the session's locks are safe from the moment the call was sent.
    pub valid: Duration,
    /// What became of each number that the call named as open.
    ///
    /// Numbers that are not known are left out.
    pub requests: Vec<(u64, Answer)>,
    /// The stored answers of those numbers that are claims'.
    pub claims: Vec<(u64, ClaimAnswer)>,
}

/// What a cancellation answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum CancelAnswer {
    /// The number was a lock's, or none.
    Lock(Answer),
    /// The number was a claim's.
    Claim(ClaimAnswer),
}

/// Why the machine refuses a call.
///
/// Nothing is changed then, except by `settled_below`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The session is of another start of the server.
    EpochChanged,
    /// The session has ended.
    SessionGone,
    /// There was never such a session, or it is another client's.
    UnknownSession,
    /// The number is below what the client said has settled.
    StaleRequest {
        /// What it said.
        settled_below: u64,
    },
    /// The number was used for other keys.
    NumberReused,
    /// The session's stream is cut, and the request was not to wait.
    SessionCut,
    /// The number has no hold to release.
    NotHeld,
    /// The number waits; only `cancel` ends that.
    StillQueued,
    /// The grant is not that request's.
    OtherGrant,
    /// A limit is reached.
    Full {
        /// Which one.
        what: Limit,
        /// Its value.
        limit: usize,
    },
    /// The lease is shorter or longer than leases may be.
    BadTtl {
        /// The shortest.
        least: Duration,
        /// The longest.
        most: Duration,
    },
    /// The server started a moment ago after a crash.
    Quiet {
        /// When it grants again.
        wait: Duration,
    },
    /// The marks on disk could not be raised in time.
    NoFences,
    /// The server is about to stop.
    Closing,
    /// What the claim board says, where the other refusals have no word for it.
    Claim(ClaimError),
}

/// A limit that can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::sessions`].
    Sessions,
    /// [`Limits::waiters`].
    Waiters,
    /// [`Limits::keys`].
    Keys,
    /// [`Limits::open_requests`].
    OpenRequests,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(object: &str, mode: Mode) -> Item {
        Item { key: ObjectKey::new("b", object), mode }
    }

    #[test]
    fn ask_duplicate_keys_keeps_exclusive() {
        for order in [[Mode::Shared, Mode::Exclusive], [Mode::Exclusive, Mode::Shared]] {
            let ask = Ask::new(vec![item("z", order[0]), item("a", Mode::Shared), item("z", order[1])], 0, Wait::Try);
            assert_eq!(*ask.items, [item("a", Mode::Shared), item("z", Mode::Exclusive)]);
        }
    }

    #[test]
    fn session_name_parses_what_it_prints() {
        let name = SessionName { epoch: 3, number: u64::MAX };
        assert_eq!(name.to_string().parse(), Ok(name));
        for wrong in ["", "3", "3.", ".3", "3.4.5", "3.-1", "+3.4", "3.4 ", "a.b", "99999999999999999999.1"] {
            assert_eq!(wrong.parse::<SessionName>(), Err(()), "{wrong}");
        }
    }
}
