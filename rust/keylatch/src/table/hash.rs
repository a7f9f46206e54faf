//! The hash of a key: one pass over its words, keyed by secrets of the manager.
//!
//! Each step multiplies two words to 128 bits and folds the halves together. Every step of a short key begins with
//! secrets of its own, so that the multiplications of one key do not wait for each other. The last step multiplies the
//! lengths of the parts in: keys of other lengths whose words agree differ, and no stranger can make up for a length by
//! another word. It also spreads the low bits, which choose the shard.

use super::key_words::{FOUR_WORDS, TWO_WORDS, four_words, lengths, parts, two_words, wide};
use crate::key::KeyRef;

/// Secrets of one part.
const A_PART: usize = 4;

/// See the module. Random for each manager, against keys that aim at a shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secrets {
    parts: [[u64; A_PART]; 3],
    lengths: u64,
    last: u64,
}

impl Secrets {
    /// Draws the secrets from a source of random numbers.
    pub(crate) fn draw(mut random: impl FnMut() -> u64) -> Self {
        // Odd, so that none of them is 0.
        let mut draw = || random() | 1;
        Self { parts: [(); 3].map(|()| [(); A_PART].map(|()| draw())), lengths: draw(), last: draw() }
    }

    /// Returns the hash of a key.
    #[inline(always)]
    pub(crate) fn hash(&self, key: &KeyRef<'_>) -> u64 {
        let [bucket, object, version] = parts(key);
        let mut sum = hash_part(bucket, &self.parts[0]) ^ hash_part(object, &self.parts[1]);
        if !version.is_empty() {
            sum ^= hash_part(version, &self.parts[2]);
        }
        fold(sum ^ self.last, lengths(key) ^ self.lengths)
    }
}

#[inline(always)]
fn hash_part(part: &[u8], secrets: &[u64; A_PART]) -> u64 {
    if part.len() <= TWO_WORDS {
        let [first, last] = two_words(part);
        return fold(first ^ secrets[0], last ^ secrets[1]);
    }
    if part.len() <= FOUR_WORDS {
        let words = four_words(part);
        return fold(words[0] ^ secrets[0], words[1] ^ secrets[1]) ^ fold(words[2] ^ secrets[2], words[3] ^ secrets[3]);
    }
    hash_long(part, secrets)
}

/// Hashes a part of more than 32 bytes in two chains that overlap.
///
/// The last bytes may be taken twice.
#[inline(never)]
fn hash_long(part: &[u8], secrets: &[u64; A_PART]) -> u64 {
    let [mut one, mut other, left, right] = *secrets;
    let mut take = |at: usize| {
        one = fold(wide(part, at) ^ left, wide(part, at + 8) ^ one);
        other = fold(wide(part, at + 16) ^ right, wide(part, at + 24) ^ other);
    };
    let whole = (part.len() - 1) / FOUR_WORDS;
    (0..whole).for_each(|block| take(block * FOUR_WORDS));
    take(part.len() - FOUR_WORDS);
    fold(one ^ left, other ^ right)
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
        let (random, mut number) = (ahash::RandomState::new(), 0_u64);
        Secrets::draw(|| {
            number += 1;
            random.hash_one(number)
        })
    }

    /// Returns how uneven the shards are, in standard deviations of sums of squares.
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

    /// Returns names as programs make them, and names that aim at one shard.
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
