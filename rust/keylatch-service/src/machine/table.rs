//! Which keys are held by which requests, and which requests wait for them in which order.

use super::call::{Item, RequestKey};
use keylatch::{Mode, ObjectKey};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

/// A place in line at every key of a request: higher priority first, then arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) priority: Reverse<u8>,
    pub(super) arrival: u64,
}

/// A request at a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct AtKey {
    pub(super) request: RequestKey,
    pub(super) mode: Mode,
}

/// One key. It is in the table while something holds it or waits for it.
#[derive(Debug, Clone, Default)]
struct Entry {
    holders: BTreeMap<RequestKey, Mode>,
    /// Invariant: if set, `holders` has one element.
    exclusive: bool,
    queue: BTreeMap<Place, AtKey>,
}

impl Entry {
    fn allows(&self, mode: Mode) -> bool {
        self.holders.is_empty() || (mode == Mode::Shared && !self.exclusive)
    }
}

/// All keys, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    keys: BTreeMap<ObjectKey, Entry>,
    holds: usize,
}

impl Table {
    /// Keys in the table.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Holds, each reader of each key counted.
    pub(super) fn holds(&self) -> usize {
        self.holds
    }

    pub(super) fn contains(&self, key: &ObjectKey) -> bool {
        self.keys.contains_key(key)
    }

    /// Returns whether the holders of a key allow one more in this mode.
    pub(super) fn holders_allow(&self, key: &ObjectKey, mode: Mode) -> bool {
        self.keys.get(key).is_none_or(|entry| entry.allows(mode))
    }

    /// Returns whether a present waiter ahead of a place conflicts with an item.
    pub(super) fn conflicts_ahead(&self, item: &Item, place: Place, is_present: impl Fn(RequestKey) -> bool) -> bool {
        self.keys.get(&item.key).is_some_and(|entry| {
            let ahead = entry.queue.range(..place).map(|(_, waiter)| waiter);
            ahead
                .filter(|waiter| waiter.mode == Mode::Exclusive || item.mode == Mode::Exclusive)
                .any(|waiter| is_present(waiter.request))
        })
    }

    /// Returns the first waiter of a key after a place.
    pub(super) fn next_waiter(&self, key: &ObjectKey, after: Option<Place>) -> Option<(Place, AtKey)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (place, waiter) = self.keys.get(key)?.queue.range((from, Bound::Unbounded)).next()?;
        Some((*place, *waiter))
    }

    /// Keys that are waited for.
    pub(super) fn contended(&self) -> Vec<ObjectKey> {
        self.keys.iter().filter(|(_, entry)| !entry.queue.is_empty()).map(|(key, _)| key.clone()).collect()
    }

    /// Returns how many stand ahead of a place at a key.
    pub(super) fn ahead(&self, key: &ObjectKey, place: Place) -> usize {
        self.keys.get(key).map_or(0, |entry| entry.queue.range(..place).count())
    }

    pub(super) fn join(&mut self, key: &ObjectKey, place: Place, waiter: AtKey) {
        self.keys.entry(key.clone()).or_default().queue.insert(place, waiter);
    }

    pub(super) fn leave(&mut self, key: &ObjectKey, place: Place) {
        if let Some(entry) = self.keys.get_mut(key) {
            entry.queue.remove(&place);
        }
        self.forget_idle(key);
    }

    /// Makes a waiter a holder.
    pub(super) fn admit(&mut self, item: &Item, place: Place, request: RequestKey) {
        let Some(entry) = self.keys.get_mut(&item.key) else { return debug_assert!(false, "{} has no line", item.key) };
        debug_assert!(entry.allows(item.mode), "{} is granted against its holders", item.key);
        entry.queue.remove(&place);
        entry.holders.insert(request, item.mode);
        entry.exclusive = item.mode == Mode::Exclusive;
        self.holds += 1;
    }

    pub(super) fn release(&mut self, key: &ObjectKey, request: RequestKey) {
        let Some(entry) = self.keys.get_mut(key) else { return };
        if entry.holders.remove(&request).is_some() {
            entry.exclusive = false;
            self.holds -= 1;
        }
        self.forget_idle(key);
    }

    fn forget_idle(&mut self, key: &ObjectKey) {
        if self.keys.get(key).is_some_and(|entry| entry.holders.is_empty() && entry.queue.is_empty()) {
            self.keys.remove(key);
        }
    }

    /// Returns the holders of a key.
    pub(super) fn holders<'a>(&'a self, key: &ObjectKey) -> impl Iterator<Item = AtKey> + 'a {
        let holders = self.keys.get(key).into_iter().flat_map(|entry| &entry.holders);
        holders.map(|(request, mode)| AtKey { request: *request, mode: *mode })
    }

    /// Keys from a bound on, in order.
    pub(super) fn keys_from(&self, from: Bound<ObjectKey>) -> impl Iterator<Item = &ObjectKey> + use<'_> {
        self.keys.range((from, Bound::Unbounded)).map(|(key, _)| key)
    }

    /// Returns the waiters of a key, first in line first.
    pub(super) fn waiters<'a>(&'a self, key: &ObjectKey) -> impl Iterator<Item = AtKey> + 'a {
        self.keys.get(key).into_iter().flat_map(|entry| entry.queue.values().copied())
    }
}
