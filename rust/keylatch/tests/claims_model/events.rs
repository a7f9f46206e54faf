//! Subscribers of a resource behind connections that are cut, while the board publishes, overruns its ring and restarts.
//!
//! Invariants: no event is lost, none comes twice, and a reset comes only where the events are not kept.

use keylatch::KeyRef;
use keylatch::claim::*;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::VecDeque;
use std::time::Duration;

const NOW: Duration = Duration::ZERO;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fault {
    ResetWithoutId,
    ResetInTwoEvents,
    SnapshotByAddress,
    NoEpochInId,
    NoOverrunCheck,
    IdOnHeartbeat,
}

const FAULTS: [(Fault, &str); 6] = [
    (Fault::ResetWithoutId, "no second reset"),
    (Fault::ResetInTwoEvents, "no gap"),
    (Fault::SnapshotByAddress, "no doubled event"),
    (Fault::NoEpochInId, "no gap"),
    (Fault::NoOverrunCheck, "no gap"),
    (Fault::IdOnHeartbeat, "no gap"),
];

/// What a stream carries.
///
/// The count is that of all events ever published, across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Frame {
    Event(ClaimEventId, u64),
    /// With the state after a number of events, or with its address alone.
    Reset(Option<ClaimEventId>, Option<u64>),
    /// The second half of a reset in two events.
    Snapshot(u64),
    Heartbeat(Option<ClaimEventId>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Action {
    Publish,
    Connect,
    Pump,
    Heartbeat,
    Receive,
    Fetch,
    Cut,
    Restart,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    board: ClaimBoard,
    work: ClaimOwned,
    /// Events published before this start of the board.
    base: u64,
    to_publish: u8,
    cuts: u8,
    restarts: u8,
    heartbeats: u8,
    /// Frames on their way, while connected, and how far the server has sent.
    stream: Option<VecDeque<Frame>>,
    sent: Option<ClaimEventId>,
    last_id: Option<ClaimEventId>,
    /// How many events the subscriber's state contains.
    contains: Option<u64>,
    has_to_fetch: bool,
    lost: bool,
    doubled: bool,
    reset_again: bool,
    is_reset: bool,
}

struct Events {
    fault: Option<Fault>,
}

fn resource() -> KeyRef<'static> {
    KeyRef::new("layers", "x")
}

/// Returns a board whose owner works; that is its first event.
fn begin(epoch: u64) -> (ClaimBoard, ClaimOwned) {
    let config = ClaimConfig { ring: 2, ..ClaimConfig::default() };
    let mut board = ClaimBoard::new(config, ClaimStart { epoch, ..ClaimStart::default() }).unwrap();
    let session = board.open_session(NOW, &ClaimSessionOptions::default()).unwrap().session;
    let call = ClaimCall { request: ClaimRequestId { session, number: 1 }, settled_below: 0 };
    let ClaimAnswer::Yours(work) = board.claim(NOW, call, resource(), &ClaimPolicy::default()).unwrap() else {
        panic!("the work is free")
    };
    (board, work)
}

impl State {
    fn published(&self) -> u64 {
        self.base + self.head().sequence
    }

    fn head(&self) -> ClaimEventId {
        match self.board.feed(resource(), None) {
            ClaimFeed::Reset { id, .. } => id,
            ClaimFeed::Events(_) => panic!("no number was given"),
        }
    }

    fn publish(&mut self) {
        let call = ClaimCall { request: self.work.request, settled_below: 0 };
        let progress = ClaimProgress { done: self.published() + 1, ..ClaimProgress::default() };
        self.board.progress(NOW, call, self.work.grant, progress).unwrap();
        let _ = self.board.take_effects();
    }

    /// Returns what the server sends next.
    fn pump(&self, fault: Option<Fault>) -> (Vec<Frame>, Option<ClaimEventId>) {
        let head = self.head();
        let mut last = self.sent;
        if fault == Some(Fault::NoEpochInId) {
            last = last.map(|id| ClaimEventId { epoch: head.epoch, ..id }).filter(|id| *id <= head);
        }
        let mut feed = self.board.feed(resource(), last);
        if fault == Some(Fault::NoOverrunCheck) && last.is_some_and(|id| id.epoch == head.epoch) {
            // It sends what there is.
            let oldest = (0..=head.sequence).map(|sequence| ClaimEventId { sequence, ..head });
            feed = oldest
                .map(|id| self.board.feed(resource(), Some(id.max(last.unwrap_or(id)))))
                .find(|feed| matches!(feed, ClaimFeed::Events(_)))
                .unwrap_or(feed);
        }
        match feed {
            ClaimFeed::Events(events) => {
                let frame = |event: &ClaimEvent| Frame::Event(event.id, self.base + event.id.sequence);
                (events.iter().map(frame).collect(), events.last().map(|event| event.id).or(self.sent))
            }
            ClaimFeed::Reset { id, snapshot } => {
                // The snapshot and its number are of one moment.
                let contains = self.base + id.sequence;
                let done = snapshot.owner.as_ref().map_or(0, |owner| owner.progress.done);
                assert!(done == contains || id.sequence == 1, "the snapshot has {done}, its number says {contains}");
                let frames = match fault {
                    Some(Fault::ResetWithoutId) => vec![Frame::Reset(None, Some(contains))],
                    Some(Fault::ResetInTwoEvents) => vec![Frame::Reset(Some(id), None), Frame::Snapshot(contains)],
                    Some(Fault::SnapshotByAddress) => vec![Frame::Reset(Some(id), None)],
                    _ => vec![Frame::Reset(Some(id), Some(contains))],
                };
                (frames, Some(id))
            }
        }
    }

    fn receive(&mut self, frame: Frame, fault: Option<Fault>) {
        match frame {
            Frame::Event(id, count) => {
                self.last_id = Some(id);
                let contains = self.contains.unwrap_or(0);
                self.lost |= count > contains + 1;
                self.doubled |= count <= contains;
                self.contains = Some(count);
                self.is_reset = false;
            }
            Frame::Reset(id, state) => {
                // Nothing has happened since the last one.
                self.reset_again |= self.is_reset && self.contains == state && state.is_some();
                self.is_reset = true;
                self.last_id = id.or(self.last_id);
                self.contains = state.or(self.contains);
                self.has_to_fetch = fault == Some(Fault::SnapshotByAddress);
            }
            Frame::Snapshot(state) => self.contains = Some(state),
            Frame::Heartbeat(id) => self.last_id = id.or(self.last_id),
        }
    }
}

impl Model for Events {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let (board, work) = begin(1);
        vec![State {
            board,
            work,
            base: 0,
            to_publish: 6,
            cuts: 3,
            restarts: 1,
            heartbeats: 1,
            stream: None,
            sent: None,
            last_id: None,
            contains: None,
            has_to_fetch: false,
            lost: false,
            doubled: false,
            reset_again: false,
            is_reset: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.to_publish > 0 {
            actions.push(Action::Publish);
        }
        if state.restarts > 0 {
            actions.push(Action::Restart);
        }
        match &state.stream {
            None => actions.push(Action::Connect),
            Some(frames) => {
                if !state.pump(self.fault).0.is_empty() {
                    actions.push(Action::Pump);
                }
                if state.heartbeats > 0 {
                    actions.push(Action::Heartbeat);
                }
                if !frames.is_empty() && !state.has_to_fetch {
                    actions.push(Action::Receive);
                }
                if state.has_to_fetch {
                    actions.push(Action::Fetch);
                }
                if state.cuts > 0 {
                    actions.push(Action::Cut);
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Publish => {
                state.to_publish -= 1;
                state.publish();
            }
            Action::Connect => {
                state.stream = Some(VecDeque::new());
                state.sent = state.last_id;
            }
            Action::Pump => {
                let (frames, sent) = state.pump(self.fault);
                state.stream.as_mut()?.extend(frames);
                state.sent = sent;
            }
            Action::Heartbeat => {
                state.heartbeats -= 1;
                let id = (self.fault == Some(Fault::IdOnHeartbeat)).then(|| state.head());
                state.stream.as_mut()?.push_back(Frame::Heartbeat(id));
            }
            Action::Receive => {
                let frame = state.stream.as_mut()?.pop_front()?;
                state.receive(frame, self.fault);
            }
            Action::Fetch => {
                state.has_to_fetch = false;
                state.contains = Some(state.published());
            }
            Action::Cut => {
                state.cuts -= 1;
                state.stream = None;
                state.has_to_fetch = false;
            }
            Action::Restart => {
                state.restarts -= 1;
                state.base = state.published();
                (state.board, state.work) = begin(state.board.epoch() + 1);
                state.stream = None;
                state.has_to_fetch = false;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no gap", |_, state: &State| !state.lost),
            Property::always("no doubled event", |_, state: &State| !state.doubled),
            Property::always("no second reset", |_, state: &State| !state.reset_again),
            // A subscriber that is connected and has received everything has the state of now.
            Property::always("nothing is missing", |model: &Self, state: &State| {
                let is_idle = state.stream.as_ref().is_some_and(VecDeque::is_empty);
                let is_current = state.contains == Some(state.published());
                !is_idle || state.has_to_fetch || is_current || !state.pump(model.fault).0.is_empty()
            }),
        ]
    }
}

#[test]
fn subscriber_loses_and_doubles_nothing() {
    let checker = Events { fault: None }.checker().threads(2).spawn_bfs().join();
    if let Some((invariant, path)) = checker.discoveries().into_iter().next() {
        panic!("{invariant} is violated after {:#?}", path.into_actions());
    }
    println!("events: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    assert!(checker.unique_state_count() > 10_000);
}

#[test]
fn every_fault_of_events_is_noticed() {
    for (fault, expected) in FAULTS {
        let model = Events { fault: Some(fault) };
        let checker = model.checker().threads(2).finish_when(HasDiscoveries::AllFailures).spawn_bfs().join();
        let found: Vec<&str> = checker.discoveries().into_keys().collect();
        println!("{fault:?}: {found:?}");
        assert!(found.contains(&expected), "{fault:?} violated {found:?}, expected {expected}");
    }
}
