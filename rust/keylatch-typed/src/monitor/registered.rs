//! What a monitor knows: the locks with their numbers and series, and the managers.

use super::series::{Sample, Series};
use crate::id::LockId;
use crate::stats::{Counters, LockStats};
use keylatch::FastObjectLockManager;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The fewest locks among which a registration looks for dropped ones.
///
/// It looks again when there are twice as many as after the last look.
const FEW_LOCKS: usize = 64;

#[derive(Default)]
pub(super) struct Registered {
    pub(super) locks: Vec<RegisteredLock>,
    pub(super) managers: Vec<(LockId, Arc<FastObjectLockManager>)>,
    series: Series,
    /// Where the latest lock of an id is.
    latest: HashMap<LockId, usize>,
    /// Ids with the addresses of their statistics.
    known: HashSet<(LockId, usize)>,
    /// Of each id as it is shown.
    shown: HashMap<String, Shown>,
    /// The number of locks at which those that were dropped are looked for.
    full: usize,
}

pub(super) struct RegisteredLock {
    pub(super) id: LockId,
    /// Which lock that is shown under this id it is: 1 for the first.
    ///
    /// It stays the same.
    pub(super) number: u32,
    pub(super) stats: Arc<LockStats>,
    /// Which series it is part of.
    series: usize,
    /// What it had counted when it was registered, if anything.
    before: Option<Box<Counters>>,
    /// Acquisitions and timeouts until the last periodic report.
    reported: (u64, u64),
}

/// The locks that are shown under one id. Different ids may look the same.
#[derive(Default)]
struct Shown {
    locks: usize,
    last_number: u32,
}

impl RegisteredLock {
    /// Returns what the lock has counted since it was registered.
    pub(super) fn counters(&self) -> Counters {
        let counters = self.stats.counters();
        self.before.as_ref().map_or(counters, |before| counters.since(before))
    }
}

impl RegisteredLock {
    /// Returns acquisitions and timeouts since the last call.
    pub(super) fn requests_since_report(&mut self) -> (u64, u64) {
        let counters = self.stats.counters();
        let now = (counters.acquisitions(), counters.timeouts());
        let before = std::mem::replace(&mut self.reported, now);
        (now.0 - before.0, now.1 - before.1)
    }
}

impl Registered {
    pub(super) fn register(&mut self, id: LockId, stats: Arc<LockStats>) {
        if !self.known.insert((id.clone(), Arc::as_ptr(&stats).addr())) {
            return;
        }
        if self.locks.len() >= self.full {
            self.remove_dropped();
            self.full = (self.locks.len() * 2).max(FEW_LOCKS);
        }
        let before = stats.counters();
        // The first report judges what came after the registration.
        let reported = (before.acquisitions(), before.timeouts());
        let before = (!before.is_zero()).then(|| Box::new(before));
        let text = id.to_string();
        let series = self.series.of(&text);
        let shown = self.shown.entry(text).or_default();
        (shown.locks, shown.last_number) = (shown.locks + 1, shown.last_number + 1);
        let number = shown.last_number;
        self.latest.insert(id.clone(), self.locks.len());
        self.locks.push(RegisteredLock { id, number, stats, series, before, reported });
    }

    /// Returns what each time series shows now.
    pub(super) fn sample(&mut self) -> Vec<Sample> {
        self.series.sample(self.locks.iter().map(|lock| (lock.series, lock.counters(), lock.stats.figures())))
    }

    /// Returns the lock that was registered last under this id.
    pub(super) fn get(&self, id: &LockId) -> Option<&RegisteredLock> {
        self.latest.get(id).map(|index| &self.locks[*index])
    }

    /// Removes the locks of this id, and returns how many there were.
    pub(super) fn remove(&mut self, id: &LockId) -> usize {
        self.remove_if(|lock| lock.id == *id)
    }

    /// Removes the locks that were dropped.
    pub(super) fn remove_dropped(&mut self) {
        self.remove_if(|lock| lock.stats.is_over());
    }

    /// Removes locks; what they have counted stays with their series.
    fn remove_if(&mut self, is_removed: impl Fn(&RegisteredLock) -> bool) -> usize {
        let removed: Vec<_> = self.locks.extract_if(.., |lock| is_removed(lock)).collect();
        for lock in &removed {
            self.series.keep(lock.series, &lock.counters());
            self.known.remove(&(lock.id.clone(), Arc::as_ptr(&lock.stats).addr()));
            let text = lock.id.to_string();
            let is_last = self.shown.get_mut(&text).is_some_and(|shown| {
                shown.locks -= 1;
                shown.locks == 0
            });
            if is_last {
                self.shown.remove(&text);
            }
        }
        if !removed.is_empty() {
            self.latest = self.locks.iter().enumerate().map(|(index, lock)| (lock.id.clone(), index)).collect();
        }
        removed.len()
    }
}
