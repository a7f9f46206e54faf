//! A key as the 64-bit words that entries keep of it, so that it can be compared by whole words, loaded atomically.
//!
//! Each part begins with a word of its own and takes at least two, so that a short key is compared without a branch for
//! each of its lengths. Words overlap where the part is no multiple of eight bytes:
//!
//! | bytes of the part | words | what they are |
//! |---|---|---|
//! | 0 | 2 | zero (a version that is empty or missing takes none) |
//! | 1 to 3 | 2 | the first, the middle and the last byte; zero |
//! | 4 to 7 | 2 | the first four and the last four bytes |
//! | 8 to 16 | 2 | the first eight and the last eight bytes |
//! | 17 to 32 | 4 | the first sixteen and the last sixteen bytes |
//! | more | one for eight bytes, rounded up | all in order; the last one is the last eight bytes |
//!
//! So the words and the lengths of the parts together are the key, and nothing has to be shifted or filled up.

use crate::key::{KeyRef, MAX_KEY_BYTES};

/// Set in the lengths of a key with a version.
pub(super) const VERSIONED: u64 = 1 << 48;

/// Bytes of a part that takes two words, and of one that takes four.
pub(super) const TWO_WORDS: usize = 16;
pub(super) const FOUR_WORDS: usize = 32;

/// Returns the words that a part takes; a version that is empty takes none.
#[inline(always)]
pub(super) const fn words_in(bytes: usize) -> usize {
    if bytes <= TWO_WORDS {
        2
    } else if bytes <= FOUR_WORDS {
        4
    } else {
        bytes.div_ceil(8)
    }
}

/// Returns the parts of a key that have words: not an empty or missing version.
#[inline(always)]
pub(super) fn parts_with_words<'k>(key: &KeyRef<'k>) -> impl Iterator<Item = &'k [u8]> {
    let [bucket, object, version] = parts(key);
    [bucket, object].into_iter().chain((!version.is_empty()).then_some(version))
}

/// Returns the parts of a key; no version is an empty one.
#[inline(always)]
pub(super) fn parts<'k>(key: &KeyRef<'k>) -> [&'k [u8]; 3] {
    [key.bucket(), key.object(), key.version().unwrap_or_default()]
}

/// Returns the lengths of all parts in a word, and whether there is a version.
///
/// Asked only of keys within the limit on their length, or to be compared with one that is: a part too long for its
/// field must merely never look like one that fits.
#[inline(always)]
pub(super) fn lengths(key: &KeyRef<'_>) -> u64 {
    let [bucket, object, version] = parts(key).map(<[u8]>::len);
    if (bucket | object | version) > MAX_KEY_BYTES {
        return u64::MAX;
    }
    let versioned = if key.version().is_some() { VERSIONED } else { 0 };
    bucket as u64 | (object as u64) << 16 | (version as u64) << 32 | versioned
}

/// Returns the lengths of the three parts.
pub(super) fn part_lengths(lengths: u64) -> [usize; 3] {
    [0, 16, 32].map(|shift| ((lengths >> shift) & 0xffff) as usize)
}

/// Returns both words of a part of at most sixteen bytes.
#[inline(always)]
pub(super) fn two_words(part: &[u8]) -> [u64; 2] {
    match part {
        [_, _, _, _, _, _, _, _, ..] => [wide(part, 0), wide(part, part.len() - 8)],
        [_, _, _, _, ..] => [half(part, 0), half(part, part.len() - 4)],
        [first, .., last] => [u64::from(*first) | u64::from(part[part.len() / 2]) << 8 | u64::from(*last) << 16, 0],
        // The middle and the last one too.
        [only] => [u64::from(*only) * 0x01_01_01, 0],
        [] => [0, 0],
    }
}

/// Returns the four words of a part of 17 to 32 bytes.
#[inline(always)]
pub(super) fn four_words(part: &[u8]) -> [u64; 4] {
    let last = part.len() - 8;
    [wide(part, 0), wide(part, 8), wide(part, last - 8), wide(part, last)]
}

/// Returns a word of a part.
#[inline]
pub(super) fn word(part: &[u8], position: usize) -> u64 {
    match words_in(part.len()) {
        2 => two_words(part)[position],
        4 => four_words(part)[position],
        _ => wide(part, (8 * position).min(part.len() - 8)),
    }
}

/// Returns eight bytes of a part.
#[inline(always)]
pub(super) fn wide(part: &[u8], at: usize) -> u64 {
    part[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[inline(always)]
fn half(part: &[u8], at: usize) -> u64 {
    part[at..].first_chunk().map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
}

/// A key with its hash and, if it is short, its words.
#[derive(Debug)]
pub(crate) struct PackedKey {
    pub(crate) hash: u64,
    pub(super) lengths: u64,
    /// How many words there are: 4, 6, 8, or 0 if the key has more.
    pub(super) count: usize,
    pub(super) words: [u64; MOST_PACKED],
}

/// Words of a key that is packed, at most.
pub(super) const MOST_PACKED: usize = 8;

impl PackedKey {
    /// Packs a key that has this hash.
    pub(crate) fn new(key: &KeyRef<'_>, hash: u64) -> Self {
        let mut words = [0; MOST_PACKED];
        let mut count = 0;
        for part in parts_with_words(key) {
            for position in 0..words_in(part.len()) {
                if count == MOST_PACKED {
                    return Self { hash, lengths: lengths(key), count: 0, words };
                }
                words[count] = word(part, position);
                count += 1;
            }
        }
        // A part has an even number of words, or the key is not packed.
        let count = if count >= 4 && count.is_multiple_of(2) { count } else { 0 };
        Self { hash, lengths: lengths(key), count, words }
    }
}

/// Appends the bytes of a part, given its words one after the other.
pub(super) fn append_part(bytes: &mut Vec<u8>, length: usize, mut next: impl FnMut() -> u64) {
    let begin = bytes.len();
    bytes.resize(begin + length, 0);
    let part = &mut bytes[begin..];
    for position in 0..words_in(length) {
        let word = next().to_le_bytes();
        let (at, width) = match (length, position) {
            (8.., _) => {
                let last = length - 8;
                let at = match (length, position) {
                    (..=TWO_WORDS, 1) => last,
                    (TWO_WORDS..=FOUR_WORDS, 2..) => last - 8 * (3 - position),
                    _ => 8 * position,
                };
                (at.min(last), 8)
            }
            (4.., 0) => (0, 4),
            (4.., _) => (length - 4, 4),
            (_, 0) => {
                let at = [0, length / 2, length.saturating_sub(1)];
                at.into_iter().zip(word).take(length).for_each(|(at, byte)| part[at] = byte);
                continue;
            }
            _ => continue,
        };
        part[at..at + width].copy_from_slice(&word[..width]);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn part_comes_back_from_its_words() {
        let text: Vec<u8> = (0..200u32).map(|i| (i * 7 + 3) as u8).collect();
        for length in 0..text.len() {
            let part = &text[..length];
            let words: Vec<u64> = (0..words_in(length)).map(|position| word(part, position)).collect();
            let mut next = words.iter();
            let mut bytes = b"before".to_vec();
            append_part(&mut bytes, length, || *next.next().unwrap());
            assert_eq!(bytes, [b"before", part].concat());
        }
    }

    #[test]
    fn packed_key_is_found_by_its_words_alone() {
        use crate::memory::Cache;
        use crate::table::Table;
        let text = [7_u8; 52];
        let key = |bucket, object: usize, last: u8| {
            let mut object = text[..object].to_vec();
            object.last_mut().into_iter().for_each(|byte| *byte = last);
            crate::key::ObjectKey::new(&text[..bucket], object)
        };
        let words = |length: usize| match length {
            ..=16 => 2,
            17..=32 => 4,
            41..=48 => 6,
            _ => 9,
        };
        for bucket in [0, 5, 16, 17, 32, 33, 41, 48, 49] {
            for object in 1..50 {
                let (table, cache) = (Table::reserve(1, 10).unwrap(), Cache::default());
                let own = key(bucket, object, 8);
                let mut shard = table.lock(0);
                let (_, entry) = shard.insert(&cache, 1, &own.as_ref()).unwrap();
                let packed = |key: &crate::key::ObjectKey| PackedKey::new(&key.as_ref(), 1);
                let is_packed = words(bucket) + words(object) <= 8;
                assert_eq!(entry.carries_packed(&packed(&own)), is_packed, "{bucket} and {object} bytes");
                for other in [key(bucket, object, 9), key(bucket, object + 1, 8), key(bucket + 1, object, 8)] {
                    assert!(!entry.carries_packed(&packed(&other)), "{bucket} and {object} bytes");
                }
            }
        }
    }
}
