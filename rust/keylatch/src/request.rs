//! What a caller asks for: one lock, or a batch of them.

use crate::hold::OwnerRef;
use crate::key::KeyRef;
use crate::mode::Mode;
use std::time::{Duration, Instant};

/// How long a request may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Limit {
    /// As the manager is set.
    #[default]
    Default,
    /// For as long as it takes.
    Never,
    /// For this number of nanoseconds from when it is made.
    After(u64),
    /// Until then.
    At(Instant),
}

impl Limit {
    /// For this long from when the request is made.
    #[inline(always)]
    pub(crate) fn after(timeout: Duration) -> Self {
        // What does not fit is longer than 500 years.
        u64::try_from(timeout.as_nanos()).map_or(Self::Never, Self::After)
    }
}

/// A request for one lock.
///
/// ```
/// use keylatch::{FastObjectLockManager, LockRequest};
/// use std::time::Duration;
/// # fn main() -> Result<(), keylatch::LockError> {
/// let locks = FastObjectLockManager::new();
/// let request = LockRequest::write(("photos", "cat.jpg")).owner("indexer").timeout(Duration::from_secs(1)).priority(10);
/// let guard = locks.lock(request).blocking()?;
/// # Ok(()) }
/// ```
// It is part of every future that makes it, and moved with it: see `Acquire`. So times are in nanoseconds, and what may be
// missing has its mark at the end, with the other bytes.
#[derive(Debug, Clone, Copy)]
#[must_use = "a request does nothing until it is given to a manager"]
pub struct LockRequest<'a> {
    pub(crate) key: KeyRef<'a>,
    pub(crate) owner: OwnerRef<'a>,
    pub(crate) limit: Limit,
    /// In nanoseconds; 0 if it has none.
    pub(crate) ttl: u64,
    request_id: u64,
    /// The entry of the manager's table that a pin keeps for the key, or 0.
    ///
    /// Only in a request that its pin gives to its own manager.
    pub(crate) entry: u32,
    pub(crate) mode: Mode,
    pub(crate) priority: u8,
    has_ttl: bool,
    has_request_id: bool,
}

impl<'a> LockRequest<'a> {
    /// Returns whether it asks for more than the fast path gives.
    #[inline(always)]
    pub(crate) fn is_special(&self) -> bool {
        self.has_ttl | self.has_request_id | matches!(self.owner, OwnerRef::Session(_))
    }

    /// For how long its hold is to be safe.
    #[inline(always)]
    pub(crate) fn lease(&self) -> Option<Duration> {
        self.has_ttl.then(|| Duration::from_nanos(self.ttl))
    }

    /// Returns its number.
    #[inline(always)]
    pub(crate) fn number(&self) -> Option<u64> {
        self.has_request_id.then_some(self.request_id)
    }

    /// Asks for the key in a mode.
    #[inline(always)]
    pub fn new(key: impl Into<KeyRef<'a>>, mode: Mode) -> Self {
        Self {
            key: key.into(),
            owner: OwnerRef::Named(""),
            limit: Limit::Default,
            ttl: 0,
            request_id: 0,
            entry: 0,
            mode,
            priority: 0,
            has_ttl: false,
            has_request_id: false,
        }
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

    /// Whose request this is: a label for listings, or a [`Session`](crate::Session).
    #[inline(always)]
    pub fn owner(self, owner: impl Into<OwnerRef<'a>>) -> Self {
        Self { owner: owner.into(), ..self }
    }

    /// Waits for at most this long; zero tries once, `Duration::MAX` has no limit.
    #[inline(always)]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { limit: Limit::after(timeout), ..self }
    }

    /// Waits until then.
    #[inline(always)]
    pub fn deadline(self, deadline: Instant) -> Self {
        Self { limit: Limit::At(deadline), ..self }
    }

    /// Waits for as long as it takes, whatever the manager's default is.
    #[inline(always)]
    pub fn no_timeout(self) -> Self {
        Self { limit: Limit::Never, ..self }
    }

    /// Waits ahead of requests of lower priority.
    ///
    /// It may overtake them `overtake_limit` times. The default is 0, the lowest.
    #[inline(always)]
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// Makes the hold a lease: once this long has passed since the grant or the last
    /// [`renew`](crate::LockGuard::renew), a waiter may take it away; from a grant, also a request that finds no
    /// room in the table.
    #[inline(always)]
    pub fn ttl(self, ttl: Duration) -> Self {
        let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
        Self { ttl, has_ttl: true, ..self }
    }

    /// Numbers a session's request, to be made again when its answer was lost.
    ///
    /// As long as the lock is held the same session gets the same [`Grant`](crate::Grant) for the same number, and
    /// while the first one waits, the others wait for its answer. Only for
    /// [`grant_blocking`](crate::Lock::grant_blocking) and [`grant_now`](crate::Lock::grant_now): a guard exists once.
    #[inline(always)]
    pub fn request_id(self, request_id: u64) -> Self {
        Self { request_id, has_request_id: true, ..self }
    }
}

/// What a batch does about a lock that it cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BatchMode {
    /// All of them or none.
    #[default]
    AllOrNothing,
    /// Those that can be had within the time; the others are reported.
    BestEffort,
}

/// A request for many locks together.
///
/// Locks are waited for in the order of their keys, so that two batches never wait for each other, whatever order they
/// were written in. A key that is named twice is taken once, exclusively if either asks for that.
///
/// ```
/// use keylatch::{BatchLockRequest, FastObjectLockManager};
/// # fn main() -> Result<(), keylatch::LockError> {
/// let locks = FastObjectLockManager::new();
/// let all = locks.acquire_locks_batch_blocking(
///     BatchLockRequest::new("mover").add_write_lock("b", "target").add_read_lock("b", "source"),
/// )?;
/// assert_eq!(all.len(), 2);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is given to a manager"]
pub struct BatchLockRequest<'a> {
    pub(crate) owner: OwnerRef<'a>,
    /// With the entry that a pin keeps for the key, or 0.
    pub(crate) wanted: Vec<(KeyRef<'a>, Mode, u32)>,
    /// The manager that the pins are of; without one the entries mean nothing.
    pub(crate) pins_of: Option<usize>,
    pub(crate) priority: u8,
    pub(crate) limit: Limit,
    pub(crate) ttl: Option<Duration>,
    pub(crate) batch_mode: BatchMode,
}

impl<'a> BatchLockRequest<'a> {
    /// Makes an empty batch.
    pub fn new(owner: impl Into<OwnerRef<'a>>) -> Self {
        let (wanted, limit) = (Vec::new(), Limit::Default);
        Self {
            owner: owner.into(),
            wanted,
            pins_of: None,
            priority: 0,
            limit,
            ttl: None,
            batch_mode: BatchMode::AllOrNothing,
        }
    }

    /// Adds a key in a mode.
    #[inline(always)]
    pub fn add(self, key: impl Into<KeyRef<'a>>, mode: Mode) -> Self {
        self.add_at(key.into(), mode, 0)
    }

    #[inline(always)]
    pub(crate) fn add_at(self, key: KeyRef<'a>, mode: Mode, entry: u32) -> Self {
        // Apart from the rest: a call that may be made with a reference to it would have all of the request in memory,
        // and copied there for each key.
        let Self { mut wanted, .. } = self;
        if wanted.capacity() == 0 {
            wanted.reserve(16);
        }
        wanted.push((key, mode, entry));
        Self { wanted, ..self }
    }

    /// Adds keys that something else owns, each in its mode.
    ///
    /// ```
    /// use keylatch::{BatchLockRequest, Mode, ObjectKey};
    /// let parts: Vec<_> = (0..3).map(|part| ObjectKey::new("uploads", format!("video/{part}"))).collect();
    /// let batch = BatchLockRequest::new("merger").add_all(parts.iter().map(|part| (part, Mode::Exclusive)));
    /// # let locks = keylatch::FastObjectLockManager::new();
    /// # assert_eq!(locks.acquire_locks_batch_blocking(batch).unwrap().len(), 3);
    /// ```
    pub fn add_all<K: Into<KeyRef<'a>>>(self, keys: impl IntoIterator<Item = (K, Mode)>) -> Self {
        keys.into_iter().fold(self, |batch, (key, mode)| batch.add(key, mode))
    }

    /// Adds an object to hold alone.
    #[inline(always)]
    pub fn add_write_lock(
        self,
        bucket: &'a (impl AsRef<[u8]> + ?Sized),
        object: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> Self {
        self.add(KeyRef::new(bucket, object), Mode::Exclusive)
    }

    /// Adds an object to share.
    #[inline(always)]
    pub fn add_read_lock(
        self,
        bucket: &'a (impl AsRef<[u8]> + ?Sized),
        object: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> Self {
        self.add(KeyRef::new(bucket, object), Mode::Shared)
    }

    /// Waits for at most this long, for all of them together.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { limit: Limit::after(timeout), ..self }
    }

    /// Waits until then.
    pub fn deadline(self, deadline: Instant) -> Self {
        Self { limit: Limit::At(deadline), ..self }
    }

    /// As [`LockRequest::priority`].
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// As [`LockRequest::ttl`], for each lock, from when the batch has them all.
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// What to do about a lock that cannot be had; the default is all or nothing.
    pub fn mode(self, batch_mode: BatchMode) -> Self {
        Self { batch_mode, ..self }
    }
    /// Returns the request for one of the keys, of a batch that waits.
    pub(crate) fn one(&self, key: KeyRef<'a>, mode: Mode, deadline: Option<Instant>) -> LockRequest<'a> {
        let request = LockRequest::new(key, mode).owner(self.owner).priority(self.priority);
        deadline.map_or(request.no_timeout(), |at| request.deadline(at))
    }
}
