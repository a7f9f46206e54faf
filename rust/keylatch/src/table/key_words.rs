//! A key as the 64-bit words that entries keep of it, so that it can be compared by whole words, loaded atomically.
//!
//! Each part begins with a word of its own. The last word of a part of eight bytes or more is its last eight bytes, which
//! overlap those before; a shorter part is one word that is different for each content of that length. So the words and
//! the lengths of the parts together are the key, and nothing has to be shifted or filled up.

use crate::key::KeyRef;

/// Set in the lengths of a key with a version.
pub(super) const VERSIONED: u64 = 1 << 48;

/// The longest part that `lengths` can tell.
pub(crate) const MAX_KEY_BYTES: usize = 0xffff;

/// Returns the words that a part takes.
#[inline(always)]
pub(super) const fn words_in(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// Returns the parts of a key; no version is an empty one.
#[inline(always)]
pub(super) fn parts<'k>(key: &KeyRef<'k>) -> [&'k [u8]; 3] {
    [key.bucket(), key.object(), key.version().unwrap_or_default()]
}

/// Returns the lengths of all parts in one word: 16 bits each, and whether there is a version.
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

/// Returns a word of a part that has at least one byte.
#[inline(always)]
pub(super) fn word(part: &[u8], position: usize) -> u64 {
    match part.len() {
        8.. => wide(part, (8 * position).min(part.len() - 8)),
        4.. => half(part, 0) | half(part, part.len() - 4) << 32,
        // The first, the middle and the last are all there are.
        length => {
            let byte = |at: usize| u64::from(part[at]);
            byte(0) | byte(length / 2) << 8 | byte(length - 1) << 16
        }
    }
}

#[inline(always)]
fn wide(part: &[u8], at: usize) -> u64 {
    part[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[inline(always)]
fn half(part: &[u8], at: usize) -> u64 {
    part[at..].first_chunk().map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
}

/// Appends the bytes of a part, given its words one after the other.
pub(super) fn append_part(bytes: &mut Vec<u8>, length: usize, mut next: impl FnMut() -> u64) {
    let end = bytes.len() + length;
    for position in 0..words_in(length) {
        let word = next().to_le_bytes();
        match length {
            8.. => {
                bytes.truncate((end - length) + (8 * position).min(length - 8));
                bytes.extend_from_slice(&word);
            }
            4.. => {
                bytes.extend_from_slice(&word[..4]);
                bytes.extend_from_slice(&word[8 - (length - 4)..]);
            }
            3 => bytes.extend_from_slice(&word[..3]),
            2 => bytes.extend_from_slice(&[word[0], word[2]]),
            _ => bytes.push(word[0]),
        }
    }
    debug_assert_eq!(bytes.len(), end);
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
}
