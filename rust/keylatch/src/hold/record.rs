//! The hold record: 32 bytes for every grant, and the number that names it outside.
//!
//! ```text
//!  state                                                   grant (the number that callers see)
//!  63                      26 25      16 15     8 7      0  63                      26 25                     0
//! +--------------------------+----------+--------+--------+ +-------------------------+------------------------+
//! |       generation         |more flags|priority| flags  | |       generation        |     record's index     |
//! +--------------------------+----------+--------+--------+ +-------------------------+------------------------+
//! ```
//!
//! | flags | state | what may change it |
//! |---|---|---|
//! | none | free: in some thread's cache or in the arena | the thread that takes it |
//! | HELD | belongs to a guard, which cannot be copied | the guard; the shard's owner may add LOST, once the guard cannot release by its fast path any more |
//! | HELD, DETACHED | detached: belongs to any caller that knows the grant | the caller whose compare-and-swap clears DETACHED goes on as the guard would |
//! | HELD, LOST | the hold was revoked | as HELD: the guard's release gives the record back |
//! | LOST alone | a tombstone: a detached grant was revoked, and may still be shown | the caller whose compare-and-swap succeeds gives the record back |
//!
//! | flag | beside HELD |
//! |---|---|
//! | REVOKING | a revoker asks: a reader that sees it goes to the shard, where LOST says what came of it |
//! | EXPIRED | beside LOST: because its lease ran out, not by force |
//! | PERMIT | beside LOST and EXPIRED: because the process lost a tier's permit |
//! | DIED | a process died while it had the key, and this holder is informed of it |
//! | LEASED | there is a lease, see `lease` |
//! | WATCHED | a subscriber waits for its loss |
//! | COUNTED | one of several that a session has of one lock; the entry counts them |
//! | TIMED | its end is to be compared with a clock |
//! | UPGRADES | a request waits to upgrade it; if that is a future which is leaked, the guard ends the wait |
//! | SLOTTED | a reader that entered by a slot, see `table::slots`; it may have been collected since |
//!
//! A record with none of DETACHED, LOST, WATCHED, COUNTED, TIMED, UPGRADES and SLOTTED is *plain*, and its guard releases it on the
//! fast path.
//!
//! **Filled before the swap.** Entry, owner and time are written before the swap that takes the lock. So a thread that sees
//! a word can read the record of the writer that the word names. HELD is set after the swap: until then listings leave the
//! record out.
//!
//! **Announced.** A reader that sets out to leave sets its entry to 0 before it looks at the word. A revoker sets
//! REVOKING, raises the word's generation, and then looks at the entry: if it is not 0, the reader has not left, and
//! every swap of its own fails or comes after it saw REVOKING. A writer announces nothing: the word names it.
//!
//! The generation moves with every release, and a record that has run out of generations is not used again. So an old grant
//! is never taken for a later one. Each manager starts at a random generation, so a grant of another manager is refused
//! too.

use crate::grant::{Grant, INDEX, ONE_GENERATION};
use crate::memory::{Pooled, Vacant};
use crate::mode::Mode;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

const HELD: u64 = 1;
const EXCLUSIVE: u64 = 1 << 1;
const DETACHED: u64 = 1 << 2;
const LOST: u64 = 1 << 3;
const EXPIRED: u64 = 1 << 4;
const LEASED: u64 = 1 << 5;
const WATCHED: u64 = 1 << 6;
const COUNTED: u64 = 1 << 7;
const TIMED: u64 = 1 << 16;
const REVOKING: u64 = 1 << 17;
const UPGRADES: u64 = 1 << 18;
const PERMIT: u64 = 1 << 19;
const DIED: u64 = 1 << 20;
const SLOTTED: u64 = 1 << 21;
/// What makes a release leave the fast path.
const NEEDS_SLOW_RELEASE: u64 = DETACHED | LOST | WATCHED | COUNTED | TIMED | UPGRADES | SLOTTED;
const PRIORITY_SHIFT: u32 = 8;

const _: () = assert!(cfg!(loom) || size_of::<Record>() == 32);
const _: () = assert!(
    (EXCLUSIVE | LEASED | NEEDS_SLOW_RELEASE | REVOKING | PERMIT | DIED | 0xff << PRIORITY_SHIFT) & !INDEX == 0
);
const _: () =
    assert!((HELD | EXCLUSIVE | EXPIRED | LEASED | NEEDS_SLOW_RELEASE | PERMIT | DIED) & (0xff << PRIORITY_SHIFT) == 0);

/// See the module.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Record {
    state: AtomicU64,
    /// The entry held; 0 once a reader has announced its release.
    ///
    /// In a free record: the next free one.
    entry: AtomicU32,
    owner: AtomicU32,
    /// The begin of the hold on the manager's clock, or 0 before the first look at it.
    ///
    /// The fast path reads no clock. Of a revoked hold: the fence number that it had.
    since: AtomicU64,
    /// The holder's note for its release.
    ///
    /// It has the shard, and the lock's word as the holder left it. Of a hold that a session counts: the next of those.
    /// Of a hold that is SLOTTED: the slot.
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

/// A copy of the fields of a hold that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) entry: u32,
    pub(crate) mode: Mode,
    pub(crate) owner: u32,
    pub(crate) priority: u8,
    pub(crate) since: u64,
    /// The grant's generation, for [`Record::grant`].
    generation: u64,
    pub(crate) leased: bool,
    pub(crate) counted: bool,
}

impl Held {
    /// Returns the grant of the hold whose record is at this index.
    pub(crate) fn grant(&self, index: u32) -> Grant {
        Grant::new(self.generation, index)
    }
}

/// The state of a hold when it begins, but for its generation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FirstState(u64);

impl FirstState {
    #[inline(always)]
    pub(crate) fn new(mode: Mode, priority: u8, detached: bool) -> Self {
        let mode = if mode == Mode::Exclusive { EXCLUSIVE } else { 0 };
        let detached = if detached { DETACHED } else { 0 };
        Self(u64::from(priority) << PRIORITY_SHIFT | mode | detached | HELD)
    }

    /// Returns the state of a reader that entered by a slot.
    #[inline(always)]
    pub(crate) fn in_slot(self) -> Self {
        Self(self.0 | SLOTTED)
    }

    /// Returns the state beside an owner in one number, to be passed in a register.
    #[inline(always)]
    pub(crate) fn with_owner(self, owner: u32) -> u64 {
        self.0 << 32 | u64::from(owner)
    }

    /// Returns what `with_owner` put together.
    #[inline(always)]
    pub(crate) fn and_owner(number: u64) -> (Self, u32) {
        // The low half.
        (Self(number >> 32), number as u32)
    }
}

/// Why a hold ended without being released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// Its lease ran out.
    ///
    /// Then a waiter, a call of `expire`, or a request that found the table full ended the hold.
    Expired,
    /// It was released by force.
    Forced,
    /// The process lost the permit of its [tier](crate::tier).
    ///
    /// The tier lost its connection for too long, or another process revoked the lock.
    Permit,
}

impl Lost {
    fn flags(self) -> u64 {
        match self {
            Self::Expired => LOST | EXPIRED,
            Self::Forced => LOST,
            Self::Permit => LOST | EXPIRED | PERMIT,
        }
    }

    fn from_flags(state: u64) -> Self {
        match (state & EXPIRED != 0, state & PERMIT != 0) {
            (true, true) => Self::Permit,
            (true, false) => Self::Expired,
            (false, _) => Self::Forced,
        }
    }

    /// Returns whether the holder gets the answer that its lease is lost.
    pub(crate) fn is_by_time(self) -> bool {
        self != Self::Forced
    }
}

/// How a hold that is not plain has to be released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Special {
    pub(crate) entry: u32,
    pub(crate) mode: Mode,
    pub(crate) lost: bool,
    pub(crate) watched: bool,
    pub(crate) counted: bool,
    pub(crate) timed: bool,
    pub(crate) upgrades: bool,
    pub(crate) slotted: bool,
}

/// Returns a first generation that no other manager is likely to have.
pub(crate) fn first_mark(random: u64) -> u64 {
    // The lower half, and never 0: half of all generations are left before a record runs out.
    ((random >> 1) & !INDEX) | ONE_GENERATION
}

impl Record {
    /// Fills in a free record, before the swap that takes the lock for it.
    #[inline(always)]
    pub(crate) fn prefill(&self, entry: u32, owner: u32, since: u64) {
        self.entry.store(entry, Ordering::Relaxed);
        self.owner.store(owner, Ordering::Relaxed);
        self.since.store(since, Ordering::Relaxed);
    }

    /// Returns the entry that a record was filled in for, for the thread that did.
    pub(crate) fn filled_for(&self) -> u32 {
        self.entry.load(Ordering::Relaxed)
    }

    /// Names the hold of a record that was filled in, whose owner has the lock.
    #[inline(always)]
    pub(crate) fn begin(&self, index: u32, state: FirstState) -> Grant {
        // Of a free record the state is the generation alone.
        let generation = self.state.load(Ordering::Relaxed);
        debug_assert!(generation & INDEX == 0, "a free record with {generation:x}");
        // Release. Pairs with: the Acquire in `held`. A thread that reads this state reads this entry and owner, or later ones.
        self.state.store(generation | state.0, Ordering::Release);
        self.grant(index, generation)
    }

    #[inline(always)]
    fn grant(&self, index: u32, generation: u64) -> Grant {
        Grant::new(generation, index)
    }

    /// Notes something for the release.
    #[inline(always)]
    pub(crate) fn set_note(&self, note: u64) {
        self.note.store(note, Ordering::Relaxed);
    }

    /// Notes the slot by which a reader entered, and its shard.
    #[inline(always)]
    pub(crate) fn set_slot(&self, slot: u32, shard: u32) {
        self.set_note(u64::from(slot) | u64::from(shard) << 32);
    }

    /// Returns the slot by which a reader entered, and its shard.
    #[inline(always)]
    pub(crate) fn slot_and_shard(&self) -> (u32, u32) {
        let note = self.note();
        // The low half, and the high one.
        (note as u32, (note >> 32) as u32)
    }

    /// Returns the last note, which may be of a later use of the record.
    #[inline(always)]
    pub(crate) fn note(&self) -> u64 {
        self.note.load(Ordering::Relaxed)
    }

    /// Returns entry and mode of a plain hold, for its guard.
    ///
    /// No other caller can release a plain hold.
    #[inline(always)]
    pub(crate) fn held_plainly(&self, grant: Grant) -> Option<(u32, Mode)> {
        let state = self.state.load(Ordering::Relaxed);
        if (state ^ grant.generation()) & (!INDEX | HELD | NEEDS_SLOW_RELEASE) != HELD {
            return None;
        }
        Some((self.entry.load(Ordering::Relaxed), mode_of(state)))
    }

    /// Returns entry and mode, for the guard, unless the hold was revoked.
    #[inline]
    pub(crate) fn held_by_guard(&self, grant: Grant) -> Option<(u32, Mode)> {
        let state = self.state.load(Ordering::Acquire);
        let is_held = (state ^ grant.generation()) & (!INDEX | HELD | DETACHED | LOST) == HELD;
        is_held.then(|| (self.entry.load(Ordering::Relaxed), mode_of(state)))
    }

    /// Returns entry and mode of the hold, for the guard, also if it was revoked.
    ///
    /// The entry keeps its key until the guard is gone.
    pub(crate) fn seen_by_guard(&self, grant: Grant) -> Option<(u32, Mode)> {
        let state = self.state.load(Ordering::Acquire);
        let is_its = (state ^ grant.generation()) & (!INDEX | HELD | DETACHED) == HELD;
        is_its.then(|| (self.entry.load(Ordering::Relaxed), mode_of(state)))
    }

    /// Returns how a guard's hold that is not plain has to be released.
    pub(crate) fn special(&self, grant: Grant) -> Option<Special> {
        let state = self.state.load(Ordering::Acquire);
        if (state ^ grant.generation()) & (!INDEX | HELD | DETACHED) != HELD {
            return None;
        }
        let has = |flag| state & flag != 0;
        Some(Special {
            entry: self.entry.load(Ordering::Relaxed),
            mode: mode_of(state),
            lost: has(LOST),
            watched: has(WATCHED),
            counted: has(COUNTED),
            timed: has(TIMED),
            upgrades: has(UPGRADES),
            slotted: has(SLOTTED),
        })
    }

    /// Returns the entry of a hold that is plain but for its slot.
    ///
    /// For its guard.
    #[inline(always)]
    pub(crate) fn held_in_slot(&self, grant: Grant) -> Option<u32> {
        let state = self.state.load(Ordering::Relaxed);
        let is_it = (state ^ grant.generation()) & (!INDEX | HELD | EXCLUSIVE | NEEDS_SLOW_RELEASE) == HELD | SLOTTED;
        is_it.then(|| self.entry.load(Ordering::Relaxed))
    }

    /// Notes that a reader has its slot no more. Returns the slot that it had, once.
    ///
    /// For the holder.
    pub(crate) fn leave_slot(&self) -> Option<u32> {
        let had = self.state.fetch_and(!SLOTTED, Ordering::Relaxed) & SLOTTED != 0;
        had.then(|| self.slot_and_shard().0)
    }

    /// Returns the grant that a record which was filled in names from `begin` on.
    #[inline(always)]
    pub(crate) fn next_grant(&self, index: u32) -> Grant {
        // Of a free record the state is the generation alone.
        self.grant(index, self.state.load(Ordering::Relaxed))
    }

    /// Returns whether a grant stands for this record's hold, or how it was revoked.
    pub(crate) fn standing(&self, grant: Grant) -> Standing {
        let state = self.state.load(Ordering::Acquire);
        if (state ^ grant.generation()) & !INDEX != 0 || state & (HELD | LOST) == 0 {
            return Standing::Unknown;
        }
        match state & LOST != 0 {
            // Its release has begun, so the next holder may have the lock already.
            false if self.entry.load(Ordering::Relaxed) == 0 => Standing::Unknown,
            false => Standing::Held { detached: state & DETACHED != 0 },
            true => Standing::Lost(Lost::from_flags(state)),
        }
    }

    /// Notes a lease. Returns `false` if the grant is not held any more.
    pub(crate) fn mark_leased(&self, grant: Grant) -> bool {
        self.mark(grant, LEASED)
    }

    /// As `mark_leased`, for a subscriber to the loss of the hold.
    pub(crate) fn mark_watched(&self, grant: Grant) -> bool {
        self.mark(grant, WATCHED)
    }

    /// As `mark_leased`, for a hold whose end is to be compared with a clock.
    pub(crate) fn mark_timed(&self, grant: Grant) -> bool {
        self.mark(grant, TIMED)
    }

    /// As `mark_leased`, for a session's further hold of one lock.
    ///
    /// Only before any other thread knows the grant.
    pub(crate) fn mark_counted(&self, grant: Grant) -> bool {
        self.mark(grant, COUNTED)
    }

    /// Notes that the holder is informed of a process that died.
    pub(crate) fn mark_died(&self) {
        self.state.fetch_or(DIED, Ordering::Relaxed);
    }

    /// Returns whether the holder of this grant is informed of a process that died.
    pub(crate) fn follows_death(&self, grant: Grant) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        (state ^ grant.generation()) & !INDEX == 0 && state & DIED != 0
    }

    /// Marks the hold that the word names as counted. Only the shard's owner knows it.
    pub(crate) fn mark_first_counted(&self) {
        self.state.fetch_or(COUNTED, Ordering::Relaxed);
    }

    /// Asks a reader to come to the shard, see the module.
    ///
    /// Returns `false` if the grant is not held shared. Caller holds: shard mutex.
    pub(crate) fn ask_to_revoke(&self, grant: Grant) -> bool {
        self.mark_if(grant, REVOKING, EXCLUSIVE)
    }

    /// Returns whether a revoker asks, for the reader that is about to release.
    #[inline(always)]
    pub(crate) fn is_asked(&self) -> bool {
        self.state.load(Ordering::Relaxed) & REVOKING != 0
    }

    /// Returns whether the hold has announced its release, or has ended.
    ///
    /// The caller has raised the generation of its word.
    pub(crate) fn has_announced(&self, grant: Grant) -> bool {
        let announced = self.entry.load(Ordering::Relaxed) == 0;
        // Pairs with: the fence in `freed`. A reader that reads another use of the entry's field reads another generation.
        fence(Ordering::Acquire);
        announced || !self.is_of(grant)
    }

    /// Returns whether the record has the generation of this grant.
    ///
    /// The caller has raised the generation of a word that names the record, and so knows which hold that was.
    pub(crate) fn is_of(&self, grant: Grant) -> bool {
        (self.state.load(Ordering::Relaxed) ^ grant.generation()) & !INDEX == 0
    }

    /// As `mark_leased`, for a guard's hold whose upgrade is about to wait.
    pub(crate) fn mark_upgrading(&self, grant: Grant) -> bool {
        self.mark(grant, UPGRADES)
    }

    /// Returns whether it is one of several holds of a session, for its guard.
    pub(crate) fn is_counted(&self) -> bool {
        self.state.load(Ordering::Relaxed) & COUNTED != 0
    }

    /// Returns whether a request waits to upgrade it.
    ///
    /// For its guard and the shard's owner.
    pub(crate) fn is_upgrading(&self) -> bool {
        self.state.load(Ordering::Relaxed) & UPGRADES != 0
    }

    /// Notes that no request waits to upgrade it any more.
    pub(crate) fn upgrades_no_more(&self) {
        self.state.fetch_and(!UPGRADES, Ordering::Relaxed);
    }

    fn mark(&self, grant: Grant, flag: u64) -> bool {
        self.mark_if(grant, flag, 0)
    }

    /// Adds a flag to a hold that has not been lost and has none of these flags.
    fn mark_if(&self, grant: Grant, flag: u64, without: u64) -> bool {
        let mut state = self.state.load(Ordering::Acquire);
        while (state ^ grant.generation()) & (!INDEX | HELD | LOST | without) == HELD {
            match self.state.compare_exchange(state, state | flag, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// Marks a guard's hold as revoked, once its guard cannot release by itself.
    ///
    /// `number` is the fence number. Returns whether a subscriber waits for the loss. Caller holds: shard mutex.
    pub(crate) fn lose(&self, why: Lost, number: u64) -> bool {
        // From here on no thread asks for the begin of the hold.
        self.since.store(number, Ordering::Relaxed);
        // Release. Pairs with: the Acquire in `standing`.
        self.state.fetch_or(why.flags(), Ordering::AcqRel) & WATCHED != 0
    }

    /// Returns the number that a revoked hold had.
    pub(crate) fn lost_number(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Returns how a hold was revoked, if it was, before its record is freed.
    pub(crate) fn lost(&self, grant: Grant) -> Option<Lost> {
        match self.standing(grant) {
            Standing::Lost(why) => Some(why),
            Standing::Unknown | Standing::Held { .. } => None,
        }
    }

    /// Leaves a tombstone for the grant, which the caller has adopted.
    ///
    /// As `lose` otherwise.
    pub(crate) fn leave_tombstone(&self, grant: Grant, why: Lost, number: u64) -> bool {
        self.since.store(number, Ordering::Relaxed);
        // Release. Pairs with: the Acquire in `standing`.
        self.state.swap(grant.generation() | why.flags(), Ordering::AcqRel) & WATCHED != 0
    }

    /// Takes a tombstone back; `None` if it is none.
    ///
    /// Otherwise returns whether the record can be used again.
    pub(crate) fn reclaim_tombstone(&self, grant: Grant) -> Option<bool> {
        let state = self.state.load(Ordering::Acquire);
        if (state ^ grant.generation()) & !INDEX != 0 || state & (HELD | LOST) != LOST {
            return None;
        }
        let next = grant.generation().wrapping_add(ONE_GENERATION);
        let taken = self.state.compare_exchange(state, next, Ordering::AcqRel, Ordering::Relaxed);
        fence(Ordering::Release);
        taken.ok().map(|_| next != 0)
    }

    /// Notes the next of the holds that a session counts. Caller holds: shard mutex.
    pub(crate) fn set_next_counted(&self, next: u32) {
        // Beside the shard, which stays.
        let shard = self.note.load(Ordering::Relaxed) & !u64::from(u32::MAX);
        self.note.store(shard | u64::from(next), Ordering::Relaxed);
    }

    /// Returns the next of the holds that a session counts. Caller holds: shard mutex.
    pub(crate) fn next_counted(&self) -> u32 {
        // The low half.
        self.note.load(Ordering::Relaxed) as u32
    }

    /// Returns whether this may be a hold of an entry.
    ///
    /// A cheap test for very many records, before one is read as a whole.
    #[inline]
    pub(crate) fn may_hold(&self, entry: u32) -> bool {
        self.entry.load(Ordering::Relaxed) == entry
    }

    /// Returns the owner, for the guard; for others a hint, as `may_hold` is.
    pub(crate) fn owner(&self) -> u32 {
        self.owner.load(Ordering::Relaxed)
    }

    /// Announces the release, so that listings leave the hold out.
    ///
    /// Comes before the holder looks at the word.
    #[inline(always)]
    pub(crate) fn end(&self) {
        self.entry.store(0, Ordering::Relaxed);
    }

    /// Frees the record of a grant after the lock's word changed.
    ///
    /// Returns `false` if it must not be used again.
    #[inline(always)]
    #[must_use]
    pub(crate) fn freed(&self, grant: Grant) -> bool {
        let next = grant.generation().wrapping_add(ONE_GENERATION);
        #[cfg(not(loom))]
        self.state.store(next, Ordering::Relaxed);
        // The model checker lets a mark that another thread adds come after a plain store that it did not see.
        #[cfg(loom)]
        self.state.swap(next, Ordering::Relaxed);
        // Pairs with: the fences in `held` and `has_announced`. A thread that reads the link of the free list, which is
        // written next, sees this generation.
        fence(Ordering::Release);
        next != 0
    }

    /// Detaches the hold from its guard: from now on the grant can release it.
    pub(crate) fn detach(&self) {
        self.state.fetch_or(DETACHED, Ordering::Release);
    }

    /// Adopts a detached hold, to release or convert it as a guard would.
    ///
    /// Exactly one caller with the right grant succeeds.
    #[inline(always)]
    pub(crate) fn adopt(&self, grant: Grant) -> bool {
        let mut state = self.state.load(Ordering::Acquire);
        while (state ^ grant.generation()) & (!INDEX | HELD | DETACHED | LOST) == HELD | DETACHED {
            // Acquire. Pairs with: the Release of `detach` and `begin`.
            match self.state.compare_exchange(state, state & !DETACHED, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// Adopts a grant that was revoked while it had a guard.
    ///
    /// The caller does what is left to do for the guard.
    pub(crate) fn adopt_revoked(&self, grant: Grant) -> bool {
        let state = self.state.load(Ordering::Acquire);
        (state ^ grant.generation()) & (!INDEX | HELD | DETACHED | LOST) == HELD | DETACHED | LOST
            && self.state.compare_exchange(state, state & !DETACHED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Returns the mode of a hold. Caller holds: shard mutex.
    pub(crate) fn mode(&self) -> Mode {
        mode_of(self.state.load(Ordering::Relaxed))
    }

    /// Sets the mode to shared, for the holder. Returns whether it has a lease.
    pub(crate) fn share(&self) -> bool {
        self.state.fetch_and(!EXCLUSIVE, Ordering::AcqRel) & LEASED != 0
    }

    /// Returns whether it has a lease, for the holder.
    pub(crate) fn is_leased(&self) -> bool {
        self.state.load(Ordering::Relaxed) & LEASED != 0
    }

    /// Sets the mode, for the holder or its session.
    pub(crate) fn set_mode(&self, mode: Mode) {
        match mode {
            Mode::Exclusive => self.state.fetch_or(EXCLUSIVE, Ordering::Release),
            Mode::Shared => self.state.fetch_and(!EXCLUSIVE, Ordering::Release),
        };
    }

    /// Returns a copy of the hold, if there is one. Any thread may ask at any time.
    pub(crate) fn held(&self) -> Option<Held> {
        let state = self.state.load(Ordering::Acquire);
        if state & (HELD | LOST) != HELD {
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
            leased: state & LEASED != 0,
            counted: state & COUNTED != 0,
        };
        // The same generation afterwards: all of it was of one hold. The fence keeps the reads above from sinking below.
        fence(Ordering::Acquire);
        let now = self.state.load(Ordering::Relaxed);
        let same = now & !INDEX == state & !INDEX;
        (same && held.entry != 0).then_some(held)
    }

    /// Sets the begin of a hold that was taken without reading a clock.
    pub(crate) fn stamp(&self, now: u64) {
        let _ = self.since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// What has become of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It never was, or was released.
    Unknown,
    Held {
        detached: bool,
    },
    Lost(Lost),
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

    fn fill(record: &Record, (index, entry): (u32, u32), mode: Mode, (owner, priority): (u32, u8)) -> Grant {
        record.prefill(entry, owner, 0);
        record.begin(index, FirstState::new(mode, priority, false))
    }

    #[test]
    fn old_grant_is_refused() {
        let record = fresh();
        let first = fill(&record, (7, 3), Mode::Exclusive, (1, 9));
        assert_eq!(first.index(), 7);
        assert_eq!(record.held_by_guard(first), Some((3, Mode::Exclusive)));
        assert!(!record.adopt(first), "a guard's hold cannot be released by its number");
        record.detach();
        assert!(record.held_by_guard(first).is_none());
        assert!(record.adopt(first));
        assert!(!record.adopt(first), "only once");
        assert!(record.freed(first));
        let second = fill(&record, (7, 3), Mode::Exclusive, (1, 9));
        record.detach();
        assert_ne!(first, second);
        assert!(!record.adopt(first));
        assert!(record.adopt(second));
    }

    #[test]
    fn record_without_generations_is_retired() {
        let record = fresh();
        record.state.store(!INDEX, Ordering::Relaxed);
        let last = fill(&record, (1, 1), Mode::Shared, (0, 0));
        assert!(record.held_by_guard(last).is_some());
        assert!(!record.freed(last));
    }

    #[test]
    fn held_copies_the_fields() {
        let record = fresh();
        assert_eq!(record.held(), None);
        fill(&record, (1, 5), Mode::Shared, (4, 200));
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
