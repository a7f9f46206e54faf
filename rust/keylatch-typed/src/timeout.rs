//! How long a request waits that names no timeout of its own.

use crate::clock;
use keylatch::{AdaptiveState, LearnedTimeout};
use std::time::Duration;

/// The default timeout of a lock.
#[derive(Debug)]
pub(crate) enum DefaultTimeout {
    Fixed(Duration),
    Learned(Box<LearnedTimeout>),
}

impl DefaultTimeout {
    /// What serves now.
    pub(crate) fn current(&self) -> Duration {
        match self {
            Self::Fixed(timeout) => *timeout,
            Self::Learned(learned) => learned.timeout(),
        }
    }

    /// Notes a wait that is over, in ticks.
    ///
    /// Every wait counts, also of requests that named their own timeout.
    pub(crate) fn observe(&self, waited: u64, ended: WaitEnd) {
        match (self, ended) {
            (Self::Fixed(_), _) => {}
            (Self::Learned(learned), WaitEnd::Granted) => learned.observe(clock::duration(waited)),
            (Self::Learned(learned), WaitEnd::TimedOut) => learned.observe_timeout(clock::duration(waited)),
        }
    }

    /// What was learned, if the lock learns.
    pub(crate) fn state(&self) -> Option<AdaptiveState> {
        match self {
            Self::Fixed(_) => None,
            Self::Learned(learned) => Some(learned.state()),
        }
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    Granted,
    TimedOut,
}
