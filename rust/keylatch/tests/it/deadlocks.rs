//! Circles of sessions of which each waits for the next: all of them are found, for every kind of wait. One session
//! gives way, and the others go on.

use crate::steps::{ByHand, FOREVER, POLICIES, until_in_line, with, within};
use keylatch::{
    BatchLockRequest, BatchMode, DeadlockLink, Fairness, FastObjectLockManager, LockConfig, LockError, LockRequest,
    Mode, OwnedLockGuard, Session, Victim,
};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

const KEYS: [&str; 20] = [
    "00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13", "14", "15", "16", "17", "18",
    "19",
];
const READ: Mode = Mode::Shared;
const WRITE: Mode = Mode::Exclusive;
const VICTIMS: [Victim; 3] = [Victim::Asker, Victim::Youngest, Victim::LowestPriority];
/// Looks before anybody sleeps, and after a moment.
const DELAYS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(2)];

fn manager(delay: Duration, victim: Victim) -> FastObjectLockManager {
    fair_manager(delay, victim, Fairness::Fifo)
}

fn fair_manager(delay: Duration, victim: Victim, fairness: Fairness) -> FastObjectLockManager {
    with(LockConfig { shards: 16, deadlock_delay: Some(delay), victim, fairness, ..LockConfig::default() })
}

fn ask<'s>(key: &'static str, mode: Mode, session: &'s Session) -> LockRequest<'s> {
    LockRequest::new(("b", key), mode).owner(session)
}

#[track_caller]
fn take(locks: &FastObjectLockManager, key: &'static str, mode: Mode, session: &Session) -> OwnedLockGuard {
    locks.lock(ask(key, mode, session)).try_now().expect("no holder is in the way").into_owned()
}

#[track_caller]
fn deadlock(error: &LockError) -> &[DeadlockLink] {
    match error {
        LockError::Deadlock { key, cycle } => {
            assert_eq!(*key, cycle[0].key, "it begins with the victim");
            cycle
        }
        other => panic!("no deadlock: {other}"),
    }
}

fn names(cycle: &[DeadlockLink]) -> Vec<&str> {
    cycle.iter().map(|link| &*link.session).collect()
}

#[track_caller]
fn assert_deadlocks(locks: &FastObjectLockManager, count: u64) {
    assert_eq!(locks.get_metrics().shard_metrics.deadlocks, count);
    assert_eq!(locks.recent_deadlocks().len() as u64, count.min(64));
}

/// A circle: session i holds key i and waits for the next one's.
struct Circle {
    held: Vec<Mode>,
    wanted: Vec<Mode>,
    priorities: Vec<u8>,
    /// Who begins to wait when.
    order: Vec<usize>,
}

impl Circle {
    /// One of many, known by a number.
    fn some(length: usize, seed: usize) -> Self {
        let bit = |place: usize| (seed.wrapping_mul(2_654_435_761) >> (place % 24)) & 1 == 1;
        let held: Vec<Mode> = (0..length).map(|place| if bit(place) { READ } else { WRITE }).collect();
        let next_is_read = |place: usize| held[(place + 1) % length] == READ;
        let wanted =
            (0..length).map(|place| if !next_is_read(place) && bit(place + 7) { READ } else { WRITE }).collect();
        let priorities = (0..length).map(|place| ((place * 7 + seed) % 5) as u8).collect();
        let mut order: Vec<usize> = (0..length).map(|place| (place + seed) % length).collect();
        if seed % 2 == 1 {
            order.reverse();
        }
        Self { held, wanted, priorities, order }
    }

    fn len(&self) -> usize {
        self.held.len()
    }

    /// Returns the victim.
    fn victim(&self, policy: Victim) -> usize {
        match policy {
            Victim::Asker => self.order[self.len() - 1],
            Victim::Youngest => self.len() - 1,
            Victim::LowestPriority => {
                (0..self.len()).rev().min_by_key(|place| self.priorities[*place]).expect("there are some")
            }
        }
    }

    fn request<'s>(&self, place: usize, sessions: &'s [Session]) -> LockRequest<'s> {
        let key = KEYS[(place + 1) % self.len()];
        ask(key, self.wanted[place], &sessions[place]).priority(self.priorities[place])
    }

    #[track_caller]
    fn check(&self, cycle: &[DeadlockLink], victim: usize) {
        assert_eq!(cycle.len(), self.len());
        for (distance, link) in cycle.iter().enumerate() {
            let place = (victim + distance) % self.len();
            let next = (place + 1) % self.len();
            assert_eq!((&*link.session, link.source), (KEYS[place], "circle"));
            assert_eq!(link.key.to_string(), keylatch::ObjectKey::new("b", KEYS[next]).to_string());
            assert_eq!((link.mode, link.blocked_by), (self.wanted[place], Some(self.held[next])));
        }
    }
}

/// Everybody asks by mail, from one thread.
fn circle_by_mail(circle: &Circle, policy: Victim, delay: Duration, fairness: Fairness) {
    let locks = fair_manager(delay, policy, fairness);
    let queue = locks.completion_queue().unwrap();
    let sessions: Vec<Session> =
        (0..circle.len()).map(|place| locks.session_with_source(KEYS[place], "circle")).collect();
    let mut held: Vec<_> =
        (0..circle.len()).map(|place| Some(take(&locks, KEYS[place], circle.held[place], &sessions[place]))).collect();
    for place in &circle.order {
        let submitted = locks.lock(circle.request(*place, &sessions)).with_queue(&queue, *place as u64).unwrap();
        assert!(submitted.ticket().is_some());
    }
    let answer = queue.next(Some(FOREVER)).unwrap().expect("one gives way");
    let victim = answer.token as usize;
    assert_eq!(victim, circle.victim(policy), "{policy:?}");
    circle.check(deadlock(&answer.result.unwrap_err()), victim);
    // The others go on, one after the other, once the victim lets go.
    held[victim] = None;
    for distance in 1..circle.len() {
        let completion = queue.next(Some(FOREVER)).unwrap().expect("the next one goes on");
        let place = (victim + circle.len() - distance) % circle.len();
        assert_eq!(completion.token as usize, place);
        drop(completion.result.expect("no other gives way"));
        held[place] = None;
    }
    assert_deadlocks(&locks, 1);
    assert_eq!(*locks.recent_deadlocks()[0].victim, *KEYS[victim]);
    assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
}

#[test]
fn circles_of_2_to_20_are_found_before_sleep() {
    for length in 2..=20 {
        for seed in 0..12 {
            let policy = VICTIMS[seed % 3];
            circle_by_mail(&Circle::some(length, seed * 31 + length), policy, DELAYS[0], POLICIES[seed % 4]);
        }
    }
}

#[test]
fn circles_of_2_to_20_are_found_after_delay() {
    for length in 2..=20 {
        let policy = VICTIMS[length % 3];
        circle_by_mail(&Circle::some(length, length * 5), policy, DELAYS[1], POLICIES[length % 4]);
    }
}

/// Every session is a thread that sleeps; all begin to wait together.
fn circle_of_threads(circle: &Circle, policy: Victim, delay: Duration, fairness: Fairness) {
    let locks = fair_manager(delay, policy, fairness);
    let sessions: Vec<Session> =
        (0..circle.len()).map(|place| locks.session_with_source(KEYS[place], "circle")).collect();
    let start = Barrier::new(circle.len());
    let victims = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for place in 0..circle.len() {
            let (locks, sessions, start, victims) = (&locks, &sessions, &start, &victims);
            let held = take(locks, KEYS[place], circle.held[place], &sessions[place]);
            scope.spawn(move || {
                start.wait();
                match locks.lock(circle.request(place, sessions)).blocking() {
                    Ok(guard) => drop(guard),
                    Err(error) => {
                        circle.check(deadlock(&error), place);
                        victims.lock().unwrap().push(place);
                    }
                }
                drop(held);
            });
        }
    });
    let victims = victims.into_inner().unwrap();
    assert_eq!(victims.len(), 1, "one circle, one victim");
    if policy != Victim::Asker {
        assert_eq!(victims[0], circle.victim(policy));
    }
    assert_deadlocks(&locks, 1);
    assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
}

#[test]
fn one_circle_of_threads_has_one_victim() {
    within("circles of threads", || {
        for seed in 0..60 {
            for length in [2, 3, 5] {
                let circle = Circle::some(length, seed);
                circle_of_threads(&circle, VICTIMS[seed % 3], DELAYS[usize::from(seed % 10 == 9)], POLICIES[seed % 4]);
            }
        }
        circle_of_threads(&Circle::some(20, 3), Victim::Youngest, DELAYS[0], POLICIES[0]);
    });
}

#[test]
fn every_circle_of_futures_is_found() {
    for delay in DELAYS {
        for length in [2, 3, 9] {
            let mut circle = Circle::some(length, length);
            // The youngest is not the last to wait.
            circle.order = (0..length).rev().collect();
            let locks = manager(delay, Victim::Youngest);
            let sessions: Vec<Session> =
                (0..length).map(|place| locks.session_with_source(KEYS[place], "circle")).collect();
            let held: Vec<_> =
                (0..length).map(|place| take(&locks, KEYS[place], circle.held[place], &sessions[place])).collect();
            let mut waiting: Vec<_> = circle
                .order
                .iter()
                .map(|place| (*place, ByHand::waiting(locks.lock(circle.request(*place, &sessions)))))
                .collect();
            let victim = length - 1;
            let place = circle.order.iter().position(|place| *place == victim).unwrap();
            let (_, mut future) = waiting.remove(place);
            circle.check(deadlock(&future.after_wakes().unwrap_err()), victim);
            drop(held);
            for (_, mut future) in waiting {
                drop(future.after_wakes().expect("the others go on"));
            }
            assert_deadlocks(&locks, 1);
        }
    }
}

#[test]
fn callback_gets_deadlock_error() {
    let locks = manager(Duration::ZERO, Victim::Asker);
    let (a, b) = (locks.session("a"), locks.session("b"));
    let held = take(&locks, "00", WRITE, &a);
    let _other = take(&locks, "01", READ, &b);
    let (sender, hears) = std::sync::mpsc::channel();
    let tell = |who: &'static str| {
        let sender = sender.clone();
        move |result: Result<OwnedLockGuard, LockError>| {
            let _ = sender.send((who, result.map(drop)));
        }
    };
    let first = locks.lock(ask("01", WRITE, &a)).with_callback(tell("a")).unwrap();
    let second = locks.lock(ask("00", READ, &b)).with_callback(tell("b")).unwrap();
    assert!(first.ticket().is_some() && second.ticket().is_some());
    let (who, result) = hears.recv_timeout(FOREVER).unwrap();
    assert_eq!(who, "b");
    assert_eq!(names(deadlock(&result.unwrap_err())), ["b", "a"]);
    assert!(locks.cancel(first.ticket().unwrap()));
    drop(held);
}

#[test]
fn second_session_upgrade_is_a_deadlock() {
    for victim in VICTIMS {
        // Whatever the delay is.
        let locks = manager(Duration::from_secs(3600), victim);
        let (old, young) = (locks.session("old"), locks.session("young"));
        let (mut mine, mut theirs) = (take(&locks, "00", READ, &old), take(&locks, "00", READ, &young));
        let mut first = ByHand::waiting(theirs.upgrade(None));
        match victim {
            Victim::Asker => {
                let error = mine.upgrade_blocking(None).unwrap_err();
                let cycle = deadlock(&error);
                assert_eq!(names(cycle), ["old", "young"]);
                assert!(cycle.iter().all(|link| link.mode == WRITE && link.blocked_by == Some(READ)));
                drop(mine);
                first.after_wakes().expect("the first reader is gone");
            }
            _ => {
                let mut second = ByHand::waiting(mine.upgrade(None));
                assert_eq!(names(deadlock(&first.after_wakes().unwrap_err())), ["young", "old"]);
                drop(first);
                drop(theirs);
                second.after_wakes().expect("alone now");
            }
        }
        assert_deadlocks(&locks, 1);
    }
}

#[test]
fn second_label_upgrade_is_a_conflict() {
    let locks = manager(Duration::ZERO, Victim::Asker);
    let session = locks.session("session");
    let mut mine = take(&locks, "00", READ, &session);
    let mut label = locks.try_acquire_read_lock("b", "00", "label").unwrap();
    let mut first = ByHand::waiting(mine.upgrade(None));
    assert!(matches!(label.upgrade_blocking(None), Err(LockError::UpgradeConflict { .. })));
    drop(label);
    first.after_wakes().unwrap();
    assert_deadlocks(&locks, 0);
}

#[test]
fn an_upgrade_in_a_longer_circle() {
    for delay in DELAYS {
        let locks = manager(delay, Victim::Youngest);
        let (a, b) = (locks.session("a"), locks.session("b"));
        let mut shared = take(&locks, "00", READ, &a);
        let _held = take(&locks, "01", WRITE, &a);
        let other = take(&locks, "00", READ, &b);
        let mut wants = ByHand::waiting(locks.lock(ask("01", WRITE, &b)));
        let mut upgrade = ByHand::waiting(shared.upgrade(None));
        let error = wants.after_wakes().unwrap_err();
        let cycle = deadlock(&error);
        assert_eq!(names(cycle), ["b", "a"]);
        assert_eq!((cycle[1].mode, cycle[1].blocked_by), (WRITE, Some(READ)));
        drop(other);
        upgrade.after_wakes().expect("the other reader is gone");
    }
}

#[test]
fn deadlocked_batch_fails_as_a_whole() {
    let locks = manager(Duration::ZERO, Victim::Asker);
    let (a, b) = (locks.session("a"), locks.session("b"));
    let first = take(&locks, "05", WRITE, &a);
    let second = take(&locks, "03", WRITE, &b);
    let mut waits = ByHand::waiting(locks.lock(ask("05", READ, &b)));
    let wanted = |session| {
        let batch = BatchLockRequest::new(session);
        batch.add_write_lock("b", "09").add_write_lock("b", "03").add_read_lock("b", "01")
    };
    let check = |error: LockError| {
        let LockError::Batch { key, cause } = error else { panic!("{error}") };
        assert_eq!(key, keylatch::ObjectKey::new("b", "03"));
        assert_eq!(names(deadlock(&cause)), ["a", "b"]);
        assert_eq!(locks.get_metrics().shard_metrics.holders, 2, "nothing of the batch stays");
    };
    check(locks.acquire_locks_batch_blocking(wanted(&a)).unwrap_err());
    check(ByHand::new(locks.acquire_locks_batch(wanted(&a))).after_wakes().unwrap_err());
    let best = locks.acquire_locks_batch_blocking(wanted(&a).mode(BatchMode::BestEffort)).unwrap();
    assert_eq!(best.len(), 2);
    assert!(matches!(best.missing()[0].1, LockError::Deadlock { .. }));
    drop((best, first));
    drop(waits.after_wakes().unwrap());
    drop(second);
    assert_deadlocks(&locks, 3);
}

/// A session passes a label that waits for a session that waits for the first.
#[test]
fn reader_behind_a_label_passes_it() {
    for (delay, victim) in DELAYS.into_iter().flat_map(|delay| VICTIMS.map(|victim| (delay, victim))) {
        let locks = manager(delay, victim);
        let (a, b) = (locks.session("a"), locks.session("b"));
        let shared = take(&locks, "00", READ, &a);
        let held = take(&locks, "01", WRITE, &b);
        let label = LockRequest::write(("b", "00")).owner("label");
        let mut writer = ByHand::waiting(locks.lock(label));
        let mut reader = ByHand::waiting(locks.lock(ask("00", READ, &b)));
        let mut last = ByHand::waiting(locks.lock(ask("01", WRITE, &a)));
        drop(reader.after_wakes().expect("it shares the lock with a"));
        drop(held);
        drop(last.after_wakes().expect("b has done its work"));
        drop(shared);
        drop(writer.after_wakes().unwrap());
        assert_deadlocks(&locks, 0);
    }
}

/// A waiter for two locks lets another pass that holds the other lock.
///
/// It stands in front of that session in one of the lines.
#[test]
fn session_in_front_is_passed() {
    for (delay, victim) in DELAYS.into_iter().flat_map(|delay| VICTIMS.map(|victim| (delay, victim))) {
        let locks = manager(delay, victim);
        let queue = locks.completion_queue().unwrap();
        let (a, b) = (locks.session("a"), locks.session("b"));
        let held = locks.try_acquire_read_lock("b", "00", "label").unwrap();
        let mine = take(&locks, "01", WRITE, &a);
        // In front, a writer of b; behind it a reader of a; and b waits for a as well.
        let first = locks.lock(ask("00", WRITE, &b)).with_queue(&queue, 1).unwrap();
        let second = locks.lock(ask("00", READ, &a)).with_queue(&queue, 2).unwrap();
        let third = locks.lock(ask("01", READ, &b)).with_queue(&queue, 3).unwrap();
        assert!([&first, &second, &third].iter().all(|submitted| submitted.ticket().is_some()));
        let next = || {
            let arrived = queue.next(Some(FOREVER)).unwrap().expect("one goes on");
            (arrived.token, arrived.result.expect("none gives way"))
        };
        let (token, passed) = next();
        assert_eq!(token, 2);
        drop((passed, mine));
        let (token, third) = next();
        assert_eq!(token, 3);
        drop(held);
        assert_eq!(next().0, 1);
        drop(third);
        assert_deadlocks(&locks, 0);
    }
}

/// b holds nothing and stands before a; c waits for a and holds what b waits for.
///
/// It stands in front of a, which c waits for; c holds what b waits for.
#[test]
fn session_that_holds_nothing_never_gives_way() {
    for (delay, victim) in DELAYS.into_iter().flat_map(|delay| VICTIMS.map(|victim| (delay, victim))) {
        let locks = manager(delay, victim);
        let queue = locks.completion_queue().unwrap();
        let (a, c, b) = (locks.session("a"), locks.session("c"), locks.session("b"));
        let (mine, theirs) = (take(&locks, "01", WRITE, &a), take(&locks, "00", READ, &c));
        let submit =
            |request, token| assert!(locks.lock(request).with_queue(&queue, token).unwrap().ticket().is_some());
        submit(ask("00", WRITE, &b), 1);
        submit(ask("00", READ, &a), 2);
        submit(ask("01", WRITE, &c), 3);
        let next = || {
            let arrived = queue.next(Some(FOREVER)).unwrap().expect("one goes on");
            (arrived.token, arrived.result.expect("none gives way"))
        };
        let (token, passed) = next();
        assert_eq!(token, 2, "a passes b");
        drop((passed, mine));
        let (token, last) = next();
        assert_eq!(token, 3);
        drop((last, theirs));
        assert_eq!(next().0, 1);
        assert_deadlocks(&locks, 0);
    }
}

#[test]
fn a_session_that_waits_for_itself() {
    let locks = manager(Duration::ZERO, Victim::Asker);
    let session = locks.session("alone");
    let mut shared = take(&locks, "00", READ, &session);
    let _again = take(&locks, "00", READ, &session);
    assert_eq!(names(deadlock(&shared.upgrade_blocking(None).unwrap_err())), ["alone"]);
}

#[test]
fn labels_are_never_accused() {
    let locks = manager(Duration::ZERO, Victim::Asker);
    let session = locks.session("session");
    let label = locks.owner("label");
    let _mine = take(&locks, "00", WRITE, &session);
    let _theirs = locks.try_acquire_write_lock("b", "01", label).unwrap();
    let short = Duration::from_millis(20);
    let _waits = ByHand::waiting(locks.lock(LockRequest::write(("b", "00")).owner(label)));
    let timed_out = locks.lock(ask("01", WRITE, &session).timeout(short)).blocking().unwrap_err();
    assert!(matches!(timed_out, LockError::Timeout { .. }), "{timed_out}");
    assert_deadlocks(&locks, 0);
}

#[test]
fn deadlock_search_can_be_off() {
    let locks = with(LockConfig { deadlock_delay: None, ..LockConfig::default() });
    let (a, b) = (locks.session("a"), locks.session("b"));
    let (_x, _y) = (take(&locks, "00", WRITE, &a), take(&locks, "01", WRITE, &b));
    let _waits = ByHand::waiting(locks.lock(ask("01", WRITE, &a)));
    let refused = locks.lock(ask("00", WRITE, &b).timeout(Duration::from_millis(20))).blocking().unwrap_err();
    assert!(matches!(refused, LockError::Timeout { .. }));
    assert_deadlocks(&locks, 0);
}

#[test]
fn overtaking_can_close_a_circle() {
    // Readers go first: a joins the readers of 00 though b stands in line, and holds it from then on.
    let locks = fair_manager(Duration::ZERO, Victim::Youngest, Fairness::ReaderFirst);
    let queue = locks.completion_queue().unwrap();
    let (a, b) = (locks.session("a"), locks.session("b"));
    let reader = locks.try_acquire_read_lock("b", "00", "label").unwrap();
    let _held = take(&locks, "01", WRITE, &b);
    let waits = locks.lock(ask("01", WRITE, &a)).with_queue(&queue, 1).unwrap();
    let writes = locks.lock(ask("00", WRITE, &b)).with_queue(&queue, 2).unwrap();
    assert!(waits.ticket().is_some() && writes.ticket().is_some());
    assert_deadlocks(&locks, 0);
    let past = take(&locks, "00", READ, &a);
    drop(reader);
    // No new wait begins; it is found by a later look.
    let answer = queue.next(Some(FOREVER)).unwrap().expect("b gives way");
    assert_eq!(answer.token, 2);
    assert_eq!(names(deadlock(&answer.result.unwrap_err())), ["b", "a"]);
    drop(past);
}

#[test]
fn only_the_last_64_are_remembered() {
    let locks = manager(Duration::ZERO, Victim::Youngest);
    let (a, b) = (Arc::new(locks.session("a")), locks.session("b"));
    let mine = take(&locks, "00", WRITE, &a);
    let theirs = take(&locks, "01", WRITE, &b);
    let waiting = std::thread::spawn({
        let (locks, a) = (locks.clone(), Arc::clone(&a));
        move || locks.lock(ask("01", WRITE, &a)).blocking().map(drop)
    });
    until_in_line(&locks, 1);
    for _ in 0..70 {
        assert_eq!(names(deadlock(&locks.lock(ask("00", READ, &b)).blocking().unwrap_err())), ["b", "a"]);
    }
    let recent = locks.recent_deadlocks();
    assert_eq!(recent.len(), 64);
    assert!(recent.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert!(recent[0].to_string().ends_with("b gave way"), "{}", recent[0]);
    assert_deadlocks(&locks, 70);
    drop((mine, theirs));
    waiting.join().unwrap().expect("a goes on");
}
