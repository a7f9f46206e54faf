//! What happened, as subscribers get it.

use crate::error::{DeadlockLink, Holders};
use crate::key::ObjectKey;
use crate::listed::{HolderInfo, LockOrderReport};
use crate::mode::Mode;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened; see [`subscribe`].
///
/// [`subscribe`]: crate::FastObjectLockManager::subscribe
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A wait for a lock that took long has ended, however it ended.
    #[non_exhaustive]
    SlowWait {
        /// What was waited for.
        key: ObjectKey,
        /// How it was wanted.
        mode: Mode,
        /// Who waited.
        owner: Arc<str>,
        /// Where the owner comes from; empty for nothing.
        source: &'static str,
        /// For how long.
        waited: Duration,
        /// Whether the request got the lock.
        granted: bool,
    },
    /// A lock that was held for long has been released.
    #[non_exhaustive]
    SlowHold {
        /// What was held.
        key: ObjectKey,
        /// How it was held at the end.
        mode: Mode,
        /// Who held it.
        owner: Arc<str>,
        /// Where the owner comes from; empty for nothing.
        source: &'static str,
        /// For how long; if the hold began before anybody subscribed, since that.
        held_for: Duration,
    },
    /// A request gave up because its time was over.
    #[non_exhaustive]
    Timeout {
        /// What was asked for.
        key: ObjectKey,
        /// How it was wanted.
        mode: Mode,
        /// Who asked.
        owner: Arc<str>,
        /// Where the owner comes from; empty for nothing.
        source: &'static str,
        /// How long it waited.
        waited: Duration,
        /// Who held the lock at that moment.
        holders: Holders,
    },
    /// A circle of sessions was found that waited for each other; one had to give way.
    #[non_exhaustive]
    Deadlock {
        /// What the one that gave way was waiting for.
        key: ObjectKey,
        /// Who waited for whom, beginning with the one that gave way.
        cycle: Arc<[DeadlockLink]>,
    },
    /// A lease ran out, and the lock was taken away.
    Expired(HolderInfo),
    /// A lock was released by force.
    Forced(HolderInfo),
    /// Sessions took locks in orders that could become a deadlock; only where
    /// [`lock_order_lint`](crate::LockConfig::lock_order_lint) is set.
    LockOrder(LockOrderReport),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::listed::Named;
        match self {
            Self::SlowWait { key, mode, owner, source, waited, granted } => {
                let got = if *granted { "and got it" } else { "in vain" };
                write!(f, "{} waited {waited:?} for {key:#} ({mode}) {got}", Named(owner, source))
            }
            Self::SlowHold { key, mode, owner, source, held_for } => {
                write!(f, "{} held {key:#} ({mode}) for {held_for:?}", Named(owner, source))
            }
            Self::Timeout { key, mode, owner, source, waited, holders } => {
                write!(f, "{} gave up on {key:#} ({mode}) after {waited:?}; {holders}", Named(owner, source))
            }
            Self::Deadlock { key, cycle } => {
                write!(f, "a deadlock was ended at {key:#}: ")?;
                for (position, link) in cycle.iter().enumerate() {
                    write!(f, "{}{link}", if position == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::Expired(hold) => write!(f, "a lease ran out: {hold}"),
            Self::Forced(hold) => write!(f, "released by force: {hold}"),
            Self::LockOrder(report) => write!(f, "{report}"),
        }
    }
}
