//! Circles of sessions of which each waits for the next, and how they are broken.
//!
//! A request that has waited for `deadlock_delay` looks for a circle through its session. The last request that a circle
//! needs begins to wait after all its other edges were there, so its look finds it; and because a lock may also change
//! hands past those who wait, everybody looks again whenever it has waited twice as long.
//!
//! **Holds first.** A circle in which each session waits for what the next one *holds* is broken by one that gives way.
//! Any of them holds something that another one waits for, so a session that holds nothing never gives way. Only if there
//! is no such circle through a session are waits because of the order of a line followed as well. A circle of these is
//! broken by another order: without circles of holds there is an order of turns that fits all holds (`Turns`), so some
//! request in the circle stands behind one whose turn comes later, and the two change places.
//!
//! **A crowd looks at nothing.** A session that joins the end of a line, holds nothing that is waited for and has no other
//! request in line is in no one's way, and in no circle. So n sessions that wait for one lock do not look at each
//! other.
//!
//! **No false alarm.** What the search finds is confirmed before it is reported: the shards of all requests in the
//! circle are locked together, in ascending order, so that no request can leave a line, and every hold is looked at
//! twice. A hold that was there both times was there in between, at the same moment as all the others: at that moment
//! the whole circle existed, and none of its sessions, each of which waits, could undo it.
//!
//! **One victim.** One detection runs at a time, and ends the wait of the one that gives way before the next begins. To
//! that one a circle without itself is none any more.
//!
//! Nowhere else does a thread hold the mutexes of two shards.

use super::wait_for::{Against, By, Line, Search, Step, Turns, Waits, session_that_holds};
use crate::config::{Fairness, Victim};
use crate::engine::Core;
use crate::engine::recheck::is_session;
use crate::error::{DeadlockLink, LockError};
use crate::events::Detection;
use crate::hold::NotedHold;
use crate::listed::Cycle;
use crate::mode::Mode;
use crate::observe::Event;
use crate::sync::atomic::{Ordering, fence};
use crate::table::{Entry, LockedShard};
use crate::wait::{NEVER, Phase, Ticket, Waiter};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Wrong suspicions in a row before the request goes on waiting for a while.
const SUSPICIONS: usize = 8;
/// Orders of lines that one look changes at most.
const MOST_ORDERS: usize = 64;
/// The shortest time between two looks of a request.
const SHORTEST_PAUSE: u64 = 50_000_000;

impl Core {
    /// Returns the latest deadlocks, oldest first.
    pub(crate) fn recent_deadlocks(&self) -> Vec<Cycle> {
        if self.is_forked() {
            return Vec::new();
        }
        self.deadlocks.recent()
    }

    /// Looks for deadlocks that a waiting request is part of, and breaks them.
    ///
    /// Returns when to look again.
    pub(crate) fn look_for_deadlock(&self, ticket: Ticket) -> u64 {
        let waiter = self.waiters.get(ticket.index());
        let (session, since) = (waiter.owner.load(Ordering::Relaxed), waiter.since.load(Ordering::Relaxed));
        let (upgrades, waits) = (waiter.asking().upgrade, waiter.phase().is_queued());
        // Who upgrades is sent here early only if it stands against another.
        let delay = self.config.deadlock_delay.filter(|_| is_session(session));
        // Compared after what was read of the waiter, which could be another's request otherwise.
        if !waits || waiter.ticket(ticket.index()) != ticket {
            return NEVER;
        }
        let Some(delay) = delay else { return NEVER };
        let due = since.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(NEVER));
        if !upgrades && self.now() < due {
            return due;
        }
        let (mut wrong, mut orders) = (0, 0);
        while wrong < SUSPICIONS && orders < MOST_ORDERS && self.is_in_the_way(session, ticket) {
            match self.break_one(session) {
                Found::Nothing => break,
                Found::Suspicion => wrong += 1,
                Found::Order => orders += 1,
                Found::Deadlock => {}
            }
        }
        // Under the model checker once is enough, or it would look for ever.
        if cfg!(loom) || !waiter.phase().is_queued() {
            return NEVER;
        }
        let now = self.now();
        if wrong == SUSPICIONS { now + SHORTEST_PAUSE } else { now + (now.saturating_sub(since)).max(SHORTEST_PAUSE) }
    }

    /// Whether another request may wait for a session: if not, it is in no circle.
    ///
    /// Looks at its own holds alone.
    fn is_in_the_way(&self, session: u32, ticket: Ticket) -> bool {
        let Some(state) = self.sessions.get(session) else { return false };
        // Of those behind it in line one may have come before.
        let may_overtake = match self.config.fairness {
            Fairness::Fifo | Fairness::Eventual { .. } => self.waiters.get(ticket.index()).asking().priority > 0,
            Fairness::WriterFirst | Fairness::ReaderFirst => true,
        };
        if may_overtake || state.waits().len() > 1 {
            return true;
        }
        // Pairs with: the same fence of another session's look. Of two that wait for each other's locks both have joined
        // a line before, so at least one of them sees the other in line here.
        fence(Ordering::SeqCst);
        let mut is_waited_for = false;
        state.for_each_hold(|NotedHold { grant, .. }| {
            let held = self.records.get(grant.index()).held().filter(|held| held.grant(grant.index()) == grant);
            is_waited_for = held.is_some_and(|held| {
                let entry = self.table.entry(held.entry);
                entry.queue_head.load(Ordering::Relaxed) != crate::memory::NONE
            });
            if is_waited_for { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        is_waited_for
    }

    /// Finds a circle through a session, and breaks it.
    fn break_one(&self, asker: u32) -> Found {
        let mut detection = self.deadlocks.detect();
        let mut search = Search::new(self);
        let Some(circle) = search.circle(asker, Waits::ForHolds) else {
            return match search.circle(asker, Waits::All) {
                Some(circle) => self.change_order(detection, &mut search, &circle),
                None => Found::Nothing,
            };
        };
        let Some(mut shards) = self.confirm(&circle) else { return Found::Suspicion };
        let gives_way = self.who_gives_way(&circle);
        let links: Arc<[DeadlockLink]> =
            circle.iter().cycle().skip(gives_way).take(circle.len()).map(|step| self.link(step)).collect();
        let step = circle[gives_way];
        let place = shards.iter().position(|(shard, _)| *shard == self.table.shard_of(step.hash));
        let mut shard = shards.swap_remove(place.expect("the shards of all steps are locked")).1;
        drop(shards);
        let (waiter, entry) = (self.waiters.get(step.ticket.index()), self.table.entry(step.entry));
        waiter.explain(LockError::Deadlock { key: links[0].key.clone(), cycle: Arc::clone(&links) });
        let wakeup = self.end_wait(&mut shard, entry, waiter, Phase::Deadlocked);
        let cycle = Cycle { at: self.uptime(), victim: Arc::clone(&links[0].session), links: Arc::clone(&links) };
        detection.remember(cycle);
        drop(detection);
        // The requests behind it may go on now. Its wakeup is delivered after all mutexes are released.
        self.grant_waiters_and_unlock(self.local(), shard, step.entry, entry, step.hash, None);
        self.deliver(step.ticket.index(), wakeup);
        self.announce(&Event::Deadlock { key: links[0].key.clone(), cycle: links });
        Found::Deadlock
    }

    /// Breaks a circle that only the order of lines makes.
    ///
    /// Moves a request in front of those whose turn comes later.
    fn change_order(&self, detection: Detection<'_>, search: &mut Search<'_>, circle: &[Step]) -> Found {
        let turns = search.turns(circle.iter().map(|step| step.from));
        // It may stand in its own way, too: by a hold that it could share, but for a label in front.
        let is_against =
            |step: &&Step| step.by_order && (turns.place(step.from) < turns.place(step.to) || step.from == step.to);
        // Turns fit all holds, and no circle fits an order: one of its steps is against it.
        let Some(step) = circle.iter().find(is_against) else { return Found::Suspicion };
        let Some(mut shards) = self.confirm(circle) else { return Found::Suspicion };
        let place = shards.iter().position(|(shard, _)| *shard == self.table.shard_of(step.hash));
        let shard = shards.swap_remove(place.expect("the shards of all steps are locked")).1;
        drop(shards);
        let entry = self.table.entry(step.entry);
        let moved = self.sort_line(entry, step, &turns);
        self.deadlocks.changes_order();
        // Before any waiter is woken: its waker may ask for the latest deadlocks.
        drop(detection);
        // The request at the front may have the lock now.
        self.grant_waiters_and_unlock(self.local(), shard, step.entry, entry, step.hash, None);
        if moved { Found::Order } else { Found::Suspicion }
    }

    /// Sorts a part of a line by turns; returns whether that changes it.
    ///
    /// The part lies between a request and the one that it is to pass. Caller holds: shard mutex.
    fn sort_line(&self, entry: &Entry, step: &Step, turns: &Turns) -> bool {
        let queue = self.queue(entry);
        let (index, waiter) = (step.ticket.index(), self.waiters.get(step.ticket.index()));
        let reads = waiter.asking().mode == Mode::Shared;
        // From the one to pass; a request that waits because of what a label waits for is to pass all labels.
        let first = |other: u32| match step.by {
            By::Line { waiter } => other == waiter,
            By::Hold { .. } => true,
        };
        let line = queue.iter().take_while(|(other, _)| *other != index).skip_while(|(other, _)| !first(*other));
        // Those who upgrade hold the lock: a reader passes them and shares it right away, a writer cannot pass them.
        let passed: Vec<(u32, &Waiter)> = line.filter(|(_, other)| reads || !other.asking().goes_first()).collect();
        let Some((_, behind)) = passed.first() else { return false };
        let mut behind = queue.before(behind);
        let before: Vec<u32> = passed.iter().map(|(index, _)| *index).chain([index]).collect();
        let mut sorted = before.clone();
        if passed.iter().any(|(_, other)| other.asking().goes_first()) {
            sorted.rotate_right(1);
        } else {
            // Stable: those whose turns are not known stay as they are, behind the others.
            sorted.sort_by_key(|index| turns.place(self.waiters.get(*index).owner.load(Ordering::Relaxed)));
        }
        before.iter().for_each(|index| queue.leave(self.waiters.get(*index)));
        for index in &sorted {
            queue.put_behind(*index, behind);
            behind = Some(*index);
        }
        sorted != before
    }

    /// Makes sure that all of a circle exists at one moment.
    ///
    /// Its requests stay in line for as long as the shards that come back are held.
    fn confirm(&self, circle: &[Step]) -> Option<Vec<(u32, LockedShard<'_>)>> {
        let mut indexes: Vec<u32> = circle.iter().map(|step| self.table.shard_of(step.hash)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let shards: Vec<_> = indexes.into_iter().map(|index| (index, self.table.lock(index))).collect();
        let against: Option<Vec<_>> = circle.iter().map(|step| self.stands(step)).collect();
        // The first look at holds was that one.
        let mut again = circle.iter().zip(against?);
        again.all(|(step, against)| self.holds_still(step, against)).then_some(shards)
    }

    /// Returns whether a step is one, as far as one step shows that.
    ///
    /// Then what the hold that it goes by is to be against. Caller holds: shard mutex.
    fn stands(&self, step: &Step) -> Option<Option<Against>> {
        let waiter = self.waiters.get(step.ticket.index());
        let entry = self.table.entry(step.entry);
        // The phase first, as in `end_by_ticket`.
        let waits = waiter.phase().is_asleep()
            && waiter.ticket(step.ticket.index()) == step.ticket
            && waiter.entry.load(Ordering::Relaxed) == step.entry
            && entry.hash() == step.hash
            && waiter.owner.load(Ordering::Relaxed) == step.from;
        if !waits {
            return None;
        }
        if !step.by_order {
            let against = Some(Against::of(waiter.asking()));
            return self.holds_still(step, against).then_some(against);
        }
        let mut in_front = false;
        let line = Line::read(self.queue(entry));
        let against = line.in_the_way_of(step.ticket.index(), |waiter, owner| {
            in_front |= step.by == By::Line { waiter } && owner == step.to;
        });
        match step.by {
            By::Line { .. } => in_front.then_some(None),
            By::Hold { .. } => (against.is_some() && self.holds_still(step, against)).then_some(against),
        }
    }

    /// Returns whether the hold that a step goes by is there now.
    fn holds_still(&self, step: &Step, against: Option<Against>) -> bool {
        let (By::Hold { record, mark }, Some(against)) = (step.by, against) else { return true };
        let holder = session_that_holds(self, record, mark, step.entry, against);
        holder.is_some_and(|(session, _)| session == step.to)
    }

    /// The position of the step whose session gives way. The caller owns the shards.
    fn who_gives_way(&self, circle: &[Step]) -> usize {
        let order = |step: &Step| self.sessions.get(step.from).map_or(0, |session| session.order);
        let priority = |step: &Step| self.waiters.get(step.ticket.index()).asking().priority;
        // When its request began to wait: the last one closed the circle.
        let since = |step: &Step| self.waiters.get(step.ticket.index()).since.load(Ordering::Relaxed);
        let positions = 0..circle.len();
        let chosen = match self.config.victim {
            // Of several at one time the one that looks, which is the first.
            Victim::Asker => positions.rev().max_by_key(|position| since(&circle[*position])),
            Victim::Youngest => positions.max_by_key(|position| order(&circle[*position])),
            Victim::LowestPriority => positions.min_by_key(|position| {
                let step = &circle[*position];
                (priority(step), std::cmp::Reverse(order(step)))
            }),
        };
        chosen.unwrap_or(0)
    }

    /// Returns a step in words. Caller holds: shard mutex.
    fn link(&self, step: &Step) -> DeadlockLink {
        let session = self.owner_label(step.from);
        let blocked_by = match step.by {
            By::Hold { record, .. } => {
                self.records.get(record).held().map_or(Some(Mode::Shared), |held| Some(held.mode))
            }
            By::Line { .. } => None,
        };
        DeadlockLink {
            session: session.name,
            source: session.source,
            key: self.table.entry(step.entry).key(self.table.arena()),
            mode: self.waiters.get(step.ticket.index()).asking().mode,
            blocked_by,
        }
    }
}

/// What a search came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
enum Found {
    Nothing,
    /// What looked like a deadlock was none any more, or never at any one moment.
    Suspicion,
    /// A circle of holds, and one of it gave way.
    Deadlock,
    /// A circle because of a line, whose order was changed.
    Order,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::sync::steps_of;
    use crate::{Fairness, FastObjectLockManager, LockConfig, LockRequest, Mode, Submitted};
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Wake, Waker};
    use std::time::Duration;

    /// Counts wakes, and those that came while a detection ran.
    struct Watcher {
        locks: FastObjectLockManager,
        wakes: AtomicU32,
        inside: AtomicU32,
    }

    impl Wake for Watcher {
        fn wake(self: Arc<Self>) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            self.inside.fetch_add(u32::from(self.locks.core().deadlocks.is_detecting()), Ordering::Relaxed);
        }
    }

    /// A session passes a label that waits for a session that waits for the first.
    #[test]
    fn passing_reader_wakes_off_the_mutex() {
        let config = LockConfig { deadlock_delay: Some(Duration::ZERO), ..LockConfig::default() };
        let locks = FastObjectLockManager::with_config(LockConfig { fairness: Fairness::Fifo, ..config }).unwrap();
        let watcher = Arc::new(Watcher { locks: locks.clone(), wakes: AtomicU32::new(0), inside: AtomicU32::new(0) });
        let waker = Waker::from(Arc::clone(&watcher));
        let mut context = Context::from_waker(&waker);
        let (a, b) = (locks.session("a"), locks.session("b"));
        let ask = |key: &'static str, mode| LockRequest::new(("b", key), mode);
        let shared = locks.lock(ask("0", Mode::Shared).owner(&a)).try_now().unwrap();
        let held = locks.lock(ask("1", Mode::Exclusive).owner(&b)).try_now().unwrap();
        let mut writer = pin!(locks.lock(ask("0", Mode::Exclusive)).into_future());
        let mut reader = pin!(locks.lock(ask("0", Mode::Shared).owner(&b)).into_future());
        let mut last = pin!(locks.lock(ask("1", Mode::Exclusive).owner(&a)).into_future());
        assert!(writer.as_mut().poll(&mut context).is_pending());
        assert!(reader.as_mut().poll(&mut context).is_pending());
        // It closes the circle.
        assert!(last.as_mut().poll(&mut context).is_pending());
        assert_eq!(watcher.wakes.load(Ordering::Relaxed), 1, "the reader has its lock");
        assert_eq!(watcher.inside.load(Ordering::Relaxed), 0, "its waker ran under the mutex of detections");
        assert!(reader.as_mut().poll(&mut context).is_ready());
        drop((shared, held));
    }

    /// Steps of all searches of `count` sessions that wait for one key.
    ///
    /// Each of them holds another key.
    fn steps_of_a_crowd(count: usize, fairness: Fairness) -> u64 {
        let config = LockConfig { deadlock_delay: Some(Duration::ZERO), fairness, ..LockConfig::default() };
        let locks = FastObjectLockManager::with_config(config).unwrap();
        let queue = locks.completion_queue().unwrap();
        let names: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        let sessions: Vec<_> = names.iter().map(|name| locks.session(name)).collect();
        let own: Vec<_> = names
            .iter()
            .zip(&sessions)
            .map(|(name, session)| locks.lock(LockRequest::write(("own", name)).owner(session)).blocking().unwrap())
            .collect();
        let held = locks.acquire_write_lock_blocking("b", "hot", "label").unwrap();
        // A request that begins to wait looks right away, on this thread.
        let steps = steps_of(|| {
            for session in &sessions {
                let submitted = locks.lock(LockRequest::write(("b", "hot")).owner(session)).with_queue(&queue, 1);
                assert!(matches!(submitted.unwrap(), Submitted::Waiting(_)));
            }
        });
        let again = steps_of(|| {
            for waiter in sessions.iter().flat_map(|session| session.waiters()) {
                locks.core().look_for_deadlock(waiter);
            }
        });
        drop((held, own));
        steps + again
    }

    #[test]
    fn crowd_on_one_key_costs_each_the_same() {
        for fairness in [Fairness::Fifo, Fairness::default()] {
            let (few, many) = (steps_of_a_crowd(100, fairness), steps_of_a_crowd(3000, fairness));
            assert!(few > 0 && many <= 40 * few, "{few} steps of 100 sessions, {many} of 3,000");
        }
    }
}
