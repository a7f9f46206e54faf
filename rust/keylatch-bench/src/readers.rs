//! Readers of one key: with slots of their own threads and without, on more and more threads.
//!
//! Before a lane with slots is measured two threads crowd its key, so that its readers use them. What the threads take
//! turns on a processor for is not counted by `cpu`: it is the figure to compare on a machine that does other work.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keylatch::{FastObjectLockManager, LockConfig, Owner, PinnedKey};

use crate::arguments::Options;
use crate::keys::{Key, KeySet};
use crate::machine::{self, ThreadUse, pin_this_thread};
use crate::report::{json, table};
use crate::row::Row;
use crate::scenarios::pairs::shared_pair;
use crate::subject::{Shared, Subject};
use crate::subjects::bare::ParkingLot;

const THREADS: [usize; 5] = [1, 2, 4, 8, 16];
const ROUNDS: usize = 7;
const RUN: Duration = Duration::from_millis(60);
const CROWDED: Duration = Duration::from_millis(60);
/// Pairs between two looks at whether time is over.
const CHUNK: u64 = 256;
/// Managers whose first writer is timed.
const WRITERS: usize = 15;

/// Keylatch with or without slots, by key or by a pin.
struct Reads<const SLOTS: bool, const PINNED: bool> {
    locks: FastObjectLockManager,
    owner: Owner,
    pin: PinnedKey,
}

impl<const SLOTS: bool, const PINNED: bool> Subject for Reads<SLOTS, PINNED> {
    const NAME: &'static str = match (SLOTS, PINNED) {
        (false, false) => "by key",
        (true, false) => "by key, slots",
        (false, true) => "pinned",
        (true, true) => "pinned, slots",
    };

    fn create() -> Self {
        let config = LockConfig { reader_slots: SLOTS, ..LockConfig::default() };
        let locks = FastObjectLockManager::with_config(config).expect("the other settings are defaults");
        let (owner, keys) = (locks.owner("node-7"), KeySet::common(1));
        let Key { bucket, object, .. } = keys.get(0);
        let pin = locks.pin((bucket, object)).expect("a short key");
        Self { locks, owner, pin }
    }
}

impl<const SLOTS: bool, const PINNED: bool> Shared for Reads<SLOTS, PINNED> {
    #[inline(always)]
    fn shared(&self, key: Key<'_>, inside: impl FnOnce()) {
        let guard = if PINNED {
            self.pin.acquire_read_lock_blocking(self.owner)
        } else {
            self.locks.acquire_read_lock_blocking(key.bucket, key.object, self.owner)
        };
        let _guard = guard.expect("a key without a writer is shared");
        inside();
    }
}

/// Nanoseconds of a pair: of all threads together, and of their processors.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

fn run<S: Shared>(subject: &S, threads: usize, lasts: Duration, spread: bool) -> Cost {
    let (begin, over, keys) = (Barrier::new(threads), AtomicBool::new(false), KeySet::common(1));
    let work = |thread: usize| {
        if spread {
            pin_this_thread(thread % machine::cores());
        }
        let key = keys.get(0);
        // What a thread makes for itself is there before time begins.
        (0..2).for_each(|_| shared_pair(subject, key));
        begin.wait();
        let (began, used) = (Instant::now(), ThreadUse::so_far());
        let mut pairs = 0;
        while !over.load(Ordering::Relaxed) {
            (0..CHUNK).for_each(|_| shared_pair(subject, key));
            pairs += CHUNK;
            if began.elapsed() >= lasts {
                over.store(true, Ordering::Relaxed);
            }
        }
        (pairs, began, Instant::now(), ThreadUse::so_far().since(used).processor)
    };
    let work = &work;
    let parts: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a reader does not panic")).collect()
    });
    let pairs = parts.iter().map(|part| part.0).sum::<u64>() as f64;
    let began = parts.iter().map(|part| part.1).min().expect("there are threads");
    let ended = parts.iter().map(|part| part.2).max().expect("there are threads");
    let cpu: Duration = parts.iter().map(|part| part.3).sum();
    Cost { wall: (ended - began).as_nanos() as f64 / pairs, cpu: cpu.as_nanos() as f64 / pairs }
}

/// Has the readers of the key use slots, where the subject has them.
fn crowd<S: Shared>(subject: S) -> S {
    run(&subject, 2, CROWDED, true);
    subject
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Measures one number of threads: all lanes in turn, some rounds.
fn with_threads(threads: usize) -> Vec<Row> {
    let control = ParkingLot::create();
    let (key, key_slots) = (crowd(Reads::<false, false>::create()), crowd(Reads::<true, false>::create()));
    let (pinned, pinned_slots) = (crowd(Reads::<false, true>::create()), crowd(Reads::<true, true>::create()));
    let lanes: [(&str, &dyn Fn() -> Cost); 5] = [
        (ParkingLot::NAME, &|| run(&control, threads, RUN, false)),
        (Reads::<false, false>::NAME, &|| run(&key, threads, RUN, false)),
        (Reads::<true, false>::NAME, &|| run(&key_slots, threads, RUN, false)),
        (Reads::<false, true>::NAME, &|| run(&pinned, threads, RUN, false)),
        (Reads::<true, true>::NAME, &|| run(&pinned_slots, threads, RUN, false)),
    ];
    let mut costs = lanes.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((_, lane), costs) in lanes.iter().zip(&mut costs) {
            costs.push(lane());
        }
    }
    let of = |lane: usize, what: fn(&Cost) -> f64| median(costs[lane].iter().map(what).collect());
    let row = |lane: usize| {
        let (wall, cpu) = (of(lane, |cost| cost.wall), of(lane, |cost| cost.cpu));
        let mut row = Row::new(lanes[lane].0, &format!("readers_{threads}"))
            .with("cpu_ns", cpu)
            .with("versus_parking_lot", wall / of(0, |cost| cost.wall));
        row.ns = wall;
        row
    };
    (0..lanes.len()).map(row).collect()
}

/// The first writer after a million reads in slots.
///
/// And reads after it, beside reads without slots.
fn writers() -> Row {
    const READS: u64 = 1_000_000;
    const AFTERWARDS: u64 = 1_000;
    let keys = KeySet::common(1);
    let key = keys.get(0);
    let timed = |run: &dyn Fn()| {
        let began = Instant::now();
        run();
        began.elapsed().as_nanos() as f64
    };
    let (mut writer, mut after, mut usual) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..WRITERS {
        let (slots, without) = (crowd(Reads::<true, false>::create()), crowd(Reads::<false, false>::create()));
        let read = |subject: &dyn Fn(), times: u64| (0..times).for_each(|_| subject());
        let (in_slots, by_word) = (|| shared_pair(&slots, key), || shared_pair(&without, key));
        std::thread::scope(|scope| {
            (0..2).for_each(|_| drop(scope.spawn(|| read(&in_slots, READS / 2))));
        });
        read(&in_slots, 2);
        read(&by_word, AFTERWARDS);
        let write = || drop(slots.locks.acquire_write_lock_blocking(key.bucket, key.object, slots.owner));
        writer.push(timed(&write) / 1000.0);
        after.push(timed(&|| read(&in_slots, AFTERWARDS)));
        usual.push(timed(&|| read(&by_word, AFTERWARDS)));
    }
    let worst = writer.iter().copied().fold(0.0, f64::max);
    Row::new("first writer", "after_readers")
        .with("writer_us", median(writer))
        .with("worst_us", worst)
        .with("reads_after", median(after) / median(usual))
}

/// Measures all, prints tables, and writes the rows as JSON.
pub(crate) fn measure(options: &Options) -> Result<(), String> {
    let machine = machine::describe();
    println!("{}", table::heading(&machine));
    let columns = [("ns", "ns a pair"), ("cpu_ns", "cpu ns a pair"), ("versus_parking_lot", "/ parking_lot")];
    let mut rows = Vec::new();
    for threads in THREADS {
        let mut measured = with_threads(threads);
        let says = format!("one key, shared, {threads} threads: time and processors of all together");
        println!("{}", table::series(&format!("readers_{threads}"), &says, &columns, &measured).trim_end());
        rows.append(&mut measured);
    }
    let columns = [("writer_us", "us"), ("worst_us", "worst us"), ("reads_after", "reads after / without slots")];
    rows.push(writers());
    let says = "a lock taken exclusively after a million reads in slots";
    println!("{}", table::series("after_readers", says, &columns, &rows[rows.len() - 1..]).trim_end());
    json::finish(options, "readers", &machine, &rows)
}
