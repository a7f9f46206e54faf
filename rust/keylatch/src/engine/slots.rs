//! Readers of a key that many threads read at a time: each in a slot of its own thread.
//!
//! See `table::slots` for how that excludes writers, and `table::bias` for when it ends. It begins here: a thread whose swap
//! for a shared lock failed often enough, because others shared it at that moment, has the entry biased.
//!
//! Such a reader has a record like any other, which listings, revocations and figures go by. What differs is who counts it:
//! not the word. So a thread that asks the word for more than leave to share has the readers collected first. A session's
//! hold is always counted by the word, because what its session may do depends on that.

use super::core::{Core, begin_hold_as};
use super::fast::{HELD, OTHER, Tried};
use super::local::Local;
use crate::hold::{FirstState, Grant, SESSION};
use crate::key::KeyRef;
use crate::memory::NONE;
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::table::{Entered, Entry, PackedKey, Pin, Word};

/// Failed swaps of one thread after which an entry is biased.
const A_CROWD: u32 = if cfg!(loom) { 1 } else { 64 };
/// How many times as many it takes after the shard did not allow that.
///
/// While a shard rests all readers of a crowded key would lock it again and again.
const REFUSED: u32 = if cfg!(loom) { 1 } else { 64 };

impl Core {
    /// As `try_fast`, for a shared lock that was seen to be biased.
    ///
    /// The calling thread has kept what its look-up found.
    #[inline(never)]
    pub(super) fn try_fast_biased(&self, bucket: &[u8], object: &[u8], state: u64) -> Tried {
        let key = KeyRef::new(bucket, object);
        let Some(local) = self.local_at_hand() else { return Tried::new(OTHER, self.hash(&key)) };
        let (hash, index) = local.kept_found();
        // Before the key, as in `take_seen`.
        let seen = self.table.entry(index).word();
        if !seen.is_biased() {
            return Tried::new(OTHER, hash);
        }
        Tried::new(self.take_biased(local, &key, (hash, state), (index, seen)), hash)
    }

    /// As `take_seen`, for a shared lock that was seen to be biased.
    #[inline(always)]
    pub(super) fn take_biased(
        &self,
        local: &Local,
        key: &KeyRef<'_>,
        (hash, state): (u64, u64),
        (index, seen): (u32, Word),
    ) -> u64 {
        let entry = self.table.entry(index);
        if !entry.carries(self.table.arena(), key) {
            return OTHER;
        }
        match self.share_biased(local, (index, entry, self.table.shard_of(hash)), state, seen) {
            Some(grant) => grant.to_raw(),
            None => self.take_not_biased(local, (hash, state), (index, seen)),
        }
    }

    /// As `take_biased`, after the bias ended.
    ///
    /// All readers do this in the same moment: if they went to the shard instead, they would wait for each other there.
    #[cold]
    #[inline(never)]
    fn take_not_biased(&self, local: &Local, (hash, state): (u64, u64), (index, seen): (u32, Word)) -> u64 {
        let entry = self.table.entry(index);
        let now = entry.word();
        // Of this generation it has the key that was compared.
        if now.has_generation_of(seen) && now.taken_uncontended(Mode::Shared, NONE).is_some() {
            self.take_known(local, (Mode::Shared, hash, state), (index, entry, now))
        } else {
            HELD
        }
    }

    /// As `try_pinned`, for an entry that was seen to be biased.
    #[inline(never)]
    pub(super) fn try_pinned_biased(&self, local: &Local, pin: &Pin, state: u64) -> Option<Grant> {
        let entry = self.table.entry(pin.entry);
        let seen = entry.word();
        if !seen.is_biased() {
            return None;
        }
        self.share_biased(local, (pin.entry, entry, pin.shard), state, seen)
    }

    /// As `try_prepared`, for what the look-up found.
    #[inline(never)]
    pub(super) fn try_prepared_biased(
        &self,
        local: &Local,
        packed: &PackedKey,
        state: u64,
        (index, seen): (u32, Word),
    ) -> Option<Grant> {
        let entry = self.table.entry(index);
        if !seen.is_biased() || !entry.carries_packed(packed) {
            return None;
        }
        self.share_biased(local, (index, entry, self.table.shard_of(packed.hash)), state, seen)
    }

    /// Shares the lock of a biased entry.
    ///
    /// Its key, at the generation seen, is the right one.
    #[inline(always)]
    fn share_biased(
        &self,
        local: &Local,
        (index, entry, shard): (u32, &Entry, u32),
        state: u64,
        seen: Word,
    ) -> Option<Grant> {
        let record_index = self.records.take(&local.records);
        if record_index == NONE {
            return None;
        }
        let (first, owner) = FirstState::and_owner(state);
        let record = self.records.get(record_index);
        record.prefill(index, owner, 0);
        let line = local.line.load(Ordering::Relaxed);
        if line == NONE || owner & SESSION != 0 {
            return self.share_beside_slots(local, (index, shard), state, (seen, record_index));
        }
        let grant = record.next_grant(record_index);
        match self.table.slots.enter(line, grant, (index, entry, seen)) {
            Entered::Slot(slot) => {
                record.set_slot(slot, shard);
                local.count_grant(shard);
                Some(record.begin(record_index, first.in_slot()))
            }
            Entered::Full => self.share_beside_slots(local, (index, shard), state, (seen, record_index)),
            Entered::Unsure(slot) => self.enter_unsure(local, (slot, grant), shard, state),
        }
    }

    /// As `share_biased`, after the word has changed.
    ///
    /// The readers may have been collected with this one, or without.
    #[cold]
    #[inline(never)]
    fn enter_unsure(&self, local: &Local, (slot, grant): (u32, Grant), shard: u32, state: u64) -> Option<Grant> {
        let record = self.records.get(grant.index());
        let owned = self.table.lock(shard);
        let is_counted = self.table.slots.withdraw(slot, grant);
        drop(owned);
        if !is_counted {
            self.records.put(&local.records, grant.index());
            return None;
        }
        let (first, _) = FirstState::and_owner(state);
        record.set_slot(slot, shard);
        local.count_grant(shard);
        Some(record.begin(grant.index(), first.in_slot()))
    }

    /// Shares the lock of a biased entry by its word.
    ///
    /// The record was filled in.
    #[cold]
    #[inline(never)]
    fn share_beside_slots(
        &self,
        local: &Local,
        (index, shard): (u32, u32),
        state: u64,
        (seen, record_index): (Word, u32),
    ) -> Option<Grant> {
        let is_session = FirstState::and_owner(state).1 & SESSION != 0;
        if !is_session && local.line.load(Ordering::Relaxed) == NONE {
            // For the next time.
            self.find_line(local);
        }
        let entry = self.table.entry(index);
        let mut now = seen;
        while let Some(joined) = now.joined_beside_slots().filter(|_| now.has_generation_of(seen)) {
            match entry.swap(now, joined) {
                Ok(()) => {
                    let (first, _) = FirstState::and_owner(state);
                    let record = self.records.get(record_index);
                    let grant = begin_hold_as((record_index, record), entry, (Mode::Shared, shard, joined), first);
                    local.count_grant(shard);
                    return Some(grant);
                }
                Err(later) => now = later,
            }
        }
        self.records.put(&local.records, record_index);
        None
    }

    /// Gives the calling thread its slots, if there are any for it.
    pub(super) fn find_line(&self, local: &Local) {
        local.line.store(self.table.slots.take_line(), Ordering::Relaxed);
    }

    /// Notes that a swap for a shared lock met other readers.
    ///
    /// Has the entry biased once that has happened often enough. The calling thread shares the lock by now.
    #[inline(never)]
    pub(super) fn note_crowd(&self, local: &Local, index: u32, taken: Word) {
        if self.biases() && local.is_crowded(index, A_CROWD) && !self.bias(local, index, taken) {
            local.expect_crowd(index, A_CROWD * REFUSED);
        }
    }

    /// Has the readers of an entry use slots, if the shard allows it.
    ///
    /// The calling thread shares its lock. Returns whether they do.
    #[cold]
    fn bias(&self, local: &Local, index: u32, taken: Word) -> bool {
        if !self.table.slots.prepare() {
            return false;
        }
        let entry = self.table.entry(index);
        let hash = entry.hash();
        let mut shard = self.lock_shard(hash);
        // If the hold was revoked meanwhile, the entry may be another key's.
        shard.has(hash, index)
            && entry.word().has_generation_of(taken)
            && (entry.word().is_biased() || shard.bias(&local.entries, index))
    }

    /// Whether readers may use slots at all.
    fn biases(&self) -> bool {
        self.config.reader_slots && self.tiered().is_none()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
