//! A request, as the caller writes it.

use keylatch::{KeyRef, Mode};
use std::time::{Duration, Instant};

/// How long a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Default,
    Never,
    For(Duration),
    At(Instant),
}

/// A request for one lock: key, mode, owner, and how long to wait.
///
/// ```
/// use keylatch_shm::LockRequest;
/// use std::time::Duration;
/// let request = LockRequest::write(("photos", "cat.jpg")).owner("indexer").timeout(Duration::from_millis(5));
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use = "a request does nothing until it is given to a table"]
pub struct LockRequest<'a> {
    pub(crate) key: KeyRef<'a>,
    pub(crate) owner: &'a str,
    pub(crate) mode: Mode,
    pub(crate) limit: Limit,
}

impl<'a> LockRequest<'a> {
    /// Asks for the key in a mode.
    #[inline(always)]
    pub fn new(key: impl Into<KeyRef<'a>>, mode: Mode) -> Self {
        Self { key: key.into(), owner: "", mode, limit: Limit::Default }
    }

    /// Asks to hold the key alone.
    #[inline(always)]
    pub fn write(key: impl Into<KeyRef<'a>>) -> Self {
        Self::new(key, Mode::Exclusive)
    }

    /// Asks to share the key.
    #[inline(always)]
    pub fn read(key: impl Into<KeyRef<'a>>) -> Self {
        Self::new(key, Mode::Shared)
    }

    /// Names the owner, a label for errors and listings; the first 32 bytes are kept.
    #[inline(always)]
    pub fn owner(self, owner: &'a str) -> Self {
        Self { owner, ..self }
    }

    /// Waits for at most this long.
    ///
    /// Zero tries once; `Duration::MAX` waits for as long as it takes.
    #[inline(always)]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { limit: Limit::For(timeout), ..self }
    }

    /// Waits until then.
    #[inline(always)]
    pub fn deadline(self, deadline: Instant) -> Self {
        Self { limit: Limit::At(deadline), ..self }
    }

    /// Waits for as long as it takes, whatever the table's default is.
    #[inline(always)]
    pub fn no_timeout(self) -> Self {
        Self { limit: Limit::Never, ..self }
    }
}

impl Limit {
    pub(crate) fn deadline(self, default: Option<Duration>) -> Option<Instant> {
        let after = |timeout| Instant::now().checked_add(timeout);
        match self {
            Limit::Default => default.and_then(after),
            Limit::Never => None,
            Limit::For(timeout) => after(timeout),
            Limit::At(deadline) => Some(deadline),
        }
    }
}

/// A request for several locks, of which the caller gets all or none.
///
/// Locks are waited for in the order of their keys, so two batches never wait for each other. A key that is named twice
/// is taken once, exclusively if either asks for that.
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is given to a table"]
pub struct BatchLockRequest<'a> {
    pub(crate) owner: &'a str,
    pub(crate) wanted: Vec<(KeyRef<'a>, Mode)>,
    pub(crate) limit: Limit,
}

impl<'a> BatchLockRequest<'a> {
    /// An empty batch.
    pub fn new(owner: &'a str) -> Self {
        Self { owner, wanted: Vec::new(), limit: Limit::Default }
    }

    /// Adds a key in a mode.
    pub fn add(mut self, key: impl Into<KeyRef<'a>>, mode: Mode) -> Self {
        self.wanted.push((key.into(), mode));
        self
    }

    /// Waits for at most this long, for all of them together.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { limit: Limit::For(timeout), ..self }
    }

    /// Waits until then.
    pub fn deadline(self, deadline: Instant) -> Self {
        Self { limit: Limit::At(deadline), ..self }
    }

    /// In the order of the keys, each once, in the stronger of its modes.
    pub(crate) fn sorted(&self) -> Vec<(KeyRef<'a>, Mode)> {
        let mut sorted = self.wanted.clone();
        sorted.sort_by(|one, other| one.0.cmp(&other.0).then(other.1.cmp(&one.1)));
        sorted.dedup_by(|later, earlier| later.0 == earlier.0);
        sorted
    }
}
