//! A client as the protocol wants it: it counts its requests and repeats each until it is answered.

use crate::fault::Fault;
use crate::wire::{Answer, Ask, Event, Grant, Key, Verb, Work};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Between two requests, or after the last.
    Idle,
    Claiming,
    Owner(Grant),
    Completing(Grant, Work),
    /// It repeats its cancellation until that is answered.
    Cancelling,
    /// It sent its cancellation once; renewals make up for it.
    Abandoned,
    /// Its session is gone.
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) me: usize,
    pub(crate) alive: bool,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    settled_below: u64,
    /// Requests that it has not begun.
    pub(crate) left: u8,
    pub(crate) phase: Phase,
}

impl Client {
    pub(crate) fn new(me: usize, requests: u8) -> Self {
        Self { me, alive: true, epoch: 1, number: 0, settled_below: 0, left: requests, phase: Phase::Idle }
    }

    pub(crate) fn key(&self) -> Key {
        Key { client: self.me, epoch: self.epoch, number: self.number }
    }

    fn next_key(&self) -> Key {
        Key { number: self.number + 1, ..self.key() }
    }

    fn ask(&self, verb: Verb) -> Ask {
        let key = if matches!(verb, Verb::Renew { .. }) { self.next_key() } else { self.key() };
        Ask { key, settled_below: self.settled_below, verb }
    }

    /// Returns whether it has nothing more to do.
    pub(crate) fn is_finished(&self) -> bool {
        match self.phase {
            Phase::Idle => self.left == 0,
            phase => phase == Phase::Over,
        }
    }

    /// Begins the next request.
    pub(crate) fn begin(&mut self) -> Ask {
        self.left -= 1;
        self.ask_anew()
    }

    fn ask_anew(&mut self) -> Ask {
        self.number += 1;
        self.settled_below = self.number;
        self.phase = Phase::Claiming;
        self.ask(Verb::Claim)
    }

    pub(crate) fn complete(&mut self, grant: Grant, work: Work) -> Ask {
        self.phase = Phase::Completing(grant, work);
        self.ask(Verb::Complete(grant, work))
    }

    pub(crate) fn cancel(&mut self, phase: Phase) -> Ask {
        self.phase = phase;
        self.ask(Verb::Cancel)
    }

    /// Returns a renewal that names what is open.
    pub(crate) fn renewal(&self) -> Ask {
        let open = !matches!(self.phase, Phase::Idle | Phase::Abandoned | Phase::Over);
        self.ask(Verb::Renew { open: open.then_some(self.number) })
    }

    /// Returns what it repeats when nothing is on its way any more.
    pub(crate) fn repeated(&mut self, fault: Option<Fault>) -> Option<Ask> {
        match self.phase {
            Phase::Claiming => {
                if fault == Some(Fault::NewNumberOnRetry) {
                    self.number += 1;
                }
                Some(self.ask(Verb::Claim))
            }
            Phase::Completing(grant, work) => Some(self.ask(Verb::Complete(grant, work))),
            Phase::Cancelling => Some(self.ask(Verb::Cancel)),
            Phase::Abandoned => Some(self.renewal()),
            _ => None,
        }
    }

    /// Takes an answer; returns what it sends thereupon.
    pub(crate) fn hear(&mut self, key: Key, answer: Answer, fault: Option<Fault>) -> Option<Ask> {
        let old_done = fault == Some(Fault::OldEpochDoneAccepted) && answer == Answer::Done && key.epoch < self.epoch;
        let is_mine = key == self.key() || (self.phase == Phase::Abandoned && key == self.next_key());
        let is_session_wide =
            matches!(answer, Answer::SessionGone | Answer::EpochChanged(_)) && key.epoch == self.epoch;
        if !(is_mine || old_done || is_session_wide) || self.is_finished() {
            return None;
        }
        match (answer, self.phase) {
            (Answer::SessionGone, _) => self.phase = Phase::Over,
            (Answer::EpochChanged(epoch), phase) if epoch > self.epoch => {
                self.epoch = epoch;
                if phase == Phase::Claiming {
                    return Some(self.ask_anew());
                }
                // An owner reports its work lost; the end of a completion on its way is unknown.
                self.phase = Phase::Idle;
            }
            (Answer::Yours(grant), Phase::Claiming) => self.phase = Phase::Owner(grant),
            (Answer::Yours(_) | Answer::Waiting | Answer::EpochChanged(_), _) => {}
            (Answer::Renewed, Phase::Abandoned) => self.phase = Phase::Idle,
            (Answer::Renewed, _) => {}
            // Only its own end settles a completion or a cancellation; all of these are ends.
            (
                Answer::Done | Answer::Ended(_) | Answer::Lost | Answer::Cancelled | Answer::Stale | Answer::NotYours,
                phase,
            ) => {
                if !matches!(phase, Phase::Idle | Phase::Abandoned) {
                    self.phase = Phase::Idle;
                }
            }
        }
        None
    }

    /// Takes an event; returns what it sends thereupon.
    pub(crate) fn notice(&mut self, event: Event) -> Option<Ask> {
        match (event, self.phase) {
            (Event::Granted(key, grant), Phase::Claiming) if key == self.key() => {
                self.phase = Phase::Owner(grant);
                None
            }
            // It hears of the failure and asks again.
            (Event::Failed, Phase::Claiming) => Some(self.ask(Verb::Claim)),
            _ => None,
        }
    }
}
