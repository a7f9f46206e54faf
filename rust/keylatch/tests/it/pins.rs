//! Pinned keys.

use crate::steps::{ByHand, assert_at_rest, until_in_line, with};
use keylatch::{
    BatchLockRequest, Fairness, FastObjectLockManager, Filter, KeyRef, LockConfig, LockError, LockRequest, Mode,
    Submitted,
};
use std::task::Poll;
use std::time::Duration;

fn fifo() -> FastObjectLockManager {
    with(LockConfig { fairness: Fairness::Fifo, shards: 1, ..LockConfig::default() })
}

#[test]
fn pin_and_key_contend_for_one_lock() {
    let locks = fifo();
    let pin = locks.pin(("b", "o")).unwrap();
    assert_eq!(pin.key().to_string(), "b/o");
    let by_key = |mode| LockRequest::new(("b", "o"), mode).owner("holder");
    for held in [Mode::Exclusive, Mode::Shared] {
        for by_pin in [false, true] {
            let guard = match (by_pin, held) {
                (false, _) => locks.lock(by_key(held)).blocking().unwrap(),
                (true, Mode::Exclusive) => pin.acquire_write_lock_blocking("holder").unwrap(),
                (true, Mode::Shared) => pin.acquire_read_lock_blocking("holder").unwrap(),
            };
            assert_eq!(guard.mode(), held);
            for refused in [pin.try_acquire_write_lock("x"), locks.lock(by_key(Mode::Exclusive)).try_now()] {
                let refused = refused.unwrap_err();
                assert!(matches!(&refused, LockError::WouldBlock { .. }) && refused.to_string().contains("holder"));
            }
            for beside in [pin.try_acquire_read_lock("x"), locks.lock(by_key(Mode::Shared)).try_now()] {
                assert_eq!(beside.is_ok(), held == Mode::Shared);
            }
        }
    }
    drop(pin);
    assert_at_rest(&locks);
}

#[test]
fn pin_goes_by_every_way_that_a_key_goes() {
    let locks = fifo();
    let (pin, session, queue) =
        (locks.pin(("b", "o")).unwrap(), locks.session("txn"), locks.completion_queue().unwrap());
    drop(pin.try_acquire_write_lock("x").unwrap());
    drop(pin.try_acquire_read_lock("x").unwrap());
    drop(pin.acquire_read_lock_blocking("x").unwrap());
    let held = pin.acquire_write_lock_blocking("x").unwrap();
    let mut waits = ByHand::new(pin.acquire_write_lock("future"));
    assert!(waits.poll().is_pending());
    let reads = ByHand::new(pin.acquire_read_lock("dropped"));
    drop(reads);
    assert!(matches!(locks.lock(pin.write()).with_queue(&queue, 7).unwrap(), Submitted::Waiting(_)));
    let (sends, hears) = std::sync::mpsc::channel();
    let posted =
        locks.lock(pin.read().owner(&session)).with_callback(move |result| sends.send(result.unwrap()).unwrap());
    assert!(matches!(posted.unwrap(), Submitted::Waiting(_)));
    until_in_line(&locks, 3);
    drop(held);
    let Poll::Ready(Ok(guard)) = waits.poll() else { panic!("it is first in line") };
    drop(waits);
    drop(guard);
    let by_queue = queue.next(None).unwrap().unwrap();
    assert_eq!(by_queue.token, 7);
    drop(by_queue.result.unwrap());
    drop(hears.recv().unwrap());

    let lease = locks.lock(pin.write().ttl(Duration::from_secs(3600)).priority(9)).blocking().unwrap();
    assert!(lease.remaining().is_some());
    let late = locks.lock(pin.read().timeout(Duration::from_millis(1))).blocking();
    assert!(matches!(late, Err(LockError::Timeout { .. })));
    assert_eq!(locks.force_release(&Filter::new().key(("b", "o"))).len(), 1);
    drop(lease);
    let numbered = locks.lock(pin.write().owner(&session).request_id(1)).grant_now().unwrap();
    locks.release(numbered).unwrap();
    let own = pin.acquire_write_lock_blocking(&session).unwrap();
    assert!(matches!(pin.acquire_write_lock_blocking(&session), Err(LockError::Deadlock { .. })));
    drop(own);
    let batch = BatchLockRequest::new("x").add(pin.key().as_ref(), Mode::Exclusive).add_write_lock("b", "p");
    drop(locks.acquire_locks_batch_blocking(batch).unwrap());
    drop(pin);
    assert_at_rest(&locks);
}

#[test]
fn pinned_key_stays_whatever_comes_and_goes() {
    let locks = with(LockConfig { shards: 1, max_locks: 100, ..LockConfig::default() });
    let pins: Vec<_> = (0..50_u32).map(|n| locks.pin(("pinned", n.to_le_bytes().as_slice())).unwrap()).collect();
    let again = pins[0].clone();
    assert_eq!(locks.get_metrics().pinned_keys, 50);
    for round in 0..200_u32 {
        let others: Vec<_> =
            (0..40_u32).map(|n| locks.try_acquire_write_lock("other", &(round * 40 + n).to_le_bytes(), "x")).collect();
        assert!(others.iter().all(Result::is_ok));
        assert_eq!(pins[7].try_acquire_write_lock("x").unwrap().fence(), u64::from(round) + 1);
    }
    // Each takes a place of the table, held or not.
    let mut others = Vec::new();
    let full = loop {
        match locks.try_acquire_write_lock("more", &(others.len() as u32).to_le_bytes(), "x") {
            Ok(guard) => others.push(guard),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, LockError::TableFull { limit: 100 }) && others.len() == 50, "{full} {}", others.len());
    assert!(matches!(locks.pin(("pinned", "one more")), Err(LockError::TableFull { .. })));
    assert!(pins.iter().all(|pin| pin.try_acquire_write_lock("x").is_ok()));
    others.clear();
    drop(pins);
    assert_eq!(locks.get_metrics().pinned_keys, 1, "a clone keeps its key");
    assert!(again.try_acquire_write_lock("x").unwrap().fence() > 1);
    drop(again);
    assert_eq!(locks.get_metrics().pinned_keys, 0);
    assert!(locks.get_metrics().shard_metrics.entries <= 4, "what is idle leaves as ever");
    assert_at_rest(&locks);
}

#[test]
fn bad_pins_are_refused() {
    let locks = fifo();
    let long = vec![0; locks.config().max_key_bytes + 1];
    assert!(matches!(locks.pin(("b", long.as_slice())), Err(LockError::InvalidKey { .. })));
    let pin = locks.pin(("b", "o")).unwrap();
    let stranger = fifo().session("another manager's");
    let foreign = pin.try_acquire_write_lock(&stranger).unwrap_err();
    assert!(matches!(foreign, LockError::InvalidConfig { setting: "owner", .. }), "{foreign}");
    locks.close();
    assert!(matches!(pin.try_acquire_write_lock("x"), Err(LockError::Closed)));
    assert!(matches!(pin.acquire_read_lock_blocking("x"), Err(LockError::Closed)));
    assert!(matches!(locks.pin(("b", "o")), Err(LockError::Closed)));
}

#[test]
fn batch_of_pins_takes_all_or_nothing() {
    let locks = fifo();
    let pins = ["x", "y", "z"].map(|object| locks.pin(("b", object)).unwrap());
    let batch = || {
        pins.iter()
            .fold(BatchLockRequest::new("batch"), |batch, pin| batch.add_pinned(pin, Mode::Exclusive))
            .add_read_lock("b", "w")
    };
    let all = locks.acquire_locks_batch_blocking(batch()).unwrap();
    assert_eq!(all.len(), 4);
    for pin in &pins {
        assert!(pin.try_acquire_read_lock("x").is_err());
    }
    drop(all);
    let held = pins[1].acquire_read_lock_blocking("holder").unwrap();
    let refused = locks.acquire_locks_batch_blocking(batch().timeout(Duration::ZERO)).unwrap_err();
    assert!(matches!(&refused, LockError::Batch { .. }) && refused.to_string().contains("holder"), "{refused}");
    drop(held);
    let twice = batch().add_pinned(&pins[0], Mode::Shared).add_write_lock("b", "x");
    assert_eq!(locks.acquire_locks_batch_blocking(twice).unwrap().len(), 4, "a key is held once");
    drop(pins);
    assert_at_rest(&locks);
}

/// In another manager a pin is its key, and nothing more.
#[test]
fn batch_of_another_managers_pins_locks_keys() {
    let (mine, other) = (fifo(), fifo());
    // At the place that the other manager's pin has there.
    let elsewhere = other.pin(("b", "elsewhere")).unwrap();
    let (first, second) = (mine.pin(("b", "x")).unwrap(), other.pin(("b", "y")).unwrap());
    for (asked, free) in [(&mine, &other), (&other, &mine)] {
        for pins in [&[&first][..], &[&second], &[&first, &second], &[&second, &first]] {
            let batch =
                pins.iter().fold(BatchLockRequest::new("m"), |batch, pin| batch.add_pinned(pin, Mode::Exclusive));
            let all = asked.acquire_locks_batch_blocking(batch).unwrap();
            assert_eq!(all.len(), pins.len());
            for pin in pins {
                let key = pin.key();
                assert_eq!((asked.is_locked(key), free.is_locked(key)), (Ok(true), Ok(false)));
            }
            assert_eq!(other.is_locked(elsewhere.key()), Ok(false));
        }
    }
    drop((first, second, elsewhere));
    assert_at_rest(&mine);
    assert_at_rest(&other);
}

#[test]
fn awaited_pin_takes_or_waits() {
    let locks = fifo();
    let pin = locks.pin(("b", "o")).unwrap();
    let Poll::Ready(Ok(guard)) = ByHand::new(pin.acquire_write_lock("first")).poll() else { panic!("it is free") };
    assert_eq!(
        (guard.mode(), guard.owner().as_ref(), guard.key().to_string()),
        (Mode::Exclusive, "first", "b/o".into())
    );
    let mut waits = ByHand::waiting(pin.acquire_read_lock("second"));
    drop(guard);
    let Poll::Ready(Ok(guard)) = waits.poll() else { panic!("its turn has come") };
    assert_eq!(guard.mode(), Mode::Shared);
    let Poll::Ready(Ok(beside)) = ByHand::new(pin.acquire_read_lock("third")).poll() else { panic!("shared") };
    drop((beside, guard));
    let session = locks.session("s");
    let Poll::Ready(Ok(guard)) = ByHand::new(pin.acquire_write_lock(&session)).poll() else { panic!("it is free") };
    drop(guard);
    locks.close();
    assert!(matches!(ByHand::new(pin.acquire_write_lock("late")).poll(), Poll::Ready(Err(LockError::Closed))));
}

/// Keys of every length, some of which are too long to be packed.
#[test]
fn prepared_key_is_the_key() {
    let locks = fifo();
    let text: String = ('a'..='z').cycle().take(80).collect();
    for bucket in [0, 1, 3, 4, 7, 8, 16, 17, 32, 33, 70] {
        for object in (0..20).chain([31, 32, 33, 64, 70]) {
            for version in [None, Some(0), Some(5), Some(20)] {
                let key = |object: usize| {
                    let key = KeyRef::new(&text[..bucket], &text[..object]);
                    version.map_or(key, |version| key.with_version(&text[..version]))
                };
                let prepared = locks.prepare(key(object)).unwrap();
                assert_eq!(prepared.key().as_ref(), key(object));
                for _ in 0..2 {
                    let held = prepared.acquire_write_lock_blocking("me").unwrap();
                    assert_eq!(held.key(), key(object).to_owned());
                    assert!(prepared.try_acquire_read_lock("x").is_err());
                    assert!(locks.lock(LockRequest::read(key(object))).try_now().is_err());
                    drop(locks.lock(LockRequest::write(key(object + 1))).try_now().unwrap());
                    drop(held);
                    let (one, other) =
                        (prepared.acquire_read_lock_blocking("x").unwrap(), prepared.try_acquire_read_lock("y"));
                    drop((one, other.unwrap()));
                }
            }
        }
    }
    assert_at_rest(&locks);
}

#[test]
fn prepared_key_goes_by_every_way() {
    let locks = fifo();
    let key = locks.prepare(("b", "o")).unwrap();
    assert_eq!(format!("{key:?}"), "PreparedKey(ObjectKey(b/o))");
    let held = key.clone().try_acquire_write_lock("x").unwrap().into_grant();
    let mut waits = ByHand::waiting(key.acquire_write_lock("future"));
    drop(ByHand::waiting(key.acquire_read_lock("dropped")));
    locks.release(held).unwrap();
    let Poll::Ready(Ok(guard)) = waits.poll() else { panic!("its turn has come") };
    drop(guard);
    drop(locks.lock(key.write().priority(3).ttl(Duration::from_secs(60))).blocking().unwrap());
    // Another key takes its place in the table.
    for object in 0..100_u32 {
        drop(locks.lock(LockRequest::write(("b", object.to_string().as_str()))).blocking().unwrap());
        drop(key.acquire_write_lock_blocking("again").unwrap());
    }
    locks.close();
    assert_eq!(key.acquire_write_lock_blocking("late").unwrap_err(), LockError::Closed);
    assert_eq!(key.try_acquire_read_lock("late").unwrap_err(), LockError::Closed);
    let long = "x".repeat(locks.config().max_key_bytes + 1);
    assert!(matches!(locks.prepare(("b", long.as_str())), Err(LockError::InvalidKey { .. })));
}
