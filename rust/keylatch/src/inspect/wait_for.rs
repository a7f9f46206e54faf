//! Who waits for whom, among sessions.
//!
//! A session that waits in line for a lock waits
//!
//! * **for holds**: for each session that holds the lock in a way that its request does not allow. So it is whatever the
//!   order of the line, and a circle of such waits is one that only a session's giving way breaks;
//! * **because of the line**: for each session in front that has to have had the lock first, and for what those in front
//!   wait for. Another order of the line takes such a wait away.
//!
//! A label in the line is no particular party, so that nothing waits for it; but what it waits for stands in the way of
//! those behind it as well. A session with several requests in line waits for all of them.
//!
//! | in line | in its way among those in front |
//! |---|---|
//! | a writer | all |
//! | a reader | the nearest writer, and all in front of that one |
//! | a reader who upgrades | none: it goes first, and waits for the other readers |
//!
//! What is in the way of a *session's* writer in front is left to that writer: the search comes to it through it. So the
//! steps from one line are about as many as stand in it, and not their square.
//!
//! The search looks at one line after the other, while others come and go: what it finds is a suspicion. A circle that
//! is really there stays as it is until it is broken, and so is found.

use crate::config::Reentrancy;
use crate::engine::Core;
use crate::engine::recheck::is_session;
use crate::hold::NotedHold;
use crate::memory::Pooled;
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::table::Entry;
use crate::wait::{Asking, Phase, Queue, Ticket};
use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;

/// A step of a circle: `from` waits for `to`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// The request of `from` that waits.
    pub(crate) ticket: Ticket,
    pub(crate) entry: u32,
    pub(crate) hash: u64,
    pub(crate) by: By,
    /// The order of the line alone makes it one.
    pub(crate) by_order: bool,
}

/// What a search follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Waits for holds.
    ForHolds,
    /// Those, and those because of the line.
    All,
}

/// How the other stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// It holds the lock: the record, and its generation.
    Hold { record: u32, mark: u64 },
    /// It stands in front, with this waiter.
    Line { waiter: u32 },
}

/// Holds that stand in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    Writers,
    Everybody,
}

impl Against {
    /// The holds that a request does not allow itself, whatever stands in front of it.
    pub(crate) fn of(asking: Asking) -> Self {
        if asking.mode == Mode::Exclusive { Self::Everybody } else { Self::Writers }
    }

    fn includes(self, mode: Mode) -> bool {
        self == Self::Everybody || mode == Mode::Exclusive
    }
}

/// A request in line.
#[derive(Debug, Clone, Copy)]
struct Standing {
    waiter: u32,
    owner: u32,
    writer: bool,
    upgrades: bool,
    /// It was woken because the lock is free, and is on its way: it waits for no one.
    on_its_way: bool,
    /// Positions of the nearest session and the nearest writer in front.
    session_in_front: Option<usize>,
    writer_in_front: Option<usize>,
}

/// A line as it stood when its shard's mutex was held.
#[derive(Debug, Default)]
pub(crate) struct Line {
    standing: Vec<Standing>,
    /// Positions by waiter.
    positions: HashMap<u32, usize>,
}

impl Line {
    /// Caller holds: shard mutex.
    pub(crate) fn read(queue: Queue<'_>) -> Self {
        let (mut session_in_front, mut writer_in_front) = (None, None);
        let standing = queue.iter().enumerate().map(|(position, (index, waiter))| {
            crate::sync::step();
            let standing = Standing {
                waiter: index,
                owner: waiter.owner.load(Ordering::Relaxed),
                writer: waiter.asking().mode == Mode::Exclusive,
                upgrades: waiter.asking().upgrade,
                on_its_way: waiter.phase() == Phase::Notified,
                session_in_front,
                writer_in_front,
            };
            if is_session(standing.owner) {
                session_in_front = Some(position);
            }
            if standing.writer {
                writer_in_front = Some(position);
            }
            standing
        });
        let standing: Vec<Standing> = standing.collect();
        let positions = (0..).zip(&standing).map(|(position, standing)| (standing.waiter, position)).collect();
        Self { standing, positions }
    }

    /// Returns what is in the way of a request.
    ///
    /// `visit` is called with waiter and owner of each session in front, and the holds that are in its way as well come
    /// back. `None` where there are none, or where they are in the way of a session that was visited.
    pub(crate) fn in_the_way_of(&self, waiter: u32, mut visit: impl FnMut(u32, u32)) -> Option<Against> {
        let me = &self.standing[*self.positions.get(&waiter)?];
        if me.on_its_way {
            return None;
        }
        if me.upgrades {
            // Only another one who upgrades can be in front, and that one is in the way by the hold it has.
            return Some(Against::Everybody);
        }
        // Once a writer has to have its turn, so has everybody in front of it.
        let (mut place, mut all) = (me, me.writer);
        loop {
            let in_front = if all { place.session_in_front } else { place.writer_in_front };
            let Some(position) = in_front else { break };
            place = &self.standing[position];
            if is_session(place.owner) {
                visit(place.waiter, place.owner);
            }
            if place.writer && !place.on_its_way {
                if is_session(place.owner) {
                    return None;
                }
                all = true;
            }
        }
        Some(if all { Against::Everybody } else { Against::Writers })
    }
}

/// A search for circles. It has one look at each line and at the holds.
pub(crate) struct Search<'c> {
    core: &'c Core,
    lines: HashMap<u32, Line>,
    /// Records of the holds of waiting sessions, by entry, searched at most once.
    ///
    /// Most locks that are waited for have one writer, who is found through the entry.
    holds: Option<HashMap<u32, Vec<u32>>>,
}

/// A possible order of the sessions' turns, if only holds were in their way.
///
/// Each comes after those that it waits for.
#[derive(Debug, Default)]
pub(crate) struct Turns(HashMap<u32, usize>);

impl Turns {
    /// Returns a session's place; the last one for those that were not asked about.
    pub(crate) fn place(&self, session: u32) -> usize {
        self.0.get(&session).copied().unwrap_or(usize::MAX)
    }
}

impl<'c> Search<'c> {
    pub(crate) fn new(core: &'c Core) -> Self {
        Self { core, lines: HashMap::new(), holds: None }
    }

    /// Returns the steps of a shortest circle through a session, beginning with it.
    pub(crate) fn circle(&mut self, asker: u32, waits: Waits) -> Option<Vec<Step>> {
        let mut came_by: HashMap<u32, Step> = HashMap::new();
        let mut next = VecDeque::from([asker]);
        while let Some(session) = next.pop_front() {
            for step in self.steps_from(session, waits) {
                if step.to == asker {
                    let back = |step: &Step| came_by.get(&step.from).copied();
                    let mut circle: Vec<Step> = std::iter::successors(Some(step), back).collect();
                    circle.reverse();
                    return Some(circle);
                }
                if let Slot::Vacant(slot) = came_by.entry(step.to) {
                    slot.insert(step);
                    next.push_back(step.to);
                }
            }
        }
        None
    }

    /// Turns of these sessions and of all that they wait for because of holds.
    pub(crate) fn turns(&mut self, sessions: impl Iterator<Item = u32>) -> Turns {
        let mut turns = Turns::default();
        let mut entered = HashSet::new();
        for root in sessions {
            let mut path: Vec<(u32, std::vec::IntoIter<Step>)> = Vec::new();
            if entered.insert(root) {
                path.push((root, self.steps_from(root, Waits::ForHolds).into_iter()));
            }
            while let Some((session, steps)) = path.last_mut() {
                match steps.next() {
                    Some(step) if entered.insert(step.to) => {
                        let steps = self.steps_from(step.to, Waits::ForHolds);
                        path.push((step.to, steps.into_iter()));
                    }
                    Some(_) => {}
                    None => {
                        turns.0.insert(*session, turns.0.len());
                        path.pop();
                    }
                }
            }
        }
        turns
    }

    fn steps_from(&mut self, session: u32, waits: Waits) -> Vec<Step> {
        let mut steps = Vec::new();
        let waiters = self.core.sessions.get(session).map(|state| state.waits());
        for waiter in waiters.into_iter().flatten() {
            self.add_steps(session, waiter, waits, &mut steps);
        }
        steps
    }

    fn add_steps(&mut self, session: u32, waiter_index: u32, waits: Waits, steps: &mut Vec<Step>) {
        let core = self.core;
        let waiter = core.waiters.get(waiter_index);
        let (ticket, asking) = (waiter.ticket(waiter_index), waiter.asking());
        let index = waiter.entry.load(Ordering::Relaxed);
        if !core.table.arena().could_be(index) || !waiter.phase().is_asleep() {
            return;
        }
        let entry = core.table.entry(index);
        let hash = entry.hash();
        let step = |to, by, by_order| Step { from: session, to, ticket, entry: index, hash, by, by_order };
        let own = Against::of(asking);
        let against = match waits {
            Waits::ForHolds => own,
            Waits::All => {
                self.read_line(index, session, waiter_index);
                let in_front = |in_front, owner| {
                    crate::sync::step();
                    // Behind itself it waits for what it will hold, and is found once it does.
                    if owner != session {
                        steps.push(step(owner, By::Line { waiter: in_front }, true));
                    }
                };
                match self.lines[&index].in_the_way_of(waiter_index, in_front) {
                    Some(against) => against,
                    None => return,
                }
            }
        };
        let own_record = if asking.upgrade { waiter.record.load(Ordering::Relaxed) } else { crate::memory::NONE };
        // What a counting session reads itself does not keep it from rising.
        let counts = core.config.reentrancy == Reentrancy::Count;
        for record in self.holds(index, entry) {
            crate::sync::step();
            let mark = core.records.get(record).mark();
            if record != own_record
                && let Some((owner, mode)) = session_that_holds(core, record, mark, index, against)
                && !(counts && owner == session && mode == Mode::Shared)
            {
                steps.push(step(owner, By::Hold { record, mark }, !own.includes(mode)));
            }
        }
    }

    /// Reads the line at an entry, unless it was read.
    ///
    /// A session's waiter was seen in it.
    fn read_line(&mut self, index: u32, session: u32, waiter_index: u32) {
        let core = self.core;
        let waiter = core.waiters.get(waiter_index);
        let entry = core.table.entry(index);
        let hash = entry.hash();
        self.lines.entry(index).or_insert_with(|| {
            let _shard = core.lock_shard(hash);
            // Under the mutex, the phase first: a waiter that is still in line keeps its entry, and that its key. If it
            // is not, this may be anybody's line.
            let stands = waiter.phase().is_queued()
                && waiter.entry.load(Ordering::Relaxed) == index
                && entry.hash() == hash
                && waiter.owner.load(Ordering::Relaxed) == session;
            if stands { Line::read(core.queue(entry)) } else { Line::default() }
        });
    }

    /// Records that may stand for holds that sessions have of an entry.
    fn holds(&mut self, index: u32, entry: &Entry) -> Vec<u32> {
        let core = self.core;
        let writer = entry.word().writer();
        if writer != crate::memory::NONE && core.records.get(writer).held().is_some_and(|held| held.entry == index) {
            return vec![writer];
        }
        let holds = self.holds.get_or_insert_with(|| {
            // Only sessions that wait lead any further.
            let mut holds: HashMap<u32, Vec<u32>> = HashMap::new();
            for session in core.sessions.waiting() {
                session.for_each_hold(|NotedHold { grant, .. }| {
                    let held = core.records.get(grant.index()).held();
                    if let Some(held) = held.filter(|held| held.grant(grant.index()) == grant) {
                        holds.entry(held.entry).or_default().push(grant.index());
                    }
                    ControlFlow::Continue(())
                });
            }
            holds
        });
        holds.get(&index).cloned().unwrap_or_default()
    }
}

/// Returns the session whose hold of an entry a record stands for, and its mode.
///
/// Only if it is still of this generation and in the way.
pub(crate) fn session_that_holds(
    core: &Core,
    record: u32,
    mark: u64,
    entry: u32,
    against: Against,
) -> Option<(u32, Mode)> {
    let state = core.records.get(record);
    let held = state.held()?;
    let stands = held.entry == entry && core.is_in_word(record, &held) && against.includes(held.mode);
    // The generation only moves on, so it was the same throughout.
    (stands && is_session(held.owner) && state.mark() == mark).then_some((held.owner, held.mode))
}
