//! Every sequence of steps of a small world, and long random ones of a larger one.

use crate::small_world::{GRACE, TTL, World, item, read, seconds, write};
use keylatch::Mode;
use keylatch_service::machine::{Ask, AttachPlan, KeyFilter, LockFilter, Wait};
use proptest::prelude::*;
use std::time::Duration;

/// A step that a client, the network or time takes.
#[derive(Debug, Clone, Copy)]
enum Step {
    Lock(usize, u64),
    Unlock(usize, u64),
    Cancel(usize, u64),
    Renew(usize),
    Cut(usize),
    Attach(usize),
    End(usize),
    Force(usize),
    Pass(Duration),
}

/// Returns what a client asks for under a number.
fn ask(client: usize, number: u64) -> Ask {
    let object = ["x", "y", "z"][(number as usize / 4) % 3];
    match (client as u64 + number) % 4 {
        0 => read(object),
        1 => write(&["x", "y"]),
        2 => Ask { priority: 3, ..write(&[object]) },
        _ => Ask::new(vec![item("x", Mode::Shared), item("z", Mode::Exclusive)], 0, Wait::Queue),
    }
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Lock(client, number) => drop(world.lock(client, number, ask(client, number))),
        Step::Unlock(client, number) => drop(world.unlock(client, number)),
        Step::Cancel(client, number) => drop(world.cancel(client, number)),
        Step::Renew(client) => drop(world.renew(client)),
        Step::Cut(client) => world.cut(client),
        Step::Attach(client) => drop(world.attach(client)),
        Step::End(client) => drop(world.end(client)),
        Step::Force(object) => {
            let object = Some(["x", "y", "z"][object].to_owned());
            drop(
                world
                    .force(&LockFilter { keys: KeyFilter { object, ..KeyFilter::default() }, ..LockFilter::default() }),
            );
        }
        Step::Pass(time) => world.pass(time),
    }
}

/// Takes each step from a world, and goes on from each world that comes of it.
fn explore(world: &World, steps: &[Step], depth: usize) -> usize {
    if depth == 0 {
        return 1;
    }
    steps
        .iter()
        .map(|step| {
            let mut next = world.clone();
            take(&mut next, *step);
            explore(&next, steps, depth - 1)
        })
        .sum()
}

fn depth(default: usize) -> usize {
    std::env::var("KEYLATCH_SERVICE_DEPTH").ok().and_then(|depth| depth.parse().ok()).unwrap_or(default)
}

#[test]
fn every_sequence_of_a_small_world_is_sound() {
    let mut world = World::new();
    let [a, b] = world.attached();
    let steps = [
        Step::Lock(a, 1),
        Step::Lock(b, 1),
        Step::Lock(b, 2),
        Step::Unlock(a, 1),
        Step::Cancel(b, 1),
        Step::Renew(a),
        Step::Cut(a),
        Step::Cut(b),
        Step::Attach(a),
        Step::Attach(b),
        Step::Pass(GRACE),
    ];
    let depth = depth(4);
    assert_eq!(explore(&world, &steps, depth), steps.len().pow(depth as u32));
}

#[test]
fn every_sequence_with_late_attach_is_sound() {
    let mut world = World::new();
    let (a, b) = (world.open(AttachPlan::RenewsOnly), world.open(AttachPlan::RenewsOnly));
    let steps = [
        Step::Lock(a, 2),
        Step::Lock(b, 1),
        Step::Renew(a),
        Step::Attach(a),
        Step::Cut(a),
        Step::Renew(b),
        Step::Force(0),
        Step::Pass(GRACE),
        Step::Pass(TTL - GRACE),
    ];
    let depth = depth(4);
    assert_eq!(explore(&world, &steps, depth), steps.len().pow(depth as u32));
}

fn any_step() -> impl Strategy<Value = Step> {
    let client = 0..6usize;
    let number = 1..24u64;
    prop_oneof![
        8 => (client.clone(), number.clone()).prop_map(|(client, number)| Step::Lock(client, number)),
        4 => (client.clone(), number.clone()).prop_map(|(client, number)| Step::Unlock(client, number)),
        2 => (client.clone(), number).prop_map(|(client, number)| Step::Cancel(client, number)),
        4 => client.clone().prop_map(Step::Renew),
        2 => client.clone().prop_map(Step::Cut),
        3 => client.clone().prop_map(Step::Attach),
        1 => client.prop_map(Step::End),
        1 => (0..3usize).prop_map(Step::Force),
        3 => prop_oneof![Just(10), Just(700), Just(1900), Just(2100)].prop_map(|ms| Step::Pass(Duration::from_millis(ms))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: depth(4) as u32 * 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_sequences_are_sound_and_leave_nothing(steps in prop::collection::vec(any_step(), 1..200)) {
        let mut world = World::new();
        for client in 0..6 {
            world.open(if client % 3 == 0 { AttachPlan::RenewsOnly } else { AttachPlan::Attaches });
        }
        for step in steps {
            take(&mut world, step);
        }
        for client in 0..6 {
            drop(world.end(client));
        }
        prop_assert_eq!((world.machine.keys(), world.machine.waiting(), world.machine.sessions()), (0, 0, 0));
        world.pass(seconds(100));
        prop_assert_eq!(world.machine.tick(world.now), None);
    }
}
