//! Leases: holds that expire.
//!
//! A lease is begun, renewed and judged under the mutex of its lock's shard. Only requests for the lock look at it: the
//! first waiter rechecks for the whole queue, and a request that does not wait looks, too.

use super::core::Core;
use super::local::Local;
use super::recheck::RecheckWakeup;
use super::release::no_longer_held;
use crate::error::LockError;
use crate::hold::{Grant, Held, Lost, Standing};
use crate::memory::NONE;
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::table::{Entry, LockedShard};
use crate::wait::{NEVER, Ticket};
use std::time::Duration;

/// Nanoseconds until another look at a lease that had run out and was not revoked.
const A_WHILE: u64 = 1_000_000;

impl Core {
    /// Begins the lease of a hold that was just granted; 0 nanoseconds are none.
    ///
    /// Caller holds: shard mutex.
    pub(crate) fn begin_lease(&self, grant: Grant, (index, entry): (u32, &Entry), nanos: u64, now: u64) {
        if nanos != 0 && self.records.get(grant.index()).mark_leased(grant) {
            let deadline = now.saturating_add(nanos);
            self.leases.set(grant, deadline);
            self.leases.add_end(index, deadline, entry.is_leased());
            if !entry.is_leased() {
                self.leases.forget_listed(index);
                entry.set_leased(true);
            }
            // After the mark: a guard that downgrades from now on finds that, and lists its hold.
            if self.records.get(grant.index()).mode() == Mode::Shared || entry.word().writer() != grant.index() {
                self.list_lease(index, grant);
            }
        }
    }

    /// Lists a leased hold that the word does not name. Caller holds: shard mutex.
    pub(crate) fn list_lease(&self, index: u32, grant: Grant) {
        self.leases.list(index, grant, |grant| self.is_held(grant));
    }

    /// Begins the lease of a hold, or renews it.
    pub(crate) fn renew(&self, grant: Grant, ttl: Duration) -> Result<(), LockError> {
        let nanos = nanos_of(ttl)?;
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        let (shard, held) = self.lock_shard_of_hold(grant)?;
        let entry = self.table.entry(held.entry);
        self.begin_lease(grant, (held.entry, entry), nanos, self.now());
        // The first waiter may have to recheck earlier than before. Without one, readers stay in their slots.
        if !self.queue(entry).is_empty() {
            self.grant_waiters_and_unlock(self.local(), shard, held.entry, entry, entry.hash(), None);
        }
        Ok(())
    }

    /// How long a hold is safe from now on; `None` is for ever.
    pub(crate) fn remaining(&self, grant: Grant) -> Result<Option<Duration>, LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        self.standing(grant)?;
        let deadline = self.leases.deadline(grant);
        Ok(deadline.map(|deadline| Duration::from_nanos(deadline.saturating_sub(self.now()))))
    }

    /// Whether a hold is there and safe at this moment.
    pub(crate) fn is_valid(&self, grant: Grant) -> bool {
        self.remaining(grant).is_ok_and(|remaining| remaining.is_none_or(|left| !left.is_zero()))
    }

    /// Returns whether a grant is held, with or without a guard, and if not, why.
    pub(crate) fn standing(&self, grant: Grant) -> Result<(), LockError> {
        let standing = match self.records.could_be(grant.index()) {
            true => self.records.get(grant.index()).standing(grant),
            false => Standing::Unknown,
        };
        if let Standing::Held { .. } = standing { Ok(()) } else { Err(no_longer_held(grant, standing)) }
    }

    /// Locks the shard of a grant's hold.
    ///
    /// While the mutex is held, only the holder itself can end the hold.
    pub(crate) fn lock_shard_of_hold(&self, grant: Grant) -> Result<(LockedShard<'_>, Held), LockError> {
        loop {
            self.standing(grant)?;
            let record = self.records.get(grant.index());
            let is_its = |held: &Held| held.grant(grant.index()) == grant;
            let Some(held) = record.held().filter(is_its) else {
                return Err(LockError::NotHeld { grant: grant.to_raw() });
            };
            let shard = self.lock_shard(self.table.entry(held.entry).hash());
            // An entry that is held keeps its key, so if it still is, this is its shard.
            match record.held().filter(is_its) {
                Some(now) if !self.is_in_word(grant.index(), &now) => {
                    return Err(LockError::NotHeld { grant: grant.to_raw() });
                }
                Some(now) if now.entry == held.entry => return Ok((shard, now)),
                _ => {}
            }
        }
    }

    /// Leased holds of a lock. The caller owns the shard.
    fn for_each_lease(&self, index: u32, entry: &Entry, mut visit: impl FnMut(Grant, u64)) {
        let mut look = |record_index: u32| {
            let held = self.records.get(record_index).held();
            if let Some(held) = held.filter(|held| held.leased && held.entry == index)
                && let Some(deadline) = self.leases.deadline(held.grant(record_index))
            {
                visit(held.grant(record_index), deadline);
            }
        };
        // Whatever its mode: a guard that is about to downgrade has a reader's record while the word names it.
        let writer = entry.word().writer();
        if writer != NONE {
            look(writer);
        }
        self.leases.for_each_listed(index, |grant| look(grant.index()));
    }

    /// Whether a lease of a held lock has run out. The caller owns the shard.
    pub(crate) fn has_expired_lease(&self, index: u32, entry: &Entry) -> bool {
        self.next_expiry(index, entry).is_some_and(|next| next <= self.now())
    }

    /// Returns when the first lease of a held lock may run out.
    ///
    /// It is exact once that moment has come. Until then no thread searches for the holders, of which there may be many, in
    /// any place. Caller holds: shard mutex.
    pub(crate) fn next_expiry(&self, index: u32, entry: &Entry) -> Option<u64> {
        let first = self.leases.first_end(index);
        if entry.is_shut() || first > self.now() {
            return Some(first);
        }
        let mut next = None;
        self.for_each_lease(index, entry, |_, deadline| {
            next = Some(next.map_or(deadline, |next: u64| next.min(deadline)))
        });
        match next {
            Some(next) => self.leases.set_first_end(index, next),
            None => {
                entry.set_leased(false);
                self.leases.forget_listed(index);
            }
        }
        next
    }

    /// Has the first waiter recheck when a lease of the lock may run out.
    ///
    /// Caller holds: shard mutex. It delivers the result once it has released that.
    pub(crate) fn watch_leases(&self, index: u32, entry: &Entry) -> Option<RecheckWakeup> {
        let (_, first) = self.queue(entry).first()?;
        let next = self.next_expiry(index, entry)?;
        self.look_again(first, next)
    }

    /// Revokes the lock that a request waits for, if its lease has run out.
    ///
    /// Returns when to recheck.
    pub(crate) fn look_at_leases(&self, ticket: Ticket) -> u64 {
        let waiter = self.waiters.get(ticket.index());
        loop {
            let index = waiter.entry.load(Ordering::Relaxed);
            if waiter.ticket(ticket.index()) != ticket || !waiter.phase().is_queued() {
                return NEVER;
            }
            let entry = self.table.entry(index);
            let hash = entry.hash();
            let shard = self.lock_shard(hash);
            if waiter.entry.load(Ordering::Relaxed) != index || entry.hash() != hash {
                continue;
            }
            if !waiter.phase().is_queued() || waiter.ticket(ticket.index()) != ticket || !entry.is_leased() {
                return NEVER;
            }
            let (next, now) = (self.next_expiry(index, entry).unwrap_or(NEVER), self.now());
            if next > now {
                return next;
            }
            drop(shard);
            if !self.revoke_expired(self.local(), index) {
                // Released or renewed in this moment.
                return now.saturating_add(A_WHILE);
            }
        }
    }

    /// Revokes the expired holds of a lock, or ends its lock delay.
    ///
    /// Returns whether there was one.
    pub(crate) fn revoke_expired(&self, local: &Local, index: u32) -> bool {
        let entry = self.table.entry(index);
        let shard = self.lock_shard(entry.hash());
        let now = self.now();
        let until = self.leases.first_end(index);
        let shut = entry.is_shut() && until <= now;
        let mut expired = Vec::new();
        self.for_each_lease(index, entry, |grant, deadline| expired.extend((deadline <= now).then_some(grant)));
        drop(shard);
        // A hold that was renewed, or upgraded, is met more than once.
        expired.sort_unstable_by_key(|grant| grant.to_raw());
        expired.dedup();
        if shut {
            return self.open(local, index, until);
        }
        !self.revoke(local, &expired, Lost::Expired).is_empty()
    }
}

/// A time to live in nanoseconds.
pub(crate) fn nanos_of(ttl: Duration) -> Result<u64, LockError> {
    if ttl.is_zero() {
        let problem = "it is above zero: a lease of zero would be lost immediately".into();
        return Err(LockError::InvalidConfig { setting: "ttl", problem });
    }
    Ok(u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::steps_of;
    use crate::{FastObjectLockManager, LockRequest};

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn try_of_leased_lock_searches_no_holds() {
        let locks = FastObjectLockManager::new();
        let keys: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let all: Vec<_> = keys.iter().map(|key| locks.try_acquire_write_lock("b", key, "me").unwrap()).collect();
        let read = LockRequest::read(("b", "hot")).ttl(LONG);
        let readers = [locks.lock(read).blocking().unwrap(), locks.lock(read.ttl(2 * LONG)).blocking().unwrap()];
        let write = LockRequest::write(("b", "hot"));
        let refused = || assert!(locks.lock(write).try_now().is_err());
        assert_eq!(steps_of(refused), 0);
        // One of them is renewed, another ends: no search is needed before the moment that was known.
        readers[1].renew(LONG).unwrap();
        let [stays, goes] = readers;
        drop(goes);
        assert_eq!(steps_of(refused), 0);
        // A lease that has run out is looked for, found, and taken away.
        stays.renew(Duration::from_nanos(1)).unwrap();
        while stays.is_valid() {
            std::thread::yield_now();
        }
        assert!(steps_of(|| drop(locks.lock(write).try_now().unwrap())) > 0);
        assert!(stays.try_release().is_err());
        drop(all);
    }

    /// Other locks are held, and a writer had a lease before.
    #[test]
    fn lease_that_was_released_searches_no_holds() {
        let locks = FastObjectLockManager::new();
        let keys: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let all: Vec<_> = keys.iter().map(|key| locks.try_acquire_write_lock("b", key, "me").unwrap()).collect();
        let (read, write) = (LockRequest::read(("b", "hot")), LockRequest::write(("b", "hot")));
        for leased in [write, read] {
            let held = locks.lock(leased.ttl(Duration::from_nanos(1))).blocking().unwrap();
            let began = std::time::Instant::now();
            drop(held);
            let readers = [locks.lock(read).blocking().unwrap(), locks.lock(read).blocking().unwrap()];
            while began.elapsed() < Duration::from_micros(10) {
                std::thread::yield_now();
            }
            let steps = steps_of(|| assert!(locks.lock(write).try_now().is_err()));
            assert!(steps <= 200, "{steps} steps, to name a holder and to find no lease");
            drop(readers);
        }
        drop(all);
    }

    #[test]
    fn renewals_leave_no_trace() {
        let locks = FastObjectLockManager::new();
        let read = LockRequest::read(("b", "hot")).ttl(LONG);
        let held = locks.lock(read).blocking().unwrap();
        for _ in 0..10_000 {
            held.renew(LONG).unwrap();
            drop(locks.lock(read).blocking().unwrap());
        }
        let mut listed = 0;
        let shard = locks.core().lock_shard(locks.core().hash(&read.key));
        let (index, _) = shard.find(locks.core().hash(&read.key), &read.key).expect("held");
        locks.core().leases.for_each_listed(index, |_| listed += 1);
        assert!((1..=40).contains(&listed), "{listed}");
    }

    #[test]
    fn downgraded_lease_is_found() {
        let locks = FastObjectLockManager::new();
        let mut held = locks.lock(LockRequest::write(("b", "o")).ttl(Duration::from_nanos(1))).blocking().unwrap();
        held.downgrade();
        let other = locks.lock(LockRequest::read(("b", "o"))).blocking().unwrap();
        while held.is_valid() {
            std::thread::yield_now();
        }
        drop(other);
        drop(locks.lock(LockRequest::write(("b", "o"))).try_now().expect("it has run out"));
        assert!(held.try_release().is_err());
    }

    #[test]
    fn renewed_lease_is_lost_once() {
        let locks = FastObjectLockManager::new();
        let read = LockRequest::read(("b", "o"));
        let held = locks.lock(read.ttl(LONG)).blocking().unwrap();
        held.renew(Duration::from_nanos(1)).unwrap();
        while held.is_valid() {
            std::thread::yield_now();
        }
        let events = locks.subscribe(crate::EventOptions::default());
        drop(locks.lock(LockRequest::write(("b", "o"))).try_now().expect("it has run out"));
        let seen: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(held.try_release().is_err());
    }

    #[test]
    fn moved_lock_keeps_its_first_expiry() {
        let locks = FastObjectLockManager::new();
        let read = LockRequest::read(("b", "o"));
        let (stays, goes) = (locks.lock(read.ttl(LONG)).blocking().unwrap(), locks.lock(read).blocking().unwrap());
        goes.renew(Duration::from_nanos(1)).unwrap();
        let taken = std::iter::repeat_with(|| locks.expire(&crate::Filter::all())).find(|taken| !taken.is_empty());
        assert_eq!(taken.map(|taken| taken.len()), Some(1));
        let write = LockRequest::write(("b", "o"));
        let refused = || assert!(locks.lock(write).try_now().is_err());
        // The one that went had made the moment come; it is found out once.
        refused();
        let looks_for_a_name = steps_of(refused);
        assert_eq!(steps_of(refused), looks_for_a_name);
        stays.renew(Duration::from_nanos(1)).unwrap();
        while stays.is_valid() {
            std::thread::yield_now();
        }
        drop(locks.lock(write).try_now().expect("it has run out"));
        drop((stays, goes));
    }
}
