//! What stays of holds that were revoked: grants that may still be shown, and the keys of guards that are still there.

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

    /// The key of a guard's hold, also once it was revoked; `None` if the grant is not a guard's.
    pub(crate) fn guard_key(&self, grant: Grant) -> Option<ObjectKey> {
        let record = self.records.get(grant.index());
        let (index, _) = record.seen_by_guard(grant)?;
        let entry = self.table.entry(index);
        if self.is_forked() {
            // Mutexes may have been held by threads that are not here.
            return Some(entry.key(self.table.arena()));
        }
        let _shard = self.lock_shard_of_guard(grant);
        match record.standing(grant) {
            Standing::Lost(_) => self.tombstones.key(grant),
            _ => Some(entry.key(self.table.arena())),
        }
    }

    /// The number of a guard's exclusive hold, also once it was revoked; 0 if the grant is not a guard's.
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
