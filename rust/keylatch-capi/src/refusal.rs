//! Why a call fails, until it is noted.

use crate::status::{KEYLATCH_EINVALID, KEYLATCH_ENULL};
use keylatch::LockError;
use keylatch::claim::ClaimError;
use std::borrow::Cow;

/// Why a call fails.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The core says so.
    Core(LockError),
    /// The core says so of a claim.
    Claim(ClaimError),
    /// What only C can do wrong, or what is only wrong in C.
    Border { status: i32, message: Cow<'static, str> },
}

impl Failure {
    pub(crate) fn new(status: i32, message: &'static str) -> Self {
        Self::Border { status, message: Cow::Borrowed(message) }
    }

    pub(crate) fn owned(status: i32, message: String) -> Self {
        Self::Border { status, message: Cow::Owned(message) }
    }

    pub(crate) fn status(&self) -> i32 {
        match self {
            Self::Core(error) => error.code(),
            Self::Claim(error) => error.code(),
            Self::Border { status, .. } => *status,
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        Self::Core(error)
    }
}

impl From<ClaimError> for Failure {
    fn from(error: ClaimError) -> Self {
        Self::Claim(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Core(error) => error.fmt(f),
            Self::Claim(error) => error.fmt(f),
            Self::Border { message, .. } => f.write_str(message),
        }
    }
}

#[cold]
pub(crate) fn null(what: &str) -> Failure {
    Failure::owned(KEYLATCH_ENULL, format!("{what} is NULL"))
}

#[cold]
pub(crate) fn invalid(message: String) -> Failure {
    Failure::owned(KEYLATCH_EINVALID, message)
}
