//! The hash of a key: one pass over its words, keyed by secrets of the manager.
//!
//! Each step multiplies two words to 128 bits and folds the halves together. The lengths of the parts are in the first
//! step, so that `a` + `bc` and `ab` + `c` differ. The last step is kept though it costs a multiplication: without it the
//! low bits, which choose the shard, are skewed for keys that differ in few bits.

use super::key_words::{lengths, parts, word, words_in};
use crate::key::KeyRef;

/// See the module. Drawn at random for each manager, so that no stranger can aim keys at one shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secrets([u64; 4]);

impl Secrets {
    /// The secrets that these numbers are.
    pub(crate) fn new(random: [u64; 4]) -> Self {
        // Odd, so that none of them is 0.
        Self(random.map(|secret| secret | 1))
    }

    /// Returns the hash of a key.
    #[inline(always)]
    pub(crate) fn hash(&self, key: &KeyRef<'_>) -> u64 {
        let [begin, left, long, end] = self.0;
        let mut state = begin ^ lengths(key);
        for part in parts(key) {
            state = match words_in(part.len()) {
                0 => state,
                1 => fold(word(part, 0) ^ left, state),
                2 => fold(word(part, 0) ^ left, word(part, 1) ^ state),
                words => Self::long(part, words, (left, long), state),
            };
        }
        fold(state ^ end, begin)
    }

    #[inline(never)]
    fn long(part: &[u8], words: usize, (left, long): (u64, u64), mut state: u64) -> u64 {
        let mut other = state ^ long;
        let mut at = 0;
        // Two chains of pairs, so that their multiplications overlap; the last words may be taken twice.
        while at + 4 <= words {
            state = fold(word(part, at) ^ left, word(part, at + 1) ^ state);
            other = fold(word(part, at + 2) ^ long, word(part, at + 3) ^ other);
            at += 4;
        }
        if words - at >= 2 {
            state = fold(word(part, at) ^ left, word(part, at + 1) ^ state);
            at += 2;
        }
        if words > at {
            other = fold(word(part, at) ^ long, other);
        }
        fold(state ^ left, other ^ long)
    }
}

#[inline(always)]
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    // Both halves.
    (product >> 64) as u64 ^ product as u64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SHARDS: usize = 1024;

    fn secrets() -> Secrets {
        let random = ahash::RandomState::new();
        Secrets::new([0, 1, 2, 3].map(|number: u64| random.hash_one(number)))
    }

    /// How far the counts of keys a shard are from even, in standard deviations of that sum of squares.
    fn skew(hashes: impl Iterator<Item = u64>, bucket: impl Fn(u64) -> usize) -> f64 {
        let mut counts = [0_u32; SHARDS];
        let mut total = 0.0;
        for hash in hashes {
            counts[bucket(hash) % SHARDS] += 1;
            total += 1.0;
        }
        let expected = total / SHARDS as f64;
        let squares: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        let freedom = (SHARDS - 1) as f64;
        (squares - freedom) / (2.0 * freedom).sqrt()
    }

    /// Names as programs make them, and as somebody would who wants them in one shard.
    fn families() -> Vec<(&'static str, Vec<Vec<u8>>)> {
        let number = 0..100_000_u64;
        vec![
            ("decimal", number.clone().map(|n| n.to_string().into_bytes()).collect()),
            ("padded", number.clone().map(|n| format!("object-{n:012}").into_bytes()).collect()),
            ("little-endian", number.clone().map(|n| n.to_le_bytes().to_vec()).collect()),
            ("high bits", number.clone().map(|n| (n << 44).to_le_bytes().to_vec()).collect()),
            ("multiples of the shards", number.clone().map(|n| (n * 1024).to_le_bytes().to_vec()).collect()),
            ("long, at the end", number.clone().map(|n| format!("{}{n}", "x".repeat(200)).into_bytes()).collect()),
            ("long, in the middle", number.map(|n| format!("{0}{n:08}{0}", "x".repeat(61)).into_bytes()).collect()),
            (
                "one bit",
                (0..100_000_usize)
                    .map(|n| {
                        let mut text = vec![0_u8; 400];
                        text[(n / 8) % 400] ^= 1 << (n % 8);
                        text[399 - (n / 3200) % 200] ^= 0xaa;
                        text
                    })
                    .collect(),
            ),
        ]
    }

    #[test]
    fn keys_spread_evenly_over_shards_and_chains() {
        let secrets = secrets();
        for (what, names) in families() {
            let hashes: HashSet<u64> = names.iter().map(|name| secrets.hash(&KeyRef::new("bucket", name))).collect();
            let distinct: HashSet<&Vec<u8>> = names.iter().collect();
            assert_eq!(hashes.len(), distinct.len(), "{what}: two keys of one hash");
            for (place, shift) in [("shards", 0), ("chains", 32), ("high bits", 54)] {
                let skew = skew(hashes.iter().copied(), |hash| (hash >> shift) as usize);
                assert!(skew < 7.0, "{what}: {place} are {skew:.1} deviations from even");
            }
        }
    }

    #[test]
    fn parts_are_hashed_apart() {
        let secrets = secrets();
        let keys = [
            KeyRef::new("ab", "c"),
            KeyRef::new("a", "bc"),
            KeyRef::new("abc", ""),
            KeyRef::new("", "abc"),
            KeyRef::new("a", "b").with_version("c"),
            KeyRef::new("a", "bc").with_version(""),
        ];
        let hashes: HashSet<u64> = keys.iter().map(|key| secrets.hash(key)).collect();
        assert_eq!(hashes.len(), keys.len());
    }
}
