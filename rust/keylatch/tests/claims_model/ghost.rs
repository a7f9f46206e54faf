//! What the invariants remember, and how they judge a step of a server.

use crate::wire::{Answer, Ask, Event, Grant, Key, Output, Verb, View, Work};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Ghost {
    /// Claims in order of their first arrival, until they are granted or end.
    arrivals: Vec<Key>,
    /// Requests that were held and are not any more.
    finished: BTreeSet<Key>,
    granted: BTreeMap<Key, Grant>,
    /// Completions that the server applied.
    applied: BTreeSet<Key>,
    /// Requests that were in line at a success.
    owed_done: BTreeSet<Key>,
    given_up: BTreeSet<Key>,
    settled_below: BTreeMap<usize, u64>,
    has_outcome: bool,
    last_fence: u64,
    /// Bit n is set when invariant n was violated.
    violated: u16,
}

/// One step of a server.
pub(crate) struct Step<'a> {
    pub(crate) ask: Option<&'a Ask>,
    pub(crate) before: View,
    pub(crate) after: View,
    pub(crate) outputs: &'a [Output],
    pub(crate) cut: &'a [bool],
}

impl Ghost {
    pub(crate) fn is_violated(&self, invariant: u8) -> bool {
        self.violated & (1 << invariant) != 0
    }

    fn violate(&mut self, invariant: u8, violated: bool) {
        if violated {
            self.violated |= 1 << invariant;
        }
    }

    /// A restart that its clients notice.
    pub(crate) fn restarted(&mut self) {
        *self = Self { last_fence: self.last_fence, violated: self.violated, ..Self::default() };
    }

    pub(crate) fn session_ended(&mut self, client: usize) {
        self.arrivals.retain(|key| key.client != client);
        self.owed_done.retain(|key| key.client != client);
    }

    pub(crate) fn outcome_forgotten(&mut self) {
        self.has_outcome = false;
    }

    /// Notes that a call arrived at a live session of the server's epoch.
    pub(crate) fn arrived(&mut self, ask: &Ask) {
        let key = ask.key;
        let ended_by = |it: &Key| match ask.verb {
            Verb::Renew { open } => it.number < key.number && Some(it.number) != open,
            Verb::Cancel => *it == key || it.number < ask.settled_below,
            _ => it.number < ask.settled_below,
        };
        self.arrivals.retain(|it| it.client != key.client || !ended_by(it));
        if !matches!(ask.verb, Verb::Renew { .. }) {
            let settled = self.settled_below.entry(key.client).or_default();
            *settled = (*settled).max(ask.settled_below);
        }
        let settled = self.settled_below.get(&key.client).copied().unwrap_or_default();
        match ask.verb {
            Verb::Cancel => drop(self.given_up.insert(key)),
            Verb::Claim => {
                let is_new = !self.arrivals.contains(&key)
                    && !self.given_up.contains(&key)
                    && !self.finished.contains(&key)
                    && !self.granted.contains_key(&key)
                    && !self.owed_done.contains(&key);
                if is_new && key.number >= settled && !self.has_outcome {
                    self.arrivals.push(key);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn judge(&mut self, step: &Step<'_>) {
        self.judge_completion(step);
        self.judge_ownership(step);
        self.judge_reach(step);
        self.judge_outputs(step);
        // A place that vanishes without a call is missed by invariant 2 when a later one is granted.
        let owner = step.before.owner.map(|(key, _)| key);
        let ended = |key: &Key| !step.after.holds(*key) && (step.ask.is_some() || owner == Some(*key));
        self.finished.extend(step.before.held().filter(ended));
    }

    fn judge_completion(&mut self, step: &Step<'_>) {
        let Some(Ask { key, verb: Verb::Complete(grant, work), .. }) = step.ask else { return };
        if step.before.owner != Some((*key, *grant)) || step.after.owner == Some((*key, *grant)) {
            return;
        }
        self.applied.insert(*key);
        if *work == Work::Done {
            self.owed_done.extend(step.before.present.iter().chain(&step.before.dormant));
            self.arrivals.clear();
            self.has_outcome = true;
        }
    }

    /// Invariants 1, 2 and 4: a new owner.
    fn judge_ownership(&mut self, step: &Step<'_>) {
        let Some((key, grant)) = step.after.owner.filter(|_| step.after.owner != step.before.owner) else { return };
        self.violate(1, grant.fence <= self.last_fence);
        self.last_fence = grant.fence;
        if let Some(place) = self.arrivals.iter().position(|it| *it == key) {
            let overtaken = self.arrivals[..place].iter().any(|earlier| !step.cut[earlier.client]);
            self.violate(2, overtaken);
            self.arrivals.remove(place);
        }
        self.name_grant(key, grant);
    }

    fn name_grant(&mut self, key: Key, grant: Grant) {
        let named = *self.granted.entry(key).or_insert(grant);
        self.violate(4, named != grant);
    }

    /// Invariants 5 and 7: what a call may change.
    fn judge_reach(&mut self, step: &Step<'_>) {
        for key in step.after.held() {
            self.violate(7, self.owed_done.contains(&key));
            self.violate(5, self.finished.contains(&key) && !self.owed_done.contains(&key));
        }
        let Some(ask) = step.ask else { return };
        let is_own = |key: &Key| {
            let of_session = key.client == ask.key.client && key.epoch == ask.key.epoch;
            let given_up = match ask.verb {
                Verb::Renew { open } => key.number < ask.key.number && Some(key.number) != open,
                _ => *key == ask.key || key.number < ask.settled_below,
            };
            of_session && given_up
        };
        let owner_before = step.before.owner.map(|(key, _)| key);
        let succeeded = matches!(ask.verb, Verb::Complete(_, Work::Done)) && owner_before == Some(ask.key);
        for key in step.before.held().filter(|key| !is_own(key)) {
            let lost_ownership = owner_before == Some(key) && step.after.owner.map(|(key, _)| key) != Some(key);
            let vanished = !step.after.holds(key) && !succeeded;
            self.violate(5, lost_ownership || vanished);
        }
        let appeared = step.after.held().any(|key| key != ask.key && !step.before.holds(key));
        self.violate(5, appeared);
    }

    /// Invariants 3, 4, 6 and 7: what leaves the server.
    fn judge_outputs(&mut self, step: &Step<'_>) {
        for output in step.outputs {
            match *output {
                Output::Event(Event::Failed) => {
                    self.violate(3, step.after.owner.is_none() && !step.after.present.is_empty());
                }
                Output::Event(Event::Granted(key, grant)) => self.name_grant(key, grant),
                Output::Reply(key, answer) => {
                    let is_loss = matches!(answer, Answer::Lost | Answer::NotYours | Answer::Cancelled);
                    self.violate(6, is_loss && self.applied.contains(&key));
                    let is_other =
                        matches!(answer, Answer::Yours(_) | Answer::Lost | Answer::Cancelled | Answer::Waiting);
                    self.violate(7, is_other && self.owed_done.contains(&key));
                    match answer {
                        Answer::Yours(grant) => self.name_grant(key, grant),
                        Answer::Done => drop(self.finished.insert(key)),
                        _ => {}
                    }
                }
            }
        }
    }
}
