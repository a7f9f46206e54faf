//! The lock machine: sessions, presence and time.

use crate::small_world::{GRACE, TTL, World, seconds, write};
use keylatch_service::machine::{Answer, AttachPlan, Call, Reason, Refusal, SessionName};
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn cut_holder_is_freed_after_the_grace() {
    let mut world = World::new();
    let [a, b] = world.attached();
    let _ = (world.lock(a, 1, write(&["x"])), world.lock(b, 1, write(&["x"])));
    world.pass(seconds(3));
    let _ = world.renew(b);
    world.cut(a);
    world.pass(GRACE - MOMENT);
    assert_eq!(world.holders("x"), [a]);
    let _ = world.renew(b);
    world.pass(MOMENT);
    assert_eq!(world.holders("x"), [b]);
    assert_eq!(world.unlock(a, 1), Err(Refusal::SessionGone));
}

#[test]
fn detached_holder_is_freed_after_its_ttl() {
    let mut world = World::new();
    let a = world.open(AttachPlan::RenewsOnly);
    let b = world.open(AttachPlan::RenewsOnly);
    let _ = (world.lock(a, 1, write(&["x"])), world.lock(b, 1, write(&["x"])));
    world.pass(TTL - MOMENT);
    assert_eq!(world.renew(b), Ok(TTL));
    assert_eq!(world.holders("x"), [a]);
    world.pass(MOMENT);
    assert_eq!(world.holders("x"), [b]);
}

#[test]
fn cut_waiter_is_passed_over_and_keeps_its_place() {
    let mut world = World::new();
    let [holder, cut, next, last] = world.attached();
    for client in [holder, cut, next, last] {
        let _ = world.lock(client, 1, write(&["x"]));
    }
    world.cut(cut);
    let _ = world.unlock(holder, 1);
    assert_eq!(world.holders("x"), [next], "a cut waiter delays no hand-over");
    world.attach(cut).unwrap();
    let _ = world.unlock(next, 1);
    assert_eq!(world.holders("x"), [cut], "its place was kept");
}

#[test]
fn cut_writer_ahead_does_not_hold_back_readers() {
    let mut world = World::new();
    let [reader, writer, late] = world.attached();
    let _ = world.lock(reader, 1, crate::small_world::read("x"));
    let _ = world.lock(writer, 1, write(&["x"]));
    let _ = world.lock(late, 1, crate::small_world::read("x"));
    assert_eq!(world.holders("x"), [reader]);
    world.cut(writer);
    assert_eq!(world.holders("x"), [reader, late]);
}

#[test]
fn grace_over_removes_the_place() {
    let mut world = World::new();
    let [holder, cut] = world.attached();
    let _ = (world.lock(holder, 1, write(&["x"])), world.lock(cut, 1, write(&["x"])));
    world.cut(cut);
    world.pass(GRACE);
    assert_eq!(world.machine.waiting(), 0);
    assert_eq!(world.attach(cut), Err(Refusal::SessionGone));
}

#[test]
fn cut_session_queues_without_grants() {
    let mut world = World::new();
    let [a] = world.attached();
    world.cut(a);
    assert!(matches!(world.lock(a, 1, write(&["x"])), Ok(Answer::Waiting { place: 1, .. })));
    world.attach(a).unwrap();
    assert_eq!(world.holders("x"), [a]);
}

#[test]
fn renewal_in_grace_extends_by_the_grace_only() {
    let mut world = World::new();
    let [a] = world.attached();
    let _ = world.lock(a, 1, write(&["x"]));
    world.cut(a);
    for _ in 0..4 {
        world.pass(GRACE - MOMENT);
        assert_eq!(world.renew(a), Ok(GRACE));
    }
    assert_eq!(world.holders("x"), [a]);
    world.pass(GRACE);
    assert!(world.holders("x").is_empty());
}

#[test]
fn end_of_a_replaced_stream_changes_nothing() {
    let mut world = World::new();
    let [a] = world.attached();
    let _ = world.lock(a, 1, write(&["x"]));
    let old = world.clients[a].stream.unwrap();
    world.attach(a).unwrap();
    world.machine.detach(world.now, old);
    for _ in 0..4 {
        world.pass(GRACE);
        let _ = world.renew(a);
    }
    assert_eq!(world.holders("x"), [a]);
}

#[test]
fn late_attach_then_cut_keeps_the_first_promise() {
    let mut world = World::new();
    let a = world.open(AttachPlan::RenewsOnly);
    let _ = world.lock(a, 1, write(&["x"]));
    world.attach(a).unwrap();
    world.cut(a);
    world.pass(TTL - MOMENT); // The checks of the world see two believers here.
    assert_eq!(world.holders("x"), [a]);
    world.pass(MOMENT);
    assert!(world.holders("x").is_empty());
}

#[test]
fn renewal_cancels_what_it_does_not_list() {
    let mut world = World::new();
    let [a, b] = world.attached();
    let _ = (world.lock(a, 1, write(&["x"])), world.lock(a, 2, write(&["y"])), world.lock(a, 5, write(&["z"])));
    let _ = (world.lock(b, 1, write(&["x"])), world.lock(b, 2, write(&["y"])));
    world.clients[a].grants.remove(&1);
    let renewed = world.machine.renew(world.call(a), Some(5), &[2, 3]).unwrap();
    assert_eq!(renewed.requests.len(), 1, "3 is not known: {renewed:?}");
    assert!(matches!(renewed.requests[0], (2, Answer::Granted { .. })));
    assert_eq!((world.holders("x"), world.holders("y"), world.holders("z")), (vec![b], vec![a], vec![a]));
}

#[test]
fn renewal_never_revives_a_lost_hold() {
    let mut world = World::new();
    let [a] = world.attached();
    let _ = world.lock(a, 1, write(&["x"]));
    world.force(&keylatch_service::machine::LockFilter::default());
    let renewed = world.machine.renew(world.call(a), Some(2), &[1]).unwrap();
    assert!(matches!(renewed.requests[0], (1, Answer::Lost { reason: Reason::Forced, .. })));
    assert!(world.holders("x").is_empty());
}

#[test]
fn calls_of_other_epochs_and_clients_are_refused() {
    let mut world = World::new();
    let [a] = world.attached();
    let call = world.call(a);
    let refused = |session: SessionName, principal: &'static str, world: &mut World| {
        let call = Call { session, principal, ..call };
        world.machine.renew(call, None, &[]).unwrap_err()
    };
    let session = call.session;
    assert_eq!(refused(SessionName { epoch: 6, ..session }, "", &mut world), Refusal::EpochChanged);
    assert_eq!(refused(SessionName { number: 99, ..session }, "", &mut world), Refusal::UnknownSession);
    assert_eq!(refused(SessionName { number: 0, ..session }, "", &mut world), Refusal::UnknownSession);
    assert_eq!(refused(session, "mallory", &mut world), Refusal::UnknownSession);
    world.end(a).unwrap();
    assert_eq!(refused(session, "", &mut world), Refusal::SessionGone);
}

#[test]
fn ended_session_hands_over_and_leaves_nothing() {
    let mut world = World::new();
    let [a, b] = world.attached();
    let _ = (world.lock(a, 1, write(&["x", "y"])), world.lock(b, 1, write(&["y"])), world.lock(a, 2, write(&["y"])));
    world.end(a).unwrap();
    assert_eq!((world.holders("y"), world.machine.keys(), world.machine.waiting()), (vec![b], 1, 0));
    world.end(b).unwrap();
    assert_eq!((world.machine.keys(), world.machine.sessions()), (0, 0));
}
