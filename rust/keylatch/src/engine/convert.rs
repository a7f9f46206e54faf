//! From one mode to the other without letting go.

use super::core::Core;
use super::local::Local;
use super::release::no_longer_held;
use super::waiting::Ended;
use crate::error::LockError;
use crate::hold::{Grant, Standing};
use crate::mode::Mode;
use crate::request::Limit;
use crate::sync::atomic::Ordering;
use crate::sync::fault::fault;
use crate::table::{Entry, LockedShard, Word};
use crate::wait::{Asking, Delivery, Phase, Ticket};

impl Core {
    /// From exclusive to shared, with no moment in between in which anybody else could have it exclusively.
    pub(crate) fn downgrade(&self, grant: Grant) {
        let record = self.records.get(grant.index());
        self.end_if_forgotten(grant);
        let Some((index, Mode::Exclusive)) = record.held_by_guard(grant) else { return };
        if self.is_forked() {
            return;
        }
        let entry = self.table.entry(index);
        let mut seen = entry.word();
        // Where holds are counted others may stand behind this one, and what is counted has to be known as such until the
        // end. A count that begins in this moment begins with a change of the word.
        let alone = entry.counted() == 0 || fault!("counted-downgrade-fast");
        if alone && !seen.somebody_waits() {
            record.set_mode(Mode::Shared);
            while !seen.somebody_waits() {
                match entry.swap(seen, seen.downgraded()) {
                    Ok(()) => return self.note_word(grant.index(), seen.downgraded(), entry.hash()),
                    Err(now) => seen = now,
                }
            }
        }
        self.downgrade_slow(grant, index);
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
    fn downgrade_slow(&self, grant: Grant, index: u32) {
        let local = self.local();
        let record = self.records.get(grant.index());
        let hash = self.table.entry(index).hash();
        let mut shard = self.lock_shard(hash);
        // A session that holds it several times would share with others what it has alone. Asked before the hold moves:
        // its record does not say that it is counted, and as long as its own entry is displaced it need not.
        let moves_before_asked = fault!("counted-hold-moves").then(|| self.come_home(local, &mut shard, grant, index));
        if self.table.entry(self.home(index)).counted() > 1 {
            return record.set_mode(Mode::Exclusive);
        }
        let Some(home) = moves_before_asked.unwrap_or_else(|| self.come_home(local, &mut shard, grant, index)) else {
            // Taken away.
            return record.set_mode(Mode::Exclusive);
        };
        let entry = self.table.entry(home);
        entry.set_counted(0);
        record.set_mode(Mode::Shared);
        let mut seen = entry.word();
        while let Err(now) = entry.swap(seen, seen.downgraded()) {
            seen = now;
        }
        self.note_word(grant.index(), seen.downgraded(), hash);
        if fault!("downgrade-does-not-settle") {
            return;
        }
        // Readers who waited may come in now.
        self.settle_and_wake(local, shard, home, entry, hash, None);
    }

    /// The entry in the table that a guard holds; moves its hold there, if its own is displaced. `None` if the lock was
    /// taken away. The caller owns the shard and is the guard.
    fn come_home(&self, local: &Local, shard: &mut LockedShard<'_>, grant: Grant, index: u32) -> Option<u32> {
        let record = self.records.get(grant.index());
        if record.lost_at(grant).is_some() {
            return None;
        }
        let home = self.arrive(local, shard, index, None)?;
        record.move_to(home);
        Some(home)
    }

    /// From shared to exclusive, if nobody else holds the lock now.
    pub(crate) fn try_upgrade(&self, grant: Grant) -> Result<(), LockError> {
        let Some((index, entry)) = self.to_upgrade(grant)? else { return Ok(()) };
        if self.upgrade_now(grant, entry) {
            return Ok(());
        }
        let mut shard = self.lock_shard(entry.hash());
        let Some(home) = self.come_home(self.local(), &mut shard, grant, index) else { return self.standing(grant) };
        let entry = self.table.entry(home);
        if self.upgrade_now(grant, entry) {
            return Ok(());
        }
        let key = entry.key(self.table.arena());
        Err(LockError::WouldBlock { key, holders: self.holders(home, entry, true) })
    }

    /// From shared to exclusive, ahead of all others who wait, as soon as the other readers are gone.
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

    /// Upgrades at once or queues for it; `None` for at once.
    pub(crate) fn begin_upgrade(&self, grant: Grant, delivery: Delivery) -> Result<Option<(Ticket, u64)>, LockError> {
        let Some((index, entry)) = self.to_upgrade(grant)? else { return Ok(None) };
        self.note_upgrade_order(self.records.get(grant.index()).owner(), entry);
        if self.upgrade_now(grant, entry) {
            return Ok(None);
        }
        let hash = entry.hash();
        let mut shard = self.lock_shard(hash);
        self.service()?;
        let Some(index) = self.come_home(self.local(), &mut shard, grant, index) else {
            return self.standing(grant).map(|()| None);
        };
        let entry = self.table.entry(index);
        let (owner, priority) = {
            let held = self.records.get(grant.index()).held();
            held.map_or((0, 0), |held| (held.owner, held.priority))
        };
        let opponent = self.queue(entry).first().filter(|(_, first)| first.asking().upgrade);
        // Two sessions are a deadlock like others, but for that there is nothing to wait for before looking.
        let deadlock =
            opponent.is_some_and(|(_, first)| self.detects(first.owner.load(Ordering::Relaxed)) && self.detects(owner));
        if opponent.is_some() && !deadlock {
            let key = entry.key(self.table.arena());
            return Err(LockError::UpgradeConflict { key, holders: self.holders(index, entry, true) });
        }
        let Some(waiter) = self.waiters.take() else {
            return Err(LockError::TooManyWaiters { limit: self.config.max_waiters });
        };
        if let Delivery::Task(_) = delivery {
            self.records.get(grant.index()).mark_upgrading(grant);
        }
        let by_mail = matches!(delivery, Delivery::Mail(..));
        let asking = Asking { mode: Mode::Exclusive, upgrade: true, by_mail, loose: false, priority };
        let (now, prepared) = (self.now(), self.waiters.get(waiter));
        prepared.prepare(index, grant.index(), owner, asking, now, delivery);
        prepared.set_first_look(if deadlock { now } else { self.first_look(owner, now) });
        let ticket = prepared.ticket(waiter);
        self.session_waits(prepared);
        self.join_line(&mut shard, entry, waiter);
        self.settle_and_wake(self.local(), shard, index, entry, hash, None);
        Ok(Some((ticket, hash)))
    }

    /// The answer to a grant whose upgrade waited; it is held shared as before if that failed.
    pub(crate) fn upgrade_ended(&self, grant: Grant, ended: Ended, limit: Limit) -> Result<(), LockError> {
        self.waits_no_more_to_upgrade(grant);
        let Ended::Failed { why, error } = ended else { return Ok(()) };
        self.standing(grant)?;
        if fault!("lost-upgrade-succeeds") && self.standing(grant).is_err() {
            return Ok(());
        }
        // Should it be lost in this moment, its entry keeps its key until the guard is gone.
        let seen = self.records.get(grant.index()).seen_by_guard(grant);
        let Some((index, _)) = seen else { return Err(no_longer_held(grant, Standing::Unknown)) };
        let entry = self.table.entry(index);
        let key = entry.key(self.table.arena());
        Err(self.failure((why, error), limit, &key.as_ref()))
    }

    /// The future of an upgrade has its answer, or is dropped.
    pub(crate) fn waits_no_more_to_upgrade(&self, grant: Grant) {
        let record = self.records.get(grant.index());
        if record.is_upgrading() {
            record.upgrades_no_more();
        }
    }

    /// Ends the wait of an upgrade whose future was forgotten, if there is one. The guard calls this, which it cannot as
    /// long as the future is there.
    #[inline]
    pub(crate) fn end_if_forgotten(&self, grant: Grant) {
        if self.records.get(grant.index()).is_upgrading() && !self.is_forked() {
            self.end_forgotten_upgrade(grant);
        }
    }

    /// A future that was neither finished nor dropped stands in line for a hold that is about to end, or to be used
    /// otherwise: its turn would come for whoever has that hold's record by then.
    #[cold]
    #[inline(never)]
    pub(crate) fn end_forgotten_upgrade(&self, grant: Grant) {
        let record = self.records.get(grant.index());
        // Its entry keeps its key until the guard is gone, be it lost.
        let Some((entry, _)) = record.seen_by_guard(grant) else { return };
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
            let _ = self.give_up(local, waiter, self.table.entry(entry).hash(), Phase::Cancelled);
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

    fn upgrade_now(&self, grant: Grant, entry: &Entry) -> bool {
        let mut seen = entry.word();
        while let Some(upgraded) = seen.upgraded() {
            match entry.swap(seen, upgraded) {
                Ok(()) => {
                    self.note_upgrade(grant.index(), entry);
                    return true;
                }
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Puts on record that a reader, as the word says already, is now the exclusive holder.
    pub(crate) fn note_upgrade(&self, record: u32, entry: &Entry) {
        self.note_word(record, entry.word(), entry.hash());
        entry.fence.store(entry.fence.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        entry.holder.store(record, Ordering::Release);
        // Last, as in `put_on_record`: once the record says so the lock can be taken away.
        self.records.get(record).set_mode(Mode::Exclusive);
    }

    /// Notes the word for the release of a hold whose mode has changed.
    fn note_word(&self, record: u32, word: Word, hash: u64) {
        self.records.get(record).set_note(word.noted_with(self.table.shard_of(hash)));
    }
}
