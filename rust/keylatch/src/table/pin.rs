//! What keeps an entry in the table: pins, and permits of a tier.

use super::shard::{Full, LockedShard};
use crate::key::KeyRef;
use crate::memory::Cache;
use crate::mode::Mode;
use crate::sync::atomic::Ordering;

/// An entry that keeps its key, and the hash of that.
#[derive(Debug)]
pub(crate) struct Pin {
    pub(crate) hash: u64,
    pub(crate) shard: u32,
    pub(crate) entry: u32,
}

impl LockedShard<'_> {
    /// Adds a pin to an entry of this shard: it stays in the table.
    pub(crate) fn pin(&mut self, index: u32) {
        let entry = self.table.entry(index);
        let pinned = entry.pinned();
        // There are fewer pins than bytes of memory for them.
        entry.set_pinned(pinned + 1);
        if pinned == 0 {
            self.table.pinned.fetch_add(1, Ordering::Relaxed);
            if !entry.has_permit() {
                self.free_slot_of(index);
                self.set_evict(index, false);
            }
        }
    }

    /// Takes a pin from an entry. After the last one it stays or leaves as others do.
    pub(crate) fn unpin(&mut self, cache: &Cache, index: u32) {
        let entry = self.table.entry(index);
        debug_assert!(entry.pinned() > 0, "an entry without a pin");
        entry.set_pinned(entry.pinned() - 1);
        if entry.pinned() == 0 {
            self.table.pinned.fetch_sub(1, Ordering::Relaxed);
            // If it is held, the release that makes it idle comes here.
            if !entry.has_permit() && self.set_evict(index, true).is_free() {
                self.keep_or_evict(cache, index);
            }
        }
    }

    /// Notes that an entry has a permit, or wants one: it stays in the table.
    pub(crate) fn begin_permit(&mut self, index: u32) {
        let entry = self.table.entry(index);
        if !entry.has_permit() {
            entry.set_has_permit(true);
            self.free_slot_of(index);
        }
    }

    /// Notes that an entry has no permit any more, and wants none.
    ///
    /// It is barred, and nothing waits for it. The caller has it leave if it is idle.
    pub(crate) fn end_permit(&mut self, index: u32) {
        let entry = self.table.entry(index);
        if entry.has_permit() {
            entry.set_has_permit(false);
            self.set_evict(index, entry.pinned() == 0);
        }
    }

    /// Brings a key that is not in the table into it, idle, and pins it.
    ///
    /// The fast path may grant it in modes up to `open`.
    pub(crate) fn insert_pinned(
        &mut self,
        cache: &Cache,
        hash: u64,
        key: &KeyRef<'_>,
        open: Option<Mode>,
    ) -> Result<u32, Full> {
        let (index, _) = self.insert_idle(cache, hash, key, open)?;
        self.pin(index);
        Ok(index)
    }
}
