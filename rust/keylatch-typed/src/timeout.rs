//! How long a request waits that names no timeout of its own.

use keylatch::LearnedTimeout;
use std::time::Duration;

/// The default timeout that a lock is made with.
#[derive(Debug)]
pub(crate) enum DefaultTimeout {
    Fixed(Duration),
    Learned(Box<LearnedTimeout>),
}

impl DefaultTimeout {
    /// Returns what serves now.
    pub(crate) fn current(&self) -> Duration {
        match self {
            Self::Fixed(timeout) => *timeout,
            Self::Learned(learned) => learned.timeout(),
        }
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    Granted,
    TimedOut,
}
