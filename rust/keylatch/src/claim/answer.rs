//! What a claim comes to.

use super::id::{ClaimGrant, ClaimRequestId};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The result of an attempt: a note for those who wait, or a failure's reason.
pub type ClaimResult = Result<Arc<str>, Arc<str>>;

/// What the board stores for a request, and answers each time it is repeated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimAnswer {
    /// The request is in line. Never stored: the place is counted at each call.
    Waiting {
        /// How many requests are ahead of it.
        ahead: usize,
    },
    /// The work is this request's to do.
    Yours(ClaimOwned),
    /// The work has an outcome already; there is nothing to do.
    Done(Arc<ClaimOutcome>),
    /// This request owned the work and completed it with this result.
    Ended(ClaimResult),
    /// This request owned the work or waited for it, and lost that.
    Lost(ClaimLoss),
    /// The work is another's, and the request was not to wait.
    Skipped {
        /// The owner's name, if the resource has an owner.
        owner: Option<Arc<str>>,
    },
    /// A later request took the places of all that waited.
    Superseded {
        /// That request.
        by: ClaimRequestId,
    },
    /// The client cancelled the request.
    Cancelled {
        /// The grant that ended with it.
        grant: Option<ClaimGrant>,
    },
}

impl ClaimAnswer {
    /// Returns whether the request can still come to something else by itself.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Waiting { .. } | Self::Yours(_))
    }
}

/// The ownership of a resource's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimOwned {
    /// The request that owns it.
    pub request: ClaimRequestId,
    /// What completes it.
    pub grant: ClaimGrant,
    /// 1 for the first attempt, one more after each failure.
    pub attempt: u32,
    /// Whether the board knows of no earlier attempt in this epoch.
    ///
    /// The owner looks at the artefact first then: an owner of an earlier epoch may have finished it.
    pub first_in_epoch: bool,
}

/// The end of a resource's work, retained for later requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimOutcome {
    /// The result of the last attempt.
    ///
    /// An error here means that the attempts that the policy allows are used up.
    pub result: ClaimResult,
    /// The grant of the attempt.
    pub grant: ClaimGrant,
    /// The number of the attempt.
    pub attempt: u32,
    /// The owner's name.
    pub owner: Arc<str>,
    /// When it was completed, on the board's clock.
    pub at: Duration,
}

/// Why a request no longer has what it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClaimLoss {
    /// The grant's lease ran out.
    LeaseExpired,
    /// The session's lease, or its grace after a cut, ran out.
    SessionExpired,
    /// The session was ended by its client or by an operator.
    SessionEnded,
    /// An operator ended the grant.
    ForceReleased,
    /// The board was closed.
    Closed,
}

impl ClaimLoss {
    /// One word in lower case, the same in every language.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::LeaseExpired => "lease_expired",
            Self::SessionExpired => "session_expired",
            Self::SessionEnded => "session_ended",
            Self::ForceReleased => "force_released",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for ClaimLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeaseExpired => "its lease ran out; renew it in time or ask for a longer one",
            Self::SessionExpired => "its session ran out; renew the session in time",
            Self::SessionEnded => "its session was ended",
            Self::ForceReleased => "an operator released it by force",
            Self::Closed => "the board was closed",
        })
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimFailure {
    /// The owner says so, with this reason.
    Reported(Arc<str>),
    /// The owner lost the grant.
    Lost(ClaimLoss),
    /// The owner cancelled its request.
    Cancelled,
}

impl fmt::Display for ClaimFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported(reason) => f.write_str(reason),
            Self::Lost(loss) => loss.fmt(f),
            Self::Cancelled => f.write_str("its owner cancelled it"),
        }
    }
}

/// How far an owner has come; visible to those who wait.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ClaimProgress {
    /// Units done, such as bytes.
    pub done: u64,
    /// Units in all; 0 if that is unknown.
    pub total: u64,
    /// Where to look at the work, such as a URL; may be empty.
    pub address: Arc<str>,
}
