//! Plain memory behind locks: what a holder wrote without atomics, the next one reads. Wrong totals are noticed here;
//! under a sanitizer so is an access that only happened to go well.

use crate::steps::*;
use keylatch::{BatchLockRequest, FastObjectLockManager, LockConfig, LockRequest, Mode, Submitted};
use std::cell::UnsafeCell;
use std::sync::Arc;
use std::time::Duration;

const KEYS: [&str; 3] = ["a", "b", "c"];
const THREADS: u64 = 4;
const ROUNDS: u64 = 1500;

/// A counter a key, each protected by its lock and by nothing else.
struct Protected([UnsafeCell<u64>; KEYS.len()]);

// SAFETY: the locks are what keeps accesses apart; that they do is what is tested.
unsafe impl Sync for Protected {}

impl Protected {
    fn new() -> Self {
        Self(std::array::from_fn(|_| UnsafeCell::new(0)))
    }

    fn add_one(&self, key: usize) {
        // SAFETY: the caller holds the key exclusively.
        unsafe { *self.0[key].get() += 1 }
    }

    fn read(&self, key: usize) -> u64 {
        // SAFETY: the caller holds the key.
        unsafe { *self.0[key].get() }
    }
}

/// One turn with a key, by one of the ways there are. Returns how often it wrote.
fn turn(locks: &FastObjectLockManager, protected: &Arc<Protected>, way: u64, key: usize) -> u64 {
    let request = |mode| LockRequest::new(("bucket", KEYS[key]), mode).owner("turn");
    match way {
        0 => {
            let _guard = locks.lock(request(Mode::Exclusive)).blocking().unwrap();
            protected.add_one(key);
            1
        }
        1 => {
            let _guard = locks.lock(request(Mode::Shared)).blocking().unwrap();
            std::hint::black_box(protected.read(key));
            0
        }
        2 => {
            let _guard = ByHand::new(locks.lock(request(Mode::Exclusive))).after_wakes().unwrap();
            protected.add_one(key);
            1
        }
        3 => match locks.lock(request(Mode::Exclusive).timeout(Duration::from_micros(20))).blocking() {
            Ok(mut guard) => {
                protected.add_one(key);
                guard.downgrade();
                std::hint::black_box(protected.read(key));
                1
            }
            Err(_) => 0,
        },
        4 => {
            let mut guard = locks.lock(request(Mode::Shared)).blocking().unwrap();
            let upgraded = guard.upgrade_blocking(Some(Duration::from_micros(20))).is_ok();
            if upgraded {
                protected.add_one(key);
            }
            u64::from(upgraded)
        }
        5 => match locks.lock(request(Mode::Exclusive)).try_now() {
            Ok(guard) => {
                protected.add_one(key);
                locks.release(guard.into_grant()).unwrap();
                1
            }
            Err(_) => 0,
        },
        6 => {
            let batch = KEYS
                .iter()
                .rev()
                .fold(BatchLockRequest::new("turn"), |batch, name| batch.add(("bucket", *name), Mode::Exclusive));
            let _all = locks.acquire_locks_batch_blocking(batch).unwrap();
            (0..KEYS.len()).for_each(|key| protected.add_one(key));
            KEYS.len() as u64
        }
        _ => {
            let theirs = Arc::clone(protected);
            let submitted = locks.lock(request(Mode::Exclusive)).with_callback(move |answer| {
                let _guard = answer.unwrap();
                theirs.add_one(key);
            });
            if let Submitted::Granted(_guard) = submitted.unwrap() {
                protected.add_one(key);
            }
            1
        }
    }
}

/// Numbers that look random, the same ones each time.
fn mixed(number: u64) -> u64 {
    let mixed = (number ^ number >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

#[test]
fn what_a_holder_wrote_the_next_one_reads() {
    for fairness in POLICIES {
        let locks = with(LockConfig { shards: 1, fairness, reader_slots: true, ..LockConfig::default() });
        let protected = Arc::new(Protected::new());
        let wrote: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (locks, protected) = (&locks, &protected);
                    scope.spawn(move || {
                        let chosen = (0..ROUNDS).map(|round| mixed(round * THREADS + thread));
                        chosen.map(|at| turn(locks, protected, at % 8, (at / 8) as usize % KEYS.len())).sum::<u64>()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // Callbacks may still be on their way.
        until("all callbacks are through", || {
            let figures = locks.get_metrics().shard_metrics;
            figures.holders == 0 && figures.waiters == 0
        });
        let all =
            KEYS.iter().fold(BatchLockRequest::new("sum"), |batch, name| batch.add(("bucket", *name), Mode::Shared));
        let all = locks.acquire_locks_batch_blocking(all).unwrap();
        assert_eq!((0..KEYS.len()).map(|key| protected.read(key)).sum::<u64>(), wrote, "{fairness:?}");
        drop(all);
        assert_at_rest(&locks);
    }
}
