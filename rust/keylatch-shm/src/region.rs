//! The mapped file as typed parts. Everything behind it is atomic, for other processes write it at any time.

use crate::layout::{Chunk, Entry, Gate, Header, Layout, MemberSlot, RECORDS, Record};
use crate::word::MemberId;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// One of the two bitmaps of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bitmap {
    /// Members that share the entry without a place in the word.
    Readers,
    /// Members that wait for their turn.
    Waiters,
}

/// A mapping of a whole table; unmapped on drop.
pub(crate) struct Region {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the region is memory that lives until drop, and all access to it is through shared references to atomics.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Takes over a mapping of `layout.total` bytes.
    ///
    /// # Safety
    /// `base` is a shared, writable mapping of at least `layout.total` bytes, page-aligned, and is unmapped by nothing
    /// else. The layout came from [`Layout::for_sizes`] or [`Layout::for_config`].
    pub(crate) unsafe fn from_mapping(base: NonNull<u8>, layout: Layout) -> Self {
        Self { base, layout }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn base(&self) -> usize {
        self.base.as_ptr() as usize
    }

    /// The part at an offset.
    #[inline(always)]
    fn part<T>(&self, offset: usize, index: usize) -> &T {
        debug_assert!(offset + (index + 1) * size_of::<T>() <= self.layout.total);
        // SAFETY: the callers below check the index against the count that the layout reserved at this offset, offsets
        // are aligned for the part, and all parts are made of atomics, for which every bit pattern is a value.
        unsafe { &*self.base.as_ptr().add(offset).cast::<T>().add(index) }
    }

    pub(crate) fn header(&self) -> &Header {
        self.part(0, 0)
    }

    #[inline]
    pub(crate) fn member(&self, id: MemberId) -> &MemberSlot {
        assert!(
            id.index() < self.layout.sizes.members as usize,
            "member ids from the file are checked where they are read"
        );
        self.part(self.layout.members, id.index())
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = MemberId> + use<> {
        (0..self.layout.sizes.members as usize).map(MemberId::at)
    }

    pub(crate) fn has_member(&self, id: MemberId) -> bool {
        id.index() < self.layout.sizes.members as usize
    }

    #[inline]
    pub(crate) fn gate(&self, bucket: u32) -> &Gate {
        assert!(bucket < self.layout.sizes.buckets);
        self.part(self.layout.gates, bucket as usize)
    }

    #[inline]
    pub(crate) fn entry(&self, index: u32) -> &Entry {
        assert!(index < self.layout.entry_count());
        self.part(self.layout.entries, index as usize)
    }

    /// The slot number of a bucket's gate.
    pub(crate) fn gate_slot(&self, bucket: u32) -> u32 {
        self.layout.entry_count() + bucket
    }

    /// The lock of an entry or a gate.
    #[inline]
    pub(crate) fn word(&self, slot: u32) -> &AtomicU64 {
        if slot < self.layout.entry_count() {
            &self.entry(slot).word
        } else {
            &self.gate(slot - self.layout.entry_count()).word
        }
    }

    fn bitmap(&self, slot: u32, map: Bitmap, word: usize) -> &AtomicU64 {
        let words = self.layout.bitmap_words();
        assert!(slot < self.layout.slots() && word < words);
        let first = slot as usize * 2 * words + if map == Bitmap::Waiters { words } else { 0 };
        self.part(self.layout.bitmaps, first + word)
    }

    /// Sets the member's bit.
    pub(crate) fn set_bit(&self, slot: u32, map: Bitmap, id: MemberId) {
        // Pairs with: the scans below. SeqCst, because setter and scanner each write one place and then read the
        // other's (the bit and the word), and one of them has to see the other.
        self.bitmap(slot, map, id.index() / 64).fetch_or(1 << (id.index() % 64), Ordering::SeqCst);
    }

    /// Clears the member's bit, if it is set.
    pub(crate) fn clear_bit(&self, slot: u32, map: Bitmap, id: MemberId) {
        let word = self.bitmap(slot, map, id.index() / 64);
        let bit = 1 << (id.index() % 64);
        if word.load(Ordering::SeqCst) & bit != 0 {
            // Pairs with: the scans below, as in `set_bit`; also a reader's release for the writer that drains.
            word.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    pub(crate) fn has_bit(&self, slot: u32, map: Bitmap, id: MemberId) -> bool {
        self.bitmap(slot, map, id.index() / 64).load(Ordering::SeqCst) & 1 << (id.index() % 64) != 0
    }

    /// The members with set bits, in order of their ids.
    pub(crate) fn bits(&self, slot: u32, map: Bitmap) -> impl Iterator<Item = MemberId> + '_ {
        let members = self.layout.sizes.members as usize;
        (0..self.layout.bitmap_words()).flat_map(move |word| {
            let mut bits = self.bitmap(slot, map, word).load(Ordering::SeqCst);
            std::iter::from_fn(move || {
                let lowest = bits.trailing_zeros() as usize;
                bits &= bits.wrapping_sub(1);
                (lowest < 64).then_some(word * 64 + lowest)
            })
            .filter(move |index| *index < members)
            .map(MemberId::at)
        })
    }

    pub(crate) fn is_empty(&self, slot: u32, map: Bitmap) -> bool {
        self.bits(slot, map).next().is_none()
    }

    pub(crate) fn chunk(&self, index: u32) -> &Chunk {
        assert!(index < self.layout.sizes.chunks);
        self.part(self.layout.chunks, index as usize)
    }

    #[inline]
    pub(crate) fn record(&self, index: u32) -> &Record {
        assert!(index < self.layout.record_count());
        &self.chunk(index / RECORDS).records[(index % RECORDS) as usize]
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        crate::sigbus::forget(self.base());
        // SAFETY: the mapping is this value's own, and no reference into it outlives the value.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.layout.total) };
    }
}
