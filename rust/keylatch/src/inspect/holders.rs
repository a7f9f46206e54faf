//! Listing holds.

use super::Filter;
use crate::engine::Core;
use crate::hold::{Held, Kept, Record, SESSION};
use crate::key::KeyRef;
use crate::listed::HolderInfo;
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use std::time::Duration;

/// What the entry of a key says of its holders.
enum OnlyHolder {
    /// The key is free.
    Free,
    /// It has one holder: its record, and a copy of it.
    This(u32, Held),
    /// The entry at this index has several holders, or one that it does not name.
    Several(u32),
}

impl Core {
    /// Calls `visit` with every hold that the filter lets pass.
    ///
    /// A lock that is held from before the call to after it is visited once. No mutex is held during the visit.
    pub(crate) fn for_each_hold(&self, filter: &Filter, mut visit: impl FnMut(HolderInfo)) {
        if self.is_forked() {
            // The holds are the parent's, and threads that held a mutex do not exist here.
            return;
        }
        // One moment for all holds, so that of two holds the older one is shown as the older.
        let (now, mut bytes) = (self.now(), Vec::new());
        self.records.for_each(usize::MAX, |index, record| {
            if let Some(held) = record.held()
                && let Some(hold) = self.hold_at(index, record, held, filter, (now, &mut bytes))
            {
                visit(hold);
            }
        });
        self.all_delayed().iter().filter_map(|kept| self.kept_at(kept, filter)).for_each(visit);
    }

    /// Describes a lock in its lock delay.
    ///
    /// Returns `None` if the filter rejects it, or the delay is over.
    fn kept_at(&self, kept: &Kept, filter: &Filter) -> Option<HolderInfo> {
        let now = self.now();
        let held_for = Duration::from_nanos(now.saturating_sub(kept.since));
        let ((key, fence), owner) = (self.key_of_delayed(kept)?, Self::lock_delay_owner());
        let passes = filter.lets_pass(Mode::Exclusive, 0, held_for) && filter.is_for_owner(owner, "");
        (passes && filter.is_for_key(&key.as_ref())).then(|| HolderInfo {
            key,
            mode: Mode::Exclusive,
            owner: owner.into(),
            source: "",
            session: false,
            priority: 0,
            held_for,
            lease: Some(Duration::from_nanos(kept.until.saturating_sub(now))),
            fence: Some(fence),
            in_lock_delay: true,
            grant: kept.grant,
        })
    }

    /// Describes a hold; `None` if the filter rejects it, or it has ended.
    ///
    /// The record names the entry, and the entry the key. Both stay as they are while the record names the hold. The key is
    /// read under the mutex of its shard, under which no entry changes its key or leaves the shard. So a record that still
    /// names the hold then names the right key. The owner's name is looked up afterwards, and then the record once more,
    /// because the number of an owner may be used for another name once the hold has ended.
    pub(crate) fn hold_at(
        &self,
        index: u32,
        record: &Record,
        held: Held,
        filter: &Filter,
        (now, bytes): (u64, &mut Vec<u8>),
    ) -> Option<HolderInfo> {
        let held_for = if held.since == 0 { 0 } else { now.saturating_sub(held.since) };
        let held_for = Duration::from_nanos(held_for);
        let passes = filter.lets_pass(held.mode, held.owner, held_for);
        if !passes && held.since != 0 {
            return None;
        }
        let grant = held.grant(index);
        let entry = self.table.entry(held.entry);
        let is_there = || record.held().is_some_and(|now| now.grant(index) == grant && now.entry == held.entry);
        let shard = self.lock_shard(entry.hash());
        // Checked under the mutex: if the entry was of another shard, the hold has ended, and the record shows it.
        if !self.is_in_word(index, &held) || !is_there() {
            return None;
        }
        if held.since == 0 {
            record.stamp(self.now());
        }
        if !passes {
            return None;
        }
        let key = entry.key_in(self.table.arena(), bytes);
        let fence = entry.fence();
        drop(shard);
        if !filter.is_for_key(&key) {
            return None;
        }
        let owner = self.owner_label(held.owner);
        let lease = if held.leased { self.leases.deadline(grant) } else { None };
        if !is_there() || !filter.is_for_owner(&owner.name, owner.source) {
            return None;
        }
        Some(HolderInfo {
            key: key.to_owned(),
            mode: held.mode,
            owner: owner.name,
            source: owner.source,
            session: held.owner & SESSION != 0,
            priority: held.priority,
            held_for,
            lease: lease.map(|deadline| Duration::from_nanos(deadline.saturating_sub(now))),
            fence: (held.mode == Mode::Exclusive).then_some(fence),
            in_lock_delay: false,
            grant,
        })
    }

    /// Lists the holders of one key that pass, with the numbers of their owners.
    ///
    /// One look at the key's shard is enough, unless several share the lock: their records may be anywhere.
    pub(super) fn holders_at(&self, key: &KeyRef<'_>, filter: &Filter) -> Vec<(u32, HolderInfo)> {
        let hash = self.hash(key);
        let (now, mut bytes, mut holders) = (self.now(), Vec::new(), Vec::new());
        let entry = match self.only_holder_at(hash, key) {
            OnlyHolder::Free => return holders,
            OnlyHolder::This(index, held) => {
                let hold = self.hold_at(index, self.records.get(index), held, filter, (now, &mut bytes));
                holders.extend(hold.map(|hold| (held.owner, hold)));
                return holders;
            }
            OnlyHolder::Several(entry) => entry,
        };
        // An entry that has a holder keeps its key, so the records of holds that last name this entry.
        self.records.for_each(usize::MAX, |index, record| {
            if let Some(held) = record.held().filter(|held| held.entry == entry) {
                let hold = self.hold_at(index, record, held, filter, (now, &mut bytes));
                holders.extend(hold.filter(|hold| hold.key.as_ref() == *key).map(|hold| (held.owner, hold)));
            }
        });
        let kept = self.all_delayed();
        let kept = kept.iter().filter_map(|kept| self.kept_at(kept, filter)).filter(|hold| hold.key.as_ref() == *key);
        holders.extend(kept.map(|hold| (0, hold)));
        holders
    }

    /// Returns the holder of a key if it has one, and its entry names that one.
    fn only_holder_at(&self, hash: u64, key: &KeyRef<'_>) -> OnlyHolder {
        let mut shard = self.lock_shard(hash);
        let Some((index, entry)) = shard.find(hash, key) else { return OnlyHolder::Free };
        shard.unbias(index, entry);
        // The reader that was marked may leave and come back, even as a writer: it is the one that the word counts only if
        // it was there before and after.
        let reader = entry.reader.load(Ordering::Relaxed);
        let held = |record: u32| self.records.could_be(record).then(|| self.records.get(record).held()).flatten();
        let before = held(reader);
        let word = entry.word();
        if word.is_free() {
            return OnlyHolder::Free;
        }
        let only = if word.is_exclusive() {
            // A session may have several holds of a lock that is held exclusively, each with a record.
            let alone = entry.counted() == 0;
            held(word.writer()).filter(|held| alone && held.entry == index).map(|held| (word.writer(), held))
        } else {
            let is_it = |held: &Held| held.entry == index && held.mode == Mode::Shared && Some(*held) == before;
            held(reader).filter(|held| word.readers() == 1 && is_it(held)).map(|held| (reader, held))
        };
        only.map_or(OnlyHolder::Several(index), |(index, held)| OnlyHolder::This(index, held))
    }

    /// Lists all holds that the filter lets pass.
    pub(crate) fn list_holders(&self, filter: &Filter) -> Vec<HolderInfo> {
        if self.is_forked() {
            return Vec::new();
        }
        if let Some(key) = filter.only_key() {
            return self.holders_at(&key, filter).into_iter().map(|(_, hold)| hold).collect();
        }
        let mut holders = Vec::new();
        self.for_each_hold(filter, |hold| holders.push(hold));
        holders
    }
}
