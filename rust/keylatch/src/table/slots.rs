//! Readers of a key that many threads read all the time: each is in a *slot* of its own thread, and writes nothing that
//! other threads read.
//!
//! A slot has three words: the *grant* of the hold in it, or 0; the *name* of the lock that it shares, which is the entry and
//! its generation, or 0; and the grant that was last *counted*. Only the thread whose line it is fills a slot, and only an
//! empty one. Only the holder empties it, with plain stores, on whatever thread. A grant is never given twice.
//!
//! | who | does what |
//! |---|---|
//! | reader | sees BIASED in the word; fills a slot with its grant and the lock's name; looks at the word again: BIASED at the same generation means that it is in |
//! | leaver | takes the name off; looks at the word: BIASED at the same generation, and its grant is not counted, means that it has left, and it empties the slot |
//! | collector, who owns the shard | swaps BIASED for COLLECTING; then, for each slot with the lock's name: counts a reader in the word, and notes its grant as counted; at last clears COLLECTING |
//!
//! A reader or a leaver that finds the word changed asks under the shard's mutex, where no collector is at work: if its grant
//! was counted, it holds the lock by the word, and leaves through the word. If not, it is not in, or has left.
//!
//! **No reader is overlooked.** A reader writes the name and then reads the word; the collector changes the word and then reads
//! the names. Both in one order, so that one of them sees the other.
//!
//! **None is counted that has left.** A leaver takes the name off and then reads the word. If it sees the word as it was
//! before the collector, the collector sees no name. Otherwise it looks whether it was counted. Should another bias have
//! begun by then, it sees that, because the word that it read is later than the count.
//!
//! **No slot changes while it is counted.** A reader whose name the collector sees will find the word changed: unless it was
//! counted before, it waits for the mutex before it empties the slot. One that was counted before may empty it at any time,
//! and the next may enter, so the collector reads name, grant and name again.
//!
//! **No writer is let in too early.** From the moment in which BIASED goes until all readers are counted the word has
//! COLLECTING, and is not free. The word has a reader before its grant is noted as counted: by the time that it can leave
//! through the word, the word has it.
//!
//! **Every release orders.** A name is taken off with Release, and read with Acquire. The next is written with Release, after
//! the slot was seen empty with Acquire. So a collector that reads the name of a later hold has seen the one before leave.
//!
//! Lines outlive their threads, like all that a thread keeps. The thread that takes its number next goes on with the line,
//! whatever is in its slots: guards of the former thread may still be on others.

use super::entry::Entry;
use super::state::Word;
use crate::grant::Grant;
use crate::memory::{NONE, Region, Vacant};
use crate::sync::Barrier;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Locks that a thread can share in slots at a time.
///
/// Of more it is counted in the word.
const SLOTS: u32 = if cfg!(loom) { 1 } else { 4 };
/// Threads that have slots. Bounds what a collector looks at.
const MOST_LINES: u32 = if cfg!(loom) { 3 } else { 256 };
/// What an empty slot has for a grant.
const EMPTY: u64 = 0;
/// The name of no lock.
const NAMELESS: u64 = 0;

/// It is not known yet whether readers need fences.
const UNKNOWN: u32 = 0;
/// A thread finds it out.
const ASKING: u32 = 1;
const WITH_FENCES: u32 = 2;
const WITHOUT_FENCES: u32 = 3;
/// They do not, but the kernel refuses what a collector needs by now.
///
/// No bias begins any more.
const REFUSED: u32 = 4;

const _: () = assert!(cfg!(loom) || size_of::<Line>() == 128);

/// See the module.
#[derive(Debug)]
pub(crate) struct Slots {
    lines: Region<Line>,
    /// Whether readers need fences, as below.
    ///
    /// It is found out before the first bias, and stays.
    readiness: AtomicU32,
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
    /// Written by the thread that fills the slot, and by its holder.
    grant: AtomicU64,
    /// As `grant`.
    name: AtomicU64,
    /// The grant in it, if the word counts it; otherwise an earlier one.
    ///
    /// Written by the shard's owner, while the slot is full.
    counted: AtomicU64,
}

#[cfg(not(loom))]
// SAFETY: atomic integers; zero is an empty slot.
unsafe impl Vacant for Line {}
#[cfg(loom)]
// SAFETY: built by hand under the model checker.
unsafe impl Vacant for Line {
    fn vacant() -> Self {
        let empty = || [EMPTY, NAMELESS, EMPTY].map(AtomicU64::new);
        Self(std::array::from_fn(|_| {
            let [grant, name, counted] = empty();
            Slot { grant, name, counted }
        }))
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
    /// The word has changed.
    ///
    /// Under the shard's mutex [`Slots::withdraw`] says whether it holds the lock.
    Unsure(u32),
}

/// What became of a reader that left its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Left {
    /// It has left the lock.
    Slot,
    /// The word counts it. It has the slot until it calls [`Slots::empty`].
    Counted,
    /// The word has changed.
    ///
    /// Under the shard's mutex [`Slots::withdraw`] says whether the word counts it.
    Unsure,
}

impl Slots {
    pub(super) fn reserve() -> std::io::Result<Self> {
        let (readiness, used) = (AtomicU32::new(UNKNOWN), AtomicU32::new(0));
        Ok(Self { lines: Region::reserve(MOST_LINES)?, readiness, used })
    }

    /// Finds out whether readers need fences, once. Returns whether a bias may begin.
    ///
    /// In a process with several threads the kernel takes some milliseconds the first time. So no mutex is held meanwhile,
    /// and no other thread waits.
    pub(crate) fn prepare(&self) -> bool {
        // Acquire, and Release below. Pairs with: each other. A thread that has an entry biased has seen what was found out,
        // and so does each that owns the shard, or sees the biased word, after that.
        match self.readiness.compare_exchange(UNKNOWN, ASKING, Ordering::Relaxed, Ordering::Acquire) {
            Ok(_) => {
                let readiness = if Barrier::best() == Barrier::Fences { WITH_FENCES } else { WITHOUT_FENCES };
                self.readiness.store(readiness, Ordering::Release);
                true
            }
            Err(readiness) => readiness != ASKING && readiness != REFUSED,
        }
    }

    /// Returns what is between the two steps of a reader, and of a collector.
    #[inline(always)]
    fn barrier(&self) -> Barrier {
        match self.readiness.load(Ordering::Relaxed) {
            #[cfg(not(loom))]
            WITHOUT_FENCES | REFUSED => Barrier::Asymmetric,
            _ => Barrier::Fences,
        }
    }

    /// Notes that the kernel refuses what collectors need.
    ///
    /// Readers that are in slots have no fences, and collectors wait until those are seen.
    pub(crate) fn note_refusal(&self) {
        self.readiness.store(REFUSED, Ordering::Release);
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
        // Relaxed: the barrier in `Entry::word_after_slot` comes before the first look at the word with it.
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).map_or(NONE, |used| used + 1)
    }

    #[inline(always)]
    fn slot(&self, slot: u32) -> &Slot {
        &self.lines.get(slot / SLOTS).0[(slot % SLOTS) as usize]
    }

    /// Shares the lock of an entry by a slot of the calling thread's line.
    ///
    /// Its word was `seen` to be biased.
    #[inline]
    pub(crate) fn enter(&self, line: u32, grant: Grant, (index, entry, seen): (u32, &Entry, Word)) -> Entered {
        let slots = &self.lines.get(line - 1).0;
        // Acquire. Pairs with: the Release of `empty`. See the module.
        let is_empty = |slot: &Slot| slot.grant.load(Ordering::Acquire) == EMPTY;
        let Some((position, slot)) = (0..).zip(slots).find(|(_, slot)| is_empty(slot)) else { return Entered::Full };
        // Release, both. Pairs with: the Acquires in `grant_of`.
        slot.grant.store(grant.to_raw(), Ordering::Release);
        slot.name.store(seen.slot_name(index), Ordering::Release);
        let number = (line - 1) * SLOTS + position;
        let now = entry.word_after_slot(self.barrier());
        if now.is_biased() && now.has_generation_of(seen) { Entered::Slot(number) } else { Entered::Unsure(number) }
    }

    /// Ends the hold of this grant, which entered by this slot.
    #[inline]
    pub(crate) fn leave(&self, slot: u32, grant: Grant, entry: &Entry) -> Left {
        let slot = self.slot(slot);
        // A name has the generation where the word has it.
        let entered = Word::from_bits(slot.name.load(Ordering::Relaxed));
        // Release. Pairs with: the Acquire in `grant_of`.
        slot.name.store(NAMELESS, Ordering::Release);
        let now = entry.word_after_slot(self.barrier());
        // After the word: see the module.
        if slot.counts(grant) {
            return Left::Counted;
        }
        if !now.is_biased() || !now.has_generation_of(entered) {
            return Left::Unsure;
        }
        // Release. Pairs with: the Acquire in `enter`, on the thread that fills it next.
        slot.grant.store(EMPTY, Ordering::Release);
        Left::Slot
    }

    /// Returns whether the word counts the grant in this slot.
    ///
    /// If not, the slot is empty afterwards. Caller holds: shard mutex. It has the grant, and the word has changed since it entered.
    #[must_use]
    pub(crate) fn withdraw(&self, slot: u32, grant: Grant) -> bool {
        let slot = self.slot(slot);
        let is_counted = slot.counts(grant);
        if !is_counted {
            slot.empty();
        }
        is_counted
    }

    /// Empties the slot of a reader that the word counts, or that is revoked.
    ///
    /// For its holder, once.
    pub(crate) fn empty(&self, slot: u32) {
        self.slot(slot).empty();
    }

    /// Counts in the word of a biased entry all readers that are in slots.
    ///
    /// No reader enters one until it is biased again. For the shard's owner.
    pub(super) fn collect(&self, index: u32, entry: &Entry) {
        let name = entry.begin_collecting().slot_name(index);
        // Pairs with: `Entry::word_after_slot`.
        if !self.barrier().heavy() {
            self.note_refusal();
        }
        for line in 0..self.used.load(Ordering::Relaxed) {
            for slot in &self.lines.get(line).0 {
                // One that was counted when an earlier bias ended has kept its slot.
                let Some(grant) = slot.grant_of(name).filter(|grant| !slot.counts(*grant)) else { continue };
                entry.count_reader();
                // Release, and after that. Pairs with: the Acquire in `counts`.
                slot.counted.store(grant.to_raw(), Ordering::Release);
                entry.reader.store(grant.index(), Ordering::Relaxed);
            }
        }
        entry.end_collecting();
    }
}

impl Slot {
    /// Returns the grant of a hold of the lock with this name, if there is one.
    ///
    /// For that lock's collector. The name is read again after the grant: one that was counted before empties the slot at any time, and the next may
    /// be of another lock.
    fn grant_of(&self, name: u64) -> Option<Grant> {
        // Acquire, each. Pairs with: the Releases of all who write them. A grant is seen with the name that it came after, and
        // where the name is off, or another, what the holder did before.
        if self.name.load(Ordering::Acquire) != name {
            return None;
        }
        let grant = Grant::from_raw(self.grant.load(Ordering::Acquire));
        grant.filter(|_| self.name.load(Ordering::Acquire) == name)
    }

    /// Returns whether the word counts this grant, which is in the slot.
    ///
    /// Acquire. Pairs with: the Release in `collect`. The word has the reader.
    #[inline(always)]
    fn counts(&self, grant: Grant) -> bool {
        self.counted.load(Ordering::Acquire) == grant.to_raw()
    }

    /// Takes name and grant off, for the holder.
    ///
    /// Release. Pairs with: the Acquire in `enter`, on the thread that fills it next.
    #[inline(always)]
    fn empty(&self) {
        self.name.store(NAMELESS, Ordering::Release);
        self.grant.store(EMPTY, Ordering::Release);
    }
}
