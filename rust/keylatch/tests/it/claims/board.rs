//! The rules of requests: hand-over, repetition, outcomes and policies.

use super::fixture::*;
use keylatch::KeyRef;
use keylatch::claim::*;

#[test]
fn failure_hands_over_before_it_is_published() {
    let mut board = board();
    let (a, b, c) = (open(&mut board, "a"), open(&mut board, "b"), open(&mut board, "c"));
    let first = owned(&ask(&mut board, a, 1));
    assert_eq!(ask(&mut board, b, 1), ClaimAnswer::Waiting { ahead: 0 });
    assert_eq!(ask(&mut board, c, 1), ClaimAnswer::Waiting { ahead: 1 });
    let _ = board.take_effects();
    board.complete(T0, call(a, 1), first.grant, Err("disk full".into())).unwrap();
    let second = owned(&look(&mut board, b, 1));
    assert_eq!((second.attempt, second.first_in_epoch), (2, false));
    assert!(second.grant.fence > first.grant.fence);
    let request = ClaimRequestId { session: b, number: 1 };
    let published = changes(&board);
    assert!(matches!(&published[1], ClaimChange::Failed { next: Some(next), fence, .. }
        if *next == request && *fence == first.grant.fence));
    assert!(matches!(&published[2], ClaimChange::Granted { request: granted, owned, .. }
        if *granted == request && *owned == second));
    // The answers come before the events.
    let effects = board.take_effects();
    assert!(matches!(&effects[1], ClaimEffect::Answered { request: answered, .. } if *answered == request));
    assert!(matches!(&effects[2], ClaimEffect::Published { .. }));
    // It asks again: the same grant. The third goes on waiting.
    assert_eq!(owned(&ask(&mut board, b, 1)), second);
    assert_eq!(ask(&mut board, c, 1), ClaimAnswer::Waiting { ahead: 0 });
}

#[test]
fn success_answers_everyone_in_line_and_later() {
    let mut board = board();
    let (a, b) = (open(&mut board, "a"), open(&mut board, "b"));
    let mine = owned(&ask(&mut board, a, 1));
    ask(&mut board, b, 1);
    board.complete(T0, call(a, 1), mine.grant, Ok("here".into())).unwrap();
    let ClaimAnswer::Done(outcome) = look(&mut board, b, 1) else { panic!("it waited") };
    assert_eq!((&outcome.result, &*outcome.owner), (&Ok("here".into()), "a"));
    assert!(matches!(ask(&mut board, b, 2), ClaimAnswer::Done(_)));
    // The outcome is forgotten, the answer is not.
    board.advance(secs(601));
    assert!(matches!(look(&mut board, b, 1), ClaimAnswer::Done(_)));
    assert!(matches!(ask(&mut board, b, 1), ClaimAnswer::Done(_)));
    assert_eq!(owned(&ask(&mut board, b, 3)).attempt, 1);
    assert!(changes(&board).contains(&ClaimChange::Forgotten));
}

#[test]
fn completion_repeated_gets_its_stored_answer() {
    let mut board = board();
    let (a, b) = (open(&mut board, "a"), open(&mut board, "b"));
    let mine = owned(&ask(&mut board, a, 1));
    ask(&mut board, b, 1);
    let first = board.complete(T0, call(a, 1), mine.grant, Err("no".into())).unwrap();
    // A doubled message, and one with another result: neither touches the next owner.
    assert_eq!(board.complete(T0, call(a, 1), mine.grant, Ok("yes".into())).unwrap(), first);
    assert_eq!(ask(&mut board, a, 1), first);
    assert!(matches!(look(&mut board, b, 1), ClaimAnswer::Yours(_)));
    let foreign = board.complete(T0, call(b, 1), mine.grant, Ok("yes".into()));
    assert!(matches!(foreign, Err(ClaimError::NotYours { answer: Some(ClaimAnswer::Yours(_)) })));
}

#[test]
fn cancel_before_its_claim_leaves_a_tombstone() {
    let mut board = board();
    let a = open(&mut board, "a");
    let cancelled = ClaimAnswer::Cancelled { grant: None };
    assert_eq!(board.cancel(T0, call(a, 1)).unwrap(), cancelled);
    assert_eq!(ask(&mut board, a, 1), cancelled);
    assert_eq!(board.figures().owned, 0);
}

#[test]
fn cancel_of_an_owner_hands_over() {
    let mut board = board();
    let (a, b) = (open(&mut board, "a"), open(&mut board, "b"));
    let mine = owned(&ask(&mut board, a, 1));
    ask(&mut board, b, 1);
    assert_eq!(board.cancel(T0, call(a, 1)).unwrap(), ClaimAnswer::Cancelled { grant: Some(mine.grant) });
    assert_eq!(owned(&look(&mut board, b, 1)).attempt, 2);
}

#[test]
fn raising_settled_below_ends_what_is_below() {
    let mut board = board();
    let (a, b) = (open(&mut board, "a"), open(&mut board, "b"));
    ask(&mut board, a, 1);
    ask(&mut board, b, 1);
    ask(&mut board, a, 2);
    let raised = ClaimCall { settled_below: 3, ..call(a, 3) };
    assert_eq!(board.claim(T0, raised, layer(), &policy()).unwrap(), ClaimAnswer::Waiting { ahead: 0 });
    assert!(matches!(look(&mut board, b, 1), ClaimAnswer::Yours(_)));
    let late = board.claim(T0, call(a, 2), layer(), &policy());
    assert_eq!(late, Err(ClaimError::StaleRequest { settled_below: 3 }));
}

#[test]
fn number_of_another_resource_is_refused() {
    let mut board = board();
    let a = open(&mut board, "a");
    ask(&mut board, a, 1);
    let other = board.claim(T0, call(a, 1), KeyRef::new("layers", "other"), &policy());
    assert_eq!(other, Err(ClaimError::NumberInUse));
}

#[test]
fn session_of_another_epoch_is_refused() {
    let a = open(&mut board(), "a");
    let mut next = ClaimBoard::new(ClaimConfig::default(), ClaimStart { epoch: 2, ..Default::default() }).unwrap();
    assert_eq!(next.claim(T0, call(a, 1), layer(), &policy()), Err(ClaimError::EpochChanged { epoch: 2 }));
}

#[test]
fn attempts_used_up_answer_everyone_with_failure() {
    let mut board = board();
    let (a, b) = (open(&mut board, "a"), open(&mut board, "b"));
    let twice = ClaimPolicy { max_attempts: Some(2), ..policy() };
    let first = owned(&board.claim(T0, call(a, 1), layer(), &twice).unwrap());
    board.complete(T0, call(a, 1), first.grant, Err("broken".into())).unwrap();
    let second = owned(&board.claim(T0, call(a, 2), layer(), &twice).unwrap());
    ask(&mut board, b, 2);
    board.complete(T0, call(a, 2), second.grant, Err("broken".into())).unwrap();
    let ClaimAnswer::Done(outcome) = look(&mut board, b, 2) else { panic!("two attempts failed") };
    assert_eq!((&outcome.result, outcome.attempt), (&Err("broken".into()), 2));
    assert!(board.forget(T0, layer()));
    assert_eq!(owned(&ask(&mut board, b, 3)).attempt, 1);
}

#[test]
fn retry_after_keeps_the_order_of_the_line() {
    let mut board = board();
    let (a, b, c) = (open(&mut board, "a"), open(&mut board, "b"), open(&mut board, "c"));
    let pause = ClaimPolicy { retry_after: secs(2), ..policy() };
    let mine = owned(&board.claim(T0, call(a, 1), layer(), &pause).unwrap());
    ask(&mut board, b, 1);
    board.complete(T0, call(a, 1), mine.grant, Err("no".into())).unwrap();
    assert_eq!(ask(&mut board, c, 1), ClaimAnswer::Waiting { ahead: 1 });
    assert_eq!(board.next_deadline(), Some(secs(2)));
    board.advance(secs(2));
    assert!(matches!(look(&mut board, b, 1), ClaimAnswer::Yours(_)));
}

#[test]
fn skip_is_answered_with_the_owner() {
    let mut board = board();
    let (a, b) = (open(&mut board, "a"), open(&mut board, "b"));
    let skip = ClaimPolicy { when_taken: ClaimWhenTaken::Skip, ..policy() };
    assert!(matches!(board.claim(T0, call(a, 1), layer(), &skip).unwrap(), ClaimAnswer::Yours(_)));
    let skipped = ClaimAnswer::Skipped { owner: Some("a".into()) };
    assert_eq!(board.claim(T0, call(b, 1), layer(), &skip).unwrap(), skipped);
    assert_eq!(board.figures().waiting, 0);
}

#[test]
fn latest_only_takes_the_places_of_all_waiters() {
    let mut board = board();
    let (a, b, c) = (open(&mut board, "a"), open(&mut board, "b"), open(&mut board, "c"));
    ask(&mut board, a, 1);
    ask(&mut board, b, 1);
    let latest = ClaimPolicy { line: ClaimLine::LatestOnly, ..policy() };
    assert_eq!(board.claim(T0, call(c, 1), layer(), &latest).unwrap(), ClaimAnswer::Waiting { ahead: 0 });
    let by = ClaimRequestId { session: c, number: 1 };
    assert_eq!(look(&mut board, b, 1), ClaimAnswer::Superseded { by });
    assert!(matches!(look(&mut board, a, 1), ClaimAnswer::Yours(_)));
}

#[test]
fn full_line_refuses_and_keeps_nothing() {
    let mut board = board();
    let (a, b, c) = (open(&mut board, "a"), open(&mut board, "b"), open(&mut board, "c"));
    let short = ClaimPolicy { max_waiting: Some(1), ..policy() };
    let mine = owned(&ask(&mut board, a, 1));
    board.claim(T0, call(b, 1), layer(), &short).unwrap();
    let full = board.claim(T0, call(c, 1), layer(), &short);
    assert_eq!(full, Err(ClaimError::LineFull { limit: 1 }));
    board.complete(T0, call(a, 1), mine.grant, Err("no".into())).unwrap();
    assert_eq!(board.claim(T0, call(c, 1), layer(), &short).unwrap(), ClaimAnswer::Waiting { ahead: 0 });
}

#[test]
fn lease_that_ends_is_a_failure() {
    let mut board = board();
    let (a, b) = (open(&mut board, "a"), open(&mut board, "b"));
    let leased = ClaimPolicy { lease: Some(secs(3)), ..policy() };
    let mine = owned(&board.claim(T0, call(a, 1), layer(), &leased).unwrap());
    ask(&mut board, b, 1);
    board.renew_grant(secs(2), call(a, 1), mine.grant, Some(secs(3))).unwrap();
    board.advance(secs(4));
    assert_eq!(board.remaining(secs(4), call(a, 1).request, mine.grant).unwrap(), Some(secs(1)));
    board.advance(secs(5));
    assert!(matches!(look(&mut board, b, 1), ClaimAnswer::Yours(_)));
    let late = board.complete(secs(5), call(a, 1), mine.grant, Ok("late".into())).unwrap();
    assert_eq!(late, ClaimAnswer::Lost(ClaimLoss::LeaseExpired));
}

#[test]
fn force_release_is_a_failure() {
    let mut board = board();
    let (a, b) = (open(&mut board, "a"), open(&mut board, "b"));
    let mine = owned(&ask(&mut board, a, 1));
    ask(&mut board, b, 1);
    assert_eq!(board.force_release(T0, layer()), Some(mine.grant));
    assert_eq!(look(&mut board, a, 1), ClaimAnswer::Lost(ClaimLoss::ForceReleased));
    assert!(matches!(look(&mut board, b, 1), ClaimAnswer::Yours(_)));
}

#[test]
fn board_without_fences_grants_when_it_gets_some() {
    let start = ClaimStart { epoch: 1, fences: 10..11, quiet_until: T0 };
    let mut board = ClaimBoard::new(ClaimConfig::default(), start).unwrap();
    let (a, b) = (open(&mut board, "a"), open(&mut board, "b"));
    let mine = owned(&ask(&mut board, a, 1));
    assert_eq!((mine.grant.fence, board.fences_left()), (10, 0));
    ask(&mut board, b, 1);
    board.complete(T0, call(a, 1), mine.grant, Err("no".into())).unwrap();
    assert!(matches!(look(&mut board, b, 1), ClaimAnswer::Waiting { .. }));
    board.add_fences(T0, 20);
    assert_eq!(owned(&look(&mut board, b, 1)).grant.fence, 11);
}

#[test]
fn quiet_period_holds_grants_back() {
    let start = ClaimStart { epoch: 2, fences: 1..9, quiet_until: secs(5) };
    let mut board = ClaimBoard::new(ClaimConfig::default(), start).unwrap();
    let a = open(&mut board, "a");
    assert_eq!(ask(&mut board, a, 1), ClaimAnswer::Waiting { ahead: 0 });
    board.advance(secs(5));
    assert!(matches!(look(&mut board, a, 1), ClaimAnswer::Yours(_)));
}

#[test]
fn outcomes_beyond_the_count_are_forgotten() {
    let config = ClaimConfig { retain_count: 2, ..ClaimConfig::default() };
    let mut board = ClaimBoard::new(config, ClaimStart::default()).unwrap();
    let a = open(&mut board, "a");
    for number in 1..=5_u64 {
        let name = number.to_string();
        let key = KeyRef::new("layers", &name);
        let mine = owned(&board.claim(T0, call(a, number), key, &policy()).unwrap());
        board.complete(T0, call(a, number), mine.grant, Ok("".into())).unwrap();
    }
    assert_eq!(board.figures().resources, 2);
    let retained: Vec<String> = board.snapshots().map(|it| it.resource.to_string()).collect();
    assert_eq!(retained, ["layers/4", "layers/5"]);
}

#[test]
fn inputs_beyond_their_limits_are_refused() {
    let mut board = board();
    let a = open(&mut board, "a");
    let long = "x".repeat(9_000);
    let key = board.claim(T0, call(a, 1), KeyRef::new("layers", &long), &policy());
    assert!(matches!(key, Err(ClaimError::TooLong { what: "key", .. })));
    let mine = owned(&ask(&mut board, a, 1));
    let note = board.complete(T0, call(a, 1), mine.grant, Ok(long.as_str().into()));
    assert!(matches!(note, Err(ClaimError::TooLong { what: "note", .. })));
    let endless = ClaimPolicy { lease: Some(std::time::Duration::MAX), ..policy() };
    assert!(matches!(board.claim(T0, call(a, 2), layer(), &endless), Err(ClaimError::InvalidTtl { .. })));
    let never = ClaimPolicy { retry_after: std::time::Duration::MAX, ..policy() };
    let other = KeyRef::new("layers", "other");
    let held = owned(&board.claim(T0, call(a, 3), other, &never).unwrap());
    board.complete(T0, call(a, 3), held.grant, Err("no".into())).unwrap();
    for number in 10..1_032 {
        board.cancel(T0, call(a, number)).unwrap();
    }
    assert_eq!(board.cancel(T0, call(a, 9)), Err(ClaimError::TooManyOpen { limit: 1_024 }));
    board.cancel(T0, ClaimCall { settled_below: 500, ..call(a, 2_000) }).unwrap();
}
