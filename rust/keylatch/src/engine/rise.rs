//! A counting session that shares a lock asks for it exclusively: its holds rise together.
//!
//! It makes another request, or upgrades one of its holds. Either waits in front of the line until only its own session
//! reads. Then the lock's word names the new hold, or the one that was upgraded, and what the session read beside it
//! becomes further holds of the same lock, which the entry counts. The guards that
//! were there do not know. So their readers are *called in* first, as [`super::revoke`] does it: each is marked, the
//! word's generation is raised, and a reader that has announced its release by then leaves first. All others come to
//! the shard from then on, where their records say in which mode they hold. Without another generation a reader that
//! was late could find the word as it saw it once more, after the risen hold was downgraded.

use super::core::Core;
use super::recheck::is_session;
use super::reenter::Again;
use super::wanted::Wanted;
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
        let in_front = self.queue(entry).first().map(|(_, first)| first).filter(|first| first.asking().goes_first());
        if let Some(first) = in_front {
            if !waits {
                return Again::No;
            }
            let is_found = self.detects(first.owner.load(Ordering::Relaxed)) && self.detects(wanted.owner);
            if is_found && !self.rises_already(entry, wanted.owner) {
                return Again::Rises;
            }
            // Each waits for what the other reads, and no search finds that; or both are of one session.
            let own = self.one_read_of(wanted.owner, index);
            let key = entry.key(self.table.arena());
            let holders = self.holders_beside(index, entry, own);
            return Again::Answer(Err(LockError::UpgradeConflict { key, holders }));
        }
        match self.call_in(wanted.owner, (index, entry), None) {
            CalledIn::All(..) if !self.lets_upgrade(shard, index) => {
                if waits {
                    return Again::Rises;
                }
                Again::No
            }
            CalledIn::All(seen, reads) => {
                self.records.get(record).prefill(index, wanted.owner, self.now());
                let taken = seen.with_writer(record);
                if entry.swap(seen, taken).is_err() {
                    return Again::Moved;
                }
                shard.counts().immediate += 1;
                let grant = self.begin_hold(record, entry, &self.granting(wanted), taken);
                self.note_served(shard.index(), (index, entry), record, Mode::Exclusive);
                self.count_reads(entry, record, &reads);
                Again::Answer(Ok(grant))
            }
            CalledIn::Moved => Again::Moved,
            CalledIn::No if waits => Again::Rises,
            CalledIn::No => Again::No,
        }
    }

    /// Returns whether a session waits in front of the line already.
    pub(super) fn rises_already(&self, entry: &Entry, owner: u32) -> bool {
        let mut in_front = self.queue(entry).iter().take_while(|(_, waiter)| waiter.asking().goes_first());
        in_front.any(|(_, waiter)| waiter.owner.load(Ordering::Relaxed) == owner)
    }

    /// Returns the first in line, if it rises now. The caller owns the shard.
    pub(super) fn rising(&self, located: (u32, &Entry), leaving: Option<Mode>) -> Option<Rising> {
        let (waiter, first) = self.queue(located.1).first()?;
        let (owner, record) = (first.owner.load(Ordering::Relaxed), first.record.load(Ordering::Relaxed));
        if first.asking().mode != Mode::Exclusive {
            return None;
        }
        let (word, reads) = self.call_in_beside(owner, located, record, leaving)?;
        Some(Rising { waiter, word, reads })
    }

    /// Calls in what a counting session shares, if no other shares it.
    ///
    /// Returns the word, and what is shared beside the hold of this record. The caller owns the shard.
    pub(super) fn call_in_beside(
        &self,
        owner: u32,
        located: (u32, &Entry),
        record: u32,
        leaving: Option<Mode>,
    ) -> Option<(Word, Vec<Grant>)> {
        if !self.counts_holds_of(owner) {
            return None;
        }
        loop {
            match self.call_in(owner, located, leaving) {
                CalledIn::All(word, mut reads) => {
                    reads.retain(|grant| grant.index() != record);
                    return Some((word, reads));
                }
                CalledIn::Moved => {}
                CalledIn::No => return None,
            }
        }
    }

    /// Returns whether several holds of one lock by this owner are counted.
    pub(super) fn counts_holds_of(&self, owner: u32) -> bool {
        self.config.reentrancy == Reentrancy::Count && is_session(owner)
    }

    /// Returns whether no other shares the lock with a guard of this owner.
    ///
    /// Where holds are counted, those of the same session are none of another. The caller owns the shard.
    pub(super) fn shares_alone(&self, owner: u32, (index, entry): (u32, &Entry)) -> bool {
        let readers = entry.word().readers();
        readers == 1 || (self.counts_holds_of(owner) && readers as usize == self.reads_of(owner, index).len())
    }

    /// Calls in the readers, if all but one that is `leaving` are of this session.
    fn call_in(&self, owner: u32, (index, entry): (u32, &Entry), leaving: Option<Mode>) -> CalledIn {
        let seen = entry.word();
        let left = leaving.map_or(seen, |mode| seen.released(mode));
        if left.readers() == 0 {
            return CalledIn::No;
        }
        let own = self.reads_of(owner, index);
        let marked = |grant: &Grant| self.records.get(grant.index()).ask_to_revoke(*grant);
        if left.readers() as usize != own.len() || !own.iter().all(marked) {
            return CalledIn::No;
        }
        let raised = seen.raised();
        if entry.swap(seen, raised).is_err() {
            return CalledIn::Moved;
        }
        let has_gone = |grant: &Grant| self.records.get(grant.index()).has_announced(*grant);
        // It comes to the shard, and the line is served again.
        if own.iter().any(has_gone) { CalledIn::No } else { CalledIn::All(raised, own) }
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
        if self.counts_holds_of(owner) {
            self.look_at_riser(owner, hash, grant);
        }
    }

    #[cold]
    fn look_at_riser(&self, owner: u32, hash: u64, grant: Grant) {
        let Some(held) = self.records.get(grant.index()).held().filter(|held| held.mode == Mode::Shared) else {
            return;
        };
        // Noted first, then asked. A request waits for its session first, and then looks at what is noted, so that one of
        // the two sees the other. Its bit in the word comes after that look.
        if self.sessions.get(owner).is_none_or(|session| session.waits().is_empty()) {
            return;
        }
        let entry = self.table.entry(held.entry);
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
    pub(super) word: Word,
    reads: Vec<Grant>,
}

impl Rising {
    /// Returns what becomes counted with the hold of this waiter, if it rises.
    pub(super) fn reads_with(&self, waiter: u32) -> &[Grant] {
        if self.waiter == waiter { &self.reads } else { &[] }
    }
}

/// What became of an attempt to have readers come to the shard.
enum CalledIn {
    /// All come, and this is the word: their holds end under the shard's mutex.
    All(Word, Vec<Grant>),
    /// Another reader came or went.
    Moved,
    /// Others read, too, or one is about to leave.
    No,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::engine::acquire::{Answer, Wait};
    use crate::hold::OwnerRef;
    use crate::request::Limit;
    use crate::wait::{Delivery, Phase};
    use crate::{FastObjectLockManager, LockConfig, LockError, LockRequest, Mode, Reentrancy};

    fn counting() -> FastObjectLockManager {
        let config = LockConfig { reentrancy: Reentrancy::Count, ..LockConfig::default() };
        FastObjectLockManager::with_config(config).unwrap()
    }

    /// It has one of three reads, or waits until another reader has gone.
    #[test]
    fn upgrade_beside_own_reads_counts_them() {
        for waits in [false, true] {
            let locks = counting();
            let (core, session) = (locks.core(), locks.session("s"));
            let read = LockRequest::read(("b", "o"));
            let reads = [0; 3].map(|_| core.try_now(read.owner(OwnerRef::from(&session)), false).unwrap());
            let label = waits.then(|| locks.lock(read).try_now().unwrap());
            let queued = core.begin_upgrade(reads[1], Delivery::Thread).unwrap();
            assert_eq!(queued.is_some(), waits);
            if let Some((ticket, _)) = queued {
                let conflict = core.begin_upgrade(reads[2], Delivery::Thread).unwrap_err();
                assert!(matches!(conflict, LockError::UpgradeConflict { .. }), "it gets what it asks for");
                assert!(core.waiters.get(ticket.index()).phase().is_queued());
                drop(label);
                let ended = core.finish(core.local(), ticket.index());
                core.upgrade_ended(reads[1], ended, Limit::Never).expect("only the session reads");
            }
            core.try_upgrade(reads[2]).expect("all its holds are exclusive");
            assert!(reads.iter().all(|grant| core.key_and_mode(*grant).unwrap().1 == Mode::Exclusive));
            for grant in reads {
                assert!(locks.try_acquire_read_lock("b", "o", "other").is_err());
                core.release_guard(grant);
            }
            assert!(locks.try_acquire_write_lock("b", "o", "other").is_ok());
        }
    }

    /// The last of its reads is noted while a session waits to rise.
    #[test]
    fn late_note_lets_a_session_rise() {
        let locks = counting();
        let (core, session) = (locks.core(), locks.session("s"));
        let owner = OwnerRef::from(&session);
        let read = LockRequest::read(("b", "o")).owner(owner);
        let noted = core.try_now(read, false).unwrap();
        let wanted = core.wanted(core.local(), &read);
        let late = core.acquire_fast(core.local(), &wanted).unwrap();
        let write = core.wanted(core.local(), &LockRequest::write(("b", "o")).owner(owner));
        let Ok(Answer::Queued(ticket)) = core.acquire_slow(core.local(), &write, Wait::InLine(Delivery::Thread)) else {
            panic!("one of the reads seems to be another's")
        };
        let waiter = core.waiters.get(ticket.index());
        assert!(waiter.phase().is_queued());
        core.note_hold_and_look(wanted.owner, wanted.hash, late);
        assert_eq!(waiter.phase(), Phase::Granted);
        let crate::engine::waiting::Ended::Granted(Some(risen)) = core.finish(core.local(), ticket.index()) else {
            panic!("it was granted")
        };
        for grant in [noted, late, risen] {
            assert!(locks.try_acquire_read_lock("b", "o", "other").is_err());
            core.release_guard(grant);
        }
        assert!(locks.try_acquire_write_lock("b", "o", "other").is_ok());
    }
}
