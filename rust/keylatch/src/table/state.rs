//! The 64-bit word that *is* a lock.
//!
//! ```text
//!  63  62           48 47            32 31            16 15             1   0
//! +---+---------------+----------------+----------------+----------------+---+
//! | T |writers waiting| readers waiting|    readers     |   generation   | W |
//! +---+---------------+----------------+----------------+----------------+---+
//! ```
//!
//! | bits | meaning | who changes it |
//! |---|---|---|
//! | W | one holder has the key exclusively | set by a compare-and-swap from "free"; cleared by its holder; both may be done by the shard's owner on a waiter's behalf |
//! | generation | moves each time the entry is given to another key; 0 is an entry that carries no key and cannot be taken | the shard's owner, while W is set or the entry is in no chain |
//! | readers | how many hold the key shared; never wraps: at 65,535 the next one waits | as W |
//! | waiting | somebody is parked in the queue; saturates, the queue is the truth | the shard's owner |
//! | T | the *table* waits for this release: the entry is not one of its shard's warm ones, so whoever makes it idle looks in at the shard | the shard's owner |
//!
//! "The shard's owner" is the thread that holds the shard's mutex. It is the only one that sets waiting bits, so it
//! races only with fast takes and fast releases, and every one of its changes is a compare-and-swap. A reader leaves
//! by a subtraction, which cannot fail while others come and go.
//!
//! | W | readers | waiting | who may be where |
//! |---|---|---|---|
//! | 0 | 0 | 0 | free; anyone takes it with one compare-and-swap. A queue may exist, but then its head has been notified and is on its way |
//! | 0 | n | 0 | n readers; more may join |
//! | 1 | 0 | 0 | one writer; an arrival goes to the shard, queues there and sets a waiting bit, or sees the lock free before it could |
//! | any held | | >0 | somebody sleeps: the release finds the bit in its own read-modify-write and goes to the shard, where the queue is; this is what makes a wake-up impossible to lose |
//! | 0 | 0 | >0 | the last reader has left and is on its way to the shard, to serve those who wait; the bits keep the fast path out until it has |
//! | 1 | n>0 | | never |
//! | any | any | all bits | with generation 0, the entry is *displaced*: it left the table while it was held, because the lock was taken away from somebody who has not come to let go of it yet. Nobody can take it, every release goes to the shard, and it keeps its key until all that it counted have come |
//!
//! The generation narrows the window in which a look-up can be fooled by an entry that changed its key between being
//! read and being taken. Being 15 bits wide it cannot close it, so nothing exact rests on it: a take is confirmed
//! against the key afterwards, when the entry can no longer change it.

use crate::mode::Mode;
use crate::sync::fault::fault;

const EXCLUSIVE: u64 = 1;
const GENERATION_SHIFT: u32 = 1;
/// The model checker gets a generation that wraps at once, so that what it cannot protect is seen to be protected.
const GENERATION_BITS: u32 = if cfg!(loom) { 1 } else { 15 };
const GENERATION: u64 = ((1 << GENERATION_BITS) - 1) << GENERATION_SHIFT;
const READERS_SHIFT: u32 = 16;
const ONE_READER: u64 = 1 << READERS_SHIFT;
const READERS: u64 = 0xffff << READERS_SHIFT;
const READERS_WAITING_SHIFT: u32 = 32;
const WRITERS_WAITING_SHIFT: u32 = 48;
const READERS_WAITING: u64 = 0xffff << READERS_WAITING_SHIFT;
const WRITERS_WAITING: u64 = 0x7fff << WRITERS_WAITING_SHIFT;
const WAITING: u64 = READERS_WAITING | WRITERS_WAITING;
const TABLE_WAITS: u64 = 1 << 63;

const _: () = assert!(EXCLUSIVE & GENERATION == 0);
const _: () = assert!(GENERATION & READERS == 0 && GENERATION < ONE_READER);
const _: () = assert!(READERS & WAITING == 0 && READERS_WAITING & WRITERS_WAITING == 0);
const _: () = assert!(WAITING & TABLE_WAITS == 0);
const _: () = assert!(READERS | WAITING | TABLE_WAITS == !0xffff);

/// One value of the word. Transitions return what the word would become; whoever asked swaps it in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    /// What one reader adds.
    pub(crate) const ONE_READER: u64 = ONE_READER;

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// A keyed entry that nobody holds and nobody waits for.
    pub(crate) fn idle(generation: u64) -> Self {
        Self(generation << GENERATION_SHIFT)
    }

    /// The generation after this one; never 0, which means "no key".
    #[must_use]
    pub(crate) fn next_generation(self) -> u64 {
        Self::generation_after((self.0 & GENERATION) >> GENERATION_SHIFT)
    }

    /// The generation after `previous`, which may be any number.
    #[must_use]
    pub(crate) fn generation_after(previous: u64) -> u64 {
        let next = (previous + 1) & (GENERATION >> GENERATION_SHIFT);
        if next == 0 { 1 } else { next }
    }

    /// Whether both were read of the same key's lock, as far as 15 bits can tell.
    #[inline]
    pub(crate) fn has_generation_of(self, other: Self) -> bool {
        (self.0 ^ other.0) & GENERATION == 0
    }

    /// The word with one more holder, if nothing stands in the way and nobody waits: the fast path's only question.
    #[inline]
    #[must_use]
    pub(crate) fn taken_uncontended(self, mode: Mode) -> Option<Word> {
        if self.0 & GENERATION == 0 {
            return None;
        }
        match mode {
            Mode::Exclusive => (self.0 & !(GENERATION | TABLE_WAITS) == 0).then_some(Word(self.0 | EXCLUSIVE)),
            Mode::Shared => (self.0 & (EXCLUSIVE | WAITING) == 0
                && (self.0 & READERS != READERS || fault!("reader-count-wraps")))
            .then_some(Word(self.0.wrapping_add(ONE_READER))),
        }
    }

    /// The word with one more holder, if its holders allow it, whoever waits. For the shard's owner, who knows the queue.
    #[inline]
    #[must_use]
    pub(crate) fn taken(self, mode: Mode) -> Option<Word> {
        match mode {
            _ if self.0 & GENERATION == 0 => None,
            Mode::Exclusive => self.is_free().then_some(Word(self.0 | EXCLUSIVE)),
            Mode::Shared => (self.0 & EXCLUSIVE == 0 && self.0 & READERS != READERS)
                .then_some(Word(self.0.wrapping_add(ONE_READER))),
        }
    }

    /// The word with one holder less, or `None` if the release has to look in at the shard: somebody waits, or the
    /// table does and this is the last holder.
    #[inline]
    #[must_use]
    pub(crate) fn released_uncontended(self, mode: Mode) -> Option<Word> {
        let left = self.released(mode);
        let looked_for = if left.is_free() { WAITING | TABLE_WAITS } else { WAITING };
        (self.0 & looked_for == 0).then_some(left)
    }

    /// The word with one holder less.
    #[inline]
    #[must_use]
    pub(crate) fn released(self, mode: Mode) -> Word {
        match mode {
            Mode::Exclusive => {
                debug_assert!(self.is_exclusive(), "an exclusive release of {self:?}");
                Word(self.0 & !EXCLUSIVE)
            }
            Mode::Shared => {
                debug_assert!(self.readers() > 0, "a shared release of {self:?}");
                Word(self.0.wrapping_sub(ONE_READER))
            }
        }
    }

    /// The one exclusive holder turned into one reader.
    #[must_use]
    pub(crate) fn downgraded(self) -> Word {
        debug_assert!(self.is_exclusive(), "a downgrade of {self:?}");
        Word((self.0 & !EXCLUSIVE).wrapping_add(ONE_READER))
    }

    /// The held lock out of the table: see the last row above.
    #[must_use]
    pub(crate) fn displaced(self) -> Word {
        Word((self.0 & !GENERATION) | WAITING)
    }

    /// Whether the entry is out of the table, though not all who held it have come to let go.
    #[inline]
    pub(crate) fn is_displaced(self) -> bool {
        self.0 & GENERATION == 0 && self.0 & WAITING != 0
    }

    /// The exclusive holder turned into so many readers.
    #[must_use]
    pub(crate) fn with_readers(self, readers: u32) -> Word {
        Word((self.0 & !(EXCLUSIVE | READERS)) | u64::from(readers & 0xffff) << READERS_SHIFT)
    }

    /// The only reader turned into the exclusive holder, if it is the only one.
    #[must_use]
    pub(crate) fn upgraded(self) -> Option<Word> {
        let alone = self.readers() == 1 || fault!("upgrade-beside-readers");
        (alone && !self.is_exclusive() && self.0 & GENERATION != 0).then_some(Word((self.0 & !READERS) | EXCLUSIVE))
    }

    /// An idle entry taken by the table itself, for another key. `None` if it is in use.
    #[must_use]
    pub(crate) fn claimed_for_another_key(self) -> Option<Word> {
        let idle = self.0 & !(GENERATION | TABLE_WAITS) == 0 && self.0 & GENERATION != 0;
        idle.then(|| Word(Self::idle(self.next_generation()).0 | EXCLUSIVE))
    }

    /// The word in 33 bits, without those who wait: what a holder notes as its first guess for its release. Above, 16
    /// bits of the holder's own.
    #[inline]
    #[must_use]
    pub(crate) fn noted_with(self, own: u32) -> u64 {
        (self.0 & 0xffff_ffff) | (self.0 & TABLE_WAITS) | u64::from(own & 0xffff) << 32
    }

    /// The two parts of a note.
    #[inline]
    pub(crate) fn from_note(note: u64) -> (Self, u32) {
        // 16 bits.
        (Self(note & (0xffff_ffff | TABLE_WAITS)), ((note >> 32) & 0xffff) as u32)
    }

    #[inline]
    pub(crate) fn is_free(self) -> bool {
        self.0 & (EXCLUSIVE | READERS) == 0
    }

    #[inline]
    pub(crate) fn is_exclusive(self) -> bool {
        self.0 & EXCLUSIVE != 0
    }

    #[inline]
    pub(crate) fn readers(self) -> u32 {
        // 16 bits.
        ((self.0 & READERS) >> READERS_SHIFT) as u32
    }

    #[inline]
    pub(crate) fn somebody_waits(self) -> bool {
        self.0 & WAITING != 0
    }

    #[inline]
    pub(crate) fn table_waits(self) -> bool {
        self.0 & TABLE_WAITS != 0
    }

    /// The word with the table asking (or no longer asking) to be told when the entry becomes idle.
    #[must_use]
    pub(crate) fn with_table_waiting(self, waits: bool) -> Word {
        Word(if waits { self.0 | TABLE_WAITS } else { self.0 & !TABLE_WAITS })
    }

    /// The word with these many parked; more than fit are shown as the most that fit.
    #[must_use]
    pub(crate) fn with_waiting(self, readers: u32, writers: u32) -> Word {
        let readers = u64::from(readers.min(0xffff)) << READERS_WAITING_SHIFT;
        let writers = u64::from(writers.min(0x7fff)) << WRITERS_WAITING_SHIFT;
        Word((self.0 & !WAITING) | readers | writers)
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Word")
            .field("exclusive", &self.is_exclusive())
            .field("readers", &self.readers())
            .field("readers_waiting", &((self.0 & READERS_WAITING) >> READERS_WAITING_SHIFT))
            .field("writers_waiting", &((self.0 & WRITERS_WAITING) >> WRITERS_WAITING_SHIFT))
            .field("table_waits", &self.table_waits())
            .field("generation", &((self.0 & GENERATION) >> GENERATION_SHIFT))
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MAX_READERS: u32 = 0xffff;

    #[test]
    fn the_layout_is_the_documented_one() {
        assert_eq!(EXCLUSIVE, 0x0000_0000_0000_0001);
        assert_eq!(GENERATION, 0x0000_0000_0000_fffe);
        assert_eq!(READERS, 0x0000_0000_ffff_0000);
        assert_eq!(READERS_WAITING, 0x0000_ffff_0000_0000);
        assert_eq!(WRITERS_WAITING, 0x7fff_0000_0000_0000);
    }

    #[test]
    fn an_entry_without_a_key_cannot_be_taken() {
        for mode in [Mode::Shared, Mode::Exclusive] {
            assert_eq!(Word(0).taken_uncontended(mode), None);
            assert_eq!(Word(0).taken(mode), None);
        }
        assert_eq!(Word(0).claimed_for_another_key(), None);
    }

    #[test]
    fn the_reader_count_never_wraps() {
        let mut word = Word::idle(7);
        for _ in 0..MAX_READERS {
            word = word.taken_uncontended(Mode::Shared).expect("room for another reader");
        }
        assert_eq!(word.readers(), MAX_READERS);
        assert_eq!(word.taken_uncontended(Mode::Shared), None);
        assert_eq!(word.taken(Mode::Shared), None);
        for _ in 0..MAX_READERS {
            word = word.released_uncontended(Mode::Shared).expect("nobody waits");
        }
        assert_eq!(word, Word::idle(7));
    }

    #[test]
    fn waiting_counts_saturate_and_leave_the_rest_alone() {
        let held = Word::idle(3).taken(Mode::Exclusive).unwrap().with_table_waiting(true);
        let crowded = held.with_waiting(u32::MAX, u32::MAX);
        assert!(crowded.somebody_waits() && crowded.is_exclusive() && crowded.table_waits());
        assert_eq!(crowded.readers(), 0);
        assert_eq!(crowded.with_waiting(0, 0), held);
    }

    #[test]
    fn a_release_looks_in_when_somebody_waits_or_the_table_does() {
        let one = Word::idle(1).taken(Mode::Shared).unwrap();
        let two = one.taken(Mode::Shared).unwrap();
        assert_eq!(two.with_waiting(0, 1).released_uncontended(Mode::Shared), None);
        assert_eq!(one.with_table_waiting(true).released_uncontended(Mode::Shared), None);
        let table = two.with_table_waiting(true);
        assert_eq!(table.released_uncontended(Mode::Shared), Some(one.with_table_waiting(true)));
    }

    #[test]
    fn generations_go_round_without_zero() {
        let mut word = Word::idle(1);
        for _ in 0..(1 << GENERATION_BITS) + 3 {
            let claimed = word.claimed_for_another_key().expect("idle");
            assert_ne!(claimed.released(Mode::Exclusive), word);
            word = claimed.released(Mode::Exclusive);
            assert!(word.taken(Mode::Shared).is_some());
        }
    }

    #[test]
    fn a_note_keeps_what_a_release_needs() {
        let word = Word::idle(9).taken(Mode::Shared).unwrap().taken(Mode::Shared).unwrap().with_table_waiting(true);
        assert_eq!(Word::from_note(word.noted_with(0xfffe)), (word, 0xfffe));
        assert_eq!(Word::from_note(word.with_waiting(3, 4).noted_with(1)), (word, 1));
    }

    #[test]
    fn a_displaced_lock_lets_nobody_in_and_sends_everybody_to_the_shard() {
        for held in [Word::idle(5).taken(Mode::Exclusive).unwrap(), Word::idle(5).taken(Mode::Shared).unwrap()] {
            let displaced = held.displaced();
            assert!(displaced.is_displaced() && !held.is_displaced() && !held.with_waiting(1, 1).is_displaced());
            for mode in [Mode::Shared, Mode::Exclusive] {
                assert_eq!(displaced.taken_uncontended(mode), None);
                assert_eq!(displaced.taken(mode), None);
            }
            assert_eq!(displaced.upgraded(), None);
            let mode = if held.is_exclusive() { Mode::Exclusive } else { Mode::Shared };
            assert_eq!(displaced.released_uncontended(mode), None);
            assert!(displaced.released(mode).is_displaced());
        }
        assert!(!Word(0).is_displaced());
    }

    #[test]
    fn only_a_lone_reader_upgrades() {
        let one = Word::idle(1).taken(Mode::Shared).unwrap();
        let two = one.taken(Mode::Shared).unwrap();
        assert_eq!(two.upgraded(), None);
        assert_eq!(Word::idle(1).upgraded(), None);
        let writer = one.with_waiting(1, 2).upgraded().unwrap();
        assert!(writer.is_exclusive() && writer.readers() == 0 && writer.somebody_waits());
        assert_eq!(writer.downgraded(), one.with_waiting(1, 2));
    }
}
