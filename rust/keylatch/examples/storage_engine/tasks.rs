//! The tasks: what asynchronous code does, on one thread beside the others.

use crate::executor::{self, poll_once, yield_now};
use crate::jobs::{self, Kind};
use crate::random::Random;
use crate::results::{Results, Times};
use crate::store::Store;
use keylatch::{FastLockGuard, FastObjectLockManager, LockError, LockRequest, Mode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) const TASKS: u32 = 16;
/// Long enough that it ends nothing; the manager keeps the time of every wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the tasks until stopped.
pub(crate) fn work(locks: &FastObjectLockManager, store: &Store, stop: &AtomicBool) -> Result<Results, LockError> {
    let tasks = (0..TASKS).map(|number| task(number, locks, store, stop)).collect();
    let mut all = Results::default();
    for results in executor::run(tasks) {
        all.add(&results?);
    }
    Ok(all)
}

async fn task(
    number: u32,
    locks: &FastObjectLockManager,
    store: &Store,
    stop: &AtomicBool,
) -> Result<Results, LockError> {
    let owner = locks.owner(&format!("task-{number}"));
    let mut random = Random::new(1_000_000 + number);
    let mut results = Results::default();
    while !stop.load(Ordering::Relaxed) {
        let kind = match random.below(10) {
            0 => Kind::TaskAbandon,
            1..=3 => Kind::TaskWrite,
            _ => Kind::TaskRead,
        };
        let place = jobs::popular(store, &mut random);
        let mode = if kind == Kind::TaskRead { Mode::Shared } else { Mode::Exclusive };
        let request = LockRequest::new(store.key(place), mode).owner(owner).timeout(PATIENCE);
        let asked = Instant::now();
        let guard: Option<FastLockGuard<'_>> = match kind {
            Kind::TaskAbandon => poll_once(locks.lock(request).into_future()).await.transpose()?,
            _ => Some(locks.lock(request).await?),
        };
        let granted = Instant::now();
        match guard {
            None => results.gave_up(kind, granted - asked),
            Some(guard) => {
                let visit = store.enter(place, mode);
                if kind == Kind::TaskWrite {
                    yield_now().await;
                }
                drop(visit);
                drop(guard);
                results.done(kind, Times { asked, granted, released: Instant::now() });
            }
        }
        yield_now().await;
    }
    Ok(results)
}
