//! Releasing a hold.

use super::core::Core;
use super::local::Local;
use crate::error::LockError;
use crate::hold::{Grant, Lost, Record, Standing};
use crate::mode::Mode;
use crate::table::{Entry, Left, LockedShard, Word};

impl Core {
    /// Ends a guard's hold. Returns how it was revoked, if it was.
    ///
    /// Not inlined, see [`super::fast`].
    #[inline(never)]
    pub(crate) fn release_guard(&self, grant: Grant) -> Option<Lost> {
        let Some(local) = self.local_at_hand() else { return self.release_from_afar(grant) };
        let record = self.records.get(grant.index());
        match record.held_plainly(grant) {
            Some(held) => self.release_held(local, grant, record, held),
            None => self.release_not_plain(grant),
        }
    }

    /// As `release_guard`, for a hold that is not plain.
    #[inline(never)]
    fn release_not_plain(&self, grant: Grant) -> Option<Lost> {
        let record = self.records.get(grant.index());
        match (record.held_in_slot(grant), self.local_at_hand()) {
            (Some(index), Some(local)) => self.release_slotted(local, grant, record, index),
            _ => self.release_special(grant),
        }
    }

    /// Ends the hold of a reader that entered by a slot.
    #[inline(always)]
    fn release_slotted(&self, local: &Local, grant: Grant, record: &Record, index: u32) -> Option<Lost> {
        let (slot, shard) = record.slot_and_shard();
        // Announced first, see the module of the record: a revoker that finds the slot without a name finds this.
        record.end();
        match self.table.slots.leave(slot, grant, self.table.entry(index)) {
            Left::Slot => self.end_hold(local, grant, record, shard),
            Left::Counted => self.release_collected(local, grant, index),
            Left::Unsure => self.release_unsure(local, grant, index),
        }
    }

    /// Ends the hold of a reader that entered by a slot, and is counted by the word.
    #[cold]
    #[inline(never)]
    fn release_collected(&self, local: &Local, grant: Grant, index: u32) -> Option<Lost> {
        self.empty_slot(self.records.get(grant.index()));
        self.release_shared_again(local, grant, index, self.table.entry(index).word())
    }

    /// As `release_slotted`, after the word has changed.
    #[cold]
    #[inline(never)]
    fn release_unsure(&self, local: &Local, grant: Grant, index: u32) -> Option<Lost> {
        let record = self.records.get(grant.index());
        let (slot, shard_index) = record.slot_and_shard();
        let shard = self.table.lock(shard_index);
        let is_counted = self.table.slots.withdraw(slot, grant);
        drop(shard);
        if is_counted {
            return self.release_collected(local, grant, index);
        }
        self.end_hold(local, grant, record, shard_index)
    }

    /// Empties the slot by which a reader entered, unless it has none. For its holder.
    ///
    /// The word counts it, or it was revoked.
    pub(super) fn empty_slot(&self, record: &Record) {
        record.leave_slot().into_iter().for_each(|slot| self.table.slots.empty(slot));
    }

    /// As `release_guard`, for a thread that used another manager last.
    #[cold]
    #[inline(never)]
    fn release_from_afar(&self, grant: Grant) -> Option<Lost> {
        let record = self.records.get(grant.index());
        match record.held_plainly(grant) {
            // The lock is the parent's: a forked child releases nothing.
            Some(_) if self.is_forked() => None,
            Some(held) => self.release_held(self.local(), grant, record, held),
            None => self.release_special(grant),
        }
    }

    /// Ends the holds of guards, the last first.
    pub(crate) fn release_guards(&self, grants: &[Grant]) {
        for grant in grants.iter().rev() {
            self.release_guard(*grant);
        }
    }

    /// Releases a detached grant.
    #[inline]
    pub(crate) fn release_number(&self, grant: Grant) -> Result<(), LockError> {
        self.adopt(grant)?;
        release_result(grant, self.release_guard(grant))
    }

    /// As `release_guard`; an error if the hold had ended before.
    #[inline(always)]
    pub(crate) fn release_guard_or_tell(&self, grant: Grant) -> Result<(), LockError> {
        match self.records.get(grant.index()).held_plainly(grant) {
            Some(_) if !self.is_forked() => release_result(grant, self.release_guard(grant)),
            _ => self.release_or_tell_slow(grant),
        }
    }

    #[cold]
    #[inline(never)]
    fn release_or_tell_slow(&self, grant: Grant) -> Result<(), LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        // Asked before the record is gone.
        let standing = self.standing(grant);
        let lost = self.release_guard(grant);
        standing.and_then(|()| release_result(grant, lost))
    }

    /// All but the plain case goes on in tail calls, so that this needs no stack.
    #[inline(always)]
    fn release_held(&self, local: &Local, grant: Grant, record: &Record, (index, mode): (u32, Mode)) -> Option<Lost> {
        let entry = self.table.entry(index);
        let (noted, shard) = Word::from_note(record.note(), grant.index());
        match mode {
            Mode::Exclusive => {
                // Guessing spares a look at the word, which would fetch the cache line once more. The note has neither
                // WAITERS nor EVICT.
                if let Err(now) = entry.swap(noted, noted.released(Mode::Exclusive)) {
                    return self.release_exclusive_again(local, grant, index, (noted, now));
                }
            }
            Mode::Shared => {
                // Announced first, see the module of the record.
                record.end();
                let seen = entry.word();
                // After each look at the word: of a word that a revoker has raised it is known that the revoker asks.
                if record.is_asked() {
                    return self.release_slow(local, grant, index);
                }
                let Some(left) = seen.released_uncontended(Mode::Shared) else {
                    return self.release_slow(local, grant, index);
                };
                if let Err(now) = entry.swap(seen, left) {
                    return self.release_shared_again(local, grant, index, now);
                }
            }
        }
        self.end_hold(local, grant, record, shard)
    }

    /// Counts a release, and gives the record back.
    #[inline(always)]
    fn end_hold(&self, local: &Local, grant: Grant, record: &Record, shard: u32) -> Option<Lost> {
        local.count_release(shard);
        if record.freed(grant) && !local.records.put_spare(grant.index()) {
            return self.keep_record(local, grant);
        }
        None
    }

    #[inline(never)]
    fn keep_record(&self, local: &Local, grant: Grant) -> Option<Lost> {
        self.records.put_in_list(&local.records, grant.index());
        // A constant answer would be the caller's to give, after the call: then all that it needs would be saved before.
        std::hint::black_box(None)
    }

    /// Leaves a lock whose word was not as noted, which may have changed again.
    #[cold]
    #[inline(never)]
    fn release_exclusive_again(
        &self,
        local: &Local,
        grant: Grant,
        index: u32,
        (noted, mut now): (Word, Word),
    ) -> Option<Lost> {
        let (entry, record) = (self.table.entry(index), self.records.get(grant.index()));
        // Another writer than noted: revoked, or counted by its session.
        while now.has_writer_of(noted) {
            let Some(left) = now.released_uncontended(Mode::Exclusive) else { break };
            match entry.swap(now, left) {
                Ok(()) => {
                    let (_, shard) = Word::from_note(record.note(), grant.index());
                    return self.end_hold(local, grant, record, shard);
                }
                Err(later) => now = later,
            }
        }
        self.release_slow(local, grant, index)
    }

    /// As `release_exclusive_again`, after the reader announced its release.
    #[inline(never)]
    fn release_shared_again(&self, local: &Local, grant: Grant, index: u32, mut now: Word) -> Option<Lost> {
        let (entry, record) = (self.table.entry(index), self.records.get(grant.index()));
        while !record.is_asked() {
            let Some(left) = now.released_uncontended(Mode::Shared) else { break };
            match entry.swap(now, left) {
                Ok(()) => {
                    let (_, shard) = Word::from_note(record.note(), grant.index());
                    return self.end_hold(local, grant, record, shard);
                }
                Err(later) => now = later,
            }
        }
        self.release_slow(local, grant, index)
    }

    /// Releases under the shard mutex.
    ///
    /// A request waits, the entry is in no warm slot, the hold is counted, or it was revoked.
    #[cold]
    #[inline(never)]
    fn release_slow(&self, local: &Local, grant: Grant, index: u32) -> Option<Lost> {
        let record = self.records.get(grant.index());
        // The shard of the hold when it began: if it was revoked since, the entry may be another one's.
        let (_, shard_index) = Word::from_note(record.note(), grant.index());
        let shard = self.table.lock(shard_index);
        let lost = record.lost(grant);
        match lost {
            Some(_) => drop(shard),
            None => {
                // As it is now: the session of a reader may have risen since.
                let mode = record.mode();
                // For listings, as a reader did before.
                record.end();
                self.leave(local, shard, (index, self.table.entry(index)), grant.index(), mode);
            }
        }
        self.free_guard_record(local, grant, lost);
        lost
    }

    /// Ends a guard's hold that is not plain: see the flags of a record.
    #[cold]
    #[inline(never)]
    fn release_special(&self, grant: Grant) -> Option<Lost> {
        let record = self.records.get(grant.index());
        let mut special = record.special(grant)?;
        if self.is_forked() {
            return None;
        }
        if special.upgrades {
            self.end_forgotten_upgrade(grant);
            // It may have been upgraded before that.
            special = record.special(grant)?;
        }
        if special.watched {
            self.losses.forget(grant);
        }
        // While its record names it, the hold keeps the key that the event needs.
        let slow = if special.timed && !special.lost { self.slow_hold(grant) } else { None };
        if special.lost {
            self.empty_slot(record);
        }
        let lost = if special.lost || special.counted {
            self.release_slow(self.local(), grant, special.entry)
        } else if special.slotted {
            self.release_slotted(self.local(), grant, record, special.entry)
        } else {
            self.release_held(self.local(), grant, record, (special.entry, special.mode))
        };
        slow.iter().for_each(|event| self.announce(event));
        lost
    }

    /// Ends a hold in the word, and serves the waiters.
    ///
    /// The caller has made sure that no other thread does that for the same hold.
    pub(crate) fn leave(
        &self,
        local: &Local,
        mut shard: LockedShard<'_>,
        (index, entry): (u32, &Entry),
        record: u32,
        mode: Mode,
    ) {
        shard.counts().releases += 1;
        if mode == Mode::Exclusive && self.leave_counted(entry, record) {
            return;
        }
        self.grant_waiters_and_unlock(local, shard, index, entry, entry.hash(), Some(mode));
    }

    /// Gives the record of a guard's hold back.
    fn free_guard_record(&self, local: &Local, grant: Grant, lost: Option<Lost>) {
        if lost.is_some() {
            self.tombstones.forget_key(grant);
        }
        self.free_record(local, grant);
    }

    /// Gives a record back whose hold has ended.
    pub(crate) fn free_record(&self, local: &Local, grant: Grant) {
        if self.records.get(grant.index()).freed(grant) {
            self.records.put(&local.records, grant.index());
        }
    }

    /// Adopts a detached grant: the caller acts as its guard.
    ///
    /// Exactly one of several callers with the same grant succeeds.
    pub(crate) fn adopt(&self, grant: Grant) -> Result<(), LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        if !self.records.could_be(grant.index()) {
            return Err(LockError::NotHeld { grant: grant.to_raw() });
        }
        let record = self.records.get(grant.index());
        if record.adopt(grant) {
            return Ok(());
        }
        let standing = record.standing(grant);
        if record.adopt_revoked(grant) {
            // It had a guard when it was revoked, and was detached since: this is its release.
            self.release_special(grant);
        } else {
            self.reclaim_tombstone(grant);
        }
        Err(no_longer_held(grant, standing))
    }

    /// As `adopt`, without a reason.
    #[inline(always)]
    pub(crate) fn adopt_fast(&self, grant: Grant) -> bool {
        !self.is_forked() && self.records.could_be(grant.index()) && self.records.get(grant.index()).adopt(grant)
    }

    /// Detaches a grant: from now on it can be released without its guard.
    pub(crate) fn detach(&self, grant: Grant) {
        self.records.get(grant.index()).detach();
    }
}

/// Returns the answer to a release.
#[inline(always)]
fn release_result(grant: Grant, lost: Option<Lost>) -> Result<(), LockError> {
    match lost {
        None => Ok(()),
        Some(why) => Err(no_longer_held(grant, Standing::Lost(why))),
    }
}

/// Returns the error for a grant that is not held, or has a guard.
pub(crate) fn no_longer_held(grant: Grant, standing: Standing) -> LockError {
    let grant = grant.to_raw();
    match standing {
        Standing::Lost(why) if why.is_by_time() => LockError::LeaseLost { grant },
        _ => LockError::NotHeld { grant },
    }
}
