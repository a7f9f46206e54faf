//! A session asks for a lock that it holds already.
//!
//! Where that would have it wait for itself, it is refused, or granted once more, as the manager is set. A lock that a
//! session holds exclusively more than once is held once in its word, and its entry counts how often. The guard that was
//! there first does not know, so the word's generation is raised: its release comes to the shard, like that of the others.

use super::core::Core;
use super::wanted::Wanted;
use crate::config::Reentrancy;
use crate::error::{DeadlockLink, LockError};
use crate::hold::{FirstState, Grant, NotedHold};
use crate::memory::NONE;
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::table::{Entry, LockedShard};
use std::ops::ControlFlow;

impl Core {
    /// Answers a session that asks for a lock that it holds itself.
    ///
    /// `waits` is whether it would wait. Caller holds: shard mutex.
    pub(crate) fn ask_again(
        &self,
        shard: &mut LockedShard<'_>,
        wanted: &Wanted<'_>,
        (index, entry): (u32, &Entry),
        record: u32,
        waits: bool,
    ) -> Again {
        let counts = self.config.reentrancy == Reentrancy::Count;
        let word = entry.word();
        if word.is_free() || (!counts && (!waits || (!word.is_exclusive() && wanted.mode == Mode::Shared))) {
            return Again::No;
        }
        let Some(held) = self.mode_of_hold(wanted.owner, index, entry) else { return Again::No };
        if counts && held == Mode::Exclusive {
            if !self.covers(shard, index, Mode::Exclusive) {
                return Again::No;
            }
            return self.count_once_more(shard, wanted, (index, entry), record);
        }
        if counts && wanted.mode == Mode::Exclusive {
            return self.rise_now(shard, wanted, (index, entry), record, waits);
        }
        if counts {
            // It shares the lock, and may once more: the waiters wait for it in any case.
            if !self.covers(shard, index, Mode::Shared) {
                return Again::No;
            }
            return match self.take_locked(shard, wanted, (index, entry), record) {
                Some(grant) => Again::Answer(Ok(grant)),
                None => Again::No,
            };
        }
        if !waits {
            return Again::No;
        }
        let label = self.owner_label(wanted.owner);
        let (key, mode) = (wanted.key.to_owned(), wanted.mode);
        let (session, source) = (label.name, label.source);
        let link = DeadlockLink { session, source, key: key.clone(), mode, blocked_by: Some(held) };
        Again::Answer(Err(LockError::Deadlock { key, cycle: [link].into() }))
    }

    /// Returns the mode in which a session holds a lock. Caller holds: shard mutex.
    ///
    /// Of a lock that is held exclusively only its holder is asked; otherwise the session's own holds are looked through.
    fn mode_of_hold(&self, owner: u32, index: u32, entry: &Entry) -> Option<Mode> {
        let word = entry.word();
        if word.is_exclusive() {
            // Filled in before the word named it, so this is right even if the hold is not on record yet.
            let writer = word.writer();
            return (writer != NONE && self.records.get(writer).owner() == owner).then_some(Mode::Exclusive);
        }
        if word.is_free() {
            return None;
        }
        let (hash, mut found) = (entry.hash(), None);
        self.sessions.get(owner)?.for_each_hold(|NotedHold { hash: noted, grant }| {
            let held = (noted == hash).then(|| self.records.get(grant.index()).held()).flatten();
            // A writer that has left is on record until its record is given back.
            if held.is_some_and(|held| {
                held.grant(grant.index()) == grant && held.entry == index && held.mode == Mode::Shared
            }) {
                found = Some(Mode::Shared);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// Grants once more what the session holds exclusively, whatever it asks for.
    fn count_once_more(
        &self,
        shard: &mut LockedShard<'_>,
        wanted: &Wanted<'_>,
        (index, entry): (u32, &Entry),
        record_index: u32,
    ) -> Again {
        if entry.counted() == 0 {
            let seen = entry.word();
            if !seen.is_exclusive() || entry.swap(seen, seen.raised()).is_err() {
                return Again::Moved;
            }
            // Asked after that: the same record may have held the lock for another owner since.
            if self.records.get(seen.writer()).owner() != wanted.owner {
                return Again::Moved;
            }
            entry.set_counted(1);
            entry.reader.store(NONE, Ordering::Relaxed);
        }
        entry.set_counted(entry.counted() + 1);
        shard.counts().immediate += 1;
        let record = self.records.get(record_index);
        record.prefill(index, wanted.owner, self.now());
        record.set_note(entry.word().noted_with(self.table.shard_of(wanted.hash)));
        record.set_next_counted(entry.reader.load(Ordering::Relaxed));
        entry.reader.store(record_index, Ordering::Relaxed);
        // It is one hold, and has one number.
        let grant: Grant = record.begin(record_index, FirstState::new(Mode::Exclusive, wanted.priority, false));
        record.mark_counted(grant);
        if wanted.detached {
            self.detach(grant);
        }
        Again::Answer(Ok(grant))
    }
}

/// Whether a session asked for what it holds.
#[must_use]
pub(crate) enum Again {
    Answer(Result<Grant, LockError>),
    /// It shares the lock with others, and waits for those in front of the line.
    Rises,
    /// It did not, or waits like anybody else.
    No,
    /// Its hold changed meanwhile.
    Moved,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::hold::OwnerRef;
    use crate::tier::{Answer, Ask, Effort, Fences, PermitId, Term, Tier, TierError, TierEvents};
    use crate::{FastObjectLockManager, LockConfig, LockRequest};
    use std::sync::Arc;

    /// The guard goes between the look at who holds the key and the count.
    #[test]
    fn count_of_a_hold_that_went_asks_anew() {
        let config = LockConfig { max_locks: 4, reentrancy: Reentrancy::Count, ..LockConfig::default() };
        let locks = FastObjectLockManager::with_config(config).unwrap();
        let (core, session) = (locks.core(), locks.session("s"));
        let request = LockRequest::write(("b", "o")).owner(OwnerRef::from(&session));
        let first = core.try_now(request, false).unwrap();
        let (local, wanted) = (core.local(), core.wanted(core.local(), &request));
        let record = core.records.take(&local.records);
        let mut shard = core.lock_shard(wanted.hash);
        let found = shard.find(wanted.hash, &wanted.key).expect("held");
        core.release_guard(first);
        let answer = core.count_once_more(&mut shard, &wanted, found, record);
        assert!(matches!(answer, Again::Moved), "the entry that was found is free");
        core.records.put(&local.records, record);
    }

    /// Grants everything.
    #[derive(Debug)]
    struct Generous;

    impl Tier for Generous {
        fn attach(&self, _: Arc<dyn TierEvents>) -> Result<Term, TierError> {
            Ok(Term(0))
        }
        fn ask(&self, _: &[Ask<'_>], _: Effort, answers: &mut [Answer]) {
            let fences = Fences { first: 1, count: 100 };
            answers.fill(Answer::Granted { fences, previous_died: false });
        }
        fn withdraw(&self, _: PermitId) {}
        fn give_back(&self, _: PermitId) {}
        fn downgrade(&self, _: PermitId) {}
        fn upgrade(&self, _: PermitId, _: Term, _: Effort) -> Answer {
            Answer::Busy
        }
        fn detach(&self) {}
    }

    /// The loss is known, and its holds are not revoked yet.
    #[test]
    fn count_needs_the_permit_that_the_hold_has() {
        let config = LockConfig { reentrancy: Reentrancy::Count, ..LockConfig::default() };
        let locks = FastObjectLockManager::with_tier(config, Arc::new(Generous)).unwrap();
        let (core, session) = (locks.core(), locks.session("s"));
        let request = LockRequest::write(("b", "o")).owner(OwnerRef::from(&session));
        let (first, second) = (core.try_now(request, false).unwrap(), core.try_now(request, false).unwrap());
        let wanted = core.wanted(core.local(), &request);
        let shard = core.lock_shard(wanted.hash);
        let (index, _) = shard.find(wanted.hash, &wanted.key).expect("held");
        let mut permits = core.tiered().unwrap().permits(shard.index());
        assert!(permits.get_mut(&index).unwrap().lose_term(Term(0)));
        drop((permits, shard));
        assert!(matches!(core.try_now(request, false), Err(LockError::Tier { .. })));
        core.release_guard(second);
        core.release_guard(first);
    }
}
