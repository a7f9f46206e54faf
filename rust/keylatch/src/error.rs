//! The errors. Each message says what to do about it.

use crate::grant::Grant;
use crate::key::ObjectKey;
use crate::mode::Mode;
use crate::tier::TierError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a call failed.
///
/// A failed call has changed nothing.
///
/// ```
/// use keylatch::{FastObjectLockManager, LockError};
/// # fn main() -> Result<(), LockError> {
/// let locks = FastObjectLockManager::new();
/// let _held = locks.acquire_write_lock_blocking("photos", "cat.jpg", "indexer")?;
/// match locks.try_acquire_read_lock("photos", "cat.jpg", "thumbnailer") {
///     Err(LockError::WouldBlock { holders, .. }) => assert_eq!(holders.named[0].owner.as_ref(), "indexer"),
///     other => panic!("{other:?}"),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockError {
    /// The timeout or deadline passed before the lock was free.
    Timeout {
        /// What was asked for.
        key: ObjectKey,
        /// How long the request waited.
        waited: Duration,
        /// The holders at that moment.
        holders: Holders,
    },
    /// The lock is held, and the request was not to wait.
    WouldBlock {
        /// What was asked for.
        key: ObjectKey,
        /// Who holds it.
        holders: Holders,
    },
    /// The request would have closed a circle of sessions that wait for each other.
    ///
    /// The session should let go of what it holds and start again.
    Deadlock {
        /// What was asked for.
        key: ObjectKey,
        /// The sessions that wait for each other, beginning with the one of this request.
        cycle: Arc<[DeadlockLink]>,
    },
    /// The hold was a lease that ran out, and the lock was given to another request.
    LeaseLost {
        /// The grant's number.
        grant: u64,
    },
    /// The request was cancelled while it waited.
    Cancelled {
        /// What was asked for.
        key: ObjectKey,
    },
    /// The manager was closed.
    Closed,
    /// The grant is not held: released before, made up, or another manager's.
    NotHeld {
        /// The grant's number.
        grant: u64,
    },
    /// The table holds `max_locks` locks, or there is no memory for more.
    TableFull {
        /// `max_locks`.
        limit: u32,
    },
    /// `max_waiters` requests wait, or there is no memory for more.
    TooManyWaiters {
        /// `max_waiters`.
        limit: u32,
    },
    /// The key is longer than `max_key_bytes`.
    InvalidKey {
        /// Bytes in all parts of the key.
        bytes: usize,
        /// `max_key_bytes`.
        limit: usize,
    },
    /// A setting has an invalid value.
    InvalidConfig {
        /// Its name.
        setting: &'static str,
        /// What is wrong, and a valid value.
        problem: String,
    },
    /// The process is a fork of the one that made the manager.
    Forked,
    /// Another holder waits to upgrade: each would wait for the other to let go.
    UpgradeConflict {
        /// The key.
        key: ObjectKey,
        /// Who holds it shared.
        holders: Holders,
    },
    /// The [tier](crate::tier) of the manager failed.
    Tier {
        /// What is wrong, and what to do about it.
        error: TierError,
    },
    /// One lock of a batch could not be acquired; none of the batch is held.
    Batch {
        /// Which one.
        key: ObjectKey,
        /// Why.
        cause: Box<LockError>,
    },
}

impl LockError {
    /// Returns the error's number, the same in every language and for ever.
    ///
    /// It is negative, because 0 is success in C.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Timeout { .. } => -1,
            Self::WouldBlock { .. } => -2,
            Self::Deadlock { .. } => -3,
            Self::Cancelled { .. } => -4,
            Self::Closed => -5,
            Self::NotHeld { .. } => -6,
            Self::LeaseLost { .. } => -7,
            Self::TableFull { .. } => -8,
            Self::InvalidKey { .. } => -9,
            Self::InvalidConfig { .. } => -10,
            Self::Forked => -11,
            Self::UpgradeConflict { .. } => -12,
            Self::TooManyWaiters { .. } => -13,
            Self::Tier { .. } => -14,
            Self::Batch { cause, .. } => cause.code(),
        }
    }

    /// Returns whether the same call may succeed when it is made again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::WouldBlock { .. }
            | Self::TableFull { .. }
            | Self::TooManyWaiters { .. }
            | Self::UpgradeConflict { .. } => true,
            // A session that waits for itself would do so again.
            Self::Deadlock { cycle, .. } => cycle.len() > 1,
            Self::Batch { cause, .. } => cause.is_transient(),
            Self::Tier { error } => error.kind().is_transient(),
            _ => false,
        }
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { key, waited, holders } => write!(f, "{key:#} was not free within {waited:?}; {holders}"),
            Self::WouldBlock { key, holders } => write!(f, "{key:#} is not free; {holders}"),
            Self::Deadlock { key, cycle } if cycle.len() == 1 => {
                let held = match cycle[0].blocked_by {
                    Some(mode) => format!("which it holds {mode}"),
                    None => "which it waits for already".into(),
                };
                let name = named(&cycle[0].session);
                write!(f, "{name} would wait for itself: it asks for {key:#} ({}), {held}; ", cycle[0].mode)?;
                match (cycle[0].blocked_by, cycle[0].mode) {
                    (Some(Mode::Shared), Mode::Exclusive) => write!(f, "upgrade that hold, or release it first"),
                    _ => write!(f, "use the hold that it has, or release it first"),
                }
            }
            Self::Deadlock { key, cycle } => {
                write!(
                    f,
                    "waiting for {key:#} would be a deadlock; let go of what the session holds and start again ("
                )?;
                for (position, link) in cycle.iter().enumerate() {
                    write!(f, "{}{link}", if position == 0 { "" } else { ", " })?;
                }
                write!(f, ")")
            }
            Self::LeaseLost { grant } => write!(
                f,
                "the lease of grant {grant:#x} ran out and the lock was given away; do not rely on it, and ask for a \
                 longer ttl or renew it in time"
            ),
            Self::Cancelled { key } => write!(f, "the request for {key:#} was cancelled"),
            Self::Closed => write!(f, "the lock manager is closed; make a new one to go on"),
            Self::NotHeld { grant } => {
                write!(f, "grant {grant:#x} is not held: it was released before, or is another manager's")
            }
            Self::TableFull { limit } => {
                write!(f, "the table holds as many locks as it may ({limit}); release some, or set max_locks higher")
            }
            Self::TooManyWaiters { limit } => {
                write!(f, "as many requests wait as may ({limit}); try again later, or set max_waiters higher")
            }
            Self::InvalidKey { bytes, limit } => write!(
                f,
                "the key has {bytes} bytes and may have {limit}; shorten it, or set max_key_bytes higher (up to 65535)"
            ),
            Self::InvalidConfig { setting, problem } => write!(f, "the setting {setting} is wrong: {problem}"),
            Self::Forked => write!(
                f,
                "this process is a fork of the one that made the lock manager; make a new manager after fork()"
            ),
            Self::UpgradeConflict { key, holders } => write!(
                f,
                "another holder already waits to upgrade {key:#}, and neither could go first; release it and ask for it \
                 exclusively ({holders})"
            ),
            Self::Tier { error } => write!(f, "{error}"),
            Self::Batch { key, cause } => write!(f, "the batch failed at {key:#}, and nothing of it is held: {cause}"),
        }
    }
}

/// One session of a deadlock: it waits for a lock that the next one holds.
///
/// The next one may also be ahead of it in line, and hold it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadlockLink {
    /// The session's name.
    pub session: Arc<str>,
    /// Where the session comes from, as given when it was begun.
    pub source: &'static str,
    /// What it waits for.
    pub key: ObjectKey,
    /// How it wants it.
    pub mode: Mode,
    /// How the next session has it: held, or `None` if that one waits in line ahead.
    pub blocked_by: Option<Mode>,
}

/// Returns a session's name as text shows it.
fn named(session: &str) -> std::str::EscapeDebug<'_> {
    if session.is_empty() { "an unnamed session" } else { session }.escape_debug()
}

impl fmt::Display for DeadlockLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waits for {:#} ({})", named(&self.session), self.key, self.mode)?;
        match self.blocked_by {
            Some(mode) => write!(f, " held {mode} by the next"),
            None => write!(f, " behind the next"),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Batch { cause, .. } => Some(cause.as_ref()),
            Self::Tier { error } => Some(error),
            _ => None,
        }
    }
}

/// The holders of a lock, as an error names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// The exclusive holder, or one reader: finding all readers would take too long.
    /// [`holders`](crate::FastObjectLockManager::holders) lists all.
    pub named: Vec<Holder>,
    /// Holders that are not among the named.
    pub more: u32,
}

/// One holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its owner's name; empty if it gave none.
    pub owner: Arc<str>,
    /// How it holds the lock.
    pub mode: Mode,
    /// For how long at least: taking a free lock reads no clock.
    ///
    /// The time counts from the first look at it.
    pub held_for: Duration,
    /// The grant; `None` where it is not known, as of a lock that a lock delay keeps.
    pub grant: Option<Grant>,
    /// The fence number of an exclusive hold.
    pub fence: Option<u64>,
    /// How long its lease still lasted, if it had one.
    pub lease: Option<Duration>,
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.named.is_empty() && self.more == 0 {
            return write!(f, "its holder is gone");
        }
        write!(f, "held by ")?;
        for (position, holder) in self.named.iter().take(8).enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            let name: &str = if holder.owner.is_empty() { "an unnamed owner" } else { &holder.owner };
            write!(f, "{separator}{} ({}", name.escape_debug(), holder.mode)?;
            if !holder.held_for.is_zero() {
                write!(f, ", for at least {:?}", holder.held_for)?;
            }
            write!(f, ")")?;
        }
        let more = self.named.len().saturating_sub(8) + self.more as usize;
        match (self.named.is_empty(), more) {
            (_, 0) => Ok(()),
            (true, more) => write!(f, "{more}"),
            (false, more) => write!(f, " and {more} more"),
        }
    }
}
