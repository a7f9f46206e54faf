//! Why the board refuses a call. A refused call changes nothing.

use super::answer::ClaimAnswer;
use std::fmt;
use std::time::Duration;

/// Why a call on a claim was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimError {
    /// The board was started anew since the session, grant or event was made.
    ///
    /// Everything of the old epoch is void.
    EpochChanged {
        /// The board's epoch now.
        epoch: u64,
    },
    /// The session was ended or ran out.
    SessionGone,
    /// The number is below `settled_below`: the client gave it up or had its answer.
    StaleRequest {
        /// The lowest number that is still good.
        settled_below: u64,
    },
    /// The number is in use for another resource.
    NumberInUse,
    /// The grant is not this request's.
    NotYours {
        /// What the board knows of the request, if anything.
        answer: Option<ClaimAnswer>,
    },
    /// The session has as many open numbers as it may have.
    TooManyOpen {
        /// `max_open`.
        limit: usize,
    },
    /// The line is full, on the board or by the request's `max_waiting`.
    LineFull {
        /// That limit.
        limit: usize,
    },
    /// As many sessions are open as may be.
    TooManySessions {
        /// `max_sessions`.
        limit: usize,
    },
    /// A key or text is longer than it may be.
    TooLong {
        /// Which one.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The bytes it may have.
        limit: usize,
    },
    /// A lease is zero or longer than `max_ttl`.
    InvalidTtl {
        /// The longest that is allowed.
        longest: Duration,
    },
    /// A setting has a value that it cannot have.
    InvalidConfig {
        /// Its name.
        setting: &'static str,
        /// What is wrong and what would be right.
        problem: &'static str,
    },
    /// A text is not a number of a session, grant or event.
    MalformedId {
        /// Its beginning.
        text: String,
    },
    /// The time was over before the claim had an answer; the request left the line.
    Timeout {
        /// How long it waited.
        waited: Duration,
    },
    /// The claims were closed.
    Closed,
    /// The process is a fork of the one that made the claims.
    Forked,
    /// The system refused a thread or a descriptor.
    System {
        /// What it said.
        kind: std::io::ErrorKind,
    },
}

impl ClaimError {
    /// One word in lower case, the same in every language.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::EpochChanged { .. } => "epoch_changed",
            Self::SessionGone => "session_gone",
            Self::StaleRequest { .. } => "stale_request",
            Self::NumberInUse => "number_in_use",
            Self::NotYours { .. } => "not_yours",
            Self::TooManyOpen { .. } => "too_many_open",
            Self::LineFull { .. } => "line_full",
            Self::TooManySessions { .. } => "too_many_sessions",
            Self::TooLong { .. } => "too_long",
            Self::InvalidTtl { .. } => "invalid_ttl",
            Self::InvalidConfig { .. } => "invalid_config",
            Self::MalformedId { .. } => "malformed_id",
            Self::Timeout { .. } => "timeout",
            Self::Closed => "closed",
            Self::Forked => "forked",
            Self::System { .. } => "system",
        }
    }

    /// Returns the error's number, the same in every language.
    ///
    /// Negative, because 0 is success in C.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Timeout { .. } => -1,
            Self::Closed => -5,
            Self::NotYours { .. } => -6,
            Self::TooLong { what: "key", .. } => -9,
            Self::InvalidConfig { .. } | Self::InvalidTtl { .. } => -10,
            Self::Forked => -11,
            Self::LineFull { .. } => -13,
            Self::SessionGone => -20,
            Self::EpochChanged { .. } => -21,
            Self::StaleRequest { .. } => -22,
            Self::NumberInUse => -23,
            Self::TooManyOpen { .. } => -24,
            Self::TooManySessions { .. } => -25,
            Self::TooLong { .. } | Self::MalformedId { .. } => -101,
            Self::System { .. } => -105,
        }
    }

    /// Returns whether the same call may succeed when it is made again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::TooManyOpen { .. }
                | Self::LineFull { .. }
                | Self::TooManySessions { .. }
                | Self::Timeout { .. }
                | Self::System { .. }
        )
    }
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EpochChanged { epoch } => {
                write!(f, "the board was restarted and its epoch is {epoch} now; open a new session and ask again")
            }
            Self::SessionGone => write!(f, "the session has ended; open a new one and ask again"),
            Self::StaleRequest { settled_below } => {
                write!(f, "the request's number is settled; use a new one, from {settled_below} on")
            }
            Self::NumberInUse => write!(f, "the request's number is in use for another resource; use a new one"),
            Self::NotYours { answer: None } => {
                write!(f, "the board knows no such request; claim the resource first and use the grant it answers")
            }
            Self::NotYours { answer: Some(_) } => {
                write!(f, "the grant is not this request's; use the one that its claim was answered with")
            }
            Self::TooManyOpen { limit } => {
                write!(f, "the session has {limit} open requests, which is the limit; raise settled_below")
            }
            Self::LineFull { limit } => write!(f, "{limit} requests wait already, which is the limit; try again later"),
            Self::TooManySessions { limit } => {
                write!(f, "{limit} sessions are open, which is the limit; end some or set max_sessions higher")
            }
            Self::TooLong { what, bytes, limit } => {
                write!(f, "the {what} has {bytes} bytes and may have {limit}; shorten it")
            }
            Self::InvalidTtl { longest } => {
                write!(f, "a lease has to be longer than zero and at most {longest:?}; choose one in between")
            }
            Self::InvalidConfig { setting, problem } => write!(f, "the setting {setting} is wrong: {problem}"),
            Self::MalformedId { text } => {
                write!(f, "\"{}\" is not an id; write <epoch>-<number>", text.escape_debug())
            }
            Self::Timeout { waited } => {
                write!(f, "the claim had no answer within {waited:?}; ask again or with a longer timeout")
            }
            Self::Closed => write!(f, "the claims are closed; make new ones to go on"),
            Self::Forked => {
                write!(f, "this process is a fork of the one that made the claims; make new ones after fork()")
            }
            Self::System { kind } => write!(f, "the system refused a thread or a descriptor: {kind}"),
        }
    }
}

impl std::error::Error for ClaimError {}
