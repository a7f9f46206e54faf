//! Clients, a network that loses, delays, doubles and reorders, and a server: every order of what can happen.

use crate::client::{Client, Phase};
use crate::fault::Fault;
use crate::ghost::{Ghost, Step};
use crate::wire::{Ask, Event, Key, Output, Server, Work};
use stateright::{Model, Property};
use std::collections::BTreeSet;
use std::marker::PhantomData;

/// How a client gives a request up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum GivingUp {
    /// It repeats the cancellation until it is answered.
    #[default]
    Repeated,
    /// It sends the cancellation once, and renews its session from time to time.
    OnceAndRenewals,
    /// It sends the cancellation once, and its next request raises `settled_below`.
    OnceAndSettles,
}

/// Which events clients subscribe to and act upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Events {
    #[default]
    None,
    /// A client that waits asks again when it hears of a failure.
    Failures,
    /// A client also learns of its grant.
    All,
}

/// How often each thing may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Budget {
    pub(crate) losses: u8,
    pub(crate) doublings: u8,
    pub(crate) cancels: u8,
    pub(crate) crashes: u8,
    pub(crate) cuts: u8,
    pub(crate) poll_ends: u8,
    pub(crate) lease_ends: u8,
    pub(crate) retention_ends: u8,
    pub(crate) restarts: u8,
    pub(crate) renewals: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Message {
    Ask(Ask),
    Output(Key, Output),
    Event(usize, Event),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Begin(usize),
    Work(usize, Work),
    GiveUp(usize),
    Repeat(usize),
    Renew(usize),
    Heal(usize),
    Deliver(Message),
    Double(Message),
    Lose(Message),
    GoOn,
    EndPoll(Key),
    Cut(usize),
    Attach(usize),
    Expire(usize),
    Crash(usize),
    ForgetOutcome,
    Restart,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State<S> {
    server: S,
    owes_more: bool,
    clients: Vec<Client>,
    cut: Vec<bool>,
    network: BTreeSet<Message>,
    budget: Budget,
    ghost: Ghost,
}

/// One set-up: requests of each client, what may go wrong, the built-in fault.
#[derive(Debug, Clone)]
pub(crate) struct Protocol<S> {
    pub(crate) requests: Vec<u8>,
    pub(crate) budget: Budget,
    pub(crate) giving_up: GivingUp,
    pub(crate) events: Events,
    pub(crate) fault: Option<Fault>,
    pub(crate) server: PhantomData<S>,
}

impl<S: Server> Protocol<S> {
    pub(crate) fn new(requests: &[u8], budget: Budget) -> Self {
        let (giving_up, events) = (GivingUp::Repeated, Events::None);
        Self { requests: requests.to_vec(), budget, giving_up, events, fault: None, server: PhantomData }
    }

    pub(crate) fn giving_up(self, giving_up: GivingUp) -> Self {
        Self { giving_up, ..self }
    }

    pub(crate) fn with_events(self, events: Events) -> Self {
        Self { events, ..self }
    }

    pub(crate) fn with_fault(self, fault: Fault) -> Self {
        Self { fault: Some(fault), ..self }
    }

    /// The steps that lead on.
    ///
    /// They are deliveries, repetitions, the clients' own steps, and ends that time brings for certain.
    fn next_steps(&self, state: &State<S>, actions: &mut Vec<Action>) {
        actions.extend(state.network.iter().cloned().map(Action::Deliver));
        if state.owes_more {
            actions.push(Action::GoOn);
        }
        for client in &state.clients {
            let me = client.me;
            if !client.alive {
                if state.server.is_live(me) {
                    actions.push(Action::Expire(me));
                }
                continue;
            }
            if state.cut[me] && state.server.is_live(me) {
                actions.push(Action::Attach(me));
            }
            match client.phase {
                Phase::Idle if client.left > 0 => actions.push(Action::Begin(me)),
                Phase::Owner(_) => actions.extend([Action::Work(me, Work::Done), Action::Work(me, Work::Failed)]),
                _ => {}
            }
            if state.is_silent(me) {
                if client.clone().repeated(None).is_some() {
                    actions.push(Action::Repeat(me));
                } else if self.giving_up == GivingUp::OnceAndRenewals
                    && self.fault != Some(Fault::CancelSentOnce)
                    && state.server.view().held().any(|key| key.client == me && key != client.key())
                {
                    actions.push(Action::Heal(me));
                }
            }
        }
    }

    /// What may go wrong.
    fn mishaps(&self, state: &State<S>, actions: &mut Vec<Action>) {
        let Budget { losses, doublings, cancels, crashes, cuts, poll_ends, lease_ends, .. } = state.budget;
        let Budget { retention_ends, restarts, renewals, .. } = state.budget;
        let on_their_way = || state.network.iter().filter(|message| !matches!(message, Message::Event(..))).cloned();
        if losses > 0 {
            actions.extend(on_their_way().map(Action::Lose));
        }
        if doublings > 0 {
            actions.extend(on_their_way().map(Action::Double));
        }
        for client in state.clients.iter().filter(|client| client.alive && !client.is_finished()) {
            let me = client.me;
            let may_give_up = self.giving_up != GivingUp::OnceAndSettles || client.left > 0;
            if cancels > 0 && may_give_up && matches!(client.phase, Phase::Claiming | Phase::Owner(_)) {
                actions.push(Action::GiveUp(me));
            }
            if crashes > 0 && client.phase != Phase::Idle {
                actions.push(Action::Crash(me));
            }
            if cuts > 0 && !state.cut[me] && state.server.is_live(me) && client.phase != Phase::Idle {
                actions.push(Action::Cut(me));
            }
            if poll_ends > 0 && state.server.is_parked(client.key()) {
                actions.push(Action::EndPoll(client.key()));
            }
            if lease_ends > 0 && state.server.is_live(me) && client.phase != Phase::Idle {
                actions.push(Action::Expire(me));
            }
            if renewals > 0 && !matches!(client.phase, Phase::Idle) {
                actions.push(Action::Renew(me));
            }
        }
        if retention_ends > 0 {
            actions.push(Action::ForgetOutcome);
        }
        if restarts > 0 {
            actions.push(Action::Restart);
        }
    }
}

impl<S: Server> State<S> {
    /// Returns whether nothing of the client is on its way or parked.
    fn is_silent(&self, me: usize) -> bool {
        let client = &self.clients[me];
        let concerns = |message: &Message| match message {
            Message::Ask(ask) => ask.key.client == me,
            Message::Output(key, _) => key.client == me,
            Message::Event(..) => false,
        };
        !self.server.is_parked(client.key()) && !self.network.iter().any(concerns)
    }

    fn send(&mut self, ask: Option<Ask>) {
        self.network.extend(ask.map(Message::Ask));
    }

    /// Lets the server take a step and the invariants judge it.
    fn step(&mut self, ask: Option<&Ask>, events: Events, step: impl FnOnce(&mut S) -> Vec<Output>) {
        let before = self.server.view();
        let outputs = step(&mut self.server);
        self.owes_more = self.server.clone().go_on().is_some();
        let after = self.server.view();
        self.ghost.judge(&Step { ask, before, after, outputs: &outputs, cut: &self.cut });
        for output in outputs {
            match output {
                Output::Reply(key, _) => drop(self.network.insert(Message::Output(key, output))),
                Output::Event(event) if events != Events::None => {
                    let subscribers = self.clients.iter().filter(|it| it.alive && it.phase == Phase::Claiming);
                    let concerned = subscribers.filter(|it| match event {
                        Event::Granted(key, _) => events == Events::All && key.client == it.me,
                        Event::Failed => true,
                    });
                    self.network.extend(concerned.map(|it| Message::Event(it.me, event)).collect::<Vec<_>>());
                }
                Output::Event(_) => {}
            }
        }
    }

    fn deliver(&mut self, message: &Message, model: &Protocol<S>) {
        match message {
            Message::Ask(ask) => {
                let client = ask.key.client;
                if ask.key.epoch == self.server.epoch() && self.server.is_live(client) {
                    self.ghost.arrived(ask);
                }
                self.step(Some(ask), model.events, |server| server.handle(ask));
            }
            Message::Output(key, Output::Reply(_, answer)) => {
                let client = &mut self.clients[key.client];
                if client.alive {
                    let reply = client.hear(*key, *answer, model.fault);
                    self.send(reply);
                }
            }
            Message::Output(..) => {}
            Message::Event(me, event) => {
                let client = &mut self.clients[*me];
                if client.alive {
                    let reply = client.notice(*event);
                    self.send(reply);
                }
            }
        }
    }
}

impl<S: Server> Model for Protocol<S> {
    type State = State<S>;
    type Action = Action;

    fn init_states(&self) -> Vec<State<S>> {
        let clients = self.requests.len();
        vec![State {
            server: S::start(clients, self.fault),
            owes_more: false,
            clients: self.requests.iter().enumerate().map(|(me, requests)| Client::new(me, *requests)).collect(),
            cut: vec![false; clients],
            network: BTreeSet::new(),
            budget: self.budget,
            ghost: Ghost::default(),
        }]
    }

    fn actions(&self, state: &State<S>, actions: &mut Vec<Action>) {
        self.next_steps(state, actions);
        self.mishaps(state, actions);
    }

    fn next_state(&self, last: &State<S>, action: Action) -> Option<State<S>> {
        let mut state = last.clone();
        match action {
            Action::Begin(me) => {
                let ask = state.clients[me].begin();
                state.send(Some(ask));
            }
            Action::Work(me, work) => {
                let Phase::Owner(grant) = state.clients[me].phase else { return None };
                let ask = state.clients[me].complete(grant, work);
                state.send(Some(ask));
            }
            Action::GiveUp(me) => {
                state.budget.cancels -= 1;
                let phase = match (self.giving_up, self.fault) {
                    (GivingUp::Repeated, _) => Phase::Cancelling,
                    (GivingUp::OnceAndSettles, _) | (_, Some(Fault::CancelSentOnce)) => Phase::Idle,
                    (GivingUp::OnceAndRenewals, _) => Phase::Abandoned,
                };
                let ask = state.clients[me].cancel(phase);
                state.send(Some(ask));
            }
            Action::Repeat(me) => {
                let ask = state.clients[me].repeated(self.fault);
                state.send(ask);
            }
            Action::Renew(me) => {
                state.budget.renewals -= 1;
                let ask = state.clients[me].renewal();
                state.send(Some(ask));
            }
            Action::Heal(me) => {
                let ask = state.clients[me].renewal();
                state.send(Some(ask));
            }
            Action::Deliver(message) => {
                state.network.remove(&message);
                state.deliver(&message, self);
            }
            Action::Double(message) => {
                state.budget.doublings -= 1;
                state.network.remove(&message);
                state.deliver(&message, self);
                state.network.insert(message);
            }
            Action::Lose(message) => {
                state.budget.losses -= 1;
                state.network.remove(&message);
            }
            Action::GoOn => state.step(None, self.events, |server| server.go_on().unwrap_or_default()),
            Action::EndPoll(key) => {
                state.budget.poll_ends -= 1;
                state.step(None, self.events, |server| server.end_poll(key));
            }
            Action::Cut(me) => {
                state.budget.cuts -= 1;
                state.cut[me] = true;
                state.step(None, self.events, |server| server.cut(me));
            }
            Action::Attach(me) => {
                state.cut[me] = false;
                state.step(None, self.events, |server| server.attach(me));
            }
            Action::Expire(me) => {
                if state.clients[me].alive {
                    state.budget.lease_ends -= 1;
                }
                state.ghost.session_ended(me);
                state.step(None, self.events, |server| server.expire(me));
            }
            Action::Crash(me) => {
                state.budget.crashes -= 1;
                state.clients[me].alive = false;
                state.network.retain(|message| !matches!(message, Message::Event(client, _) if *client == me));
            }
            Action::ForgetOutcome => {
                state.budget.retention_ends -= 1;
                state.ghost.outcome_forgotten();
                state.step(None, self.events, S::forget_outcome);
            }
            Action::Restart => {
                state.budget.restarts -= 1;
                state.server.restart();
                state.owes_more = false;
                state.cut.fill(false);
                if self.fault != Some(Fault::OwnerPersistedMemoryNot) {
                    state.ghost.restarted();
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("1", |_, state: &State<S>| !state.ghost.is_violated(1)),
            Property::always("2", |_, state: &State<S>| !state.ghost.is_violated(2)),
            Property::always("3", |_, state: &State<S>| !state.ghost.is_violated(3)),
            Property::always("4", |_, state: &State<S>| !state.ghost.is_violated(4)),
            Property::always("5", |_, state: &State<S>| !state.ghost.is_violated(5)),
            Property::always("6", |_, state: &State<S>| !state.ghost.is_violated(6)),
            Property::always("7", |_, state: &State<S>| !state.ghost.is_violated(7)),
            Property::always("8", |model: &Self, state: &State<S>| {
                let mut steps = Vec::new();
                model.next_steps(state, &mut steps);
                let is_over = state.clients.iter().all(|client| !client.alive || client.is_finished());
                !steps.is_empty() || (is_over && state.server.view().held().next().is_none())
            }),
        ]
    }
}
