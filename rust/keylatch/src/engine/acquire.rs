//! A request comes in.
//!
//! The fast path: one hash, one look at the shard, one at a chain, one compare-and-swap, the key confirmed, the hold put
//! on record in the thread's own memory. Whatever is not plainly free goes to the shard, whose answer is exact.

use super::core::{Core, Granting};
use super::local::Local;
use super::reenter::Again;
use crate::config::Fairness;
use crate::error::LockError;
use crate::hold::{Grant, SESSION};
use crate::key::KeyRef;
use crate::memory::NONE;
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::sync::fault::{fault, ordering};
use crate::table::{Entry, Full, LockedShard, Word};
use crate::wait::{Asking, Delivery, Ticket, Waiter};

/// A request, its owner and hash known. The fast path takes it by value and hands copies to the slow ones, so that on
/// the way through it never has to exist in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'k> {
    pub(crate) key: KeyRef<'k>,
    pub(crate) hash: u64,
    pub(crate) mode: Mode,
    pub(crate) owner: u32,
    pub(crate) priority: u8,
    /// The grant is to be a number from the beginning.
    pub(crate) loose: bool,
    /// Nanoseconds of the lease, for a request that waits; 0 for none.
    pub(crate) lease: u64,
}

/// What became of a request on the slow path.
#[derive(Debug)]
#[must_use]
pub(crate) enum Answer {
    Granted(Grant),
    /// It waits; the ticket names its waiter. Where the answer comes by mail, it may have come already.
    Queued(Ticket),
}

/// What the fast path left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missed {
    /// The lock was seen held.
    Held,
    /// The key was not seen in the table.
    Absent,
    /// Something else needs the shard.
    Other,
}

impl Core {
    /// Takes the lock if it is plainly free.
    #[inline(always)]
    pub(crate) fn acquire_fast(&self, local: &Local, wanted: Wanted<'_>) -> Result<Grant, Missed> {
        if self.out_of_service() {
            return Err(Missed::Other);
        }
        match self.table.look_up(wanted.hash) {
            Some(seen) => self.take_as_seen(local, wanted, seen),
            None => Err(Missed::Absent),
        }
    }

    /// Takes the lock as a look-up saw it.
    #[inline(always)]
    pub(crate) fn take_as_seen(
        &self,
        local: &Local,
        wanted: Wanted<'_>,
        (index, entry, mut seen): (u32, &Entry, Word),
    ) -> Result<Grant, Missed> {
        let Some(mut taken) = seen.taken_uncontended(wanted.mode) else { return Err(Missed::Held) };
        let record = self.records.take(&local.records);
        if record == NONE {
            return Err(Missed::Other);
        }
        local.attempt.store(if fault!("attempt-not-announced") { NONE } else { index }, Ordering::Relaxed);
        while let Err(now) = entry.swap(seen, taken) {
            // Another reader came or went; or the entry is another key's by now, which its generation says, unless it
            // has gone all the way round.
            match now.taken_uncontended(wanted.mode) {
                Some(again) if now.has_generation_of(seen) => (seen, taken) = (now, again),
                _ => {
                    self.withdraw(local, record);
                    return Err(Missed::Held);
                }
            }
        }
        if !fault!("key-not-confirmed") && !entry.carries(self.table.arena(), wanted.key) {
            self.undo_slow(local, index, entry, wanted.mode);
            self.withdraw(local, record);
            return Err(Missed::Other);
        }
        let granting = self.granting(&wanted);
        let grant = self.put_on_record(record, (index, entry), &granting, taken);
        // Release: the hold is on record before the attempt is gone.
        local.attempt.store(NONE, Ordering::Release);
        local.count_grant(granting.shard);
        Ok(grant)
    }

    #[inline(always)]
    pub(crate) fn granting(&self, wanted: &Wanted<'_>) -> Granting {
        let Wanted { mode, owner, priority, hash, loose, .. } = *wanted;
        Granting { shard: self.table.shard_of(hash), mode, owner, priority, since: 0, loose }
    }

    #[cold]
    fn withdraw(&self, local: &Local, record: u32) {
        local.attempt.store(NONE, Ordering::Release);
        self.records.put(&local.records, record);
    }

    #[cold]
    #[inline(never)]
    fn undo_slow(&self, local: &Local, index: u32, entry: &Entry, mode: Mode) {
        self.let_go_without_right(local, index, entry, mode);
        if !fault!("undone-not-counted") {
            let release = ordering!(Ordering::Release, "undone-counted-relaxed", Ordering::Relaxed);
            // Release pairs with the Acquire in `is_held_by_right`.
            local.undone.store(local.undone.load(Ordering::Relaxed).wrapping_add(1), release);
        }
    }

    /// Lets go of an entry that turned out to carry another key. Whoever came to wait for it meanwhile is served.
    fn let_go_without_right(&self, local: &Local, index: u32, entry: &Entry, mode: Mode) {
        // Held, so it keeps its key: this is the shard it is in.
        let hash = entry.hash();
        let mut seen = entry.word();
        while let Some(left) =
            seen.released_uncontended(mode).or_else(|| fault!("undo-wakes-nobody").then(|| seen.released(mode)))
        {
            match entry.swap(seen, left) {
                Ok(()) => return,
                Err(now) => seen = now,
            }
        }
        let shard = self.lock_shard(hash);
        if entry.word().is_displaced() {
            return self.leave_displaced(local, shard, index, mode, None);
        }
        self.settle_and_wake(local, shard, index, entry, hash, Some(mode));
    }

    /// Brings a key that is not in the table into it, held by the request: what a key that nobody used lately takes.
    /// `None` if anything else is the case.
    #[inline(never)]
    pub(crate) fn bring_in(&self, local: &Local, wanted: Wanted<'_>) -> Option<Grant> {
        if self.check_key(&wanted.key).is_err() {
            return None;
        }
        let record = self.records.take(&local.records);
        if record == NONE {
            return None;
        }
        let mut shard = self.lock_shard(wanted.hash);
        if !self.is_closed() && shard.find(wanted.hash, &wanted.key).is_none() {
            let grant = self.insert(local, &mut shard, &wanted, record);
            if let Ok(grant) = grant {
                return Some(grant);
            }
        }
        drop(shard);
        self.records.put(&local.records, record);
        None
    }

    /// The exact answer. Without a `delivery` the request is not to wait.
    #[cold]
    #[inline(never)]
    pub(crate) fn acquire_slow(
        &self,
        local: &Local,
        wanted: &Wanted<'_>,
        delivery: Option<Delivery>,
    ) -> Result<Answer, LockError> {
        self.service()?;
        self.check_key(&wanted.key)?;
        self.note_order(wanted, delivery.is_some());
        let mut record = self.records.take(&local.records);
        if record == NONE {
            self.make_room(local);
            record = self.records.take(&local.records);
        }
        if record == NONE {
            return Err(LockError::TableFull { limit: self.config.max_locks });
        }
        let answer = self.acquire_with_record(local, wanted, delivery, record);
        match &answer {
            Ok(Answer::Granted(grant)) => {
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
        delivery: Option<Delivery>,
        record: u32,
    ) -> Result<Answer, LockError> {
        let mut made_room = false;
        // A lease that has run out, and the lock cannot be taken away: it is held like any other.
        let mut in_vain = false;
        loop {
            let mut shard = self.lock_shard(wanted.hash);
            // Asked again under the mutex: whoever closes the manager sets the mark first and then goes through all
            // shards, so that either it finds what is queued here or the mark is seen here.
            if self.is_closed() && !fault!("closed-mark-not-asked-again") {
                return Err(LockError::Closed);
            }
            let Some((index, entry)) = shard.find(wanted.hash, &wanted.key) else {
                match self.insert(local, &mut shard, wanted, record) {
                    Ok(grant) => return Ok(Answer::Granted(grant)),
                    Err(Full) if made_room => return Err(LockError::TableFull { limit: self.config.max_locks }),
                    Err(Full) => {
                        drop(shard);
                        self.make_room(local);
                        made_room = true;
                        continue;
                    }
                }
            };
            let may = self.may_take_now(entry, wanted);
            if may && let Some(taken) = take(entry, wanted.mode) {
                shard.counts().immediate += 1;
                let grant = self.put_on_record(record, (index, entry), &self.granting(wanted), taken);
                return Ok(Answer::Granted(grant));
            }
            if !in_vain && entry.is_leased() && self.has_expired_lease(index, entry) {
                drop(shard);
                // If nothing was taken for another reason, somebody released or renewed it in this moment.
                in_vain = self.take_expired(local, index).no_room && !fault!("expired-in-vain-again");
                continue;
            }
            if wanted.owner & SESSION != 0 {
                match self.ask_again(local, &mut shard, wanted, (index, entry), record, delivery.is_some()) {
                    Again::Answer(answer) => return answer.map(Answer::Granted),
                    Again::Moved => {
                        drop(shard);
                        crate::sync::yield_now();
                        continue;
                    }
                    Again::Full if made_room => {
                        return Err(LockError::TableFull { limit: self.config.max_locks });
                    }
                    Again::Full => {
                        drop(shard);
                        self.make_room(local);
                        made_room = true;
                        continue;
                    }
                    Again::No => {}
                }
            }
            if let Some(delivery) = delivery {
                return self.queue_up(local, shard, wanted, index, entry, record, delivery).map(Answer::Queued);
            }
            // Asked even if it is free by now: whoever was in the way just now need not have been a holder.
            let asked = if fault!("gone-holder-is-certain") { !entry.word().is_free() } else { may };
            if (asked || !entry.word().is_free()) && !self.holder_is_certain(index, entry) {
                // Whoever holds it is about to be on record or to let go, which may need the shard.
                drop(shard);
                crate::sync::yield_now();
                continue;
            }
            let holders = self.holders(index, entry, false);
            return Err(LockError::WouldBlock { key: wanted.key.to_owned(), holders });
        }
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
        if wanted.mode == Mode::Shared {
            // Claimed by us and the shard is ours: nobody else can change the word now.
            entry.publish(entry.word().downgraded());
        }
        shard.counts().immediate += 1;
        Ok(self.put_on_record(record, (index, entry), &self.granting(wanted), entry.word()))
    }

    /// Whether the policy lets a newcomer take the lock past those who wait, if its holders do. The caller owns the shard.
    fn may_take_now(&self, entry: &Entry, wanted: &Wanted<'_>) -> bool {
        let Some((_, first)) = self.queue(entry).first() else { return true };
        if first.asking().upgrade {
            return false;
        }
        match self.config.fairness {
            Fairness::Eventual { .. } => !self.waited_long_enough(first, self.now()),
            Fairness::Fifo | Fairness::WriterFirst => false,
            Fairness::ReaderFirst => wanted.mode == Mode::Shared && self.may_join_readers(entry, wanted.priority),
        }
    }

    /// Whether a reader may join others ahead of everybody in line; counts it for each of them if so. Nobody stands in
    /// line for more than `overtake_limit` of these walks.
    fn may_join_readers(&self, entry: &Entry, priority: u8) -> bool {
        let overtaken = |waiter: &Waiter| waiter.overtaken.load(Ordering::Relaxed);
        let lets_pass =
            |waiter: &Waiter| waiter.asking().priority <= priority && overtaken(waiter) < self.config.overtake_limit;
        let queue = self.queue(entry);
        let joins = entry.word().readers() > 0 && queue.iter().all(|(_, waiter)| lets_pass(waiter));
        if joins {
            queue.iter().for_each(|(_, waiter)| waiter.overtaken.store(overtaken(waiter) + 1, Ordering::Relaxed));
        }
        joins
    }

    /// Puts the request in line. The waiter may have the lock by the time this returns.
    #[expect(clippy::too_many_arguments, reason = "the parts of one path")]
    fn queue_up(
        &self,
        local: &Local,
        mut shard: LockedShard<'_>,
        wanted: &Wanted<'_>,
        index: u32,
        entry: &Entry,
        record: u32,
        delivery: Delivery,
    ) -> Result<Ticket, LockError> {
        let Some(waiter_index) = self.waiters.take() else {
            // A callback or waker that is not needed is dropped off the mutex: its drop is foreign code.
            drop(shard);
            drop(delivery);
            return Err(LockError::TooManyWaiters { limit: self.config.max_waiters });
        };
        let by_mail = matches!(delivery, Delivery::Mail(..));
        let Wanted { mode, priority, loose, .. } = *wanted;
        let asking = Asking { mode, upgrade: false, by_mail, loose, priority };
        let now = self.now();
        let waiter = self.waiters.get(waiter_index);
        waiter.prepare(index, record, wanted.owner, asking, now, delivery);
        waiter.lease.store(wanted.lease, Ordering::Relaxed);
        waiter.set_first_look(self.first_look(wanted.owner, now));
        let ticket = waiter.ticket(waiter_index);
        self.session_waits(waiter);
        self.stamp_holder(index, entry, now);
        self.join_line(&mut shard, entry, waiter_index);
        self.settle_and_wake(local, shard, index, entry, wanted.hash, None);
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
            // The one who upgrades holds the lock already: nobody can have it exclusively before.
            asking.upgrade || (!theirs.upgrade && within_bound && rank(asking) > rank(theirs))
        });
        parked(entry, asking.mode, true);
        let counts = shard.counts();
        counts.waits += 1;
        counts.waiting += 1;
    }
}

/// Takes the lock if its holders allow it, and returns the word as it left it. The caller owns the shard; only the fast
/// path interferes.
pub(crate) fn take(entry: &Entry, mode: Mode) -> Option<Word> {
    let mut seen = entry.word();
    while let Some(taken) = seen.taken(mode) {
        match entry.swap(seen, taken) {
            Ok(()) => return Some(taken),
            Err(now) => seen = now,
        }
    }
    None
}

/// Counts a waiter in or out of those who have to be told when the lock is free. The caller owns the shard.
pub(crate) fn parked(entry: &Entry, mode: Mode, comes: bool) {
    let count = match mode {
        Mode::Shared => &entry.parked_readers,
        Mode::Exclusive => &entry.parked_writers,
    };
    let now = count.load(Ordering::Relaxed);
    count.store(if comes { now + 1 } else { now - 1 }, Ordering::Relaxed);
}
