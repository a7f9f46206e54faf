//! Where a key stands in the table, and how it gets there.
//!
//! A key stands in one of two buckets of eight entries, or nowhere. Its fingerprint, 128 bits made with the table's
//! secret, is its identity; two keys with one fingerprint would share a lock, which is safe and does not happen.
//!
//! Looking up takes no lock: it may find an entry that gets another key at the same moment. So every holder compares the
//! fingerprint again once it holds; from then on the key cannot change, because changing it takes an entry without
//! holders. Insertion holds the gate of the key's first bucket, searches again, and takes an unused entry by naming
//! itself as its writer.

use crate::layout::{Entry, TEXT_WORDS, WAYS};
use crate::protocol::{load, swap};
use crate::region::{Bitmap, Region};
use crate::word::{MemberId, Word};
use keylatch::{KeyRef, ObjectKey};
use std::sync::atomic::Ordering;

/// The identity of a key in one table; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Fingerprint(pub(crate) [u64; 2]);

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl Fingerprint {
    #[inline]
    pub(crate) fn of(secret: &[u64; 4], key: KeyRef<'_>) -> Self {
        let mut state = [secret[0], secret[1]];
        let parts = [key.bucket(), key.object(), key.version().unwrap_or_default()];
        for part in parts {
            let mut rest = part;
            while rest.len() > 16 {
                absorb(&mut state, secret, read(&rest[..8]), read(&rest[8..16]));
                rest = &rest[16..];
            }
            // The length ends the part, so that no two lists of parts give the same blocks.
            let (low, high) = if rest.len() > 8 { rest.split_at(8) } else { (rest, &rest[..0]) };
            absorb(&mut state, secret, read(low), read(high));
            absorb(&mut state, secret, part.len() as u64, u64::from(key.version().is_some()));
        }
        let print =
            [fold(state[0] ^ secret[2], state[1] ^ secret[3]), fold(state[1] ^ secret[0], state[0] ^ secret[2])];
        Self([print[0].max(1), print[1]])
    }

    fn buckets(self, count: u32) -> [u32; 2] {
        let pick = |half: u64| (((half >> 32) * u64::from(count)) >> 32) as u32;
        let [first, second] = self.0.map(pick);
        if first == second { [first, (first + 1) % count] } else { [first, second] }
    }

    fn tag(self) -> u32 {
        self.0[0] as u32 | 1
    }

    /// The bucket whose gate insertion of the key holds.
    pub(crate) fn first_bucket(self, region: &Region) -> u32 {
        self.buckets(region.layout().sizes.buckets)[0]
    }

    /// That gate, as a slot.
    pub(crate) fn gate(self, region: &Region) -> u32 {
        region.gate_slot(self.first_bucket(region))
    }
}

#[inline(always)]
fn absorb(state: &mut [u64; 2], secret: &[u64; 4], low: u64, high: u64) {
    state[0] = fold(low ^ secret[2], high ^ state[0]);
    state[1] = fold(high ^ secret[3], low ^ state[1]).rotate_left(23);
}

/// Up to eight bytes, little end first.
#[inline(always)]
fn read(bytes: &[u8]) -> u64 {
    if let Ok(whole) = <[u8; 8]>::try_from(bytes) {
        return u64::from_le_bytes(whole);
    }
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Whether the entry has the key, as far as a thread can say that does not hold it.
#[inline(always)]
pub(crate) fn has_key(entry: &Entry, print: Fingerprint) -> bool {
    // Pairs with: the release stores of `write_key`; a holder's look needs no more than its swap.
    entry.print[0].load(Ordering::Acquire) == print.0[0] && entry.print[1].load(Ordering::Acquire) == print.0[1]
}

/// Looks the key up. Exact for a caller that holds the key's gate.
pub(crate) fn find(region: &Region, print: Fingerprint) -> Option<u32> {
    let tag = print.tag();
    for bucket in print.buckets(region.layout().sizes.buckets) {
        let gate = region.gate(bucket);
        for way in 0..WAYS {
            // Pairs with: the release stores of `write_key` and `blank`.
            if gate.tags[way as usize].load(Ordering::Acquire) == tag {
                let index = bucket * WAYS + way;
                if has_key(region.entry(index), print) {
                    return Some(index);
                }
            }
        }
    }
    None
}

/// The entries that the key may have.
pub(crate) fn slots(region: &Region, print: Fingerprint) -> Vec<u32> {
    let buckets = print.buckets(region.layout().sizes.buckets);
    buckets.into_iter().flat_map(|bucket| bucket * WAYS..(bucket + 1) * WAYS).collect()
}

/// How much a victim is worth keeping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    Empty,
    Idle,
    /// Its next holder has to hear that a writer died.
    Reports,
}

fn worth(region: &Region, index: u32) -> Option<Worth> {
    let word = load(region, index);
    if !word.is_unnamed() || word.has_queue() || word.has_overflow() && !region.is_empty(index, Bitmap::Readers) {
        return None;
    }
    if word.died() {
        return Some(Worth::Reports);
    }
    let empty = region.entry(index).print[0].load(Ordering::Relaxed) == 0;
    Some(if empty { Worth::Empty } else { Worth::Idle })
}

/// An entry of the key's buckets without holders and waiters, emptier bucket first.
///
/// `turn` varies the choice.
pub(crate) fn victim(region: &Region, print: Fingerprint, turn: u32) -> Option<u32> {
    let buckets = print.buckets(region.layout().sizes.buckets);
    let used =
        buckets.map(|bucket| (0..WAYS).filter(|way| worth(region, bucket * WAYS + way) != Some(Worth::Empty)).count());
    let order = if used[0] <= used[1] { buckets } else { [buckets[1], buckets[0]] };
    let candidates = order.into_iter().flat_map(|bucket| (0..WAYS).map(move |way| bucket * WAYS + (way + turn) % WAYS));
    candidates
        .filter_map(|index| Some((worth(region, index)?, index)))
        .min_by_key(|(worth, _)| *worth)
        .map(|(_, index)| index)
}

/// Names the member as the writer of an entry without holders and waiters.
///
/// `Some` is the word before.
///
/// Caller holds: a record of the entry with [`crate::log::Kind::Rekey`].
pub(crate) fn claim(region: &Region, index: u32, me: MemberId) -> Option<Word> {
    let seen = load(region, index);
    if !seen.is_unnamed() || seen.has_queue() {
        return None;
    }
    let mine = seen.with_writer(me).without_overflow();
    // Overflow readers have their bit before they look at the word, so a bit that is not here by now backs out.
    let named = seen.with_writer(me);
    if !swap(region, index, seen, named) {
        return None;
    }
    if seen.has_overflow() {
        if !region.is_empty(index, Bitmap::Readers) {
            crate::protocol::leave::leave_exclusive(region, index, me);
            return None;
        }
        // A failure means that a waiter registered; the holder of the new key drains again.
        let _ = swap(region, index, named, mine);
    }
    Some(seen)
}

/// Takes an evicted key out, after a death in the word of the entry is noted.
///
/// Caller holds: the entry as its named writer, with a record that says so.
pub(crate) fn take_key_out(region: &Region, index: u32) {
    let entry = region.entry(index);
    // A process may die after each store, here and in `write_key`: the old key is whole, or there is none, or the new one
    // is whole and its fence right. The floor is raised before the old key can be missed: its next insertion begins above
    // its fences.
    region.header().fence_floor.fetch_max(entry.fence.load(Ordering::Relaxed), Ordering::Relaxed);
    blank(region, index);
}

/// Gives the entry a key.
///
/// Caller holds: the entry as its named writer, with a record that says so, and the key's gate.
pub(crate) fn write_key(region: &Region, index: u32, print: Fingerprint, key: KeyRef<'_>) {
    let entry = region.entry(index);
    entry.fence.store(region.header().fence_floor.load(Ordering::Relaxed), Ordering::Relaxed);
    write_text(entry, key);
    // Pairs with: the acquire loads of a look-up. The part that completes the key comes last: what has a key has its tag, or
    // the key could stand in a second entry after a death in between.
    region.gate(index / WAYS).tags[(index % WAYS) as usize].store(print.tag(), Ordering::Release);
    entry.print[1].store(print.0[1], Ordering::Release);
    entry.print[0].store(print.0[0], Ordering::Release);
}

/// The key of an entry whose key cannot change meanwhile.
pub(crate) fn read_print(entry: &Entry) -> Fingerprint {
    Fingerprint(entry.print.each_ref().map(|half| half.load(Ordering::Relaxed)))
}

/// Takes the key out of an entry.
///
/// Caller holds: the entry as its named writer, with a record of kind Rekey.
fn blank(region: &Region, index: u32) {
    let entry = region.entry(index);
    // Pairs with: the acquire loads of a look-up, which sees the floor that was raised before. The key goes before its tag,
    // see `write_key`.
    entry.print[0].store(0, Ordering::Release);
    region.gate(index / WAYS).tags[(index % WAYS) as usize].store(0, Ordering::Release);
    entry.print[1].store(0, Ordering::Release);
}

fn write_text(entry: &Entry, key: KeyRef<'_>) {
    let mut bytes = [0_u8; TEXT_WORDS * 8];
    let mut at = 0;
    for part in [key.bucket(), key.object(), key.version().unwrap_or_default()] {
        let kept = part.len().min(bytes.len() - at);
        bytes[at..at + kept].copy_from_slice(&part[..kept]);
        at += kept;
    }
    for (word, bytes) in entry.text.iter().zip(bytes.chunks_exact(8)) {
        word.store(u64::from_le_bytes(bytes.try_into().expect("eight bytes")), Ordering::Relaxed);
    }
    let version = key.version().map_or(0, |version| version.len().min(0xFFFE) as u64 + 1);
    let lengths = key.bucket().len() as u64 | (key.object().len() as u64) << 24 | version << 48;
    entry.lengths.store(lengths, Ordering::Relaxed);
}

/// The key for a listing, cut where the entry keeps no more of it.
pub(crate) fn read_text(entry: &Entry) -> ObjectKey {
    let mut bytes = Vec::with_capacity(TEXT_WORDS * 8);
    for word in &entry.text {
        bytes.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    let lengths = entry.lengths.load(Ordering::Relaxed);
    let mut rest = bytes.as_slice();
    let mut take = |length: u64| {
        let (part, left) = rest.split_at((length as usize).min(rest.len()));
        rest = left;
        part.to_vec()
    };
    let (bucket, object) = (take(lengths & 0xFF_FFFF), take(lengths >> 24 & 0xFF_FFFF));
    let key = ObjectKey::new(bucket, object);
    match lengths >> 48 {
        0 => key,
        length => key.with_version(take(length - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_parts_not_joined() {
        let secret = [0x1234_5678_9ABC_DEF1, 0x0FED_CBA9_8765_4321, 0x1357_9BDF_0246_8ACE, 0xECA8_6420_FDB9_7531];
        let keys = [
            KeyRef::new("a/b", "c"),
            KeyRef::new("a", "b/c"),
            KeyRef::new("ab", "c"),
            KeyRef::new("", "abc"),
            KeyRef::new("abc", ""),
            KeyRef::new("a", "bc").with_version(""),
            KeyRef::new("a", "bc"),
            KeyRef::new("a\0", "bc"),
            KeyRef::new("a", "bc\0"),
        ];
        let prints: std::collections::HashSet<_> = keys.iter().map(|key| Fingerprint::of(&secret, *key)).collect();
        assert_eq!(prints.len(), keys.len());
    }

    #[test]
    fn fingerprint_million_keys_spread() {
        let secret = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93, 0xA076_1D64_78BD_642F, 0xE703_7ED1_A0B4_28DB];
        let buckets = 1 << 12;
        let mut counts = vec![0_u32; buckets as usize];
        let mut seen = std::collections::HashSet::new();
        for number in 0..1_000_000 {
            let object = format!("object-{number}");
            let print = Fingerprint::of(&secret, KeyRef::new("bucket", &object));
            counts[print.buckets(buckets)[0] as usize] += 1;
            assert!(seen.insert(print));
        }
        // 244 a bucket on average; twelve standard deviations are 188.
        assert!(
            counts.iter().all(|count| (56..432).contains(count)),
            "{:?} {:?}",
            counts.iter().min(),
            counts.iter().max()
        );
    }
}
