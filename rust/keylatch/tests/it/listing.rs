//! Listings of holders and waiters: what the filters let pass, and that listings made while everything moves are true.

use crate::steps::*;
use keylatch::{
    Fairness, FastObjectLockManager, Filter, Grant, HolderInfo, KeyRef, LockConfig, LockRequest, Mode, TopBy,
    WaiterInfo,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

fn objects(holders: &[HolderInfo]) -> Vec<String> {
    let mut objects: Vec<_> = holders.iter().map(|hold| String::from_utf8_lossy(hold.key.object()).into()).collect();
    objects.sort();
    objects
}

fn owners(waiters: &[WaiterInfo]) -> Vec<&str> {
    waiters.iter().map(|wait| &*wait.owner).collect()
}

#[test]
fn a_hold_is_listed_with_all_there_is_to_know() {
    let locks = few_shards(Fairness::default());
    let node = locks.owner_with_source("node-7", "replicator");
    let request = LockRequest::write(("photos", "cat.jpg", "v1")).owner(node).priority(9);
    let guard = locks.lock(request).blocking().unwrap();
    let session = locks.session_with_source("txn-17", "sql");
    let shared = locks.lock(LockRequest::read(("photos", "dog.jpg")).owner(&session)).blocking().unwrap();
    let unnamed = locks.try_acquire_write_lock(b"\0\xff", b"", "").unwrap();

    let holders = locks.holders(&Filter::new());
    assert_eq!(holders.len(), 3);
    let of =
        |mode, bucket: &[u8]| holders.iter().find(|hold| hold.mode == mode && hold.key.bucket() == bucket).unwrap();
    let writer = of(Mode::Exclusive, b"photos");
    assert_eq!(writer.key, KeyRef::from(("photos", "cat.jpg", "v1")).to_owned());
    assert_eq!((&*writer.owner, writer.source, writer.session), ("node-7", "replicator", false));
    assert_eq!((writer.priority, writer.fence, writer.lease), (9, Some(guard.fence()), None));
    let reader = of(Mode::Shared, b"photos");
    assert_eq!((&*reader.owner, reader.source, reader.session), ("txn-17", "sql", true));
    assert_eq!((reader.priority, reader.fence), (0, None));
    assert_eq!(&*of(Mode::Exclusive, b"\0\xff").owner, "");

    let grant = guard.into_grant();
    assert_eq!(writer.grant, grant, "a guard's grant is the number it turns into");
    locks.release(grant).unwrap();
    assert_eq!(locks.holders(&Filter::new()).len(), 2);
    drop((shared, unnamed));
    assert!(locks.holders(&Filter::new()).is_empty());
    assert_at_rest(&locks);
}

#[test]
fn each_filter_lets_pass_what_it_says() {
    let locks = few_shards(Fairness::default());
    let long = "x".repeat(500);
    let session = locks.session("one");
    let other = locks.owner_with_source("one", "elsewhere");
    let _held = [
        locks.try_acquire_write_lock("a", "1/x", "one").unwrap(),
        locks.try_acquire_read_lock("a", "1/y", "two").unwrap(),
        locks.try_acquire_read_lock("b", "1/x", "two").unwrap(),
        locks.try_acquire_write_lock_versioned("b", "2/x", "v", other).unwrap(),
        locks.lock(LockRequest::write(("b", &long)).owner(&session)).blocking().unwrap(),
    ];
    let listed = |filter: Filter| objects(&locks.holders(&filter));
    assert_eq!(listed(Filter::new()).len(), 5);
    assert_eq!(listed(Filter::new().bucket("a")), ["1/x", "1/y"]);
    assert_eq!(listed(Filter::new().prefix("1/")), ["1/x", "1/x", "1/y"]);
    assert_eq!(listed(Filter::new().bucket("b").prefix("1/")), ["1/x"]);
    assert_eq!(listed(Filter::new().prefix(&long[..499])).len(), 1, "a key in several blocks");
    assert_eq!(listed(Filter::new().owner("one")).len(), 3, "by name: labels and sessions alike");
    assert_eq!(listed(Filter::new().session("one")), [long.as_str()]);
    assert_eq!(listed(Filter::new().sessions()), [long.as_str()]);
    assert_eq!(listed(Filter::new().source("elsewhere")), ["2/x"]);
    assert_eq!(listed(Filter::new().mode(Mode::Shared)), ["1/x", "1/y"]);
    assert_eq!(listed(Filter::new().key(("a", "1/x"))), ["1/x"]);
    assert_eq!(listed(Filter::new().key(("b", "2/x", "v"))), ["2/x"]);
    assert_eq!(listed(Filter::new().key(("a", "1/x")).bucket("b")), [""; 0]);
    assert_eq!(listed(Filter::new().key(("a", "1/x")).owner("two")), [""; 0]);
    assert_eq!(listed(Filter::new().key(("b", "2/x"))), [""; 0], "the latest is another key");
    assert_eq!(listed(Filter::new().key(("not", "held"))), [""; 0]);
    assert_eq!(listed(Filter::new().owner("three")), [""; 0]);
}

#[test]
fn a_hold_ages_from_the_first_look_at_it() {
    let locks = few_shards(Fairness::default());
    let _held = locks.try_acquire_write_lock("b", "o", "x").unwrap();
    let old = Filter::new().older_than(Duration::from_millis(1));
    assert!(locks.holders(&old).is_empty(), "nothing has looked yet");
    until("a millisecond since the first look", || !locks.holders(&old).is_empty());
    assert!(locks.holders(&Filter::new())[0].held_for >= Duration::from_millis(1));
    assert!(locks.holders(&Filter::new().older_than(FOREVER)).is_empty());
    // A waiter looks at the lock too.
    let _other = locks.try_acquire_write_lock("b", "p", "x").unwrap();
    let _waiting = ByHand::waiting(locks.acquire_read_lock("b", "p", "y"));
    until("a millisecond of waiting", || locks.holders(&old).len() == 2);
}

#[test]
fn every_reader_of_a_key_is_listed() {
    let locks = few_shards(Fairness::default());
    let names: Vec<String> = (0..100).map(|n| format!("reader-{n}")).collect();
    let held: Vec<_> = names.iter().map(|name| locks.try_acquire_read_lock("b", "o", name).unwrap()).collect();
    for filter in [Filter::new(), Filter::new().key(("b", "o"))] {
        let holders = locks.holders(&filter);
        let listed: std::collections::HashSet<_> = holders.iter().map(|hold| hold.owner.to_string()).collect();
        assert_eq!((holders.len(), listed.len()), (100, 100));
    }
    drop(held);
    assert!(locks.holders(&Filter::new()).is_empty());
}

#[test]
fn waiters_are_listed_in_the_order_of_their_line() {
    let locks = few_shards(Fairness::Fifo);
    let _held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let _other = locks.acquire_write_lock_blocking("b", "p", "holder").unwrap();
    let session = locks.session("third");
    let first = ByHand::waiting(locks.acquire_write_lock("b", "o", "first"));
    let _second = ByHand::waiting(locks.acquire_read_lock("b", "o", "second"));
    let _third = ByHand::waiting(locks.lock(LockRequest::read(("b", "o")).owner(&session)));
    let _ahead = ByHand::waiting(locks.lock(LockRequest::write(("b", "o")).owner("ahead").priority(5)));
    let _elsewhere = ByHand::waiting(locks.acquire_read_lock("b", "p", "elsewhere"));

    assert_eq!(locks.waiters(&Filter::new()).len(), 5);
    let line = locks.waiters(&Filter::new().key(("b", "o")));
    assert_eq!(owners(&line), ["ahead", "first", "second", "third"]);
    assert_eq!(line.iter().map(|wait| wait.position).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!((line[0].priority, line[0].mode, line[0].upgrade), (5, Mode::Exclusive, false));
    assert_eq!((line[2].mode, line[2].session, line[3].session), (Mode::Shared, false, true));
    assert_eq!(owners(&locks.waiters(&Filter::new().prefix("p"))), ["elsewhere"]);
    assert_eq!(owners(&locks.waiters(&Filter::new().sessions())), ["third"]);
    assert_eq!(owners(&locks.waiters(&Filter::new().bucket("b").mode(Mode::Exclusive))), ["ahead", "first"]);
    assert_eq!(locks.waiters(&Filter::new().owner("second"))[0].position, 3, "its place among all");
    assert!(locks.waiters(&Filter::new().older_than(FOREVER)).is_empty());

    drop(first);
    let line = locks.waiters(&Filter::new().key(("b", "o")));
    assert_eq!(owners(&line), ["ahead", "second", "third"]);
}

#[test]
fn upgrade_is_listed_as_holder_and_waiter() {
    let locks = few_shards(Fairness::default());
    let mut one = locks.acquire_read_lock_blocking("b", "o", "one").unwrap();
    let _two = locks.acquire_read_lock_blocking("b", "o", "two").unwrap();
    let _behind = ByHand::waiting(locks.acquire_write_lock("b", "o", "behind"));
    let _upgrade = ByHand::waiting(one.upgrade(None));
    assert_eq!(locks.holders(&Filter::new()).len(), 2);
    let line = locks.waiters(&Filter::new());
    assert_eq!(owners(&line), ["one", "behind"]);
    assert_eq!((line[0].upgrade, line[1].upgrade), (true, false));
}

#[test]
fn long_line_is_listed_whole() {
    let locks = few_shards(Fairness::Fifo);
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let queue = locks.completion_queue().unwrap();
    for token in 0..2000 {
        let name = format!("w{token}");
        drop(locks.lock(LockRequest::write(("b", "o")).owner(&name)).with_queue(&queue, token).unwrap());
    }
    let line = locks.waiters(&Filter::new());
    assert_eq!(line.len(), 2000);
    for (place, wait) in line.iter().enumerate() {
        assert_eq!((wait.position, wait.owner.to_string()), (place + 1, format!("w{place}")));
    }
    drop(queue);
    drop(held);
    assert_at_rest(&locks);
}

#[test]
fn the_top_is_what_stands_out() {
    let locks = few_shards(Fairness::Fifo);
    let names = ["a", "b", "c"];
    let held: Vec<_> = names.map(|name| locks.acquire_write_lock_blocking("b", name, name).unwrap()).into();
    let waits = |name| ByHand::waiting(locks.acquire_read_lock("b", name, "w"));
    let _waiting = (waits("b"), waits("c"), waits("b"));
    let top = locks.top(10, TopBy::Waiters);
    let counted: Vec<_> = top.iter().map(|key| (key.key.object(), key.waiters)).collect();
    assert_eq!(counted, [(&b"b"[..], 2), (&b"c"[..], 1)]);
    assert_eq!(&*top[0].holder.as_ref().unwrap().owner, "b");
    assert!(top[0].longest_wait > Duration::ZERO);
    assert_eq!(locks.top(1, TopBy::Waiters).len(), 1);
    assert!(locks.top(0, TopBy::Age).is_empty());

    // There is no waiter for a, so its age begins with this look; the other two were looked at by those who wait.
    let oldest: Vec<_> =
        locks.top(2, TopBy::Age).into_iter().map(|key| (key.key.object().to_vec(), key.waiters)).collect();
    assert_eq!(oldest, [(b"b".to_vec(), 2), (b"c".to_vec(), 1)]);
    let all = locks.top(10, TopBy::Age);
    assert_eq!(all.len(), 3);
    assert_eq!((all[2].key.object(), all[2].waiters, all[2].longest_wait), (&b"a"[..], 0, Duration::ZERO));
    drop(held);
}

/// The parts of a key that belong together: mixed keys or states are found out.
fn parts(number: usize) -> [String; 3] {
    // Some fit in an entry, some go on in further ones.
    let long = if number.is_multiple_of(5) { "-".repeat(90) } else { String::new() };
    [format!("bucket-{}", number % 97), format!("{number}{long}"), format!("v{number}")]
}

/// Returns the number of a key, if its parts belong together.
#[track_caller]
fn number_of(key: &keylatch::ObjectKey) -> usize {
    let object = String::from_utf8(key.object().to_vec()).expect("as it was made");
    let number: usize = object.trim_end_matches('-').parse().expect("as it was made");
    let [bucket, whole, version] = parts(number);
    assert_eq!(
        (key.bucket(), key.object(), key.version()),
        (bucket.as_bytes(), whole.as_bytes(), Some(version.as_bytes()))
    );
    number
}

fn take(locks: &FastObjectLockManager, number: usize, mode: Mode, owner: &str) -> Grant {
    let [bucket, object, version] = parts(number);
    let request = LockRequest::new((&bucket, &object, &version), mode).owner(owner);
    locks.lock(request).blocking().unwrap().into_grant()
}

#[test]
fn many_holds_are_listed_once_each() {
    const STAY: usize = 100_000;
    let locks = with(LockConfig { shards: 64, ..LockConfig::default() });
    // Even numbers stay, odd ones come and go; both share shards, pages and entries.
    let stay: HashMap<usize, Grant> = (0..STAY)
        .map(|n| (2 * n, take(&locks, 2 * n, if n % 3 == 0 { Mode::Shared } else { Mode::Exclusive }, "stays")))
        .collect();
    let stop = AtomicBool::new(false);
    let turns = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (locks, stop, turns) = (&locks, &stop, &turns);
            scope.spawn(move || {
                let mut number = thread;
                while !stop.load(Ordering::Relaxed) {
                    // A few at a time, so that entries change their keys and pages come and go.
                    let odd = |n: usize| 2 * ((number + n) % (3 * STAY)) + 1;
                    let held: Vec<_> = (0..50).map(|n| take(locks, odd(n), Mode::Shared, "comes and goes")).collect();
                    held.into_iter().for_each(|grant| locks.release(grant).unwrap());
                    number = number.wrapping_mul(31).wrapping_add(7) % (3 * STAY);
                    turns.fetch_add(50, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..5 {
            let before = turns.load(Ordering::Relaxed);
            let mut listed: HashMap<usize, Grant> = HashMap::new();
            for hold in locks.holders(&Filter::new()) {
                let number = number_of(&hold.key);
                let owner = if number.is_multiple_of(2) { "stays" } else { "comes and goes" };
                assert_eq!(&*hold.owner, owner);
                if number.is_multiple_of(2) {
                    assert_eq!(hold.fence.is_some(), hold.mode == Mode::Exclusive);
                    assert_eq!(listed.insert(number, hold.grant), None, "{number} is listed twice");
                }
            }
            assert_eq!(listed, stay);
            let stays = locks.holders(&Filter::new().owner("stays").bucket("bucket-4"));
            assert_eq!(stays.len(), (0..STAY).filter(|n| 2 * n % 97 == 4).count());
            until("others to go on", || turns.load(Ordering::Relaxed) > before);
        }
        stop.store(true, Ordering::Relaxed);
    });
    stay.into_values().for_each(|grant| locks.release(grant).unwrap());
    assert!(locks.holders(&Filter::new()).is_empty());
    assert_at_rest(&locks);
}

#[test]
fn staying_waiters_are_listed_once_each() {
    let locks = with(LockConfig { shards: 2, fairness: Fairness::Fifo, ..LockConfig::default() });
    let held: Vec<_> = (0..20).map(|n| take(&locks, n, Mode::Exclusive, "holder")).collect();
    let queue = locks.completion_queue().unwrap();
    let submit = |number: usize, owner: &str, token| {
        let [bucket, object, version] = parts(number);
        let request = LockRequest::read((&bucket, &object, &version)).owner(owner);
        locks.lock(request).with_queue(&queue, token).unwrap().ticket().expect("it is held")
    };
    // Between those who stay stand some who leave, whom a listing in chunks loses its place with.
    let mut leave = Vec::new();
    for n in 0..4000 {
        submit(n % 20, "stays", 0);
        leave.push(submit(n % 20, "leaves", 0));
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for ticket in leave {
                assert!(locks.cancel(ticket));
                let [bucket, object, version] = parts(1000);
                drop(locks.try_acquire_write_lock_versioned(&bucket, &object, &version, "passes").unwrap());
            }
            done.store(true, Ordering::Release);
        });
        loop {
            let last = done.load(Ordering::Acquire);
            let waiters = locks.waiters(&Filter::new());
            assert_eq!(waiters.iter().filter(|wait| &*wait.owner == "stays").count(), 4000);
            let mut places = HashMap::new();
            for wait in &waiters {
                let number = number_of(&wait.key);
                assert!(number < 20 && wait.mode == Mode::Shared);
                let before = places.insert(number, wait.position).unwrap_or(0);
                assert!(wait.position > before, "a line in order, each once");
            }
            if last {
                assert_eq!(waiters.len(), 4000);
                break;
            }
        }
    });
    drop(queue);
    held.into_iter().for_each(|grant| locks.release(grant).unwrap());
    assert_at_rest(&locks);
}
