//! Network, clock and promises around clients and server.

use super::fault::Fault;
use super::state::{Client, Id, Mark, Message, Phase, Removal, Server, Session, Setup, State};
use stateright::{Checker, HasDiscoveries, Model, Property};

pub(super) const ALONE: &str = "an exclusive holder is alone by the clocks";
pub(super) const FENCED: &str = "the store takes no older fence";
pub(super) const KNOWN: &str = "a client knows its entries";
pub(super) const RENEWED: &str = "a new lease begins when nothing of the old is left";
pub(super) const ENDS: &str = "each operation ends";

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Action {
    Tick,
    Deliver(Message),
    Lose(Message),
    /// The server says that it is full.
    ///
    /// It carries the request out or does not.
    Fill(Message, bool),
    ExpireLease(u8),
    /// An operator deletes the entry of this revision on this key by hand.
    DeleteEntry(u8, usize),
    Begin(usize),
    /// Sends the unanswered request again.
    Retry(usize),
    RetryRemoval(usize, Id),
    Cancel(usize),
    PredecessorGone(usize),
    Write(usize),
    Release(usize),
    Downgrade(usize),
    Upgrade(usize),
    /// The server refuses a copy of an exchange.
    RefuseExchange(usize),
    Renew(usize),
    NoticeLoss(usize),
}

impl Setup {
    fn in_flight(s: &State, is: impl Fn(&Message) -> bool) -> bool {
        s.network.iter().any(is)
    }

    fn client_actions(&self, s: &State, client: usize, actions: &mut Vec<Action>) {
        let c = &s.clients[client];
        let id = c.id;
        let Some(op) = self.op(s, client) else { return };
        let valid = c.is_valid(s.now);
        match c.phase {
            Phase::Idle => {
                if valid {
                    actions.push(Action::Begin(client));
                }
            }
            Phase::Creating(_) => {
                let under_way = Self::in_flight(
                    s,
                    |m| matches!(m, Message::Create { id: of, .. } | Message::Created { id: of, .. } | Message::Refused { id: of } | Message::Full { id: of } if *of == id),
                );
                if c.session == Session::Live && (!under_way || s.budget.retries > 0) {
                    actions.push(Action::Retry(client));
                }
            }
            Phase::Waiting => {
                let gone = |rev: u8, key: usize| !s.server.entries.iter().any(|e| e.rev == rev && e.key == key);
                let fires = c.predecessors.iter().any(|p| p.1.is_some_and(|rev| gone(rev, p.0)));
                if fires && c.session == Session::Live {
                    actions.push(Action::PredecessorGone(client));
                }
            }
            Phase::Confirming => {
                let under_way = Self::in_flight(
                    s,
                    |m| matches!(m, Message::Confirm { id: of, .. } | Message::Created { id: of, .. } | Message::Gone { id: of } if *of == id),
                );
                if c.session == Session::Live && !under_way {
                    actions.push(Action::Retry(client));
                }
            }
            Phase::Held => {
                if valid {
                    actions.push(Action::Release(client));
                    if op.writes && !c.wrote {
                        actions.push(Action::Write(client));
                    }
                    if op.downgrades && !c.downgraded {
                        actions.push(Action::Downgrade(client));
                    }
                    if op.upgrades && !c.upgraded && !c.refused {
                        actions.push(Action::Upgrade(client));
                    }
                }
            }
            Phase::Marked(reader) => {
                if valid && !s.server.entries.iter().any(|e| e.rev == reader) {
                    actions.push(Action::Retry(client));
                }
            }
            Phase::Upgrading | Phase::Settling | Phase::Marking(_) | Phase::Unmarking(..) => {
                let under_way = Self::in_flight(
                    s,
                    |m| matches!(m, Message::Replace { id: of, .. } | Message::Replaced { id: of, .. } | Message::NotReplaced { id: of } | Message::Full { id: of } | Message::PutMark { id: of, .. } | Message::MarkPut { id: of, .. } | Message::TakeMark { id: of, .. } | Message::MarkTaken { id: of } | Message::Settle { id: of, .. } | Message::Settled { id: of, .. } if *of == id),
                );
                if valid && (!under_way || s.budget.retries > 0) {
                    actions.push(Action::Retry(client));
                }
                if valid && c.phase == Phase::Upgrading && c.tainted && s.budget.refusals > 0 {
                    actions.push(Action::RefuseExchange(client));
                }
            }
            Phase::Downgrading => {
                let under_way = Self::in_flight(
                    s,
                    |m| matches!(m, Message::Downgrade { id: of, .. } | Message::Downgraded { id: of } if *of == id),
                );
                if valid && (!under_way || s.budget.retries > 0) {
                    actions.push(Action::Retry(client));
                }
            }
        }
        let asks = matches!(c.phase, Phase::Creating(_) | Phase::Waiting | Phase::Confirming);
        if asks && op.may_cancel && c.session == Session::Live {
            actions.push(Action::Cancel(client));
        }
    }

    fn session_actions(s: &State, client: usize, actions: &mut Vec<Action>) {
        let c = &s.clients[client];
        match c.session {
            Session::Live => {
                if s.now >= c.deadline {
                    actions.push(Action::NoticeLoss(client));
                } else if s.budget.renewals > 0 {
                    actions.push(Action::Renew(client));
                }
                for &Removal { id, .. } in &c.pending {
                    let is_it = |m: &Message| matches!(m, Message::Remove { id: of, .. } | Message::Removed { id: of } if *of == id);
                    if s.budget.retries > 0 || !Self::in_flight(s, is_it) {
                        actions.push(Action::RetryRemoval(client, id));
                    }
                }
            }
            Session::Revoking | Session::Granting => {
                let under_way = Self::in_flight(
                    s,
                    |m| matches!(m, Message::Revoke { client: of, .. } | Message::Revoked { client: of, .. } | Message::Grant { client: of, .. } | Message::Granted { client: of, .. } if *of == client),
                );
                if !under_way {
                    actions.push(Action::Retry(client));
                }
            }
        }
    }

    fn holds(&self, s: &State, client: usize, key: usize) -> Option<bool> {
        let c = &s.clients[client];
        let op = self.op(s, client)?;
        let held = c.phase.holds() && c.is_valid(s.now) && !c.deleted;
        held.then(|| op.keys.iter().find(|k| k.0 == key).map(|k| k.1 && !c.downgraded || c.upgraded)).flatten()
    }

    fn send_downgrade(&self, s: &mut State, client: usize) {
        let (id, rev) = (s.clients[client].id, s.clients[client].fence);
        let key = self.scripts[client][s.clients[client].op].keys[0].0;
        s.send(Message::Downgrade { id, key, rev });
    }

    fn retry(&self, s: &mut State, client: usize) {
        match (s.clients[client].session, s.clients[client].phase.clone()) {
            (Session::Revoking, _) => {
                let lease = s.clients[client].lease;
                s.send(Message::Revoke { client, lease });
            }
            (Session::Granting, _) => s.send(Message::Grant { client, sent: s.now }),
            (Session::Live, Phase::Creating(part)) => {
                s.clients[client].tainted = true;
                s.budget.retries = s.budget.retries.saturating_sub(1);
                self.send_creation(s, client, part, false);
            }
            (Session::Live, Phase::Marked(_)) => {
                s.clients[client].phase = Phase::Marking(Mark::Pending);
                self.send_exchange(s, client);
            }
            (Session::Live, Phase::Upgrading | Phase::Settling | Phase::Marking(_) | Phase::Unmarking(..)) => {
                // A late copy of the removal of a mark creates nothing, nor does one of the question.
                s.clients[client].tainted |= !matches!(s.clients[client].phase, Phase::Unmarking(..) | Phase::Settling);
                s.budget.retries = s.budget.retries.saturating_sub(1);
                self.send_exchange(s, client);
            }
            (Session::Live, Phase::Downgrading) => {
                s.budget.retries = s.budget.retries.saturating_sub(1);
                self.send_downgrade(s, client);
            }
            (Session::Live, _) => self.send_confirm(s, client),
        }
    }
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut server = Server::default();
        let clients = (0..self.scripts.len()).map(|client| Client::new(client, server.grant(0))).collect();
        let mut state = State { now: 0, server, clients, network: Vec::new(), budget: self.budget };
        for client in 0..self.in_line {
            self.begin(&mut state, client);
            while let Some(message) = state.network.pop() {
                match state.server.handle(self, 0, &message) {
                    Some(answer) => state.send(answer),
                    None => self.receive(&mut state, &message),
                }
            }
        }
        vec![state]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        if s.now < self.ticks {
            actions.push(Action::Tick);
        }
        let mut last = None;
        for message in &s.network {
            if last != Some(message) {
                actions.push(Action::Deliver(message.clone()));
                if s.budget.losses > 0 {
                    actions.push(Action::Lose(message.clone()));
                }
                if s.budget.full > 0 && message.puts().is_some() {
                    actions.extend([false, true].map(|is_done| Action::Fill(message.clone(), is_done)));
                }
            }
            last = Some(message);
        }
        actions.extend(s.server.leases.iter().filter(|l| s.now >= l.expiry).map(|l| Action::ExpireLease(l.id)));
        if s.budget.deletions > 0 {
            actions.extend(s.server.entries.iter().map(|e| Action::DeleteEntry(e.rev, e.key)));
        }
        for client in 0..s.clients.len() {
            self.client_actions(s, client, actions);
            Self::session_actions(s, client, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        let s = &mut state;
        match action {
            Action::Tick => s.now += 1,
            Action::Deliver(message) => {
                s.network.remove(s.network.iter().position(|m| *m == message)?);
                if let Some(answer) = s.server.handle(self, s.now, &message) {
                    s.send(answer);
                } else {
                    self.receive(s, &message);
                }
            }
            Action::Lose(message) => {
                s.budget.losses -= 1;
                s.network.remove(s.network.iter().position(|m| *m == message)?);
            }
            Action::Fill(message, is_done) => {
                s.budget.full -= 1;
                s.network.remove(s.network.iter().position(|m| *m == message)?);
                if is_done {
                    s.server.handle(self, s.now, &message);
                }
                s.send(Message::Full { id: message.puts()? });
            }
            Action::ExpireLease(lease) => s.server.end_lease(lease),
            Action::DeleteEntry(rev, key) => {
                s.budget.deletions -= 1;
                let at = s.server.entries.iter().position(|e| e.rev == rev && e.key == key)?;
                let entry = s.server.entries.remove(at);
                let c = &mut s.clients[entry.id.client];
                // The loss of a hold by hand is one that no clock shows; fences are for it.
                let sees = matches!(c.phase, Phase::Held | Phase::Downgrading | Phase::Creating(_) | Phase::Confirming);
                c.deleted |= c.id == entry.id && sees;
            }
            Action::Begin(client) => self.begin(s, client),
            Action::Retry(client) => self.retry(s, client),
            Action::RetryRemoval(client, id) => {
                s.budget.retries = s.budget.retries.saturating_sub(1);
                let lease = s.clients[client].lease;
                let removal = s.clients[client].pending.iter_mut().find(|removal| removal.id == id)?;
                removal.repeated = true;
                let raise = removal.raise;
                s.send(Message::Remove { id, lease, raise });
            }
            Action::Cancel(client) | Action::Release(client) => self.remove(s, client),
            Action::Downgrade(client) => {
                s.clients[client].phase = Phase::Downgrading;
                s.clients[client].downgraded = true;
                self.send_downgrade(s, client);
            }
            Action::Upgrade(client) => self.upgrade(s, client),
            Action::RefuseExchange(client) => {
                s.budget.refusals -= 1;
                self.exchange_unknown(s, client, Fault::UnknownIsKept);
            }
            Action::PredecessorGone(client) => self.predecessor_gone(s, client),
            Action::Write(client) => {
                s.clients[client].wrote = true;
                let fence = s.clients[client].fence;
                s.send(Message::Write { fence });
            }
            Action::Renew(client) => {
                s.budget.renewals -= 1;
                let lease = s.clients[client].lease;
                s.send(Message::Renew { client, lease, sent: s.now });
            }
            Action::NoticeLoss(client) => self.lose(s, client),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ALONE, |setup: &Setup, s: &State| {
                (0..super::state::KEYS).all(|key| {
                    let held = |client| setup.holds(s, client, key);
                    let holders = (0..s.clients.len()).filter_map(held);
                    !holders.clone().any(|exclusive| exclusive) || holders.count() == 1
                })
            }),
            Property::always(FENCED, |_, s: &State| !s.server.store_broken),
            Property::always(KNOWN, |_, s: &State| {
                s.server.entries.iter().all(|entry| {
                    let c = &s.clients[entry.id.client];
                    let current = c.session == Session::Live && c.lease == entry.lease;
                    let is_its = c.id == entry.id || c.old.is_some_and(|(old, _)| old == entry.id);
                    let known = is_its && c.phase != Phase::Idle;
                    !current || known || c.pending.iter().any(|removal| removal.id == entry.id)
                })
            }),
            Property::always(RENEWED, |_, s: &State| {
                let live = |client: usize| s.clients[client].session == Session::Live;
                s.server.entries.iter().all(|e| !live(e.id.client) || e.lease == s.clients[e.id.client].lease)
            }),
            Property::always(ENDS, |setup: &Setup, s: &State| {
                let mut actions = Vec::new();
                setup.actions(s, &mut actions);
                !actions.is_empty() || (0..s.clients.len()).all(|client| setup.op(s, client).is_none())
            }),
            Property::sometimes("all operations end", |setup: &Setup, s: &State| {
                (0..s.clients.len()).all(|client| setup.op(s, client).is_none())
            }),
        ]
    }
}

/// Searches the whole space; the number of states, or the broken promise.
pub(super) fn search(setup: &Setup) -> Result<usize, String> {
    let checker = setup.clone().checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let discoveries = checker.discoveries();
    assert!(discoveries.contains_key("all operations end"), "no run of this search gets to its end");
    match discoveries.into_iter().find(|(name, _)| *name != "all operations end") {
        None => Ok(checker.unique_state_count()),
        Some((name, path)) => {
            let last = path.last_state().clone();
            Err(format!("{name}: {:?}\nends in {last:?}", path.into_actions()))
        }
    }
}

/// Searches until this promise is broken; the steps to that.
pub(super) fn search_for(setup: &Setup, promise: &'static str) -> Option<usize> {
    let when = HasDiscoveries::AnyOf([promise].into());
    let checker = setup.clone().checker().threads(2).finish_when(when).spawn_bfs().join();
    checker.discovery(promise).map(|path| path.into_actions().len())
}

/// The same search with a fault.
pub(super) fn with(fault: Fault, setup: Setup) -> Setup {
    Setup { fault: Some(fault), ..setup }
}
