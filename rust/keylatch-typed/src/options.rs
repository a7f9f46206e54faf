//! What a lock is made with.

use crate::id::LockId;
use crate::stats::{LockStats, OwnedStats, Statistics};
use keylatch::{AdaptiveTimeout, LearnedTimeout, LockError};
use std::panic::Location;
use std::time::Duration;

/// The settings of a lock, for `with_options`.
///
/// ```
/// use keylatch_typed::{AsyncMutex, LockId, LockOptions, Statistics};
/// use std::time::Duration;
///
/// let options = LockOptions::new(Duration::from_secs(5)).id(LockId::new("cache.rs", "lru")).statistics(Statistics::Sampled);
/// let lru = AsyncMutex::with_options(Vec::<u8>::new(), options);
/// assert_eq!(lru.stats().id().name(), "lru");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct LockOptions {
    timeout: Duration,
    adaptive: Option<AdaptiveTimeout>,
    id: Option<LockId>,
    statistics: Statistics,
}

impl LockOptions {
    /// Starts with this default timeout and exact statistics.
    ///
    /// The id says where the lock was made. A timeout of zero never waits, [`Duration::MAX`] waits without an end.
    pub const fn new(default_timeout: Duration) -> Self {
        Self { timeout: default_timeout, adaptive: None, id: None, statistics: Statistics::Exact }
    }

    /// Sets the id for errors and reports.
    pub fn id(mut self, id: LockId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets how much of its holds the lock measures.
    pub const fn statistics(mut self, statistics: Statistics) -> Self {
        self.statistics = statistics;
        self
    }

    /// Lets the default timeout follow how long waits of this lock take.
    ///
    /// A quantile of them, within a floor and a ceiling.
    ///
    /// The timeout given so far serves, within these bounds, until 32 waits were observed. The state is visible through
    /// [`LockStats::adaptive_timeout`].
    ///
    /// ```
    /// use keylatch_typed::{AdaptiveTimeout, AsyncMutex, LockOptions};
    /// use std::time::Duration;
    ///
    /// let policy = AdaptiveTimeout { floor: Duration::from_millis(50), ..AdaptiveTimeout::default() };
    /// let index = AsyncMutex::with_options((), LockOptions::new(Duration::from_secs(5)).adaptive(policy)?);
    /// assert_eq!(index.stats().adaptive_timeout().unwrap().timeout, Duration::from_secs(5));
    /// # Ok::<(), keylatch::LockError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`LockError::InvalidConfig`] for a policy that leaves no timeout; the error says which value does not fit.
    pub fn adaptive(mut self, policy: AdaptiveTimeout) -> Result<Self, LockError> {
        LearnedTimeout::new(policy, self.timeout)?;
        self.adaptive = Some(policy);
        Ok(self)
    }

    pub(crate) fn into_stats(self, made_at: &'static Location<'static>) -> OwnedStats {
        let learned = |policy| LearnedTimeout::new(policy, self.timeout).expect("`adaptive` refuses other policies");
        let learned = self.adaptive.map(learned);
        OwnedStats::new(LockStats::new(self.id, self.statistics, self.timeout, learned, made_at))
    }
}
