//! Readers of a key that many threads read all the time: each is in a *slot* of its own thread, and writes nothing that
//! other threads read.
//!
//! A slot has two words: the *grant* of the hold in it, or 0, and the *name* of its lock, which is the entry and its
//! generation. Only the thread whose line it is fills a slot, and only an empty one. Anybody may empty it, by a swap from
//! the grant. A grant is never given twice, so each swap is about one hold.
//!
//! | who | does what |
//! |---|---|
//! | reader | sees BIASED in the word; fills a slot with its grant; looks at the word again: BIASED at the same generation means that it is in. Otherwise it swaps the grant out of the slot, and is not in |
//! | collector, who owns the shard | swaps BIASED for COLLECTING; then, for each slot with the lock's name: counts a reader in the word, swaps the grant out of the slot, and takes the reader off again if that fails; at last clears COLLECTING |
//! | leaver, on whatever thread | swaps the grant out of the slot |
//!
//! A thread that fails to swap its grant out of its slot was collected: the word counts it, and it leaves through the word.
//! That holds for a reader that wanted to take its grant back, too: it is in.
//!
//! **No reader is overlooked.** A reader fills a slot and then reads the word; the collector changes the word and then reads
//! the slots. Both in one order, so that one of them sees the other.
//!
//! **No writer is let in too early.** From the moment in which BIASED goes until all readers are counted the word has
//! COLLECTING, and is not free. The reader is counted before its slot is emptied: by the time that it can leave through the
//! word, the word has it.
//!
//! **Every release orders.** A slot is emptied with Release, and read with Acquire. Its name is written with Release, after
//! the slot was seen empty with Acquire: a collector that reads the name of a later hold has seen the one before leave.
//!
//! Lines outlive their threads, like all that a thread keeps. The thread that takes its number next goes on with the line,
//! whatever is in its slots: guards of the former thread may still be on others.

use super::entry::Entry;
use super::state::Word;
use crate::grant::Grant;
use crate::memory::{NONE, Region, Vacant};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Locks that a thread can share in slots at a time.
///
/// Of more it is counted in the word.
const SLOTS: u32 = if cfg!(loom) { 1 } else { 4 };
/// Threads that have slots. Bounds what a collector looks at.
const MOST_LINES: u32 = if cfg!(loom) { 3 } else { 256 };
/// What an empty slot has for a grant.
const EMPTY: u64 = 0;

const _: () = assert!(cfg!(loom) || size_of::<Line>() == 128);

/// See the module.
#[derive(Debug)]
pub(crate) struct Slots {
    lines: Region<Line>,
    /// Lines that threads have.
    used: AtomicU32,
}

/// What one thread writes, and no other but those that end its holds.
#[derive(Debug)]
#[repr(C, align(128))]
struct Line([Slot; SLOTS as usize]);

#[derive(Debug)]
#[repr(C)]
struct Slot {
    grant: AtomicU64,
    /// Of the hold in it; of an empty slot that of an earlier one.
    name: AtomicU64,
}

#[cfg(not(loom))]
// SAFETY: atomic integers; zero is an empty slot.
unsafe impl Vacant for Line {}
#[cfg(loom)]
// SAFETY: built by hand under the model checker.
unsafe impl Vacant for Line {
    fn vacant() -> Self {
        Self(std::array::from_fn(|_| Slot { grant: AtomicU64::new(EMPTY), name: AtomicU64::new(0) }))
    }
    fn vacate(&self) {}
}

/// What became of a reader that wanted a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Entered {
    /// It holds the lock; this is the slot to leave through first.
    Slot(u32),
    /// There is no empty slot.
    Full,
    /// The lock's readers do not use slots any more.
    Not,
}

impl Slots {
    pub(super) fn reserve() -> std::io::Result<Self> {
        Ok(Self { lines: Region::reserve(MOST_LINES)?, used: AtomicU32::new(0) })
    }

    /// Returns how much memory the lines take that threads have.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.used.load(Ordering::Relaxed)) * size_of::<Line>() as u64
    }

    /// Returns whether no reader is in a slot.
    #[cfg(test)]
    pub(crate) fn are_empty(&self) -> bool {
        (0..MOST_LINES)
            .all(|line| self.lines.get(line).0.iter().all(|slot| slot.grant.load(Ordering::Acquire) == EMPTY))
    }

    /// Returns a line for a thread that has none, by its number from 1.
    ///
    /// [`NONE`] if all are given away.
    pub(crate) fn take_line(&self) -> u32 {
        let one_more = |used| (used < MOST_LINES).then_some(used + 1);
        // Relaxed: the fence in `Entry::word_after_slot` comes before the first look at the word with it.
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).map_or(NONE, |used| used + 1)
    }

    /// Shares the lock of an entry by a slot of the calling thread's line.
    ///
    /// Its word was `seen` to be biased. A grant that was not let in is not given again: a collector may have it in hand.
    #[inline]
    pub(crate) fn enter(&self, line: u32, grant: Grant, (index, entry, seen): (u32, &Entry, Word)) -> Entered {
        let slots = &self.lines.get(line - 1).0;
        // Acquire. Pairs with: the Release of `empty`. See the module.
        let is_empty = |slot: &Slot| slot.grant.load(Ordering::Acquire) == EMPTY;
        let Some((position, slot)) = (0..).zip(slots).find(|(_, slot)| is_empty(slot)) else { return Entered::Full };
        // Release. Pairs with: the Acquire in `collect`.
        slot.name.store(seen.slot_name(index), Ordering::Release);
        slot.fill(grant);
        let now = entry.word_after_slot();
        if (now.is_biased() && now.has_generation_of(seen)) || !slot.empty(grant) {
            return Entered::Slot((line - 1) * SLOTS + position);
        }
        Entered::Not
    }

    /// Ends the hold of this grant, which entered by this slot.
    ///
    /// `false` if the word counts it.
    #[inline]
    #[must_use]
    pub(crate) fn leave(&self, slot: u32, grant: Grant) -> bool {
        self.lines.get(slot / SLOTS).0[(slot % SLOTS) as usize].empty(grant)
    }

    /// Counts in the word of a biased entry all readers that are in slots.
    ///
    /// No reader enters one until it is biased again. For the shard's owner.
    pub(super) fn collect(&self, index: u32, entry: &Entry) {
        let name = entry.begin_collecting().slot_name(index);
        // Pairs with: `Entry::word_after_slot`.
        fence(Ordering::SeqCst);
        for line in 0..self.used.load(Ordering::Relaxed) {
            for slot in &self.lines.get(line).0 {
                // Acquire, both. See the module.
                let raw = slot.grant.load(Ordering::Acquire);
                if raw == EMPTY || slot.name.load(Ordering::Acquire) != name {
                    continue;
                }
                let Some(grant) = Grant::from_raw(raw) else { continue };
                // First, so that the word has the reader when the reader finds its slot emptied.
                entry.count_reader();
                if slot.empty(grant) {
                    entry.reader.store(grant.index(), Ordering::Relaxed);
                } else {
                    entry.uncount_reader();
                }
            }
        }
        entry.end_collecting();
    }
}

impl Slot {
    /// Puts a grant into the slot.
    ///
    /// The calling thread has seen it empty, and no other fills it.
    ///
    /// Release: a thread that sees the grant sees the name.
    #[inline]
    fn fill(&self, grant: Grant) {
        debug_assert_eq!(self.grant.load(Ordering::Relaxed), EMPTY, "a line has two threads");
        #[cfg(not(loom))]
        self.grant.store(grant.to_raw(), Ordering::Release);
        // The model checker lets a plain store and another thread's swap change places.
        #[cfg(loom)]
        self.grant.swap(grant.to_raw(), Ordering::Release);
    }

    /// Takes a grant out of the slot, if it is there.
    ///
    /// Release, and Acquire in any case. Pairs with: itself and the other loads of the grant. The collector sees what the reader did before it left; the
    /// reader that was collected sees that the word has it.
    #[inline]
    fn empty(&self, grant: Grant) -> bool {
        self.grant.compare_exchange(grant.to_raw(), EMPTY, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}
