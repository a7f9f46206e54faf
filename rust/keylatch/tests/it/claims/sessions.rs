//! Presence and time: streams, grace, validity and the end of a session.

use super::fixture::*;
use keylatch::claim::*;

/// Returns a session with a ttl of 30 s, an attached stream and the grace of 5 s.
fn attached(board: &mut ClaimBoard) -> (ClaimSessionId, ClaimStream) {
    let options = ClaimSessionOptions { ttl: Some(secs(30)), presence: ClaimPresence::Stream, ..Default::default() };
    let opened = board.open_session(T0, &options).unwrap();
    assert_eq!(opened.valid_for, Some(secs(5)));
    (opened.session, board.attach(T0, opened.session).unwrap())
}

#[test]
fn cut_waiter_is_passed_over_and_keeps_its_place() {
    let mut board = board();
    let (a, c) = (open(&mut board, "a"), open(&mut board, "c"));
    let (b, stream) = attached(&mut board);
    let first = owned(&ask(&mut board, a, 1));
    ask(&mut board, b, 1);
    ask(&mut board, c, 1);
    board.detach(T0, stream);
    board.complete(T0, call(a, 1), first.grant, Err("no".into())).unwrap();
    let second = owned(&look(&mut board, c, 1));
    board.attach(secs(4), b).unwrap();
    ask(&mut board, a, 2);
    board.complete(T0, call(c, 1), second.grant, Err("no".into())).unwrap();
    assert!(matches!(look(&mut board, b, 1), ClaimAnswer::Yours(_)), "it was ahead of the late one");
}

#[test]
fn cut_owner_is_freed_after_the_grace() {
    let mut board = board();
    let a = open(&mut board, "a");
    let (b, stream) = attached(&mut board);
    let mine = owned(&ask(&mut board, b, 1));
    ask(&mut board, a, 1);
    assert_eq!(board.renew(secs(2), b, 2, &[1]).unwrap().answers, [(1, ClaimAnswer::Yours(mine))]);
    board.detach(secs(2), stream);
    board.advance(secs(6));
    assert!(matches!(look(&mut board, a, 1), ClaimAnswer::Waiting { .. }));
    board.advance(secs(7));
    assert!(matches!(look(&mut board, a, 1), ClaimAnswer::Yours(_)));
    assert_eq!(board.renew(secs(7), b, 2, &[1]), Err(ClaimError::SessionGone));
}

#[test]
fn attaching_late_keeps_what_was_promised() {
    let mut board = board();
    let options = ClaimSessionOptions { ttl: Some(secs(30)), ..Default::default() };
    let opened = board.open_session(T0, &options).unwrap();
    assert_eq!(opened.valid_for, Some(secs(30)));
    let stream = board.attach(secs(1), opened.session).unwrap();
    board.detach(secs(1), stream);
    board.advance(secs(29));
    assert_eq!(board.figures().sessions, 1);
    board.advance(secs(30));
    assert_eq!(board.figures().sessions, 0);
}

#[test]
fn end_of_a_replaced_stream_is_ignored() {
    let mut board = board();
    let (b, old) = attached(&mut board);
    board.attach(secs(1), b).unwrap();
    board.detach(secs(1), old);
    board.advance(secs(29));
    assert_eq!(board.figures().sessions, 1);
}

#[test]
fn claim_in_the_grace_queues_without_a_grant() {
    let mut board = board();
    let (b, stream) = attached(&mut board);
    board.detach(T0, stream);
    assert_eq!(ask(&mut board, b, 1), ClaimAnswer::Waiting { ahead: 0 });
    board.attach(secs(1), b).unwrap();
    assert!(matches!(look(&mut board, b, 1), ClaimAnswer::Yours(_)));
}

#[test]
fn renewal_cancels_what_is_no_longer_open() {
    let mut board = board();
    let (a, b) = (open(&mut board, "a"), open(&mut board, "b"));
    ask(&mut board, a, 1);
    ask(&mut board, b, 1);
    // The cancellation of 1 got lost; 2 is not counted yet.
    ask(&mut board, a, 2);
    let renewed = board.renew(T0, a, 2, &[]).unwrap();
    assert_eq!(renewed, ClaimRenewal { valid_for: None, answers: vec![] });
    assert!(matches!(look(&mut board, b, 1), ClaimAnswer::Yours(_)));
    assert!(matches!(look(&mut board, a, 2), ClaimAnswer::Waiting { .. }));
    assert!(matches!(look(&mut board, a, 1), ClaimAnswer::Cancelled { grant: Some(_) }));
}

#[test]
fn session_end_hands_over_to_another_session() {
    let mut board = board();
    let (a, b) = (open(&mut board, "a"), open(&mut board, "b"));
    ask(&mut board, a, 1);
    ask(&mut board, a, 2);
    ask(&mut board, b, 1);
    board.end_session(T0, a).unwrap();
    assert!(matches!(look(&mut board, b, 1), ClaimAnswer::Yours(_)));
    let ended = ClaimEffect::SessionEnded { session: a, reason: ClaimLoss::SessionEnded };
    assert!(board.take_effects().contains(&ended));
}

#[test]
fn closing_ends_everything_and_grants_nothing() {
    let mut board = board();
    let (a, b) = (open(&mut board, "a"), open(&mut board, "b"));
    ask(&mut board, a, 1);
    ask(&mut board, b, 1);
    let _ = board.take_effects();
    board.close(T0);
    let figures = board.figures();
    assert_eq!((figures.sessions, figures.waiting, figures.owned), (0, 0, 0));
    let granted = |effect: &ClaimEffect| matches!(effect, ClaimEffect::Answered { answer: ClaimAnswer::Yours(_), .. });
    assert!(!board.take_effects().iter().any(granted));
}

#[test]
fn hosted_session_is_passed_over_and_kept() {
    let mut board = board();
    let ids = [3, 7, 9].map(|number| ClaimSessionId { epoch: board.epoch(), number });
    ids.iter().for_each(|id| board.open_hosted(T0, *id, "h".into()).unwrap());
    assert_eq!(board.open_hosted(T0, ids[0], "h".into()), Err(ClaimError::NumberInUse));
    assert_eq!(open(&mut board, "own").number, 10, "no number is used twice");
    let first = owned(&ask(&mut board, ids[0], 1));
    ask(&mut board, ids[1], 1);
    ask(&mut board, ids[2], 1);
    board.suspend(T0, ids[1]);
    board.complete(secs(1_000_000), call(ids[0], 1), first.grant, Err("x".into())).unwrap();
    let third = owned(&board.look_up(T0, call(ids[2], 1).request).unwrap().unwrap());
    board.resume(T0, ids[1]);
    assert_eq!(ask(&mut board, ids[1], 1), ClaimAnswer::Waiting { ahead: 0 }, "its place was kept");
    board.end_hosted(T0, ids[2], ClaimLoss::SessionExpired);
    let second = owned(&look(&mut board, ids[1], 1));
    assert!(second.grant.fence > third.grant.fence);
    board.settle(T0, ids[1], 2);
    assert_eq!(board.look_up(T0, call(ids[1], 1).request), Ok(None));
    assert_eq!(board.figures().owned, 0, "what was settled is given up");
}

#[test]
fn lent_fences_are_taken_back_and_hold_grants() {
    let mut board = board();
    let (a, b) = (open(&mut board, "a"), open(&mut board, "b"));
    let left = board.take_fences();
    assert_eq!(ask(&mut board, a, 1), ClaimAnswer::Waiting { ahead: 0 });
    ask(&mut board, b, 1);
    board.lend_fences(100..102);
    board.grant_idle(T0);
    assert_eq!(owned(&look(&mut board, a, 1)).grant.fence, 100);
    assert_eq!((board.take_fences(), left.start), (101..102, 1));
}
