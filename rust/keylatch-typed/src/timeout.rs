//! How long a request waits that names no timeout of its own.

use std::time::Duration;

/// The default timeout of a lock.
#[derive(Debug)]
pub(crate) enum DefaultTimeout {
    Fixed(Duration),
}

impl DefaultTimeout {
    /// What serves now.
    pub(crate) fn current(&self) -> Duration {
        match self {
            Self::Fixed(timeout) => *timeout,
        }
    }
}
