//! With a number of threads.

use std::hint::black_box;
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

use keylatch::{FastObjectLockManager, Owner};

use super::setup::{BUCKET, Keys, manager};
use crate::row::Row;

const RUN: Duration = Duration::from_millis(200);
const RUNS: usize = 5;
/// Pairs between two looks at whether time is over.
const CHUNK: u64 = 16;

/// Which key a thread takes, and how.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    Own,
    Exclusive,
    Shared,
}

/// What the threads of a run share.
struct Run<'a> {
    locks: &'a FastObjectLockManager,
    keys: &'a Keys,
    owner: Owner,
    load: Load,
    begin: Barrier,
    /// When the first of them began.
    ///
    /// A thread beside them would get its turn on a processor too late to say.
    began: OnceLock<Instant>,
}

impl Run<'_> {
    /// Takes locks until time is over. Returns how often, and when it ended.
    fn work(&self, thread: usize) -> (u64, Instant) {
        let key = self.keys.object(if self.load == Load::Own { thread } else { 0 });
        // Its own part of the manager is made before time begins.
        drop(self.locks.acquire_read_lock_blocking(BUCKET, self.keys.object(thread), self.owner));
        self.begin.wait();
        let began = *self.began.get_or_init(Instant::now);
        let mut pairs = 0;
        while began.elapsed() < RUN {
            for _ in 0..CHUNK {
                match self.load {
                    Load::Own | Load::Exclusive => {
                        drop(black_box(self.locks.acquire_write_lock_blocking(BUCKET, key, self.owner)));
                    }
                    Load::Shared => drop(black_box(self.locks.acquire_read_lock_blocking(BUCKET, key, self.owner))),
                }
            }
            pairs += CHUNK;
        }
        (pairs, Instant::now())
    }
}

/// Millions of pairs a second of all threads together, and the manager's bytes.
///
/// The median of some runs; the bytes are of the last one's end.
fn millions_a_second(threads: usize, load: Load) -> (f64, u64) {
    let (locks, keys) = (manager(), Keys::new(threads, 32));
    let owner = locks.owner("node-7");
    let (mut rates, mut bytes) = (Vec::new(), 0);
    for _ in 0..RUNS {
        let run = Run { locks: &locks, keys: &keys, owner, load, begin: Barrier::new(threads), began: OnceLock::new() };
        rates.push(std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|thread| {
                    scope.spawn({
                        let run = &run;
                        move || run.work(thread)
                    })
                })
                .collect();
            let ended: Vec<_> =
                workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect();
            let last = ended.iter().map(|(_, end)| *end).max().expect("there are threads");
            let took = last - *run.began.get().expect("they began");
            ended.iter().map(|(pairs, _)| pairs).sum::<u64>() as f64 / took.as_micros() as f64
        }));
        bytes = locks.get_metrics().bytes;
    }
    rates.sort_unstable_by(f64::total_cmp);
    (rates[RUNS / 2], bytes)
}

pub(super) fn measure(size: u64) -> Row {
    let fresh = manager().get_metrics().bytes;
    let (own, bytes) = millions_a_second(size as usize, Load::Own);
    let (exclusive, _) = millions_a_second(size as usize, Load::Exclusive);
    let (shared, _) = millions_a_second(size as usize, Load::Shared);
    Row::new("", "")
        .with("own_mops", own)
        .with("exclusive_mops", exclusive)
        .with("shared_mops", shared)
        .with("bytes", bytes.saturating_sub(fresh) as f64 / size as f64)
}
