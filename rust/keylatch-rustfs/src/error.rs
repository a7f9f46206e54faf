//! What can go wrong beside waiting for a lock.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The result of what can go wrong beside waiting for a lock.
pub type Result<T> = std::result::Result<T, LockError>;

/// Says what went wrong.
///
/// This crate makes [`Configuration`](Self::Configuration) alone; engines make the others.
#[derive(Debug, Clone)]
pub enum LockError {
    /// The time was over first.
    Timeout {
        /// What was asked for.
        resource: String,
        /// The time.
        timeout: Duration,
    },
    /// There is no such resource.
    ResourceNotFound {
        /// Its name.
        resource: String,
    },
    /// The caller may not do this.
    PermissionDenied {
        /// Why.
        reason: String,
    },
    /// Something is broken.
    Internal {
        /// What.
        message: String,
    },
    /// Another owner has the lock.
    AlreadyLocked {
        /// What is locked.
        resource: String,
        /// Who has it.
        owner: String,
    },
    /// A handle is not valid.
    InvalidHandle {
        /// Its number.
        handle_id: String,
    },
    /// A setting has a value that it cannot have.
    Configuration {
        /// Which, and what would be right.
        message: String,
    },
}

impl LockError {
    /// Makes a [`Timeout`](Self::Timeout).
    pub fn timeout(resource: impl Into<String>, timeout: Duration) -> Self {
        Self::Timeout { resource: resource.into(), timeout }
    }

    /// Makes a [`ResourceNotFound`](Self::ResourceNotFound).
    pub fn resource_not_found(resource: impl Into<String>) -> Self {
        Self::ResourceNotFound { resource: resource.into() }
    }

    /// Makes a [`PermissionDenied`](Self::PermissionDenied).
    pub fn permission_denied(reason: impl Into<String>) -> Self {
        Self::PermissionDenied { reason: reason.into() }
    }

    /// Makes an [`Internal`](Self::Internal).
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal { message: message.into() }
    }

    /// Makes an [`AlreadyLocked`](Self::AlreadyLocked).
    pub fn already_locked(resource: impl Into<String>, owner: impl Into<String>) -> Self {
        Self::AlreadyLocked { resource: resource.into(), owner: owner.into() }
    }

    /// Makes an [`InvalidHandle`](Self::InvalidHandle).
    pub fn invalid_handle(handle_id: impl Into<String>) -> Self {
        Self::InvalidHandle { handle_id: handle_id.into() }
    }

    /// Makes a [`Configuration`](Self::Configuration).
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::Configuration { message: message.into() }
    }

    /// Says whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Internal { .. })
    }

    /// Says whether the same call never succeeds.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::ResourceNotFound { .. } | Self::PermissionDenied { .. } | Self::Configuration { .. })
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { resource, timeout } => write!(f, "'{resource}' was not free within {timeout:?}"),
            Self::ResourceNotFound { resource } => write!(f, "there is no resource '{resource}'"),
            Self::PermissionDenied { reason } => write!(f, "permission denied: {reason}"),
            Self::Internal { message } => write!(f, "internal error: {message}"),
            Self::AlreadyLocked { resource, owner } => write!(f, "'{resource}' is locked by {owner}"),
            Self::InvalidHandle { handle_id } => write!(f, "no lock has the handle {handle_id}"),
            Self::Configuration { message } => write!(f, "configuration error: {message}"),
        }
    }
}

impl Error for LockError {}
