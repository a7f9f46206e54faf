//! The keys that are locked: bucket and object strings, laid out one behind the other.
//!
//! Keyed peers take one string (`bucket/object`), ours takes the two parts. Both are slices of the same bytes, so
//! no peer pays for joining them. The layout lets the processor prefetch the strings; what reading them still costs
//! is measured by [`KeySet::read`] and subtracted where keys come in turn.

use std::hint::black_box;

/// One key in the forms the subjects ask for.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(any(feature = "keylatch", feature = "rustfs")),
    allow(dead_code, reason = "only these two take the parts")
)]
pub(crate) struct Key<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) object: &'a str,
    /// Bucket and object joined by a slash.
    pub(crate) joined: &'a str,
}

const BUCKET: usize = "bucket-00".len();
const BUCKETS: usize = 16;
const PREFIX: &str = "objects/";

/// Keys of one length, numbered from 0.
pub(crate) struct KeySet {
    text: String,
    count: usize,
    length: usize,
}

impl KeySet {
    /// Keys of a length common in engines: 31 bytes in bucket and object together.
    pub(crate) fn common(count: usize) -> Self {
        Self::with_length(count, 31)
    }

    /// Keys whose bucket and object are `bytes` long together.
    pub(crate) fn with_length(count: usize, bytes: usize) -> Self {
        let digits = bytes - BUCKET - PREFIX.len();
        let length = bytes + 1;
        let mut text = String::with_capacity(count * length);
        for number in 0..count {
            let bucket = number % BUCKETS;
            text.push_str(&format!("bucket-{bucket:02}/{PREFIX}{number:0digits$}"));
        }
        assert_eq!(text.len(), count * length, "every key has the same length");
        Self { text, count, length }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    #[inline(always)]
    pub(crate) fn get(&self, number: usize) -> Key<'_> {
        let start = number * self.length;
        let joined = &self.text[start..start + self.length];
        Key { bucket: &joined[..BUCKET], object: &joined[BUCKET + 1..], joined }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Key<'_>> {
        (0..self.count).map(|number| self.get(number))
    }

    /// Reads `count` keys from `from` on and nothing else; answers where it stopped.
    pub(crate) fn read(&self, from: usize, count: u64) -> usize {
        self.in_turn(from, count, |key| {
            let words = key.joined.as_bytes().chunks_exact(8);
            let folded = words
                .fold(0_u64, |sum, word| sum ^ word.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)));
            black_box(folded);
        })
    }

    /// Hands `count` keys in turn to `with`, from `from` on, and round to the first.
    #[inline(always)]
    pub(crate) fn in_turn<'a>(&'a self, from: usize, count: u64, mut with: impl FnMut(Key<'a>)) -> usize {
        let mut next = from;
        for _ in 0..count {
            with(self.get(next));
            next += 1;
            if next == self.count {
                next = 0;
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_have_the_length_asked_for() {
        let keys = KeySet::with_length(100, 48);
        let mut seen: Vec<_> = keys.iter().map(|key| key.joined).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100);
        assert!(keys.iter().all(|key| key.bucket.len() + key.object.len() == 48));
        assert_eq!(keys.get(17).bucket, "bucket-01");
    }

    #[test]
    fn keys_in_turn_begin_again_after_the_last() {
        let keys = KeySet::common(3);
        let mut seen = Vec::new();
        let next = keys.in_turn(2, 4, |key| seen.push(key.joined));
        assert_eq!(seen, [2, 0, 1, 2].map(|number| keys.get(number).joined));
        assert_eq!(next, 0);
    }
}
