//! Actions, properties and the searches themselves.

use super::fault::Fault;
use super::state::{Op, Setup, Sleep, Slot, State, Step, Then};
use crate::word::{MemberId, Place, Word};
use stateright::{Checker, HasDiscoveries, Model, Property};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Action {
    Run(usize),
    Cancel(usize),
    Crash(MemberId),
    Restart(MemberId),
    Stop(MemberId),
    Continue(MemberId),
    /// A waiter takes the turn from a member that has not used it.
    LosePatience(usize),
    StartRecovery(usize),
    /// A sleeper rechecks, while a member that should have signalled it is stopped.
    Recheck(usize),
}

impl Setup {
    fn is_ready(&self, s: &State, t: usize) -> bool {
        let thread = &s.threads[t];
        let member = &s.members[thread.member.index()];
        if !member.alive || member.stopped {
            return false;
        }
        match thread.step {
            Step::Done => false,
            Step::Idle => !self.scripts[t].1.is_empty(),
            Step::Asleep(_) => member.rung,
            Step::JoinCheck => self.may_join(s, thread.member),
            _ => true,
        }
    }

    fn is_recoverer(&self, t: usize) -> bool {
        self.scripts[t].1.is_empty()
    }

    fn crash(&self, s: &mut State, member: MemberId) {
        s.crashes -= 1;
        s.members[member.index()].alive = false;
        s.members[member.index()].stopped = false;
        for t in 0..self.scripts.len() {
            let thread = s.threads[t];
            if thread.member != member {
                continue;
            }
            if let (Step::Hold, Some(op)) = (thread.step, self.op(s, t))
                && (op.is_exclusive() || thread.upgraded)
            {
                s.owed[op.entry()] = true;
            }
            let thread = &mut s.threads[t];
            (thread.registered, thread.passed, thread.waited) = (false, 0, false);
            (thread.saw_death, thread.gave_up, thread.place) = (false, false, Place::Word);
            thread.upgraded = false;
            if !matches!(thread.step, Step::Idle | Step::Done) && !self.is_recoverer(t) {
                thread.op += 1;
            }
            thread.step = Step::Done;
        }
    }
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State::new(self);
        for t in 0..self.holding {
            while state.threads[t].step != Step::Hold {
                self.run(&mut state, t);
            }
        }
        vec![state]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        if s.broken.is_some() {
            return;
        }
        for t in 0..self.scripts.len() {
            let thread = &s.threads[t];
            let member = &s.members[thread.member.index()];
            if self.is_ready(s, t) {
                actions.push(Action::Run(t));
            }
            if !member.alive || member.stopped {
                continue;
            }
            if let (Step::Asleep(_), Some(op)) = (thread.step, self.op(s, t)) {
                if op.may_cancel() {
                    actions.push(Action::Cancel(t));
                }
                let word = s.words[op.entry()];
                let others = word.without_reader(thread.member).has_named_readers();
                let overflow = s.rd[op.entry()] & !super::state::bit(thread.member) != 0;
                let unsignalled = match thread.step {
                    Step::Asleep(Sleep::Turn) => word.is_open_to(thread.member),
                    Step::Asleep(Sleep::Upgrade) => word.writer().is_none() && !others && !overflow,
                    _ if word.upgrader().is_some() => true,
                    _ => !word.has_named_readers() && (!word.has_overflow() || s.rd[op.entry()] == 0),
                };
                if unsignalled && s.members.iter().any(|other| other.stopped) && !self.has(Fault::NoTimedRecheck) {
                    actions.push(Action::Recheck(t));
                }
                let is_turn = word.upgrader().is_none();
                let stuck = is_turn && word.next().is_some_and(|id| s.members[id.index()].stopped);
                if matches!(thread.step, Step::Asleep(Sleep::Turn)) && stuck && !self.has(Fault::NoPatience) {
                    actions.push(Action::LosePatience(t));
                }
            }
            let idle = thread.step == Step::Idle && self.is_recoverer(t);
            if idle && !self.has(Fault::NoRecovery) && self.dead_member(s, thread.member).is_some() {
                actions.push(Action::StartRecovery(t));
            }
        }
        for (index, member) in s.members.iter().enumerate() {
            let id = MemberId::at(index);
            if !self.scripts.iter().any(|script| script.0 == id.number()) {
                continue;
            }
            let busy = self
                .scripts
                .iter()
                .enumerate()
                .any(|(t, script)| script.0 == id.number() && !matches!(s.threads[t].step, Step::Done));
            if member.alive && s.crashes > 0 && busy {
                actions.push(Action::Crash(id));
            }
            if !member.alive && s.restarts > 0 {
                actions.push(Action::Restart(id));
            }
            if member.alive && !member.stopped && s.stops > 0 && busy {
                actions.push(Action::Stop(id));
            }
            if member.stopped {
                actions.push(Action::Continue(id));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut s = last.clone();
        match action {
            Action::Run(t) | Action::Recheck(t) => self.run(&mut s, t),
            Action::Cancel(t) => {
                s.threads[t].registered = false;
                s.threads[t].gave_up = true;
                s.threads[t].step = match s.threads[t].step {
                    Step::Asleep(Sleep::Upgrade) => Step::UpgradeEnd,
                    Step::Asleep(Sleep::Turn) => Step::ClearWait(Then::ClearLog),
                    _ => Step::Leave,
                };
            }
            Action::Crash(id) => self.crash(&mut s, id),
            Action::Restart(id) => {
                s.restarts -= 1;
                s.members[id.index()].alive = true;
                s.members[id.index()].rung = false;
                for t in 0..self.scripts.len() {
                    if s.threads[t].member == id {
                        s.threads[t].step = Step::Done;
                    }
                }
                let first = (0..self.scripts.len()).find(|&t| s.threads[t].member == id)?;
                s.threads[first].step = Step::JoinCheck;
            }
            Action::Stop(id) => {
                s.stops -= 1;
                s.members[id.index()].stopped = true;
            }
            Action::Continue(id) => s.members[id.index()].stopped = false,
            Action::LosePatience(t) => {
                let entry = self.op(&s, t)?.entry();
                let id = s.words[entry].next()?;
                s.threads[t].step = Step::Pass(id, entry, Then::Sleep);
            }
            Action::StartRecovery(t) => {
                let dead = self.dead_member(&s, s.threads[t].member)?;
                s.threads[t].step = Step::Announce(dead);
            }
        }
        Some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("an exclusive holder is alone", |setup: &Setup, s: &State| {
                let entry = |t: usize| setup.op(s, t).map(Op::entry);
                let writes = |t: usize| {
                    let is_writer = setup.op(s, t).is_some_and(Op::is_exclusive) || s.threads[t].upgraded;
                    s.threads[t].step == Step::Hold && is_writer
                };
                let count = setup.scripts.len();
                (0..count).filter(|t| writes(*t)).all(|writer| {
                    (0..count).all(|t| t == writer || entry(t) != entry(writer) || !writes(t) && !s.holds(t))
                })
            }),
            Property::always("no step breaks a promise", |_, s: &State| s.broken.is_none()),
            Property::always("no member waits for a free entry", |setup: &Setup, s: &State| {
                let moves = (0..setup.scripts.len()).any(|t| setup.is_ready(s, t));
                let mut actions = Vec::new();
                setup.actions(s, &mut actions);
                let helps = actions.iter().any(|action| {
                    matches!(
                        action,
                        Action::LosePatience(_) | Action::Recheck(_) | Action::StartRecovery(_) | Action::Restart(_)
                    )
                });
                let unwatched = setup.dead_member(s, MemberId::at(0)).is_some()
                    && !(0..setup.scripts.len())
                        .any(|t| setup.is_recoverer(t) && s.members[s.threads[t].member.index()].alive);
                if moves || helps || unwatched || s.broken.is_some() {
                    return true;
                }
                (0..setup.scripts.len()).all(|t| {
                    let thread = &s.threads[t];
                    let member = &s.members[thread.member.index()];
                    let ended = matches!(thread.step, Step::Done | Step::Idle);
                    let blocked = setup.op(s, t).is_some_and(|op| {
                        let word = s.words[op.entry()];
                        let stopped = |id: MemberId| s.members[id.index()].stopped;
                        word.upgrader().or(word.writer()).is_some_and(stopped)
                            || word.writer().is_some_and(stopped)
                            || word.readers().into_iter().flatten().any(stopped)
                    });
                    ended || !member.alive || member.stopped || blocked
                })
            }),
            Property::always("the last one leaves everything free", |setup: &Setup, s: &State| {
                let all_gone = (0..setup.scripts.len()).all(|t| {
                    matches!(s.threads[t].step, Step::Done) || setup.is_recoverer(t) && s.threads[t].step == Step::Idle
                });
                let recovered = s
                    .members
                    .iter()
                    .all(|member| member.slot != Slot::Dead && (member.alive || member.slot == Slot::Quiet));
                if !all_gone || !recovered {
                    return true;
                }
                let clean = |entry: usize| {
                    let word = s.words[entry].without_died().without_overflow();
                    word.with_turn(None) == Word::FREE && s.rd[entry] == 0 && s.wt[entry] == 0
                };
                (0..super::state::ENTRIES).all(clean) && s.threads.iter().all(|thread| thread.record == 0)
            }),
        ]
    }

    fn within_boundary(&self, _: &State) -> bool {
        true
    }
}

/// Searches the whole space; the number of states, or the broken property.
pub(super) fn search(setup: &Setup, limit: usize) -> Result<usize, String> {
    let checker = setup
        .clone()
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .target_state_count(limit)
        .spawn_bfs()
        .join();
    match checker.discoveries().into_iter().next() {
        None => Ok(checker.unique_state_count()),
        Some((name, path)) => {
            let last = path.last_state().clone();
            Err(format!("{name}: {:?}\nends in {last:?}", path.into_actions()))
        }
    }
}
