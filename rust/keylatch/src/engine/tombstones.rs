//! Tombstones of revoked grants, and the keys of revoked guards.

use super::core::Core;
use crate::hold::{Grant, Standing};
use crate::key::ObjectKey;
use crate::table::{LockedShard, Word};

impl Core {
    /// Gives back the record that was kept for a grant, if that is what it is.
    pub(crate) fn reclaim_tombstone(&self, grant: Grant) {
        if self.records.get(grant.index()).reclaim_tombstone(grant) == Some(true) {
            self.records.put(&self.local().records, grant.index());
        }
    }

    /// The shard of a guard's hold; that it was in, if the hold was revoked.
    pub(crate) fn lock_shard_of_guard(&self, grant: Grant) -> LockedShard<'_> {
        let (_, shard) = Word::from_note(self.records.get(grant.index()).note(), grant.index());
        self.table.lock(shard)
    }

    /// Returns the key of a guard's hold, revoked or not; `None` if it has no guard.
    pub(crate) fn guard_key(&self, grant: Grant) -> Option<ObjectKey> {
        let record = self.records.get(grant.index());
        let (index, _) = record.seen_by_guard(grant)?;
        let entry = self.table.entry(index);
        if self.is_forked() {
            // A forked child takes no mutex: its holder may not exist.
            return Some(entry.key(self.table.arena()));
        }
        let _shard = self.lock_shard_of_guard(grant);
        match record.standing(grant) {
            Standing::Lost(_) => self.tombstones.key(grant),
            _ => Some(entry.key(self.table.arena())),
        }
    }

    /// Returns the fence of a guard's hold, revoked or not; 0 if it has no guard.
    pub(crate) fn guard_fence(&self, grant: Grant) -> u64 {
        let record = self.records.get(grant.index());
        let Some((index, _)) = record.seen_by_guard(grant) else { return 0 };
        // Read first: if it is a later holder's, the hold is seen to be revoked.
        let fence = self.table.entry(index).fence();
        match record.standing(grant) {
            Standing::Lost(_) => record.lost_number(),
            _ => fence,
        }
    }
}
