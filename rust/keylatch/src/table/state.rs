//! The 64-bit word that *is* a lock.
//!
//! ```text
//!   63     62        61       60     59    58    57                      32 31               1   0
//! +-----+-------+----------+------+-----+-----+--------------------------+------------------+---+
//! |EVICT|WAITERS|COLLECTING|BIASED|BAR_X|BAR_S| readers, or if W: record |    generation    | W |
//! +-----+-------+----------+------+-----+-----+--------------------------+------------------+---+
//! ```
//!
//! | bits | meaning | who changes it, under what |
//! |---|---|---|
//! | W | one holder has the key exclusively | set by a compare-and-swap from "free"; cleared by its holder; the shard's owner does both for others |
//! | record | while W is set: the hold record of the exclusive holder; 0 for the table itself: it is claimed, or in a lock delay | as W |
//! | readers | while W is clear: how many hold the key shared; there are fewer records than it can count | a compare-and-swap by each reader |
//! | generation | moves when the entry gets another key and when a hold is revoked or counted; never repeats before the entry is claimed again; 0 carries no key and cannot be taken | the shard's owner |
//! | WAITERS | a waiter sleeps in the queue: the release goes to the shard, and newcomers too | the shard's owner |
//! | EVICT | the entry is in none of its shard's warm slots: the release that makes it idle goes to the shard | the shard's owner |
//! | BAR_X | a tier has not permitted this process to hold the key exclusively: the fast path does not | the shard's owner |
//! | BAR_S | as BAR_X, to share it; only beside BAR_X | the shard's owner |
//! | BIASED | readers may be in slots, where this word does not count them; see [`super::slots`] | the shard's owner |
//! | COLLECTING | the shard's owner moves them from their slots to this word | the shard's owner, which clears it before it releases the mutex |
//!
//! "The shard's owner" is the thread that holds the shard's mutex. It races only with fast takes, fast conversions and
//! fast releases, so every one of its changes is a compare-and-swap, or one step that leaves the rest of the word as it is.
//!
//! | W | field | WAITERS | what holds the key, and what waits |
//! |---|---|---|---|
//! | 0 | 0 | 0 | free: one compare-and-swap takes it. A queue may exist: then its first waiter was notified |
//! | 0 | n | 0 | n readers; more may join |
//! | 1 | r | 0 | one writer, whose record is r |
//! | 0 | n | 1 | n readers, and a waiter sleeps: every release finds the bit in its own look and goes to the shard |
//! | 1 | r | 1 | one writer, and a waiter sleeps |
//! | 1 | 0 | any | the table's own: claimed for another key, free in the arena, or in a lock delay |
//! | 0 | 0 | 1 | with BAR_X: the queue waits for the tier. Otherwise never: the shard's owner serves the queue in the swap that frees the lock |
//! | 0 | n | 0 | with BIASED: n readers, and those in slots; more may join here and there |
//! | 0 | n | 0 | with COLLECTING: n readers, and those in slots that are not counted yet; more may join here |
//!
//! BIASED excludes W, WAITERS, EVICT, the bars and COLLECTING. While it or COLLECTING is set the word is not free: no fast
//! path takes it exclusively, and no claim does. COLLECTING is set in the swap that clears BIASED, so that there is no moment
//! in which a slot has a reader and the word looks free.
//!
//! BAR_X and BAR_S are zero in a manager without a tier. They bind the fast path alone: the shard's owner asks the permit
//! itself. An entry whose permit may end carries EVICT beside them, so that its last release comes to the shard. Bars are
//! set before the owner looks whether the lock is free, and a permit is given back only from a word that is barred and
//! free: a holder from before the bar is seen in the word, and none comes after it.
//!
//! The generation proves the key. A look-up reads a word without W, compares the key, and swaps from the word that it
//! read: success means that the generation is the same, so the key is. An entry whose generations are used up is never
//! given another key, see [`Word::claimed_for_another_key`].

use crate::mode::Mode;

const EXCLUSIVE: u64 = 1;
const GENERATION_SHIFT: u32 = 1;
const ONE_GENERATION: u64 = 1 << GENERATION_SHIFT;
const GENERATION_BITS: u32 = 31;
const GENERATION: u64 = ((1 << GENERATION_BITS) - 1) << GENERATION_SHIFT;
/// The last generation; this and the one before are never given another key.
const LAST_GENERATION: u64 = GENERATION;
const FIELD_SHIFT: u32 = 32;
const FIELD_BITS: u32 = 26;
const FIELD: u64 = ((1 << FIELD_BITS) - 1) << FIELD_SHIFT;
const ONE_READER: u64 = 1 << FIELD_SHIFT;
const BAR_S: u64 = 1 << 58;
const BAR_X: u64 = 1 << 59;
const BARS: u64 = BAR_S | BAR_X;
/// Readers may be in slots.
const BIASED: u64 = 1 << 60;
/// The shard's owner collects them.
const COLLECTING: u64 = 1 << 61;
/// Readers may hold the lock that the word does not count.
const SLOTTED: u64 = BIASED | COLLECTING;
const WAITERS: u64 = 1 << 62;
const EVICT: u64 = 1 << 63;
const _: () = assert!(EXCLUSIVE ^ GENERATION ^ FIELD ^ BARS ^ BIASED ^ COLLECTING ^ WAITERS ^ EVICT == u64::MAX);
const _: () = assert!(crate::grant::MAX_RECORDS as u64 <= FIELD >> FIELD_SHIFT);

/// A value of the word. Transitions return the next value; the caller swaps it in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Returns the word of a keyed entry that is free and has no waiters.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn idle(generation: u64) -> Self {
        Self(generation << GENERATION_SHIFT)
    }

    /// Returns the word of an entry without a key that had this generation last.
    pub(crate) fn unkeyed(generation: u64) -> Self {
        Self(((generation << GENERATION_SHIFT) & GENERATION) | EXCLUSIVE)
    }

    /// Returns the generation, for [`Word::unkeyed`].
    pub(crate) fn generation(self) -> u64 {
        (self.0 & GENERATION) >> GENERATION_SHIFT
    }

    /// Returns whether both are of the same key, with no revocation in between.
    #[inline]
    pub(crate) fn has_generation_of(self, other: Self) -> bool {
        (self.0 ^ other.0) & GENERATION == 0
    }

    /// Returns whether both say that the same hold has the key exclusively.
    #[inline]
    pub(crate) fn has_writer_of(self, other: Self) -> bool {
        (self.0 ^ other.0) & (EXCLUSIVE | GENERATION | FIELD) == 0
    }

    /// Returns the word with one more holder, if the fast path may take it.
    #[inline(always)]
    #[must_use]
    pub(crate) fn taken_uncontended(self, mode: Mode, record: u32) -> Option<Word> {
        // One generation less: generation 0 borrows from all bits above and is refused by the same comparison.
        let asked = self.0.wrapping_sub(ONE_GENERATION);
        match mode {
            Mode::Exclusive => {
                // W and the field are clear, so that adding is setting.
                let writer = u64::from(record) << FIELD_SHIFT | EXCLUSIVE;
                (asked & !(GENERATION | EVICT) == 0).then_some(Word(self.0.wrapping_add(writer)))
            }
            Mode::Shared => {
                (asked & (EXCLUSIVE | WAITERS | BAR_S | BIASED) == 0).then_some(Word(self.0.wrapping_add(ONE_READER)))
            }
        }
    }

    /// Returns the word with one more holder, if its holders allow it.
    ///
    /// Whatever waits or bars the fast path: for the shard's owner.
    #[inline]
    #[must_use]
    pub(crate) fn taken(self, mode: Mode, record: u32) -> Option<Word> {
        match mode {
            _ if self.0 & GENERATION == 0 => None,
            Mode::Exclusive => self.is_free().then(|| self.with_writer(record)),
            Mode::Shared => (self.0 & EXCLUSIVE == 0).then_some(Word(self.0.wrapping_add(ONE_READER))),
        }
    }

    /// Returns the word with one holder less; `None` if the release goes to the shard.
    ///
    /// A waiter sleeps in the queue, or this is the last holder of an entry without a warm slot.
    #[inline(always)]
    #[must_use]
    pub(crate) fn released_uncontended(self, mode: Mode) -> Option<Word> {
        let left = self.released(mode);
        // What is the case most of the time is found out first.
        let goes_on = self.0 & (WAITERS | EVICT) == 0 || (self.0 & WAITERS == 0 && !left.is_free());
        goes_on.then_some(left)
    }

    /// Returns the word with one holder less.
    #[inline(always)]
    #[must_use]
    pub(crate) fn released(self, mode: Mode) -> Word {
        match mode {
            Mode::Exclusive => {
                debug_assert!(self.is_exclusive(), "an exclusive release of {self:?}");
                Word(self.0 & !(EXCLUSIVE | FIELD))
            }
            Mode::Shared => {
                debug_assert!(self.readers() > 0, "a shared release of {self:?}");
                Word(self.0.wrapping_sub(ONE_READER))
            }
        }
    }

    /// Returns the word with the one exclusive holder turned into one reader.
    #[must_use]
    pub(crate) fn downgraded(self) -> Word {
        Word(self.released(Mode::Exclusive).0 | ONE_READER)
    }

    /// Returns the word with its only reader as the exclusive holder.
    #[must_use]
    pub(crate) fn upgraded(self, record: u32) -> Option<Word> {
        (self.readers() == 1 && self.0 & SLOTTED == 0).then(|| self.with_writer(record))
    }

    /// Returns the word of a lock whose readers may use slots.
    ///
    /// `None` if anything but readers is in it.
    #[must_use]
    pub(crate) fn biased(self) -> Option<Word> {
        let plain = self.0 & !(GENERATION | FIELD) == 0 && self.0 & GENERATION != 0;
        plain.then_some(Word(self.0 | BIASED))
    }

    /// Returns whether readers may be in slots.
    #[inline(always)]
    pub(crate) fn is_biased(self) -> bool {
        self.0 & BIASED != 0
    }

    /// The bits that change when the readers of a biased lock begin to be collected.
    pub(super) const FROM_BIASED_TO_COLLECTING: u64 = BIASED | COLLECTING;
    /// The bit that is set until they are.
    pub(super) const COLLECTING: u64 = COLLECTING;
    /// What one more reader adds.
    pub(super) const ONE_READER: u64 = ONE_READER;

    /// Returns the word of a biased lock with one reader more that it counts.
    ///
    /// For one that found no empty slot.
    #[inline]
    #[must_use]
    pub(crate) fn joined_beside_slots(self) -> Option<Word> {
        self.is_biased().then_some(Word(self.0.wrapping_add(ONE_READER)))
    }

    /// Returns what names the lock of this entry, at this generation, in a slot.
    ///
    /// Never 0.
    #[inline(always)]
    pub(super) fn slot_name(self, entry: u32) -> u64 {
        u64::from(entry) << 32 | self.0 & GENERATION
    }

    /// Returns the word held exclusively by this record, instead of its holder.
    #[inline(always)]
    #[must_use]
    pub(crate) fn with_writer(self, record: u32) -> Word {
        debug_assert!(self.0 & SLOTTED == 0, "{self:?} gets a writer");
        Word((self.0 & !FIELD) | u64::from(record) << FIELD_SHIFT | EXCLUSIVE)
    }

    /// Returns the word with another generation, so that swaps under way fail.
    ///
    /// The last two generations take turns. That is safe: they are never given another key, the record of a revoked
    /// writer is in no word again before its guard is gone, and a reader that was late announced itself.
    #[must_use]
    pub(crate) fn raised(self) -> Word {
        if self.0 & GENERATION == LAST_GENERATION {
            Word(self.0 - ONE_GENERATION)
        } else {
            Word(self.0 + ONE_GENERATION)
        }
    }

    /// Returns whether the entry can be given another key.
    pub(crate) fn has_generations_left(self) -> bool {
        self.0 & GENERATION < LAST_GENERATION - ONE_GENERATION
    }

    /// Returns the word of an idle entry as claimed; `None` if the entry is in use.
    ///
    /// It has the next generation.
    #[must_use]
    pub(crate) fn claimed_for_another_key(self) -> Option<Word> {
        let idle = self.0 & !(GENERATION | EVICT | BARS) == 0 && self.0 & GENERATION != 0;
        let next = if self.has_generations_left() { self.0 + ONE_GENERATION } else { self.0 };
        idle.then_some(Word(next & GENERATION | EXCLUSIVE))
    }

    /// Returns the low half of the word, beside the shard, for the release.
    #[inline(always)]
    #[must_use]
    pub(crate) fn noted_with(self, shard: u32) -> u64 {
        (self.0 & u64::from(u32::MAX)) | u64::from(shard) << 32
    }

    /// Returns the two parts of a note: the word without WAITERS and EVICT, and shard.
    #[inline(always)]
    pub(crate) fn from_note(note: u64, record: u32) -> (Self, u32) {
        (Self(note & u64::from(u32::MAX)).with_writer(record), (note >> 32) as u32)
    }

    #[inline]
    pub(crate) fn is_free(self) -> bool {
        self.0 & (EXCLUSIVE | FIELD | SLOTTED) == 0
    }

    #[inline]
    pub(crate) fn is_exclusive(self) -> bool {
        self.0 & EXCLUSIVE != 0
    }

    /// Returns the record of the exclusive holder; 0 for none and for the table.
    #[inline]
    pub(crate) fn writer(self) -> u32 {
        // 26 bits.
        if self.is_exclusive() { ((self.0 & FIELD) >> FIELD_SHIFT) as u32 } else { 0 }
    }

    #[inline]
    pub(crate) fn readers(self) -> u32 {
        // 26 bits.
        if self.is_exclusive() { 0 } else { ((self.0 & FIELD) >> FIELD_SHIFT) as u32 }
    }

    /// Returns whether one reader holds it, and no other.
    #[inline(always)]
    pub(crate) fn has_one_reader(self) -> bool {
        self.0 & (EXCLUSIVE | FIELD) == ONE_READER
    }

    #[inline]
    pub(crate) fn has_waiters(self) -> bool {
        self.0 & WAITERS != 0
    }

    #[inline]
    pub(crate) fn is_to_evict(self) -> bool {
        self.0 & EVICT != 0
    }

    /// Returns the word with EVICT set or cleared.
    #[must_use]
    pub(crate) fn with_evict(self, evict: bool) -> Word {
        debug_assert!(!evict || self.0 & SLOTTED == 0, "{self:?} is to be evicted");
        Word(if evict { self.0 | EVICT } else { self.0 & !EVICT })
    }

    /// Returns whether the fast path is kept from the exclusive mode.
    #[inline]
    pub(crate) fn is_barred(self) -> bool {
        self.0 & BAR_X != 0
    }

    /// Returns the word whose fast path may grant this mode and weaker ones.
    #[must_use]
    pub(crate) fn open_to(self, mode: Option<Mode>) -> Word {
        let bars = match mode {
            Some(Mode::Exclusive) => 0,
            Some(Mode::Shared) => BAR_X,
            None => BARS,
        };
        Word(self.0 & !BARS | bars)
    }

    /// Returns the word with WAITERS set or cleared.
    #[must_use]
    pub(crate) fn with_waiters(self, waiters: bool) -> Word {
        debug_assert!(!waiters || self.0 & SLOTTED == 0, "{self:?} gets a waiter");
        Word(if waiters { self.0 | WAITERS } else { self.0 & !WAITERS })
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Word")
            .field("writer", &self.is_exclusive().then(|| self.writer()))
            .field("readers", &self.readers())
            .field("biased", &self.is_biased())
            .field("collecting", &(self.0 & COLLECTING != 0))
            .field("waiters", &self.has_waiters())
            .field("evict", &self.is_to_evict())
            .field("bars", &((self.0 & BARS) >> BAR_S.trailing_zeros()))
            .field("generation", &self.generation())
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const RECORD: u32 = 0x3a5_b6c7;

    fn written() -> Word {
        Word::idle(5).taken(Mode::Exclusive, RECORD).unwrap()
    }

    fn read() -> Word {
        Word::idle(5).taken(Mode::Shared, RECORD).unwrap()
    }

    #[test]
    fn layout_is_the_documented_one() {
        assert_eq!(EXCLUSIVE, 0x0000_0000_0000_0001);
        assert_eq!(GENERATION, 0x0000_0000_ffff_fffe);
        assert_eq!(FIELD, 0x03ff_ffff_0000_0000);
        assert_eq!((BAR_S, BAR_X), (1 << 58, 1 << 59));
        assert_eq!((BIASED, COLLECTING), (1 << 60, 1 << 61));
        assert_eq!((WAITERS, EVICT), (1 << 62, 1 << 63));
    }

    #[test]
    fn entry_without_key_is_never_taken() {
        for word in [Word(0), Word::unkeyed(0), Word::unkeyed(7), Word(0).with_evict(true)] {
            for mode in [Mode::Shared, Mode::Exclusive] {
                assert_eq!(word.taken_uncontended(mode, RECORD), None);
                assert_eq!(word.taken(mode, RECORD), None);
            }
            assert_eq!(word.claimed_for_another_key(), None);
        }
    }

    #[test]
    fn word_names_its_writer() {
        assert_eq!((written().writer(), written().readers()), (RECORD, 0));
        assert_eq!((read().writer(), read().readers()), (0, 1));
        assert_eq!(written().released(Mode::Exclusive), Word::idle(5));
        assert_eq!(written().downgraded(), read());
        assert_eq!(read().upgraded(RECORD), Some(written()));
        assert_eq!(read().taken(Mode::Shared, RECORD).unwrap().upgraded(RECORD), None);
    }

    #[test]
    fn word_is_not_free_while_slots_may_have_readers() {
        let biased = Word::idle(1).biased().unwrap();
        let collecting = Word(biased.0 ^ Word::FROM_BIASED_TO_COLLECTING);
        for word in [biased, collecting] {
            assert!(!word.is_free());
            assert_eq!(word.taken_uncontended(Mode::Exclusive, RECORD), None);
            assert_eq!(word.taken(Mode::Exclusive, RECORD), None);
            assert_eq!(word.claimed_for_another_key(), None);
            assert_eq!(word.taken(Mode::Shared, RECORD).unwrap().upgraded(RECORD), None);
            assert!(word.taken(Mode::Shared, RECORD).is_some());
        }
        assert_eq!(biased.taken_uncontended(Mode::Shared, RECORD), None);
        assert_eq!(Word(collecting.0 & !Word::COLLECTING), Word::idle(1));
    }

    #[test]
    fn word_is_biased_among_readers_alone() {
        assert!(read().biased().is_some());
        let biased = read().biased().unwrap();
        let idle = Word::idle(1);
        for word in
            [Word(0), written(), biased, Word(biased.0 ^ SLOTTED), read().with_waiters(true), idle.with_evict(true)]
        {
            assert_eq!(word.biased(), None);
        }
        assert_eq!(idle.open_to(Some(Mode::Shared)).biased(), None);
    }

    #[test]
    fn waiters_keep_the_fast_path_out() {
        for word in [Word::idle(1), read()] {
            assert!(word.taken_uncontended(Mode::Shared, RECORD).is_some());
            assert_eq!(word.with_waiters(true).taken_uncontended(Mode::Shared, RECORD), None);
            assert_eq!(word.with_waiters(true).taken_uncontended(Mode::Exclusive, RECORD), None);
        }
        assert!(Word::idle(1).with_evict(true).taken_uncontended(Mode::Exclusive, RECORD).is_some());
        assert_eq!(written().taken_uncontended(Mode::Exclusive, RECORD), None);
        assert_eq!(written().taken_uncontended(Mode::Shared, RECORD), None);
    }

    #[test]
    fn bars_bind_the_fast_path_alone() {
        let fast = |word: Word, mode| word.taken_uncontended(mode, RECORD).is_some();
        for word in [Word::idle(1), read()] {
            let (shared, shut) = (word.open_to(Some(Mode::Shared)), word.open_to(None));
            assert!(fast(shared, Mode::Shared) && !fast(shared, Mode::Exclusive));
            assert!(!fast(shut, Mode::Shared) && !fast(shut, Mode::Exclusive));
            assert!(shut.taken(Mode::Shared, RECORD).is_some_and(Word::is_barred));
            assert_eq!(shut.open_to(Some(Mode::Exclusive)), word);
            assert!(shared.is_barred() && shut.is_barred() && !word.is_barred());
        }
        let shut = Word::idle(1).open_to(None);
        assert!(shut.is_free() && shut.taken(Mode::Exclusive, RECORD).is_some());
        assert_eq!(shut.claimed_for_another_key(), Word::idle(1).claimed_for_another_key());
        let held = shut.with_writer(RECORD).with_evict(true);
        assert_eq!(held.released_uncontended(Mode::Exclusive), None, "its release comes to the shard");
        assert_ne!(Word::from_note(held.noted_with(7), RECORD).0, held, "and does not guess");
    }

    #[test]
    fn release_goes_to_the_shard_when_it_must() {
        let two = read().taken(Mode::Shared, RECORD).unwrap();
        assert_eq!(two.with_waiters(true).released_uncontended(Mode::Shared), None);
        assert_eq!(read().with_evict(true).released_uncontended(Mode::Shared), None);
        assert_eq!(two.with_evict(true).released_uncontended(Mode::Shared), Some(read().with_evict(true)));
        assert_eq!(written().with_evict(true).released_uncontended(Mode::Exclusive), None);
        assert_eq!(written().with_waiters(true).released_uncontended(Mode::Exclusive), None);
        assert_eq!(written().released_uncontended(Mode::Exclusive), Some(Word::idle(5)));
    }

    #[test]
    fn generation_never_repeats_for_another_key() {
        let last = LAST_GENERATION >> GENERATION_SHIFT;
        let claimed = Word::idle(last - 3).claimed_for_another_key().unwrap();
        assert_eq!(claimed.generation(), last - 2);
        assert!(claimed.has_generations_left());
        let retired = Word::idle(last - 2).claimed_for_another_key().unwrap();
        assert!(!retired.has_generations_left(), "{retired:?}");
        assert!(!Word::idle(last).claimed_for_another_key().unwrap().has_generations_left());
    }

    #[test]
    fn raised_word_is_another_one_for_ever() {
        let last = LAST_GENERATION >> GENERATION_SHIFT;
        let mut word = Word::idle(last - 2).with_writer(RECORD);
        for _ in 0..9 {
            assert_ne!(word.raised(), word);
            assert!(!word.raised().has_writer_of(word) && word.raised().writer() == RECORD);
            word = word.raised();
            assert!(!word.has_generations_left());
        }
    }

    #[test]
    fn note_keeps_what_a_release_needs() {
        for word in [written(), written().with_evict(true)] {
            assert_eq!(Word::from_note(word.noted_with(0xfffe), RECORD), (written(), 0xfffe));
            assert_eq!(Word::from_note(word.with_waiters(true).noted_with(1), RECORD), (written(), 1));
        }
    }
}
