//! A hold, a wait and an order of locks, as listings and events show them.

use crate::error::DeadlockLink;
use crate::grant::Grant;
use crate::key::ObjectKey;
use crate::mode::Mode;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A lock that is held; see [`FastObjectLockManager::holders`].
///
/// [`FastObjectLockManager::holders`]: crate::FastObjectLockManager::holders
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct HolderInfo {
    /// What is held.
    pub key: ObjectKey,
    /// How.
    pub mode: Mode,
    /// The owner's name; empty if it gave none.
    pub owner: Arc<str>,
    /// Where the owner comes from, as given when it was made; empty for nothing.
    pub source: &'static str,
    /// Whether the owner is a session rather than a label.
    pub session: bool,
    /// The priority of the request.
    pub priority: u8,
    /// For how long at least: taking a free lock reads no clock.
    ///
    /// The time counts from the first look at the hold, by a waiter, by a listing, or by a subscriber to long holds.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::written::seconds::serialize"))]
    pub held_for: Duration,
    /// What is left of the lease; `None` if the hold is no lease.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::written::seconds_or_none::serialize"))]
    pub lease: Option<Duration>,
    /// The number of this exclusive hold; `None` for a shared one.
    pub fence: Option<u64>,
    /// `true` if the lock has no holder and is in its lock delay.
    ///
    /// The last holder lost it because a lease ran out. It is kept shut for
    /// [`lock_delay`](crate::LockConfig::lock_delay), of which `lease` is what is left. Releasing it by force ends
    /// that.
    pub in_lock_delay: bool,
    /// The grant's number.
    ///
    /// As long as the hold has a guard, the grant is only a name: it cannot release the hold.
    pub grant: Grant,
}

/// A request that waits; see [`FastObjectLockManager::waiters`].
///
/// [`FastObjectLockManager::waiters`]: crate::FastObjectLockManager::waiters
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct WaiterInfo {
    /// What it waits for.
    pub key: ObjectKey,
    /// How it wants it.
    pub mode: Mode,
    /// The owner's name; empty if it gave none.
    pub owner: Arc<str>,
    /// Where the owner comes from, as given when it was made; empty for nothing.
    pub source: &'static str,
    /// Whether the owner is a session rather than a label.
    pub session: bool,
    /// The request's priority.
    pub priority: u8,
    /// For how long it has waited.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::written::seconds::serialize"))]
    pub waited: Duration,
    /// Whether it, or its session that counts, holds the lock shared already.
    pub upgrade: bool,
    /// Its place in the line for this key; 1 is the next one.
    pub position: usize,
}

/// A key that stands out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TopKey {
    /// The key.
    pub key: ObjectKey,
    /// The hold that stands out, or the oldest of the key; `None` if free by then.
    pub holder: Option<HolderInfo>,
    /// How many wait for it.
    pub waiters: usize,
    /// How long the one that came first has waited.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::written::seconds::serialize"))]
    pub longest_wait: Duration,
}

/// One order in which a session took two locks, when it was first seen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockOrderLink {
    /// The session's name.
    pub session: Arc<str>,
    /// Where the session comes from, as given when it was begun.
    pub source: &'static str,
    /// What it held.
    pub held: ObjectKey,
    /// How it had taken that.
    pub held_mode: Mode,
    /// What it asked for, ready to wait.
    pub wanted: ObjectKey,
    /// How it wanted that.
    pub wanted_mode: Mode,
    /// When, as the time since the manager was made.
    pub at: Duration,
}

/// Sessions took locks in contradicting orders, which can become a deadlock.
///
/// See [`LockConfig::lock_order_lint`](crate::LockConfig::lock_order_lint).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockOrderReport {
    /// When it was noticed, as the time since the manager was made.
    pub at: Duration,
    /// What each session held and asked for, beginning with the latest order.
    ///
    /// Each asked for what the next one held, and the last one for what the first one held.
    pub links: Arc<[LockOrderLink]>,
}

impl fmt::Display for HolderInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.in_lock_delay {
            return write!(f, "{:#} is kept shut for another {:?}", self.key, self.lease.unwrap_or_default());
        }
        write!(f, "{} holds {:#} ({}, for at least {:?}", self.named(), self.key, self.mode, self.held_for)?;
        match self.lease {
            Some(left) => write!(f, ", {left:?} of its lease left)"),
            None => write!(f, ")"),
        }
    }
}

impl fmt::Display for WaiterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, mode, waited, position, .. } = self;
        write!(f, "{} waits for {key:#} ({mode}, for {waited:?}, number {position} in line)", self.named())
    }
}

impl fmt::Display for LockOrderLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, source, held, held_mode, wanted, wanted_mode, .. } = self;
        let session = Named(session, source);
        write!(f, "{session} held {held:#} ({held_mode}) and asked for {wanted:#} ({wanted_mode})")
    }
}

impl fmt::Display for LockOrderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "orders that go round: ")?;
        for (position, link) in self.links.iter().enumerate() {
            write!(f, "{}{link}", if position == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl HolderInfo {
    pub(crate) fn named(&self) -> Named<'_> {
        Named(&self.owner, self.source)
    }
}

impl WaiterInfo {
    pub(crate) fn named(&self) -> Named<'_> {
        Named(&self.owner, self.source)
    }
}

/// An owner's name and source, for people; what others put in a name is escaped.
pub(crate) struct Named<'a>(pub(crate) &'a str, pub(crate) &'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("an unnamed owner")?,
            name => write!(f, "{}", name.escape_debug())?,
        }
        match self.1 {
            "" => Ok(()),
            source => write!(f, " of {}", source.escape_debug()),
        }
    }
}

/// A deadlock that was broken; see [`recent_deadlocks`].
///
/// [`recent_deadlocks`]: crate::FastObjectLockManager::recent_deadlocks
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cycle {
    /// When, as the time since the manager was made.
    pub at: Duration,
    /// The session whose request failed with [`Deadlock`](crate::LockError::Deadlock).
    pub victim: Arc<str>,
    /// The sessions, from the victim on. Each waited for the next one, in a circle.
    pub links: Arc<[DeadlockLink]>,
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, link) in self.links.iter().enumerate() {
            write!(f, "{}{link}", if position == 0 { "" } else { ", " })?;
        }
        write!(f, "; {} gave way", self.victim.escape_debug())
    }
}

/// What the lint has found; made by [`lock_order_reports`].
///
/// [`lock_order_reports`]: crate::FastObjectLockManager::lock_order_reports
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockOrderReports {
    /// The latest reports, at most 64, oldest first.
    pub reports: Vec<LockOrderReport>,
    /// How many there were altogether.
    pub reported: u64,
    /// Orders that are remembered, at most 65,536.
    pub orders: usize,
    /// Orders that had to be forgotten because of that, the oldest first.
    ///
    /// A circle that needs one of them is not found until it is seen again.
    pub forgotten: u64,
}
