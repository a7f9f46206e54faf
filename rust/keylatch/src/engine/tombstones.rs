//! What stays of holds that were revoked: grants that may still be shown, and the keys of guards that are still there.

use super::core::Core;
use crate::hold::{Grant, Standing};
use crate::key::ObjectKey;
use crate::sync::Mutex;
use crate::table::{LockedShard, Word};
use std::collections::{HashMap, VecDeque};

/// Grants lost by expiry that are remembered as lost; of older ones it is only said that they are not held.
const REMEMBERED: usize = if cfg!(any(test, loom)) { 16 } else { 1 << 16 };

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    /// Grants without a guard whose lease ran out, the latest last. Each has its record.
    numbers: Mutex<VecDeque<Grant>>,
    /// Keys by the grants of guards that are still there: their entries may be other keys' by now.
    keys: Mutex<HashMap<Grant, ObjectKey>>,
}

impl Tombstones {
    /// Keeps in mind that a grant was lost. Returns the one that is forgotten for it.
    #[must_use]
    pub(crate) fn remember(&self, grant: Grant) -> Option<Grant> {
        let mut numbers = self.numbers.lock();
        numbers.push_back(grant);
        if numbers.len() > REMEMBERED { numbers.pop_front() } else { None }
    }

    /// Keeps the key of a guard's hold that is being revoked. The caller owns the shard.
    pub(crate) fn keep_key(&self, grant: Grant, key: ObjectKey) {
        self.keys.lock().insert(grant, key);
    }

    /// The guard is gone.
    pub(crate) fn forget_key(&self, grant: Grant) {
        let key = self.keys.lock().remove(&grant);
        drop(key);
    }
}

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
            Standing::Lost(_) => self.tombstones.keys.lock().get(&grant).cloned(),
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
