//! A board with sessions that ask about one resource.

use keylatch::KeyRef;
use keylatch::claim::*;
use std::time::Duration;

pub(crate) const T0: Duration = Duration::ZERO;

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn layer() -> KeyRef<'static> {
    KeyRef::new("layers", "sha256:4711")
}

pub(crate) fn policy() -> ClaimPolicy {
    ClaimPolicy::default()
}

pub(crate) fn board() -> ClaimBoard {
    ClaimBoard::new(ClaimConfig::default(), ClaimStart::default()).unwrap()
}

pub(crate) fn open(board: &mut ClaimBoard, owner: &str) -> ClaimSessionId {
    board.open_session(T0, &ClaimSessionOptions { owner: owner.into(), ..Default::default() }).unwrap().session
}

pub(crate) fn call(session: ClaimSessionId, number: u64) -> ClaimCall {
    ClaimCall { request: ClaimRequestId { session, number }, settled_below: 0 }
}

pub(crate) fn ask(board: &mut ClaimBoard, session: ClaimSessionId, number: u64) -> ClaimAnswer {
    board.claim(T0, call(session, number), layer(), &policy()).unwrap()
}

pub(crate) fn owned(answer: &ClaimAnswer) -> ClaimOwned {
    match answer {
        ClaimAnswer::Yours(owned) => *owned,
        other => panic!("expected a grant, got {other:?}"),
    }
}

pub(crate) fn look(board: &mut ClaimBoard, session: ClaimSessionId, number: u64) -> ClaimAnswer {
    board.look_up(T0, ClaimRequestId { session, number }).unwrap().unwrap()
}

/// The changes that were published about the resource since its first event.
pub(crate) fn changes(board: &ClaimBoard) -> Vec<ClaimChange> {
    let start = ClaimEventId { epoch: board.epoch(), sequence: 0 };
    match board.feed(layer(), Some(start)) {
        ClaimFeed::Events(events) => events.into_iter().map(|event| event.change).collect(),
        ClaimFeed::Reset { .. } => panic!("the ring is large enough"),
    }
}
