//! One key's place in the table: 128 bytes that are always an entry, also for a late look-up.
//!
//! The first cache line is the lock, the second the key as words, continued in further entries of the same arena when it
//! is longer. A look-up reads the word, compares the key by relaxed loads, and swaps the word that it read: the key is
//! written only while the entry is claimed, of a generation that no look-up has seen without W, so a key that was read
//! while it changed is never acted on.

use super::key_words::{
    FOUR_WORDS, MOST_PACKED, PackedKey, TWO_WORDS, VERSIONED, append_part, four_words, lengths, part_lengths, parts,
    parts_with_words, two_words, word, words_in,
};
use super::state::Word;
use crate::key::{KeyRef, ObjectKey};
use crate::memory::{Arena, Cache, NONE, Pooled, Vacant};
use crate::sync::Barrier;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Words of a key in the entry itself; longer keys go on in further entries.
const INLINE_WORDS: usize = 8;
const _: () = assert!(MOST_PACKED == INLINE_WORDS);

const _: () = assert!(cfg!(loom) || size_of::<Entry>() == 128);
const _: () = assert!(cfg!(loom) || align_of::<Entry>() == 128);
const _: () = assert!(cfg!(loom) || std::mem::offset_of!(Entry, key) == 64);

/// See the module.
///
/// Fields below `hash` are changed only under the shard mutex, except `reader` and `fence`.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Entry {
    /// The lock; see [`super::state`].
    word: AtomicU64,
    /// The key's whole hash.
    hash: AtomicU64,
    /// The fence: how often the key was held exclusively; raised by the holder.
    ///
    /// It goes on from what the shard remembers.
    fence: AtomicU64,
    /// The next entry of the chain, or of the free list.
    pub(crate) next: AtomicU32,
    /// The hold record of a reader, a hint that may be stale.
    ///
    /// While a session counts its holds, the first of its further records.
    pub(crate) reader: AtomicU32,
    /// Where the key goes on.
    more: AtomicU32,
    /// First and last waiter.
    pub(crate) queue_head: AtomicU32,
    pub(crate) queue_tail: AtomicU32,
    /// Further facts of the holders: LEASED, SHUT, and the count of a session.
    marks: AtomicU32,
    /// How many pins keep the entry in the table, and PERMIT.
    pinned: AtomicU32,
    /// Lengths of the parts, 16 bits each, and whether there is a version.
    ///
    /// Changed with the key.
    lengths: AtomicU64,
    key: [AtomicU64; INLINE_WORDS],
}

#[cfg(not(loom))]
// SAFETY: all fields are atomic integers; zero is the vacant entry, whose generation 0 no request can take.
unsafe impl Vacant for Entry {}
#[cfg(loom)]
// SAFETY: built by hand under the model checker.
unsafe impl Vacant for Entry {
    fn vacant() -> Self {
        Self {
            word: AtomicU64::new(0),
            hash: AtomicU64::new(0),
            fence: AtomicU64::new(0),
            lengths: AtomicU64::new(0),
            next: AtomicU32::new(0),
            reader: AtomicU32::new(0),
            more: AtomicU32::new(0),
            queue_head: AtomicU32::new(0),
            queue_tail: AtomicU32::new(0),
            marks: AtomicU32::new(0),
            pinned: AtomicU32::new(0),
            key: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
    fn vacate(&self) {
        self.word.store(0, Ordering::Relaxed);
        self.hash.store(0, Ordering::Relaxed);
    }
}

// SAFETY: as above.
unsafe impl Pooled for Entry {
    /// By `max_locks`.
    const IS_LIMITED: bool = true;

    fn link(&self) -> &AtomicU32 {
        &self.next
    }

    /// The generation: it outlives the memory, so that it never repeats.
    fn mark(&self) -> u64 {
        self.word().generation()
    }

    fn revive(&self, mark: u64) {
        self.word.store(Word::unkeyed(mark).bits(), Ordering::Relaxed);
    }
}

impl Entry {
    /// Loads the lock's word. Acquire.
    ///
    /// Pairs with: the Release of `swap` and `publish`. A free word seen here makes the last holder's work and the entry's
    /// present key visible.
    #[inline(always)]
    pub(crate) fn word(&self) -> Word {
        Word::from_bits(self.word.load(Ordering::Acquire))
    }

    /// Changes the word from `seen` to `new`. AcqRel, and Acquire on failure.
    ///
    /// Pairs with: itself and `word`. A taker sees the last holder's work; a thread that sees the take sees the record that the
    /// word names as it was filled in before; a revoker's raise sees that a reader announced itself before it left, and a
    /// reader whose swap fails sees that it is being revoked.
    #[inline(always)]
    pub(crate) fn swap(&self, seen: Word, new: Word) -> Result<(), Word> {
        self.word
            .compare_exchange(seen.bits(), new.bits(), Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Word::from_bits)
    }

    /// Loads the lock's word after the caller has written the name of a slot.
    ///
    /// The barrier pairs with that in [`Slots::collect`](super::slots::Slots::collect). Either this sees that the readers
    /// are collected, or the collector sees the name.
    #[inline(always)]
    pub(super) fn word_after_slot(&self, barrier: Barrier) -> Word {
        barrier.light();
        // Orders what was read of the key before: that was the key of the word that is seen now. The half of a barrier that
        // the compiler alone sees does not.
        fence(Ordering::Acquire);
        self.word()
    }

    /// Begins to collect the readers of a biased entry. Returns the word as it was.
    ///
    /// For the shard's owner, as the next two. Each is one step, whatever the fast path does meanwhile: it only counts
    /// readers then.
    pub(super) fn begin_collecting(&self) -> Word {
        Word::from_bits(self.word.fetch_xor(Word::FROM_BIASED_TO_COLLECTING, Ordering::AcqRel))
    }

    /// Counts one more reader of an entry whose readers are collected.
    pub(super) fn count_reader(&self) {
        self.word.fetch_add(Word::ONE_READER, Ordering::AcqRel);
    }

    /// Ends collecting: the word counts all readers.
    pub(super) fn end_collecting(&self) {
        self.word.fetch_and(!Word::COLLECTING, Ordering::AcqRel);
    }

    /// Changes the word as `to` says, whatever the fast path does meanwhile.
    ///
    /// Returns it as it was. For the shard's owner.
    pub(super) fn change(&self, to: impl Fn(Word) -> Word) -> Word {
        let mut seen = self.word();
        while let Err(now) = self.swap(seen, to(seen)) {
            seen = now;
        }
        seen
    }

    /// Sets the word of an entry that is claimed or in no chain; publishes the key.
    ///
    /// Pairs with: `word`.
    pub(crate) fn publish(&self, word: Word) {
        self.word.store(word.bits(), Ordering::Release);
    }

    #[inline(always)]
    pub(crate) fn hash(&self) -> u64 {
        self.hash.load(Ordering::Relaxed)
    }

    /// Returns the number of the latest exclusive hold. Acquire.
    ///
    /// Pairs with: `set_fence`. A former holder that reads a later number finds its own hold revoked.
    #[inline]
    pub(crate) fn fence(&self) -> u64 {
        self.fence.load(Ordering::Acquire)
    }

    /// Sets the number of the latest exclusive hold. Release.
    ///
    /// The caller is that holder, or has claimed the entry.
    #[inline(always)]
    pub(crate) fn set_fence(&self, fence: u64) {
        self.fence.store(fence, Ordering::Release);
    }

    /// Counts one more exclusive hold, the caller's.
    #[inline(always)]
    pub(crate) fn raise_fence(&self) {
        self.set_fence(self.fence.load(Ordering::Relaxed) + 1);
    }

    /// Returns whether a holder may have a lease: a hint, until a search finds none.
    pub(crate) fn is_leased(&self) -> bool {
        self.marks.load(Ordering::Relaxed) & LEASED != 0
    }

    pub(crate) fn set_leased(&self, leased: bool) {
        let marks = self.marks.load(Ordering::Relaxed) & !LEASED;
        self.marks.store(marks | if leased { LEASED } else { 0 }, Ordering::Relaxed);
    }

    /// Returns whether a lock delay keeps the lock.
    pub(crate) fn is_shut(&self) -> bool {
        self.marks.load(Ordering::Relaxed) & SHUT != 0
    }

    /// Notes that a lock delay keeps the lock; like a lease it has an end to look at.
    pub(crate) fn set_shut(&self) {
        self.marks.store(SHUT | LEASED, Ordering::Relaxed);
    }

    /// Returns how many holds a session counts on the lock; 0 if it does not count.
    pub(crate) fn counted(&self) -> u32 {
        self.marks.load(Ordering::Relaxed) & COUNTED
    }

    pub(crate) fn set_counted(&self, counted: u32) {
        debug_assert!(counted <= COUNTED);
        self.marks.store(self.marks.load(Ordering::Relaxed) & !COUNTED | counted, Ordering::Relaxed);
    }

    /// Returns how many pins keep the entry in the table. For the shard's owner.
    pub(crate) fn pinned(&self) -> u32 {
        self.pinned.load(Ordering::Relaxed) & !PERMIT
    }

    pub(crate) fn set_pinned(&self, pinned: u32) {
        self.pinned.store(self.pinned.load(Ordering::Relaxed) & PERMIT | pinned, Ordering::Relaxed);
    }

    /// Returns whether a permit of a tier keeps the entry in the table.
    ///
    /// For the shard's owner.
    pub(crate) fn has_permit(&self) -> bool {
        self.pinned.load(Ordering::Relaxed) & PERMIT != 0
    }

    pub(crate) fn set_has_permit(&self, has: bool) {
        self.pinned.store(self.pinned() | if has { PERMIT } else { 0 }, Ordering::Relaxed);
    }

    /// Notes that nothing is special about the holders any more.
    pub(crate) fn clear_marks(&self) {
        self.marks.store(0, Ordering::Relaxed);
    }

    /// Returns whether the entry has this key.
    ///
    /// A look-up that has read a word without W validates the answer by its swap. Under the shard mutex it is exact.
    #[inline(always)]
    pub(crate) fn carries(&self, arena: &Arena<Entry>, key: &KeyRef<'_>) -> bool {
        if self.lengths.load(Ordering::Relaxed) != lengths(key) {
            return false;
        }
        let [bucket, object, version] = parts(key);
        // Of the parts of at most 32 bytes any two fit, and a third of at most 16 beside one of those.
        let Some((at, differ)) = self.short_part_differs(0, bucket) else { return self.carries_long(arena, *key) };
        let Some((at, object)) = self.short_part_differs(at, object) else { return self.carries_long(arena, *key) };
        let differ = differ | object;
        if version.is_empty() {
            return differ == 0;
        }
        let Some((_, version)) = self.short_part_differs(at, version) else { return self.carries_long(arena, *key) };
        differ | version == 0
    }

    /// As `carries`, for a packed key; `false` for a key too long to be packed.
    #[inline(always)]
    pub(crate) fn carries_packed(&self, packed: &PackedKey) -> bool {
        let differs = |position: usize| self.key[position].load(Ordering::Relaxed) ^ packed.words[position];
        let two_differ = |position: usize| differs(position) | differs(position + 1);
        let mut differ = self.lengths.load(Ordering::Relaxed) ^ packed.lengths;
        differ |= two_differ(0) | two_differ(2);
        if packed.count > 4 {
            differ |= two_differ(4);
        }
        if packed.count > 6 {
            differ |= two_differ(6);
        }
        differ == 0 && packed.count > 0
    }

    /// Returns where the next part begins, and the bits in which this differs.
    ///
    /// `None` if it does not fit into this block or has more than four words.
    #[inline(always)]
    fn short_part_differs(&self, at: usize, part: &[u8]) -> Option<(usize, u64)> {
        let stored = |position: usize| self.key[at + position].load(Ordering::Relaxed);
        if part.len() <= TWO_WORDS && at + 2 <= INLINE_WORDS {
            let [first, last] = two_words(part);
            return Some((at + 2, (stored(0) ^ first) | (stored(1) ^ last)));
        }
        if part.len() > TWO_WORDS && part.len() <= FOUR_WORDS && at + 4 <= INLINE_WORDS {
            let words = four_words(part);
            let front = (stored(0) ^ words[0]) | (stored(1) ^ words[1]);
            return Some((at + 4, front | (stored(2) ^ words[2]) | (stored(3) ^ words[3])));
        }
        None
    }

    /// By value: a key that is only passed on in registers need not be in memory.
    #[inline(never)]
    fn carries_long(&self, arena: &Arena<Entry>, key: KeyRef<'_>) -> bool {
        let (mut block, mut at) = (self, 0);
        for part in parts_with_words(&key) {
            let (count, mut position) = (words_in(part.len()), 0);
            while position < count {
                if at == INLINE_WORDS {
                    let more = block.more.load(Ordering::Relaxed);
                    if more == NONE {
                        return false;
                    }
                    (block, at) = (arena.get(more), 0);
                }
                // As far as both go: the rest of the part, the rest of the block.
                let run = (count - position).min(INLINE_WORDS - at);
                let differ = block.key[at..at + run].iter().zip(position..).fold(0, |differ, (stored, position)| {
                    differ | (stored.load(Ordering::Relaxed) ^ word(part, position))
                });
                if differ != 0 {
                    return false;
                }
                (at, position) = (at + run, position + run);
            }
        }
        true
    }

    /// Returns the words of the key, one after the other, and what follows them.
    ///
    /// A look-up may read wrong blocks while they change, for as long as it goes on.
    #[inline]
    fn words<'a>(&'a self, arena: &'a Arena<Entry>) -> impl Iterator<Item = u64> + 'a {
        let (mut block, mut at) = (self, 0);
        std::iter::from_fn(move || {
            if at == INLINE_WORDS {
                let more = block.more.load(Ordering::Relaxed);
                if more == NONE {
                    return None;
                }
                (block, at) = (arena.get(more), 0);
            }
            at += 1;
            Some(block.key[at - 1].load(Ordering::Relaxed))
        })
    }

    /// Writes the key; `false` if the arena has no room for the rest of a long key.
    ///
    /// Caller holds: shard mutex. It has claimed the entry. After a failure the entry has no further blocks.
    pub(crate) fn write_key(&self, arena: &Arena<Entry>, cache: &Cache, hash: u64, key: &KeyRef<'_>) -> bool {
        // Pairs with: the acquire fence in `word_after_slot`. A reader that reads a part of this key reads the word of the claim,
        // or a later one, after it.
        fence(Ordering::Release);
        if self.more.load(Ordering::Relaxed) != NONE {
            self.drop_long_key(arena, cache);
        }
        if !self.write_short_key(key) && !self.write_long_key(arena, cache, key) {
            return false;
        }
        self.lengths.store(lengths(key), Ordering::Relaxed);
        self.hash.store(hash, Ordering::Relaxed);
        true
    }

    /// Writes a key whose parts fit without a loop. `false` if they do not.
    #[inline(always)]
    fn write_short_key(&self, key: &KeyRef<'_>) -> bool {
        let [bucket, object, version] = parts(key);
        let Some(at) = self.write_short_part(0, bucket) else { return false };
        let Some(at) = self.write_short_part(at, object) else { return false };
        version.is_empty() || self.write_short_part(at, version).is_some()
    }

    /// Returns where the next part begins. `None` as in `short_part_differs`.
    #[inline(always)]
    fn write_short_part(&self, at: usize, part: &[u8]) -> Option<usize> {
        let store = |position: usize, word: u64| self.key[at + position].store(word, Ordering::Relaxed);
        if part.len() <= TWO_WORDS && at + 2 <= INLINE_WORDS {
            two_words(part).into_iter().enumerate().for_each(|(position, word)| store(position, word));
            return Some(at + 2);
        }
        if part.len() > TWO_WORDS && part.len() <= FOUR_WORDS && at + 4 <= INLINE_WORDS {
            four_words(part).into_iter().enumerate().for_each(|(position, word)| store(position, word));
            return Some(at + 4);
        }
        None
    }

    #[inline(never)]
    fn write_long_key(&self, arena: &Arena<Entry>, cache: &Cache, key: &KeyRef<'_>) -> bool {
        let (mut block, mut at) = (self, 0);
        for part in parts_with_words(key) {
            for position in 0..words_in(part.len()) {
                if at == INLINE_WORDS {
                    let more = arena.take(cache);
                    if more == NONE {
                        self.drop_long_key(arena, cache);
                        return false;
                    }
                    block.more.store(more, Ordering::Relaxed);
                    (block, at) = (arena.get(more), 0);
                    block.more.store(NONE, Ordering::Relaxed);
                }
                block.key[at].store(word(part, position), Ordering::Relaxed);
                at += 1;
            }
        }
        true
    }

    /// Gives the further blocks of a long key back.
    ///
    /// Caller holds: shard mutex. It has claimed the entry.
    pub(crate) fn drop_long_key(&self, arena: &Arena<Entry>, cache: &Cache) {
        let mut more = self.more.load(Ordering::Relaxed);
        self.more.store(NONE, Ordering::Relaxed);
        while more != NONE {
            let block = arena.get(more);
            let next = block.more.load(Ordering::Relaxed);
            block.more.store(NONE, Ordering::Relaxed);
            arena.put(cache, more);
            more = next;
        }
    }

    /// Returns a copy of the key. The caller owns the shard.
    pub(crate) fn key(&self, arena: &Arena<Entry>) -> ObjectKey {
        let mut bytes = Vec::new();
        self.key_in(arena, &mut bytes).to_owned()
    }

    /// Returns the key, copied to `bytes`. Caller holds: shard mutex.
    pub(crate) fn key_in<'b>(&self, arena: &Arena<Entry>, bytes: &'b mut Vec<u8>) -> KeyRef<'b> {
        let lengths = self.lengths.load(Ordering::Relaxed);
        let [bucket_len, object_len, version_len] = part_lengths(lengths);
        bytes.clear();
        let mut words = self.words(arena);
        let version_with_words = (version_len > 0).then_some(version_len);
        for length in [bucket_len, object_len].into_iter().chain(version_with_words) {
            append_part(bytes, length, || words.next().unwrap_or_default());
        }
        let (bucket, rest) = bytes.split_at(bucket_len);
        let (object, version) = rest.split_at(object_len);
        let key = KeyRef::new(bucket, object);
        if lengths & VERSIONED != 0 { key.with_version(version) } else { key }
    }
}

// The parts of `marks`.
const LEASED: u32 = 1 << 31;
const SHUT: u32 = 1 << 30;
const COUNTED: u32 = SHUT - 1;

// In `pinned`: a permit of a tier, or a wish for one.
const PERMIT: u32 = 1 << 31;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn keyed(arena: &Arena<Entry>, cache: &Cache, key: &KeyRef<'_>) -> u32 {
        let index = arena.take(cache);
        assert!(arena.get(index).write_key(arena, cache, 1, key));
        index
    }

    #[test]
    fn key_of_any_length_comes_back() {
        let arena = Arena::<Entry>::reserve(4096, 0).unwrap();
        let cache = Cache::default();
        let text: Vec<u8> = (0..4100u32).map(|i| (i * 7 + 3) as u8).collect();
        let lengths = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 24, 25, 63, 64, 65, 200, 4096];
        for bucket in lengths {
            for object in lengths {
                for version in [None, Some(0), Some(1), Some(7), Some(33)] {
                    let mut key = KeyRef::new(&text[..bucket], &text[..object]);
                    if let Some(version) = version {
                        key = key.with_version(&text[..version]);
                    }
                    let index = keyed(&arena, &cache, &key);
                    let entry = arena.get(index);
                    assert!(entry.carries(&arena, &key), "{bucket} {object} {version:?}");
                    assert_eq!(entry.key(&arena), key.to_owned());
                    for other in [
                        KeyRef::new(&text[..bucket], &text[1..=object]),
                        KeyRef::new(&text[..bucket], &text[..object]).with_version("x"),
                        KeyRef::new(&text[..object], &text[..bucket]).with_version(&text[..9]),
                    ] {
                        assert_eq!(entry.carries(&arena, &other), other == key, "{other:?} {key:?}");
                    }
                    entry.drop_long_key(&arena, &cache);
                    arena.put(&cache, index);
                }
            }
        }
    }

    #[test]
    fn keys_one_byte_apart_differ() {
        let arena = Arena::<Entry>::reserve(4096, 0).unwrap();
        let cache = Cache::default();
        for length in 1..=130 {
            let text = vec![b'a'; length];
            let index = keyed(&arena, &cache, &KeyRef::new("b", &text));
            for position in 0..length {
                let mut other = text.clone();
                other[position] = 0;
                assert!(!arena.get(index).carries(&arena, &KeyRef::new("b", &other)), "{length} {position}");
            }
            arena.get(index).drop_long_key(&arena, &cache);
            arena.put(&cache, index);
        }
    }

    #[test]
    fn no_room_for_a_long_key_leaves_nothing_behind() {
        let arena = Arena::<Entry>::reserve(31, 0).unwrap();
        let cache = Cache::default();
        let index = arena.take(&cache);
        let long = vec![1; 20_000];
        assert!(!arena.get(index).write_key(&arena, &cache, 1, &KeyRef::new("b", &long)));
        let mut rest = 0;
        while arena.take(&cache) != NONE {
            rest += 1;
        }
        assert_eq!(rest, 30);
    }
}
