//! Listing waiters.

use super::Filter;
use crate::engine::Core;
use crate::hold::SESSION;
use crate::key::{KeyRef, ObjectKey};
use crate::listed::WaiterInfo;
use crate::sync::atomic::Ordering;
use crate::table::Entry;
use crate::wait::{Asking, Ticket};
use std::collections::HashSet;
use std::time::Duration;

/// How many waiters are copied under a shard's mutex at a time.
const A_CHUNK: usize = if cfg!(loom) { 2 } else { 256 };

/// A copy of a waiter in a queue.
pub(super) struct InLine {
    pub(super) index: u32,
    ticket: Ticket,
    asking: Asking,
    owner: u32,
    pub(super) since: u64,
}

impl Core {
    /// Lists all waiters that the filter lets pass, queue by queue.
    pub(crate) fn list_waiters(&self, filter: &Filter) -> Vec<WaiterInfo> {
        let mut waiters = Vec::new();
        self.for_each_line(filter, |key, line| waiters.extend(self.waits_in(key, line, filter)));
        waiters
    }

    /// Calls `visit` with every key that has waiters, and with its queue.
    ///
    /// Keys that the filter is not for are left out.
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
            // A waiter that waits all the while keeps the key in the table, so one look at each queue finds it. A queue may
            // move to another entry meanwhile, and its waiters with it.
            while waiter.phase().is_queued() && entries.insert(waiter.entry.load(Ordering::Relaxed)) {
                let Some((key, line)) = self.line_at(waiter.entry.load(Ordering::Relaxed)) else { continue };
                if filter.is_for_key(&key.as_ref()) && keys.insert(key.clone()) {
                    visit(&key, &line);
                }
            }
        });
    }

    /// Returns the entry that has a key now.
    fn entry_of(&self, key: &KeyRef<'_>) -> Option<u32> {
        let hash = self.hash(key);
        self.lock_shard(hash).find(hash, key).map(|(index, _)| index)
    }

    /// Returns the key of an entry and a copy of its queue; `None` without waiters.
    fn line_at(&self, index: u32) -> Option<(ObjectKey, Vec<InLine>)> {
        let hash = self.table.entry(index).hash();
        let (mut key, mut line, mut more): (Option<ObjectKey>, Vec<InLine>, bool) = (None, Vec::new(), true);
        let mut orders = self.deadlocks.orders();
        while more {
            // Memory is allocated without the mutex.
            line.reserve(A_CHUNK);
            let shard = self.lock_shard(hash);
            if orders != self.deadlocks.orders() {
                // The order of this queue may have changed between two chunks: it is read anew.
                orders = self.deadlocks.orders();
                line.clear();
            }
            let entry = self.table.entry(index);
            let carries = |key: &ObjectKey| entry.carries(self.table.arena(), &key.as_ref());
            if entry.hash() != hash || !shard.has(hash, index) || !key.as_ref().is_none_or(carries) {
                // All waiters have left since.
                break;
            }
            key.get_or_insert_with(|| entry.key(self.table.arena()));
            // The order is unchanged: the waiters not copied yet are behind the last copied one that still waits.
            let last = line.iter().rev().find(|seen| self.is_in_line(index, seen)).map(|seen| seen.index);
            more = self.read_line(entry, last, &mut line);
        }
        key.filter(|_| !line.is_empty()).map(|key| (key, line))
    }

    /// Copies a chunk of the queue: the waiters behind `behind`, or from the front.
    ///
    /// Returns whether there are more. Caller holds: shard mutex.
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

    /// Returns whether a waiter that was copied is still in the queue of the entry.
    ///
    /// Exact for a caller that holds the shard mutex.
    fn is_in_line(&self, entry: u32, seen: &InLine) -> bool {
        let waiter = self.waiters.get(seen.index);
        // The phase comes first: if it is of a later request, the ticket below is another one.
        waiter.phase().is_queued()
            && waiter.entry.load(Ordering::Relaxed) == entry
            && waiter.ticket(seen.index) == seen.ticket
    }

    /// Describes the waiters of a queue that still wait and that the filter lets pass.
    fn waits_in(&self, key: &ObjectKey, line: &[InLine], filter: &Filter) -> Vec<WaiterInfo> {
        let wait = |(place, seen)| self.wait_in(key, place, seen, filter);
        line.iter().enumerate().filter_map(wait).collect()
    }

    /// Describes a waiter at a place of a queue.
    ///
    /// Returns `None` if it waits no more, or the filter rejects it.
    fn wait_in(&self, key: &ObjectKey, place: usize, seen: &InLine, filter: &Filter) -> Option<WaiterInfo> {
        let Asking { mode, priority, .. } = seen.asking;
        let waited = Duration::from_nanos(self.now().saturating_sub(seen.since));
        if !filter.lets_pass(mode, seen.owner, waited) {
            return None;
        }
        let owner = self.owner_label(seen.owner);
        // If it still waits, the name is its own: its number is not reused before.
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

    /// Lists the waiters of the owners that are meant, with the numbers of the owners.
    pub(super) fn waits_where(&self, filter: &Filter, is_meant: impl Fn(u32) -> bool) -> Vec<(u32, WaiterInfo)> {
        let mut waits = Vec::new();
        self.for_each_line(filter, |key, line| {
            let meant = line.iter().enumerate().filter(|(_, seen)| is_meant(seen.owner));
            let wait = |(place, seen): (usize, &InLine)| Some((seen.owner, self.wait_in(key, place, seen, filter)?));
            waits.extend(meant.filter_map(wait));
        });
        waits
    }

    /// Describes the waiter with this index, if it waits for this owner.
    pub(super) fn wait_of(&self, index: u32, owner: u32) -> Option<WaiterInfo> {
        let waiter = self.waiters.get(index);
        let (key, line) = self.line_at(waiter.entry.load(Ordering::Relaxed))?;
        let place = line.iter().position(|seen| seen.index == index && seen.owner == owner)?;
        self.wait_in(&key, place, &line[place], &Filter::new())
    }
}
