//! The lock machine: grants, places, numbers.

use crate::small_world::{World, is_lost, item, limits, read, seconds, start, write};
use keylatch::Mode;
use keylatch_service::machine::{
    Answer, Ask, AttachPlan, KeyFilter, Limit, Limits, LockFilter, Open, Reason, Refusal, Start, Wait,
};
use std::time::Duration;

fn place(answer: Result<Answer, Refusal>) -> usize {
    match answer {
        Ok(Answer::Waiting { place, .. }) => place,
        other => panic!("{other:?}"),
    }
}

fn is_granted(answer: &Result<Answer, Refusal>) -> bool {
    matches!(answer, Ok(Answer::Granted { .. }))
}

#[test]
fn waiters_are_granted_in_order() {
    let mut world = World::new();
    let [a, b, c] = world.attached();
    assert!(is_granted(&world.lock(a, 1, write(&["x"]))));
    assert_eq!(place(world.lock(b, 1, write(&["x"]))), 1);
    assert_eq!(place(world.lock(c, 1, write(&["x"]))), 2);
    assert!(matches!(world.unlock(a, 1), Ok(Answer::Ended { .. })));
    assert_eq!(world.holders("x"), [b]);
    assert_eq!(place(world.lock(c, 1, write(&["x"]))), 1);
    assert!(matches!(world.unlock(b, 1), Ok(Answer::Ended { .. })));
    assert_eq!(world.holders("x"), [c]);
}

#[test]
fn readers_share_and_do_not_pass_a_writer() {
    let mut world = World::new();
    let [a, b, writer, late] = world.attached();
    assert!(is_granted(&world.lock(a, 1, read("x"))));
    assert!(is_granted(&world.lock(b, 1, read("x"))));
    assert_eq!(place(world.lock(writer, 1, write(&["x"]))), 1);
    assert_eq!(place(world.lock(late, 1, read("x"))), 2);
    let _ = (world.unlock(a, 1), world.unlock(b, 1));
    assert_eq!(world.holders("x"), [writer]);
    let _ = world.unlock(writer, 1);
    assert_eq!(world.holders("x"), [late]);
}

#[test]
fn readers_behind_a_released_writer_share() {
    let mut world = World::new();
    let [writer, a, b] = world.attached();
    let _ = world.lock(writer, 1, write(&["x"]));
    let _ = (world.lock(a, 1, read("x")), world.lock(b, 1, read("x")));
    let _ = world.unlock(writer, 1);
    assert_eq!(world.holders("x"), [a, b]);
}

#[test]
fn batch_holds_nothing_while_it_waits() {
    let mut world = World::new();
    let [a, batch, b] = world.attached();
    let _ = world.lock(a, 1, write(&["y"]));
    assert_eq!(place(world.lock(batch, 1, write(&["x", "y", "z"]))), 1);
    assert!(world.holders("x").is_empty());
    assert_eq!(place(world.lock(b, 1, write(&["z"]))), 2, "a later request does not pass a batch");
    let _ = world.unlock(a, 1);
    assert_eq!((world.holders("x"), world.holders("y"), world.holders("z")), (vec![batch], vec![batch], vec![batch]));
    let _ = world.cancel(batch, 1);
    assert_eq!(world.holders("z"), [b]);
}

#[test]
fn batches_in_opposite_orders_both_end() {
    let mut world = World::new();
    let [a, b, c] = world.attached();
    let _ = world.lock(c, 1, write(&["x", "y"]));
    let _ = (world.lock(a, 1, write(&["x", "y"])), world.lock(b, 1, write(&["y", "x"])));
    let _ = world.unlock(c, 1);
    assert_eq!(world.holders("x"), [a]);
    let _ = world.unlock(a, 1);
    assert_eq!(world.holders("y"), [b]);
}

#[test]
fn reader_behind_a_blocked_batch_reader_shares() {
    let mut world = World::new();
    let [holder, batch, reader] = world.attached();
    let _ = world.lock(holder, 1, write(&["y"]));
    let _ = world.lock(holder, 2, write(&["x"]));
    let both = vec![item("x", Mode::Shared), item("y", Mode::Shared)];
    let _ = world.lock(batch, 1, Ask::new(both, 0, Wait::Queue));
    let _ = world.lock(reader, 1, read("x"));
    let _ = world.unlock(holder, 2);
    assert_eq!(world.holders("x"), [reader], "the batch still waits for y");
}

#[test]
fn cancelled_head_lets_the_next_in() {
    let mut world = World::new();
    let [reader, writer, late] = world.attached();
    let _ = world.lock(reader, 1, read("x"));
    let _ = world.lock(writer, 1, write(&["x"]));
    let _ = world.lock(late, 1, read("x"));
    assert_eq!(world.cancel(writer, 1), Ok(Answer::Cancelled { grant: None }));
    assert_eq!(world.holders("x"), [reader, late]);
}

#[test]
fn repeated_lock_answers_the_same_grant() {
    let mut world = World::new();
    let [a, b] = world.attached();
    let first = world.lock(a, 1, write(&["x"]));
    assert_eq!(world.lock(a, 1, write(&["x"])), first);
    assert_eq!(place(world.lock(b, 4, write(&["x"]))), 1);
    let ended = world.unlock(a, 1);
    assert_eq!(world.unlock(a, 1), ended, "a doubled unlock is answered alike");
    assert_eq!(world.lock(a, 1, write(&["x"])), ended, "a late lock is not a new one");
    let granted = world.lock(b, 4, write(&["x"]));
    assert!(is_granted(&granted));
    assert_eq!(world.holders("x"), [b]);
}

#[test]
fn reused_number_is_refused() {
    let mut world = World::new();
    let [a] = world.attached();
    let _ = world.lock(a, 1, write(&["x"]));
    assert_eq!(world.lock(a, 1, write(&["y"])), Err(Refusal::NumberReused));
    assert_eq!(world.lock(a, 1, read("x")), Err(Refusal::NumberReused));
}

#[test]
fn early_cancel_stops_a_late_lock() {
    let mut world = World::new();
    let [a] = world.attached();
    assert_eq!(world.cancel(a, 9), Ok(Answer::Cancelled { grant: None }));
    assert_eq!(world.lock(a, 9, write(&["x"])), Ok(Answer::Cancelled { grant: None }));
    assert!(world.holders("x").is_empty());
}

#[test]
fn cancel_of_a_grant_releases_it() {
    let mut world = World::new();
    let [a, b] = world.attached();
    let Ok(Answer::Granted { grant }) = world.lock(a, 1, write(&["x"])) else { panic!("it was free") };
    let _ = world.lock(b, 1, write(&["x"]));
    assert_eq!(world.cancel(a, 1), Ok(Answer::Cancelled { grant: Some(grant) }));
    assert_eq!(world.holders("x"), [b]);
}

#[test]
fn settled_numbers_are_refused_and_freed() {
    let mut world = World::new();
    let [a, b] = world.attached();
    let _ = (world.lock(a, 1, write(&["x"])), world.lock(b, 1, write(&["x"])));
    world.clients[a].grants.clear();
    let call = keylatch_service::machine::Call { settled_below: 2, ..world.call(a) };
    assert_eq!(
        world.machine.lock(call, 1, write(&["x"])),
        Err(Refusal::StaleRequest { settled_below: 2 }),
        "its answer is settled"
    );
    assert_eq!(world.holders("x"), [b], "what was still held below has no client");
    assert_eq!(world.lock(a, 1, write(&["y"])), Err(Refusal::StaleRequest { settled_below: 2 }), "it never lowers");
    assert_eq!(world.unlock(a, 1), Err(Refusal::StaleRequest { settled_below: 2 }));
    assert_eq!(world.cancel(a, 1), Err(Refusal::StaleRequest { settled_below: 2 }));
}

#[test]
fn try_is_refused_and_remembered() {
    let mut world = World::new();
    let [a, b] = world.attached();
    let _ = world.lock(a, 1, write(&["x"]));
    let attempt = Ask { wait: Wait::Try, ..write(&["x"]) };
    let Ok(Answer::Refused { holders }) = world.lock(b, 1, attempt.clone()) else { panic!("it is held") };
    assert_eq!(&*holders[0].owner, "client-0");
    let _ = world.unlock(a, 1);
    assert!(matches!(world.lock(b, 1, attempt), Ok(Answer::Refused { .. })), "a doubled message takes no lock");
    assert_eq!(world.machine.keys(), 0);
}

#[test]
fn priority_stands_ahead_and_keeps_arrival_order() {
    let mut world = World::new();
    let [holder, low, high_one, high_two] = world.attached();
    let _ = world.lock(holder, 1, write(&["x"]));
    let _ = world.lock(low, 1, write(&["x"]));
    let high = Ask { priority: 9, ..write(&["x"]) };
    assert_eq!(place(world.lock(high_one, 1, high.clone())), 1);
    assert_eq!(place(world.lock(high_two, 1, high)), 2);
    for expected in [high_one, high_two, low] {
        let owner = world.holders("x")[0];
        let _ = world.unlock(owner, 1);
        assert_eq!(world.holders("x"), [expected]);
    }
}

#[test]
fn unlock_with_wrong_grant_changes_nothing() {
    let mut world = World::new();
    let [a, b] = world.attached();
    let Ok(Answer::Granted { grant }) = world.lock(a, 1, write(&["x"])) else { panic!("it was free") };
    let _ = world.lock(b, 1, write(&["x"]));
    let wrong = keylatch_service::machine::Grant { fence: grant.fence + 1, ..grant };
    assert_eq!(world.machine.unlock(world.call(a), 1, Some(wrong)), Err(Refusal::OtherGrant));
    assert_eq!(world.unlock(b, 1), Err(Refusal::StillQueued));
    assert_eq!(world.machine.unlock(world.call(b), 5, None), Err(Refusal::NotHeld));
    assert_eq!(world.holders("x"), [a]);
}

#[test]
fn force_release_by_filter_tells_the_holder() {
    let mut world = World::new();
    let [a, b, c] = world.attached();
    let _ = world.lock(a, 1, write(&["x", "y"]));
    let _ = world.lock(b, 1, write(&["x"]));
    let _ = world.lock(c, 1, write(&["z"]));
    let of_x =
        LockFilter { keys: KeyFilter { object: Some("x".into()), ..KeyFilter::default() }, ..LockFilter::default() };
    assert_eq!(world.force(&of_x).len(), 2, "a request is released whole");
    assert_eq!((world.holders("x"), world.holders("y"), world.holders("z")), (vec![b], vec![], vec![c]));
    assert!(is_lost(&world.unlock(a, 1), Reason::Forced));
    assert!(is_lost(&world.lock(a, 1, write(&["x", "y"])), Reason::Forced));
}

#[test]
fn force_release_spares_what_it_may_not_touch() {
    let mut world = World::new();
    let [a] = world.attached();
    let _ = world.lock(a, 1, write(&["x", "y"]));
    let released =
        world.machine.force_release(world.now, &LockFilter::default(), &|key| key.object() == b"x".as_slice());
    assert!(released.is_empty(), "one key of the request is out of scope");
    assert_eq!(world.holders("y"), [a]);
}

#[test]
fn limits_are_exact() {
    let small = Limits { waiters: 1, keys: 2, open_requests: 3, sessions: 2, ..limits() };
    let mut world = World::with(small, start());
    let [a, b] = world.attached();
    let full = |what, limit| Err(Refusal::Full { what, limit });
    assert_eq!(
        world.machine.open(world.now, open_request(seconds(1))).map(|_| ()),
        full(Limit::Sessions, 2).map(|_: Answer| ())
    );
    assert!(is_granted(&world.lock(a, 1, write(&["x", "y"]))));
    assert_eq!(world.lock(a, 2, write(&["z"])), full(Limit::Keys, 2));
    assert_eq!(place(world.lock(b, 1, write(&["x"]))), 1);
    assert_eq!(world.lock(b, 2, write(&["x"])), full(Limit::Waiters, 1));
    assert!(matches!(world.lock(b, 2, Ask { wait: Wait::Try, ..read("x") }), Ok(Answer::Refused { .. })));
    assert_eq!(world.cancel(b, 3), Ok(Answer::Cancelled { grant: None }));
    assert_eq!(world.lock(b, 4, read("x")), full(Limit::OpenRequests, 3));
    assert_eq!(world.cancel(b, 4), full(Limit::OpenRequests, 3));
}

fn open_request(ttl: Duration) -> Open {
    Open { owner: "curl".into(), principal: "".into(), ttl, attach: AttachPlan::RenewsOnly }
}

#[test]
fn implicit_session_ends_with_its_lock() {
    let mut world = World::new();
    let [a] = world.attached();
    let _ = world.lock(a, 1, write(&["x"]));
    let now = world.now;
    let attempt = Ask { wait: Wait::Try, ..write(&["x"]) };
    let (_, refused) = world.machine.lock_implicit(now, open_request(seconds(5)), 1, attempt).unwrap();
    assert!(matches!(refused, Answer::Refused { .. }));
    assert_eq!(world.machine.sessions(), 1);
    let (session, granted) = world.machine.lock_implicit(now, open_request(seconds(5)), 1, write(&["y"])).unwrap();
    assert!(matches!(granted, Answer::Granted { .. }));
    let call = keylatch_service::machine::Call { session, ..world.call(a) };
    assert!(matches!(world.machine.unlock(call, 1, None), Ok(Answer::Ended { .. })));
    assert_eq!(world.machine.unlock(call, 1, None), Err(Refusal::SessionGone));
    assert_eq!((world.machine.sessions(), world.machine.keys()), (1, 1));
}

#[test]
fn implicit_lease_begins_with_the_grant() {
    let mut world = World::new();
    let [a] = world.attached();
    let _ = world.lock(a, 1, write(&["x"]));
    let (session, _) = world.machine.lock_implicit(world.now, open_request(seconds(5)), 1, write(&["x"])).unwrap();
    world.pass(seconds(4));
    let _ = world.unlock(a, 1);
    assert_eq!(world.machine.promised_from(session.number, world.now), seconds(5));
    world.now += seconds(5);
    world.machine.tick(world.now);
    assert_eq!(world.machine.keys(), 0);
}

#[test]
fn quiet_period_queues_then_grants() {
    let mut world = World::with(limits(), Start { quiet: seconds(3), ..start() });
    let client = world.open(AttachPlan::RenewsOnly);
    let call = world.call(client);
    let attempt = Ask { wait: Wait::Try, ..write(&["x"]) };
    assert_eq!(world.machine.lock(call, 1, attempt), Err(Refusal::Quiet { wait: seconds(3) }));
    assert!(matches!(world.machine.lock(call, 1, write(&["x"])), Ok(Answer::Waiting { place: 1, .. })));
    assert_eq!(world.machine.tick(world.now), Some(seconds(3)), "it asks to be called when the quiet is over");
    world.now = seconds(3);
    world.machine.tick(world.now);
    assert_eq!(world.holders("x"), [client]);
}

#[test]
fn exhausted_fences_stop_grants_until_more_come() {
    let mut world = World::with(limits(), Start { fences: 5..6, ..start() });
    let [a, b] = world.attached();
    assert!(is_granted(&world.lock(a, 1, write(&["x"]))));
    let now = world.now;
    let attempt = Ask { wait: Wait::Try, ..write(&["y"]) };
    assert_eq!(world.machine.lock(world.call(b), 1, attempt), Err(Refusal::NoFences));
    assert!(matches!(world.machine.lock(world.call(b), 1, write(&["y"])), Ok(Answer::Waiting { .. })));
    assert!(world.machine.wants_fences());
    world.machine.allot_fences(now, 6..100);
    assert_eq!(world.holders("y"), [b]);
}

#[test]
fn closing_grants_nothing_and_reports_free() {
    let mut world = World::new();
    let [a, b] = world.attached();
    let _ = world.lock(a, 1, write(&["x"]));
    let _ = world.lock(b, 1, write(&["x"]));
    let now = world.now;
    assert!(!world.machine.close(now));
    assert_eq!(world.machine.lock(world.call(a), 2, write(&["y"])), Err(Refusal::Closing));
    assert!(matches!(world.machine.unlock(world.call(a), 1, None), Ok(Answer::Ended { .. })));
    assert!(world.machine.close(now), "the waiter was not granted");
}
