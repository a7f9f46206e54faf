//! The board that ships, as a server of the model. Time stands still; what time would do, the model does.

use crate::fault::Fault;
use crate::wire::{Answer, Ask, Event, Grant, Key, Output, Server, Verb, View, Work};
use keylatch::KeyRef;
use keylatch::claim::*;
use std::collections::BTreeSet;
use std::time::Duration;

const NOW: Duration = Duration::ZERO;
/// As many events as one verb can publish, and some.
const RING: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Production {
    board: ClaimBoard,
    parked: BTreeSet<Key>,
    streams: Vec<Option<ClaimStream>>,
    read: u64,
    clients: usize,
}

fn resource() -> KeyRef<'static> {
    KeyRef::new("layers", "x")
}

fn begin(epoch: u64, fence: u64, clients: usize) -> (ClaimBoard, Vec<Option<ClaimStream>>) {
    let config = ClaimConfig { ring: RING, ..ClaimConfig::default() };
    let start = ClaimStart { epoch, fences: fence..u64::MAX, quiet_until: NOW };
    let mut board = ClaimBoard::new(config, start).unwrap();
    let streams = (0..clients)
        .map(|_| {
            let session = board.open_session(NOW, &ClaimSessionOptions::default()).unwrap().session;
            Some(board.attach(NOW, session).unwrap())
        })
        .collect();
    (board, streams)
}

fn session(key: Key) -> ClaimSessionId {
    ClaimSessionId { epoch: key.epoch, number: key.client as u64 + 1 }
}

fn id(key: Key) -> ClaimRequestId {
    ClaimRequestId { session: session(key), number: key.number }
}

fn key(id: ClaimRequestId) -> Key {
    Key { client: id.session.number as usize - 1, epoch: id.session.epoch, number: id.number }
}

fn grant(grant: ClaimGrant) -> Grant {
    Grant { epoch: grant.epoch, fence: grant.fence }
}

fn answer(answer: &ClaimAnswer) -> Answer {
    match answer {
        ClaimAnswer::Waiting { .. } => Answer::Waiting,
        ClaimAnswer::Yours(owned) => Answer::Yours(grant(owned.grant)),
        ClaimAnswer::Done(_) => Answer::Done,
        ClaimAnswer::Ended(Ok(_)) => Answer::Ended(Work::Done),
        ClaimAnswer::Ended(Err(_)) => Answer::Ended(Work::Failed),
        ClaimAnswer::Lost(ClaimLoss::SessionExpired | ClaimLoss::SessionEnded) => Answer::SessionGone,
        ClaimAnswer::Lost(_) => Answer::Lost,
        ClaimAnswer::Cancelled { .. } => Answer::Cancelled,
        ClaimAnswer::Skipped { .. } | ClaimAnswer::Superseded { .. } => panic!("no request of the model asks for that"),
    }
}

fn refusal(error: &ClaimError) -> Answer {
    match error {
        ClaimError::EpochChanged { epoch } => Answer::EpochChanged(*epoch),
        ClaimError::SessionGone => Answer::SessionGone,
        ClaimError::StaleRequest { .. } => Answer::Stale,
        ClaimError::NotYours { .. } => Answer::NotYours,
        other => panic!("no request of the model is refused with {other}"),
    }
}

impl Production {
    /// Returns what a verb left, the reply of the call itself last.
    fn outputs(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        for effect in self.board.take_effects() {
            match effect {
                ClaimEffect::Answered { request, answer: changed } => {
                    let key = key(request);
                    if self.parked.remove(&key) {
                        outputs.push(Output::Reply(key, answer(&changed)));
                    }
                }
                ClaimEffect::Published { .. } => {
                    let last = ClaimEventId { epoch: self.board.epoch(), sequence: self.read };
                    let ClaimFeed::Events(events) = self.board.feed(resource(), Some(last)) else {
                        panic!("a verb published more than {RING} events")
                    };
                    for event in events {
                        self.read = event.id.sequence;
                        match event.change {
                            ClaimChange::Granted { request, owned, .. } => {
                                outputs.push(Output::Event(Event::Granted(key(request), grant(owned.grant))));
                            }
                            ClaimChange::Failed { .. } => outputs.push(Output::Event(Event::Failed)),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        outputs
    }
}

impl Server for Production {
    fn start(clients: usize, _: Option<Fault>) -> Self {
        let (board, streams) = begin(1, 1, clients);
        Self { board, parked: BTreeSet::new(), streams, read: 0, clients }
    }

    fn handle(&mut self, ask: &Ask) -> Vec<Output> {
        let call = ClaimCall { request: id(ask.key), settled_below: ask.settled_below };
        let mut repeated = Vec::new();
        let reply = match &ask.verb {
            Verb::Claim => self.board.claim(NOW, call, resource(), &ClaimPolicy::default()),
            Verb::Cancel => self.board.cancel(NOW, call),
            Verb::Complete(grant, work) => {
                let grant = ClaimGrant { epoch: grant.epoch, fence: grant.fence };
                let result = if *work == Work::Done { Ok("".into()) } else { Err("".into()) };
                self.board.complete(NOW, call, grant, result)
            }
            Verb::Renew { open } => {
                let open: Vec<u64> = open.iter().copied().collect();
                match self.board.renew(NOW, session(ask.key), ask.key.number, &open) {
                    Err(error) => Err(error),
                    Ok(renewed) => {
                        let reply = |(number, it): &(u64, ClaimAnswer)| {
                            Output::Reply(Key { number: *number, ..ask.key }, answer(it))
                        };
                        repeated = renewed.answers.iter().map(reply).collect();
                        repeated.push(Output::Reply(ask.key, Answer::Renewed));
                        let mut outputs = self.outputs();
                        outputs.append(&mut repeated);
                        return outputs;
                    }
                }
            }
        };
        let mut outputs = self.outputs();
        match reply {
            Ok(ClaimAnswer::Waiting { .. }) if ask.verb == Verb::Claim => {
                self.parked.insert(ask.key);
            }
            Ok(reply) => outputs.push(Output::Reply(ask.key, answer(&reply))),
            Err(error) => outputs.push(Output::Reply(ask.key, refusal(&error))),
        }
        outputs.append(&mut repeated);
        outputs
    }

    fn go_on(&mut self) -> Option<Vec<Output>> {
        None
    }

    fn is_parked(&self, key: Key) -> bool {
        self.parked.contains(&key)
    }

    fn end_poll(&mut self, key: Key) -> Vec<Output> {
        self.parked.remove(&key);
        vec![Output::Reply(key, Answer::Waiting)]
    }

    fn cut(&mut self, client: usize) -> Vec<Output> {
        self.parked.retain(|key| key.client != client);
        if let Some(stream) = self.streams[client].take() {
            self.board.detach(NOW, stream);
        }
        self.outputs()
    }

    fn attach(&mut self, client: usize) -> Vec<Output> {
        let session = ClaimSessionId { epoch: self.board.epoch(), number: client as u64 + 1 };
        self.streams[client] = self.board.attach(NOW, session).ok();
        self.outputs()
    }

    fn is_live(&self, client: usize) -> bool {
        let session = ClaimSessionId { epoch: self.board.epoch(), number: client as u64 + 1 };
        self.board.session(session).is_some()
    }

    fn expire(&mut self, client: usize) -> Vec<Output> {
        let session = ClaimSessionId { epoch: self.board.epoch(), number: client as u64 + 1 };
        let _ = self.board.end_session(NOW, session);
        self.outputs()
    }

    fn forget_outcome(&mut self) -> Vec<Output> {
        self.board.forget(NOW, resource());
        self.outputs()
    }

    fn restart(&mut self) {
        // The host persisted the mark: no fence is used twice.
        let fence = u64::MAX - self.board.fences_left();
        (self.board, self.streams) = begin(self.board.epoch() + 1, fence, self.clients);
        self.parked.clear();
        self.read = 0;
    }

    fn epoch(&self) -> u64 {
        self.board.epoch()
    }

    fn view(&self) -> View {
        let snapshot = self.board.snapshot(resource());
        let places = |dormant: bool| {
            snapshot.waiting.iter().filter(|place| place.dormant == dormant).map(|place| key(place.request)).collect()
        };
        View {
            owner: snapshot.owner.as_ref().map(|owner| (key(owner.request), grant(owner.owned.grant))),
            present: places(false),
            dormant: places(true),
        }
    }
}
