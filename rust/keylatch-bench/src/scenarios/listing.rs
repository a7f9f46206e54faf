//! What it costs those who lock that another thread lists everything that is held, over and over.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::pairs::exclusive_pair;
use crate::keys::KeySet;
use crate::machine::{cores, pin_this_thread};
use crate::row::Row;
use crate::slices::Pace;
use crate::subject::{Exclusive, Holding, Listing};
use crate::unit::BareWord;

/// Locks held while it is measured, which every listing has.
const HELD: usize = 100_000;
/// Keys beyond those, for locks that come and go.
const IN_TURN: usize = 10_000;
/// Fewer rounds say nothing.
const FEWEST_ROUNDS: usize = 7;

/// The thread that lists while it is switched on.
struct Lister {
    wanted: AtomicBool,
    lists: AtomicBool,
    finished: AtomicBool,
    listings: AtomicU64,
    nanos: AtomicU64,
    /// The shortest listing.
    fewest: AtomicUsize,
}

impl Lister {
    fn run<S: Listing>(&self, subject: &S) {
        pin_this_thread(1);
        while !self.finished.load(Ordering::Acquire) {
            if !self.wanted.load(Ordering::Acquire) {
                self.lists.store(false, Ordering::Release);
                std::thread::park_timeout(Duration::from_millis(10));
                continue;
            }
            self.lists.store(true, Ordering::Release);
            let began = Instant::now();
            self.fewest.fetch_min(subject.list(), Ordering::Relaxed);
            self.nanos.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
            self.listings.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has it list, or rest, and waits until it does.
    fn set(&self, thread: &std::thread::Thread, lists: bool) {
        self.wanted.store(lists, Ordering::Release);
        thread.unpark();
        while self.lists.load(Ordering::Acquire) != lists {
            std::thread::yield_now();
        }
    }
}

/// What one thing costs, in slices without and with a listing beside it.
#[derive(Default)]
struct Costs {
    alone: Vec<f64>,
    listed: Vec<f64>,
}

impl Costs {
    /// Repeats an operation for a while; notes the nanoseconds each took.
    fn slice(&mut self, listed: bool, length: Duration, operations: u64, mut run: impl FnMut(u64)) -> u64 {
        let began = Instant::now();
        let mut done = 0;
        while began.elapsed() < length {
            run(operations);
            done += operations;
        }
        let cost = began.elapsed().as_nanos() as f64 / done as f64;
        if listed {
            self.listed.push(cost)
        } else {
            self.alone.push(cost)
        }
        done
    }

    fn medians(&mut self) -> [f64; 2] {
        [&mut self.alone, &mut self.listed].map(|costs| {
            costs.sort_unstable_by(f64::total_cmp);
            costs[costs.len() / 2]
        })
    }
}

/// One thread locks and releases while the other rests, and while it lists.
///
/// It takes first one warm key and then keys in turn.
pub(super) fn listing<S: Exclusive + Holding + Listing>(pace: &Pace) -> Row {
    let (word, subject, keys) = (BareWord::new(), S::create(), KeySet::common(HELD + IN_TURN));
    let held: Vec<_> = (0..HELD).map(|number| subject.hold(keys.get(number))).collect();
    let lister = Lister {
        wanted: AtomicBool::new(false),
        lists: AtomicBool::new(false),
        finished: AtomicBool::new(false),
        listings: AtomicU64::new(0),
        nanos: AtomicU64::new(0),
        fewest: AtomicUsize::new(usize::MAX),
    };
    // Long enough that a listing is seldom just beginning or ending.
    let length = pace.slice * 30;
    let (mut warm, mut in_turn, unit, ops) = std::thread::scope(|scope| {
        let (lister, subject, keys, word) = (&lister, &subject, &keys, &word);
        let thread = scope.spawn(move || lister.run(subject)).thread().clone();
        let measuring = scope.spawn(move || {
            pin_this_thread(0);
            let (mut warm, mut in_turn, mut unit, mut ops) = (Costs::default(), Costs::default(), f64::MAX, 0);
            let mut turn = 0;
            let mut next = || {
                turn = (turn + 1) % IN_TURN;
                keys.get(HELD + turn)
            };
            (0..2 * IN_TURN).for_each(|_| exclusive_pair(subject, next()));
            let deadline = Instant::now() + pace.subject * 2;
            let mut rounds = 0;
            while rounds < FEWEST_ROUNDS || Instant::now() < deadline {
                let began = Instant::now();
                word.pairs(10_000);
                unit = unit.min(began.elapsed().as_nanos() as f64 / 10_000.0);
                for listed in [false, true] {
                    lister.set(&thread, listed);
                    let key = keys.get(HELD);
                    ops +=
                        warm.slice(listed, length, 1000, |count| (0..count).for_each(|_| exclusive_pair(subject, key)));
                    ops += in_turn.slice(listed, length, 1000, |count| {
                        (0..count).for_each(|_| exclusive_pair(subject, next()));
                    });
                }
                rounds += 1;
            }
            lister.set(&thread, false);
            lister.finished.store(true, Ordering::Release);
            thread.unpark();
            (warm, in_turn, unit, ops)
        });
        measuring.join().expect("a measuring thread panics only if its subject fails")
    });
    assert!(lister.fewest.into_inner() >= HELD, "what is held all the while is listed");
    held.into_iter().for_each(|held| subject.give_back(black_box(held)));
    let listings = lister.listings.into_inner();
    let ([warm_alone, warm_listed], [turn_alone, turn_listed]) = (warm.medians(), in_turn.medians());
    let mut row = Row::new(S::NAME, "listing_2t")
        .with("unit_ns", unit)
        .with("alone_ns", warm_alone)
        .with("share", warm_alone / warm_listed)
        .with("in_turn_ns", turn_listed)
        .with("in_turn_alone_ns", turn_alone)
        .with("in_turn_share", turn_alone / turn_listed)
        .with("listing_ms", lister.nanos.into_inner() as f64 / 1e6 / listings.max(1) as f64)
        .with("listings", listings as f64)
        .with("held", HELD as f64);
    row.ns = warm_listed;
    row.ratio = warm_listed / unit;
    row.ops = ops;
    row.remark(&format!("{} cores, medians, {HELD} locks held, {listings} listings", cores()));
    if cores() < 2 {
        row.remark("NOT SOUND: two threads shared one core");
    }
    row
}
