//! A grant: a held lock as a number, for borders that guards cannot cross.
//!
//! `hold::record` has the diagram of its bits.

use std::num::NonZeroU64;

const INDEX_BITS: u32 = 26;
/// The bits of the record's index.
pub(crate) const INDEX: u64 = (1 << INDEX_BITS) - 1;
/// What a generation adds.
pub(crate) const ONE_GENERATION: u64 = 1 << INDEX_BITS;
/// The most records that a grant can tell apart.
pub(crate) const MAX_RECORDS: u32 = (1 << INDEX_BITS) - 1;

/// A held lock as a number: a guard becomes one where guards cannot go.
///
/// It is never 0. It is released exactly once: a second or late release harms no other hold and returns
/// [`LockError::NotHeld`](crate::LockError::NotHeld).
///
/// ```
/// # fn main() -> Result<(), keylatch::LockError> {
/// let locks = keylatch::FastObjectLockManager::new();
/// let grant = locks.acquire_write_lock_blocking("b", "o", "me")?.into_grant();
/// assert_eq!(keylatch::Grant::from_raw(grant.to_raw()), Some(grant));
/// locks.release(grant)?;
/// assert!(locks.release(grant).is_err());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grant(NonZeroU64);

impl Grant {
    /// Returns the grant of a record in a generation, which is not 0.
    #[inline(always)]
    pub(crate) fn new(generation: u64, index: u32) -> Self {
        Self(NonZeroU64::new(generation | u64::from(index)).unwrap_or(NonZeroU64::MIN))
    }

    /// Returns the number, for C and for tables of one's own.
    #[must_use]
    pub fn to_raw(self) -> u64 {
        self.0.get()
    }

    /// Returns the grant of a number; `None` for 0.
    ///
    /// A number that is no grant is refused when it is used.
    #[must_use]
    pub fn from_raw(raw: u64) -> Option<Self> {
        NonZeroU64::new(raw).map(Self)
    }

    #[inline(always)]
    pub(crate) fn index(self) -> u32 {
        // 26 bits.
        (self.0.get() & INDEX) as u32
    }

    #[inline(always)]
    pub(crate) fn generation(self) -> u64 {
        self.0.get() & !INDEX
    }
}
