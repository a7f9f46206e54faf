//! Many locks at once.
//!
//! First all of them are tried as they come, without waiting: that needs no order, because a deadlock needs somebody who
//! waits. Only when one is held is what was taken given back, the batch sorted and merged, and waited for in the order
//! of the keys.

use super::core::Core;
use super::local::Local;
use super::wanted::Wanted;
use crate::hold::{FirstState, Grant, SESSION};
use crate::key::KeyRef;
use crate::memory::NONE;
use crate::mode::Mode;
use crate::request::BatchLockRequest;
use crate::sync::fault::fault;

/// Batches larger than this are sorted first: what follows compares each with each.
const SMALL_BATCH: usize = 32;

impl Core {
    /// All of a small batch, if all are free and no key is named twice.
    pub(crate) fn batch_at_once(&self, local: &Local, batch: &BatchLockRequest<'_>) -> Option<Vec<Grant>> {
        if batch.wanted.len() > SMALL_BATCH {
            return None;
        }
        let owner = self.owner_number(local, batch.owner);
        let pinned = batch.pins_of == Some(self.identity());
        let mut hashes = [0_u64; SMALL_BATCH];
        let mut grants = Vec::with_capacity(batch.wanted.len());
        for (position, (key, mode, entry)) in batch.wanted.iter().enumerate() {
            let state = FirstState::new(*mode, batch.priority, false);
            let by_pin =
                if pinned && *entry != NONE { self.try_pinned_entry(*entry, *mode, state, owner) } else { None };
            let (granted, hash) = match by_pin {
                Some(grant) => (Ok(grant), self.table.entry(*entry).hash()),
                None => {
                    let tried = self.try_fast(*key, *mode, state, owner);
                    (tried.granted(), tried.hash())
                }
            };
            let grant = match granted {
                Ok(grant) => {
                    if owner & SESSION != 0 {
                        self.note_hold_and_look(owner, hash, grant);
                    }
                    Some(grant)
                }
                Err(_) => self.one_at_once_slow(local, (key, hash, *mode), owner, batch.priority),
            };
            let Some(grant) = grant else { return self.give_back(grants) };
            grants.push(grant);
            // A key named twice is to be one hold. The lock itself refuses the second only beside an exclusive one.
            if hashes[..position].contains(&hash) {
                return self.give_back(grants);
            }
            hashes[position] = hash;
        }
        Some(grants)
    }

    #[cold]
    #[inline(never)]
    fn one_at_once_slow(
        &self,
        local: &Local,
        (key, hash, mode): (&KeyRef<'_>, u64, Mode),
        owner: u32,
        priority: u8,
    ) -> Option<Grant> {
        let wanted = Wanted { key: *key, hash, mode, owner, priority, loose: false, lease: 0 };
        if owner & SESSION == 0
            && let Ok(grant) = self.acquire_fast(local, &wanted)
        {
            return Some(grant);
        }
        let grant = self.try_slow(local, wanted).ok()?;
        if self.records.get(grant.index()).special(grant).is_some_and(|special| special.counted)
            && !fault!("batch-counts-a-key-twice")
        {
            // The session has it already, perhaps by this very batch, which is to have each key once.
            self.release_unseen(grant);
            return None;
        }
        Some(grant)
    }

    #[cold]
    fn give_back(&self, grants: Vec<Grant>) -> Option<Vec<Grant>> {
        let kept = usize::from(fault!("failed-batch-keeps-one"));
        grants.into_iter().skip(kept).rev().for_each(|grant| {
            self.release_unseen(grant);
        });
        None
    }
}

/// The order in which the locks of a batch are waited for: by key, each key once, in the strongest mode asked for.
pub(crate) fn in_order<'k>(batch: &BatchLockRequest<'k>) -> Vec<(KeyRef<'k>, Mode)> {
    let mut wanted: Vec<_> = batch.wanted.iter().map(|(key, mode, _)| (*key, *mode)).collect();
    if fault!("batch-not-in-order") {
        return wanted;
    }
    // The stronger mode of a key first, so that it is the one that stays.
    wanted.sort_unstable_by(|(a, mode_a), (b, mode_b)| a.cmp(b).then(mode_b.cmp(mode_a)));
    wanted.dedup_by(|later, kept| later.0 == kept.0);
    wanted
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_key_once_in_order_and_in_the_strongest_mode() {
        let batch = BatchLockRequest::new("o")
            .add_read_lock("b", "y")
            .add_write_lock("b", "x")
            .add_write_lock("b", "y")
            .add_read_lock("b", "x")
            .add_read_lock("a", "z")
            .add_read_lock("a", "z");
        let expected = vec![
            (KeyRef::new("a", "z"), Mode::Shared),
            (KeyRef::new("b", "x"), Mode::Exclusive),
            (KeyRef::new("b", "y"), Mode::Exclusive),
        ];
        assert_eq!(in_order(&batch), expected);
    }
}
