//! The protocol as it is written down, as plainly as possible, with its faults to be switched on.
//!
//! It is there for the faults: each shows that the invariants notice what they are for. And the board that ships has to
//! answer as it does.

use crate::fault::Fault;
use crate::wire::{Answer, Ask, Event, Grant, Key, Output, Server, Verb, View, Work};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Reference {
    fault: Option<Fault>,
    epoch: u64,
    next_fence: u64,
    live: Vec<bool>,
    cut: Vec<bool>,
    settled_below: Vec<u64>,
    owner: Option<(Key, Grant)>,
    line: Vec<Key>,
    outcome: bool,
    memory: BTreeMap<Key, Answer>,
    parked: BTreeSet<Key>,
    /// A failure was published and nothing was handed over yet.
    owes_hand_over: bool,
}

impl Reference {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn remember(&mut self, key: Key, answer: Answer, outputs: &mut Vec<Output>) {
        self.memory.insert(key, answer);
        if self.parked.remove(&key) {
            outputs.push(Output::Reply(key, answer));
        }
    }

    fn is_present(&self, key: Key) -> bool {
        !self.cut[key.client]
    }

    fn grant_next(&mut self, outputs: &mut Vec<Output>) -> Option<Event> {
        if self.owner.is_some() {
            return None;
        }
        let at = self.line.iter().position(|key| self.is_present(*key))?;
        let key = self.line.remove(at);
        let epoch = if self.has(Fault::FenceNotPersistedAndNoEpochInGrant) { 1 } else { self.epoch };
        let grant = Grant { epoch, fence: self.next_fence };
        self.next_fence += 1;
        self.owner = Some((key, grant));
        self.remember(key, Answer::Yours(grant), outputs);
        let shown =
            if self.has(Fault::EventWithItsOwnGrant) { Grant { fence: self.next_fence, ..grant } } else { grant };
        Some(Event::Granted(key, shown))
    }

    fn hand_over(&mut self, outputs: &mut Vec<Output>) {
        let granted = self.grant_next(outputs);
        outputs.extend(granted.map(Output::Event));
    }

    fn fail(&mut self, stored: Answer, outputs: &mut Vec<Output>) {
        let Some((key, _)) = self.owner.take() else { return };
        self.end(key, stored, outputs);
        if self.has(Fault::PublishBeforeHandOver) {
            outputs.push(Output::Event(Event::Failed));
            self.owes_hand_over = true;
            return;
        }
        let granted = self.grant_next(outputs);
        outputs.push(Output::Event(Event::Failed));
        outputs.extend(granted.map(Output::Event));
    }

    fn end(&mut self, key: Key, stored: Answer, outputs: &mut Vec<Output>) {
        self.remember(key, stored, outputs);
        if self.has(Fault::MemoryDroppedAtRelease) {
            self.memory.remove(&key);
        }
    }

    fn succeed(&mut self, outputs: &mut Vec<Output>) {
        let Some((key, _)) = self.owner.take() else { return };
        self.end(key, Answer::Ended(Work::Done), outputs);
        self.outcome = true;
        for waiting in std::mem::take(&mut self.line) {
            if self.has(Fault::WaitersAnsweredFromRetentionOnly) {
                if self.parked.remove(&waiting) {
                    outputs.push(Output::Reply(waiting, Answer::Done));
                }
            } else {
                self.remember(waiting, Answer::Done, outputs);
            }
        }
    }

    fn cancel(&mut self, key: Key, outputs: &mut Vec<Output>) {
        if self.line.contains(&key) {
            self.line.retain(|waiting| *waiting != key);
            self.remember(key, Answer::Cancelled, outputs);
        } else if self.owner.is_some_and(|(owner, _)| owner == key) {
            if self.has(Fault::CancelWithoutRelease) {
                self.remember(key, Answer::Cancelled, outputs);
            } else {
                self.fail(Answer::Cancelled, outputs);
            }
        }
    }

    /// Returns the numbers of one session that are held.
    fn held_by(&self, client: usize) -> Vec<Key> {
        let owner = self.owner.iter().map(|(key, _)| *key);
        self.line.iter().copied().chain(owner).filter(|key| key.client == client).collect()
    }

    fn claim(&mut self, key: Key, outputs: &mut Vec<Output>) -> Option<Answer> {
        if self.has(Fault::MatchByNode)
            && let Some((owner, grant)) = self.owner
            && owner.client == key.client
        {
            let again = Grant { fence: self.next_fence, ..grant };
            self.next_fence += 1;
            self.owner = Some((key, again));
            self.memory.insert(key, Answer::Yours(again));
            return Some(Answer::Yours(again));
        }
        if let Some(stored) = self.memory.get(&key) {
            return Some(*stored);
        }
        if self.line.contains(&key) {
            return None;
        }
        if self.outcome {
            self.memory.insert(key, Answer::Done);
            return Some(Answer::Done);
        }
        if self.owes_hand_over && self.is_present(key) {
            // The work looks free.
            self.line.insert(0, key);
        } else {
            self.line.push(key);
        }
        self.hand_over(outputs);
        self.memory.get(&key).copied()
    }

    fn complete(&mut self, key: Key, grant: Grant, work: Work, outputs: &mut Vec<Output>) -> Answer {
        let owner = self.owner;
        let owns = match self.fault {
            Some(Fault::CompleteByResource) => owner.is_some(),
            Some(Fault::FenceNotPersistedAndNoEpochInGrant) => owner.is_some_and(|(_, held)| held == grant),
            _ => owner == Some((key, grant)),
        };
        if owns {
            match work {
                Work::Done => self.succeed(outputs),
                Work::Failed => self.fail(Answer::Ended(work), outputs),
            }
            return Answer::Ended(work);
        }
        self.memory.get(&key).copied().unwrap_or(Answer::NotYours)
    }

    fn renew(&mut self, next: Key, open: Option<u64>, outputs: &mut Vec<Output>) {
        for held in self.held_by(next.client) {
            let given_up = held.number < next.number || self.has(Fault::RenewalCancelsFromNextOn);
            if given_up && Some(held.number) != open {
                self.cancel(held, outputs);
            }
        }
        let Some(key) = open.map(|number| Key { number, ..next }) else { return };
        match self.memory.get(&key) {
            Some(Answer::Lost) if self.has(Fault::RenewalRevivesAGrant) && self.owner.is_none() => {
                self.line.insert(0, key);
                self.hand_over(outputs);
            }
            Some(Answer::Ended(_)) if self.has(Fault::RenewalSaysLostAfterCompletion) => {
                outputs.push(Output::Reply(key, Answer::Lost));
            }
            Some(stored) => outputs.push(Output::Reply(key, *stored)),
            None => {}
        }
    }

    fn refusal(&mut self, ask: &Ask, outputs: &mut Vec<Output>) -> Option<Answer> {
        let client = ask.key.client;
        if ask.key.epoch != self.epoch
            && !(self.has(Fault::FenceNotPersistedAndNoEpochInGrant) && matches!(ask.verb, Verb::Complete(..)))
        {
            return Some(Answer::EpochChanged(self.epoch));
        }
        if !self.live[client] && !self.has(Fault::LateClaimOfGoneSession) {
            return Some(Answer::SessionGone);
        }
        if matches!(ask.verb, Verb::Renew { .. }) {
            return None;
        }
        let ignores_numbers = self.has(Fault::MemoryTrimmedAndLowNumbersAccepted)
            || (self.has(Fault::CancelByNode) && ask.verb == Verb::Cancel);
        if ask.key.number < self.settled_below[client] && !ignores_numbers {
            return Some(Answer::Stale);
        }
        if ask.settled_below > self.settled_below[client] {
            self.settled_below[client] = ask.settled_below;
            for held in self.held_by(client) {
                if held.number < ask.settled_below && !self.has(Fault::SettledBelowKeepsOlderWork) {
                    self.cancel(held, outputs);
                }
            }
            self.memory.retain(|key, _| key.client != client || key.number >= ask.settled_below);
        }
        None
    }
}

impl Server for Reference {
    fn start(clients: usize, fault: Option<Fault>) -> Self {
        Self {
            fault,
            epoch: 1,
            next_fence: 1,
            live: vec![true; clients],
            cut: vec![false; clients],
            settled_below: vec![0; clients],
            owner: None,
            line: Vec::new(),
            outcome: false,
            memory: BTreeMap::new(),
            parked: BTreeSet::new(),
            owes_hand_over: false,
        }
    }

    fn handle(&mut self, ask: &Ask) -> Vec<Output> {
        let mut outputs = Vec::new();
        let key = ask.key;
        if let Some(refused) = self.refusal(ask, &mut outputs) {
            outputs.push(Output::Reply(key, refused));
            return outputs;
        }
        let reply = match ask.verb {
            Verb::Claim => self.claim(key, &mut outputs),
            Verb::Complete(grant, work) => Some(self.complete(key, grant, work, &mut outputs)),
            Verb::Renew { open } => {
                self.renew(key, open, &mut outputs);
                Some(Answer::Renewed)
            }
            Verb::Cancel => {
                let known = self.memory.contains_key(&key) || self.line.contains(&key);
                if self.has(Fault::CancelByNode) {
                    self.held_by(key.client).into_iter().for_each(|held| self.cancel(held, &mut outputs));
                } else {
                    self.cancel(key, &mut outputs);
                }
                if !known && !self.has(Fault::NoTombstone) {
                    self.memory.insert(key, Answer::Cancelled);
                }
                Some(self.memory.get(&key).copied().unwrap_or(Answer::Cancelled))
            }
        };
        match reply {
            Some(reply) => outputs.push(Output::Reply(key, reply)),
            None => drop(self.parked.insert(key)),
        }
        outputs
    }

    fn go_on(&mut self) -> Option<Vec<Output>> {
        std::mem::take(&mut self.owes_hand_over).then(|| {
            let mut outputs = Vec::new();
            self.hand_over(&mut outputs);
            outputs
        })
    }

    fn is_parked(&self, key: Key) -> bool {
        self.parked.contains(&key)
    }

    fn end_poll(&mut self, key: Key) -> Vec<Output> {
        self.parked.remove(&key);
        if self.has(Fault::PlaceDroppedAtPollTimeout) {
            self.line.retain(|waiting| *waiting != key);
        }
        vec![Output::Reply(key, Answer::Waiting)]
    }

    fn cut(&mut self, client: usize) -> Vec<Output> {
        self.parked.retain(|key| key.client != client);
        if self.has(Fault::PlaceDroppedAtCut) {
            self.line.retain(|key| key.client != client);
        } else {
            self.cut[client] = true;
        }
        Vec::new()
    }

    fn attach(&mut self, client: usize) -> Vec<Output> {
        let mut outputs = Vec::new();
        if self.live[client] {
            self.cut[client] = false;
            self.hand_over(&mut outputs);
        }
        outputs
    }

    fn is_live(&self, client: usize) -> bool {
        self.live[client]
    }

    fn expire(&mut self, client: usize) -> Vec<Output> {
        let mut outputs = Vec::new();
        if !std::mem::take(&mut self.live[client]) {
            return outputs;
        }
        self.cut[client] = false;
        let parked: Vec<Key> = self.parked.iter().copied().filter(|key| key.client == client).collect();
        if !self.has(Fault::GrantToGoneSession) {
            self.line.retain(|key| key.client != client);
        }
        for key in parked {
            self.parked.remove(&key);
            outputs.push(Output::Reply(key, Answer::SessionGone));
        }
        if self.owner.is_some_and(|(owner, _)| owner.client == client) {
            self.fail(Answer::Lost, &mut outputs);
        }
        if self.has(Fault::RenewalRevivesAGrant) {
            // The grant's lease alone ran out, not the session's.
            self.live[client] = true;
        } else if !self.has(Fault::LateClaimOfGoneSession) {
            self.memory.retain(|key, _| key.client != client);
        }
        outputs
    }

    fn forget_outcome(&mut self) -> Vec<Output> {
        self.outcome = false;
        Vec::new()
    }

    fn restart(&mut self) {
        let clients = self.live.len();
        let (epoch, fence, owner) = match self.fault {
            Some(Fault::FenceNotPersisted | Fault::FenceNotPersistedAndNoEpochInGrant) => (self.epoch + 1, 1, None),
            Some(Fault::OwnerPersistedMemoryNot) => (self.epoch, self.next_fence, self.owner),
            _ => (self.epoch + 1, self.next_fence, None),
        };
        *self = Self { epoch, next_fence: fence, owner, ..Self::start(clients, self.fault) };
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn view(&self) -> View {
        let (present, dormant) = self.line.iter().copied().partition(|key| self.is_present(*key));
        View { owner: self.owner, present, dormant }
    }
}
