//! A request that the fast path did not serve comes to the shard, whose answer is exact.

use super::core::Core;
use super::local::Local;
use super::reenter::Again;
use super::wanted::Wanted;
use crate::config::Fairness;
use crate::error::LockError;
use crate::hold::{Grant, SESSION};
use crate::memory::NONE;
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::table::{Entry, Full, LockedShard, Word};
use crate::wait::{Asking, Delivery, Ticket, Waiter};

/// What a request waits for that cannot have its lock now, and how it is woken.
#[derive(Debug)]
pub(crate) enum Wait {
    /// For those who hold the lock, and for the tier.
    InLine(Delivery),
    /// For the tier's answer alone: it fails if a thread of this process is in the way.
    ForTier(Delivery),
}

/// What became of a request on the slow path.
#[derive(Debug)]
#[must_use]
pub(crate) enum Answer {
    Granted(Grant),
    /// It waits; the ticket names its waiter.
    ///
    /// A callback or a completion queue may have its answer already.
    Queued(Ticket),
}

impl Core {
    /// Inserts a key that is not in the table, held by the request.
    ///
    /// Returns `None` if the key is there, or anything else needs the shard.
    #[inline(never)]
    pub(crate) fn bring_in(&self, local: &Local, wanted: &Wanted<'_>) -> Option<Grant> {
        if self.is_forked() || !self.serves_fast() || self.check_key(&wanted.key).is_err() {
            return None;
        }
        let record = self.records.take(&local.records);
        if record == NONE {
            return None;
        }
        let mut shard = self.lock_shard(wanted.hash);
        if !self.is_closed() && shard.find(wanted.hash, &wanted.key).is_none() {
            let grant = self.insert(local, &mut shard, wanted, record);
            if let Ok(grant) = grant {
                return Some(grant);
            }
        }
        drop(shard);
        self.records.put(&local.records, record);
        None
    }

    /// The exact answer.
    #[cold]
    #[inline(never)]
    pub(crate) fn acquire_slow(&self, local: &Local, wanted: &Wanted<'_>, wait: Wait) -> Result<Answer, LockError> {
        self.service()?;
        self.check_key(&wanted.key)?;
        self.note_order(wanted, matches!(wait, Wait::InLine(_)));
        self.trim_permits(local, self.table.shard_of(wanted.hash));
        let mut record = self.records.take(&local.records);
        if record == NONE {
            self.reclaim(local);
            record = self.records.take(&local.records);
        }
        if record == NONE {
            return Err(LockError::TableFull { limit: self.config.max_locks });
        }
        let answer = self.acquire_with_record(local, wanted, wait, record);
        match &answer {
            Ok(Answer::Granted(grant)) => {
                self.check_term(*grant)?;
                self.note_hold_and_look(wanted.owner, wanted.hash, *grant);
                self.note_taken(wanted.owner, *grant, || wanted.key.to_owned(), wanted.mode);
                self.time_hold(*grant);
            }
            Ok(Answer::Queued(_)) => {}
            Err(_) => self.records.put(&local.records, record),
        }
        answer
    }

    fn acquire_with_record(
        &self,
        local: &Local,
        wanted: &Wanted<'_>,
        wait: Wait,
        record: u32,
    ) -> Result<Answer, LockError> {
        let in_line = matches!(wait, Wait::InLine(_));
        let mut made_room = false;
        loop {
            let mut shard = self.lock_shard(wanted.hash);
            // Asked again under the mutex: the closer sets the mark first and then goes through all shards, so that either
            // it finds what is queued here or the mark is seen here.
            if self.is_closed() {
                return Err(LockError::Closed);
            }
            let found = match shard.find(wanted.hash, &wanted.key) {
                Some(found) => Ok(found),
                // Nothing is granted before the tier permits it.
                None if self.tiered().is_some() => shard.insert_idle(&local.entries, wanted.hash, &wanted.key, None),
                None => match self.insert(local, &mut shard, wanted, record) {
                    Ok(grant) => return Ok(Answer::Granted(grant)),
                    Err(full) => Err(full),
                },
            };
            let (index, entry) = match found {
                Ok(found) => found,
                Err(Full) if made_room => return Err(LockError::TableFull { limit: self.config.max_locks }),
                Err(Full) => {
                    drop(shard);
                    self.reclaim(local);
                    made_room = true;
                    continue;
                }
            };
            if wanted.mode == Mode::Exclusive {
                shard.unbias(index, entry);
            }
            if self.may_take_now(entry, wanted)
                && self.admits_newcomer(&shard, index, wanted.mode)
                && let Some(grant) = self.take_locked(&mut shard, wanted, (index, entry), record)
            {
                return Ok(Answer::Granted(grant));
            }
            if entry.is_leased() && self.has_expired_lease(index, entry) {
                drop(shard);
                // If nothing was revoked, a holder has released or renewed it meanwhile.
                self.revoke_expired(local, index);
                continue;
            }
            let mut rises = false;
            if wanted.owner & SESSION != 0 {
                match self.ask_again(&mut shard, wanted, (index, entry), record, in_line) {
                    Again::Answer(answer) => return answer.map(Answer::Granted),
                    Again::Moved => continue,
                    Again::Rises => rises = true,
                    Again::No => {}
                }
            }
            // No permit helps against the threads of this process.
            let asks_tier =
                || self.may_try_tier(&shard, index, entry) && entry.word().taken(wanted.mode, NONE).is_some();
            if in_line || asks_tier() {
                return self.queue_up(local, shard, (wanted, rises), (index, entry), record, wait).map(Answer::Queued);
            }
            if self.has_lost_permit(&shard, index) {
                return Err(Self::without_term());
            }
            let holders = self.holders(index, entry);
            return Err(LockError::WouldBlock { key: wanted.key.to_owned(), holders });
        }
    }

    /// Takes the lock if its holders allow it. The caller owns the shard.
    pub(crate) fn take_locked(
        &self,
        shard: &mut LockedShard<'_>,
        wanted: &Wanted<'_>,
        (index, entry): (u32, &Entry),
        record: u32,
    ) -> Option<Grant> {
        self.records.get(record).prefill(index, wanted.owner, 0);
        let taken = take(entry, wanted.mode, record)?;
        shard.counts().immediate += 1;
        let grant = self.begin_hold(record, entry, &self.granting(wanted), taken);
        self.note_served(shard.index(), (index, entry), record, wanted.mode);
        Some(grant)
    }

    /// Brings a new key into the table, held by the request.
    #[inline]
    fn insert(
        &self,
        local: &Local,
        shard: &mut LockedShard<'_>,
        wanted: &Wanted<'_>,
        record: u32,
    ) -> Result<Grant, Full> {
        let (index, entry) = shard.insert(&local.entries, wanted.hash, &wanted.key)?;
        self.records.get(record).prefill(index, wanted.owner, 0);
        let claimed = entry.word().with_writer(record);
        let taken = if wanted.mode == Mode::Shared { claimed.downgraded() } else { claimed };
        // Claimed, and its shard is locked: no other thread can change the word now.
        entry.publish(taken);
        shard.counts().immediate += 1;
        Ok(self.begin_hold(record, entry, &self.granting(wanted), taken))
    }

    /// Returns whether the policy lets a newcomer take the lock ahead of the queue.
    ///
    /// Caller holds: shard mutex.
    fn may_take_now(&self, entry: &Entry, wanted: &Wanted<'_>) -> bool {
        let Some(first) = self.first_in_turn(entry) else { return true };
        if first.asking().goes_first() {
            return false;
        }
        match self.config.fairness {
            Fairness::Eventual { .. } => !self.waited_long_enough(first, self.now()),
            Fairness::Fifo | Fairness::WriterFirst => false,
            Fairness::ReaderFirst => wanted.mode == Mode::Shared && self.may_join_readers(entry, wanted.priority),
        }
    }

    /// Returns whether a reader may join the holders ahead of all waiters.
    ///
    /// If so, it counts for each of them. No waiter stays in the queue for more than `overtake_limit` of these walks.
    fn may_join_readers(&self, entry: &Entry, priority: u8) -> bool {
        let overtaken = |waiter: &Waiter| waiter.overtaken.load(Ordering::Relaxed);
        let count = |waiter: &Waiter, times| waiter.overtaken.store(times, Ordering::Relaxed);
        let lets_pass =
            |waiter: &Waiter| waiter.asking().priority <= priority && overtaken(waiter) < self.config.overtake_limit;
        if entry.word().readers() == 0 {
            return false;
        }
        let queue = self.queue(entry);
        for (passed, (_, waiter)) in queue.iter().enumerate() {
            if !lets_pass(waiter) {
                // It passed none.
                queue.iter().take(passed).for_each(|(_, waiter)| count(waiter, overtaken(waiter) - 1));
                return false;
            }
            count(waiter, overtaken(waiter) + 1);
        }
        true
    }

    /// Queues the request. The waiter may have the lock when this returns.
    fn queue_up(
        &self,
        local: &Local,
        mut shard: LockedShard<'_>,
        (wanted, rises): (&Wanted<'_>, bool),
        (index, entry): (u32, &Entry),
        record: u32,
        wait: Wait,
    ) -> Result<Ticket, LockError> {
        let tries = matches!(wait, Wait::ForTier(_));
        let (Wait::InLine(delivery) | Wait::ForTier(delivery)) = wait;
        let Some(waiter_index) = self.waiters.take() else {
            // An entry that was brought in for this request may be in no slot.
            self.grant_waiters_and_unlock(local, shard, index, entry, wanted.hash, None);
            // A callback or waker that is not needed is dropped off the mutex: its drop runs user code.
            drop(delivery);
            return Err(LockError::TooManyWaiters { limit: self.config.max_waiters });
        };
        let by_completion = matches!(delivery, Delivery::Completion(..));
        let Wanted { mode, priority, detached, .. } = *wanted;
        let asking = Asking { mode, upgrade: false, rises, by_completion, detached, tries, priority };
        let now = self.now();
        let waiter = self.waiters.get(waiter_index);
        waiter.prepare(index, record, wanted.owner, asking, now, delivery);
        waiter.lease.store(wanted.lease, Ordering::Relaxed);
        waiter.set_first_look(self.first_look(wanted.owner, now));
        let ticket = waiter.ticket(waiter_index);
        self.session_waits(waiter);
        self.stamp_holder(index, entry, now);
        self.join_line(&mut shard, entry, waiter_index);
        self.grant_waiters_and_unlock(local, shard, index, entry, wanted.hash, None);
        self.look_at_grants(now);
        Ok(ticket)
    }

    /// Adds a waiter to the line where its priority and the policy put it.
    pub(crate) fn join_line(&self, shard: &mut LockedShard<'_>, entry: &Entry, waiter_index: u32) {
        let asking = self.waiters.get(waiter_index).asking();
        let preferred = match self.config.fairness {
            Fairness::WriterFirst => Some(Mode::Exclusive),
            Fairness::ReaderFirst => Some(Mode::Shared),
            Fairness::Eventual { .. } | Fairness::Fifo => None,
        };
        let rank = |asking: Asking| (asking.priority, preferred == Some(asking.mode));
        self.queue(entry).join(waiter_index, |other| {
            let theirs = other.asking();
            let within_bound = other.overtaken.load(Ordering::Relaxed) < self.config.overtake_limit;
            let goes_past =
                asking.goes_first() || (!theirs.goes_first() && within_bound && rank(asking) > rank(theirs));
            // It is answered soon, and nothing else would answer it behind others.
            goes_past && !theirs.tries
        });
        let counts = shard.counts();
        counts.waits += 1;
        counts.waiting += 1;
    }
}

/// Takes the lock for a record that was filled in, if its holders allow it.
///
/// Returns the word as it left it. Caller holds: shard mutex. Only the fast path interferes.
pub(crate) fn take(entry: &Entry, mode: Mode, record: u32) -> Option<Word> {
    let mut seen = entry.word();
    while let Some(taken) = seen.taken(mode, record) {
        match entry.swap(seen, taken) {
            Ok(()) => return Some(taken),
            Err(now) => seen = now,
        }
    }
    None
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{FastObjectLockManager, LockConfig, LockRequest};
    use std::future::{Future, IntoFuture};
    use std::task::{Context, Waker};

    #[test]
    fn refused_reader_has_passed_no_waiter() {
        let config = LockConfig { fairness: Fairness::ReaderFirst, overtake_limit: 1, ..LockConfig::default() };
        let locks = FastObjectLockManager::with_config(config).unwrap();
        let (read, write) = (LockRequest::read(("b", "o")), LockRequest::write(("b", "o")));
        let held = locks.lock(read).blocking().unwrap();
        // The second passes the first, which no other may pass then.
        let mut waits = [0, 1].map(|priority| Box::pin(locks.lock(write.priority(priority)).into_future()));
        for wait in &mut waits {
            assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        for _ in 0..3 {
            assert!(locks.lock(read.priority(1)).try_now().is_err());
        }
        let mut overtaken = Vec::new();
        locks.core().waiters.for_each(|_, waiter| {
            if waiter.phase().is_queued() {
                overtaken.push((waiter.asking().priority, waiter.overtaken.load(Ordering::Relaxed)));
            }
        });
        overtaken.sort_unstable();
        assert_eq!(overtaken, [(0, 1), (1, 0)]);
        drop((waits, held));
        assert!(locks.lock(write).try_now().is_ok());
    }
}
