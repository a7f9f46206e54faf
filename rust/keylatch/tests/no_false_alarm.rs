//! Sessions that take their locks in one order never wait in a circle, whatever else they do, so none of them may be told
//! so: millions of operations at random, each of which looks for deadlocks before it sleeps.

mod steps;

use keylatch::{FastObjectLockManager, LockConfig, LockError, LockRequest, Mode, OwnedLockGuard, Session, Submitted};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use steps::{ByHand, FOREVER, POLICIES, assert_at_rest, with};

const KEYS: [&str; 12] = ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11"];
const THREADS: u64 = 6;

/// Operations of a run altogether; `make no-false-alarm` asks for ten million.
fn operations() -> u64 {
    std::env::var("KEYLATCH_DEADLOCK_OPERATIONS").map_or(300_000, |count| count.parse().expect("a number"))
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Asks for one lock, in one of the ways there are. `None` if it was not to be had, for an honest reason.
fn ask(locks: &FastObjectLockManager, request: LockRequest<'_>, random: &mut Random) -> Option<OwnedLockGuard> {
    let short = Duration::from_micros(random.below(200));
    let answer = match random.below(8) {
        0 => locks.lock(request).try_now().map(|guard| guard.into_owned()),
        1 => locks.lock(request.timeout(short)).blocking().map(|guard| guard.into_owned()),
        2 => {
            let mut future = ByHand::new(locks.lock(request));
            match future.poll() {
                std::task::Poll::Ready(answer) => answer.map(|guard| guard.into_owned()),
                std::task::Poll::Pending => return None,
            }
        }
        3 => {
            let queue = locks.completion_queue().unwrap();
            match locks.lock(request).with_queue(&queue, 0).unwrap() {
                Submitted::Granted(guard) => Ok(guard),
                Submitted::Waiting(ticket) => {
                    if random.below(2) == 0 {
                        locks.cancel(ticket);
                    }
                    queue.next(Some(FOREVER)).unwrap().expect("everybody goes on in the end").result
                }
            }
        }
        4 => ByHand::new(locks.lock(request)).after_wakes().map(|guard| guard.into_owned()),
        _ => locks.lock(request).blocking().map(|guard| guard.into_owned()),
    };
    match answer {
        Ok(guard) => Some(guard),
        Err(LockError::Timeout { .. } | LockError::WouldBlock { .. } | LockError::Cancelled { .. }) => None,
        Err(other) => panic!("nobody waits in a circle: {other}"),
    }
}

/// One transaction: some keys in ascending order, with changes of mind on the way. Returns how many operations it was.
fn transaction(locks: &FastObjectLockManager, session: &Session, random: &mut Random) -> u64 {
    let mut held: Vec<OwnedLockGuard> = Vec::new();
    let mut operations = 0;
    for key in KEYS {
        if random.below(4) != 0 {
            continue;
        }
        operations += 1;
        let mode = if random.below(2) == 0 { Mode::Shared } else { Mode::Exclusive };
        let priority = random.below(3) as u8;
        let request = LockRequest::new(("b", key), mode).owner(session).priority(priority);
        held.extend(ask(locks, request, random));
        let some = random.below(held.len().max(1) as u64) as usize;
        match (random.below(8), held.get_mut(some)) {
            (0, Some(guard)) => guard.downgrade(),
            (1, Some(guard)) => drop(guard.try_upgrade()),
            (2, Some(_)) => drop(held.swap_remove(some)),
            _ => continue,
        }
        operations += 1;
    }
    operations
}

#[test]
fn nobody_is_accused_where_all_keep_one_order() {
    for (run, fairness) in (1u64..).zip(POLICIES) {
        let locks =
            with(LockConfig { shards: 4, fairness, deadlock_delay: Some(Duration::ZERO), ..LockConfig::default() });
        let done = AtomicU64::new(0);
        let enough = operations() / POLICIES.len() as u64;
        std::thread::scope(|scope| {
            for number in 1..=THREADS {
                let (locks, done) = (&locks, &done);
                scope.spawn(move || {
                    let mut random = Random((run << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    while done.load(Ordering::Relaxed) < enough {
                        // A session of its own now and then, so that numbers are used again.
                        let session = locks.session("in order");
                        for _ in 0..20 {
                            done.fetch_add(transaction(locks, &session, &mut random), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let figures = locks.get_metrics().shard_metrics;
        eprintln!(
            "{fairness:?}: {} operations, {} waits, {} of them cut short, {} deadlocks",
            done.into_inner(),
            figures.waits,
            figures.timeouts + figures.cancelled,
            figures.deadlocks
        );
        assert!(figures.waits > 0, "the run is about those who wait");
        assert_eq!((figures.deadlocks, locks.recent_deadlocks()), (0, Vec::new()));
        assert_at_rest(&locks);
    }
}
