//! How a revoker that is stopped or killed takes a name out, while others may put the same name in.
//!
//! The holder's process uses one record again and again, and another thread of it takes the lock with another record when it
//! is free. It may be killed, and may be followed by a new member in its slot, whose name in the word is the same. Two
//! processes revoke the first use, and may be killed: none goes on for them. [`super::revoking`] has what the holder and a
//! revoker do between a question and its answer, with the buffers of processors; here each access is seen by all.

use stateright::{Checker, HasDiscoveries, Model, Property};

const PROCESSES: usize = 2;
const USES: u8 = 3;
/// The use of the holder's other thread.
const OTHER: u8 = 9;

/// About which use of the record, and by whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Mark {
    None,
    Asked(u8, usize),
    Taken(u8, usize),
    Revoked(u8),
}

/// The life word of the holder's slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Life {
    Alive,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Slot {
    Quiet,
    Live,
    Dead,
}

/// The thread of the holder's process, or of its successor that joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Holder {
    SetsState,
    LooksAtAnnouncements,
    Recovers,
    GoesLive,
    OpensUse,
    WritesHead,
    Enters,
    Holds,
    Looks,
    TakesBack,
    RemovesName,
    /// The name is out, or a revoker takes it out.
    PutsRecord,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Step {
    Idle,
    Announces,
    LooksAtMember,
    LooksAtRecord,
    Asks(Mark),
    LooksAtChange(bool),
    Undoes,
    Takes,
    RemovesName,
    Marks,
    Unannounces,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
struct Process {
    step: Step,
    is_alive: bool,
    /// Announces the holder's slot.
    revokes: bool,
    has_revoked: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Hash)]
struct State {
    /// Of which use the name in the word is. The word itself does not say it.
    name: Option<u8>,
    head: bool,
    used: u8,
    mark: Mark,
    is_changing: bool,
    life: Life,
    slot: Slot,
    holder: Holder,
    /// Times that the other thread takes the lock.
    others: u8,
    processes: [Process; PROCESSES],
    holder_deaths: u8,
    deaths: u8,
    is_wrong: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    NoAnnouncement,
    /// A revoker announces the slot after it has looked at the record.
    AnnouncesLate,
    /// It takes its announcement back before the name is out.
    UnannouncesEarly,
    /// A revoker does not look whether the slot's member is live.
    MemberNotLookedAt,
    /// A new member looks at announcements before it says that the old one is gone.
    JoinsWithoutState,
    /// One that recovers a dead revoker takes the name out for it.
    TakesOver,
    /// The holder clears the record of a use whose name is not out.
    PutsRecordEarly,
}

const FAULTS: [Fault; 7] = [
    Fault::NoAnnouncement,
    Fault::AnnouncesLate,
    Fault::UnannouncesEarly,
    Fault::MemberNotLookedAt,
    Fault::JoinsWithoutState,
    Fault::TakesOver,
    Fault::PutsRecordEarly,
];

#[derive(Clone, Debug)]
struct Setup(Option<Fault>);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Action {
    Hold,
    /// The other thread takes or releases the lock.
    HoldOther,
    KillHolder,
    /// By another process, in one step; see [`super::recovery`].
    RecoverHolder,
    Claim,
    Run(usize),
    Revoke(usize),
    /// The other one recovers this process.
    Recover(usize),
    Kill(usize),
}

impl State {
    fn is_announced(&self) -> bool {
        self.processes.iter().any(|process| process.is_alive && process.revokes)
    }

    /// Takes out a name as that of a use, which the word does not say.
    fn remove_name(&mut self, of: u8) {
        self.is_wrong |= self.name.is_some_and(|name| name != of);
        self.name = None;
    }

    fn swap(&mut self, from: Mark, to: Mark) -> bool {
        let is_same = self.mark == from;
        if is_same {
            self.mark = to;
        }
        is_same
    }
}

impl Setup {
    fn has(&self, fault: Fault) -> bool {
        self.0 == Some(fault)
    }

    fn hold(&self, s: &mut State) -> Option<()> {
        if s.life == Life::Dead {
            return None;
        }
        s.holder = match s.holder {
            Holder::SetsState => {
                if s.slot == Slot::Live && !self.has(Fault::JoinsWithoutState) {
                    s.slot = Slot::Dead;
                }
                Holder::LooksAtAnnouncements
            }
            Holder::LooksAtAnnouncements if s.is_announced() => {
                s.life = Life::Dead;
                Holder::Ended
            }
            Holder::LooksAtAnnouncements => Holder::Recovers,
            Holder::Recovers => {
                if s.slot != Slot::Quiet {
                    (s.name, s.head) = (None, false);
                }
                Holder::GoesLive
            }
            Holder::GoesLive => {
                s.slot = Slot::Live;
                Holder::OpensUse
            }
            Holder::OpensUse if s.used + 1 == USES => Holder::Ended,
            Holder::OpensUse => {
                s.mark = Mark::None;
                s.is_changing = true;
                s.used += 1;
                Holder::WritesHead
            }
            Holder::WritesHead => {
                s.head = true;
                Holder::Enters
            }
            Holder::Enters if s.name.is_some() => return None,
            Holder::Enters => {
                s.name = Some(s.used);
                s.is_changing = false;
                Holder::Holds
            }
            Holder::Holds => {
                s.is_changing = true;
                Holder::Looks
            }
            Holder::Looks => match s.mark {
                Mark::Taken(of, _) | Mark::Revoked(of) if of == s.used => Holder::PutsRecord,
                Mark::Asked(of, _) if of == s.used => Holder::TakesBack,
                _ => Holder::RemovesName,
            },
            Holder::TakesBack => match s.mark {
                Mark::Taken(..) | Mark::Revoked(_) => Holder::PutsRecord,
                _ => {
                    s.mark = Mark::None;
                    Holder::RemovesName
                }
            },
            Holder::RemovesName => {
                s.remove_name(s.used);
                Holder::PutsRecord
            }
            Holder::PutsRecord if matches!(s.mark, Mark::Taken(..)) && !self.has(Fault::PutsRecordEarly) => {
                return None;
            }
            Holder::PutsRecord => {
                s.head = false;
                Holder::OpensUse
            }
            Holder::Ended => return None,
        };
        Some(())
    }

    /// One step of another process. `me` revokes the first use, or recovers.
    fn run(&self, s: &mut State, me: usize) -> Option<()> {
        let is_first = s.head && s.used == 0;
        let step = match s.processes[me].step {
            Step::Idle => return None,
            Step::Announces => {
                s.processes[me].revokes = !self.has(Fault::NoAnnouncement);
                if self.has(Fault::AnnouncesLate) { Step::Asks(s.mark) } else { Step::LooksAtMember }
            }
            Step::LooksAtMember => {
                let is_live = s.life == Life::Alive && s.slot == Slot::Live;
                if is_live || self.has(Fault::MemberNotLookedAt) { Step::LooksAtRecord } else { Step::Unannounces }
            }
            Step::LooksAtRecord => match s.mark {
                Mark::Taken(0, _) | Mark::Revoked(0) => Step::Unannounces,
                _ if !is_first => Step::Unannounces,
                _ if self.has(Fault::AnnouncesLate) => Step::Announces,
                before => Step::Asks(before),
            },
            Step::Asks(before) => Step::LooksAtChange(s.swap(before, Mark::Asked(0, me))),
            Step::LooksAtChange(asked) => {
                let is_changing = s.is_changing && s.used == 0;
                if asked && !is_changing && is_first { Step::Takes } else { Step::Undoes }
            }
            Step::Undoes => {
                s.swap(Mark::Asked(0, me), Mark::None);
                Step::Unannounces
            }
            Step::Takes => {
                if s.swap(Mark::Asked(0, me), Mark::Taken(0, me)) {
                    s.processes[me].revokes &= !self.has(Fault::UnannouncesEarly);
                    Step::RemovesName
                } else {
                    Step::Unannounces
                }
            }
            Step::RemovesName => {
                s.remove_name(0);
                Step::Marks
            }
            Step::Marks => {
                s.swap(Mark::Taken(0, me), Mark::Revoked(0));
                Step::Unannounces
            }
            Step::Unannounces => {
                s.processes[me].revokes = false;
                Step::Idle
            }
        };
        s.processes[me].step = step;
        Some(())
    }

    fn act(&self, s: &mut State, action: Action) -> Option<()> {
        let is_free = |s: &State, me: usize| s.processes[me].is_alive && s.processes[me].step == Step::Idle;
        match action {
            Action::Hold => self.hold(s)?,
            Action::HoldOther => {
                (s.life == Life::Alive && s.slot == Slot::Live).then_some(())?;
                if s.name == Some(OTHER) {
                    s.remove_name(OTHER);
                } else {
                    s.name.is_none().then_some(())?;
                    s.others = s.others.checked_sub(1)?;
                    s.name = Some(OTHER);
                }
            }
            Action::KillHolder => {
                (s.life == Life::Alive).then_some(())?;
                s.holder_deaths = s.holder_deaths.checked_sub(1)?;
                s.life = Life::Dead;
            }
            Action::RecoverHolder => {
                (s.life == Life::Dead && s.slot != Slot::Quiet).then_some(())?;
                (s.name, s.head, s.slot) = (None, false, Slot::Quiet);
            }
            Action::Claim => {
                // One new member; it tries again if the slot was announced.
                (s.life == Life::Dead && !s.is_announced() && s.used + 1 < USES).then_some(())?;
                (s.life, s.holder) = (Life::Alive, Holder::SetsState);
            }
            Action::Run(me) => {
                s.processes[me].is_alive.then_some(())?;
                self.run(s, me)?;
            }
            Action::Revoke(me) => {
                (is_free(s, me) && !s.processes[me].has_revoked).then_some(())?;
                s.processes[me].has_revoked = true;
                let late = self.has(Fault::AnnouncesLate);
                s.processes[me].step = if late { Step::LooksAtRecord } else { Step::Announces };
            }
            Action::Recover(dead) => {
                let process = s.processes[dead];
                (!process.is_alive && process.step != Step::Idle).then_some(())?;
                let is_taken = matches!(s.mark, Mark::Taken(_, by) if by == dead);
                if self.has(Fault::TakesOver) && is_taken {
                    s.remove_name(0);
                    s.mark = Mark::Revoked(0);
                }
                s.processes[dead] = Process { step: Step::Idle, revokes: false, ..process };
            }
            Action::Kill(me) => {
                s.processes[me].is_alive.then_some(())?;
                s.deaths = s.deaths.checked_sub(1)?;
                s.processes[me].is_alive = false;
            }
        }
        Some(())
    }
}

const GOING_ON: [Action; 7] = [
    Action::Hold,
    Action::HoldOther,
    Action::RecoverHolder,
    Action::Run(0),
    Action::Run(1),
    Action::Recover(0),
    Action::Recover(1),
];

const OTHERS: [Action; 6] =
    [Action::KillHolder, Action::Claim, Action::Revoke(0), Action::Revoke(1), Action::Kill(0), Action::Kill(1)];

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let process = Process { step: Step::Idle, is_alive: true, revokes: false, has_revoked: false };
        vec![State {
            name: Some(0),
            head: true,
            used: 0,
            mark: Mark::None,
            is_changing: false,
            life: Life::Alive,
            slot: Slot::Live,
            holder: Holder::Holds,
            others: 2,
            processes: [process; PROCESSES],
            holder_deaths: 1,
            deaths: 2,
            is_wrong: false,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend(GOING_ON.into_iter().chain(OTHERS));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut s = state.clone();
        self.act(&mut s, action)?;
        Some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no other use's name is removed", |_, s: &State| !s.is_wrong),
            Property::always("no name is without a record", |_, s: &State| {
                matches!(s.name, None | Some(OTHER)) || s.head
            }),
            Property::always("the name goes in the end", |setup: &Self, s: &State| {
                let goes_on = |action: &Action| setup.act(&mut s.clone(), *action).is_some();
                let is_left = |by: usize| !s.processes[by].is_alive;
                let is_stuck = matches!(s.mark, Mark::Taken(0, by) if is_left(by)) && s.name == Some(0);
                s.name.is_none() || is_stuck || GOING_ON.iter().any(goes_on)
            }),
            Property::sometimes("a killed revoker leaves the name", |_, s: &State| {
                matches!(s.mark, Mark::Taken(_, by) if !s.processes[by].is_alive) && s.name == Some(0)
            }),
            Property::sometimes("a thread holds beside the revoker", |_, s: &State| {
                matches!(s.mark, Mark::Taken(..)) && s.name == Some(OTHER)
            }),
            Property::sometimes("a new member holds", |_, s: &State| s.name == Some(1) && s.holder_deaths == 0),
            Property::sometimes("a new member backs out", |_, s: &State| {
                s.holder == Holder::LooksAtAnnouncements && s.is_announced()
            }),
        ]
    }
}

const SOMETIMES: usize = 4;

#[test]
fn revokers_search_complete_holds() {
    let checker = Setup(None).checker().spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    let found = checker.discoveries();
    assert!(found.len() == SOMETIMES && found.keys().all(|name| name.starts_with("a ")), "{:?}", found.keys());
}

#[test]
fn revokers_faults_each_noticed() {
    for fault in FAULTS {
        let checker = Setup(Some(fault)).checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let broken: Vec<_> = checker.discoveries().into_keys().filter(|name| !name.starts_with("a ")).collect();
        println!("{fault:?}: {} states, {broken:?}", checker.unique_state_count());
        assert!(!broken.is_empty(), "{fault:?} is not noticed");
    }
}
