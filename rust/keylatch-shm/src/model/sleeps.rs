//! How requests of one process sleep on a bell, and ringers wake them only if one says that it sleeps.
//!
//! Two ringers change locks. Either both change the same, and each request may go when both have; or each changes a lock of
//! its own, the two share a bell, and a request gives up at any moment. Each access to a lock or the bell is a step, the
//! kernel's comparison before a sleep too. A ringer, and what recovers it, may be killed before each step, and one ringer
//! stopped for ever. No sleeper looks again by itself.

use crate::sleeper::{announced, ended, has_sleeper, is_rung, rung};
use stateright::{Checker, Model, Property};

const SLEEPERS: usize = 2;
const RINGERS: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Sleeper {
    Looks,
    Announces,
    LooksAgain(u32),
    /// The kernel compares, and puts it to sleep.
    Compares(u32),
    Sleeps,
    /// It is awake, or has its lock, and takes itself out of the bell.
    Ends(bool),
    Goes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Ringer {
    ReadsFirst,
    Changes(bool),
    Reads,
    Adds,
    Wakes,
    Done,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Recoverer {
    /// Also again, when an earlier one was killed.
    Changes,
    Reads,
    Adds,
    Wakes,
    Done,
}

#[derive(Clone, PartialEq, Eq, Debug, Hash)]
struct State {
    bell: u32,
    /// A bit for each ringer whose change is done.
    changes: u8,
    sleepers: [Sleeper; SLEEPERS],
    ringers: [Ringer; RINGERS],
    recoverers: [Recoverer; RINGERS],
    kills: u8,
    stopped: Option<usize>,
    /// Who made the change after which a request may go.
    last: [usize; SLEEPERS],
    gave_up: [bool; SLEEPERS],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// A request sleeps without another look at the lock.
    SleepsWithoutLook,
    /// A ringer looks at the bell before it changes the lock.
    LooksBeforeChange,
    /// A ringer wakes, and leaves the bell as it is.
    WakesWithoutAddition,
    /// A ringer adds, and wakes none.
    AddsWithoutWake,
    /// A ringer takes the sleepers away.
    TakesSleepersAway,
    /// No recoverer wakes.
    RecovererWakesNone,
}

#[derive(Clone, Debug)]
struct Setup {
    /// Each ringer has a lock of its own.
    apart: bool,
    kills: u8,
    stops: bool,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Action {
    Sleep(usize),
    Ring(usize),
    Recover(usize),
    Kill(usize),
    KillRecoverer(usize),
    Stop(usize),
    GiveUp(usize),
}

impl State {
    fn change(&mut self, setup: &Setup, at: usize) {
        for sleeper in 0..SLEEPERS {
            let before = setup.may_go(self, sleeper);
            let changes = self.changes;
            self.changes |= 1 << at;
            if !before && setup.may_go(self, sleeper) {
                self.last[sleeper] = at;
            }
            self.changes = changes;
        }
        self.changes |= 1 << at;
    }

    fn wake(&mut self) {
        for sleeper in &mut self.sleepers {
            if *sleeper == Sleeper::Sleeps {
                *sleeper = Sleeper::Ends(false);
            }
        }
    }
}

impl Setup {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn may_go(&self, s: &State, sleeper: usize) -> bool {
        let all = (1 << RINGERS) - 1;
        let wants = if self.apart { 1 << sleeper } else { all };
        s.changes & wants == wants
    }

    fn sleep(&self, s: &mut State, at: usize) -> Option<()> {
        s.sleepers[at] = match s.sleepers[at] {
            Sleeper::Looks if self.may_go(s, at) => Sleeper::Goes,
            Sleeper::Looks => Sleeper::Announces,
            Sleeper::Announces => {
                s.bell = announced(s.bell);
                if self.has(Fault::SleepsWithoutLook) { Sleeper::Compares(s.bell) } else { Sleeper::LooksAgain(s.bell) }
            }
            Sleeper::LooksAgain(_) if self.may_go(s, at) => Sleeper::Ends(true),
            Sleeper::LooksAgain(seen) => Sleeper::Compares(seen),
            Sleeper::Compares(seen) if !is_rung(seen, s.bell) => Sleeper::Sleeps,
            Sleeper::Compares(_) => Sleeper::Ends(false),
            Sleeper::Ends(goes) => {
                if has_sleeper(s.bell) {
                    s.bell = ended(s.bell);
                }
                if goes || s.gave_up[at] { Sleeper::Goes } else { Sleeper::Looks }
            }
            Sleeper::Sleeps | Sleeper::Goes => return None,
        };
        Some(())
    }

    fn ring(&self, s: &mut State, at: usize) -> Option<()> {
        if s.stopped == Some(at) {
            return None;
        }
        let rings = |sees: bool| match sees {
            true if self.has(Fault::WakesWithoutAddition) => Ringer::Wakes,
            true => Ringer::Adds,
            false => Ringer::Done,
        };
        s.ringers[at] = match s.ringers[at] {
            Ringer::ReadsFirst => Ringer::Changes(has_sleeper(s.bell)),
            Ringer::Changes(saw) => {
                s.change(self, at);
                if self.has(Fault::LooksBeforeChange) { rings(saw) } else { Ringer::Reads }
            }
            Ringer::Reads => rings(has_sleeper(s.bell)),
            Ringer::Adds => {
                s.bell = rung(s.bell);
                if self.has(Fault::TakesSleepersAway) {
                    s.bell &= !0xFFFF;
                }
                if self.has(Fault::AddsWithoutWake) { Ringer::Done } else { Ringer::Wakes }
            }
            Ringer::Wakes => {
                s.wake();
                Ringer::Done
            }
            Ringer::Done | Ringer::Dead => return None,
        };
        Some(())
    }

    /// Recovers a ringer that was killed.
    ///
    /// Makes its change, if it is not made, and wakes whatever the bell says.
    fn recover(&self, s: &mut State, at: usize) -> Option<()> {
        if s.ringers[at] != Ringer::Dead {
            return None;
        }
        s.recoverers[at] = match s.recoverers[at] {
            Recoverer::Changes => {
                s.change(self, at);
                // It rings those that wait for the lock.
                let none_waits = self.apart && s.gave_up[at];
                if none_waits || self.has(Fault::RecovererWakesNone) { Recoverer::Done } else { Recoverer::Reads }
            }
            Recoverer::Reads if has_sleeper(s.bell) => Recoverer::Adds,
            Recoverer::Reads => Recoverer::Done,
            Recoverer::Adds => {
                s.bell = rung(s.bell);
                Recoverer::Wakes
            }
            Recoverer::Wakes => {
                s.wake();
                Recoverer::Done
            }
            Recoverer::Done => return None,
        };
        Some(())
    }
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let first = if self.has(Fault::LooksBeforeChange) { Ringer::ReadsFirst } else { Ringer::Changes(false) };
        vec![State {
            bell: 0,
            changes: 0,
            sleepers: [Sleeper::Looks; SLEEPERS],
            ringers: [first; RINGERS],
            recoverers: [Recoverer::Changes; RINGERS],
            kills: self.kills,
            stopped: None,
            last: [usize::MAX; SLEEPERS],
            gave_up: [false; SLEEPERS],
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend((0..SLEEPERS).map(Action::Sleep));
        if self.apart {
            actions.extend((0..SLEEPERS).map(Action::GiveUp));
        }
        if self.stops {
            actions.extend((0..RINGERS).map(Action::Stop));
        }
        for at in 0..RINGERS {
            actions.extend([Action::Ring(at), Action::Recover(at), Action::Kill(at), Action::KillRecoverer(at)]);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut s = state.clone();
        match action {
            Action::Sleep(at) => self.sleep(&mut s, at)?,
            Action::Ring(at) => self.ring(&mut s, at)?,
            Action::Recover(at) => self.recover(&mut s, at)?,
            Action::Stop(at) => {
                let runs = s.stopped.is_none() && !matches!(s.ringers[at], Ringer::Done | Ringer::Dead);
                s.stopped = runs.then_some(Some(at))?;
            }
            Action::GiveUp(at) => {
                let sleeps = s.sleepers[at] == Sleeper::Sleeps && !s.gave_up[at];
                sleeps.then_some(())?;
                s.gave_up[at] = true;
                s.sleepers[at] = Sleeper::Ends(true);
            }
            Action::Kill(at) => {
                let runs = !matches!(s.ringers[at], Ringer::Done | Ringer::Dead);
                s.kills = s.kills.checked_sub(u8::from(runs)).filter(|_| runs)?;
                s.ringers[at] = Ringer::Dead;
            }
            Action::KillRecoverer(at) => {
                let runs = !matches!(s.recoverers[at], Recoverer::Changes | Recoverer::Done);
                s.kills = s.kills.checked_sub(u8::from(runs)).filter(|_| runs)?;
                // Another one begins anew.
                s.recoverers[at] = Recoverer::Changes;
            }
        }
        Some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no request sleeps for ever", |setup: &Self, s: &State| {
                let goes_on = (0..RINGERS)
                    .any(|at| setup.ring(&mut s.clone(), at).is_some() || setup.recover(&mut s.clone(), at).is_some());
                let may_sleep = |at: usize| {
                    let waits_for_stopped = s.stopped.is_some_and(|stopped| s.last[at] == stopped);
                    s.sleepers[at] != Sleeper::Sleeps || !setup.may_go(s, at) || waits_for_stopped
                };
                goes_on || (0..SLEEPERS).all(may_sleep)
            }),
            Property::sometimes("a wake-up is spared", |_, s: &State| {
                s.sleepers.iter().all(|sleeper| *sleeper == Sleeper::Goes) && s.bell == 0
            }),
        ]
    }
}

fn search(apart: bool, (kills, stops): (u8, bool), fault: Option<Fault>) -> bool {
    let checker = Setup { apart, kills, stops, fault }.checker().spawn_bfs().join();
    println!("{fault:?}, apart {apart}, {kills} kills, stops {stops}: {} states", checker.unique_state_count());
    checker.discovery("no request sleeps for ever").is_none() && checker.discovery("a wake-up is spared").is_some()
}

#[test]
fn sleeps_search_complete_holds() {
    for apart in [false, true] {
        assert!([(0, false), (2, false), (0, true), (2, true)].into_iter().all(|ends| search(apart, ends, None)));
    }
}

#[test]
fn sleeps_faults_each_noticed() {
    for (fault, apart, stops) in [
        (Fault::SleepsWithoutLook, false, false),
        (Fault::LooksBeforeChange, false, false),
        (Fault::WakesWithoutAddition, false, false),
        (Fault::AddsWithoutWake, false, false),
        (Fault::TakesSleepersAway, false, true),
        (Fault::TakesSleepersAway, true, false),
        (Fault::RecovererWakesNone, false, false),
    ] {
        assert!(!search(apart, (2, stops), Some(fault)), "{fault:?} is not noticed");
    }
}
