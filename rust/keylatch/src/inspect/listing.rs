//! Holders and waiters, one after the other.

use super::Filter;
use crate::engine::Core;
use crate::hold::{Held, Kept, Record, SESSION};
use crate::key::{KeyRef, ObjectKey};
use crate::listed::{HolderInfo, WaiterInfo};
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::table::Entry;
use crate::wait::{Asking, Ticket};
use std::collections::HashSet;
use std::time::Duration;

/// Waiters that are looked at before a shard's mutex is released once: bounds the time under it in a long line.
const A_CHUNK: usize = if cfg!(loom) { 2 } else { 256 };

/// What is read of a waiter while it is in line.
pub(super) struct InLine {
    pub(super) index: u32,
    ticket: Ticket,
    asking: Asking,
    owner: u32,
    pub(super) since: u64,
}

/// What a key's entry knows of its holders.
enum OnlyHolder {
    Nobody,
    /// The record, and what it says.
    This(u32, Held),
    /// Or one that the entry does not know.
    Several,
}

impl Core {
    /// Calls `visit` with every hold that the filter lets pass. Whoever holds a lock all the while is told of once. No
    /// mutex is held during the visit.
    pub(crate) fn for_each_hold(&self, filter: &Filter, mut visit: impl FnMut(HolderInfo)) {
        if self.is_forked() {
            // Mutexes may have been held by threads that are not here, and the holds are the parent's.
            return;
        }
        // One moment for all of them, so that of two holds the older one is shown as the older.
        let (now, mut bytes) = (self.now(), Vec::new());
        self.records.for_each(usize::MAX, |index, record| {
            if let Some(held) = record.held()
                && let Some(hold) = self.hold_at(index, record, held, filter, (now, &mut bytes))
            {
                visit(hold);
            }
        });
        self.all_kept().iter().filter_map(|kept| self.kept_at(kept, filter)).for_each(visit);
    }

    /// What there is to tell of a lock that a delay keeps. `None` if it is not meant, or is open.
    fn kept_at(&self, kept: &Kept, filter: &Filter) -> Option<HolderInfo> {
        let now = self.now();
        let held_for = Duration::from_nanos(now.saturating_sub(kept.since));
        let ((key, fence), owner) = (self.key_of_kept(kept)?, Self::kept_shut_name());
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

    /// What there is to tell of a hold. `None` if it is not meant, or has ended.
    ///
    /// A record says which entry, the entry which key; both are the holder's for as long as the record names the hold. The
    /// key is read under its shard's mutex, under which no entry changes its key or leaves the shard: a record that
    /// still names the hold then, names the right key. Afterwards the owner's name is looked up, and the record once
    /// more, because the number of an owner may mean another once nobody bears it.
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
        // Asked under the mutex: if the entry was another shard's, the hold has ended, and the record says so.
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

    /// Who holds one key, as far as the filter is for it, with the owners' numbers.
    ///
    /// One look at the key's shard is enough, unless several share the lock: their records may be anywhere.
    pub(super) fn holders_at(&self, key: &KeyRef<'_>, filter: &Filter) -> Vec<(u32, HolderInfo)> {
        let hash = self.hash(key);
        let (now, mut bytes, mut holders) = (self.now(), Vec::new(), Vec::new());
        match self.only_holder_at(hash, key) {
            OnlyHolder::Nobody => return holders,
            OnlyHolder::This(index, held) => {
                let hold = self.hold_at(index, self.records.get(index), held, filter, (now, &mut bytes));
                holders.extend(hold.map(|hold| (held.owner, hold)));
                return holders;
            }
            OnlyHolder::Several => {}
        }
        self.records.for_each(usize::MAX, |index, record| {
            if let Some(held) = record.held().filter(|held| self.table.entry(held.entry).hash() == hash) {
                let hold = self.hold_at(index, record, held, filter, (now, &mut bytes));
                holders.extend(hold.filter(|hold| hold.key.as_ref() == *key).map(|hold| (held.owner, hold)));
            }
        });
        let kept = self.all_kept();
        let kept = kept.iter().filter_map(|kept| self.kept_at(kept, filter)).filter(|hold| hold.key.as_ref() == *key);
        holders.extend(kept.map(|hold| (0, hold)));
        holders
    }

    /// Whether a key has one holder, who is known to its entry.
    fn only_holder_at(&self, hash: u64, key: &KeyRef<'_>) -> OnlyHolder {
        let shard = self.lock_shard(hash);
        let Some((index, entry)) = shard.find(hash, key) else { return OnlyHolder::Nobody };
        let word = entry.word();
        if word.is_free() {
            return OnlyHolder::Nobody;
        }
        // A session may have several holds of a lock that is held exclusively, each on record.
        let (marked, alone) = if word.is_exclusive() {
            (word.writer(), entry.counted() == 0)
        } else {
            (entry.reader.load(Ordering::Relaxed), word.readers() == 1)
        };
        let held = (alone && self.records.could_be(marked)).then(|| self.records.get(marked).held()).flatten();
        match held.filter(|held| held.entry == index) {
            Some(held) => OnlyHolder::This(marked, held),
            None => OnlyHolder::Several,
        }
    }

    /// The entry that carries a key now.
    fn entry_of(&self, key: &KeyRef<'_>) -> Option<u32> {
        let hash = self.hash(key);
        self.lock_shard(hash).find(hash, key).map(|(index, _)| index)
    }

    /// All holds that the filter lets pass.
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

    /// All waits that the filter lets pass, line by line.
    pub(crate) fn list_waiters(&self, filter: &Filter) -> Vec<WaiterInfo> {
        let mut waiters = Vec::new();
        self.for_each_line(filter, |key, line| waiters.extend(self.waits_in(key, line, filter)));
        waiters
    }

    /// Calls `visit` with every key that is waited for and that the filter is for, and with who waits for it.
    pub(super) fn for_each_line(&self, filter: &Filter, mut visit: impl FnMut(&ObjectKey, &[InLine])) {
        if self.is_forked() {
            return;
        }
        if let Some(key) = filter.only_key() {
            let line = self.entry_of(&key).and_then(|index| self.line_at(index));
            let line = line.filter(|(found, _)| filter.is_for_key(&found.as_ref()));
            return line.into_iter().for_each(|(key, line)| visit(&key, &line));
        }
        let (mut entries, mut keys) = (HashSet::new(), HashSet::new());
        self.waiters.for_each(|_, waiter| {
            // Whoever waits all the while keeps the key in the table, so one look at each line finds everybody who does. A
            // line may move to another entry meanwhile, and its waiters with it.
            while waiter.phase().is_queued() && entries.insert(waiter.entry.load(Ordering::Relaxed)) {
                let Some((key, line)) = self.line_at(waiter.entry.load(Ordering::Relaxed)) else { continue };
                if filter.is_for_key(&key.as_ref()) && keys.insert(key.clone()) {
                    visit(&key, &line);
                }
            }
        });
    }

    /// The key of an entry and its line; `None` if nobody waits for it.
    fn line_at(&self, index: u32) -> Option<(ObjectKey, Vec<InLine>)> {
        let hash = self.table.entry(index).hash();
        let (mut key, mut line, mut more): (Option<ObjectKey>, Vec<InLine>, bool) = (None, Vec::new(), true);
        let mut orders = self.deadlocks.orders();
        while more {
            // Room is made off the mutex.
            line.reserve(A_CHUNK);
            let shard = self.lock_shard(hash);
            if orders != self.deadlocks.orders() {
                // The order of this line may have changed between two chunks: it is read anew.
                orders = self.deadlocks.orders();
                line.clear();
            }
            let entry = self.table.entry(index);
            let carries = |key: &ObjectKey| entry.carries(self.table.arena(), &key.as_ref());
            if entry.hash() != hash || !shard.has(hash, index) || !key.as_ref().is_none_or(carries) {
                // Everybody has gone since.
                break;
            }
            key.get_or_insert_with(|| entry.key(self.table.arena()));
            // The line has the order that it had: behind the last one seen who still stands in it is whoever was not seen.
            let last = line.iter().rev().find(|seen| self.is_in_line(index, seen)).map(|seen| seen.index);
            more = self.read_line(entry, last, &mut line);
        }
        key.filter(|_| !line.is_empty()).map(|key| (key, line))
    }

    /// Adds those behind a waiter, or from the front, to what was seen of a line: a chunk of them. Returns whether there
    /// are more. The caller owns the shard.
    fn read_line(&self, entry: &Entry, behind: Option<u32>, line: &mut Vec<InLine>) -> bool {
        let queue = self.queue(entry);
        let mut next = match behind {
            Some(last) => queue.after(self.waiters.get(last)),
            None => queue.first(),
        };
        for _ in 0..A_CHUNK {
            let Some((index, waiter)) = next else { return false };
            line.push(InLine {
                index,
                ticket: waiter.ticket(index),
                asking: waiter.asking(),
                owner: waiter.owner.load(Ordering::Relaxed),
                since: waiter.since.load(Ordering::Relaxed),
            });
            next = queue.after(waiter);
        }
        next.is_some()
    }

    /// Whether a waiter that was seen in an entry's line is still in it. Exact for the shard's owner.
    fn is_in_line(&self, entry: u32, seen: &InLine) -> bool {
        let waiter = self.waiters.get(seen.index);
        // The phase first: if it is a later request's, the ticket is seen to be another.
        waiter.phase().is_queued()
            && waiter.entry.load(Ordering::Relaxed) == entry
            && waiter.ticket(seen.index) == seen.ticket
    }

    /// What there is to tell of those in a line that the filter lets pass and that wait still.
    fn waits_in(&self, key: &ObjectKey, line: &[InLine], filter: &Filter) -> Vec<WaiterInfo> {
        let wait = |(place, seen)| self.wait_in(key, place, seen, filter);
        line.iter().enumerate().filter_map(wait).collect()
    }

    fn wait_in(&self, key: &ObjectKey, place: usize, seen: &InLine, filter: &Filter) -> Option<WaiterInfo> {
        let Asking { mode, priority, .. } = seen.asking;
        let waited = Duration::from_nanos(self.now().saturating_sub(seen.since));
        if !filter.lets_pass(mode, seen.owner, waited) {
            return None;
        }
        let owner = self.owner_label(seen.owner);
        // The name was its own if it waits still: until then its number is nobody else's.
        let waiter = self.waiters.get(seen.index);
        let still = waiter.phase().is_queued() && waiter.ticket(seen.index) == seen.ticket;
        if !still || !filter.is_for_owner(&owner.name, owner.source) {
            return None;
        }
        Some(WaiterInfo {
            key: key.clone(),
            mode,
            owner: owner.name,
            source: owner.source,
            session: seen.owner & SESSION != 0,
            priority,
            waited,
            upgrade: seen.asking.goes_first(),
            position: place + 1,
        })
    }

    /// Waits that the filter lets pass, of owners whose numbers are meant, with these numbers.
    pub(super) fn waits_where(&self, filter: &Filter, is_meant: impl Fn(u32) -> bool) -> Vec<(u32, WaiterInfo)> {
        let mut waits = Vec::new();
        self.for_each_line(filter, |key, line| {
            let meant = line.iter().enumerate().filter(|(_, seen)| is_meant(seen.owner));
            let wait = |(place, seen): (usize, &InLine)| Some((seen.owner, self.wait_in(key, place, seen, filter)?));
            waits.extend(meant.filter_map(wait));
        });
        waits
    }

    /// What a waiter of which only the index is known waits for, if it stands in line for this owner.
    pub(super) fn wait_of(&self, index: u32, owner: u32) -> Option<WaiterInfo> {
        let waiter = self.waiters.get(index);
        let (key, line) = self.line_at(waiter.entry.load(Ordering::Relaxed))?;
        let place = line.iter().position(|seen| seen.index == index && seen.owner == owner)?;
        self.wait_in(&key, place, &line[place], &Filter::new())
    }
}
