//! What a lock answers when it does not grant.

use crate::id::LockId;
use crate::lock::FURTHEST_PLACE;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

/// Why a lock was not acquired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockTimeoutError {
    /// The lock was not free in time.
    Timeout {
        /// What was asked for.
        lock_type: LockType,
        /// The timeout that the request had.
        timeout: Duration,
        /// Who was in the way, and where in line the request stood.
        details: Box<TimeoutDetails>,
    },
    /// The wait was ended by `cancel_waiters` of the lock.
    ///
    /// A `tracing` event of the level debug names the lock.
    Cancelled,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockType {
    /// A read lock of an `AsyncRwLock`.
    ReadLock,
    /// A write lock of an `AsyncRwLock`.
    WriteLock,
    /// The lock of an `AsyncMutex`.
    Mutex,
}

/// The circumstances of a timeout, at the moment when the request gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimeoutDetails {
    /// The lock.
    pub id: LockId,
    /// How long the request waited.
    pub waited: Duration,
    /// Who held the lock.
    pub held_by: HeldBy,
    /// The number of holders that were granted the lock and were not polled since.
    pub unpolled: u64,
    /// Where the lock was acquired last.
    ///
    /// By the holder, or by a reader that may have left before others did.
    /// `None` if no holder has been there yet: all were granted the lock and not polled since.
    pub holder: Option<&'static Location<'static>>,
    /// Where this request was made.
    pub requested_at: &'static Location<'static>,
    /// The place in line: 1 for the first, 1001 for each behind the thousandth.
    pub place: u32,
    /// The number of requests in line; a request that must not wait is not among them.
    pub waiters: u32,
}

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBy {
    /// One holder that excludes all others.
    Writer,
    /// This number of readers.
    Readers(u64),
    /// No holder.
    ///
    /// The lock was changing hands, or a line was in the way of a request that must not wait.
    Nothing,
}

impl LockTimeoutError {
    /// Returns the circumstances of a timeout.
    pub fn details(&self) -> Option<&TimeoutDetails> {
        match self {
            Self::Timeout { details, .. } => Some(details),
            Self::Cancelled => None,
        }
    }
}

impl fmt::Display for LockTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { lock_type, timeout, details } => {
                write!(f, "{lock_type:?} acquisition timeout after {timeout:?}: {details}")
            }
            Self::Cancelled => f.write_str("Lock acquisition cancelled"),
        }
    }
}

impl Error for LockTimeoutError {}

impl fmt::Display for TimeoutDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, waited, held_by, unpolled, requested_at, place, waiters, .. } = self;
        write!(f, "lock {id}, waited {waited:?}, ")?;
        if place > waiters {
            write!(f, "behind {waiters} in line, ")?;
        } else if *place > FURTHEST_PLACE {
            write!(f, "behind place {FURTHEST_PLACE} of {waiters} in line, ")?;
        } else {
            write!(f, "place {place} of {waiters} in line, ")?;
        }
        write!(f, "{held_by}")?;
        if *unpolled > 0 {
            write!(f, ", granted to {unpolled} not polled yet")?;
        }
        if let (Some(holder), true) = (self.holder, *held_by != HeldBy::Nothing) {
            write!(f, ", last acquired at {holder}")?;
        }
        write!(f, ", requested at {requested_at}")
    }
}

impl fmt::Display for HeldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writer => f.write_str("held exclusively"),
            Self::Readers(1) => f.write_str("held by 1 reader"),
            Self::Readers(count) => write!(f, "held by {count} readers"),
            Self::Nothing => f.write_str("held by none"),
        }
    }
}
