//! Circles of sessions of which each waits for the next, and who gives way.
//!
//! A request that has waited for `deadlock_delay` looks for a circle through its session. The last request that a circle
//! needs begins to wait after all its other edges were there, so its look finds it; and because a lock may also change
//! hands past those who wait, everybody looks again whenever it has waited twice as long.
//!
//! **No false alarm.** What the search finds is confirmed before anybody is told: the shards of all requests in the
//! circle are locked at once, in ascending order, so that nobody can leave a line, and every hold is looked at twice. A
//! hold that was there both times was there in between, at the same moment as all the others: at that moment the whole
//! circle existed, and none of its sessions, each of which waits, could undo it.
//!
//! **One victim.** One detection runs at a time, and ends the wait of the one that gives way before the next begins. To
//! that one a circle without itself is none any more.
//!
//! Nowhere else does a thread hold the mutexes of two shards.

use super::wait_for::{By, Line, Search, Step, session_that_holds};
use crate::config::Victim;
use crate::engine::Core;
use crate::engine::looking::is_session;
use crate::error::{DeadlockLink, LockError};
use crate::mode::Mode;
use crate::observe::Event;
use crate::sync::atomic::Ordering;
use crate::sync::fault::fault;
use crate::sync::{Mutex, MutexGuard};
use crate::table::LockedShard;
use crate::wait::{NEVER, Phase, Ticket};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Deadlocks that are remembered.
const REMEMBERED: usize = 64;
/// Suspicions in a row that may turn out wrong before the request goes on waiting for a while.
const SUSPICIONS: usize = 8;
/// The shortest time between two looks of a request.
const SHORTEST_PAUSE: u64 = 50_000_000;

/// A deadlock that was broken; see [`recent_deadlocks`](crate::FastObjectLockManager::recent_deadlocks).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cycle {
    /// When, as the time since the manager was made.
    pub at: Duration,
    /// The session that gave way: its request ended with [`LockError::Deadlock`].
    pub victim: Arc<str>,
    /// Who waited for whom, beginning with the victim; the last one waited for the victim.
    pub links: Arc<[DeadlockLink]>,
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, link) in self.links.iter().enumerate() {
            write!(f, "{}{link}", if position == 0 { "" } else { ", " })?;
        }
        write!(f, "; {} gave way", self.victim.escape_debug())
    }
}

/// The latest deadlocks. Its mutex is what has one detection run at a time.
#[derive(Debug, Default)]
pub(crate) struct Deadlocks(Mutex<VecDeque<Cycle>>);

impl Core {
    /// The latest deadlocks, oldest first.
    pub(crate) fn recent_deadlocks(&self) -> Vec<Cycle> {
        if self.is_forked() {
            return Vec::new();
        }
        self.deadlocks.0.lock().iter().cloned().collect()
    }

    /// Looks for deadlocks that a waiting request is part of, and breaks them. Returns when to look again.
    pub(crate) fn look_for_deadlock(&self, ticket: Ticket) -> u64 {
        let waiter = self.waiters.get(ticket.index());
        let (session, since) = (waiter.owner.load(Ordering::Relaxed), waiter.since.load(Ordering::Relaxed));
        let (at_once, waits) = (waiter.asking().upgrade, waiter.phase().is_queued());
        // Who upgrades is sent here early only if it stands against another.
        let delay = self.config.deadlock_delay.filter(|_| is_session(session));
        // Compared after what was read of the waiter, which could be another's request otherwise.
        if !waits || waiter.ticket(ticket.index()) != ticket {
            return NEVER;
        }
        let Some(delay) = delay else { return NEVER };
        let due = since.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(NEVER));
        if !at_once && self.now() < due {
            return due;
        }
        let mut wrong = 0;
        while wrong < SUSPICIONS {
            match self.break_one(session) {
                Found::Nothing => break,
                Found::Suspicion => wrong += 1,
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

    /// Finds a deadlock through a session, and ends the wait of the one who gives way.
    fn break_one(&self, asker: u32) -> Found {
        let mut recent = self.deadlocks.0.lock();
        let Some(circle) = Search::new(self).circle(asker) else { return Found::Nothing };
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
        let news = self.end_wait(&mut shard, entry, waiter, Phase::Deadlocked);
        let cycle = Cycle { at: self.uptime(), victim: Arc::clone(&links[0].session), links: Arc::clone(&links) };
        remember(&mut recent, cycle);
        drop(recent);
        // Whoever stood behind it may go on now. Its news is told after all mutexes are released.
        self.settle_and_wake(self.local(), shard, step.entry, entry, step.hash, None);
        if !fault!("victim-not-told") {
            self.tell(step.ticket.index(), news);
        }
        self.announce(&Event::Deadlock { key: links[0].key.clone(), cycle: links });
        Found::Deadlock
    }

    /// Makes sure that all of a circle exists at one moment. Its requests stay in line for as long as the shards that come
    /// back are held.
    fn confirm(&self, circle: &[Step]) -> Option<Vec<(u32, LockedShard<'_>)>> {
        let mut indexes: Vec<u32> = circle.iter().map(|step| self.table.shard_of(step.hash)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let shards: Vec<_> = indexes.into_iter().map(|index| (index, self.table.lock(index))).collect();
        if fault!("suspicion-not-confirmed") {
            return Some(shards);
        }
        let against: Option<Vec<_>> = circle.iter().map(|step| self.stands(step)).collect();
        // The first look at holds was that one.
        let mut again = circle.iter().zip(against?);
        again.all(|(step, against)| self.holds_still(step, against)).then_some(shards)
    }

    /// Whether a step is one, as far as this can be said of one step; then what the hold that it goes by is to be against.
    /// The caller owns the shard.
    fn stands(&self, step: &Step) -> Option<Option<super::wait_for::Against>> {
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

    /// Whether the hold that a step goes by is there now.
    fn holds_still(&self, step: &Step, against: Option<super::wait_for::Against>) -> bool {
        let (By::Hold { record, mark }, Some(against)) = (step.by, against) else { return true };
        session_that_holds(self, record, mark, step.entry, against) == Some(step.to)
    }

    /// The position of the step whose session gives way. The caller owns the shards.
    fn who_gives_way(&self, circle: &[Step]) -> usize {
        let order = |step: &Step| self.sessions.get(step.from).map_or(0, |session| session.order);
        let priority = |step: &Step| self.waiters.get(step.ticket.index()).asking().priority;
        let positions = 0..circle.len();
        let chosen = match self.config.victim {
            Victim::Asker => Some(0),
            Victim::Youngest => positions.max_by_key(|position| order(&circle[*position])),
            Victim::LowestPriority => positions.min_by_key(|position| {
                let step = &circle[*position];
                (priority(step), std::cmp::Reverse(order(step)))
            }),
        };
        chosen.unwrap_or(0)
    }

    /// A step in words. The caller owns the shard.
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

fn remember(recent: &mut MutexGuard<'_, VecDeque<Cycle>>, cycle: Cycle) {
    if recent.len() == REMEMBERED {
        recent.pop_front();
    }
    recent.push_back(cycle);
}

/// What a search came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
enum Found {
    Nothing,
    /// What looked like a deadlock was none any more, or never at any one moment.
    Suspicion,
    /// And it was broken.
    Deadlock,
}
