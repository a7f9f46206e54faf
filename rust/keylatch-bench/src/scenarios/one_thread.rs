//! Scenarios of a single thread: what a lock costs without contention.

use std::cell::Cell;
use std::hint::black_box;

use super::pairs::{awaited_pair, batch_of_pairs, exclusive_pair, leased_pair, shared_pair};
use crate::keys::KeySet;
use crate::row::Row;
use crate::slices::{Figures, Lane, Pace, in_turn};
use crate::subject::{BATCH, Batch, Exclusive, ExclusiveAsync, Leasing, Shared, Subject};
use crate::subjects::bare::ParkingLot;
use crate::unit::BareWord;

/// The unit and a bare `parking_lot::RwLock`, which take turns with each subject.
struct Controls {
    word: BareWord,
    bare: ParkingLot,
    keys: KeySet,
}

impl Controls {
    fn new() -> Self {
        Self { word: BareWord::new(), bare: ParkingLot::create(), keys: KeySet::common(1) }
    }

    fn unit(&self) -> Lane<'_> {
        Lane::new(|count| self.word.pairs(count))
    }

    fn exclusive(&self) -> Lane<'_> {
        let key = self.keys.get(0);
        Lane::new(move |count| (0..count).for_each(|_| exclusive_pair(&self.bare, key)))
    }

    fn shared(&self) -> Lane<'_> {
        let key = self.keys.get(0);
        Lane::new(move |count| (0..count).for_each(|_| shared_pair(&self.bare, key)))
    }
}

/// Returns a row of `figures`, as a multiple of `unit` and of the `bare` lock.
fn row<S: Subject>(scenario: &str, unit: Figures, bare: Figures, figures: Figures) -> Row {
    let mut row = Row::new(S::NAME, scenario)
        .with("unit_ns", unit.best)
        .with("median_ns", figures.median)
        .with("median_ratio", figures.median / unit.median)
        .with("versus_parking_lot", figures.best / bare.best)
        .with("median_versus_parking_lot", figures.median / bare.median);
    row.ns = figures.best;
    row.ratio = figures.best / unit.best;
    row.ops = figures.ops;
    row.allocs = figures.allocs;
    row
}

pub(super) fn same_key_exclusive<S: Exclusive>(pace: &Pace) -> Row {
    let (controls, subject, keys) = (Controls::new(), S::create(), KeySet::common(1));
    let _entered = subject.enter();
    let key = keys.get(0);
    let pairs = |count| (0..count).for_each(|_| exclusive_pair(&subject, key));
    let [unit, bare, figures] = in_turn(pace, [controls.unit(), controls.exclusive(), Lane::new(pairs)]);
    row::<S>("same_key_exclusive", unit, bare, figures)
}

pub(super) fn same_key_shared<S: Shared>(pace: &Pace) -> Row {
    let (controls, subject, keys) = (Controls::new(), S::create(), KeySet::common(1));
    let _entered = subject.enter();
    let key = keys.get(0);
    let pairs = |count| (0..count).for_each(|_| shared_pair(&subject, key));
    let [unit, bare, figures] = in_turn(pace, [controls.unit(), controls.shared(), Lane::new(pairs)]);
    row::<S>("same_key_shared", unit, bare, figures)
}

/// `100k` or `1m`.
fn amount(keys: usize) -> &'static str {
    if keys == 1_000_000 { "1m" } else { "100k" }
}

/// Returns what reading `KEYS` keys in turn costs.
pub(super) fn key_strings<const KEYS: usize>(pace: &Pace) -> Row {
    let (word, keys) = (BareWord::new(), KeySet::common(KEYS));
    let mut next = 0;
    let read = Lane::new(|count| next = keys.read(next, count)).warmed_up_by(KEYS as u64);
    let [unit, figures] = in_turn(pace, [Lane::new(|count| word.pairs(count)), read]);
    let mut row = Row::new("key_strings", &format!("key_strings_{}", amount(KEYS)))
        .with("unit_ns", unit.best)
        .with("median_ns", figures.median)
        .with("median_ratio", figures.median / unit.median);
    (row.ns, row.ratio, row.ops, row.allocs) = (figures.best, figures.best / unit.best, figures.ops, figures.allocs);
    row
}

/// A slice covers 1 % of the keys at least, so that none is lucky with its keys.
fn keys_in_turn<S: Exclusive>(pace: &Pace, count: usize) -> Row {
    let (controls, subject, keys) = (Controls::new(), S::create(), KeySet::common(count));
    let _entered = subject.enter();
    let (mut next_read, mut next_pair) = (0, 0);
    let strings = Lane::new(|count| next_read = keys.read(next_read, count)).warmed_up_by(count as u64);
    let pairs = Lane::new(|count| next_pair = keys.in_turn(next_pair, count, |key| exclusive_pair(&subject, key)))
        .warmed_up_by(2 * count as u64);
    let [unit, bare, strings, whole] = in_turn(pace, [controls.unit(), controls.exclusive(), strings, pairs]);
    let figures = Figures {
        best: (whole.best - strings.best).max(0.0),
        median: (whole.median - strings.median).max(0.0),
        ..whole
    };
    row::<S>(&format!("keys_{}", amount(count)), unit, bare, figures)
        .with("whole_ns", whole.best)
        .with("strings_ns", strings.best)
}

pub(super) fn keys_100k<S: Exclusive>(pace: &Pace) -> Row {
    keys_in_turn::<S>(pace, 100_000)
}

pub(super) fn keys_1m<S: Exclusive>(pace: &Pace) -> Row {
    keys_in_turn::<S>(pace, 1_000_000)
}

pub(super) fn async_same_key<S: ExclusiveAsync>(pace: &Pace) -> Row {
    let (controls, subject, keys) = (Controls::new(), S::create(), KeySet::common(1));
    let _entered = subject.enter();
    let key = keys.get(0);
    let blocking = |count| (0..count).for_each(|_| exclusive_pair(&subject, key));
    let polled = |count| (0..count).for_each(|_| awaited_pair(&subject, key));
    let [unit, bare, blocking, figures] =
        in_turn(pace, [controls.unit(), controls.exclusive(), Lane::new(blocking), Lane::new(polled)]);
    row::<S>("async_same_key", unit, bare, figures)
        .with("blocking_ns", blocking.best)
        .with("versus_blocking", figures.best / blocking.best)
}

/// Sixteen keys of 256 at a time, against sixteen pairs on them one by one.
pub(super) fn batch_16<S: Batch>(pace: &Pace) -> Row {
    let (controls, subject, keys) = (Controls::new(), S::create(), KeySet::common(16 * BATCH));
    let _entered = subject.enter();
    let first_of = |turn: &Cell<usize>| {
        let first = turn.get() * BATCH;
        turn.set((turn.get() + 1) % 16);
        first
    };
    let (single_turn, batch_turn) = (Cell::new(0), Cell::new(0));
    let singles = |count| {
        for _ in 0..count {
            let first = first_of(&single_turn);
            (first..first + BATCH).for_each(|number| exclusive_pair(&subject, keys.get(number)));
        }
    };
    let batches = |count| {
        for _ in 0..count {
            batch_of_pairs(&subject, &keys, first_of(&batch_turn));
        }
    };
    let [unit, bare, singles, figures] =
        in_turn(pace, [controls.unit(), controls.exclusive(), Lane::new(singles), Lane::new(batches)]);
    row::<S>("batch_16", unit, bare, figures)
        .with("singles_ns", singles.best)
        .with("versus_16_singles", figures.best / singles.best)
}

/// A pair with a lease, against one without.
pub(super) fn leased<S: Leasing>(pace: &Pace) -> Row {
    let (controls, subject, keys) = (Controls::new(), S::create(), KeySet::common(1));
    let key = keys.get(0);
    let plain = |count| (0..count).for_each(|_| exclusive_pair(&subject, key));
    let leased = |count| (0..count).for_each(|_| leased_pair(&subject, key));
    let [unit, bare, plain, figures] =
        in_turn(pace, [controls.unit(), controls.exclusive(), Lane::new(plain), Lane::new(leased)]);
    row::<S>("leased", unit, bare, figures).with("plain_ns", plain.best).with("versus_plain", figures.best / plain.best)
}

/// A session that begins and ends without locking anything, against a plain pair.
pub(super) fn session<S: Leasing>(pace: &Pace) -> Row {
    let (controls, subject, keys) = (Controls::new(), S::create(), KeySet::common(1));
    let key = keys.get(0);
    let plain = |count| (0..count).for_each(|_| exclusive_pair(&subject, key));
    let sessions = |count| (0..count).for_each(|_| black_box(&subject).session());
    let [unit, bare, plain, figures] =
        in_turn(pace, [controls.unit(), controls.exclusive(), Lane::new(plain), Lane::new(sessions)]);
    row::<S>("session", unit, bare, figures)
        .with("plain_ns", plain.best)
        .with("versus_plain", figures.best / plain.best)
}
