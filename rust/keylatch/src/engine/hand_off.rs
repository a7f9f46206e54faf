//! Who goes next.
//!
//! Everything that could let a waiter go on ends here: a release, a downgrade, a waiter that gave up, a newcomer in
//! line. Under the shard's mutex a plan is made from the word and the line, the word is swapped for the planned one, and
//! the waiters that it makes holders are told after the mutex is released.
//!
//! *Handing over* makes the next in line a holder in the same compare-and-swap in which the last one stops being one, so
//! that there is no moment in which the lock is free and somebody entitled sleeps. Only the last reader leaves first and
//! comes here right after; until it has, the waiting bits keep the fast path out, and whoever else comes to the shard
//! serves the line in its place. Under `Fairness::Eventual` a lock is
//! set free instead, and the first in line told to come and try, as long as it has not waited too long.

use super::acquire::{parked, take};
use super::core::{Core, Granting};
use super::local::Local;
use super::looking::Reminder;
use crate::memory::NONE;
use crate::mode::Mode;
use crate::observe::{WaitOutcome, bucket_of};
use crate::sync::atomic::Ordering;
use crate::sync::fault::fault;
use crate::table::{Entry, LockedShard, Word};
use crate::wait::{Asking, News, Phase, Ticket, Waiter};

/// Waiters served before the shard's mutex is released once: bounds the time under it, and the room for their news.
const A_ROUND: usize = if cfg!(loom) { 2 } else { 16 };

/// News to deliver once the mutex is released: foreign code must never run under it.
struct Round {
    news: [Option<(u32, News)>; A_ROUND],
    len: usize,
    /// For the first in line, if a lease keeps it waiting.
    reminder: Option<Reminder>,
}

impl Round {
    fn new() -> Self {
        Self { news: [const { None }; A_ROUND], len: 0, reminder: None }
    }

    fn add(&mut self, index: u32, news: News) {
        self.news[self.len] = Some((index, news));
        self.len += 1;
    }

    fn deliver(self, core: &Core) {
        for (index, news) in self.news.into_iter().flatten() {
            core.tell(index, news);
        }
        self.reminder.into_iter().for_each(|reminder| core.remind(reminder));
    }
}

/// What is to become of a lock.
struct Plan {
    word: Word,
    /// So many from the front of the line become holders.
    admitted: usize,
    /// The first in line is told to come and try.
    notify_first: bool,
}

impl Core {
    /// Delivers news; off every mutex.
    pub(crate) fn tell(&self, waiter_index: u32, news: News) {
        match news {
            // The waiter may be another's by now, who then looks at its phase once for nothing.
            News::Thread if fault!("sleeper-not-woken") => {}
            News::Thread => self.waiters.get(waiter_index).wake(),
            News::Task(Some(waker)) => waker.wake(),
            News::Task(None) => {}
            News::Mail(mailbox) => mailbox.post(&self.waiters, waiter_index),
        }
    }

    /// Does everything that can be done for the line at an entry, after `leaving`, one of its holders, has gone; then
    /// releases the shard and tells those concerned. `hash` is the entry's, read while it could not change.
    pub(crate) fn settle_and_wake<'t>(
        &'t self,
        local: &Local,
        mut shard: LockedShard<'t>,
        index: u32,
        entry: &Entry,
        hash: u64,
        mut leaving: Option<Mode>,
    ) {
        loop {
            let mut round = Round::new();
            let more = self.settle(local, &mut shard, index, entry, leaving.take(), &mut round);
            if fault!("told-under-the-mutex") {
                return round.deliver(self);
            }
            drop(shard);
            round.deliver(self);
            self.events.tell_noted();
            if !more {
                return;
            }
            shard = self.lock_shard(hash);
            // Without the mutex the line may have been served by others, and the entry be another shard's.
            if !shard.has(hash, index) {
                return;
            }
        }
    }

    /// One round of it. Returns whether there may be more to do.
    fn settle(
        &self,
        local: &Local,
        shard: &mut LockedShard<'_>,
        index: u32,
        entry: &Entry,
        leaving: Option<Mode>,
        round: &mut Round,
    ) -> bool {
        let queue = self.queue(entry);
        let now = if queue.is_empty() { 0 } else { self.now() };
        let plan = loop {
            let seen = entry.word();
            let left = leaving.map_or(seen, |mode| seen.released(mode));
            if left.is_free() {
                entry.clear_pins();
            }
            let plan = self.plan(entry, left, now);
            // Equal when the lock goes from one exclusive holder to the next and the counts show as before. Nobody else
            // could have changed it: W keeps the fast path out, and the shard is ours.
            if plan.word == seen || entry.swap(seen, plan.word).is_ok() {
                break plan;
            }
        };
        for _ in 0..plan.admitted {
            let Some((first_index, first)) = queue.first() else { break };
            self.leave_line(shard, entry, first, now);
            if let Some(news) = self.make_holder(shard, index, entry, first, now) {
                round.add(first_index, news);
            }
        }
        if plan.notify_first
            && let Some((first_index, first)) = queue.first()
        {
            parked(entry, first.asking().mode, false);
            let (was, news) = first.advance_with_news(Phase::Notified);
            if was == Phase::Parked || !matches!(news, News::Thread) {
                round.add(first_index, news);
            }
        }
        if queue.is_empty() {
            let word = entry.word();
            if word.is_free() && word.table_waits() {
                shard.keep_or_evict(&local.entries, index);
            }
            return false;
        }
        if entry.is_leased() {
            round.reminder = self.watch_leases(index, entry);
        }
        plan.admitted == A_ROUND && !fault!("round-not-continued")
    }

    /// What the word would be, and for whom. Changes nothing.
    fn plan(&self, entry: &Entry, mut word: Word, now: u64) -> Plan {
        let queue = self.queue(entry);
        let (mut admitted, mut notify_first) = (0, false);
        let mut readers = entry.parked_readers.load(Ordering::Relaxed);
        let mut writers = entry.parked_writers.load(Ordering::Relaxed);
        // Once the manager is closed nobody gets a lock any more; who waits is about to be told.
        let mut next = queue.first().filter(|_| !self.is_closed());
        while let Some((_, waiter)) = next {
            let asking = waiter.asking();
            let with_it = if asking.upgrade { word.upgraded() } else { word.taken(asking.mode) };
            let Some(with_it) = with_it else { break };
            let by_hand = !word.is_free() || asking.by_mail || self.waited_long_enough(waiter, now);
            if admitted == A_ROUND || (!by_hand && !waiter.phase().is_asleep()) {
                break;
            }
            if waiter.phase().is_asleep() {
                match asking.mode {
                    Mode::Shared => readers -= 1,
                    Mode::Exclusive => writers -= 1,
                }
            }
            if !by_hand {
                notify_first = true;
                break;
            }
            word = with_it;
            admitted += 1;
            next = queue.after(waiter);
        }
        // Whoever is on its way to try settles the line again, won or lost. Until then releases need not look in, which
        // is what lets a running thread go on at full speed.
        let on_its_way = fault!("waiting-not-shown")
            || notify_first
            || next.is_some_and(|(_, waiter)| waiter.phase() == Phase::Notified);
        let shown = if on_its_way { word.with_waiting(0, 0) } else { word.with_waiting(readers, writers) };
        Plan { word: shown, admitted, notify_first }
    }

    /// Whether a waiter is to be handed the lock rather than told to try.
    pub(crate) fn waited_long_enough(&self, waiter: &Waiter, now: u64) -> bool {
        match self.max_wait() {
            None => true,
            Some(after) => now.saturating_sub(waiter.since.load(Ordering::Relaxed)) >= after,
        }
    }

    /// Takes a waiter out of the line and counts its wait.
    fn leave_line(&self, shard: &mut LockedShard<'_>, entry: &Entry, waiter: &Waiter, now: u64) {
        self.queue(entry).leave(waiter);
        self.session_waits_no_more(waiter);
        if waiter.phase().is_asleep() {
            parked(entry, waiter.asking().mode, false);
        }
        let waited = now.saturating_sub(waiter.since.load(Ordering::Relaxed));
        let counts = shard.counts();
        counts.waiting -= 1;
        counts.wait_nanos = counts.wait_nanos.saturating_add(waited);
        counts.max_wait_nanos = counts.max_wait_nanos.max(waited);
        counts.wait_histogram[bucket_of(waited)] += 1;
    }

    /// Puts on record that a waiter, whom the word counts already, holds the lock. Returns whether anybody is to be told.
    fn make_holder(
        &self,
        shard: &mut LockedShard<'_>,
        index: u32,
        entry: &Entry,
        waiter: &Waiter,
        now: u64,
    ) -> Option<News> {
        let asking = waiter.asking();
        let record = waiter.record.load(Ordering::Relaxed);
        self.notice_wait(entry, waiter, now, true);
        self.count_wait(waiter, WaitOutcome::Granted, now);
        self.learn_from_wait(waiter, now, true);
        if asking.upgrade {
            self.note_upgrade(record, entry);
        } else {
            shard.counts().waited += 1;
            let owner = waiter.owner.load(Ordering::Relaxed);
            let Asking { mode, priority, loose, .. } = asking;
            let shard_index = self.table.shard_of(entry.hash());
            let granting = Granting { shard: shard_index, mode, owner, priority, since: now, loose };
            let grant = self.put_on_record(record, (index, entry), &granting, entry.word());
            self.begin_lease(grant, (index, entry), waiter.lease.load(Ordering::Relaxed), now);
            self.note_taken(owner, grant, || entry.key(self.table.arena()), mode);
            self.time_hold(grant);
            waiter.grant.store(grant.to_raw(), Ordering::Relaxed);
        }
        // Taken before the phase changes: afterwards the waiter may be given back and be somebody else's.
        let (was, news) = waiter.advance_with_news(Phase::Granted);
        let told = was == Phase::Parked || !matches!(news, News::Thread);
        told.then_some(news)
    }

    /// A waiter that was told to try tries. Returns whether it has the lock now; if not, it is in line as before.
    pub(crate) fn compete(&self, local: &Local, waiter: &Waiter, hash: u64) -> bool {
        let mut shard = self.lock_shard(hash);
        match waiter.phase() {
            Phase::Notified => {}
            phase => return phase == Phase::Granted,
        }
        let index = waiter.entry.load(Ordering::Relaxed);
        let entry = self.table.entry(index);
        let now = self.now();
        let won = !self.is_closed() && take(entry, waiter.asking().mode).is_some();
        // A waker that is not needed any more is dropped after the mutex is released.
        let mut _unneeded = None;
        if won {
            self.leave_line(&mut shard, entry, waiter, now);
            _unneeded = self.make_holder(&mut shard, index, entry, waiter, now);
        } else {
            parked(entry, waiter.asking().mode, true);
            waiter.advance(Phase::Waiting);
            if fault!("loser-does-not-settle") {
                return false;
            }
        }
        // The winner's neighbours may come in too; the loser's bit has to be set, or the lock is its now.
        self.settle_and_wake(local, shard, index, entry, hash, None);
        won || waiter.phase() == Phase::Granted
    }

    /// A waiter gives up. Returns how it ended: as asked, unless the lock or an earlier end came first.
    pub(crate) fn give_up(&self, local: &Local, waiter: &Waiter, hash: u64, why: Phase) -> Phase {
        let mut shard = self.lock_shard(hash);
        let phase = waiter.phase();
        if !phase.is_queued() {
            return phase;
        }
        let index = waiter.entry.load(Ordering::Relaxed);
        let entry = self.table.entry(index);
        let _unneeded = self.end_wait(&mut shard, entry, waiter, why);
        if fault!("giving-up-does-not-settle") {
            return why;
        }
        // Whoever was behind it may go on now.
        self.settle_and_wake(local, shard, index, entry, hash, None);
        why
    }

    /// Ends somebody else's wait, if it `may` be ended, and tells it so. Returns whether the ticket's request was waiting.
    pub(crate) fn end_by_ticket(&self, ticket: Ticket, why: Phase, may: impl Fn(&Waiter) -> bool) -> bool {
        if !self.waiters.could_be(ticket) {
            return false;
        }
        let waiter = self.waiters.get(ticket.index());
        loop {
            let index = waiter.entry.load(Ordering::Relaxed);
            if waiter.ticket(ticket.index()) != ticket || !waiter.phase().is_queued() {
                return false;
            }
            // While it waits its entry keeps its key, so this is the shard; if it does not, the next look says so.
            let entry = self.table.entry(index);
            let hash = entry.hash();
            let mut shard = self.lock_shard(hash);
            if waiter.entry.load(Ordering::Relaxed) != index || entry.hash() != hash {
                continue;
            }
            // The phase first: if it is that of a later request, whose waiter may be queued elsewhere by now, the ticket's
            // generation has been seen to change after it.
            let is_it = || waiter.ticket(ticket.index()) == ticket || fault!("old-ticket-taken");
            let early = fault!("ticket-compared-too-early").then(is_it);
            if !waiter.phase().is_queued() || !early.unwrap_or_else(is_it) || !may(waiter) {
                return false;
            }
            let news = self.end_wait(&mut shard, entry, waiter, why);
            self.settle_and_wake(self.local(), shard, index, entry, hash, None);
            self.tell(ticket.index(), news);
            return true;
        }
    }

    /// Ends all waits of a shard, where nobody begins to wait any more, and tells the waiters.
    pub(crate) fn end_all(&self, shard_index: u32, why: Phase) {
        loop {
            let mut lines = Vec::new();
            self.table.lock(shard_index).for_each(|index, entry| {
                lines.extend((!self.queue(entry).is_empty()).then_some(index));
            });
            if lines.is_empty() {
                return;
            }
            // A line that moves to another entry meanwhile is found when all are looked for again.
            lines.into_iter().for_each(|index| self.end_line(shard_index, index, why));
        }
    }

    /// Ends the waits of a line, one after the other, as long as it is at this entry.
    fn end_line(&self, shard_index: u32, index: u32, why: Phase) {
        let entry = self.table.entry(index);
        loop {
            let mut shard = self.table.lock(shard_index);
            let hash = entry.hash();
            // Without the mutex the entry may have become another shard's.
            if self.table.shard_of(hash) != shard_index || !shard.has(hash, index) {
                return;
            }
            let Some((waiter_index, waiter)) = self.queue(entry).first() else { return };
            let news = self.end_wait(&mut shard, entry, waiter, why);
            self.settle_and_wake(self.local(), shard, index, entry, hash, None);
            self.tell(waiter_index, news);
        }
    }

    /// Takes a waiter out of the line without a grant. Returns what is to be delivered after the mutex is released.
    pub(crate) fn end_wait(&self, shard: &mut LockedShard<'_>, entry: &Entry, waiter: &Waiter, why: Phase) -> News {
        let now = self.now();
        self.leave_line(shard, entry, waiter, now);
        self.notice_wait(entry, waiter, now, false);
        match why {
            Phase::TimedOut => {
                shard.counts().timeouts += 1;
                self.count_wait(waiter, WaitOutcome::TimedOut, now);
                self.learn_from_wait(waiter, now, false);
                self.explain_timeout(entry, waiter, now);
            }
            Phase::Deadlocked => {
                shard.counts().deadlocks += 1;
                self.count_wait(waiter, WaitOutcome::Deadlocked, now);
            }
            _ => {
                shard.counts().cancelled += 1;
                self.count_wait(waiter, WaitOutcome::Cancelled, now);
            }
        }
        waiter.advance_with_news(why).1
    }

    /// Gives back a waiter whose request has ended, and its record if it has no use for it.
    pub(crate) fn free_waiter(&self, local: &Local, waiter_index: u32) {
        let waiter = self.waiters.get(waiter_index);
        let record = waiter.record.load(Ordering::Relaxed);
        if waiter.phase() != Phase::Granted && !waiter.asking().upgrade && record != NONE {
            self.records.put(&local.records, record);
        }
        self.waiters.put(waiter_index);
    }
}
