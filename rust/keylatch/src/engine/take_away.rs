//! A lock is taken away from its holder: by force, or because its lease ran out and somebody waits.
//!
//! A grant that is only a number is simply released in its holder's place; a compare-and-swap decides who of the two
//! does. A guard cannot be asked: on its fast path it looks at nothing but its record and the lock's word, once each, and
//! may be anywhere in between. So the word is left to it, for good: the entry is *displaced*. It leaves the table with
//! everybody who holds it, in one compare-and-swap after which every release comes to the shard; another entry takes its
//! place, with the same key, the line, and as many holders as the lock was not taken away from. Whoever comes to let go
//! of the displaced entry is counted off there; one who still held the lock then leaves the entry that stands in for it
//! too. When all that were counted have come, the displaced entry is free again.
//!
//! Whether somebody was counted is told by its own release: the word that it left was displaced already, or not.
//!
//! In a full table the entry that stands in comes from a reserve that nothing else may use. What comes back next fills it
//! up again: each time it is used a displaced entry comes back in the end.

use super::core::{Core, Granting};
use super::local::Local;
use crate::hold::{Grant, Held, Lost};
use crate::memory::{NONE, Stock};
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::sync::fault::fault;
use crate::table::{Entry, Full, LockedShard};
use crate::wait::{News, Phase};
use std::collections::VecDeque;

/// Grants lost by expiry that are remembered as lost; of older ones it is only said that they are not held.
const REMEMBERED: usize = if cfg!(any(test, loom)) { 16 } else { 1 << 16 };

/// What came of an attempt to take locks away.
#[derive(Debug, Default)]
#[must_use = "where there was no room the locks are held as before"]
pub(crate) struct TakenAway {
    /// From whom they were taken.
    pub(crate) grants: Vec<Grant>,
    /// The table had no room for an entry that would have to stand in, not even in reserve.
    pub(crate) no_room: bool,
}

/// Grants that were numbers when their lease ran out, the latest last.
pub(crate) type Lately = crate::sync::Mutex<VecDeque<Grant>>;

impl Core {
    /// The entry that stands in for this one now; itself, if it is in the table. The caller owns the shard, or looks
    /// only for a hint.
    pub(crate) fn home(&self, mut index: u32) -> u32 {
        while let Some(stand_in) = self.table.entry(index).stand_in() {
            index = stand_in;
        }
        index
    }

    /// The same, where it is known whether there is anything to look for.
    pub(crate) fn home_if(&self, aliased: bool, index: u32) -> u32 {
        if aliased { self.home(index) } else { index }
    }

    /// Takes the lock away from the holders of these grants, of one key; `Expired` only from those whose lease has run
    /// out by now. Tells those who want to know.
    pub(crate) fn take_away(&self, local: &Local, grants: &[Grant], why: Lost) -> TakenAway {
        let told = self.about_to_lose(grants);
        let mut taken = TakenAway::default();
        let mut watched = Vec::new();
        let mut guards = Vec::new();
        for grant in grants {
            match self.take_number(local, *grant, why) {
                Some(was_watched) => {
                    taken.grants.push(*grant);
                    watched.extend(was_watched.then_some(*grant));
                }
                None => guards.push(*grant),
            }
        }
        while !guards.is_empty() && self.take_from_guards(local, &mut guards, why, &mut taken, &mut watched).is_err() {
            // Somebody is between its record and the word, changing its mode, without the mutex.
            crate::sync::yield_now();
        }
        watched.into_iter().for_each(|grant| self.losses.tell(grant, why));
        self.tell_of_loss(told, &taken.grants, why);
        self.open_a_few(local);
        taken
    }

    /// Locks the shard of a hold and makes sure that it is still there, and to be taken.
    fn lock_shard_of(&self, grant: Grant, why: Lost) -> Option<(LockedShard<'_>, Held)> {
        let record = self.records.get(grant.index());
        loop {
            let held = record.held().filter(|held| held.grant(grant.index()) == grant)?;
            let shard = self.lock_shard(self.table.entry(held.entry).hash());
            // An entry that is held keeps its key, so if it still is, this is its shard.
            let now = record.held().filter(|held| held.grant(grant.index()) == grant)?;
            if now.entry != held.entry {
                continue;
            }
            return self.is_due(grant, why).then_some((shard, now));
        }
    }

    /// Whether a hold is to be taken for this reason: its lease may have been renewed. The caller owns the shard.
    fn is_due(&self, grant: Grant, why: Lost) -> bool {
        why != Lost::Expired
            || self.leases.deadline(grant).is_some_and(|due| due <= self.now())
            || fault!("renewal-overlooked")
    }

    /// Releases a lock in the place of whoever knows its grant. Returns whether somebody wants to be told; `None` if
    /// there is nothing to release, or a guard has it.
    pub(crate) fn take_number(&self, local: &Local, grant: Grant, why: Lost) -> Option<bool> {
        let (mut shard, held) = self.lock_shard_of(grant, why)?;
        let record = self.records.get(grant.index());
        let caught = if held.stopgap { record.catch_stopgap(grant) } else { record.catch(grant) };
        if !caught && !fault!("number-taken-without-asking") {
            return None;
        }
        // Again: whoever used it like a guard a moment ago may have changed it.
        let held = record.held().unwrap_or(held);
        let mode = held.mode;
        record.end();
        let remembered = why == Lost::Expired && !held.stopgap;
        if remembered {
            // Before anybody else can have the lock: whoever sees that they have must not see it unexplained.
            record.entomb(grant, why);
        }
        // Nobody holds what is kept shut: only now that it ends it is counted as granted, for it counts as released.
        shard.counts().immediate += u64::from(held.stopgap);
        let home = self.arrive(local, &mut shard, held.entry, None).unwrap_or(held.entry);
        let delayed = why == Lost::Expired && !held.stopgap && mode == Mode::Exclusive;
        if delayed && self.table.entry(home).counted() <= 1 && self.keep_shut(local, home) {
            shard.counts().releases += 1;
            let entry = self.table.entry(home);
            self.settle_and_wake(local, shard, home, entry, entry.hash(), None);
        } else {
            self.leave_home(local, shard, home, mode);
        }
        if remembered {
            self.remember_lost(grant);
        } else {
            local.free_record(&self.records, grant.index());
        }
        Some(held.watched)
    }

    /// Keeps in mind that a grant was lost, for as long as there is room.
    fn remember_lost(&self, grant: Grant) {
        let mut lately = self.lately_lost.lock();
        lately.push_back(grant);
        let oldest = if lately.len() > REMEMBERED { lately.pop_front() } else { None };
        drop(lately);
        if let Some(oldest) = oldest {
            self.exhume(oldest);
        }
    }

    /// Takes the lock from those of the guards that have it, all of one key. An error asks to be called again.
    fn take_from_guards(
        &self,
        local: &Local,
        guards: &mut Vec<Grant>,
        why: Lost,
        taken: &mut TakenAway,
        watched: &mut Vec<Grant>,
    ) -> Result<(), InTransition> {
        let mut made_room = false;
        while let Some(first) = guards.first().copied() {
            let Some((mut shard, held)) = self.lock_shard_of(first, why) else {
                guards.remove(0);
                continue;
            };
            let home = self.home(held.entry);
            let here = |grant: &Grant| {
                let held = self.records.get(grant.index()).held();
                held.is_some_and(|held| held.grant(grant.index()) == *grant && self.home(held.entry) == home)
            };
            let victims: Vec<Grant> =
                guards.iter().copied().filter(|grant| here(grant) && self.is_due(*grant, why)).collect();
            let displaced = match self.displace(local, &mut shard, home, &victims, Some(why))? {
                Ok(displaced) => displaced,
                Err(Full) if made_room => {
                    taken.no_room = true;
                    return Ok(());
                }
                Err(Full) => {
                    drop(shard);
                    // Not all the room there may be: what ended leases take up is gone for here, among others.
                    self.open_those_due(local);
                    self.table.evict_idle(&local.entries);
                    made_room = true;
                    continue;
                }
            };
            made_room = false;
            guards.retain(|grant| !victims.contains(grant));
            let Some(Displaced { stand_in, mode, lost, survivors, ended }) = displaced else { continue };
            shard.counts().releases += lost.len() as u64;
            let entry = self.table.entry(stand_in);
            let gone = entry.word().is_exclusive() && survivors == 0;
            // Without survivors it is nobody's now, as if it had been held exclusively; only if it was is there anything on its
            // way that has to arrive first.
            let delayed = mode == Mode::Exclusive || fault!("shut-after-readers");
            let shut = gone && delayed && why == Lost::Expired && self.keep_shut(local, stand_in);
            let leaving = (gone && !shut).then_some(Mode::Exclusive);
            self.settle_and_wake(local, shard, stand_in, entry, entry.hash(), leaving);
            ended.into_iter().for_each(|(index, news)| self.tell(index, news));
            for (grant, was_watched) in lost {
                taken.grants.push(grant);
                watched.extend(was_watched.then_some(grant));
            }
        }
        Ok(())
    }

    /// Puts another entry in the place of one that is held, if one of these grants holds it, and takes the lock away
    /// from those that do, unless `why` is `None`.
    pub(crate) fn displace(
        &self,
        local: &Local,
        shard: &mut LockedShard<'_>,
        home: u32,
        grants: &[Grant],
        why: Option<Lost>,
    ) -> Result<Result<Option<Displaced>, Full>, InTransition> {
        let entry = self.table.entry(home);
        let hash = entry.hash();
        let key = entry.key(self.table.arena());
        // What was put there for later is for taking locks away, not for a session that could as well be refused.
        let stock = if why.is_some() && !fault!("no-reserve") { Stock::All } else { Stock::Open };
        let Ok(stand_in) = shard.make_fresh(&local.entries, hash, &key.as_ref(), Stock::Open).or_else(|Full| {
            shard.evict_idle(&local.entries);
            shard.make_fresh(&local.entries, hash, &key.as_ref(), stock)
        }) else {
            return Ok(Err(Full));
        };
        let held_as = |mode| {
            let held = |grant: &Grant| self.records.get(grant.index()).held();
            grants
                .iter()
                .any(|grant| held(grant).is_some_and(|held| held.grant(grant.index()) == *grant && held.mode == mode))
        };
        let mut seen = entry.word();
        loop {
            let mode = if seen.is_exclusive() { Mode::Exclusive } else { Mode::Shared };
            if seen.is_free() || !held_as(mode) {
                shard.bury(&local.entries, stand_in);
                let other = if seen.is_exclusive() { Mode::Shared } else { Mode::Exclusive };
                // On the way out, or to the other mode.
                return if !seen.is_free() && held_as(other) { Err(InTransition) } else { Ok(Ok(None)) };
            }
            match entry.swap(seen, seen.displaced()) {
                Ok(()) => break,
                Err(now) => seen = now,
            }
        }
        // From here on whoever was counted in `seen` comes to the shard. Those whose record does not say any more that
        // they hold it are on their way: they let go of what stands in.
        let counted = if seen.is_exclusive() { entry.counted().max(1) } else { seen.readers() };
        let lost: Vec<_> = why.map_or_else(Vec::new, |why| {
            let lose = |grant: &Grant| Some((*grant, self.records.get(grant.index()).lose(*grant, home, why)?));
            grants.iter().filter_map(lose).collect()
        });
        let survivors = if fault!("survivors-forgotten") { 0 } else { counted - lost.len() as u32 };
        shard.take_out(home);
        let successor = shard.admit(stand_in, hash);
        successor.stand_in_for(stand_in, entry, counted);
        self.leases.set_first_end(stand_in, self.leases.first_end(home));
        // One more than the last: the number of a hold that was taken away is not current any more, unless it is that of
        // further holds of its session. In any case it goes on from the key's own, whatever others the shard had.
        let stays = seen.is_exclusive() && survivors > 0 && !fault!("survivors-number-void");
        successor.fence.store(entry.fence.load(Ordering::Relaxed) + u64::from(!stays), Ordering::Relaxed);
        if seen.is_exclusive() {
            successor.set_counted(if entry.counted() > 0 { survivors } else { 0 });
        } else if survivors > 0 {
            successor.publish(successor.word().with_readers(survivors));
        }
        let ended = self.move_line(local, shard, successor, stand_in);
        show_waiting(successor);
        let mode = if seen.is_exclusive() { Mode::Exclusive } else { Mode::Shared };
        Ok(Ok(Some(Displaced { stand_in, mode, lost, survivors, ended })))
    }

    /// Has the line know where it stands now. Returns who has nothing to wait for any more, to be told off the mutex.
    fn move_line(
        &self,
        local: &Local,
        shard: &mut LockedShard<'_>,
        successor: &Entry,
        stand_in: u32,
    ) -> Vec<(u32, News)> {
        let queue = self.queue(successor);
        let mut ended = Vec::new();
        let mut upgrades = 0;
        let mut next = queue.first();
        while let Some((index, waiter)) = next {
            // Before it may leave the line.
            next = queue.after(waiter);
            if !fault!("line-left-behind") {
                waiter.entry.store(stand_in, Ordering::Relaxed);
            }
            // Several sessions may wait to upgrade, until it is found which of them gives way.
            let is_looked_after = upgrades == 0 || !fault!("second-upgrader-forgotten");
            if !waiter.asking().upgrade || !is_looked_after {
                continue;
            }
            upgrades += 1;
            let record = self.records.get(waiter.record.load(Ordering::Relaxed));
            match record.held() {
                // What it wanted to upgrade was taken away.
                None => ended.push((index, self.end_wait(shard, successor, waiter, Phase::Cancelled))),
                // Its guard waits and can do nothing else, so its hold moves along: as the one reader left it will be
                // turned into a writer of what stands in.
                Some(held) => {
                    if let Some(home) = self.arrive(local, shard, held.entry, None) {
                        record.move_to(home);
                    }
                }
            }
        }
        ended
    }

    /// Has nobody hold a lock for as long as is set for those that were lost. The lock is held exclusively by somebody
    /// who is gone, and the caller owns its shard. `false` if there is no such time.
    fn keep_shut(&self, local: &Local, home: u32) -> bool {
        let delay = u64::try_from(self.config.lock_delay.as_nanos()).unwrap_or(u64::MAX);
        // Once the manager is closed nobody gets a lock any more.
        if delay == 0 || self.is_closed() {
            return false;
        }
        let record = self.records.take(&local.records);
        if record == NONE {
            return false;
        }
        let entry = self.table.entry(home);
        let now = self.now();
        let shard_index = self.table.shard_of(entry.hash());
        let (mode, owner) = (Mode::Exclusive, self.stopgap_owner());
        let stopgap = Granting { shard: shard_index, mode, owner, priority: 0, since: now, loose: true };
        entry.clear_pins();
        let grant = self.put_on_record(record, (home, entry), &stopgap, entry.word());
        self.records.get(record).mark_stopgap(grant);
        self.begin_lease(grant, (home, entry), delay, now);
        self.note_shut(now.saturating_add(delay), grant);
        true
    }
}

/// Has the word say that somebody waits, if somebody does. The caller owns the shard.
fn show_waiting(entry: &Entry) {
    let (readers, writers) =
        (entry.parked_readers.load(Ordering::Relaxed), entry.parked_writers.load(Ordering::Relaxed));
    let mut seen = entry.word();
    while let Err(now) = entry.swap(seen, seen.with_waiting(readers, writers)) {
        seen = now;
    }
}

/// A lock whose entry was replaced.
pub(crate) struct Displaced {
    pub(crate) stand_in: u32,
    /// How it was held.
    mode: Mode,
    /// From whom it was taken, and whether somebody wants to be told.
    lost: Vec<(Grant, bool)>,
    /// How many hold it still.
    survivors: u32,
    /// Who waited to upgrade what they lost.
    ended: Vec<(u32, News)>,
}

/// A holder is changing its mode at this moment; it does not wait for anything.
#[derive(Debug)]
pub(crate) struct InTransition;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::hold::OwnerRef;
    use crate::manager::FastObjectLockManager;
    use crate::request::{Limit, LockRequest};
    use crate::wait::Delivery;

    #[test]
    fn each_of_two_who_wait_to_upgrade_is_looked_after_when_one_of_them_loses_its_lock() {
        for lost in [0, 1] {
            let locks = FastObjectLockManager::new();
            let core = locks.core();
            let sessions = ["one", "two"].map(|name| locks.session(name));
            let read = || LockRequest::read(("b", "o"));
            let in_the_way = locks.lock(read()).blocking().unwrap();
            let holds = sessions.each_ref().map(|one| core.try_now(read().owner(OwnerRef::from(one)), false).unwrap());
            // Nobody looks for a deadlock yet.
            let waits = holds.map(|grant| core.begin_upgrade(grant, Delivery::Thread).unwrap().expect("in line").0);
            let phase = |who: usize| core.waiters.get(waits[who].index()).phase();
            let stays = 1 - lost;

            assert_eq!(core.take_away(core.local(), &[holds[lost]], Lost::Forced).grants, [holds[lost]]);
            assert_eq!(phase(lost), Phase::Cancelled, "it has nothing to wait for");
            assert!(phase(stays).is_queued(), "somebody is in its way");
            drop(in_the_way);
            assert_eq!(phase(stays), Phase::Granted);

            for who in [lost, stays] {
                let ended = core.finish(core.local(), waits[who].index());
                let upgraded = core.upgrade_ended(holds[who], ended, Limit::Never);
                assert_eq!(upgraded.is_ok(), who == stays, "{upgraded:?}");
                assert!(who == lost || locks.lock(read()).try_now().is_err(), "alone");
                core.release_guard(holds[who]);
            }
            assert!(locks.lock(LockRequest::write(("b", "o"))).try_now().is_ok(), "nobody holds it");
            assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
        }
    }
}
