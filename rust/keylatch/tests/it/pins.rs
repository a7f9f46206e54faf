//! Pinned keys.

use crate::steps::{ByHand, assert_at_rest, until_in_line, with};
use keylatch::{
    BatchLockRequest, Fairness, FastObjectLockManager, Filter, LockConfig, LockError, LockRequest, Mode, Submitted,
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
