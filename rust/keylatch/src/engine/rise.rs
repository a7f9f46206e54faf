//! A counting session that shares a lock asks for it exclusively: its holds rise together.
//!
//! It waits in front of the line, like a reader who upgrades, until only its own session reads. Then the lock's word names
//! the new hold, and what the session read becomes further holds of the same lock, which the entry counts. The guards that
//! were there do not know. So before the swap of the word their records are marked, as a revoker does it. A reader that
//! sets out to leave looks at the word, then for the mark, then swaps: if it looked before the swap its own swap fails, and
//! in any case it finds the mark and comes to the shard, where its record says in which mode it holds.

use super::acquire::Wanted;
use super::core::Core;
use super::looking::is_session;
use super::reenter::Again;
use crate::config::Reentrancy;
use crate::error::LockError;
use crate::hold::{Grant, NotedHold};
use crate::memory::NONE;
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::table::{Entry, LockedShard, Word};
use std::ops::ControlFlow;

impl Core {
    /// Grants a session exclusively what only it shares. The caller owns the shard.
    pub(super) fn rise_now(
        &self,
        shard: &mut LockedShard<'_>,
        wanted: &Wanted<'_>,
        (index, entry): (u32, &Entry),
        record: u32,
        waits: bool,
    ) -> Again {
        let opponent = self.queue(entry).first().map(|(_, first)| first).filter(|first| first.asking().goes_first());
        if let Some(first) = opponent {
            if !waits {
                return Again::No;
            }
            if self.detects(first.owner.load(Ordering::Relaxed)) && self.detects(wanted.owner) {
                return Again::Rises;
            }
            // Each waits for what the other reads, and no search finds that.
            let own = self.one_read_of(wanted.owner, index);
            let key = entry.key(self.table.arena());
            let holders = self.holders_beside(index, entry, own);
            return Again::Answer(Err(LockError::UpgradeConflict { key, holders }));
        }
        let seen = entry.word();
        let Some(reads) = self.call_in(wanted.owner, index, seen) else {
            return if waits { Again::Rises } else { Again::No };
        };
        self.records.get(record).prefill(index, wanted.owner, self.now());
        let taken = seen.with_writer(record);
        if entry.swap(seen, taken).is_err() {
            return Again::Moved;
        }
        shard.counts().immediate += 1;
        let grant = self.begin_hold(record, entry, &self.granting(wanted), taken);
        self.count_reads(entry, record, &reads);
        Again::Answer(Ok(grant))
    }

    /// The first in line, if it rises from this word. The caller owns the shard.
    pub(super) fn rising(&self, (index, entry): (u32, &Entry), word: Word) -> Option<Rising> {
        if self.config.reentrancy != Reentrancy::Count {
            return None;
        }
        let (waiter, first) = self.queue(entry).first()?;
        let (asking, owner) = (first.asking(), first.owner.load(Ordering::Relaxed));
        if asking.mode != Mode::Exclusive || asking.upgrade || !is_session(owner) {
            return None;
        }
        self.call_in(owner, index, word).map(|reads| Rising { waiter, reads })
    }

    /// Marks all who read, if they are all of this session.
    ///
    /// From the next swap of this word on they come to the shard.
    fn call_in(&self, owner: u32, index: u32, word: Word) -> Option<Vec<Grant>> {
        if word.readers() == 0 {
            return None;
        }
        let own = self.reads_of(owner, index);
        // A reader that has announced its release is in the word still, and leaves first.
        let marked = |grant: &Grant| self.records.get(grant.index()).ask_to_revoke(*grant);
        (word.readers() as usize == own.len() && own.iter().all(marked)).then_some(own)
    }

    /// Counts what its session reads beside the hold that rose.
    ///
    /// Before the owner of that hold knows of it, and whatever the guards of the others are doing: all come to the shard.
    /// The caller owns it.
    pub(super) fn count_reads(&self, entry: &Entry, risen: u32, reads: &[Grant]) {
        let mut next = NONE;
        for grant in reads {
            let record = self.records.get(grant.index());
            record.set_next_counted(next);
            record.mark_counted(*grant);
            record.set_mode(Mode::Exclusive);
            next = grant.index();
        }
        // There are no more holds than the count has room for.
        entry.set_counted(reads.len() as u32 + 1);
        entry.reader.store(next, Ordering::Relaxed);
        self.records.get(risen).mark_first_counted();
    }

    /// Returns the record of one hold by which a session shares a lock, or [`NONE`].
    pub(super) fn one_read_of(&self, owner: u32, index: u32) -> u32 {
        self.reads_of(owner, index).first().map_or(NONE, |grant| grant.index())
    }

    /// The holds by which a session shares a lock, as far as they are noted.
    fn reads_of(&self, owner: u32, index: u32) -> Vec<Grant> {
        let mut reads = Vec::new();
        let Some(session) = self.sessions.get(owner) else { return reads };
        session.for_each_hold(|NotedHold { grant, .. }| {
            let held = self.records.get(grant.index()).held();
            let reads_it = held.is_some_and(|held| {
                held.grant(grant.index()) == grant && held.entry == index && held.mode == Mode::Shared
            });
            reads.extend(reads_it.then_some(grant));
            ControlFlow::Continue(())
        });
        reads
    }

    /// Notes a hold of a session; one that rises may have waited for that alone.
    ///
    /// Off the mutex.
    pub(crate) fn note_hold_and_look(&self, owner: u32, hash: u64, grant: Grant) {
        self.note_hold(owner, hash, grant);
        if self.config.reentrancy == Reentrancy::Count && is_session(owner) {
            self.look_at_riser(hash, grant);
        }
    }

    #[cold]
    fn look_at_riser(&self, hash: u64, grant: Grant) {
        let Some(held) = self.records.get(grant.index()).held().filter(|held| held.mode == Mode::Shared) else {
            return;
        };
        let entry = self.table.entry(held.entry);
        if !entry.word().has_waiters() {
            return;
        }
        let shard = self.lock_shard(hash);
        // While the hold is there the entry keeps its key.
        if self.is_held(grant) && entry.hash() == hash {
            self.grant_waiters_and_unlock(self.local(), shard, held.entry, entry, hash, None);
        }
    }
}

/// The first in line, whose turn has come though its session reads.
pub(super) struct Rising {
    pub(super) waiter: u32,
    reads: Vec<Grant>,
}

impl Rising {
    /// Returns what becomes counted with the hold of this waiter, if it rises.
    pub(super) fn reads_with(&self, waiter: u32) -> &[Grant] {
        if self.waiter == waiter { &self.reads } else { &[] }
    }
}
