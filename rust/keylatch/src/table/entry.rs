//! One key's place in the table: 128 bytes that are always an entry, whoever still looks at them.
//!
//! The first cache line is the lock, the second the key. A key's parts are kept as words of eight bytes, each part
//! filled up to a whole word, so that they can be compared by relaxed loads while another thread may be rewriting them:
//! what is read then may be a mixture of two keys, and the compare-and-swap on the lock's word says so.

use super::state::Word;
use crate::key::{KeyRef, ObjectKey};
use crate::memory::{Arena, Cache, NONE, Pooled, Vacant};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Words of key that an entry holds itself; longer keys go on in further entries of the same arena.
pub(crate) const INLINE_WORDS: usize = 8;

const _: () = assert!(cfg!(loom) || size_of::<Entry>() == 128);
const _: () = assert!(cfg!(loom) || align_of::<Entry>() == 128);

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
    /// Lengths of the parts, 16 bits each, and whether there is a version; changed with the key.
    lengths: AtomicU64,
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
    spare: AtomicU32,
    key: [AtomicU64; INLINE_WORDS],
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
            spare: AtomicU32::new(0),
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
    fn link(&self) -> &AtomicU32 {
        &self.next
    }
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
        self.word
            .compare_exchange(seen.bits(), new.bits(), Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Word::from_bits)
    }

    /// Sets the word of an entry that nobody else can change: in no chain, or claimed. Release: publishes the key.
    pub(crate) fn publish(&self, word: Word) {
        self.word.store(word.bits(), Ordering::Release);
    }

    #[inline]
    pub(crate) fn hash(&self) -> u64 {
        self.hash.load(Ordering::Relaxed)
    }

    /// Whether the entry carries this key. Exact while the entry cannot change its key: it is held, or the shard is.
    #[inline]
    pub(crate) fn carries(&self, arena: &Arena<Entry>, key: &KeyRef<'_>) -> bool {
        if self.lengths.load(Ordering::Relaxed) != lengths(key) {
            return false;
        }
        if words_in_key(key) > INLINE_WORDS {
            return self.carries_long(arena, key);
        }
        let Some(rest) = starts_with(&self.key, key.bucket()) else { return false };
        let Some(rest) = starts_with(rest, key.object()) else { return false };
        starts_with(rest, key.version().unwrap_or_default()).is_some()
    }

    #[cold]
    #[inline(never)]
    fn carries_long(&self, arena: &Arena<Entry>, key: &KeyRef<'_>) -> bool {
        let mut place = self;
        for (position, word) in words(key).enumerate() {
            let slot = position % INLINE_WORDS;
            if position > 0 && slot == 0 {
                let more = place.more.load(Ordering::Relaxed);
                if more == NONE {
                    return false;
                }
                place = arena.get(more);
            }
            if place.key[slot].load(Ordering::Relaxed) != word {
                return false;
            }
        }
        true
    }

    /// Writes the key. The caller owns the shard and has claimed the entry. `false`, with nothing held on to, when the
    /// arena has no room for the rest of a long key.
    pub(crate) fn write_key(&self, arena: &Arena<Entry>, cache: &Cache, hash: u64, key: &KeyRef<'_>) -> bool {
        self.drop_long_key(arena, cache);
        let mut place = self;
        for (position, word) in words(key).enumerate() {
            let slot = position % INLINE_WORDS;
            if position > 0 && slot == 0 {
                let more = arena.take(cache);
                if more == NONE {
                    self.drop_long_key(arena, cache);
                    return false;
                }
                place.more.store(more, Ordering::Relaxed);
                place = arena.get(more);
                place.more.store(NONE, Ordering::Relaxed);
            }
            place.key[slot].store(word, Ordering::Relaxed);
        }
        self.lengths.store(lengths(key), Ordering::Relaxed);
        self.hash.store(hash, Ordering::Relaxed);
        true
    }

    /// Gives the further blocks of a long key back.
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

    /// A copy of the key. Exact while the entry cannot change it.
    pub(crate) fn key(&self, arena: &Arena<Entry>) -> ObjectKey {
        let lengths = self.lengths.load(Ordering::Relaxed);
        let length = |shift: u32| ((lengths >> shift) & 0xffff) as usize;
        let mut place = self;
        let mut slot = 0;
        let mut part = |length: usize| {
            let mut bytes = Vec::with_capacity(length + 7);
            while bytes.len() < length {
                if slot == INLINE_WORDS {
                    slot = 0;
                    place = arena.get(place.more.load(Ordering::Relaxed));
                }
                bytes.extend_from_slice(&place.key[slot].load(Ordering::Relaxed).to_le_bytes());
                slot += 1;
            }
            bytes.truncate(length);
            bytes
        };
        let bucket = part(length(0));
        let object = part(length(16));
        let version = part(length(32));
        let key = KeyRef::new(&bucket, &object);
        if lengths & VERSIONED != 0 { key.with_version(&version).to_owned() } else { key.to_owned() }
    }
}

const VERSIONED: u64 = 1 << 48;

/// The longest part that `lengths` can tell.
pub(crate) const MAX_KEY_BYTES: usize = 0xffff;

/// The lengths of all parts in one word. Only asked of keys that passed the limit on their length, or to be compared
/// with one that did, so a part too long for its field must merely never look like one that fits.
#[inline]
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

#[inline]
fn words_in_key(key: &KeyRef<'_>) -> usize {
    let words = |part: &[u8]| part.len().div_ceil(8);
    words(key.bucket()) + words(key.object()) + words(key.version().unwrap_or_default())
}

/// The stored words after `part`, if they start with it.
#[inline]
fn starts_with<'w>(stored: &'w [AtomicU64], part: &[u8]) -> Option<&'w [AtomicU64]> {
    let (whole, tail) = part.as_chunks::<8>();
    let stored = if whole.is_empty() {
        stored
    } else {
        let (here, rest) = stored.split_at_checked(whole.len())?;
        for (stored, wanted) in here.iter().zip(whole) {
            if stored.load(Ordering::Relaxed) != u64::from_le_bytes(*wanted) {
                return None;
            }
        }
        rest
    };
    if tail.is_empty() {
        return Some(stored);
    }
    let (last, rest) = stored.split_first()?;
    (last.load(Ordering::Relaxed) == tail_word(part)).then_some(rest)
}

/// The last, incomplete word of a part that has one: its bytes, then zeros.
#[inline]
fn tail_word(part: &[u8]) -> u64 {
    let tail = part.len() % 8;
    if let Some(last) = part.last_chunk::<8>() {
        return u64::from_le_bytes(*last) >> (8 * (8 - tail));
    }
    // Shorter than a word: two loads that may overlap, so that no byte is fetched singly.
    if let (Some(first), Some(last)) = (part.first_chunk::<4>(), part.last_chunk::<4>()) {
        let shift = 8 * (tail - 4);
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << shift;
    }
    match part {
        [a] => u64::from(*a),
        [a, b] => u64::from(*a) | u64::from(*b) << 8,
        [a, b, c] => u64::from(*a) | u64::from(*b) << 8 | u64::from(*c) << 16,
        _ => 0,
    }
}

/// The key as the words it is stored as.
fn words<'k>(key: &KeyRef<'k>) -> impl Iterator<Item = u64> + use<'k> {
    let parts = [key.bucket(), key.object(), key.version().unwrap_or_default()];
    parts.into_iter().flat_map(|part| {
        let (whole, tail) = part.as_chunks::<8>();
        let last = (!tail.is_empty()).then(|| tail_word(part));
        whole.iter().map(|word| u64::from_le_bytes(*word)).chain(last)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn keyed(arena: &Arena<Entry>, cache: &Cache, key: &KeyRef<'_>) -> u32 {
        let index = arena.take(cache);
        assert!(arena.get(index).write_key(arena, cache, 1, key));
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
    fn keys_one_byte_apart_are_told_apart() {
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
        let long = vec![1; 10_000];
        assert!(!arena.get(index).write_key(&arena, &cache, 1, &KeyRef::new("b", &long)));
        let mut rest = 0;
        while arena.take(&cache) != NONE {
            rest += 1;
        }
        assert_eq!(rest, 30);
    }
}
