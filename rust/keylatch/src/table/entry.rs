//! One key's place in the table: 128 bytes that are always an entry, whoever still looks at them.
//!
//! The first cache line is the lock, the second the key: its parts one after the other, continued in further entries of
//! the same arena when they are longer. A look-up compares nothing but the hash before its compare-and-swap; the key is
//! looked at only by who holds the entry or owns its shard, and written only to an entry that is claimed, so that its
//! bytes are never read while they change.

use super::state::Word;
use crate::key::{KeyRef, ObjectKey};
use crate::memory::{Arena, Cache, NONE, Pooled, Stock, Vacant};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::fault::{fault, ordering};

/// Words of key that an entry holds itself.
const INLINE_WORDS: usize = 7;
/// Bytes of key that an entry holds itself; longer keys go on in further entries of the same arena.
const INLINE_BYTES: usize = 8 * INLINE_WORDS;

const _: () = assert!(cfg!(loom) || size_of::<Entry>() == 128);
const _: () = assert!(cfg!(loom) || align_of::<Entry>() == 128);
const _: () = assert!(cfg!(loom) || std::mem::offset_of!(Entry, lengths) == 64);

/// See the module. Fields below `hash` are changed only by the shard's owner, but for `holder` and `fence`.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Entry {
    /// The lock; see [`super::state`].
    word: AtomicU64,
    /// The key's whole hash.
    hash: AtomicU64,
    /// How often the key was held exclusively, counted on from what its shard remembers; bumped by the holder.
    pub(crate) fence: AtomicU64,
    /// The next entry of the chain, or of the free list.
    pub(crate) next: AtomicU32,
    /// The hold record of the exclusive holder, set after the take and cleared before the release; for readers, that of
    /// the latest to come, a hint that may be stale.
    pub(crate) holder: AtomicU32,
    /// Where the key goes on.
    more: AtomicU32,
    /// First and last waiter.
    pub(crate) queue_head: AtomicU32,
    pub(crate) queue_tail: AtomicU32,
    /// How many wait for it shared or exclusive and are not on their way.
    pub(crate) parked_readers: AtomicU32,
    pub(crate) parked_writers: AtomicU32,
    /// Of a displaced entry: the one that stands in for it.
    forward: AtomicU32,
    /// Of a displaced entry: how many of those it counted have not come to the shard yet.
    to_come: AtomicU32,
    /// What else there is to know of the holders: LEASED, ALIASED, and how many holds a session counts on it.
    pins: AtomicU32,
    /// Lengths of the parts, 16 bits each, and whether there is a version; changed with the key.
    lengths: AtomicU64,
    key: [AtomicU64; INLINE_WORDS],
    /// Looked at and written with the key, for the model checker to see that nobody does one during the other.
    #[cfg(loom)]
    key_is_stable: crate::sync::Stable,
}

#[cfg(not(loom))]
// SAFETY: all fields are atomic integers; zero is the vacant entry, whose generation 0 nobody can take.
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
            holder: AtomicU32::new(0),
            more: AtomicU32::new(0),
            queue_head: AtomicU32::new(0),
            queue_tail: AtomicU32::new(0),
            parked_readers: AtomicU32::new(0),
            parked_writers: AtomicU32::new(0),
            forward: AtomicU32::new(0),
            to_come: AtomicU32::new(0),
            pins: AtomicU32::new(0),
            key: std::array::from_fn(|_| AtomicU64::new(0)),
            key_is_stable: crate::sync::Stable::default(),
        }
    }
    fn vacate(&self) {
        self.word.store(0, Ordering::Relaxed);
        self.hash.store(0, Ordering::Relaxed);
    }
}

// SAFETY: as above.
unsafe impl Pooled for Entry {
    fn link(&self) -> &AtomicU32 {
        &self.next
    }
}

/// Entries that a key of so many bytes takes.
pub(crate) const fn blocks_of(bytes: usize) -> usize {
    if bytes <= INLINE_BYTES { 1 } else { bytes.div_ceil(INLINE_BYTES) }
}

impl Entry {
    /// The lock's word. Acquire pairs with the Release of whoever changed it last: a free word seen here makes the
    /// last holder's work and the entry's present key visible.
    #[inline]
    pub(crate) fn word(&self) -> Word {
        Word::from_bits(self.word.load(Ordering::Acquire))
    }

    /// Changes the word from `seen` to `new`. AcqRel: a taker sees the last holder's work, and publishes what it wrote
    /// before (its attempt); a releaser publishes its own. Acquire on failure, for the next look.
    #[inline]
    pub(crate) fn swap(&self, seen: Word, new: Word) -> Result<(), Word> {
        let usual = ordering!(Ordering::AcqRel, "swap-without-release", Ordering::Acquire);
        self.word
            .compare_exchange(
                seen.bits(),
                new.bits(),
                ordering!(usual, "swap-relaxed", Ordering::Relaxed),
                ordering!(Ordering::Acquire, "swap-relaxed", Ordering::Relaxed),
            )
            .map(|_| ())
            .map_err(Word::from_bits)
    }

    /// One reader less; returns the word before. AcqRel as in `swap`.
    #[inline]
    pub(crate) fn leave_readers(&self) -> Word {
        Word::from_bits(
            self.word
                .fetch_sub(Word::ONE_READER, ordering!(Ordering::AcqRel, "reader-leaves-relaxed", Ordering::Relaxed)),
        )
    }

    /// Sets the word of an entry that nobody else can change: in no chain, or claimed. Release: publishes the key.
    pub(crate) fn publish(&self, word: Word) {
        self.word.store(word.bits(), Ordering::Release);
    }

    #[inline]
    pub(crate) fn hash(&self) -> u64 {
        self.hash.load(Ordering::Relaxed)
    }

    /// Whether a holder may have a lease: a hint, which stays until somebody looks and finds none.
    pub(crate) fn is_leased(&self) -> bool {
        self.pins.load(Ordering::Relaxed) & LEASED != 0
    }

    pub(crate) fn set_leased(&self, leased: bool) {
        let pins = self.pins.load(Ordering::Relaxed) & !LEASED;
        self.pins.store(pins | if leased { LEASED } else { 0 }, Ordering::Relaxed);
    }

    /// Whether some of its holders have a displaced entry on record.
    pub(crate) fn is_aliased(&self) -> bool {
        self.pins.load(Ordering::Relaxed) & ALIASED != 0
    }

    /// How many holds of one session stand behind its one exclusive holder; 0 where that is not counted.
    pub(crate) fn counted(&self) -> u32 {
        self.pins.load(Ordering::Relaxed) & COUNTED
    }

    pub(crate) fn set_counted(&self, counted: u32) {
        debug_assert!(counted <= COUNTED);
        self.pins.store(self.pins.load(Ordering::Relaxed) & !COUNTED | counted, Ordering::Relaxed);
    }

    /// Nothing is special about the holders any more.
    pub(crate) fn clear_pins(&self) {
        self.pins.store(0, Ordering::Relaxed);
    }

    /// Makes this entry stand in for a displaced one, which the caller has taken out of the table.
    pub(crate) fn stand_in_for(&self, index: u32, displaced: &Entry, to_come: u32) {
        displaced.forward.store(index, Ordering::Relaxed);
        displaced.to_come.store(to_come, Ordering::Relaxed);
        self.pins.store(displaced.pins.load(Ordering::Relaxed) & !COUNTED | ALIASED, Ordering::Relaxed);
        let lines = [
            (&self.queue_head, &displaced.queue_head),
            (&self.queue_tail, &displaced.queue_tail),
            (&self.parked_readers, &displaced.parked_readers),
            (&self.parked_writers, &displaced.parked_writers),
        ];
        for (ours, theirs) in lines {
            ours.store(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
            theirs.store(0, Ordering::Relaxed);
        }
    }

    /// The entry that stands in for this one, if it is displaced.
    pub(crate) fn stand_in(&self) -> Option<u32> {
        self.word().is_displaced().then(|| self.forward.load(Ordering::Relaxed))
    }

    /// One of those that a displaced entry counted has come. Returns whether it was the last.
    #[must_use]
    pub(crate) fn one_has_come(&self) -> bool {
        let left = self.to_come.load(Ordering::Relaxed) - 1;
        self.to_come.store(left, Ordering::Relaxed);
        left == 0
    }

    /// Whether the entry carries this key. The entry must not be able to change it: the caller holds it or owns the
    /// shard, and its take or its mutex makes the key visible.
    #[inline(always)]
    pub(crate) fn carries(&self, arena: &Arena<Entry>, key: KeyRef<'_>) -> bool {
        if self.lengths.load(Ordering::Relaxed) != lengths(&key) {
            return false;
        }
        if key.byte_len() > INLINE_BYTES {
            return self.carries_long(arena, key);
        }
        let (bucket, object, version) = (key.bucket(), key.object(), key.version().unwrap_or_default());
        #[cfg_attr(not(loom), expect(clippy::needless_borrow, reason = "under the model checker these are copies"))]
        let stored: &[u8; INLINE_BYTES] = &self.stable_bytes();
        same(stored, 0, bucket)
            && same(stored, bucket.len(), object)
            && (version.is_empty() || same(stored, bucket.len() + object.len(), version))
    }

    #[cold]
    #[inline(never)]
    fn carries_long(&self, arena: &Arena<Entry>, key: KeyRef<'_>) -> bool {
        let compared = if fault!("long-key-compared-in-part") { 1 } else { usize::MAX };
        self.blocks(arena).zip(pieces(&key)).take(compared).all(|(block, piece)| block == piece)
    }

    /// The bytes of this block. The key must not be able to change while they are looked at, see `carries`.
    #[cfg(not(loom))]
    #[inline]
    fn stable_bytes(&self) -> &[u8; INLINE_BYTES] {
        // SAFETY: as many bytes as the words have, any of which are valid. Nobody writes them meanwhile: a key is written
        // by the shard's owner to an entry that it has claimed, and by this function's contract the caller holds the
        // entry or is that owner.
        unsafe { &*self.key.as_ptr().cast::<[u8; INLINE_BYTES]>() }
    }

    #[cfg(loom)]
    fn stable_bytes(&self) -> [u8; INLINE_BYTES] {
        self.bytes()
    }

    fn bytes(&self) -> [u8; INLINE_BYTES] {
        #[cfg(loom)]
        self.key_is_stable.look();
        let mut bytes = [0; INLINE_BYTES];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(&self.key) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        bytes
    }

    /// The blocks of a long key, one after the other.
    fn blocks<'a>(&'a self, arena: &'a Arena<Entry>) -> impl Iterator<Item = [u8; INLINE_BYTES]> + 'a {
        let more = |block: &&'a Entry| {
            let more = block.more.load(Ordering::Relaxed);
            (more != NONE).then(|| arena.get(more))
        };
        std::iter::successors(Some(self), more).map(Entry::bytes)
    }

    /// Writes the key. The caller owns the shard and has claimed the entry. `false`, with nothing held on to, when the
    /// arena has no room for the rest of a long key.
    pub(crate) fn write_key(
        &self,
        arena: &Arena<Entry>,
        (stock, cache): (Stock, &Cache),
        hash: u64,
        key: &KeyRef<'_>,
    ) -> bool {
        if self.more.load(Ordering::Relaxed) != NONE {
            self.drop_long_key(arena, cache);
        }
        if key.byte_len() <= INLINE_BYTES {
            let (bucket, object) = (key.bucket(), key.object());
            self.write_bytes(0, bucket);
            self.write_bytes(bucket.len(), object);
            self.write_bytes(bucket.len() + object.len(), key.version().unwrap_or_default());
        } else if !self.write_long_key(arena, (stock, cache), key) {
            return false;
        }
        self.lengths.store(lengths(key), Ordering::Relaxed);
        self.hash.store(hash, Ordering::Relaxed);
        true
    }

    #[cold]
    fn write_long_key(&self, arena: &Arena<Entry>, (stock, cache): (Stock, &Cache), key: &KeyRef<'_>) -> bool {
        let mut place = self;
        for (position, piece) in pieces(key).enumerate() {
            if position > 0 {
                let more = arena.take_of(stock, cache);
                if more == NONE {
                    self.drop_long_key(arena, cache);
                    return false;
                }
                place.more.store(more, Ordering::Relaxed);
                place = arena.get(more);
                place.more.store(NONE, Ordering::Relaxed);
            }
            place.write_bytes(0, &piece);
        }
        true
    }

    /// Writes bytes of the key at a place in this block. The caller owns the shard and has claimed the entry.
    #[cfg(not(loom))]
    #[inline]
    fn write_bytes(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= INLINE_BYTES);
        // SAFETY: inside the words (just checked), which are memory that may change behind `&self`. Nobody looks at it
        // meanwhile: the entry is claimed, and only who holds an entry or owns its shard looks at its key.
        unsafe {
            let to = self.key.as_ptr().cast::<u8>().cast_mut().add(at);
            to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    #[cfg(loom)]
    fn write_bytes(&self, at: usize, bytes: &[u8]) {
        self.key_is_stable.change();
        let mut block = self.bytes();
        block[at..at + bytes.len()].copy_from_slice(bytes);
        for (word, bytes) in self.key.iter().zip(block.as_chunks::<8>().0) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
    }

    /// Gives the further blocks of a long key back.
    pub(crate) fn drop_long_key(&self, arena: &Arena<Entry>, cache: &Cache) {
        let mut more = self.more.load(Ordering::Relaxed);
        self.more.store(NONE, Ordering::Relaxed);
        while more != NONE {
            let block = arena.get(more);
            let next = block.more.load(Ordering::Relaxed);
            block.more.store(NONE, Ordering::Relaxed);
            arena.put_back(cache, more);
            more = next;
        }
    }

    /// A copy of the key. The key must not be able to change, see `carries`.
    pub(crate) fn key(&self, arena: &Arena<Entry>) -> ObjectKey {
        let mut bytes = Vec::new();
        self.key_in(arena, &mut bytes).to_owned()
    }

    /// The key, copied to `bytes`; whatever was there is overwritten. The key must not be able to change, see `carries`.
    pub(crate) fn key_in<'b>(&self, arena: &Arena<Entry>, bytes: &'b mut Vec<u8>) -> KeyRef<'b> {
        let lengths = self.lengths.load(Ordering::Relaxed);
        let length = |shift: u32| ((lengths >> shift) & 0xffff) as usize;
        bytes.clear();
        self.blocks(arena).for_each(|block| bytes.extend_from_slice(&block));
        bytes.truncate(length(0) + length(16) + length(32));
        let (bucket, rest) = bytes.split_at(length(0));
        let (object, version) = rest.split_at(length(16));
        let key = KeyRef::new(bucket, object);
        if lengths & VERSIONED != 0 { key.with_version(version) } else { key }
    }
}

// The parts of `pins`.
const LEASED: u32 = 1 << 31;
const ALIASED: u32 = 1 << 30;
const COUNTED: u32 = ALIASED - 1;

const VERSIONED: u64 = 1 << 48;

/// The longest part that `lengths` can tell.
pub(crate) const MAX_KEY_BYTES: usize = 0xffff;

/// The lengths of all parts in one word. Only asked of keys that passed the limit on their length, or to be compared
/// with one that did, so a part too long for its field must merely never look like one that fits.
#[inline(always)]
fn lengths(key: &KeyRef<'_>) -> u64 {
    let (bucket, object) = (key.bucket().len(), key.object().len());
    let version = key.version();
    let version_len = version.map_or(0, <[u8]>::len);
    if (bucket | object | version_len) > MAX_KEY_BYTES {
        return u64::MAX;
    }
    let versioned = if version.is_some() { VERSIONED } else { 0 };
    bucket as u64 | (object as u64) << 16 | (version_len as u64) << 32 | versioned
}

/// Whether the bytes at a place in a block are the part's. Short parts, as most are, without a call: as words from either
/// end, which overlap in the middle. The caller knows that the block is long enough.
#[inline(always)]
fn same(block: &[u8; INLINE_BYTES], at: usize, part: &[u8]) -> bool {
    let length = part.len();
    debug_assert!(at + length <= INLINE_BYTES);
    let differ = |offset: usize| differing::<u64>(block, at, part, offset);
    let byte_differs = |n: usize| block[at + n] ^ part[n];
    match length {
        0 => true,
        // The first, the middle and the last are all there are.
        1..4 => byte_differs(0) | byte_differs(length / 2) | byte_differs(length - 1) == 0,
        4..8 => differing::<u32>(block, at, part, 0) | differing::<u32>(block, at, part, length - 4) == 0,
        8..=16 => differ(0) | differ(length - 8) == 0,
        17..=32 => differ(0) | differ(8) | differ(length - 16) | differ(length - 8) == 0,
        _ => block[at..at + length] == *part,
    }
}

/// The bits in which a word of a part differs from the block's, where `same` looks.
#[inline(always)]
fn differing<Word: Copy + std::ops::BitXor<Output = Word>>(
    block: &[u8; INLINE_BYTES],
    at: usize,
    part: &[u8],
    offset: usize,
) -> Word {
    debug_assert!(offset + size_of::<Word>() <= part.len());
    // SAFETY: the word from `offset` is inside the part, by the arms of `same`, and the part's length from `at` is inside
    // the block, by what its caller knows and its assertion checks in tests.
    unsafe {
        let stored = block.as_ptr().add(at + offset).cast::<Word>().read_unaligned();
        stored ^ part.as_ptr().add(offset).cast::<Word>().read_unaligned()
    }
}

/// A key of any length as the blocks it is stored as; the last one filled up with zeros.
fn pieces<'k>(key: &KeyRef<'k>) -> impl Iterator<Item = [u8; INLINE_BYTES]> + use<'k> {
    let parts = [key.bucket(), key.object(), key.version().unwrap_or_default()];
    let mut bytes = parts.into_iter().flatten().copied();
    let mut left = key.byte_len();
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let mut piece = [0; INLINE_BYTES];
        for (place, byte) in piece.iter_mut().zip(&mut bytes) {
            *place = byte;
        }
        left = left.saturating_sub(INLINE_BYTES);
        Some(piece)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn keyed(arena: &Arena<Entry>, cache: &Cache, key: &KeyRef<'_>) -> u32 {
        let index = arena.take(cache);
        assert!(arena.get(index).write_key(arena, (Stock::Open, cache), 1, key));
        index
    }

    #[test]
    fn a_key_comes_back_as_it_went_in_whatever_its_lengths() {
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
                    assert!(entry.carries(&arena, key), "{bucket} {object} {version:?}");
                    assert_eq!(entry.key(&arena), key.to_owned());
                    for other in [
                        KeyRef::new(&text[..bucket], &text[1..=object]),
                        KeyRef::new(&text[..bucket], &text[..object]).with_version("x"),
                        KeyRef::new(&text[..object], &text[..bucket]).with_version(&text[..9]),
                    ] {
                        assert_eq!(entry.carries(&arena, other), other == key, "{other:?} {key:?}");
                    }
                    entry.drop_long_key(&arena, &cache);
                    arena.put(&cache, index);
                }
            }
        }
    }

    #[test]
    fn keys_one_byte_apart_are_told_apart() {
        let arena = Arena::<Entry>::reserve(4096, 0).unwrap();
        let cache = Cache::default();
        for length in 1..=130 {
            let text = vec![b'a'; length];
            let index = keyed(&arena, &cache, &KeyRef::new("b", &text));
            for position in 0..length {
                let mut other = text.clone();
                other[position] = 0;
                assert!(!arena.get(index).carries(&arena, KeyRef::new("b", &other)), "{length} {position}");
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
        let long = vec![1; 10_000];
        assert!(!arena.get(index).write_key(&arena, (Stock::Open, &cache), 1, &KeyRef::new("b", &long)));
        let mut rest = 0;
        while arena.take(&cache) != NONE {
            rest += 1;
        }
        assert_eq!(rest, 30);
    }
}
