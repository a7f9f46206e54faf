//! Granting: which waiter is next.
//!
//! Everything that could let a waiter go on ends here: a release, a downgrade, a waiter that gives up, a request that
//! queues. Under the shard's mutex a plan is made from the word and the queue, and the word is swapped for the planned one.
//! The waiters that become holders are woken after the mutex is released.
//!
//! *Handing over* makes the next waiter a holder in the same compare-and-swap that ends the last hold. So there is no moment
//! in which the lock is free and its next holder sleeps. Under `Fairness::Eventual` the lock is set free instead, and the
//! first waiter is *notified* to try for it, as long as it has not waited too long.
//!
//! A notified thread runs sooner or later. A future may never be polled again: once it has let `after` pass it *dozes*. It
//! keeps its place, and the waiters behind it are served. While it may still be polled and others wait behind it, the timer
//! keeps that moment.

use super::acquire::take;
use super::core::{Core, Granting};
use super::local::Local;
use super::permits::{DueCall, EndedWait};
use super::recheck::RecheckWakeup;
use crate::hold::Grant;
use crate::memory::NONE;
use crate::mode::Mode;
use crate::observe::{WaitOutcome, bucket_of};
use crate::sync::atomic::Ordering;
use crate::table::{Entry, LockedShard, Word};
use crate::tier::permit::Allowed;
use crate::wait::{Asking, NEVER, Phase, Ticket, Waiter, Wakeup};

/// Waiters served before the shard's mutex is released once.
///
/// It bounds the time under the mutex, and the stack for their wakeups.
const A_ROUND: usize = if cfg!(loom) { 2 } else { 16 };

/// Wakeups to deliver once the mutex is released: user code must not run under it.
struct Round {
    wakeups: [Option<(u32, Wakeup)>; A_ROUND],
    len: usize,
    /// For the first waiter, if a lease keeps it waiting.
    recheck: Option<RecheckWakeup>,
    /// For the notified future, if others wait behind it.
    doze: Option<RecheckWakeup>,
    /// A waiter that the permit does not serve, and that does not wait.
    refused: Option<EndedWait>,
    /// The call to the tier that is due.
    call: Option<DueCall>,
}

impl Round {
    fn new() -> Self {
        Self { wakeups: [const { None }; A_ROUND], len: 0, recheck: None, doze: None, refused: None, call: None }
    }

    fn add(&mut self, index: u32, wakeup: Wakeup) {
        self.wakeups[self.len] = Some((index, wakeup));
        self.len += 1;
    }

    fn deliver(self, core: &Core) {
        for (index, wakeup) in self.wakeups.into_iter().flatten().chain(self.refused) {
            core.deliver(index, wakeup);
        }
        self.recheck.into_iter().chain(self.doze).for_each(|recheck| core.remind(recheck));
    }
}

/// What is to become of a lock.
struct Plan {
    word: Word,
    /// The waiters that become holders.
    admitted: [u32; A_ROUND],
    len: usize,
    /// The waiter that is notified to try, now or before.
    on_its_way: Option<u32>,
}

impl Core {
    /// Delivers a wakeup, without any mutex.
    pub(crate) fn deliver(&self, waiter_index: u32, wakeup: Wakeup) {
        match wakeup {
            // The waiter may serve another request by now, which then looks at its phase once more than it needs to.
            Wakeup::Thread => self.waiters.get(waiter_index).wake(),
            Wakeup::Task(Some(waker)) => waker.wake(),
            Wakeup::Task(None) => {}
            Wakeup::Completion(completions) => completions.post(&self.waiters, waiter_index),
        }
    }

    /// Serves the queue of an entry, after a holder in mode `leaving` has left.
    ///
    /// Then it releases the shard's mutex and delivers the wakeups. `hash` is the entry's, read while it could not change.
    pub(crate) fn grant_waiters_and_unlock<'t>(
        &'t self,
        local: &Local,
        mut shard: LockedShard<'t>,
        index: u32,
        entry: &Entry,
        hash: u64,
        mut leaving: Option<Mode>,
    ) {
        let mut ended = Vec::new();
        loop {
            let mut round = Round::new();
            let more = self.settle(local, &mut shard, index, entry, leaving.take(), &mut round);
            drop(shard);
            let call = round.call.take();
            round.deliver(self);
            self.deliver_ended(std::mem::take(&mut ended));
            self.events.deliver_noted();
            if let Some((call, tiered)) = call.zip(self.tiered()) {
                (shard, ended) = self.call_tier(tiered, &call, (index, entry), hash);
                continue;
            }
            if !more {
                return;
            }
            shard = self.lock_shard(hash);
            // Meanwhile other threads may have served the queue, and the entry may be of another shard.
            if !shard.has(hash, index) {
                return;
            }
        }
    }

    /// Serves a round of waiters. Returns whether there may be more to do.
    fn settle(
        &self,
        local: &Local,
        shard: &mut LockedShard<'_>,
        index: u32,
        entry: &Entry,
        leaving: Option<Mode>,
        round: &mut Round,
    ) -> bool {
        // For those who line up; of a reader that left through the shard it is rarely the case.
        shard.unbias(index, entry);
        let queue = self.queue(entry);
        let now = if queue.is_empty() { 0 } else { self.now() };
        let allowed = self.allowed(shard, index, now);
        let (plan, rising) = loop {
            let rising = self.rising((index, entry), leaving);
            let seen = rising.as_ref().map_or_else(|| entry.word(), |rising| rising.word);
            let left = leaving.map_or(seen, |mode| seen.released(mode));
            if left.is_free() {
                entry.clear_marks();
            }
            let plan = self.plan(entry, left, (rising.as_ref().map(|rising| rising.waiter), allowed), now);
            // Equal when the lock goes from one exclusive holder to the next and the counts are as before. No other thread
            // could have changed it: W keeps the fast path out, and this thread holds the shard mutex.
            if plan.word == seen || entry.swap(seen, plan.word).is_ok() {
                break (plan, rising);
            }
        };
        for first_index in &plan.admitted[..plan.len] {
            let first = self.waiters.get(*first_index);
            self.leave_line(shard, entry, first, now);
            let reads = rising.as_ref().map_or(&[][..], |rising| rising.reads_with(*first_index));
            if let Some(wakeup) = self.make_holder(shard, (index, entry), (first, reads), now) {
                round.add(*first_index, wakeup);
            }
        }
        if let Some(on_its_way) = plan.on_its_way {
            let first = self.waiters.get(on_its_way);
            if first.phase().is_asleep() {
                first.note_notified(now);
                let (was, wakeup) = first.advance_with_wakeup(Phase::Notified);
                if was == Phase::Parked || !matches!(wakeup, Wakeup::Thread) {
                    round.add(on_its_way, wakeup);
                }
            }
            if queue.after(first).is_some() {
                round.doze = self.keep_time_of_notified(first);
            }
        }
        if let Some(tiered) = self.tiered() {
            let rises = rising.is_some_and(|rising| queue.first().is_some_and(|(first, _)| first == rising.waiter));
            (round.call, round.refused) = self.settle_permit(tiered, shard, (index, entry), rises);
            if round.refused.is_some() {
                return true;
            }
        }
        if queue.is_empty() {
            let word = entry.word();
            if word.is_free() && word.is_to_evict() && !entry.has_permit() {
                shard.keep_or_evict(&local.entries, index);
            }
            return false;
        }
        if entry.is_leased() {
            round.recheck = self.watch_leases(index, entry);
        }
        plan.len == A_ROUND
    }

    /// Plans the next word and the waiters that it makes holders. Changes nothing.
    fn plan(&self, entry: &Entry, mut word: Word, (rising, allowed): (Option<u32>, Allowed), now: u64) -> Plan {
        let queue = self.queue(entry);
        let (mut admitted, mut len) = ([NONE; A_ROUND], 0);
        let (mut on_its_way, mut sleeps) = (None, self.is_closed() && !queue.is_empty());
        // Once the manager is closed no request gets a lock any more, and all waits are about to end.
        let mut next = queue.first().filter(|_| !sleeps);
        while let Some((index, waiter)) = next {
            let (asking, asleep) = (waiter.asking(), waiter.phase().is_asleep());
            if !asleep && self.dozes(waiter, now) {
                next = queue.after(waiter);
                continue;
            }
            let record = waiter.record.load(Ordering::Relaxed);
            let with_it = match asking.upgrade {
                _ if rising == Some(index) => allowed.upgrade.then(|| word.with_writer(record)),
                true => word.upgraded(record).filter(|_| allowed.upgrade),
                false if !allowed.admits(asking.mode) || len >= allowed.left as usize => None,
                false => word.taken(asking.mode, record),
            };
            // A notified future takes the lock itself, or does not. A permit that ends does not wait for it.
            let by_hand = asleep || waiter.keeps_time() || allowed.by_hand;
            let soon = allowed.by_hand || asking.by_completion || asking.tries;
            let by_hand = by_hand && (!word.is_free() || soon || self.waited_long_enough(waiter, now));
            match with_it {
                Some(with_it) if by_hand && len < A_ROUND => {
                    word = with_it;
                    admitted[len] = index;
                    len += 1;
                    next = queue.after(waiter);
                }
                Some(_) if !by_hand => {
                    on_its_way = Some(index);
                    break;
                }
                // The notified waiter settles the queue again, whether it wins or loses.
                None if !asleep => {
                    on_its_way = Some(index);
                    break;
                }
                _ => {
                    sleeps = true;
                    break;
                }
            }
        }
        // While a waiter is notified, releases need not look at the queue. So running threads go at full speed.
        Plan { word: word.with_waiters(sleeps), admitted, len, on_its_way }
    }

    /// Returns the first waiter that does not doze.
    pub(crate) fn first_in_turn<'a>(&'a self, entry: &'a Entry) -> Option<&'a Waiter> {
        let queue = self.queue(entry);
        let (_, first) = queue.first()?;
        if first.phase().is_asleep() || first.keeps_time() {
            return Some(first);
        }
        let now = self.now();
        queue.iter().map(|(_, waiter)| waiter).find(|waiter| waiter.phase().is_asleep() || !self.dozes(waiter, now))
    }

    /// Returns whether a notified waiter is a future that has let its time pass.
    ///
    /// Caller holds: shard mutex.
    fn dozes(&self, waiter: &Waiter, now: u64) -> bool {
        !waiter.keeps_time() && self.dozes_from(waiter).is_some_and(|from| from <= now)
    }

    fn dozes_from(&self, waiter: &Waiter) -> Option<u64> {
        // At least a nanosecond, so that it was notified at all.
        self.max_wait().map(|after| waiter.notified().saturating_add(after.max(1)))
    }

    /// Has the timer serve the waiters behind a notified future in time.
    ///
    /// Once for each notification. Caller holds: shard mutex.
    fn keep_time_of_notified(&self, waiter: &Waiter) -> Option<RecheckWakeup> {
        let from = self.dozes_from(waiter).filter(|_| !waiter.keeps_time() && waiter.begin_watch())?;
        self.look_again(waiter, from)
    }

    /// Serves the waiters behind a dozing future. Returns when to recheck.
    pub(crate) fn pass_over(&self, ticket: Ticket) -> u64 {
        let waiter = self.waiters.get(ticket.index());
        let index = waiter.entry.load(Ordering::Relaxed);
        if waiter.phase() != Phase::Notified || !self.table.arena().could_be(index) {
            return NEVER;
        }
        let entry = self.table.entry(index);
        let hash = entry.hash();
        let shard = self.lock_shard(hash);
        // While it waits its entry keeps its key, so this is the shard; if it does not wait, there is nothing to do.
        let is_it = waiter.phase() == Phase::Notified
            && waiter.ticket(ticket.index()) == ticket
            && waiter.entry.load(Ordering::Relaxed) == index
            && entry.hash() == hash;
        if !is_it {
            return NEVER;
        }
        let now = self.now();
        match self.dozes_from(waiter) {
            Some(from) if from > now => from,
            _ => {
                self.grant_waiters_and_unlock(self.local(), shard, index, entry, hash, None);
                NEVER
            }
        }
    }

    /// Returns whether a waiter is handed the lock rather than notified.
    pub(crate) fn waited_long_enough(&self, waiter: &Waiter, now: u64) -> bool {
        match self.max_wait() {
            None => true,
            Some(after) => now.saturating_sub(waiter.since.load(Ordering::Relaxed)) >= after,
        }
    }

    /// Removes a waiter from the queue and counts its wait.
    ///
    /// Its session waits until the caller says otherwise.
    fn leave_line(&self, shard: &mut LockedShard<'_>, entry: &Entry, waiter: &Waiter, now: u64) {
        self.queue(entry).leave(waiter);
        let waited = now.saturating_sub(waiter.since.load(Ordering::Relaxed));
        let counts = shard.counts();
        counts.waiting -= 1;
        counts.wait_nanos = counts.wait_nanos.saturating_add(waited);
        counts.max_wait_nanos = counts.max_wait_nanos.max(waited);
        counts.wait_histogram[bucket_of(waited)] += 1;
    }

    /// Makes a waiter a holder, whom the word counts already. Returns its wakeup.
    ///
    /// The holds in `reads`, of its session, are counted with it.
    fn make_holder(
        &self,
        shard: &mut LockedShard<'_>,
        (index, entry): (u32, &Entry),
        (waiter, reads): (&Waiter, &[Grant]),
        now: u64,
    ) -> Option<Wakeup> {
        let asking = waiter.asking();
        let record = waiter.record.load(Ordering::Relaxed);
        self.notice_wait(entry, waiter, now, true);
        self.count_wait(waiter, WaitOutcome::Granted, now);
        self.learn_from_wait(waiter, now, true);
        if asking.upgrade {
            self.note_upgrade(record, (index, entry));
        } else {
            shard.counts().waited += 1;
            let owner = waiter.owner.load(Ordering::Relaxed);
            let Asking { mode, priority, detached, .. } = asking;
            let granting = Granting { shard: self.table.shard_of(entry.hash()), mode, priority, detached };
            self.records.get(record).prefill(index, owner, now);
            // The word may count further readers by now; if this is a writer, the word names it.
            let grant = self.begin_hold(record, entry, &granting, entry.word());
            self.note_served(granting.shard, (index, entry), record, mode);
            self.begin_lease(grant, (index, entry), waiter.lease.load(Ordering::Relaxed), now);
            self.note_hold(owner, entry.hash(), grant);
            self.note_taken(owner, grant, || entry.key(self.table.arena()), mode);
            self.time_hold(grant);
            waiter.grant.store(grant.to_raw(), Ordering::Relaxed);
        }
        if !reads.is_empty() {
            self.count_reads(entry, record, reads);
        }
        self.session_waits_no_more(waiter);
        // Taken before the phase changes: afterwards the waiter may be given back and serve another request.
        let (was, wakeup) = waiter.advance_with_wakeup(Phase::Granted);
        let needs_waking = was == Phase::Parked || !matches!(wakeup, Wakeup::Thread);
        needs_waking.then_some(wakeup)
    }

    /// Has a notified waiter try. Returns whether it has the lock now.
    ///
    /// If not, it waits as before.
    pub(crate) fn compete(&self, local: &Local, waiter: &Waiter, hash: u64) -> bool {
        let mut shard = self.lock_shard(hash);
        match waiter.phase() {
            Phase::Notified => {}
            phase => return phase == Phase::Granted,
        }
        let index = waiter.entry.load(Ordering::Relaxed);
        let entry = self.table.entry(index);
        let now = self.now();
        let record = waiter.record.load(Ordering::Relaxed);
        let mode = waiter.asking().mode;
        let allowed = self.allowed(&shard, index, now);
        let may = !self.is_closed() && allowed.admits(mode) && allowed.left > 0;
        let won = may && take(entry, mode, record).is_some();
        // A waker that is not needed any more is dropped after the mutex is released.
        let mut _unneeded = None;
        if won {
            self.leave_line(&mut shard, entry, waiter, now);
            _unneeded = self.make_holder(&mut shard, (index, entry), (waiter, &[]), now);
        } else {
            waiter.advance(Phase::Waiting);
        }
        // The winner's neighbours may come in too; the loser's bit has to be set, or the lock is its now.
        self.grant_waiters_and_unlock(local, shard, index, entry, hash, None);
        won || waiter.phase() == Phase::Granted
    }

    /// Has a waiter give up. Returns how it ended.
    ///
    /// As asked, unless a grant or an earlier end came first.
    pub(crate) fn give_up(&self, local: &Local, waiter: &Waiter, hash: u64, why: Phase) -> Phase {
        let mut shard = self.lock_shard(hash);
        let phase = waiter.phase();
        if !phase.is_queued() {
            return phase;
        }
        let index = waiter.entry.load(Ordering::Relaxed);
        let entry = self.table.entry(index);
        let _unneeded = self.end_wait(&mut shard, entry, waiter, why);
        // The waiters behind it may go on now.
        self.grant_waiters_and_unlock(local, shard, index, entry, hash, None);
        why
    }

    /// Ends the wait of a ticket, if it `may` be ended, and wakes its caller.
    ///
    /// Returns whether the request was waiting.
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
            if !waiter.phase().is_queued() || waiter.ticket(ticket.index()) != ticket || !may(waiter) {
                return false;
            }
            let wakeup = self.end_wait(&mut shard, entry, waiter, why);
            self.grant_waiters_and_unlock(self.local(), shard, index, entry, hash, None);
            self.deliver(ticket.index(), wakeup);
            return true;
        }
    }

    /// Ends all waits of a shard in which no wait begins, and wakes the callers.
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
            let wakeup = self.end_wait(&mut shard, entry, waiter, why);
            self.grant_waiters_and_unlock(self.local(), shard, index, entry, hash, None);
            self.deliver(waiter_index, wakeup);
        }
    }

    /// Removes a waiter from the queue without a grant. Returns its wakeup.
    ///
    /// The caller delivers it after the mutex is released.
    pub(crate) fn end_wait(&self, shard: &mut LockedShard<'_>, entry: &Entry, waiter: &Waiter, why: Phase) -> Wakeup {
        let now = self.now();
        self.leave_line(shard, entry, waiter, now);
        self.session_waits_no_more(waiter);
        self.notice_wait(entry, waiter, now, false);
        match why {
            Phase::TimedOut => {
                shard.counts().timeouts += 1;
                self.count_wait(waiter, WaitOutcome::TimedOut, now);
                self.learn_from_wait(waiter, now, false);
                self.explain_timeout(entry, waiter, now);
            }
            // The thread that tried counts it.
            Phase::Refused => {}
            Phase::Deadlocked => {
                shard.counts().deadlocks += 1;
                self.count_wait(waiter, WaitOutcome::Deadlocked, now);
            }
            _ => {
                shard.counts().cancelled += 1;
                self.count_wait(waiter, WaitOutcome::Cancelled, now);
            }
        }
        waiter.advance_with_wakeup(why).1
    }

    /// Gives back a waiter whose request has ended, and its record if it is unused.
    pub(crate) fn free_waiter(&self, local: &Local, waiter_index: u32) {
        let waiter = self.waiters.get(waiter_index);
        let record = waiter.record.load(Ordering::Relaxed);
        if waiter.phase() != Phase::Granted && !waiter.asking().upgrade && record != NONE {
            self.records.put(&local.records, record);
        }
        self.waiters.put(waiter_index);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::wait::{NEVER, Phase};
    use crate::{Fairness, FastObjectLockManager, LockConfig, LockRequest};
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

    #[test]
    fn future_that_dozes_is_passed_over() {
        let fairness = Fairness::Eventual { after: Duration::from_millis(100) };
        let locks = FastObjectLockManager::with_config(LockConfig { fairness, ..LockConfig::default() }).unwrap();
        let (core, write) = (locks.core(), LockRequest::write(("b", "o")));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let held = locks.lock(write).blocking().unwrap();
            let waits = || locks.lock(write).into_future();
            let (mut left_alone, mut behind) = (pin!(waits()), pin!(waits()));
            assert!(left_alone.as_mut().poll(&mut context).is_pending());
            assert!(behind.as_mut().poll(&mut context).is_pending());
            let hash = core.hash(&write.key);
            let entry = core.lock_shard(hash).find(hash, &write.key).expect("waited for").1;
            let line: Vec<u32> = core.queue(entry).iter().map(|(index, _)| index).collect();
            let [first, second] = [0, 1].map(|place| core.waiters.get(line[place]));
            drop(held);
            if first.phase() != Phase::Notified {
                // This thread was kept from going on, and the lock was handed over.
                continue;
            }
            while core.pass_over(first.ticket(line[0])) != NEVER {
                std::thread::yield_now();
            }
            assert!(!second.phase().is_asleep(), "nothing keeps it from the lock");
            assert!(behind.as_mut().poll(&mut context).is_ready());
            assert!(left_alone.as_mut().poll(&mut context).is_ready(), "it is free, and its turn when it comes");
            return;
        }
    }
}
