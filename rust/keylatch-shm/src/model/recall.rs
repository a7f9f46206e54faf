//! How a request has what another process keeps without using it given back: the keeper's thread sleeps until it is rung.
//!
//! The keeper asks for the lock, and keeps it. Its thread reads its bell, looks whether the lock is wanted, and sleeps on
//! the value that it read. The other process sets its bit, registers with a swap of the word, rings the holder that the
//! word named, and sleeps until it has the turn. A third process has the lock at first, so that the keeper, too, may wait,
//! and enter while the other is asleep. Each access to a word is a step. No sleeper looks again by itself.

use stateright::{Checker, Model, Property};

/// What the keeper's thread that asks does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Asker {
    Idle,
    LooksAfterGrant,
}

/// What the keeper's other thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Listener {
    ReadsBell,
    Looks(u8),
    ReadsBellLate,
    GivesBack(u8),
    Sleeps(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Request {
    SetsBit,
    RingsFirst,
    Registers,
    Rings,
    Sleeps,
    ClearsBit,
    Inside,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Holder {
    Keeper,
    Other,
    Third,
}

#[derive(Clone, PartialEq, Eq, Debug, Hash)]
struct State {
    holder: Option<Holder>,
    has_queue: bool,
    turn: Option<Holder>,
    /// Of the other process.
    has_bit: bool,
    keeper_has_bit: bool,
    bell: u8,
    asker: Asker,
    grants: u8,
    listener: Listener,
    request: Request,
    requests: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The request does not ring.
    RingsNoKeeper,
    /// It rings the holder that it sees before it registers.
    RingsFirst,
    /// The keeper does not look when it has got the lock.
    TrustsTheBell,
    /// Its thread reads the bell after it has looked.
    ReadsBellLate,
}

#[derive(Clone, Debug)]
struct Setup {
    grants: u8,
    requests: u8,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Action {
    Ask,
    Listen,
    Request,
    Leave,
}

impl State {
    fn is_wanted(&self) -> bool {
        self.turn == Some(Holder::Other) || self.has_queue && self.has_bit
    }

    /// One swap: the name goes, and the turn comes if one waits.
    fn release(&mut self) {
        let mut waiting = [(Holder::Keeper, self.keeper_has_bit), (Holder::Other, self.has_bit)];
        // The next after the one that leaves.
        if self.holder == Some(Holder::Keeper) {
            waiting.reverse();
        }
        self.holder = None;
        self.turn = waiting.into_iter().find(|(_, waits)| *waits && self.has_queue).map(|(who, _)| who);
        self.has_queue = self.turn.is_some();
    }

    fn is_open_to(&self, who: Holder) -> bool {
        self.holder.is_none() && self.turn.is_none_or(|turn| turn == who)
    }

    fn enter(&mut self, who: Holder) {
        self.holder = Some(who);
        self.turn = None;
    }
}

impl Setup {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn ask(&self, s: &mut State) -> Option<()> {
        match s.asker {
            Asker::Idle => {
                if s.grants == 0 || s.holder == Some(Holder::Keeper) {
                    return None;
                }
                if !s.is_open_to(Holder::Keeper) {
                    if s.keeper_has_bit && s.has_queue {
                        return None;
                    }
                    s.keeper_has_bit = true;
                    s.has_queue = true;
                    return Some(());
                }
                s.grants -= 1;
                s.keeper_has_bit = false;
                s.enter(Holder::Keeper);
                s.asker = if self.has(Fault::TrustsTheBell) { Asker::Idle } else { Asker::LooksAfterGrant };
            }
            Asker::LooksAfterGrant => {
                s.bell = (s.bell + u8::from(s.is_wanted())) % 8;
                s.asker = Asker::Idle;
            }
        }
        Some(())
    }

    fn listen(&self, s: &mut State) -> Option<()> {
        let is_due = s.holder == Some(Holder::Keeper) && s.is_wanted();
        s.listener = match s.listener {
            Listener::ReadsBell if self.has(Fault::ReadsBellLate) => Listener::Looks(0),
            Listener::ReadsBell => Listener::Looks(s.bell),
            Listener::Looks(seen) if is_due => Listener::GivesBack(seen),
            Listener::Looks(_) if self.has(Fault::ReadsBellLate) => Listener::ReadsBellLate,
            Listener::Looks(seen) => Listener::Sleeps(seen),
            Listener::ReadsBellLate => Listener::Sleeps(s.bell),
            Listener::GivesBack(seen) => {
                s.release();
                Listener::Sleeps(seen)
            }
            Listener::Sleeps(seen) if seen == s.bell => return None,
            Listener::Sleeps(_) => Listener::ReadsBell,
        };
        Some(())
    }

    fn request(&self, s: &mut State) -> Option<()> {
        let rings = |s: &mut State| s.bell = (s.bell + u8::from(!self.has(Fault::RingsNoKeeper))) % 8;
        s.request = match s.request {
            Request::SetsBit => {
                s.has_bit = true;
                if self.has(Fault::RingsFirst) { Request::RingsFirst } else { Request::Registers }
            }
            Request::RingsFirst => {
                if s.holder == Some(Holder::Keeper) {
                    rings(s);
                }
                Request::Registers
            }
            Request::Registers if s.is_open_to(Holder::Other) => {
                s.enter(Holder::Other);
                Request::ClearsBit
            }
            Request::Registers => {
                s.has_queue = true;
                // The swap named the holder.
                if s.holder != Some(Holder::Keeper) || self.has(Fault::RingsFirst) {
                    Request::Sleeps
                } else {
                    Request::Rings
                }
            }
            Request::Rings => {
                rings(s);
                Request::Sleeps
            }
            Request::Sleeps if s.turn == Some(Holder::Other) => Request::Registers,
            Request::Sleeps | Request::Done => return None,
            Request::ClearsBit => {
                s.has_bit = false;
                Request::Inside
            }
            Request::Inside => {
                s.release();
                s.requests -= 1;
                if s.requests == 0 { Request::Done } else { Request::SetsBit }
            }
        };
        Some(())
    }
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            holder: Some(Holder::Third),
            has_queue: false,
            turn: None,
            has_bit: false,
            keeper_has_bit: false,
            bell: 0,
            asker: Asker::Idle,
            grants: self.grants,
            listener: Listener::ReadsBell,
            request: Request::SetsBit,
            requests: self.requests,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Ask, Action::Listen, Action::Request, Action::Leave]);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut s = state.clone();
        match action {
            Action::Ask => self.ask(&mut s)?,
            Action::Listen => self.listen(&mut s)?,
            Action::Request => self.request(&mut s)?,
            Action::Leave => (s.holder == Some(Holder::Third)).then(|| s.release())?,
        }
        Some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no request sleeps for ever", |setup: &Self, s: &State| {
                let can_go = |step: fn(&Self, &mut State) -> Option<()>| step(setup, &mut s.clone()).is_some();
                s.request == Request::Done
                    || s.holder == Some(Holder::Third)
                    || can_go(Self::ask)
                    || can_go(Self::listen)
                    || can_go(Self::request)
            }),
            Property::sometimes("it is given back", |_, s: &State| matches!(s.listener, Listener::GivesBack(_))),
        ]
    }
}

fn search(grants: u8, fault: Option<Fault>) -> bool {
    let checker = Setup { grants, requests: 2, fault }.checker().spawn_bfs().join();
    println!("{fault:?}, {grants} grants: {} states", checker.unique_state_count());
    checker.discovery("no request sleeps for ever").is_none() && checker.discovery("it is given back").is_some()
}

#[test]
fn recall_search_complete_holds() {
    assert!((1..=3).all(|grants| search(grants, None)));
}

#[test]
fn recall_faults_each_noticed() {
    for fault in [Fault::RingsNoKeeper, Fault::RingsFirst, Fault::TrustsTheBell, Fault::ReadsBellLate] {
        assert!(!search(3, Some(fault)), "{fault:?} is not noticed");
    }
}
