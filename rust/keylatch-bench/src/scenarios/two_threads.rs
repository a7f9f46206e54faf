//! Scenarios of two threads: keys of their own, or one key for both.

use std::sync::atomic::{AtomicU64, Ordering};

use super::pairs::{exclusive_pair, shared_pair};
use crate::keys::{Key, KeySet};
use crate::row::Row;
use crate::slices::Pace;
use crate::subject::{Exclusive, Shared, Subject};
use crate::subjects::bare::ParkingLot;
use crate::two_threads::{Figures, Lane, Slice, circumstances, in_turn};
use crate::unit::BareWord;

fn row<S: Subject>(scenario: &str, unit: &Figures, figures: &Figures) -> Row {
    let mut row = Row::new(S::NAME, scenario)
        .with("unit_ns", unit.best)
        .with("median_ns", figures.median)
        .with("median_ratio", figures.median / unit.median)
        .with("evenness", figures.evenness)
        .with("processor_1", figures.processor[0])
        .with("processor_2", figures.processor[1])
        .with("cores", crate::machine::cores() as f64)
        .with("slices_counted", figures.counted as f64)
        .with("slices", figures.slices as f64);
    row.ns = figures.best;
    row.ratio = figures.best / unit.best;
    row.ops = figures.ops;
    row.allocs = figures.allocs;
    row.remark(&circumstances(figures));
    row
}

/// Each thread on a key of its own: its cost beside that of one thread alone.
pub(super) fn disjoint<S: Exclusive>(pace: &Pace) -> Row {
    let (word, subject, keys) = (BareWord::new(), S::create(), KeySet::common(2));
    let on_its_own = |thread: usize, slice: &Slice| {
        let key = keys.get(thread);
        slice.repeat(|| exclusive_pair(&subject, key))
    };
    let [unit, alone, mut both] = in_turn(
        pace,
        || subject.enter(),
        [
            Lane::Alone(&|slice| slice.repeat(|| word.pairs(1))),
            Lane::Alone(&|slice| on_its_own(0, slice)),
            Lane::Together(&on_its_own),
        ],
    );
    // The lane's time between operations, times two: what an operation costs the thread that does it.
    both.best *= 2.0;
    both.median *= 2.0;
    row::<S>("disjoint_2t", &unit, &both).with("alone_ns", alone.best).with("versus_alone", both.best / alone.best)
}

/// Whether two threads that add to a plain count inside the lock lose nothing.
///
/// A subject that fails here has no business being compared.
fn excludes<S: Exclusive>(subject: &S, key: Key<'_>) -> bool {
    const TIMES: u64 = 2000;
    // Read and written apart: an atomic only so that a subject that fails is no undefined behaviour.
    let count = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let _entered = subject.enter();
                for _ in 0..TIMES {
                    subject.exclusive(key, || {
                        let seen = count.load(Ordering::Relaxed);
                        count.store(std::hint::black_box(seen) + 1, Ordering::Relaxed);
                    });
                }
            });
        }
    });
    count.into_inner() == 2 * TIMES
}

fn against_control<S: Subject>(scenario: &str, [unit, control, figures]: [Figures; 3]) -> Row {
    row::<S>(scenario, &unit, &figures)
        .with("control_ns", control.best)
        .with("control_median_ns", control.median)
        .with("control_slices_counted", control.counted as f64)
        .with("versus_parking_lot", figures.best / control.best)
        .with("median_versus_parking_lot", figures.median / control.median)
}

/// Both threads on one key, exclusive, beside a bare `parking_lot::RwLock`.
///
/// Both are measured in the same slices.
pub(super) fn hot_exclusive<S: Exclusive>(pace: &Pace) -> Row {
    let (word, subject, control, keys) = (BareWord::new(), S::create(), ParkingLot::create(), KeySet::common(1));
    let key = keys.get(0);
    let sound = excludes(&subject, key);
    let figures = in_turn(
        pace,
        || subject.enter(),
        [
            Lane::Alone(&|slice| slice.repeat(|| word.pairs(1))),
            Lane::Together(&|_, slice| slice.repeat(|| exclusive_pair(&control, key))),
            Lane::Together(&|_, slice| slice.repeat(|| exclusive_pair(&subject, key))),
        ],
    );
    let mut row = against_control::<S>("hot_exclusive_2t", figures);
    if !sound {
        row.remark("BROKEN: two threads were inside together");
    }
    row
}

/// Both threads on one key, shared, beside a bare `parking_lot::RwLock`.
///
/// Both are measured in the same slices.
pub(super) fn hot_shared<S: Shared>(pace: &Pace) -> Row {
    let (word, subject, control, keys) = (BareWord::new(), S::create(), ParkingLot::create(), KeySet::common(1));
    let key = keys.get(0);
    let figures = in_turn(
        pace,
        || subject.enter(),
        [
            Lane::Alone(&|slice| slice.repeat(|| word.pairs(1))),
            Lane::Together(&|_, slice| slice.repeat(|| shared_pair(&control, key))),
            Lane::Together(&|_, slice| slice.repeat(|| shared_pair(&subject, key))),
        ],
    );
    against_control::<S>("hot_shared_2t", figures)
}
