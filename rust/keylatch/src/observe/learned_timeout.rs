//! The learned timeout of a manager, for locks that belong to none.

use crate::config::AdaptiveTimeout;
use crate::error::LockError;
use crate::measure::{Adaptive, AdaptiveState};
use crate::sync::Clock;
use std::time::Duration;

/// A timeout that follows how long waits take, as for [`LockConfig::adaptive`].
///
/// [`LockConfig::adaptive`]: crate::LockConfig::adaptive
///
/// For locks of other kinds that want the same: report every wait, and use [`timeout`](Self::timeout) for the next.
///
/// ```
/// use keylatch::{AdaptiveTimeout, LearnedTimeout};
/// use std::time::Duration;
///
/// let learned = LearnedTimeout::new(AdaptiveTimeout::default(), Duration::from_secs(5))?;
/// assert_eq!(learned.timeout(), Duration::from_secs(5));
/// (0..100).for_each(|_| learned.observe(Duration::from_millis(100)));
/// assert!(learned.timeout() < Duration::from_millis(300));
/// # Ok::<(), keylatch::LockError>(())
/// ```
#[derive(Debug)]
pub struct LearnedTimeout {
    adaptive: Adaptive,
    clock: Clock,
}

impl LearnedTimeout {
    /// Starts with a timeout for as long as nothing is learned.
    ///
    /// # Errors
    ///
    /// Returns [`LockError::InvalidConfig`] for a policy that leaves no timeout; the error says which value does not fit.
    pub fn new(policy: AdaptiveTimeout, at_first: Duration) -> Result<Self, LockError> {
        policy.validate()?;
        Ok(Self { adaptive: Adaptive::new(policy, Some(at_first)), clock: Clock::start() })
    }

    /// Returns what serves as the timeout now.
    pub fn timeout(&self) -> Duration {
        self.adaptive.timeout()
    }

    /// Notes a wait that ended with the lock.
    pub fn observe(&self, waited: Duration) {
        self.adaptive.observe(nanos(waited), self.now());
    }

    /// Notes a wait that ended without the lock.
    pub fn observe_timeout(&self, waited: Duration) {
        self.adaptive.observe_timeout(nanos(waited), self.now());
    }

    /// Returns what was learned so far.
    pub fn state(&self) -> AdaptiveState {
        self.adaptive.state(self.now())
    }

    fn now(&self) -> u64 {
        nanos(self.clock.elapsed())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
