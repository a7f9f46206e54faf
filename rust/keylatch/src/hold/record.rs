//! The hold record: 32 bytes for every grant, and the number that names it outside.
//!
//! ```text
//!  state                                                   grant (what crosses every border)
//!  63                      26 25      16 15     8 7      0  63                      26 25                     0
//! +--------------------------+----------+--------+--------+ +-------------------------+------------------------+
//! |       generation         |    0     |priority| flags  | |       generation        |     record's index     |
//! +--------------------------+----------+--------+--------+ +-------------------------+------------------------+
//! ```
//!
//! | flags | state | who may change it |
//! |---|---|---|
//! | none | free: in some thread's cache or in the arena | the thread that takes it |
//! | HELD | belongs to a guard, which nobody can copy | the guard, or the shard's owner while it has a waiting bit set in the lock's word, so that the guard's own release comes to the shard |
//! | HELD, LOOSE | belongs to whoever knows the grant | a compare-and-swap that takes LOOSE away decides who goes on as its guard would |
//!
//! The generation moves with every release and no record is used again once it has run out of generations, so that an
//! old grant is told from every later one, for ever. Each manager starts at a generation of its own, drawn at random, so
//! that a grant of another manager is refused too.

use crate::memory::{Pooled, Vacant};
use crate::mode::Mode;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::num::NonZeroU64;

const HELD: u64 = 1;
const EXCLUSIVE: u64 = 1 << 1;
const LOOSE: u64 = 1 << 2;
const PRIORITY_SHIFT: u32 = 8;
const INDEX_BITS: u32 = 26;
const INDEX: u64 = (1 << INDEX_BITS) - 1;
const ONE_GENERATION: u64 = 1 << INDEX_BITS;

/// The most records that a grant can tell apart.
pub(crate) const MAX_RECORDS: u32 = (1 << INDEX_BITS) - 1;

const _: () = assert!(cfg!(loom) || size_of::<Record>() == 32);
const _: () = assert!((HELD | EXCLUSIVE | LOOSE | 0xff << PRIORITY_SHIFT) & !INDEX == 0);

/// A lock somebody holds, as a number: what a guard becomes when it has to cross a border that guards cannot.
///
/// It is never 0, it is released exactly once, and a second or late release is told so with
/// [`LockError::NotHeld`](crate::LockError::NotHeld) and harms nobody.
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
    /// The number, for C and for tables of one's own.
    #[must_use]
    pub fn to_raw(self) -> u64 {
        self.0.get()
    }

    /// A grant from its number; `None` for 0. A number that is no grant is found out when it is used.
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
    fn generation(self) -> u64 {
        self.0.get() & !INDEX
    }
}

/// See the module.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Record {
    state: AtomicU64,
    /// The entry held; 0 from the moment the holder sets out to release it. In a free record: the next free one.
    entry: AtomicU32,
    owner: AtomicU32,
    /// Nanoseconds on the manager's clock, or 0: nobody has looked yet, and the fast path reads no clock.
    since: AtomicU64,
    /// What the holder noted for its release: the lock's word as it left it, and the shard.
    note: AtomicU64,
}

#[cfg(not(loom))]
// SAFETY: atomic integers.
unsafe impl Vacant for Record {}
#[cfg(loom)]
// SAFETY: built by hand under the model checker.
unsafe impl Vacant for Record {
    fn vacant() -> Self {
        Self {
            state: AtomicU64::new(0),
            entry: AtomicU32::new(0),
            owner: AtomicU32::new(0),
            since: AtomicU64::new(0),
            note: AtomicU64::new(0),
        }
    }
    fn vacate(&self) {
        self.state.store(0, Ordering::Relaxed);
    }
}

// SAFETY: as above.
unsafe impl Pooled for Record {
    fn link(&self) -> &AtomicU32 {
        &self.entry
    }

    fn mark(&self) -> u64 {
        self.state.load(Ordering::Relaxed) & !INDEX
    }

    fn revive(&self, mark: u64) {
        self.state.store(mark, Ordering::Relaxed);
    }
}

/// What a record says of a hold that is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) entry: u32,
    pub(crate) mode: Mode,
    pub(crate) owner: u32,
    pub(crate) priority: u8,
    pub(crate) since: u64,
    /// The grant's generation, for [`Record::grant`].
    generation: u64,
}

impl Held {
    /// The grant that names the hold, whose record is at this index.
    pub(crate) fn grant(&self, index: u32) -> Grant {
        Grant(NonZeroU64::new(self.generation | u64::from(index)).unwrap_or(NonZeroU64::MIN))
    }
}

/// A first generation that no other manager is likely to have.
pub(crate) fn first_mark(random: u64) -> u64 {
    // The lower half, and never 0: half of all generations are left before a record runs out.
    ((random >> 1) & !INDEX) | ONE_GENERATION
}

impl Record {
    /// Fills in a free record, before or after its owner has the lock, and names it.
    #[inline(always)]
    pub(crate) fn fill(&self, index: u32, entry: u32, mode: Mode, owner: u32, priority: u8, since: u64) -> Grant {
        let generation = self.state.load(Ordering::Relaxed) & !INDEX;
        self.entry.store(entry, Ordering::Relaxed);
        self.owner.store(owner, Ordering::Relaxed);
        self.since.store(since, Ordering::Relaxed);
        let mode = if mode == Mode::Exclusive { EXCLUSIVE } else { 0 };
        // Release: whoever reads this state reads this entry and owner, or later ones.
        self.state.store(generation | u64::from(priority) << PRIORITY_SHIFT | mode | HELD, Ordering::Release);
        let raw = generation | u64::from(index);
        Grant(NonZeroU64::new(raw).unwrap_or(NonZeroU64::MIN))
    }

    /// Notes something for the release.
    #[inline(always)]
    pub(crate) fn set_note(&self, note: u64) {
        self.note.store(note, Ordering::Relaxed);
    }

    /// What was noted last. Whoever filled the record since the one who looks at it may have left an old note.
    #[inline(always)]
    pub(crate) fn note(&self) -> u64 {
        self.note.load(Ordering::Relaxed)
    }

    /// Entry and mode, for the guard, which is the only one to release it.
    #[inline(always)]
    pub(crate) fn held_by_guard(&self, grant: Grant) -> Option<(u32, Mode)> {
        let state = self.state.load(Ordering::Relaxed);
        if (state ^ grant.generation()) & (!INDEX | HELD | LOOSE) != HELD {
            return None;
        }
        Some((self.entry.load(Ordering::Relaxed), mode_of(state)))
    }

    /// Marks that the hold is about to end, so that listings leave it out; done before the lock's word changes.
    #[inline(always)]
    pub(crate) fn end(&self) {
        self.entry.store(0, Ordering::Relaxed);
    }

    /// Frees the record after the lock's word changed. `false` if it must not be used again.
    #[inline(always)]
    #[must_use]
    pub(crate) fn freed(&self) -> bool {
        let generation = self.state.load(Ordering::Relaxed) & !INDEX;
        let next = generation.wrapping_add(ONE_GENERATION);
        self.state.store(next, Ordering::Relaxed);
        // Pairs with the fence in `held`: who reads the free list's link that is written next sees this generation.
        crate::sync::atomic::fence(Ordering::Release);
        next != 0
    }

    /// From a guard's hold to one that the grant's number is enough for.
    pub(crate) fn let_loose(&self) {
        self.state.fetch_or(LOOSE, Ordering::Release);
    }

    /// Takes a loose hold, to release or convert it as a guard would. Exactly one caller with the right grant succeeds.
    pub(crate) fn catch(&self, grant: Grant) -> bool {
        let mut state = self.state.load(Ordering::Acquire);
        while (state ^ grant.generation()) & (!INDEX | HELD | LOOSE) == HELD | LOOSE {
            // Acquire pairs with the Release of `let_loose` and `fill`.
            match self.state.compare_exchange(state, state & !LOOSE, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// The hold's mode changes; its holder asks for it.
    pub(crate) fn set_mode(&self, mode: Mode) {
        match mode {
            Mode::Exclusive => self.state.fetch_or(EXCLUSIVE, Ordering::Release),
            Mode::Shared => self.state.fetch_and(!EXCLUSIVE, Ordering::Release),
        };
    }

    /// What the record says, if it stands for a hold; for everybody, at any time.
    pub(crate) fn held(&self) -> Option<Held> {
        let state = self.state.load(Ordering::Acquire);
        if state & HELD == 0 {
            return None;
        }
        let held = Held {
            entry: self.entry.load(Ordering::Relaxed),
            mode: mode_of(state),
            owner: self.owner.load(Ordering::Relaxed),
            // 8 bits.
            priority: (state >> PRIORITY_SHIFT) as u8,
            since: self.since.load(Ordering::Relaxed),
            generation: state & !INDEX,
        };
        // The same generation afterwards: all of it was of one hold. The fence keeps the reads above from sinking below.
        crate::sync::atomic::fence(Ordering::Acquire);
        let same = self.state.load(Ordering::Relaxed) & !INDEX == state & !INDEX;
        (same && held.entry != 0).then_some(held)
    }

    /// Sets the time of a hold that was taken without reading a clock, as seen from now on.
    pub(crate) fn stamp(&self, now: u64) {
        let _ = self.since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[inline(always)]
fn mode_of(state: u64) -> Mode {
    if state & EXCLUSIVE == 0 { Mode::Shared } else { Mode::Exclusive }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn fresh() -> Record {
        let record = Record {
            state: AtomicU64::new(0),
            entry: AtomicU32::new(0),
            owner: AtomicU32::new(0),
            since: AtomicU64::new(0),
            note: AtomicU64::new(0),
        };
        record.revive(first_mark(0x1234_5678_9abc_def0));
        record
    }

    #[test]
    fn an_old_grant_is_told_from_every_later_one() {
        let record = fresh();
        let first = record.fill(7, 3, Mode::Exclusive, 1, 9, 0);
        assert_eq!(first.index(), 7);
        assert_eq!(record.held_by_guard(first), Some((3, Mode::Exclusive)));
        assert!(!record.catch(first), "a guard's hold cannot be released by its number");
        record.let_loose();
        assert!(record.held_by_guard(first).is_none());
        assert!(record.catch(first));
        assert!(!record.catch(first), "only once");
        assert!(record.freed());
        let second = record.fill(7, 3, Mode::Exclusive, 1, 9, 0);
        record.let_loose();
        assert_ne!(first, second);
        assert!(!record.catch(first));
        assert!(record.catch(second));
    }

    #[test]
    fn a_record_without_further_generations_is_not_used_again() {
        let record = fresh();
        record.state.store(!INDEX, Ordering::Relaxed);
        let last = record.fill(1, 1, Mode::Shared, 0, 0, 0);
        assert!(record.held_by_guard(last).is_some());
        assert!(!record.freed());
    }

    #[test]
    fn a_hold_tells_what_it_is() {
        let record = fresh();
        assert_eq!(record.held(), None);
        record.fill(1, 5, Mode::Shared, 4, 200, 0);
        let held = record.held().unwrap();
        assert_eq!((held.entry, held.mode, held.owner, held.priority, held.since), (5, Mode::Shared, 4, 200, 0));
        record.stamp(99);
        record.stamp(100);
        assert_eq!(record.held().unwrap().since, 99);
        record.set_mode(Mode::Exclusive);
        assert_eq!(record.held().unwrap().mode, Mode::Exclusive);
        record.end();
        assert_eq!(record.held(), None);
    }
}
