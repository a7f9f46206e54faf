//! What a thread keeps of a manager to itself, so that the fast path writes to nothing that others read often.
//!
//! Every field is changed by its own thread alone, with plain loads and stores; others read some of them. The fields are
//! atomics only so that this is not undefined.

use crate::memory::{Cache, NONE, Region, Vacant};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes of an owner's name that a thread remembers.
const REMEMBERED_WORDS: usize = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) records: Cache,
    pub(crate) entries: Cache,
    /// Turns that waiting for another thread awake is worth, learned from how it went.
    pub(crate) spins: AtomicU32,
    /// The thread's line of slots, once it has shared a biased key.
    pub(crate) line: AtomicU32,
    /// What the thread's look-up found, for the function that it goes on in.
    found_hash: AtomicU64,
    found_entry: AtomicU32,
    /// The latest entry at which swaps of this thread met other readers.
    ///
    /// And how often more that has to happen there until it is crowded.
    crowded: AtomicU32,
    crowded_for: AtomicU32,
    /// The owner that this thread named last: naming it again costs a comparison.
    remembered_owner: AtomicU32,
    remembered_len: AtomicU32,
    remembered_name: [AtomicU64; REMEMBERED_WORDS],
    tallies: Region<Tally>,
}

/// Rows of a thread's tallies.
///
/// In a table of more shards those with equal low bits share a row, so a thread's figures take at most 16 KiB.
pub(crate) const ROWS: u32 = 1024;

/// The row of a shard's figures.
#[inline]
pub(crate) fn row_of(shard: u32) -> u32 {
    shard & (ROWS - 1)
}

/// What a thread did on the fast path in the shards of one row.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Tally {
    pub(crate) grants: AtomicU64,
    pub(crate) releases: AtomicU64,
}

#[cfg(not(loom))]
// SAFETY: two integers.
unsafe impl Vacant for Tally {}
#[cfg(loom)]
// SAFETY: built by hand under the model checker.
unsafe impl Vacant for Tally {
    fn vacant() -> Self {
        Self { grants: AtomicU64::new(0), releases: AtomicU64::new(0) }
    }
    fn vacate(&self) {}
}

impl Local {
    pub(crate) fn new(shards: u32, spins: u32) -> Self {
        let tallies = Region::reserve(shards.min(ROWS)).expect("a few kibibytes of memory for a thread's counters");
        Self {
            records: Cache::default(),
            entries: Cache::default(),
            spins: AtomicU32::new(spins),
            line: AtomicU32::new(NONE),
            found_hash: AtomicU64::new(0),
            found_entry: AtomicU32::new(NONE),
            crowded: AtomicU32::new(NONE),
            crowded_for: AtomicU32::new(0),
            remembered_owner: AtomicU32::new(0),
            remembered_len: AtomicU32::new(0),
            remembered_name: std::array::from_fn(|_| AtomicU64::new(0)),
            tallies,
        }
    }

    #[inline]
    pub(crate) fn tally(&self, row: u32) -> &Tally {
        self.tallies.get(row)
    }

    /// Bytes of memory that its tallies use at most.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.tallies.len()) * size_of::<Tally>() as u64
    }

    #[inline]
    pub(crate) fn count_grant(&self, shard: u32) {
        add_one(&self.tally(row_of(shard)).grants, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn count_release(&self, shard: u32) {
        // Release. Pairs with: the Acquire in `sums`.
        add_one(&self.tally(row_of(shard)).releases, Ordering::Release);
    }

    /// Keeps what a look-up found: the hash of the key and its entry.
    #[inline(always)]
    pub(crate) fn keep_found(&self, hash: u64, entry: u32) {
        self.found_hash.store(hash, Ordering::Relaxed);
        self.found_entry.store(entry, Ordering::Relaxed);
    }

    /// Returns what this thread kept last.
    #[inline(always)]
    pub(crate) fn kept_found(&self) -> (u64, u32) {
        (self.found_hash.load(Ordering::Relaxed), self.found_entry.load(Ordering::Relaxed))
    }

    /// Counts a swap for a shared lock that met other readers.
    ///
    /// Returns whether that has happened `often` since it happened with another entry; then it begins anew.
    pub(crate) fn is_crowded(&self, entry: u32, often: u32) -> bool {
        let is_same = self.crowded.load(Ordering::Relaxed) == entry;
        let more = if is_same { self.crowded_for.load(Ordering::Relaxed) } else { often };
        let is_crowded = more <= 1;
        self.expect_crowd(entry, if is_crowded { often } else { more - 1 });
        is_crowded
    }

    /// Has the entry be crowded after that number of such swaps more.
    pub(crate) fn expect_crowd(&self, entry: u32, more: u32) {
        self.crowded.store(entry, Ordering::Relaxed);
        self.crowded_for.store(more, Ordering::Relaxed);
    }

    /// The owner's number, if this name is the one the thread used last.
    #[inline]
    pub(crate) fn remembered(&self, name: &str) -> Option<u32> {
        if name.len() != self.remembered_len.load(Ordering::Relaxed) as usize {
            return None;
        }
        let same = name
            .as_bytes()
            .chunks(8)
            .zip(&self.remembered_name)
            .all(|(chunk, word)| word.load(Ordering::Relaxed) == padded(chunk));
        same.then(|| self.remembered_owner.load(Ordering::Relaxed))
    }

    /// Remembers a short name, and that this thread is about to use its number.
    pub(crate) fn remember(&self, name: &str, owner: u32) {
        self.remembered_owner.store(owner, Ordering::Relaxed);
        let fits = name.len() <= 8 * REMEMBERED_WORDS;
        // Longer than any name that is kept: matches nothing.
        self.remembered_len.store(if fits { name.len() as u32 } else { u32::MAX }, Ordering::Relaxed);
        for (chunk, word) in name.as_bytes().chunks(8).zip(&self.remembered_name) {
            word.store(padded(chunk), Ordering::Relaxed);
        }
    }

    pub(crate) fn remembered_owner(&self) -> u32 {
        self.remembered_owner.load(Ordering::Relaxed)
    }
}

#[inline]
fn add_one(counter: &AtomicU64, order: Ordering) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), order);
}

#[inline]
fn padded(chunk: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..chunk.len()].copy_from_slice(chunk);
    u64::from_le_bytes(word)
}
