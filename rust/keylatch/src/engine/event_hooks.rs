//! Events that happen under a shard's mutex.
//!
//! They are noted there, where key, owner and holders are known, and delivered after the mutex is released, see
//! `grant_waiters_and_unlock`. Without subscribers, each place costs one look at a word.

use super::core::Core;
use crate::error::LockError;
use crate::hold::{Filter, Grant, Lost};
use crate::listed::HolderInfo;
use crate::memory::NONE;
use crate::observe::{Event, WaitKind, WaitOutcome};
use crate::sync::atomic::Ordering;
use crate::table::Entry;
use crate::wait::Waiter;
use std::collections::HashSet;
use std::time::Duration;

impl Core {
    /// Notes that a wait has ended.
    ///
    /// Caller holds: shard mutex. The entry still has its key.
    #[inline]
    pub(crate) fn notice_wait(&self, entry: &Entry, waiter: &Waiter, now: u64, granted: bool) {
        let waited = now.saturating_sub(waiter.since.load(Ordering::Relaxed));
        if self.events.wants_wait(waited) {
            self.notice_wait_slow(entry, waiter, waited, granted);
        }
    }

    /// Counts a wait that has ended.
    #[inline]
    pub(crate) fn count_wait(&self, waiter: &Waiter, outcome: WaitOutcome, now: u64) {
        let asking = waiter.asking();
        let waited = now.saturating_sub(waiter.since.load(Ordering::Relaxed));
        self.tally.waits.ended(WaitKind::of(asking.mode, asking.upgrade), outcome, waited, now);
    }

    /// Learns from a wait that ended by a grant or at its deadline.
    #[inline]
    pub(crate) fn learn_from_wait(&self, waiter: &Waiter, now: u64, granted: bool) {
        if let Some(adaptive) = &self.adaptive {
            let waited = now.saturating_sub(waiter.since.load(Ordering::Relaxed));
            if granted { adaptive.observe(waited, now) } else { adaptive.observe_timeout(waited, now) }
        }
    }

    /// Learns from a request whose deadline passed before it could wait.
    ///
    /// On a busy machine that happens to short timeouts.
    pub(crate) fn learn_from_no_wait(&self, after: Duration) {
        if let Some(adaptive) = &self.adaptive
            && !after.is_zero()
        {
            adaptive.observe_timeout(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX), self.now());
        }
    }

    #[cold]
    fn notice_wait_slow(&self, entry: &Entry, waiter: &Waiter, waited: u64, granted: bool) {
        let owner = self.owner_label(waiter.owner.load(Ordering::Relaxed));
        self.events.note(Event::SlowWait {
            key: entry.key(self.table.arena()),
            mode: waiter.asking().mode,
            owner: owner.name,
            source: owner.source,
            waited: Duration::from_nanos(waited),
            granted,
        });
    }

    /// Names the holders in the error and the event of a timeout.
    ///
    /// Caller holds: shard mutex. It has not woken the waiter yet.
    #[cold]
    pub(crate) fn explain_timeout(&self, entry: &Entry, waiter: &Waiter, now: u64) {
        let waited = Duration::from_nanos(now.saturating_sub(waiter.since.load(Ordering::Relaxed)));
        let index = waiter.entry.load(Ordering::Relaxed);
        let own = match waiter.asking() {
            asking if asking.upgrade => waiter.record.load(Ordering::Relaxed),
            asking if asking.rises => self.one_read_of(waiter.owner.load(Ordering::Relaxed), index),
            _ => NONE,
        };
        let holders = self.holders_beside(index, entry, own);
        let key = entry.key(self.table.arena());
        if self.events.has_listeners() {
            let owner = self.owner_label(waiter.owner.load(Ordering::Relaxed));
            let (key, mode, holders) = (key.clone(), waiter.asking().mode, holders.clone());
            let (owner, source) = (owner.name, owner.source);
            self.events.note(Event::Timeout { key, mode, owner, source, waited, holders });
        }
        waiter.explain(LockError::Timeout { key, waited, holders });
    }

    /// Has a hold timed that begins now, if a subscriber wants long holds.
    ///
    /// Only the slow path calls it: while there is such a subscriber, there is no fast path.
    #[inline]
    pub(crate) fn time_hold(&self, grant: Grant) {
        if self.events.times_holds() {
            self.time_hold_slow(grant);
        }
    }

    #[cold]
    fn time_hold_slow(&self, grant: Grant) {
        let record = self.records.get(grant.index());
        record.stamp(self.now());
        record.mark_timed(grant);
    }

    /// Has all present holds timed. Those without a begin count from now.
    pub(crate) fn time_all_holds(&self) {
        self.records.for_each(usize::MAX, |index, record| {
            if let Some(held) = record.held() {
                self.time_hold_slow(held.grant(index));
            }
        });
    }

    /// Counts the time of a hold that ends; returns the event if it was long.
    pub(crate) fn slow_hold(&self, grant: Grant) -> Option<Event> {
        let held = self.records.get(grant.index()).held()?;
        if held.since == 0 {
            return None;
        }
        let held_for = self.now().saturating_sub(held.since);
        self.tally.hold_ended(held.mode, held_for);
        if !self.events.wants_hold(held_for) {
            return None;
        }
        let owner = self.owner_label(held.owner);
        Some(Event::SlowHold {
            key: self.guard_key(grant)?,
            mode: held.mode,
            owner: owner.name,
            source: owner.source,
            held_for: Duration::from_nanos(held_for),
        })
    }

    /// Describes holds that may be revoked, for their events.
    pub(crate) fn about_to_lose(&self, grants: &[Grant]) -> Vec<HolderInfo> {
        if !self.events.has_listeners() {
            return Vec::new();
        }
        let (now, mut bytes) = (self.now(), Vec::new());
        let mut describe = |grant: &Grant| {
            let record = self.records.get(grant.index());
            let held = record.held().filter(|held| held.grant(grant.index()) == *grant)?;
            self.hold_at(grant.index(), record, held, &Filter::new(), (now, &mut bytes))
        };
        grants.iter().filter_map(&mut describe).collect()
    }

    /// Announces the holds that were revoked. The caller holds no mutex.
    pub(crate) fn announce_loss(&self, holds: Vec<HolderInfo>, taken: &[Grant], why: Lost) {
        self.tally.revoked(why, taken.len());
        let taken: HashSet<Grant> = if holds.is_empty() { return } else { taken.iter().copied().collect() };
        for hold in holds.into_iter().filter(|hold| taken.contains(&hold.grant)) {
            self.announce(&match why {
                Lost::Expired | Lost::Permit => Event::Expired(hold),
                Lost::Forced => Event::Forced(hold),
            });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::sync::steps_of;
    use crate::{FastObjectLockManager, LockError, LockRequest};
    use std::time::Duration;

    #[test]
    fn timeout_names_holders_without_a_search() {
        let locks = FastObjectLockManager::new();
        let keys: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
        let all: Vec<_> = keys.iter().map(|key| locks.try_acquire_write_lock("b", key, "me").unwrap()).collect();
        // Last, so that their records are behind all others.
        let read = |owner| locks.lock(LockRequest::read(("b", "hot")).owner(owner)).blocking().unwrap();
        let (one, other) = (read("one"), read("other"));
        let times_out = || {
            let late = LockRequest::write(("b", "hot")).timeout(Duration::from_millis(1));
            let Err(LockError::Timeout { holders, .. }) = locks.lock(late).blocking() else { panic!("it is held") };
            (holders.named.iter().map(|holder| holder.owner.to_string()).collect::<Vec<_>>(), holders.more)
        };
        let mut named = (Vec::new(), 0);
        let steps = steps_of(|| named = times_out());
        assert_eq!(named, (vec!["one".to_owned()], 1));
        assert!(steps < 600, "{steps}");
        // The one that is marked has left: the other is counted, and named only where that is quickly found.
        drop(one);
        let steps = steps_of(|| named = times_out());
        assert_eq!(named.0.len() as u32 + named.1, 1);
        assert!(steps < 600, "{steps}");
        drop((other, all));
    }
}
