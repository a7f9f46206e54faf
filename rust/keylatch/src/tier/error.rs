//! What a tier cannot do, and what helps.

use std::fmt;
use std::sync::Arc;

/// Why a tier could not do what it was asked to.
///
/// ```
/// use keylatch::tier::{TierError, TierErrorKind};
/// let error = TierError::new(TierErrorKind::Full, "the table in /dev/shm/locks has no free entry", "open it with more keys");
/// assert_eq!(error.to_string(), "the table in /dev/shm/locks has no free entry; open it with more keys");
/// assert!(error.kind().is_transient());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierError {
    kind: TierErrorKind,
    problem: Arc<str>,
    advice: Arc<str>,
}

/// What kind of error it is, which decides what the manager does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TierErrorKind {
    /// The tier cannot be reached, or has no quorum, for now.
    ///
    /// Requests keep waiting, with exact timeouts, until the tier calls [`renewed`](super::TierEvents::renewed). A request
    /// that does not wait fails. A tier that repeats by itself answers [`Pending`](super::Answer::Pending) instead.
    Unavailable,
    /// The ask is of a term that is over. The manager asks again in the present one.
    TermOver,
    /// The tier has no room for another key, process or ask.
    Full,
    /// The process may not lock this key, or not open the tier.
    NotPermitted,
    /// The tier does not have this operation.
    Unsupported,
    /// The tier was detached.
    Closed,
    /// What the tier keeps was damaged, or is of another version.
    Damaged,
    /// Anything else.
    Other,
}

impl TierErrorKind {
    /// Returns whether the same call may succeed when it is made again later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::TermOver | Self::Full)
    }
}

impl TierError {
    /// Returns an error of this kind: what is wrong, and what to do about it.
    #[must_use]
    pub fn new(kind: TierErrorKind, problem: impl AsRef<str>, advice: impl AsRef<str>) -> Self {
        Self { kind, problem: problem.as_ref().into(), advice: advice.as_ref().into() }
    }

    /// Returns the error of an operation that a tier does not have.
    #[must_use]
    pub fn unsupported(operation: &str) -> Self {
        let problem = format!("this tier does not have the operation `{operation}`");
        Self::new(TierErrorKind::Unsupported, problem, "use a tier that has it")
    }

    /// Returns the error of an ask whose term is over.
    #[must_use]
    pub fn term_over() -> Self {
        Self::new(TierErrorKind::TermOver, "the term of the ask is over", "ask again in the present term")
    }

    /// Returns the error of an ask while the tier has no term.
    pub(crate) fn no_term() -> Self {
        let problem = "the tier cannot vouch for any permit at this time";
        Self::new(TierErrorKind::Unavailable, problem, "wait for the lock, or try again later")
    }

    /// Returns the error of a call in which the tier panicked.
    pub(crate) fn panicked() -> Self {
        let problem = "the tier panicked when it was asked";
        Self::new(TierErrorKind::Other, problem, "see the panic's message, and mend the tier")
    }

    /// Returns what kind of error it is.
    #[must_use]
    pub fn kind(&self) -> TierErrorKind {
        self.kind
    }

    /// Returns what is wrong.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// Returns what to do about it.
    #[must_use]
    pub fn advice(&self) -> &str {
        &self.advice
    }
}

impl fmt::Display for TierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.advice)
    }
}

impl std::error::Error for TierError {}
