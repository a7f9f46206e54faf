//! A session asks for a lock that it holds already.
//!
//! Where that would have it wait for itself, it is refused, or granted once more, as the manager is set. A lock that a
//! session holds exclusively more than once is held once in its word, and its entry counts how often; the guard that was
//! there first does not know, so its entry is displaced and it is one of those who come to let go.

use super::acquire::Wanted;
use super::core::{Core, Granting};
use super::local::Local;
use crate::config::Reentrancy;
use crate::error::{DeadlockLink, LockError};
use crate::hold::{Grant, Held};
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::sync::fault::fault;
use crate::table::{Entry, Full, LockedShard};
use std::ops::ControlFlow;

use super::take_away::{Displaced, InTransition};

impl Core {
    /// The answer to a session that asks for a held lock, if it is the one who holds it. `waits` is whether it would wait.
    /// The caller owns the shard.
    pub(crate) fn ask_again(
        &self,
        local: &Local,
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
        let Some((first, held)) = self.hold_of(wanted.owner, index, entry) else { return Again::No };
        if counts && entry.word().is_exclusive() != (held.mode == Mode::Exclusive) {
            // It changes its mode at this moment.
            return Again::Moved;
        }
        if counts && held.mode == Mode::Exclusive {
            return self.count_once_more(local, shard, wanted, (index, entry), record, first);
        }
        if counts && wanted.mode == Mode::Shared {
            // It shares the lock with others, and does so once more, whoever waits: they wait for it in any case.
            let Some(taken) = super::acquire::take(entry, Mode::Shared) else { return Again::No };
            shard.counts().immediate += 1;
            let grant = self.put_on_record(record, (index, entry), &self.granting(wanted), taken);
            return Again::Answer(Ok(grant));
        }
        if !waits {
            return Again::No;
        }
        let label = self.owner_label(wanted.owner);
        let (key, mode) = (wanted.key.to_owned(), wanted.mode);
        let (session, source) = (label.name, label.source);
        let link = DeadlockLink { session, source, key: key.clone(), mode, blocked_by: Some(held.mode) };
        Again::Answer(Err(LockError::Deadlock { key, cycle: [link].into() }))
    }

    /// A hold that an owner has of a lock, the exclusive one if there is one. The caller owns the shard.
    fn hold_of(&self, owner: u32, index: u32, entry: &Entry) -> Option<(Grant, Held)> {
        let aliased = entry.is_aliased();
        let is_its = |held: &Held| held.owner == owner && self.home_if(aliased, held.entry) == index;
        if entry.word().is_exclusive() && !aliased {
            return self.exclusive_holder(index, entry).filter(|(_, held)| held.owner == owner);
        }
        let mut found = None;
        self.records.for_each_until(usize::MAX, |record_index, record| {
            if (aliased || record.may_hold(index))
                && record.owner() == owner
                && let Some(held) = record.held().filter(is_its)
            {
                found = Some((held.grant(record_index), held));
                if held.mode == Mode::Exclusive || !entry.word().is_exclusive() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// The exclusive holder of an entry that is not aliased, if it is on record. The caller owns the shard.
    pub(crate) fn exclusive_holder(&self, index: u32, entry: &Entry) -> Option<(Grant, Held)> {
        let holder = entry.holder.load(Ordering::Acquire);
        let held = self.records.could_be(holder).then(|| self.records.get(holder).held()).flatten();
        let is_on_record = |held: &Held| held.entry == index && held.mode == Mode::Exclusive;
        held.filter(is_on_record).map(|held| (held.grant(holder), held))
    }

    /// Grants once more what the session holds exclusively, whatever it asks for.
    fn count_once_more(
        &self,
        local: &Local,
        shard: &mut LockedShard<'_>,
        wanted: &Wanted<'_>,
        (index, entry): (u32, &Entry),
        record: u32,
        first: Grant,
    ) -> Again {
        let mut home = (index, entry);
        if entry.counted() == 0 {
            match self.displace(local, shard, index, &[first], None) {
                Err(InTransition) => return Again::Moved,
                Ok(Err(Full)) => return Again::Full,
                // Released meanwhile, and its entry may have left the table to make room: only a new look-up may be
                // queued on.
                Ok(Ok(None)) => return Again::Moved,
                Ok(Ok(Some(Displaced { stand_in, .. }))) => home = (stand_in, self.table.entry(stand_in)),
            }
            let is_there =
                self.records.get(first.index()).held().is_some_and(|held| held.grant(first.index()) == first);
            // It may have gone, or shared the lock, before its entry was displaced.
            if !is_there || !(home.1.word().is_exclusive() || fault!("shared-hold-counted")) {
                return Again::Moved;
            }
            home.1.set_counted(1);
        }
        let (index, entry) = home;
        entry.set_counted(entry.counted() + u32::from(!fault!("asked-again-not-counted")));
        shard.counts().immediate += 1;
        let fence = entry.fence.load(Ordering::Relaxed);
        let granting = Granting { mode: Mode::Exclusive, loose: false, since: self.now(), ..self.granting(wanted) };
        let grant = self.put_on_record(record, (index, entry), &granting, entry.word());
        // It is one hold, and has one number.
        entry.fence.store(fence, Ordering::Relaxed);
        self.records.get(record).mark_counted(grant);
        if wanted.loose {
            self.let_loose(grant);
        }
        Again::Answer(Ok(grant))
    }
}

/// Whether a session asked for what it holds.
#[must_use]
pub(crate) enum Again {
    Answer(Result<Grant, LockError>),
    /// It did not, or waits like anybody else.
    No,
    /// Its hold changed meanwhile, and its entry with it.
    Moved,
    /// It did, and there is no room for the entry that would count.
    Full,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::hold::OwnerRef;
    use crate::{FastObjectLockManager, LockConfig, LockRequest};

    /// The guard goes, and its entry with it, between the look at who holds the key and the count.
    #[test]
    fn count_of_a_hold_that_went_asks_anew() {
        let config = LockConfig { max_locks: 4, reentrancy: Reentrancy::Count, ..LockConfig::default() };
        let locks = FastObjectLockManager::with_config(config).unwrap();
        let (core, session) = (locks.core(), locks.session("s"));
        let names: Vec<String> = (0..1000).map(|number| format!("filler-{number}")).collect();
        let mut fillers: Vec<_> =
            names.iter().map_while(|name| locks.try_acquire_write_lock("b", name, "filler").ok()).collect();
        fillers.pop();
        let request = LockRequest::write(("b", "o")).owner(OwnerRef::from(&session));
        let first = core.try_now(request, false).unwrap();
        let (local, wanted) = (core.local(), core.wanted(core.local(), &request));
        let record = core.records.take(&local.records);
        let mut shard = core.lock_shard(wanted.hash);
        let found = shard.find(wanted.hash, &wanted.key).expect("held");
        core.release_guard(first);
        let answer = core.count_once_more(local, &mut shard, &wanted, found, record, first);
        assert!(matches!(answer, Again::Moved), "the entry that was found is none any more");
        core.records.put(&local.records, record);
    }
}
