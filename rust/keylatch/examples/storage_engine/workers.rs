//! The threads.

use crate::jobs::{self, Kind};
use crate::options::Options;
use crate::random::Random;
use crate::results::{Results, Times};
use crate::store::{BUCKET, Place, Store, Visit};
use keylatch::{BatchLockRequest, FastObjectLockManager, LockError, LockRequest, Mode, Owner};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const IMPATIENCE: Duration = Duration::from_micros(100);
const COMPACTION: Duration = Duration::from_millis(1);
const DELETED_TOGETHER: u32 = 8;

/// What a job came to: when it had its lock, or that it did without.
type Outcome = Result<Result<Times, Duration>, LockError>;

struct Worker<'w> {
    locks: &'w FastObjectLockManager,
    store: &'w Store,
    owner: Owner,
    random: Random,
}

/// Works until stopped. An error is one that the workload does not expect.
pub(crate) fn work(
    number: u32,
    options: &Options,
    locks: &FastObjectLockManager,
    store: &Store,
    stop: &AtomicBool,
) -> Result<Results, LockError> {
    let owner = locks.owner(&format!("worker-{number}"));
    let mut worker = Worker { locks, store, owner, random: Random::new(number) };
    let mut results = Results::default();
    let mut compaction_due = worker.next_compaction(Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let mut kind = jobs::next(&mut worker.random);
        if kind == Kind::Write && options.sabotage && worker.random.below(150) == 0 {
            worker.write_without_lock();
            continue;
        }
        if Instant::now() >= compaction_due {
            kind = Kind::Compact;
            compaction_due = worker.next_compaction(compaction_due);
        }
        match worker.do_job(kind)? {
            Ok(times) => results.done(kind, times),
            Err(waited) => results.gave_up(kind, waited),
        }
    }
    Ok(results)
}

impl Worker<'_> {
    fn next_compaction(&mut self, after: Instant) -> Instant {
        after + Duration::from_millis(u64::from(50 + self.random.below(100)))
    }

    fn do_job(&mut self, kind: Kind) -> Outcome {
        let (store, random) = (self.store, &mut self.random);
        match kind {
            Kind::Write => {
                let place = jobs::object(store, random);
                self.hold(LockRequest::write(store.key(place)), place, || {})
            }
            Kind::ReadVersion => {
                let (_, version) = jobs::versioned(store, random);
                self.hold(LockRequest::read(store.key(version)), version, || {})
            }
            Kind::Hot => {
                let place = store.manifest();
                let mode = if random.below(4) == 0 { Mode::Exclusive } else { Mode::Shared };
                self.hold(LockRequest::new(store.key(place), mode), place, || {})
            }
            Kind::Impatient => {
                let place = jobs::popular(store, random);
                self.hold(LockRequest::write(store.key(place)).timeout(IMPATIENCE), place, || {})
            }
            Kind::Compact => {
                let place = jobs::popular(store, random);
                self.hold(LockRequest::write(store.key(place)), place, || std::thread::sleep(COMPACTION))
            }
            Kind::Publish => self.publish(),
            Kind::Revise => self.revise(),
            Kind::ReadModify => self.read_modify(),
            Kind::DeleteBatch => self.delete_batch(),
            _ => {
                let place = jobs::object(store, random);
                self.hold(LockRequest::read(store.key(place)), place, || {})
            }
        }
    }

    /// One lock, held for some work.
    fn hold(&self, request: LockRequest<'_>, place: Place, work: impl FnOnce()) -> Outcome {
        let asked = Instant::now();
        let guard = match self.locks.lock(request.owner(self.owner)).blocking() {
            Ok(guard) => guard,
            Err(LockError::Timeout { .. }) => return Ok(Err(asked.elapsed())),
            Err(error) => return Err(error),
        };
        let granted = Instant::now();
        let mut visit = self.store.enter(place, guard.mode());
        if guard.mode() == Mode::Exclusive {
            visit = visit.fenced(guard.fence());
        }
        work();
        drop(visit);
        drop(guard);
        Ok(Ok(Times { asked, granted, released: Instant::now() }))
    }

    /// Writes a new version and makes it the latest, in one batch.
    fn publish(&mut self) -> Outcome {
        let (latest, version) = jobs::versioned(self.store, &mut self.random);
        let batch = BatchLockRequest::new(self.owner)
            .add(self.store.key(version), Mode::Exclusive)
            .add(self.store.key(latest), Mode::Exclusive);
        self.hold_batch(batch, &[(version, Mode::Exclusive), (latest, Mode::Exclusive)])
    }

    /// Takes some objects out of the bucket, whose list must not change meanwhile.
    fn delete_batch(&mut self) -> Outcome {
        let first = self.random.below(self.store.objects() - DELETED_TOGETHER);
        let mut places = vec![(self.store.manifest(), Mode::Shared)];
        places.extend((0..DELETED_TOGETHER).map(|next| (self.store.latest(first + next), Mode::Exclusive)));
        let batch = places
            .iter()
            .fold(BatchLockRequest::new(self.owner), |batch, (place, mode)| batch.add(self.store.key(*place), *mode));
        self.hold_batch(batch, &places)
    }

    fn hold_batch(&self, batch: BatchLockRequest<'_>, places: &[(Place, Mode)]) -> Outcome {
        let asked = Instant::now();
        let held = self.locks.acquire_locks_batch_blocking(batch)?;
        let granted = Instant::now();
        let visits: Vec<Visit<'_>> = places.iter().map(|(place, mode)| self.store.enter(*place, *mode)).collect();
        drop(visits);
        drop(held);
        Ok(Ok(Times { asked, granted, released: Instant::now() }))
    }

    /// Writes, and reads on from where it wrote: no other may have written in between.
    fn revise(&mut self) -> Outcome {
        let place = jobs::object(self.store, &mut self.random);
        let asked = Instant::now();
        let mut guard = self.locks.lock(LockRequest::write(self.store.key(place)).owner(self.owner)).blocking()?;
        let granted = Instant::now();
        let changes = self.store.enter(place, Mode::Exclusive).fenced(guard.fence()).changes();
        guard.downgrade();
        drop(self.store.enter(place, Mode::Shared).nothing_since(changes));
        drop(guard);
        Ok(Ok(Times { asked, granted, released: Instant::now() }))
    }

    /// Reads, and writes what follows from it, without another write in between.
    ///
    /// If another reader wants to do the same, this one lets go.
    fn read_modify(&mut self) -> Outcome {
        let place = jobs::object(self.store, &mut self.random);
        let (bucket, object) = (BUCKET, self.store.name(place));
        let asked = Instant::now();
        let mut guard = self.locks.acquire_read_lock_blocking(bucket, object, self.owner)?;
        let granted = Instant::now();
        let changes = self.store.enter(place, Mode::Shared).changes();
        match guard.upgrade_blocking(Some(IMPATIENCE)) {
            Ok(()) => {}
            Err(LockError::UpgradeConflict { .. } | LockError::Timeout { .. }) => return Ok(Err(asked.elapsed())),
            Err(error) => return Err(error),
        }
        drop(self.store.enter(place, Mode::Exclusive).fenced(guard.fence()).nothing_since(changes));
        drop(guard);
        Ok(Ok(Times { asked, granted, released: Instant::now() }))
    }

    /// What must never happen, on the object where it is noticed soonest.
    fn write_without_lock(&self) {
        let visit = self.store.enter(self.store.manifest(), Mode::Exclusive);
        let until = Instant::now() + Duration::from_micros(5);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        drop(visit);
    }
}
