//! A hold ends.

use super::core::Core;
use super::local::Local;
use crate::error::LockError;
use crate::hold::Grant;
use crate::memory::NONE;
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::table::{Entry, Word};

impl Core {
    /// Ends a guard's hold.
    ///
    /// The order matters: the hold is marked as ending before the word changes and the record is freed after, so that
    /// whoever owns the shard and finds the holder still in the word finds it on record or ending, never somebody else.
    #[inline(always)]
    pub(crate) fn release_guard(&self, grant: Grant) {
        let record = self.records.get(grant.index());
        let Some((index, mode)) = record.held_by_guard(grant) else { return };
        if self.is_forked() {
            // The lock is the parent's; here nobody else is left to want it.
            return;
        }
        let local = self.local();
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
            Mode::Shared => entry.leave_readers().released_uncontended(Mode::Shared).is_some(),
        };
        if released {
            local.count_release(shard);
        } else {
            self.release_slow(local, index, entry, shard, mode);
        }
        local.free_record(&self.records, grant.index());
    }

    /// Somebody waits for this release: a request, or the table. A writer still holds the entry; a reader has left it.
    #[cold]
    #[inline(never)]
    fn release_slow(&self, local: &Local, index: u32, entry: &Entry, shard_index: u32, mode: Mode) {
        let mut shard = self.table.lock(shard_index);
        shard.counts().releases += 1;
        let hash = entry.hash();
        match mode {
            Mode::Exclusive => self.settle_and_wake(local, shard, index, entry, hash, Some(mode)),
            // Since it was left, others may have served the line, and the entry have left the table.
            Mode::Shared if shard.has(hash, index) => self.settle_and_wake(local, shard, index, entry, hash, None),
            Mode::Shared => {}
        }
    }

    /// Makes sure that a grant that came from outside is held and not a guard's, and takes it over as a guard would.
    /// Exactly one of several who try with the same grant succeeds.
    pub(crate) fn catch(&self, grant: Grant) -> Result<(), LockError> {
        if self.is_forked() {
            return Err(LockError::Forked);
        }
        if self.records.could_be(grant.index()) && self.records.get(grant.index()).catch(grant) {
            return Ok(());
        }
        Err(LockError::NotHeld { grant: grant.to_raw() })
    }

    /// The opposite: from now on the grant's number is enough to release it.
    pub(crate) fn let_loose(&self, grant: Grant) {
        self.records.get(grant.index()).let_loose();
    }
}

/// Lets go of an entry, unless somebody waits for that. `seen` is a guess.
#[inline(always)]
fn release_exclusive(entry: &Entry, mut seen: Word) -> bool {
    while let Some(left) = seen.released_uncontended(Mode::Exclusive) {
        match entry.swap(seen, left) {
            Ok(()) => return true,
            Err(now) => seen = now,
        }
    }
    false
}
