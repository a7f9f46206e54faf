//! How requests of one process sleep on a bell, and ringers wake them only if one says that it sleeps.
//!
//! Two ringers change the lock, one after the other; a request may go when both have. Each access to the lock or the bell is
//! a step, the kernel's comparison before a sleep too. A ringer, and what recovers it, may be killed before each step. No
//! sleeper looks again by itself.

use crate::sleeper::{announced, has_sleeper, rung};
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
    /// A recoverer wakes only if a request says that it sleeps.
    RecovererTrustsTheBell,
    /// No recoverer wakes.
    RecovererWakesNone,
}

#[derive(Clone, Debug)]
struct Setup {
    kills: u8,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Action {
    Sleep(usize),
    Ring(usize),
    Recover(usize),
    Kill(usize),
    KillRecoverer(usize),
}

impl State {
    fn may_go(&self) -> bool {
        self.changes == (1 << RINGERS) - 1
    }

    fn wake(&mut self) {
        for sleeper in &mut self.sleepers {
            if *sleeper == Sleeper::Sleeps {
                *sleeper = Sleeper::Looks;
            }
        }
    }
}

impl Setup {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn sleep(&self, s: &mut State, at: usize) -> Option<()> {
        s.sleepers[at] = match s.sleepers[at] {
            Sleeper::Looks if s.may_go() => Sleeper::Goes,
            Sleeper::Looks => Sleeper::Announces,
            Sleeper::Announces => {
                s.bell = announced(s.bell);
                if self.has(Fault::SleepsWithoutLook) { Sleeper::Compares(s.bell) } else { Sleeper::LooksAgain(s.bell) }
            }
            Sleeper::LooksAgain(_) if s.may_go() => Sleeper::Goes,
            Sleeper::LooksAgain(seen) => Sleeper::Compares(seen),
            Sleeper::Compares(seen) if seen == s.bell => Sleeper::Sleeps,
            Sleeper::Compares(_) => Sleeper::Looks,
            Sleeper::Sleeps | Sleeper::Goes => return None,
        };
        Some(())
    }

    fn ring(&self, s: &mut State, at: usize) -> Option<()> {
        let rings = |sees: bool| match sees {
            true if self.has(Fault::WakesWithoutAddition) => Ringer::Wakes,
            true => Ringer::Adds,
            false => Ringer::Done,
        };
        s.ringers[at] = match s.ringers[at] {
            Ringer::ReadsFirst => Ringer::Changes(has_sleeper(s.bell)),
            Ringer::Changes(saw) => {
                s.changes |= 1 << at;
                if self.has(Fault::LooksBeforeChange) { rings(saw) } else { Ringer::Reads }
            }
            Ringer::Reads => rings(has_sleeper(s.bell)),
            Ringer::Adds => {
                s.bell = rung(s.bell);
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
                s.changes |= 1 << at;
                if self.has(Fault::RecovererWakesNone) { Recoverer::Done } else { Recoverer::Reads }
            }
            Recoverer::Reads if has_sleeper(s.bell) => Recoverer::Adds,
            Recoverer::Reads if self.has(Fault::RecovererTrustsTheBell) => Recoverer::Done,
            Recoverer::Reads => Recoverer::Wakes,
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
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend((0..SLEEPERS).map(Action::Sleep));
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
                goes_on || s.sleepers.iter().all(|sleeper| *sleeper != Sleeper::Sleeps)
            }),
            Property::sometimes("a wake-up is spared", |_, s: &State| {
                s.sleepers.iter().all(|sleeper| *sleeper == Sleeper::Goes) && s.bell == 0
            }),
        ]
    }
}

fn search(kills: u8, fault: Option<Fault>) -> bool {
    let checker = Setup { kills, fault }.checker().spawn_bfs().join();
    println!("{fault:?}, {kills} kills: {} states", checker.unique_state_count());
    checker.discovery("no request sleeps for ever").is_none() && checker.discovery("a wake-up is spared").is_some()
}

#[test]
fn sleeps_search_complete_holds() {
    assert!((0..=3).all(|kills| search(kills, None)));
}

#[test]
fn sleeps_faults_each_noticed() {
    for fault in [
        Fault::SleepsWithoutLook,
        Fault::LooksBeforeChange,
        Fault::WakesWithoutAddition,
        Fault::AddsWithoutWake,
        Fault::RecovererTrustsTheBell,
        Fault::RecovererWakesNone,
    ] {
        assert!(!search(2, Some(fault)), "{fault:?} is not noticed");
    }
}
