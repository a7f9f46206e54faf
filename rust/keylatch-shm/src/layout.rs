//! What lies where in the mapped file.
//!
//! ```text
//! header (one page) | members (320 bytes each) | gates (64) | entries (128) | bitmaps of entries and gates | log chunks (4,096)
//! ```
//!
//! An entry is a key and its lock. A gate is a lock too: it stands for eight entries, its bucket, and is held while a key
//! comes into the table. Slot numbers name both: entries first, then gates.

use crate::word::MAX_MEMBERS;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// "KLSHM", and a byte that stays.
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"KLSHM\0\0\x01");
pub(crate) const VERSION: u32 = 6;
/// Reads as another number on a machine with the other byte order.
pub(crate) const BYTE_ORDER: u32 = 0x0102_0304;
pub(crate) const HEADER_BYTES: usize = 4096;

/// Entries of one bucket.
pub(crate) const WAYS: u32 = 8;
/// Bells of one member; requests for entries with the same remainder share one.
pub(crate) const BELLS: usize = 32;
/// Records of one chunk.
pub(crate) const RECORDS: u32 = 63;
/// Bytes of the key that an entry keeps for listings.
///
/// Longer keys are cut there, and only there.
pub(crate) const TEXT_WORDS: usize = 10;

/// The processor family, for which atomics and barriers are the same.
pub(crate) const ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") {
    1
} else if cfg!(target_arch = "aarch64") {
    2
} else {
    3
};

/// The sizes of a table, as its header says them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct Sizes {
    pub(crate) members: u32,
    pub(crate) keys: u32,
    pub(crate) buckets: u32,
    pub(crate) chunks: u32,
}

/// The first page.
///
/// Only `boot`, and what stands behind `checksum`, changes after creation.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: u64,
    pub(crate) version: u32,
    pub(crate) byte_order: u32,
    pub(crate) architecture: u32,
    pub(crate) pointer_bits: u32,
    pub(crate) sizes: Sizes,
    pub(crate) total_bytes: u64,
    /// The file's own number, which a copy of the file does not have.
    ///
    /// 0 for a file without a name.
    pub(crate) inode: u64,
    pub(crate) secret: [u64; 4],
    pub(crate) checksum: u64,
    /// The machine's start in which the `life` words mean something.
    pub(crate) boot: [AtomicU64; 2],
    /// No fence of an evicted key was greater.
    pub(crate) fence_floor: AtomicU64,
    /// Where the search for a free chunk begins.
    pub(crate) chunk_hint: AtomicU32,
    pub(crate) recoveries: AtomicU64,
    /// Counts joiners, for what they write before they claim a slot.
    pub(crate) claims: AtomicU32,
}

const _: () = assert!(size_of::<Header>() <= HEADER_BYTES);

/// One process.
#[repr(C, align(64))]
pub(crate) struct MemberSlot {
    /// See [`crate::os::robust`].
    pub(crate) life: AtomicU32,
    /// [`crate::slot_state::Tenure`].
    pub(crate) state: AtomicU32,
    /// The member that this one recovers, or 0.
    pub(crate) recovering: AtomicU32,
    /// Set by a waiter that took this member's turn away.
    ///
    /// Cleared by the member when it runs again. A hint.
    pub(crate) late: AtomicU32,
    /// Its first log chunk + 1.
    pub(crate) log: AtomicU32,
    /// The chunk + 1 that it is about to take or to give back.
    pub(crate) log_intent: AtomicU32,
    /// Wakes its life thread.
    pub(crate) watch_bell: AtomicU32,
    /// For listings.
    pub(crate) pid: AtomicU32,
    pub(crate) joined_ms: AtomicU64,
    /// 1 while a tier of this member keeps holds that it gives back when others wait.
    pub(crate) keeps: AtomicU32,
    /// Wakes that tier; see [`crate::recall`].
    pub(crate) recall_bell: AtomicU32,
    /// What its tier wants to be given back; see [`crate::recall`].
    pub(crate) wish: AtomicU64,
    /// Whose hold this member revokes, and the record + 1 (high half), or 0.
    ///
    /// See [`crate::protocol::revocation`].
    pub(crate) revoking: AtomicU64,
    /// A log record: the entry whose writer's place this member takes.
    ///
    /// It does so to revoke a hold, also when the log is full.
    pub(crate) taking: AtomicU64,
    /// The program's name (16 bytes) and the label, padded with zeros.
    pub(crate) name: [AtomicU64; 8],
    /// Wake its waiting requests.
    pub(crate) bells: [AtomicU32; BELLS],
}

const _: () = assert!(size_of::<MemberSlot>() == 320);

/// The lock of a bucket, and a hint of each of its entries' keys.
#[repr(C, align(64))]
pub(crate) struct Gate {
    pub(crate) word: AtomicU64,
    /// Bits of the fingerprints; written by the named writer of the entry.
    pub(crate) tags: [AtomicU32; WAYS as usize],
    /// Keys, of those with this gate, whose writers died unreported.
    ///
    /// See [`crate::death`].
    pub(crate) lost_deaths: [AtomicU64; 3],
}

const _: () = assert!(size_of::<Gate>() == 64);

/// A key and its lock.
#[repr(C, align(64))]
pub(crate) struct Entry {
    pub(crate) word: AtomicU64,
    /// The last exclusive hold's number; written by the named writer.
    pub(crate) fence: AtomicU64,
    /// The key; zero is no key. Written by the named writer.
    pub(crate) print: [AtomicU64; 2],
    /// Bytes of bucket, object and version + 1 (24, 24 and 16 bits), for listings.
    pub(crate) lengths: AtomicU64,
    /// See [`crate::protocol::turn`]; written by the named writer.
    pub(crate) turns: AtomicU64,
    pub(crate) text: [AtomicU64; TEXT_WORDS],
}

const _: () = assert!(size_of::<Entry>() == 128 && std::mem::offset_of!(Entry, turns) < 64);

/// What a member may have touched: set before the first trace, cleared at the end.
#[repr(C, align(64))]
pub(crate) struct Record {
    /// Slot + 1 (low half) and [`crate::log::Kind`] (high half); 0 is clear.
    pub(crate) head: AtomicU64,
    /// The member's coarse clock when it acquired.
    pub(crate) since_ms: AtomicU64,
    /// Counts the uses of the record.
    pub(crate) hold: AtomicU32,
    /// Who asks for the use, or that it was revoked.
    pub(crate) revoked: AtomicU32,
    /// The use that the member is acquiring, changing or releasing.
    ///
    /// Written by the member.
    pub(crate) releasing: AtomicU32,
    pub(crate) owner_bytes: AtomicU32,
    pub(crate) owner: [AtomicU64; 4],
}

const _: () = assert!(size_of::<Record>() == 64);

#[repr(C, align(64))]
pub(crate) struct Chunk {
    /// The member that has the chunk, or 0.
    pub(crate) owner: AtomicU32,
    /// The member's next chunk + 1.
    pub(crate) next: AtomicU32,
    pub(crate) records: [Record; RECORDS as usize],
}

const _: () = assert!(size_of::<Chunk>() == 4096);

/// Offsets of the parts, computed from the sizes alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) sizes: Sizes,
    pub(crate) members: usize,
    pub(crate) gates: usize,
    pub(crate) entries: usize,
    pub(crate) bitmaps: usize,
    pub(crate) chunks: usize,
    pub(crate) total: usize,
}

impl Layout {
    /// The layout of a new table.
    pub(crate) fn for_config(keys: u32, members: u16, holds: Option<u32>) -> Option<Self> {
        // A bucket is two thirds full when all keys are held; then a million keys find room in one of two buckets.
        let buckets = (u64::from(keys) * 3).div_ceil(2 * u64::from(WAYS)).max(2);
        let holds = holds.map_or(u64::from(keys) + u64::from(members) * 126, u64::from);
        let chunks = holds.div_ceil(u64::from(RECORDS)) + u64::from(members);
        Self::for_sizes(Sizes {
            members: u32::from(members),
            keys,
            buckets: u32::try_from(buckets).ok()?,
            chunks: u32::try_from(chunks).ok()?,
        })
    }

    /// The layout of a table with these sizes, or `None` if no table has them.
    pub(crate) fn for_sizes(sizes: Sizes) -> Option<Self> {
        let Sizes { members, keys, buckets, chunks } = sizes;
        let slots = usize::try_from(u64::from(buckets) * u64::from(WAYS + 1)).ok()?;
        let fits = (1..=u32::from(MAX_MEMBERS)).contains(&members) && keys > 0 && buckets > 1 && chunks >= members;
        if !fits || slots >= i32::MAX as usize || u64::from(chunks) * u64::from(RECORDS) >= i32::MAX as u64 {
            return None;
        }
        let members_at = HEADER_BYTES;
        let gates = members_at + members as usize * size_of::<MemberSlot>();
        let entries = gates + (buckets as usize).checked_mul(size_of::<Gate>())?;
        let entries = entries.next_multiple_of(128);
        let bitmaps = entries.checked_add((buckets * WAYS) as usize * size_of::<Entry>())?;
        let words = 2 * (members as usize).div_ceil(64);
        let chunks_at = bitmaps.checked_add(slots.checked_mul(words * 8)?)?.next_multiple_of(4096);
        let total = chunks_at.checked_add((chunks as usize).checked_mul(size_of::<Chunk>())?)?;
        Some(Self { sizes, members: members_at, gates, entries, bitmaps, chunks: chunks_at, total })
    }

    /// Entries and gates together.
    pub(crate) fn slots(&self) -> u32 {
        self.sizes.buckets * (WAYS + 1)
    }

    pub(crate) fn entry_count(&self) -> u32 {
        self.sizes.buckets * WAYS
    }

    pub(crate) fn bitmap_words(&self) -> usize {
        (self.sizes.members as usize).div_ceil(64)
    }

    pub(crate) fn record_count(&self) -> u32 {
        self.sizes.chunks * RECORDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_million_keys_fits() {
        let layout = Layout::for_config(1_000_000, 1_024, None).expect("a million keys");
        assert!(layout.entry_count() >= 1_500_000);
        assert!(layout.total < 1 << 30, "{} bytes", layout.total);
        assert_eq!(Layout::for_sizes(layout.sizes), Some(layout));
    }

    #[test]
    fn layout_impossible_sizes_none() {
        let sizes = Layout::for_config(64, 8, None).expect("a small table").sizes;
        for wrong in [
            Sizes { members: 0, ..sizes },
            Sizes { members: 4096, ..sizes },
            Sizes { buckets: 0, ..sizes },
            Sizes { buckets: u32::MAX, ..sizes },
            Sizes { chunks: 1, ..sizes },
            Sizes { chunks: u32::MAX, ..sizes },
        ] {
            assert_eq!(Layout::for_sizes(wrong), None, "{wrong:?}");
        }
    }
}
