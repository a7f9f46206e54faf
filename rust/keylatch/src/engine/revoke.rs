//! Revoking a hold: by force, or because its lease ran out and a request waits.
//!
//! A detached grant is released in its holder's place; a compare-and-swap of its record decides which of the two does it. A
//! guard is not asked: on its fast path it looks at its record and at the lock's word, and may be anywhere in between. So the
//! revoker *raises* the word's generation, and then looks which hold it raised:
//!
//! * A writer's release swaps from the word it noted, which names its record. If the word that was raised named the
//!   record, and the record still has the grant's generation, that swap fails for ever, and the guard comes to the shard.
//! * A reader announces its release before it looks at the word, and asks after that look whether it is being revoked. If
//!   nothing was announced when the word had been raised, each later look of the guard finds REVOKING, and it comes to the
//!   shard. If its release was announced, the guard is left to complete it.
//!
//! At the shard, LOST says that the hold was revoked. A word is also raised because of another hold, and for a revocation
//! that is then left undone. Such a holder finds no LOST and releases under the mutex.

use super::core::Core;
use super::local::Local;
use crate::hold::{Grant, Held, Lost};
use crate::memory::NONE;
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::table::{Entry, LockedShard};
use crate::wait::{Phase, Waiter, Wakeup};

impl Core {
    /// Revokes the holds of these grants, and notifies their listeners.
    ///
    /// With `Expired` only those whose lease has run out. Returns the revoked ones.
    pub(crate) fn revoke(&self, local: &Local, grants: &[Grant], why: Lost) -> Vec<Grant> {
        let described = self.about_to_lose(grants);
        let (mut revoked, mut watched) = (Vec::new(), Vec::new());
        for grant in grants {
            if let Some(was_watched) = self.revoke_one(local, *grant, why) {
                revoked.push(*grant);
                watched.extend(was_watched.then_some(*grant));
            }
        }
        watched.into_iter().for_each(|grant| self.losses.notify(grant, why));
        self.announce_loss(described, &revoked, why);
        self.open_a_few(local);
        revoked
    }

    /// Revokes a hold. Returns whether it has listeners; `None` if it has ended.
    fn revoke_one(&self, local: &Local, grant: Grant, why: Lost) -> Option<bool> {
        let (shard, held) = self.lock_shard_to_revoke(grant, why)?;
        if self.records.get(grant.index()).adopt(grant) {
            Some(self.revoke_number(local, shard, grant, why))
        } else {
            self.revoke_guard(local, shard, held.entry, grant, why)
        }
    }

    /// Locks the shard of a hold that is still to be revoked.
    ///
    /// Returns `None` if the hold has ended or its lease was renewed.
    fn lock_shard_to_revoke(&self, grant: Grant, why: Lost) -> Option<(LockedShard<'_>, Held)> {
        let (mut shard, held) = self.lock_shard_of_hold(grant).ok()?;
        let is_due = || self.leases.deadline(grant).is_some_and(|due| due <= self.now());
        let may = match why {
            Lost::Expired => is_due(),
            Lost::Permit => self.has_lost_permit(&shard, held.entry),
            Lost::Forced => true,
        };
        if !may {
            return None;
        }
        // The word counts the hold then, unless its guard announced that it leaves.
        shard.unbias(held.entry, self.table.entry(held.entry));
        Some((shard, held))
    }

    /// Revokes a detached hold, which the caller has adopted.
    ///
    /// Returns whether it has listeners.
    fn revoke_number(&self, local: &Local, shard: LockedShard<'_>, grant: Grant, why: Lost) -> bool {
        let record = self.records.get(grant.index());
        // Read now: a caller that had adopted it before may have changed its mode.
        let Some(held) = record.held() else { return false };
        let entry = self.table.entry(held.entry);
        self.pass_death_on(&shard, (held.entry, entry), grant);
        self.empty_slot(record);
        // Before another request can have the lock: a caller that sees the new holder must find this one lost. From here on
        // no listener is added either.
        let was_watched = match why.is_by_time() {
            // In one step: who learns of the loss takes the tombstone, so that the next one finds none.
            true => record.leave_tombstone(grant, why, entry.fence()),
            false => record.lose(why, entry.fence()),
        };
        self.leave_revoked(local, shard, (held.entry, grant), held.mode, why);
        if why.is_by_time() {
            let oldest = self.tombstones.remember(grant);
            oldest.into_iter().for_each(|oldest| self.reclaim_tombstone(oldest));
        } else {
            self.free_record(local, grant);
        }
        was_watched
    }

    /// Revokes a guard's hold. Returns whether it has listeners.
    ///
    /// `None` if the guard is about to release it.
    fn revoke_guard(
        &self,
        local: &Local,
        mut shard: LockedShard<'_>,
        index: u32,
        grant: Grant,
        why: Lost,
    ) -> Option<bool> {
        let entry = self.table.entry(index);
        let mode = self.raise(entry, grant)?;
        self.pass_death_on(&shard, (index, entry), grant);
        self.tombstones.keep_key(grant, entry.key(self.table.arena()));
        // Before the word is free: the next holder may change the number.
        let was_watched = self.records.get(grant.index()).lose(why, entry.fence());
        let upgrade = self.end_upgrade_of(&mut shard, entry, grant.index());
        self.leave_revoked(local, shard, (index, grant), mode, why);
        upgrade.into_iter().for_each(|(index, wakeup)| self.deliver(index, wakeup));
        Some(was_watched)
    }

    /// Prevents the guard from ending its hold, and returns the mode of the hold.
    ///
    /// `None` if the guard has released it, or announced that it will. Caller holds: shard mutex.
    fn raise(&self, entry: &Entry, grant: Grant) -> Option<Mode> {
        let record = self.records.get(grant.index());
        let mut seen = entry.word();
        loop {
            if seen.is_exclusive() && seen.writer() != grant.index() {
                // One of several that its session counts comes to the shard in any case. Its record may say that it shares,
                // while its guard is about to learn that it cannot downgrade.
                let is_counted = |held: &Held| held.counted && held.grant(grant.index()) == grant;
                return record.held().filter(is_counted).map(|_| Mode::Exclusive);
            }
            if !seen.is_exclusive() && (seen.readers() == 0 || !record.ask_to_revoke(grant)) {
                return None;
            }
            match entry.swap(seen, seen.raised()) {
                Ok(()) if seen.is_exclusive() => return record.is_of(grant).then_some(Mode::Exclusive),
                Ok(()) => return (!record.has_announced(grant)).then_some(Mode::Shared),
                Err(now) => seen = now,
            }
        }
    }

    /// Ends the wait to upgrade a revoked hold, if there is one. Returns its wakeup.
    ///
    /// Caller holds: shard mutex.
    fn end_upgrade_of(&self, shard: &mut LockedShard<'_>, entry: &Entry, record: u32) -> Option<(u32, Wakeup)> {
        if !self.records.get(record).is_upgrading() {
            return None;
        }
        let is_its = |waiter: &Waiter| waiter.asking().upgrade && waiter.record.load(Ordering::Relaxed) == record;
        // In the whole line: a reader that was in a circle may have passed it.
        let (index, waiter) = self.queue(entry).iter().find(|(_, waiter)| is_its(waiter))?;
        Some((index, self.end_wait(shard, entry, waiter, Phase::Cancelled)))
    }

    /// Ends a revoked hold in the word. After an expired writer the lock delay begins.
    fn leave_revoked(
        &self,
        local: &Local,
        mut shard: LockedShard<'_>,
        (index, grant): (u32, Grant),
        mode: Mode,
        why: Lost,
    ) {
        let entry = self.table.entry(index);
        let delayed = why == Lost::Expired && mode == Mode::Exclusive && entry.counted() <= 1;
        if delayed && self.begin_lock_delay(index, entry, grant) {
            shard.counts().releases += 1;
            self.grant_waiters_and_unlock(local, shard, index, entry, entry.hash(), None);
        } else {
            self.leave(local, shard, (index, entry), grant.index(), mode);
        }
    }

    /// Ends one of several holds that a session has of one lock.
    ///
    /// Returns `false` if it is the only one. Caller holds: shard mutex.
    pub(crate) fn leave_counted(&self, entry: &Entry, record: u32) -> bool {
        let counted = entry.counted();
        if counted <= 1 {
            return false;
        }
        entry.set_counted(counted - 1);
        let (mut place, mut here) = (None, entry.reader.load(Ordering::Relaxed));
        let mut seen = entry.word();
        if seen.writer() == record {
            // The word names the next of them.
            entry.reader.store(self.records.get(here).next_counted(), Ordering::Relaxed);
            while let Err(now) = entry.swap(seen, seen.with_writer(here)) {
                seen = now;
            }
            return true;
        }
        while here != record && here != NONE {
            (place, here) = (Some(here), self.records.get(here).next_counted());
        }
        let next = self.records.get(record).next_counted();
        match place {
            None => entry.reader.store(next, Ordering::Relaxed),
            Some(place) => self.records.get(place).set_next_counted(next),
        }
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::{Fairness, LockConfig};
    use crate::engine::acquire::{Answer, Wait};
    use crate::engine::waiting::Ended;
    use crate::error::LockError;
    use crate::hold::OwnerRef;
    use crate::manager::FastObjectLockManager;
    use crate::request::{Limit, LockRequest};
    use crate::wait::Delivery;

    /// As when a circle has a reader pass an upgrade that waits for the tier's answer.
    #[test]
    fn upgrade_behind_a_reader_ends_with_its_hold() {
        let config = LockConfig { fairness: Fairness::Fifo, deadlock_delay: None, ..LockConfig::default() };
        let locks = FastObjectLockManager::with_config(config).unwrap();
        let core = locks.core();
        let read = LockRequest::read(("b", "o"));
        let in_the_way = locks.lock(read).blocking().unwrap();
        let hold = core.try_now(read, false).unwrap();
        let upgrade = core.begin_upgrade(hold, Delivery::Thread).unwrap().expect("in line").0;
        let wanted = core.wanted(core.local(), &read);
        let Ok(Answer::Queued(reader)) = core.acquire_slow(core.local(), &wanted, Wait::InLine(Delivery::Thread))
        else {
            panic!("it passes an upgrade")
        };
        let shard = core.lock_shard(wanted.hash);
        let (_, entry) = shard.find(wanted.hash, &wanted.key).expect("held");
        core.queue(entry).leave(core.waiters.get(reader.index()));
        core.queue(entry).put_behind(reader.index(), None);
        drop(shard);
        assert_eq!(core.revoke(core.local(), &[hold], Lost::Forced), [hold]);
        assert_eq!(core.waiters.get(upgrade.index()).phase(), Phase::Cancelled, "it has nothing to wait for");
        let ended = core.finish(core.local(), upgrade.index());
        assert!(matches!(core.upgrade_ended(hold, ended, Limit::Never), Err(LockError::NotHeld { .. })));
        core.release_guard(hold);
        let Ended::Granted(Some(shared)) = core.finish(core.local(), reader.index()) else { panic!("it is shared") };
        core.release_guard(shared);
        drop(in_the_way);
        assert!(locks.lock(LockRequest::write(("b", "o"))).try_now().is_ok(), "it is free");
    }

    #[test]
    fn upgrade_ends_with_its_hold_and_no_other() {
        for lost in [0, 1] {
            let locks = FastObjectLockManager::new();
            let core = locks.core();
            let sessions = ["one", "two"].map(|name| locks.session(name));
            let read = || LockRequest::read(("b", "o"));
            let in_the_way = locks.lock(read()).blocking().unwrap();
            let holds = sessions.each_ref().map(|one| core.try_now(read().owner(OwnerRef::from(one)), false).unwrap());
            // No recheck for deadlocks is due yet.
            let waits = holds.map(|grant| core.begin_upgrade(grant, Delivery::Thread).unwrap().expect("in line").0);
            let phase = |who: usize| core.waiters.get(waits[who].index()).phase();
            let stays = 1 - lost;

            assert_eq!(core.revoke(core.local(), &[holds[lost]], Lost::Forced), [holds[lost]]);
            assert_eq!(phase(lost), Phase::Cancelled, "it has nothing to wait for");
            assert!(phase(stays).is_queued(), "another reader holds it");
            drop(in_the_way);
            assert_eq!(phase(stays), Phase::Granted);

            for who in [lost, stays] {
                let ended = core.finish(core.local(), waits[who].index());
                let upgraded = core.upgrade_ended(holds[who], ended, Limit::Never);
                assert_eq!(upgraded.is_ok(), who == stays, "{upgraded:?}");
                assert!(who == lost || locks.lock(read()).try_now().is_err(), "alone");
                core.release_guard(holds[who]);
            }
            assert!(locks.lock(LockRequest::write(("b", "o"))).try_now().is_ok(), "it is free");
            assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
        }
    }
}
