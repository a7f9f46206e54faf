//! The machine with a tier that the test plays.

use keylatch::{Mode, ObjectKey};
use keylatch_service::machine::{
    Answer, Ask, AttachPlan, Call, EventKind, Item, Limits, LockFilter, Machine, Open, Reason, Refusal, Replay,
    RequestKey, SessionName, Start, TierNote, Wait,
};
use std::time::Duration;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

struct World {
    machine: Machine,
    session: SessionName,
    now: Duration,
}

impl World {
    fn new() -> Self {
        let start = Start { epoch: 3, fences: 1..1_000, quiet: Duration::ZERO };
        let mut machine = Machine::new(Limits::default(), start);
        machine.use_tier();
        let now = seconds(1);
        machine.note_lease(now, Some((1, seconds(10))));
        let open = Open { owner: "o".into(), principal: "p".into(), ttl: seconds(30), attach: AttachPlan::RenewsOnly };
        let session = machine.open(now, open).unwrap().session;
        Self { machine, session, now }
    }

    fn call(&self) -> Call<'static> {
        Call { now: self.now, session: self.session, principal: "p", settled_below: 0 }
    }

    fn lock(&mut self, number: u64, objects: &[&str], wait: Wait) -> Answer {
        let item = |object: &&str| Item { key: ObjectKey::new("b", object), mode: Mode::Exclusive };
        let ask = Ask::new(objects.iter().map(item).collect(), 0, wait);
        self.machine.lock(self.call(), number, ask).unwrap()
    }

    fn key(&self, number: u64) -> RequestKey {
        RequestKey { session: self.session.number, number }
    }

    /// Returns what the tier is asked, and what it gets back, by number.
    fn notes(&mut self) -> (Vec<u64>, Vec<u64>) {
        let (mut asked, mut over) = (Vec::new(), Vec::new());
        for note in self.machine.take_tier_notes() {
            match note {
                TierNote::Ask(ask) => asked.push(ask.request.number),
                TierNote::Over(request) => over.push(request.number),
            }
        }
        (asked, over)
    }

    fn granted(&mut self, number: u64, fence: u64) -> bool {
        self.machine.tier_granted(self.now, self.key(number), fence)
    }
}

fn waits(answer: &Answer) -> bool {
    matches!(answer, Answer::Waiting { .. })
}

#[test]
fn tier_grants_in_turn_with_its_fences() {
    let mut world = World::new();
    assert!(waits(&world.lock(1, &["x", "y"], Wait::Queue)) && waits(&world.lock(2, &["y"], Wait::Queue)));
    assert_eq!(world.notes(), (vec![1], vec![]), "the second waits for the first, here");
    assert!(world.granted(1, 70));
    assert!(!world.granted(1, 71), "it holds already");
    let Answer::Granted { grant } = world.lock(1, &["x", "y"], Wait::Queue) else { panic!("it holds") };
    assert_eq!((grant.epoch, grant.fence), (3, 70));
    let _ = world.machine.unlock(world.call(), 1, Some(grant)).unwrap();
    assert_eq!(world.notes(), (vec![2], vec![1]));
    assert!(world.granted(2, 80));
    assert_eq!((world.machine.holds(), world.machine.waiting()), (1, 0));
}

#[test]
fn reserved_ends_by_cancel_and_by_session() {
    let mut world = World::new();
    let _ = world.lock(1, &["x"], Wait::Queue);
    assert_eq!(world.machine.unlock(world.call(), 1, None), Err(Refusal::StillQueued));
    let _ = world.machine.cancel(world.call(), 1).unwrap();
    assert_eq!(world.notes(), (vec![1], vec![1]));
    assert!(!world.granted(1, 70), "the grant comes too late");
    let _ = (world.lock(2, &["x"], Wait::Queue), world.lock(3, &["x"], Wait::Queue));
    assert_eq!(world.notes().0, [2]);
    world.machine.end(world.call()).unwrap();
    let (asked, over) = world.notes();
    assert_eq!(over.iter().filter(|&&number| number == 2).count(), 1);
    assert_eq!(asked, over.iter().copied().filter(|&number| number != 2).collect::<Vec<_>>(), "each ask is over");
    assert_eq!((world.machine.keys(), world.machine.waiting()), (0, 0));
}

#[test]
fn try_waits_for_the_answer_of_the_tier() {
    let mut world = World::new();
    assert!(waits(&world.lock(1, &["x"], Wait::Try)));
    assert!(matches!(world.lock(2, &["x"], Wait::Try), Answer::Refused { .. }), "it is not free here");
    assert!(waits(&world.lock(3, &["x"], Wait::Queue)));
    world.machine.tier_refused(world.now, world.key(1));
    assert!(matches!(world.lock(1, &["x"], Wait::Try), Answer::Refused { .. }));
    assert_eq!(world.notes(), (vec![1, 3], vec![1]), "the next is asked for");
    assert_eq!(world.machine.take_settled(), [world.key(1)]);
}

#[test]
fn holds_under_another_lease_are_lost() {
    let mut world = World::new();
    let _ =
        (world.lock(1, &["x"], Wait::Queue), world.lock(2, &["y"], Wait::Queue), world.lock(3, &["x"], Wait::Queue));
    assert!(world.granted(1, 70));
    let renewed = world.machine.renew(world.call(), None, &[]).unwrap();
    assert_eq!(renewed.valid, seconds(10), "the lease lasts for less than the session");
    let _ = world.notes();
    world.machine.note_lease(world.now, None);
    assert!(matches!(world.lock(1, &["x"], Wait::Queue), Answer::Lost { reason: Reason::TierLost, .. }));
    assert!(waits(&world.lock(2, &["y"], Wait::Queue)), "what waits goes on");
    assert_eq!(world.notes(), (vec![3], vec![1]));
    assert_eq!(world.machine.promised_from(world.session.number, world.now), Duration::ZERO);
    world.machine.note_lease(world.now, Some((2, seconds(10))));
    assert!(world.granted(2, 90) && world.granted(3, 91));
    world.machine.tier_lost(world.now, world.key(2));
    assert!(matches!(world.lock(2, &["y"], Wait::Queue), Answer::Lost { reason: Reason::TierLost, .. }));
}

#[test]
fn closing_gives_up_what_is_asked_for() {
    let mut world = World::new();
    let _ = world.lock(1, &["x"], Wait::Queue);
    assert!(world.machine.close(world.now), "nothing is held");
    assert_eq!(world.notes(), (vec![1], vec![1]));
    assert!(!world.granted(1, 70));
}

#[test]
fn refused_try_ends_its_own_session() {
    let mut world = World::new();
    let open = Open { owner: "u".into(), principal: "p".into(), ttl: seconds(30), attach: AttachPlan::RenewsOnly };
    let ask = || {
        let item = Item { key: ObjectKey::new("b", "x"), mode: Mode::Exclusive };
        Ask::new(vec![item], 0, Wait::Try)
    };
    let sessions = world.machine.sessions();
    for is_late in [false, true] {
        let (session, answer) = world.machine.lock_implicit(world.now, open.clone(), 1, ask()).unwrap();
        assert!(waits(&answer));
        let key = RequestKey { session: session.number, number: 1 };
        let call = Call { session, ..world.call() };
        if is_late {
            // The caller's time is over first.
            assert!(matches!(world.machine.end_try(call, 1), Ok(Answer::Refused { .. })));
        } else {
            world.machine.tier_refused(world.now, key);
        }
        assert_eq!(world.machine.sessions(), sessions, "nothing is left of it");
        assert_eq!(world.machine.end_try(call, 1), Err(Refusal::SessionGone));
        assert!(!world.machine.tier_granted(world.now, key, 70));
    }
    // A session that was opened goes on.
    assert!(waits(&world.lock(1, &["x"], Wait::Try)));
    assert!(matches!(world.machine.end_try(world.call(), 1), Ok(Answer::Refused { .. })));
    assert!(matches!(world.lock(1, &["x"], Wait::Try), Answer::Refused { .. }));
    assert!(waits(&world.lock(2, &["x"], Wait::Try)) && world.granted(2, 80));
    assert!(matches!(world.machine.end_try(world.call(), 2), Ok(Answer::Granted { .. })));
}

#[test]
fn reserved_listed_as_waiting_not_as_holder() {
    let mut world = World::new();
    assert!(waits(&world.lock(1, &["x"], Wait::Queue)));
    let Answer::Waiting { place, holders } = world.lock(2, &["x"], Wait::Queue) else { panic!("it waits") };
    assert_eq!((place, holders.len()), (2, 0), "who is first has the key no more than the second");
    let everything = LockFilter::default();
    let rows = |world: &World| -> Vec<(u64, usize)> {
        let rows = world.machine.waiters(world.now, &everything, None, 10).rows;
        rows.iter().map(|row| (row.request.number, row.place)).collect()
    };
    assert_eq!(rows(&world), [(1, 1), (2, 2)]);
    assert!(world.machine.locks(world.now, &everything, None, 10).rows.is_empty());
    assert!(world.granted(1, 70));
    assert_eq!(rows(&world), [(2, 1)]);
    let Answer::Waiting { place, holders } = world.lock(2, &["x"], Wait::Queue) else { panic!("it waits") };
    assert_eq!((place, holders.len()), (1, 1));
}

#[test]
fn events_of_the_tier_come_in_pairs() {
    let mut world = World::new();
    let _ = (world.lock(1, &["x"], Wait::Queue), world.lock(2, &["y"], Wait::Try));
    let _ = world.machine.cancel(world.call(), 1).unwrap();
    world.machine.tier_refused(world.now, world.key(2));
    let Replay::Events { events, .. } = world.machine.events_after(0, 100) else { panic!("all are there") };
    let kinds: Vec<_> = events.iter().map(|event| (event.request.number, event.kind)).collect();
    assert_eq!(kinds, [(1, EventKind::Queued), (1, EventKind::Left)], "a try takes no place and leaves none");
}
