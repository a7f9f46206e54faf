//! Which holds or waits are meant.

use super::session::SESSION;
use crate::key::{KeyRef, ObjectKey};
use crate::mode::Mode;
use std::time::Duration;

/// Which holds or waits are meant: those that meet every condition that was set.
///
/// Without a condition, a listing shows everything and a revocation
/// ([`force_release`](crate::FastObjectLockManager::force_release), [`expire`](crate::FastObjectLockManager::expire))
/// does nothing: revoking everything takes [`Filter::all`], so that a condition that was lost on the way, such as an
/// owner that a look-up did not find, never revokes the locks of everyone.
///
/// ```
/// use keylatch::{FastObjectLockManager, Filter, Mode};
/// # fn main() -> Result<(), keylatch::LockError> {
/// let locks = FastObjectLockManager::new();
/// let _cat = locks.acquire_write_lock_blocking("photos", "2024/cat.jpg", "indexer")?;
/// let _dog = locks.acquire_read_lock_blocking("photos", "2024/dog.jpg", "viewer")?;
/// let _log = locks.acquire_write_lock_blocking("logs", "today", "indexer")?;
/// assert_eq!(locks.holders(&Filter::new()).len(), 3);
/// assert_eq!(locks.holders(&Filter::new().bucket("photos").prefix("2024/")).len(), 2);
/// assert_eq!(locks.holders(&Filter::new().owner("indexer").bucket("logs")).len(), 1);
/// assert_eq!(locks.holders(&Filter::new().mode(Mode::Shared))[0].key.object(), b"2024/dog.jpg");
/// assert!(locks.holders(&Filter::new().key(("photos", "2025/cat.jpg"))).is_empty());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "a filter does nothing until something is asked with it"]
pub struct Filter {
    bucket: Option<Vec<u8>>,
    key: Option<ObjectKey>,
    prefix: Option<Vec<u8>>,
    owner: Option<String>,
    source: Option<String>,
    sessions: bool,
    mode: Option<Mode>,
    older_than: Option<Duration>,
    all: bool,
}

impl Filter {
    /// A filter without conditions: all of them in a listing, none in a revocation.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a filter that matches everything, in a revocation too.
    ///
    /// ```
    /// # fn main() -> Result<(), keylatch::LockError> {
    /// use keylatch::{FastObjectLockManager, Filter};
    /// let locks = FastObjectLockManager::new();
    /// let held = locks.acquire_write_lock_blocking("photos", "cat.jpg", "node-7")?;
    /// assert!(locks.force_release(&Filter::new()).is_empty());
    /// assert_eq!(locks.force_release(&Filter::all()).len(), 1);
    /// assert!(!held.is_valid());
    /// # Ok(()) }
    /// ```
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Returns whether the filter has no condition and does not say "all".
    ///
    /// A revocation refuses it.
    pub fn is_unspecified(&self) -> bool {
        *self == Self::default()
    }

    /// Those of keys in this bucket.
    pub fn bucket(self, bucket: impl AsRef<[u8]>) -> Self {
        Self { bucket: Some(bucket.as_ref().to_vec()), ..self }
    }

    /// Those of this one key. Without a version that is the latest, and no other.
    pub fn key<'k>(self, key: impl Into<KeyRef<'k>>) -> Self {
        Self { key: Some(key.into().to_owned()), ..self }
    }

    /// Those of objects whose names begin so, in whatever bucket and version.
    pub fn prefix(self, prefix: impl AsRef<[u8]>) -> Self {
        Self { prefix: Some(prefix.as_ref().to_vec()), ..self }
    }

    /// Those of owners with this name: labels and sessions.
    ///
    /// Names are kept up to 256 bytes, so the rest does not count.
    pub fn owner(self, name: impl AsRef<str>) -> Self {
        let name = name.as_ref();
        let kept = &name[..name.floor_char_boundary(crate::config::MAX_NAME_BYTES)];
        Self { owner: Some(kept.to_owned()), ..self }
    }

    /// Those of sessions with this name.
    pub fn session(self, name: impl AsRef<str>) -> Self {
        self.owner(name).sessions()
    }

    /// Those of sessions, and not of labels.
    pub fn sessions(self) -> Self {
        Self { sessions: true, ..self }
    }

    /// Those of owners from this source; see
    /// [`owner_with_source`](crate::FastObjectLockManager::owner_with_source).
    pub fn source(self, source: impl Into<String>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Those that are held, or asked for, in this mode.
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode: Some(mode), ..self }
    }

    /// Those that have been held, or waited, for at least this long.
    ///
    /// Taking a free lock reads no clock, so a hold's age counts from the first look at it: by a waiter for the
    /// lock, by a listing, or by a subscriber that asks for [`hold_above`](crate::EventOptions::hold_above). To find old
    /// holds without waiters, list them twice.
    pub fn older_than(self, age: Duration) -> Self {
        Self { older_than: Some(age), ..self }
    }

    /// Returns the one key that is meant, if there is one.
    pub(crate) fn only_key(&self) -> Option<KeyRef<'_>> {
        self.key.as_ref().map(ObjectKey::as_ref)
    }

    /// Returns whether the conditions apply that need no look at the key.
    pub(crate) fn lets_pass(&self, mode: Mode, owner: u32, age: Duration) -> bool {
        self.mode.is_none_or(|wanted| wanted == mode)
            && (!self.sessions || owner & SESSION != 0)
            && self.older_than.is_none_or(|least| age >= least)
    }

    pub(crate) fn is_for_key(&self, key: &KeyRef<'_>) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| bucket == key.bucket())
            && self.prefix.as_ref().is_none_or(|prefix| key.object().starts_with(prefix))
            && self.key.as_ref().is_none_or(|wanted| wanted.as_ref() == *key)
    }

    pub(crate) fn is_for_owner(&self, name: &str, source: &str) -> bool {
        self.owner.as_ref().is_none_or(|wanted| wanted == name)
            && self.source.as_ref().is_none_or(|wanted| wanted == source)
    }
}
