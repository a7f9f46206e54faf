//! A hold ends.

use super::core::Core;
use super::local::Local;
use crate::error::LockError;
use crate::hold::{Grant, Lost, Record, Standing};
use crate::mode::Mode;
use crate::sync::fault::fault;
use crate::table::{Entry, LockedShard, Word};

impl Core {
    /// Ends a guard's hold. Returns how it was lost, if it was revoked, be it in this moment.
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
        let (noted, shard) = Word::from_note(record.note(), grant.index());
        let released = match mode {
            Mode::Exclusive => release_exclusive(entry, noted),
            Mode::Shared => {
                // Announced first, see the module of the record.
                record.end();
                release_shared(entry, record)
            }
        };
        if !released {
            return self.release_slow(local, grant, (index, entry), shard, mode);
        }
        local.count_release(shard);
        local.free_record(&self.records, grant.index());
        None
    }

    /// The release goes to the shard: somebody waits, the entry is in no warm slot, the hold is counted, or it was revoked.
    #[cold]
    #[inline(never)]
    fn release_slow(
        &self,
        local: &Local,
        grant: Grant,
        at: (u32, &Entry),
        shard_index: u32,
        mode: Mode,
    ) -> Option<Lost> {
        // The shard of the hold when it began: if it was revoked since, the entry may be another one's.
        let shard = self.table.lock(shard_index);
        let record = self.records.get(grant.index());
        let lost = record.lost(grant);
        match lost {
            Some(_) => drop(shard),
            None => {
                // For listings, as a reader did before.
                record.end();
                self.leave(local, shard, at, grant.index(), mode);
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
        // While its record names it, the hold keeps the key that is told.
        let slow = if special.timed && !special.lost { self.slow_hold(grant) } else { None };
        let lost = if special.lost || special.counted {
            let (_, shard) = Word::from_note(record.note(), grant.index());
            let at = (special.entry, self.table.entry(special.entry));
            self.release_slow(self.local(), grant, at, shard, special.mode)
        } else {
            self.release_held(self.local(), grant, special.entry, special.mode)
        };
        slow.iter().for_each(|event| self.announce(event));
        lost
    }

    /// A holder leaves the lock, and whoever waits for it is served. The caller has made sure that nobody else does that for
    /// it.
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
        self.settle_and_wake(local, shard, index, entry, entry.hash(), Some(mode));
    }

    /// Gives the record of a guard's hold back.
    fn free_guard_record(&self, local: &Local, grant: Grant, lost: Option<Lost>) {
        if lost.is_some() {
            self.tombstones.forget_key(grant);
        }
        local.free_record(&self.records, grant.index());
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
            // It was a guard's when it was revoked, and is this number's now: this is its release.
            self.release_special(grant);
        } else {
            self.reclaim_tombstone(grant);
        }
        Err(no_longer_held(grant, standing))
    }

    /// As `catch`, without saying why not.
    #[inline(always)]
    pub(crate) fn catch_at_once(&self, grant: Grant) -> bool {
        !self.is_forked() && self.records.could_be(grant.index()) && self.records.get(grant.index()).catch(grant)
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

/// Leaves the lock exclusively held, from the word as it was noted: guessing spares a look at it, which would fetch the
/// cache line once more. Returns whether that was all there was to do.
#[inline(always)]
fn release_exclusive(entry: &Entry, noted: Word) -> bool {
    let mut seen = noted;
    while let Some(left) = seen.released_uncontended(Mode::Exclusive) {
        match entry.swap(seen, left) {
            Ok(()) => return true,
            Err(now) if now.has_writer_of(noted) => seen = now,
            // Revoked, or counted by its session.
            Err(_) => return false,
        }
    }
    false
}

/// Leaves the lock shared, after the reader announced it. Returns whether that was all there was to do.
#[inline(always)]
fn release_shared(entry: &Entry, record: &Record) -> bool {
    let mut seen = entry.word();
    // After each look at the word: of a word that a revoker has raised it is known that the revoker asks.
    while !record.is_asked() {
        let Some(left) = seen.released_uncontended(Mode::Shared) else { return false };
        match entry.swap(seen, left) {
            Ok(()) => return true,
            Err(now) => seen = now,
        }
    }
    false
}
