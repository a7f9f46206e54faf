//! What goes to a tier and comes back: asks, permits, answers.

use super::error::TierError;
use crate::key::{KeyRef, ObjectKey};
use crate::mode::Mode;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// An ask, and the permit that it becomes.
///
/// The manager draws it. It names one ask of one manager: a number comes again only after 2^38 further asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PermitId(NonZeroU64);

impl PermitId {
    /// Returns the number, for a transport to send.
    #[must_use]
    pub fn to_raw(self) -> u64 {
        self.0.get()
    }

    /// Returns the permit of a number; `None` for 0.
    #[must_use]
    pub fn from_raw(raw: u64) -> Option<Self> {
        NonZeroU64::new(raw).map(Self)
    }
}

/// A time in which permits do not end on their own; see the [module](crate::tier).
///
/// Terms of a tier only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Term(pub u64);

/// How hard a tier tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effort {
    /// The ask waits in the tier's queue until it is granted or withdrawn.
    Queue,
    /// All asks of the call are granted now, or none is.
    ///
    /// Nothing stays queued: the answer is [`Answer::Busy`], perhaps by an event.
    AllOrNone,
}

/// A wish for a permit.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'k> {
    /// The number of the ask, and of the permit.
    pub id: PermitId,
    /// What to lock.
    pub key: KeyRef<'k>,
    /// Shared permits go with each other, an exclusive one with no other.
    pub mode: Mode,
    /// The term that the ask is made in. The tier refuses an ask of an earlier one.
    pub term: Term,
    /// A permit of this process and key, which the ask gives back in the same step.
    ///
    /// In that step the ask joins the end of the queue, behind the processes that made the tier recall the permit. The permit
    /// is gone whatever the answer is. Only with [`Effort::Queue`].
    pub replaces: Option<PermitId>,
    /// Whose request caused the ask, for listings. Empty if that is not known.
    pub owner: &'k str,
}

/// The numbers of the exclusive holds under a permit: `first`, `first + 1`, ...
///
/// No other permit on the key ever gets one of them, and a later permit gets greater ones, over all processes and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Fences {
    /// The first number, at least 1.
    pub first: u64,
    /// How many numbers there are, at least 1; 0 counts as 1.
    ///
    /// A manager that has used all of them asks for another permit, which the tier sees once in `count` exclusive holds.
    pub count: u32,
}

impl Fences {
    /// Returns the first number behind the range.
    #[must_use]
    pub fn end(self) -> u64 {
        self.first.saturating_add(u64::from(self.count.max(1)))
    }
}

/// What a tier says to an ask, or to an upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The answer comes later, by [`answered`](super::TierEvents::answered).
    Pending,
    /// The permit is there.
    Granted {
        /// The numbers of its exclusive holds. A shared permit's are not used.
        fences: Fences,
        /// Whether a process ended while it had the key exclusively.
        ///
        /// Set once for each such process; the manager informs the next holder. If the permit ends without one, it calls
        /// [`death_unreported`](super::Tier::death_unreported).
        previous_died: bool,
    },
    /// Another process has the key, or waits for it. Only with `AllOrNone`.
    Busy,
    /// Another process waits to upgrade its shared permit of the key.
    ///
    /// Each would wait for the other. Only for upgrades.
    UpgradeConflict,
    /// The tier cannot do it.
    ///
    /// Nothing has changed, but that a permit that was to be replaced is gone. Nothing is queued.
    Failed(TierError),
}

/// A permit or an ask of any process, as listings show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteHold {
    /// The key.
    pub key: ObjectKey,
    /// How it is held, or asked for.
    pub mode: Mode,
    /// Whether the process waits for it.
    pub waits: bool,
    /// The process, as people recognise it: host, name, number.
    pub process: Arc<str>,
    /// Whose request caused the ask. Empty if that is not known.
    pub owner: Arc<str>,
    /// For how long the process has had the permit, or has waited, if that is known.
    pub since: Option<Duration>,
    /// Whether it is a permit or ask of the process that lists.
    pub own: bool,
}

impl fmt::Display for RemoteHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, mode, waits, process, owner, since, .. } = self;
        if !owner.is_empty() {
            write!(f, "{owner:?} of ")?;
        }
        write!(f, "{process} {} {key:#} ({mode}", if *waits { "waits for" } else { "holds" })?;
        match since {
            Some(since) => write!(f, ", for {since:?})"),
            None => write!(f, ")"),
        }
    }
}
