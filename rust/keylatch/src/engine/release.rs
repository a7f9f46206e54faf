//! A hold ends.

use super::core::Core;
use super::local::Local;
use crate::error::LockError;
use crate::hold::{Grant, Lost, Special, Standing};
use crate::memory::NONE;
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::sync::fault::fault;
use crate::table::{Entry, LockedShard, Word};

impl Core {
    /// Ends a guard's hold. Returns how it was lost, if it was, be it in this moment.
    ///
    /// The order matters: the hold is marked as ending before the word changes and the record is freed after, so that
    /// whoever owns the shard and finds the holder still in the word finds it on record or ending, never somebody else.
    #[inline(always)]
    pub(crate) fn release_guard(&self, grant: Grant) -> Option<Lost> {
        self.release_guard_at(grant, || self.local())
    }

    /// Ends the holds of guards, the last first.
    pub(crate) fn release_guards(&self, grants: &[Grant]) {
        if grants.is_empty() {
            return;
        }
        let local = self.local();
        for grant in grants.iter().rev() {
            self.release_guard_at(*grant, || local);
        }
    }

    /// As `release_guard`, for a thread that may know where its part is.
    #[inline(always)]
    pub(crate) fn release_guard_at<'a>(&'a self, grant: Grant, local: impl FnOnce() -> &'a Local) -> Option<Lost> {
        let record = self.records.get(grant.index());
        let Some((index, mode)) = record.held_plainly(grant) else { return self.release_special(grant) };
        if self.is_forked() {
            // The lock is the parent's; here nobody else is left to want it.
            return None;
        }
        self.release_held(local(), grant, index, mode)
    }

    /// Ends a hold by its number, which was enough to release it, and says whether that is what happened.
    #[inline]
    pub(crate) fn release_number(&self, grant: Grant) -> Result<(), LockError> {
        self.catch(grant)?;
        told(grant, self.release_guard(grant))
    }

    /// As `release_guard`, and says whether the hold was still there.
    #[inline(always)]
    pub(crate) fn release_guard_or_tell(&self, grant: Grant) -> Result<(), LockError> {
        match self.records.get(grant.index()).held_plainly(grant) {
            Some((index, mode)) if !self.is_forked() => {
                told(grant, self.release_held(self.local(), grant, index, mode))
            }
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
        standing.and_then(|()| told(grant, lost))
    }

    #[inline(always)]
    fn release_held(&self, local: &Local, grant: Grant, index: u32, mode: Mode) -> Option<Lost> {
        let record = self.records.get(grant.index());
        let entry = self.table.entry(index);
        // The word as it was left is the best guess of what it is. Guessing spares a look at it, which would fetch the
        // cache line once more if somebody else has it.
        let (seen, shard) = Word::from_note(record.note());
        record.end();
        let released = match mode {
            Mode::Exclusive => {
                entry.holder.store(NONE, Ordering::Relaxed);
                release_exclusive(entry, seen)
            }
            // Readers come and go at once, so a guess would often be wrong, and a compare-and-swap fail for nothing.
            Mode::Shared => {
                let before = entry.leave_readers();
                if before.released_uncontended(Mode::Shared).is_some() { Ok(()) } else { Err(before) }
            }
        };
        let lost = match released {
            Ok(()) => {
                local.count_release(shard);
                None
            }
            Err(seen) => self.release_slow(local, grant, index, seen, shard, mode),
        };
        local.free_record(&self.records, grant.index());
        lost
    }

    /// Somebody waits for this release: a request, or the table; or the entry is displaced. A writer still holds it; a
    /// reader has left it, and `seen` is the word before.
    #[cold]
    #[inline(never)]
    fn release_slow(
        &self,
        local: &Local,
        grant: Grant,
        index: u32,
        seen: Word,
        shard_index: u32,
        mode: Mode,
    ) -> Option<Lost> {
        let mut shard = self.table.lock(shard_index);
        let entry = self.table.entry(index);
        // A reader asks the word that it left: its entry may be displaced since, without counting it.
        let word = if mode == Mode::Exclusive { entry.word() } else { seen };
        if word.is_displaced() && !fault!("displaced-release-stays") {
            let record = self.records.get(grant.index());
            self.leave_displaced(local, shard, index, mode, record.lost_at(grant));
            return record.lost(grant);
        }
        shard.counts().releases += 1;
        let hash = entry.hash();
        match mode {
            Mode::Exclusive => self.settle_and_wake(local, shard, index, entry, hash, Some(mode)),
            // Since it was left, others may have served the line, and the entry have left the table.
            Mode::Shared if shard.has(hash, index) => self.settle_and_wake(local, shard, index, entry, hash, None),
            Mode::Shared => {}
        }
        None
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
        if special.upgrades && !fault!("forgotten-upgrade-stays") {
            self.end_forgotten_upgrade(grant);
            // It may have been upgraded before that.
            special = record.special(grant)?;
        }
        if special.watched {
            self.losses.forget(grant);
        }
        // While its record names it, the hold keeps the key that is told.
        let slow = if special.timed && !special.lost { self.slow_hold(grant) } else { None };
        let lost = if !special.lost && !special.counted {
            self.release_held(self.local(), grant, special.entry, special.mode)
        } else {
            self.release_under_mutex(grant, &special)
        };
        slow.iter().for_each(|event| self.announce(event));
        lost
    }

    fn release_under_mutex(&self, grant: Grant, special: &Special) -> Option<Lost> {
        let record = self.records.get(grant.index());
        let local = self.local();
        let entry = self.table.entry(special.entry);
        let hash = entry.hash();
        let shard = self.lock_shard(hash);
        record.end();
        let (lost_at, lost) = (record.lost_at(grant), record.lost(grant));
        if entry.word().is_displaced() {
            self.leave_displaced(local, shard, special.entry, special.mode, lost_at);
        } else {
            self.leave_home(local, shard, special.entry, special.mode);
        }
        local.free_record(&self.records, grant.index());
        lost
    }

    /// Somebody who was counted by a displaced entry has come to let go of it: counts it off, there and wherever it was
    /// counted since. Unless its lock was taken away, at `lost_at`, it leaves the entry that stands in now.
    pub(crate) fn leave_displaced(
        &self,
        local: &Local,
        mut shard: LockedShard<'_>,
        index: u32,
        mode: Mode,
        lost_at: Option<u32>,
    ) {
        if let Some(home) = self.arrive(local, &mut shard, index, lost_at) {
            self.leave_home(local, shard, home, mode);
        }
    }

    /// Counts somebody off at a displaced entry and those that stood in for it, as far as it was counted. Returns the
    /// entry that it holds now, if it does.
    pub(crate) fn arrive(
        &self,
        local: &Local,
        shard: &mut LockedShard<'_>,
        mut index: u32,
        lost_at: Option<u32>,
    ) -> Option<u32> {
        while let Some(stand_in) = self.table.entry(index).stand_in() {
            if self.table.entry(index).one_has_come() {
                shard.bury(&local.entries, index);
            }
            if lost_at == Some(index) {
                return None;
            }
            index = stand_in;
        }
        Some(index)
    }

    /// A holder leaves an entry that is in the table, under the mutex.
    pub(crate) fn leave_home(&self, local: &Local, mut shard: LockedShard<'_>, home: u32, mode: Mode) {
        shard.counts().releases += 1;
        let entry = self.table.entry(home);
        if mode == Mode::Exclusive {
            entry.holder.store(NONE, Ordering::Relaxed);
            if entry.counted() > 1 {
                return entry.set_counted(entry.counted() - 1);
            }
        }
        self.settle_and_wake(local, shard, home, entry, entry.hash(), Some(mode));
    }

    /// Makes sure that a grant that came from outside is held and not a guard's, and takes it over as a guard would.
    /// Exactly one of several who try with the same grant succeeds.
    pub(crate) fn catch(&self, grant: Grant) -> Result<(), LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        if !self.records.could_be(grant.index()) {
            return Err(LockError::NotHeld { grant: grant.to_raw() });
        }
        let record = self.records.get(grant.index());
        if record.catch(grant) {
            return Ok(());
        }
        let standing = record.standing(grant);
        if record.catch_lost(grant) {
            // It was a guard's when it was taken away, and is this number's now: this is its release.
            self.release_special(grant);
        } else {
            self.exhume(grant);
        }
        Err(no_longer_held(grant, standing))
    }

    /// As `catch`, without saying why not.
    #[inline(always)]
    pub(crate) fn catch_at_once(&self, grant: Grant) -> bool {
        !self.is_forked() && self.records.could_be(grant.index()) && self.records.get(grant.index()).catch(grant)
    }

    /// Gives back the record that was kept for a grant whose lock was taken away, if that is what it is.
    pub(crate) fn exhume(&self, grant: Grant) {
        if self.records.get(grant.index()).exhume(grant) == Some(true) {
            self.records.put(&self.local().records, grant.index());
        }
    }

    /// The opposite: from now on the grant's number is enough to release it.
    pub(crate) fn let_loose(&self, grant: Grant) {
        self.records.get(grant.index()).let_loose();
    }
}

/// What a release is answered with.
#[inline(always)]
fn told(grant: Grant, lost: Option<Lost>) -> Result<(), LockError> {
    match lost {
        None => Ok(()),
        Some(_) if fault!("late-loss-not-told") => Ok(()),
        Some(why) => Err(no_longer_held(grant, Standing::Lost(why))),
    }
}

/// What is said of a grant that is not held, or not by its number.
pub(crate) fn no_longer_held(grant: Grant, standing: Standing) -> LockError {
    let grant = grant.to_raw();
    match standing {
        Standing::Lost(Lost::Expired) => LockError::LeaseLost { grant },
        _ => LockError::NotHeld { grant },
    }
}

/// Lets go of an entry, unless somebody waits for that. `seen` is a guess; on failure it is what was seen last.
#[inline(always)]
fn release_exclusive(entry: &Entry, mut seen: Word) -> Result<(), Word> {
    while let Some(left) = seen.released_uncontended(Mode::Exclusive) {
        match entry.swap(seen, left) {
            Ok(()) => return Ok(()),
            Err(now) => seen = now,
        }
    }
    Err(seen)
}
