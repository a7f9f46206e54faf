//! Permits that are lost: one by force, or all of a term.
//!
//! First the words are barred, then the loss is counted, and then the holds are looked for and revoked. A hold that is not
//! on record yet is its taker's to find out: see [`super::tiered`]. An entry asks for another permit only when its lock
//! is free, so that whatever is held of an entry whose permit is lost was held under that permit.

use super::core::Core;
use super::local::Local;
use super::tiered::Tiered;
use crate::hold::{Grant, Lost};
use crate::tier::permit::Permit;
use crate::tier::{PermitId, Term};
use std::collections::HashSet;

impl Core {
    /// A permit has ended by force.
    pub(crate) fn lose_permit(&self, tiered: &Tiered, id: PermitId) {
        let index = Tiered::entry_of(id);
        let Some((shard, entry, hash)) = self.lock_permitted(tiered, index, |permit| permit.id() == id) else { return };
        let was_there = tiered.permits(shard.index()).get_mut(&index).is_some_and(|permit| permit.lose(id));
        let local = self.local();
        self.grant_waiters_and_unlock(local, shard, index, entry, hash, None);
        if was_there {
            tiered.count_loss();
            self.revoke_of(local, &HashSet::from([index]));
        }
    }

    /// This term and all before it are over.
    pub(crate) fn lose_term(&self, tiered: &Tiered, over: Term) {
        let local = self.local();
        tiered.end_term(over);
        let mut lost = HashSet::new();
        self.for_each_permit(tiered, local, |index, permit| {
            if permit.lose_term(over) {
                lost.insert(index);
            }
        });
        if !lost.is_empty() {
            tiered.count_loss();
            self.revoke_of(local, &lost);
        }
    }

    /// A term has begun, or the tier can be reached again.
    pub(crate) fn begin_term(&self, tiered: &Tiered, term: Term) {
        if let Some(before) = term.0.checked_sub(1)
            && tiered.last_term().is_some_and(|last| last < term)
        {
            // The event of its end may come later.
            self.lose_term(tiered, Term(before));
        }
        tiered.begin_term(term);
        self.for_each_permit(tiered, self.local(), |_, permit| permit.renewed());
    }

    /// Gives idle permits back to the tier, and has the rest follow.
    pub(crate) fn close_permits(&self, local: &Local) {
        if let Some(tiered) = self.tiered() {
            self.for_each_permit(tiered, local, |_, _| {});
        }
    }

    /// Changes all permits, one after the other, and does what follows.
    ///
    /// Off every mutex.
    fn for_each_permit(&self, tiered: &Tiered, local: &Local, mut change: impl FnMut(u32, &mut Permit)) {
        for shard in 0..tiered.shards() {
            let indexes: Vec<u32> = {
                let _shard = self.table.lock(shard);
                tiered.permits(shard).keys().copied().collect()
            };
            for index in indexes {
                let Some((shard, entry, hash)) = self.lock_permitted(tiered, index, |_| true) else { continue };
                tiered.permits(shard.index()).get_mut(&index).into_iter().for_each(|permit| change(index, permit));
                self.grant_waiters_and_unlock(local, shard, index, entry, hash, None);
            }
        }
    }

    /// Revokes what is held of these entries, whose permits are lost. Off every mutex.
    fn revoke_of(&self, local: &Local, entries: &HashSet<u32>) {
        let mut grants: Vec<Grant> = Vec::new();
        self.records.for_each(usize::MAX, |index, record| {
            let held = record.held().filter(|held| entries.contains(&held.entry));
            grants.extend(held.map(|held| held.grant(index)));
        });
        self.revoke(local, &grants, Lost::Permit);
    }
}
