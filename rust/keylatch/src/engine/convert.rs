//! From one mode to the other without letting go.

use super::core::Core;
use super::release::no_longer_held;
use super::waiting::Ended;
use crate::error::LockError;
use crate::hold::{Grant, Standing};
use crate::mode::Mode;
use crate::request::Limit;
use crate::sync::atomic::Ordering;
use crate::table::{Entry, LockedShard, Word};
use crate::tier::TierError;
use crate::wait::{Asking, Delivery, Phase, Ticket};

impl Core {
    /// Turns an exclusive hold into a shared one, without a gap for another writer.
    pub(crate) fn downgrade(&self, grant: Grant) {
        let record = self.records.get(grant.index());
        self.end_if_forgotten(grant);
        let Some((index, Mode::Exclusive)) = record.held_by_guard(grant) else { return };
        if self.is_forked() {
            return;
        }
        let entry = self.table.entry(index);
        let (noted, shard) = Word::from_note(record.note(), grant.index());
        let mut seen = noted;
        // Before the word: a revoker that finds a reader in the word finds it on record as one.
        let was_leased = record.share();
        // From the word as it was noted: it has changed if the hold was revoked, or is counted by its session. One of the
        // further holds of a session keeps no note. A reader's lease is listed, under the mutex.
        while !seen.has_waiters() && !seen.is_barred() && !record.is_counted() && !was_leased {
            match entry.swap(seen, seen.downgraded()) {
                // A reader's note is its shard alone: it begins its release with a look at the word.
                Ok(()) => return,
                Err(now) if now.has_writer_of(noted) => seen = now,
                Err(_) => break,
            }
        }
        self.downgrade_slow(grant, index, shard);
    }

    /// As `downgrade`, and says whether the hold was still there.
    pub(crate) fn downgrade_or_tell(&self, grant: Grant) -> Result<(), LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        self.downgrade(grant);
        // Asked afterwards: a hold that is there now was there before.
        self.standing(grant)
    }

    #[cold]
    fn downgrade_slow(&self, grant: Grant, index: u32, shard_index: u32) {
        let shard = self.table.lock(shard_index);
        let record = self.records.get(grant.index());
        let entry = self.table.entry(index);
        // A session that holds it several times would share with others what it has alone.
        if record.lost(grant).is_some() || entry.counted() > 1 {
            return record.set_mode(Mode::Exclusive);
        }
        entry.set_counted(0);
        if record.is_leased() {
            self.list_lease(index, grant);
        }
        let mut seen = entry.word();
        while let Err(now) = entry.swap(seen, seen.downgraded()) {
            seen = now;
        }
        // Readers who waited may come in now.
        self.grant_waiters_and_unlock(self.local(), shard, index, entry, entry.hash(), None);
    }

    /// Turns a shared hold into an exclusive one, if it is the only hold now.
    ///
    /// Under a tier it sleeps until that has answered.
    pub(crate) fn try_upgrade(&self, grant: Grant) -> Result<(), LockError> {
        match self.begin_to_try_upgrade(grant, || Delivery::Thread)? {
            None => Ok(()),
            Some((ticket, hash)) => {
                let ended = self.wait_blocking(self.local(), ticket.index(), hash, None);
                self.upgrade_ended(grant, ended, Limit::Never)
            }
        }
    }

    /// Upgrades immediately, and returns `None`, or queues for the tier's answer.
    ///
    /// It fails if another thread of this process shares the lock.
    pub(crate) fn begin_to_try_upgrade(
        &self,
        grant: Grant,
        delivery: impl FnOnce() -> Delivery,
    ) -> Result<Option<(Ticket, u64)>, LockError> {
        let Some((index, entry)) = self.to_upgrade(grant)? else { return Ok(None) };
        let Some(shard) = self.upgrade_or_lock(grant, (index, entry))? else { return Ok(None) };
        let owner = self.records.get(grant.index()).owner();
        if self.shares_alone(owner, (index, entry)) && self.may_try_tier(&shard, index, entry) {
            drop(shard);
            return self.begin_upgrade_or_try(grant, delivery(), true);
        }
        let key = entry.key(self.table.arena());
        Err(LockError::WouldBlock { key, holders: self.holders_beside(index, entry, grant.index()) })
    }

    /// Shares the lock again if the tier does not vouch for the upgrade.
    fn check_upgrade(&self, grant: Grant) -> Result<(), LockError> {
        match self.tiered() {
            Some(tiered) if !tiered.tier().is_current() => {
                self.downgrade(grant);
                Err(LockError::Tier { error: TierError::term_over() })
            }
            _ => Ok(()),
        }
    }

    /// Turns a shared hold into an exclusive one, once the other readers are gone.
    ///
    /// It goes ahead of all other waiters.
    pub(crate) fn upgrade_blocking(&self, grant: Grant, limit: Limit) -> Result<(), LockError> {
        let deadline = self.deadline(limit);
        match self.begin_upgrade(grant, Delivery::Thread)? {
            None => Ok(()),
            Some((ticket, hash)) => {
                let ended = self.wait_blocking(self.local(), ticket.index(), hash, deadline);
                self.upgrade_ended(grant, ended, limit)
            }
        }
    }

    /// Upgrades immediately, and returns `None`, or queues for it.
    pub(crate) fn begin_upgrade(&self, grant: Grant, delivery: Delivery) -> Result<Option<(Ticket, u64)>, LockError> {
        self.begin_upgrade_or_try(grant, delivery, false)
    }

    /// As `begin_upgrade`; if it `tries`, it waits for the tier's answer alone.
    fn begin_upgrade_or_try(
        &self,
        grant: Grant,
        delivery: Delivery,
        tries: bool,
    ) -> Result<Option<(Ticket, u64)>, LockError> {
        let Some((index, entry)) = self.to_upgrade(grant)? else { return Ok(None) };
        self.note_upgrade_order(self.records.get(grant.index()).owner(), grant);
        let Some(mut shard) = self.upgrade_or_lock(grant, (index, entry))? else { return Ok(None) };
        let hash = entry.hash();
        let (owner, priority) = {
            let held = self.records.get(grant.index()).held();
            held.map_or((0, 0), |held| (held.owner, held.priority))
        };
        let opponent = self.queue(entry).first().filter(|(_, first)| first.asking().goes_first());
        // Two sessions are a deadlock like others, but for that there is nothing to wait for before looking.
        let deadlock =
            opponent.is_some_and(|(_, first)| self.detects(first.owner.load(Ordering::Relaxed)) && self.detects(owner));
        // What its session waits for makes this hold exclusive, too.
        let rises = self.counts_holds_of(owner) && self.rises_already(entry, owner);
        if rises || (opponent.is_some() && !deadlock) {
            let key = entry.key(self.table.arena());
            return Err(LockError::UpgradeConflict { key, holders: self.holders_beside(index, entry, grant.index()) });
        }
        let Some(waiter) = self.waiters.take() else {
            return Err(LockError::TooManyWaiters { limit: self.config.max_waiters });
        };
        self.records.get(grant.index()).mark_upgrading(grant);
        let by_completion = matches!(delivery, Delivery::Completion(..));
        let asking = Asking {
            mode: Mode::Exclusive,
            upgrade: true,
            rises: false,
            by_completion,
            detached: false,
            tries,
            priority,
        };
        let (now, prepared) = (self.now(), self.waiters.get(waiter));
        prepared.prepare(index, grant.index(), owner, asking, now, delivery);
        prepared.set_first_look(if deadlock { now } else { self.first_look(owner, now) });
        let ticket = prepared.ticket(waiter);
        self.session_waits(prepared);
        self.join_line(&mut shard, entry, waiter);
        self.grant_waiters_and_unlock(self.local(), shard, index, entry, hash, None);
        Ok(Some((ticket, hash)))
    }

    /// Returns how the upgrade of a grant ended; after a failure it is held shared.
    pub(crate) fn upgrade_ended(&self, grant: Grant, ended: Ended, limit: Limit) -> Result<(), LockError> {
        self.waits_no_more_to_upgrade(grant);
        self.standing(grant)?;
        let Ended::Failed { why, error } = ended else { return self.check_upgrade(grant) };
        // Should it be revoked in this moment, its key is still known.
        let Some(key) = self.guard_key(grant) else { return Err(no_longer_held(grant, Standing::Unknown)) };
        Err(self.failure((why, error), limit, &key.as_ref()))
    }

    /// The request of an upgrade has its answer, or is dropped.
    pub(crate) fn waits_no_more_to_upgrade(&self, grant: Grant) {
        let record = self.records.get(grant.index());
        if record.is_upgrading() {
            record.upgrades_no_more();
        }
    }

    /// Ends the wait of an upgrade whose future was leaked, if there is one.
    ///
    /// The guard calls this. It cannot while the future exists, because that borrows the guard.
    #[inline]
    pub(crate) fn end_if_forgotten(&self, grant: Grant) {
        if self.records.get(grant.index()).is_upgrading() && !self.is_forked() {
            self.end_forgotten_upgrade(grant);
        }
    }

    /// Ends the wait of a leaked future before its hold ends or is converted.
    ///
    /// Otherwise its turn would come when the record belongs to another hold.
    #[cold]
    #[inline(never)]
    pub(crate) fn end_forgotten_upgrade(&self, grant: Grant) {
        let record = self.records.get(grant.index());
        let mut forgotten = None;
        self.waiters.for_each(|index, waiter| {
            // The phase first: one that is not free has this record only if it waits, or waited, for this guard.
            let is_it = waiter.phase() != Phase::Free
                && waiter.asking().upgrade
                && waiter.record.load(Ordering::Relaxed) == grant.index();
            if is_it {
                forgotten = Some(index);
            }
        });
        if let Some(index) = forgotten {
            let (local, waiter) = (self.local(), self.waiters.get(index));
            // Should the hold be revoked, the wait has ended with it, under the same mutex.
            let hash = self.table.entry(waiter.entry.load(Ordering::Relaxed)).hash();
            let _ = self.give_up(local, waiter, hash, Phase::Cancelled);
            let (look, ticket) = (waiter.first_look(), waiter.ticket(index));
            let _ = self.finish(local, index);
            self.forget_moments(None, look, ticket);
        }
        record.upgrades_no_more();
    }

    /// The entry of a grant that is held shared; `None` if it is exclusive already.
    fn to_upgrade(&self, grant: Grant) -> Result<Option<(u32, &Entry)>, LockError> {
        self.service()?;
        self.end_if_forgotten(grant);
        match self.records.get(grant.index()).held_by_guard(grant) {
            None => Err(no_longer_held(grant, self.records.get(grant.index()).standing(grant))),
            Some((_, Mode::Exclusive)) => Ok(None),
            Some((index, Mode::Shared)) => Ok(Some((index, self.table.entry(index)))),
        }
    }

    /// Upgrades the guard's hold if that can be done now; otherwise returns its shard.
    fn upgrade_or_lock(
        &self,
        grant: Grant,
        (index, entry): (u32, &Entry),
    ) -> Result<Option<LockedShard<'_>>, LockError> {
        let mut shard = self.lock_shard_of_guard(grant);
        self.service()?;
        // Asked under the mutex: if it was revoked, the entry may be another key's.
        self.standing(grant)?;
        if self.records.get(grant.index()).mode() == Mode::Exclusive {
            // Its session has risen since.
            return Ok(None);
        }
        shard.unbias(index, entry);
        if !self.upgrade_now(&shard, grant, (index, entry)) {
            return Ok(Some(shard));
        }
        drop(shard);
        self.check_upgrade(grant).map(|()| None)
    }

    /// Upgrades the guard's hold if no other shares the lock.
    ///
    /// Where holds are counted, those of the same session do not keep it from that. Caller holds: shard mutex. So the hold is not revoked before it has its number.
    fn upgrade_now(&self, shard: &LockedShard<'_>, grant: Grant, (index, entry): (u32, &Entry)) -> bool {
        if !self.lets_upgrade(shard, index) {
            return false;
        }
        let (record, owner) = (grant.index(), self.records.get(grant.index()).owner());
        loop {
            let called_in = self.call_in_beside(owner, (index, entry), record, None);
            let seen = called_in.as_ref().map_or_else(|| entry.word(), |(word, _)| *word);
            let upgraded = match &called_in {
                Some(_) => seen.with_writer(record),
                None => match seen.upgraded(record) {
                    Some(upgraded) => upgraded,
                    None => return false,
                },
            };
            if entry.swap(seen, upgraded).is_ok() {
                self.note_upgrade(record, (index, entry));
                let reads = called_in.map_or_else(Vec::new, |(_, reads)| reads);
                if !reads.is_empty() {
                    self.count_reads(entry, record, &reads);
                }
                return true;
            }
        }
    }

    /// Notes in the record that its hold is exclusive now, as the word already says.
    ///
    /// Caller holds: shard mutex.
    pub(crate) fn note_upgrade(&self, record: u32, (index, entry): (u32, &Entry)) {
        let noted = self.records.get(record);
        // Its note is the word's from now on.
        self.empty_slot(noted);
        let (_, shard) = Word::from_note(noted.note(), record);
        noted.set_note(entry.word().noted_with(shard));
        entry.raise_fence();
        // Last, as in `begin_hold`.
        noted.set_mode(Mode::Exclusive);
        self.note_served(shard, (index, entry), record, Mode::Exclusive);
    }
}
