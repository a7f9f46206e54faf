//! Validity: at no time do two clients believe that the work is theirs, however late messages are.
//!
//! A client counts a promise from the moment it sent the renewal. The board frees nothing before the promise is over on its
//! own clock, counted from the arrival. Both clocks tick together here; drift is not modelled.

use keylatch::KeyRef;
use keylatch::claim::*;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::BTreeSet;
use std::time::Duration;

const TTL: u64 = 3;
const LAST_TICK: u64 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fault {
    ValidityFromReceipt,
    FullTtlWhileAttached,
    LateAttachCutAtOnce,
    NoQuietPeriod,
}

const FAULTS: [Fault; 4] =
    [Fault::ValidityFromReceipt, Fault::FullTtlWhileAttached, Fault::LateAttachCutAtOnce, Fault::NoQuietPeriod];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Message {
    Renew { client: usize, sent: u64 },
    Renewed { client: usize, sent: u64, valid_for: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    Tick,
    Claim(usize),
    Renew(usize),
    Deliver(Message),
    Attach(usize),
    Cut(usize),
    Restart,
    Reopen(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Client {
    session: ClaimSessionId,
    valid_until: u64,
    /// It was answered `yours` in its session.
    owns: bool,
    has_claimed: bool,
    renewals: u8,
    attaches: u8,
    stream: Option<ClaimStream>,
    /// A fault ends its session then.
    ends_at: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    board: ClaimBoard,
    now: u64,
    clients: Vec<Client>,
    network: BTreeSet<Message>,
    cuts: u8,
    restarts: u8,
}

/// What the second client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rival {
    /// It claims, and is believed alive all the time.
    Silent,
    /// The same as the first.
    Alike,
}

struct Time {
    rival: Rival,
    grace: u64,
    presence: ClaimPresence,
    cuts: u8,
    restarts: u8,
    fault: Option<Fault>,
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn resource() -> KeyRef<'static> {
    KeyRef::new("layers", "x")
}

impl Time {
    fn begin(&self, epoch: u64, quiet_until: u64) -> ClaimBoard {
        let config = ClaimConfig { ring: 1, grace: ticks(self.grace), ..ClaimConfig::default() };
        let start = ClaimStart { epoch, fences: epoch * 100..u64::MAX, quiet_until: ticks(quiet_until) };
        ClaimBoard::new(config, start).unwrap()
    }

    /// Returns the longest promise that is made.
    fn longest(&self) -> u64 {
        if self.rival == Rival::Silent { LAST_TICK } else { TTL }
    }

    fn open(&self, me: usize, board: &mut ClaimBoard, now: u64) -> Client {
        let is_silent = me == 1 && self.rival == Rival::Silent;
        let (ttl, presence) = if is_silent { (self.longest(), ClaimPresence::Renewals) } else { (TTL, self.presence) };
        let options = ClaimSessionOptions { ttl: Some(ticks(ttl)), presence, ..Default::default() };
        let opened = board.open_session(ticks(now), &options).unwrap();
        Client {
            session: opened.session,
            valid_until: now + opened.valid_for.unwrap().as_secs(),
            owns: false,
            has_claimed: false,
            renewals: u8::from(!is_silent),
            attaches: u8::from(!is_silent),
            stream: None,
            ends_at: None,
        }
    }
}

impl State {
    fn time(&self) -> Duration {
        ticks(self.now)
    }

    /// Every client learns its answer immediately: nothing makes two believe sooner.
    fn learn(&mut self) {
        let owner = self.board.snapshot(resource()).owner.map(|owner| owner.request.session);
        for client in &mut self.clients {
            client.owns |= owner == Some(client.session);
        }
        let _ = self.board.take_effects();
    }

    fn believers(&self) -> usize {
        self.clients.iter().filter(|client| client.owns && self.now < client.valid_until).count()
    }
}

impl Model for Time {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut board = self.begin(1, 0);
        let clients = vec![self.open(0, &mut board, 0), self.open(1, &mut board, 0)];
        vec![State { board, now: 0, clients, network: BTreeSet::new(), cuts: self.cuts, restarts: self.restarts }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < LAST_TICK {
            actions.push(Action::Tick);
        }
        actions.extend(state.network.iter().copied().map(Action::Deliver));
        if state.restarts > 0 {
            actions.push(Action::Restart);
        }
        for (me, client) in state.clients.iter().enumerate() {
            if client.session.epoch != state.board.epoch() {
                actions.push(Action::Reopen(me));
                continue;
            }
            if !client.has_claimed {
                actions.push(Action::Claim(me));
            }
            if client.renewals > 0 {
                actions.push(Action::Renew(me));
            }
            if client.attaches > 0 {
                actions.push(Action::Attach(me));
            }
            if state.cuts > 0 && client.stream.is_some() {
                actions.push(Action::Cut(me));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let now = state.time();
        match action {
            Action::Tick => {
                state.now += 1;
                let now = state.time();
                state.board.advance(now);
                for client in &state.clients {
                    if client.ends_at.is_some_and(|at| at <= state.now) {
                        let _ = state.board.end_session(now, client.session);
                    }
                }
            }
            Action::Claim(me) => {
                let request = ClaimRequestId { session: state.clients[me].session, number: 1 };
                let call = ClaimCall { request, settled_below: 0 };
                state.clients[me].has_claimed = true;
                let _ = state.board.claim(now, call, resource(), &ClaimPolicy::default());
            }
            Action::Renew(me) => {
                state.clients[me].renewals -= 1;
                state.network.insert(Message::Renew { client: me, sent: state.now });
            }
            Action::Deliver(message) => {
                state.network.remove(&message);
                match message {
                    Message::Renew { client, sent } => {
                        let session = state.clients[client].session;
                        if let Ok(renewed) = state.board.renew(now, session, 2, &[1]) {
                            let mut valid_for = renewed.valid_for?.as_secs();
                            if self.fault == Some(Fault::FullTtlWhileAttached) {
                                valid_for = TTL;
                            }
                            state.network.insert(Message::Renewed { client, sent, valid_for });
                        }
                    }
                    Message::Renewed { client, sent, valid_for } => {
                        let from = if self.fault == Some(Fault::ValidityFromReceipt) { state.now } else { sent };
                        let client = &mut state.clients[client];
                        // A guard that is lost stays lost.
                        if state.now < client.valid_until || !client.owns {
                            client.valid_until = client.valid_until.max(from + valid_for);
                        }
                    }
                }
            }
            Action::Attach(me) => {
                state.clients[me].attaches -= 1;
                state.clients[me].stream = state.board.attach(now, state.clients[me].session).ok();
            }
            Action::Cut(me) => {
                state.cuts -= 1;
                let stream = state.clients[me].stream.take()?;
                state.board.detach(now, stream);
                if self.fault == Some(Fault::LateAttachCutAtOnce) {
                    state.clients[me].ends_at = Some(state.now + self.grace);
                }
            }
            Action::Restart => {
                state.restarts -= 1;
                let quiet = if self.fault == Some(Fault::NoQuietPeriod) { 0 } else { state.now + self.longest() };
                state.board = self.begin(state.board.epoch() + 1, quiet);
                state.board.advance(now);
            }
            Action::Reopen(me) => {
                let old = state.clients[me].clone();
                let opened = self.open(me, &mut state.board, state.now);
                // It believes in what it owned for as long as it was promised, and asks anew in the new epoch if it owned
                // nothing.
                if old.owns && state.now < old.valid_until {
                    return None;
                }
                state.network.retain(|message| match message {
                    Message::Renew { client, .. } | Message::Renewed { client, .. } => *client != me,
                });
                state.clients[me] = opened;
            }
        }
        state.learn();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("one believer", |_, state: &State| state.believers() <= 1)]
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.now <= LAST_TICK
    }
}

fn setups(rival: Rival, fault: Option<Fault>) -> Vec<Time> {
    let setup = |grace, presence, cuts, restarts| Time { rival, grace, presence, cuts, restarts, fault };
    vec![
        setup(1, ClaimPresence::Stream, 1, 0),
        setup(2, ClaimPresence::Stream, 1, 0),
        setup(1, ClaimPresence::Renewals, 1, 0),
        setup(2, ClaimPresence::Renewals, 0, 1),
    ]
}

fn check(rival: Rival) {
    for setup in setups(rival, None) {
        let name = format!("time, {rival:?}, grace {}, {:?}", setup.grace, setup.presence);
        let checker = setup.checker().threads(2).spawn_bfs().join();
        if let Some((_, path)) = checker.discoveries().into_iter().next() {
            panic!("{name}: two believe after {:#?}", path.into_actions());
        }
        println!("{name}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
        assert!(checker.unique_state_count() > 300);
    }
}

#[test]
fn client_and_its_rival_never_believe_together() {
    check(Rival::Silent);
}

#[test]
#[ignore = "takes minutes: make claims-model"]
fn two_clients_never_believe_together() {
    check(Rival::Alike);
}

#[test]
fn every_fault_of_time_makes_two_believe() {
    let mut missed = Vec::new();
    for fault in FAULTS {
        let states = |setup: Time| {
            let checker = setup.checker().threads(2).finish_when(HasDiscoveries::Any).spawn_bfs().join();
            (!checker.discoveries().is_empty()).then(|| checker.unique_state_count())
        };
        let noticed = setups(Rival::Silent, Some(fault)).into_iter().find_map(states);
        println!("{fault:?}: after {noticed:?} states");
        missed.extend(noticed.is_none().then_some(fault));
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
