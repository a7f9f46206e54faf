//! What subscribers receive, when, and what it costs the others.

use crate::steps::*;
use keylatch::{
    Event, EventOptions, Events, Fairness, FastObjectLockManager, Filter, LockConfig, LockError, LockRequest, Mode,
    Victim,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_millis(2);

fn waits(above: Duration) -> EventOptions {
    EventOptions { wait_above: Some(above), ..EventOptions::default() }
}

fn holds(above: Duration) -> EventOptions {
    EventOptions { hold_above: Some(above), ..EventOptions::default() }
}

fn all(events: &Events) -> Vec<Event> {
    std::iter::from_fn(|| events.try_next()).collect()
}

/// Returns a request that gives up after a moment; its key is held.
fn too_late(locks: &FastObjectLockManager, object: &str, owner: &str) -> LockError {
    locks.lock(LockRequest::write(("b", object)).owner(owner).timeout(SOON)).blocking().unwrap_err()
}

#[test]
fn timeout_event_names_holders() {
    let locks = few_shards(Fairness::Fifo);
    let events = locks.subscribe(EventOptions::default());
    let node = locks.owner_with_source("late", "replicator");
    let _held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let request = LockRequest::read(("b", "o")).owner(node).timeout(SOON);
    let error = locks.lock(request).blocking().unwrap_err();
    let [Event::Timeout { key, mode, owner, source, waited, holders, .. }] = &all(&events)[..] else {
        panic!("one event")
    };
    assert_eq!((key.to_string().as_str(), *mode, &**owner, *source), ("b/o", Mode::Shared, "late", "replicator"));
    assert!(*waited >= SOON, "{waited:?}");
    assert_eq!((holders.named.len(), &*holders.named[0].owner), (1, "holder"));
    let LockError::Timeout { holders: of_error, .. } = error else { panic!("{error}") };
    assert_eq!(&of_error, holders, "error and event say the same");

    // A future's timeout comes from the timer, a queue's too.
    let mut future = ByHand::new(locks.lock(LockRequest::read(("b", "o")).owner("future").timeout(SOON)));
    assert!(future.after_wakes().is_err());
    let queue = locks.completion_queue().unwrap();
    drop(locks.lock(LockRequest::read(("b", "o")).owner("mail").timeout(SOON)).with_queue(&queue, 0).unwrap());
    assert!(queue.next(Some(FOREVER)).unwrap().unwrap().result.is_err());
    let owners: Vec<_> = std::iter::from_fn(|| events.next(Some(FOREVER)))
        .take(2)
        .map(|event| match event {
            Event::Timeout { owner, .. } => owner.to_string(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(owners, ["future", "mail"]);

    // A request that did not wait did not give up waiting.
    assert!(locks.try_acquire_read_lock("b", "o", "x").is_err());
    assert!(locks.lock(LockRequest::read(("b", "o")).timeout(Duration::ZERO)).blocking().is_err());
    drop(ByHand::waiting(locks.acquire_read_lock("b", "o", "x")));
    assert_eq!(all(&events), []);
}

/// A writer that gives up lets the reader behind it in, which was in no one's way.
#[test]
fn timeout_event_leaves_out_later_holders() {
    let locks = few_shards(Fairness::Fifo);
    let events = locks.subscribe(EventOptions::default());
    let _held = locks.acquire_read_lock_blocking("b", "o", "in the way").unwrap();
    let queue = locks.completion_queue().unwrap();
    loop {
        let request = LockRequest::write(("b", "o")).owner("writer").timeout(Duration::from_millis(20));
        let submitted = locks.lock(request).with_queue(&queue, 0).unwrap();
        let mut behind = ByHand::new(locks.acquire_read_lock("b", "o", "let in"));
        let stood_behind = behind.poll().is_pending();
        drop(submitted);
        let result = queue.next(Some(FOREVER)).unwrap().unwrap().result;
        let Err(LockError::Timeout { holders, waited, .. }) = result else { panic!("{result:?}") };
        assert!(waited >= Duration::from_millis(20));
        assert_eq!(holders.named.iter().map(|holder| &*holder.owner).collect::<Vec<_>>(), ["in the way"]);
        let Some(Event::Timeout { holders: reported, .. }) = events.try_next() else {
            panic!("reported before the answer")
        };
        assert_eq!(reported, holders);
        if stood_behind {
            // Otherwise the writer had given up before the other was in line, and it is done again.
            drop(behind.after_wakes().unwrap());
            return;
        }
    }
}

#[test]
fn slow_wait_event_from_threshold_on() {
    let locks = few_shards(Fairness::Fifo);
    let (patient, curious) = (locks.subscribe(waits(FOREVER)), locks.subscribe(waits(Duration::ZERO)));
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let mut granted = ByHand::waiting(locks.acquire_read_lock("b", "o", "granted"));
    drop(ByHand::waiting(locks.acquire_write_lock("b", "o", "cancelled")));
    assert!(matches!(too_late(&locks, "o", "late"), LockError::Timeout { .. }));
    drop(held);
    let read = granted.ready().unwrap();
    let reported: Vec<_> = all(&curious)
        .into_iter()
        .map(|event| match event {
            Event::SlowWait { owner, granted, waited, mode, .. } => {
                assert!(waited > Duration::ZERO);
                format!("{owner} {mode} {granted}")
            }
            Event::Timeout { owner, .. } => format!("{owner} gave up"),
            other => panic!("{other}"),
        })
        .collect();
    let expected = ["cancelled exclusive false", "late exclusive false", "late gave up", "granted shared true"];
    assert_eq!(reported, expected);
    assert!(matches!(all(&patient)[..], [Event::Timeout { .. }]), "no wait took for ever");
    drop(read);

    // An upgrade waits too.
    let mut one = locks.acquire_read_lock_blocking("b", "o", "one").unwrap();
    let two = locks.acquire_read_lock_blocking("b", "o", "two").unwrap();
    let mut upgrade = ByHand::waiting(one.upgrade(None));
    drop(two);
    upgrade.ready().unwrap();
    let reported = all(&curious);
    assert!(
        matches!(&reported[..], [Event::SlowWait { owner, granted: true, mode: Mode::Exclusive, .. }] if &**owner == "one")
    );
    assert!(reported[0].to_string().starts_with("one waited "), "{}", reported[0]);
}

#[test]
fn slow_hold_event_from_threshold_on() {
    let locks = few_shards(Fairness::Fifo);
    let before = locks.try_acquire_write_lock("b", "before", "before").unwrap();
    let (patient, curious) = (locks.subscribe(holds(FOREVER)), locks.subscribe(holds(Duration::ZERO)));
    let slow_hold = |owner: &str, mode: Mode| {
        let reported = all(&curious);
        let [Event::SlowHold { owner: its_owner, mode: its_mode, .. }] = &reported[..] else { panic!("{reported:?}") };
        assert_eq!((&**its_owner, *its_mode), (owner, mode));
    };
    drop(before);
    slow_hold("before", Mode::Exclusive);
    drop(locks.try_acquire_write_lock("b", "o", "try").unwrap());
    slow_hold("try", Mode::Exclusive);
    drop(locks.acquire_read_lock_blocking("b", "o", "thread").unwrap());
    slow_hold("thread", Mode::Shared);
    drop(ByHand::new(locks.acquire_write_lock("b", "o", "future")).ready().unwrap());
    slow_hold("future", Mode::Exclusive);
    let grant = locks.acquire_write_lock_blocking("b", "o", "number").unwrap().into_grant();
    assert_eq!(all(&curious), []);
    locks.release(grant).unwrap();
    slow_hold("number", Mode::Exclusive);
    let mut guard = locks.try_acquire_write_lock("b", "o", "downgraded").unwrap();
    guard.downgrade();
    drop(guard);
    slow_hold("downgraded", Mode::Shared);
    let session = locks.session("session");
    drop(locks.lock(LockRequest::write(("b", "o")).owner(&session)).blocking().unwrap());
    slow_hold("session", Mode::Exclusive);
    let held = locks.try_acquire_write_lock("b", "o", "first").unwrap();
    let mut waits = ByHand::waiting(locks.acquire_write_lock("b", "o", "second"));
    drop(held);
    slow_hold("first", Mode::Exclusive);
    drop(waits.ready().unwrap());
    slow_hold("second", Mode::Exclusive);
    assert_eq!(all(&patient), []);
    drop((patient, curious));
    assert_at_rest(&locks);
}

#[test]
fn a_hold_is_as_long_as_it_was() {
    let locks = few_shards(Fairness::Fifo);
    let events = locks.subscribe(holds(SOON));
    let began = Instant::now();
    let held = locks.try_acquire_write_lock("b", "o", "x").unwrap();
    let taken = Instant::now();
    until("the threshold", || taken.elapsed() > SOON);
    let (held_at_least, key) = (taken.elapsed(), held.key());
    drop(held);
    let Some(Event::SlowHold { held_for, key: reported, .. }) = events.try_next() else { panic!("it was long") };
    assert_eq!(reported, key);
    assert!(held_for >= held_at_least && held_for <= began.elapsed(), "{held_for:?}");
}

#[test]
fn fast_path_returns_without_hold_subscriber() {
    let locks = few_shards(Fairness::default());
    let fast = || locks.get_metrics().shard_metrics.fast;
    let use_it = || (0..10).for_each(|_| drop(locks.try_acquire_write_lock("b", "o", "x").unwrap()));
    use_it();
    let others = locks.subscribe(waits(Duration::ZERO));
    let before = fast();
    use_it();
    assert_eq!(fast(), before + 10, "waits cost only those who wait");
    let (one, two) = (locks.subscribe(holds(FOREVER)), locks.subscribe(holds(FOREVER)));
    use_it();
    drop(one);
    use_it();
    assert_eq!(fast(), before + 10, "holds are timed");
    drop(two);
    use_it();
    assert_eq!(fast(), before + 20);
    let late = locks.subscribe(holds(FOREVER));
    locks.close();
    drop(late);
    assert!(matches!(locks.try_acquire_write_lock("b", "o", "x"), Err(LockError::Closed)));
    drop(others);
}

#[test]
fn a_full_queue_drops_what_comes_and_counts_it() {
    let locks = few_shards(Fairness::Fifo);
    let small = locks.subscribe(EventOptions { capacity: 2, ..EventOptions::default() });
    let none = locks.subscribe(EventOptions { capacity: 0, ..EventOptions::default() });
    let large = locks.subscribe(EventOptions::default());
    let _held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    for owner in ["1", "2", "3", "4", "5"] {
        too_late(&locks, "o", owner);
    }
    let owners = |events: &Events| -> Vec<String> {
        let owner =
            |event| if let Event::Timeout { owner, .. } = event { owner.to_string() } else { panic!("{event}") };
        all(events).into_iter().map(owner).collect()
    };
    assert_eq!((owners(&small), small.dropped()), (vec!["1".into(), "2".into()], 3));
    assert_eq!((owners(&none), none.dropped()), (vec!["1".into()], 4));
    assert_eq!((owners(&large).len(), large.dropped()), (5, 0));
    too_late(&locks, "o", "6");
    assert_eq!((owners(&small), small.dropped()), (vec!["6".into()], 3), "there is room again");
}

#[test]
fn event_wakes_waiting_subscriber() {
    let locks = few_shards(Fairness::Fifo);
    let mut events = locks.subscribe(EventOptions::default());
    assert_eq!(events.next(Some(Duration::ZERO)), None);
    assert_eq!(events.next(Some(SOON)), None);
    let _held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    {
        let mut next = ByHand::waiting(events.recv());
        too_late(&locks, "o", "late");
        assert_eq!(next.wakes(), 1);
        assert!(matches!(next.ready(), Some(Event::Timeout { .. })));
    }
    // A future that is dropped loses nothing.
    drop(ByHand::waiting(events.recv()));
    too_late(&locks, "o", "later");
    assert!(matches!(ByHand::new(events.recv()).ready(), Some(Event::Timeout { .. })));

    let other = locks.clone();
    let reported = within("an event", move || {
        std::thread::scope(|scope| {
            let listening = scope.spawn(|| events.next(None));
            too_late(&other, "o", "last");
            listening.join().unwrap()
        })
    });
    assert!(matches!(reported, Some(Event::Timeout { .. })));
}

#[test]
fn events_end_with_their_manager() {
    let locks = few_shards(Fairness::Fifo);
    let mut events = locks.subscribe(EventOptions::default());
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    too_late(&locks, "o", "late");
    drop(held);
    let sleeping = locks.subscribe(EventOptions::default());
    let sleeper = std::thread::spawn(move || sleeping.next(None));
    // A subscription keeps nothing open.
    drop(locks);
    assert!(matches!(within("its end", || sleeper.join().unwrap()), None | Some(Event::Timeout { .. })));
    assert!(matches!(ByHand::new(events.recv()).ready(), Some(Event::Timeout { .. })), "what came before is kept");
    assert_eq!(ByHand::new(events.recv()).ready(), None);
    assert_eq!(events.next(None), None);

    let locks = few_shards(Fairness::Fifo);
    let mut events = locks.subscribe(EventOptions::default());
    let mut next = ByHand::waiting(events.recv());
    locks.close();
    assert_eq!((next.wakes(), next.ready()), (1, None));
    assert_eq!(locks.subscribe(EventOptions::default()).next(None), None, "too late to hear of anything");
}

#[test]
fn expired_lease_event() {
    let locks = few_shards(Fairness::Fifo);
    let events = locks.subscribe(EventOptions::default());
    let request = LockRequest::write(("b", "o")).owner("slow").ttl(SOON);
    let slow = locks.lock(request).blocking().unwrap();
    let fence = slow.fence();
    let next = locks.acquire_write_lock_blocking("b", "o", "next").unwrap();
    let Some(Event::Expired(hold)) = events.try_next() else { panic!("reported before the next one has it") };
    assert_eq!((&*hold.owner, hold.key.to_string().as_str(), hold.fence), ("slow", "b/o", Some(fence)));
    assert_eq!(hold.lease, Some(Duration::ZERO));
    drop((slow, next));
    assert_eq!(all(&events), []);
}

#[test]
fn forced_release_event_for_each_loss() {
    let locks = few_shards(Fairness::Fifo);
    let events = locks.subscribe(EventOptions::default());
    let session = locks.session_with_source("txn-17", "sql");
    let guard = locks.lock(LockRequest::write(("b", "o")).owner(&session)).blocking().unwrap();
    let fence = guard.fence();
    let number = locks.lock(LockRequest::read(("b", "p")).owner(&session)).grant_now().unwrap();
    let other = locks.try_acquire_read_lock("b", "p", "other").unwrap();
    assert_eq!(locks.force_release(&Filter::new().owner("txn-17")).len(), 2);
    let mut reported: Vec<_> = all(&events)
        .into_iter()
        .map(|event| match event {
            Event::Forced(hold) => (hold.key.to_string(), hold.mode, hold.owner.to_string(), hold.source, hold.fence),
            other => panic!("{other}"),
        })
        .collect();
    reported.sort();
    let expected = [("b/o", Mode::Exclusive, Some(fence)), ("b/p", Mode::Shared, None)];
    assert_eq!(reported, expected.map(|(key, mode, fence)| (key.to_owned(), mode, "txn-17".to_owned(), "sql", fence)));
    // What is gone is not lost again, and released in vain without a word.
    assert!(locks.force_release(&Filter::new().owner("txn-17")).is_empty());
    assert!(guard.try_release().is_err() && locks.release(number).is_err());
    drop(session);
    let last = locks.session("last").release_on_drop(true);
    let held = locks.lock(LockRequest::write(("b", "o")).owner(&last)).blocking().unwrap();
    drop(last);
    let [Event::Forced(hold)] = &all(&events)[..] else { panic!("a session that takes its locks along") };
    assert_eq!(&*hold.owner, "last");
    drop((held, other));
    assert_at_rest(&locks);
}

#[test]
fn deadlock_event_equals_victims_error() {
    for victim in [Victim::Asker, Victim::Youngest] {
        let locks = with(LockConfig { deadlock_delay: Some(Duration::ZERO), victim, ..LockConfig::default() });
        let (events, full) = (
            locks.subscribe(EventOptions::default()),
            locks.subscribe(EventOptions { capacity: 1, ..EventOptions::default() }),
        );
        let (old, young) = (locks.session_with_source("old", "sql"), locks.session("young"));
        let write = |object, session| LockRequest::write(("b", object)).owner(session);
        let x = locks.lock(write("x", &old)).blocking().unwrap();
        let y = locks.lock(write("y", &young)).blocking().unwrap();
        for round in 1..=2 {
            let mut first = ByHand::waiting(locks.lock(write("x", &young)));
            let mut second = ByHand::new(locks.lock(write("y", &old)));
            let error = match (victim, second.poll()) {
                (Victim::Asker, Poll::Ready(Err(error))) => error,
                (_, Poll::Pending) => first.after_wakes().unwrap_err(),
                (_, other) => panic!("{other:?}"),
            };
            let LockError::Deadlock { key, cycle } = error else { panic!("{error}") };
            let event = events.try_next().expect("reported before the one who gives way goes on");
            let Event::Deadlock { key: at, cycle: reported, .. } = &event else { panic!("{event}") };
            assert_eq!((at, reported), (&key, &cycle));
            assert_eq!(locks.recent_deadlocks().last().unwrap().links, cycle);
            assert!(cycle.iter().any(|link| (&*link.session, link.source) == ("old", "sql")));
            for said in [
                r#"old waits for "b"/"y" (exclusive)"#,
                r#"young waits for "b"/"x" (exclusive)"#,
                "held exclusive by the next",
            ] {
                assert!(event.to_string().contains(said), "{event}");
            }
            assert_eq!((events.try_next(), full.dropped()), (None, round - 1));
        }
        drop((x, y));
        assert_at_rest(&locks);
    }
}

/// Does what it likes when it is woken.
struct Nosy {
    locks: FastObjectLockManager,
    woken: AtomicUsize,
}

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        // Would hang if the mutex of the shard, or that of the subscribers, were held.
        drop(self.locks.try_acquire_write_lock("b", "free", "nosy").unwrap());
        let _ = self.locks.holders(&keylatch::Filter::new());
        drop(self.locks.subscribe(holds(Duration::ZERO)));
        self.woken.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn who_is_woken_may_use_the_manager() {
    within("a waker that uses the manager", || {
        let locks = with(LockConfig { shards: 1, fairness: Fairness::Fifo, ..LockConfig::default() });
        let mut events = locks.subscribe(waits(Duration::ZERO));
        let nosy = Arc::new(Nosy { locks: locks.clone(), woken: AtomicUsize::new(0) });
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        let mut waiting = ByHand::waiting(locks.acquire_write_lock("b", "o", "next"));
        let mut next = ByHand::new(events.recv());
        assert!(next.poll_with(&Waker::from(Arc::clone(&nosy))).is_pending());
        drop(held);
        assert_eq!(nosy.woken.load(Ordering::SeqCst), 1);
        assert!(next.ready().is_some());
        drop(waiting.ready().unwrap());
    });
}

#[test]
fn each_hold_has_one_event_under_load() {
    const EACH: usize = 3000;
    let locks = few_shards(Fairness::default());
    let events = locks.subscribe(EventOptions { capacity: 1 << 20, ..holds(Duration::ZERO) });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|thread| {
                let locks = &locks;
                scope.spawn(move || {
                    let owner = format!("thread-{thread}");
                    for n in 0..EACH {
                        let mode = if n % 3 == 0 { Mode::Exclusive } else { Mode::Shared };
                        let object = [(n % 7) as u8];
                        let request = LockRequest::new(("b", &object), mode).owner(&owner);
                        drop(locks.lock(request).blocking().unwrap());
                    }
                })
            })
            .collect();
        // Others come and go meanwhile.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                drop(locks.subscribe(EventOptions { wait_above: Some(SOON), ..holds(SOON) }));
                let _ = locks.holders(&keylatch::Filter::new());
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    let mut reported: HashMap<String, usize> = HashMap::new();
    for event in all(&events) {
        let Event::SlowHold { owner, .. } = event else { panic!("{event}") };
        *reported.entry(owner.to_string()).or_default() += 1;
    }
    assert_eq!(reported.len(), 4);
    assert!(reported.values().all(|count| *count == EACH), "{reported:?}");
    assert_eq!(events.dropped(), 0);
    drop(events);
    assert_at_rest(&locks);
}

/// Returns whether a descriptor is readable now.
fn is_readable(descriptor: std::os::fd::BorrowedFd<'_>) -> bool {
    use std::os::fd::AsRawFd;
    let mut asked = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd that lives through the call.
    unsafe { libc::poll(&raw mut asked, 1, 0) == 1 }
}

#[test]
fn descriptor_is_readable_while_events_wait() {
    let locks = few_shards(Fairness::Fifo);
    let (early, late) = (locks.subscribe(EventOptions::default()), locks.subscribe(EventOptions::default()));
    let _held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    assert!(!is_readable(early.descriptor().unwrap()));
    for _ in 0..2 {
        too_late(&locks, "o", "late");
    }
    // Asked for after the events have come, it is readable already.
    for events in [&early, &late] {
        let descriptor = events.descriptor().unwrap();
        assert!(is_readable(descriptor));
        assert!(events.try_next().is_some() && is_readable(descriptor), "one is left");
        assert!(events.try_next().is_some() && events.try_next().is_none());
        assert!(!is_readable(descriptor), "silent once all were fetched");
    }
    too_late(&locks, "o", "late");
    locks.close();
    for events in [&early, &late] {
        let descriptor = events.descriptor().unwrap();
        assert!(events.is_closed() && events.try_next().is_some() && events.try_next().is_none());
        assert!(is_readable(descriptor), "the end stays to be seen");
    }
}

#[test]
fn closed_subscription_wakes_its_readers() {
    let locks = few_shards(Fairness::Fifo);
    let (ended, other) = (locks.subscribe(EventOptions::default()), locks.subscribe(EventOptions::default()));
    let _held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    too_late(&locks, "o", "first");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| std::iter::from_fn(|| ended.next(None)).count());
        ended.close();
        assert!(reader.join().unwrap() <= 1, "what had come may still be fetched");
    });
    too_late(&locks, "o", "second");
    ended.close();
    assert!(ended.is_closed() && all(&ended).len() <= 1);
    assert!(!other.is_closed());
    assert_eq!(all(&other).len(), 2, "the others hear on");
}
