//! Sessions that take their locks in one order never wait in a circle, whatever else they do: batches, leases that they
//! lose, or waiting to upgrade the last lock that they took. So none of them may get a deadlock: millions of
//! operations at random, each of which looks for deadlocks before it sleeps.

use crate::steps::{ByHand, FOREVER, POLICIES, assert_at_rest, until, with};
use keylatch::{
    BatchLockRequest, BatchMode, FastObjectLockManager, LockConfig, LockError, LockRequest, Mode, OwnedLockGuard,
    Reentrancy, Session, Submitted,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// Asks for one lock, in a random way; `None` if it was rightly refused.
///
/// `None` if it was not to be had, for an honest reason.
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
        Err(other) => panic!("no session waits in a circle: {other}"),
    }
}

/// A lock of a transaction, by its place in the order.
struct Hold {
    place: usize,
    guard: OwnedLockGuard,
}

/// What was done of each kind, so that the run is known to be about all of them.
#[derive(Debug, Default)]
struct Done {
    operations: AtomicU64,
    upgrades_that_waited: AtomicU64,
    batches: AtomicU64,
    lost_leases: AtomicU64,
    counted: AtomicU64,
}

/// A request, sometimes with a lease that may be over before the transaction is.
fn request<'k>(key: &'k str, mode: Mode, session: &'k Session, random: &mut Random) -> LockRequest<'k> {
    let request = LockRequest::new(("b", key), mode).owner(session).priority(random.below(3) as u8);
    match random.below(8) {
        0 => request.ttl(Duration::from_micros(1 + random.below(300))),
        _ => request,
    }
}

fn any_mode(random: &mut Random) -> Mode {
    if random.below(2) == 0 { Mode::Shared } else { Mode::Exclusive }
}

/// Asks for some of the keys from a place on, together.
///
/// Returns the place after the last of them.
fn ask_for_many(
    locks: &FastObjectLockManager,
    session: &Session,
    (held, from): (&mut Vec<Hold>, usize),
    random: &mut Random,
) -> usize {
    let to = (from + 1 + random.below(3) as usize).min(KEYS.len());
    let mut batch = BatchLockRequest::new(session);
    // In any order: it is the batch that keeps the one that all keep.
    for key in KEYS[from..to].iter().rev() {
        batch = match any_mode(random) {
            Mode::Shared => batch.add_read_lock("b", key),
            Mode::Exclusive => batch.add_write_lock("b", key),
        };
    }
    let batch = match random.below(4) {
        0 => batch.timeout(Duration::from_micros(random.below(200))),
        1 => batch.mode(BatchMode::BestEffort).timeout(Duration::from_micros(random.below(200))),
        2 => batch.ttl(Duration::from_micros(1 + random.below(300))),
        _ => batch,
    };
    let answer = match random.below(2) {
        0 => locks.acquire_locks_batch_blocking(batch),
        _ => ByHand::new(Box::pin(locks.acquire_locks_batch(batch))).after_wakes(),
    };
    match answer {
        Ok(got) => {
            let honest = |why: &LockError| matches!(why, LockError::Timeout { .. } | LockError::WouldBlock { .. });
            assert!(got.missing().iter().all(|(_, why)| honest(why)), "{:?}", got.missing());
            let place = |key: &str| KEYS.iter().position(|known| *known == key).expect("one of them");
            held.extend(got.into_guards().into_iter().map(|guard| {
                let guard = guard.into_owned();
                Hold { place: place(std::str::from_utf8(guard.key().object()).unwrap()), guard }
            }));
        }
        Err(LockError::Batch { cause, .. }) if matches!(*cause, LockError::Timeout { .. }) => {}
        Err(other) => panic!("no session waits in a circle: {other}"),
    }
    to
}

/// Waits for an upgrade of the last key held, by one thread of a key.
///
/// So those who have to go first wait for later keys at most, and no two upgrades wait for each other.
fn upgrade(guard: &mut OwnedLockGuard, random: &mut Random) -> bool {
    if guard.try_upgrade().is_ok() {
        return false;
    }
    let answer = match random.below(4) {
        0 => guard.upgrade_blocking(Some(Duration::from_micros(random.below(200)))),
        1 => ByHand::new(guard.upgrade(None)).after_wakes(),
        2 => match ByHand::new(guard.upgrade(None)).poll() {
            std::task::Poll::Ready(answer) => answer,
            std::task::Poll::Pending => return false,
        },
        _ => guard.upgrade_blocking(None),
    };
    match answer {
        Ok(()) => true,
        Err(LockError::Timeout { .. } | LockError::LeaseLost { .. } | LockError::Cancelled { .. }) => false,
        Err(other) => panic!("no session waits in a circle: {other}"),
    }
}

/// One transaction: some keys in ascending order, with changes of mind on the way.
fn transaction(locks: &FastObjectLockManager, session: &Session, thread: u64, done: &Done, random: &mut Random) {
    let mut held: Vec<Hold> = Vec::new();
    let note = |what: &AtomicU64| {
        what.fetch_add(1, Ordering::Relaxed);
    };
    let mut next = 0;
    while next < KEYS.len() {
        let place = next;
        next += 1;
        if random.below(4) != 0 {
            continue;
        }
        note(&done.operations);
        if random.below(8) == 0 {
            next = ask_for_many(locks, session, (&mut held, place), random);
            note(&done.batches);
        } else {
            let wanted = request(KEYS[place], any_mode(random), session, random);
            held.extend(ask(locks, wanted, random).map(|guard| Hold { place, guard }));
        }
        // So that others come while something is held, however few cores there are.
        if random.below(4) == 0 {
            std::thread::yield_now();
        }
        let some = random.below(held.len().max(1) as u64) as usize;
        let Some(Hold { place: its, guard }) = held.get_mut(some) else { continue };
        let (its, mode) = (*its, guard.mode());
        match random.below(8) {
            0 => guard.downgrade(),
            1 => drop(guard.try_upgrade()),
            2 => {
                let lost = matches!(held.swap_remove(some).guard.try_release(), Err(LockError::LeaseLost { .. }));
                done.lost_leases.fetch_add(u64::from(lost), Ordering::Relaxed);
            }
            // Again what it has alone, which it need not wait for: unless it has lost it.
            3 if locks.config().reentrancy == Reentrancy::Count
                && mode == Mode::Exclusive
                && guard.remaining().is_none() =>
            {
                let again = LockRequest::new(("b", KEYS[its]), any_mode(random)).owner(session);
                let again = ask(locks, again, random).expect("it has it");
                held.push(Hold { place: its, guard: again });
                note(&done.counted);
            }
            4 | 5 => {
                let last = held.iter().map(|hold| hold.place).max();
                let mut of_last = held.iter_mut().filter(|hold| Some(hold.place) == last);
                match (of_last.next(), of_last.next()) {
                    (Some(Hold { place, guard }), None) if *place as u64 % THREADS == thread - 1 => {
                        if guard.mode() == Mode::Shared && upgrade(guard, random) {
                            note(&done.upgrades_that_waited);
                        }
                    }
                    _ => continue,
                }
            }
            _ => continue,
        }
        note(&done.operations);
    }
}

#[test]
fn one_common_order_has_no_deadlocks() {
    for (run, fairness) in (1u64..).zip(POLICIES) {
        let reentrancy = if run % 2 == 0 { Reentrancy::Count } else { Reentrancy::Deny };
        let lock_delay = Duration::from_micros(if run > 2 { 50 } else { 0 });
        let deadlock_delay = Some(Duration::ZERO);
        let locks =
            with(LockConfig { shards: 4, fairness, deadlock_delay, reentrancy, lock_delay, ..LockConfig::default() });
        let done = Done::default();
        let enough = operations() / POLICIES.len() as u64;
        std::thread::scope(|scope| {
            for number in 1..=THREADS {
                let (locks, done) = (&locks, &done);
                scope.spawn(move || {
                    let mut random = Random((run << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    while done.operations.load(Ordering::Relaxed) < enough {
                        // A session of its own now and then, so that numbers are used again.
                        let session = locks.session("in order");
                        for _ in 0..20 {
                            transaction(locks, &session, number, done, &mut random);
                        }
                    }
                });
            }
        });
        let figures = locks.get_metrics().shard_metrics;
        eprintln!(
            "{fairness:?}, {reentrancy:?}: {done:?}, {} waits, {} of them cut short, {} deadlocks",
            figures.waits,
            figures.timeouts + figures.cancelled,
            figures.deadlocks
        );
        let all = [&done.upgrades_that_waited, &done.batches, &done.lost_leases, &AtomicU64::new(figures.waits)];
        assert!(all.iter().all(|figure| figure.load(Ordering::Relaxed) > 0), "the run is about all of them: {done:?}");
        assert_eq!(done.counted.into_inner() > 0, reentrancy == Reentrancy::Count);
        assert_eq!((figures.deadlocks, locks.recent_deadlocks()), (0, Vec::new()));
        until("what was kept shut is open", || locks.get_metrics().shard_metrics.entries <= 16);
        assert_at_rest(&locks);
    }
}
