//! The time series of a monitor: the first ids have one each, all others share one.
//!
//! A lock belongs to one series from its registration on, and what it has counted stays there when it goes. So counters
//! never fall, however locks come and go, and there are never more series than labels were given out.

use crate::stats::{Counters, LockFigures};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How many ids have time series of their own at most.
pub const MOST_LOCKS: usize = 100;
/// The label of all others; no id looks like this, for each has a colon.
const OTHERS: &str = "(others)";
/// The series of all others.
const SHARED: usize = 0;

pub(super) struct Series {
    /// The shared one first.
    all: Vec<Kept>,
    /// The series of each id as it is shown.
    of_text: HashMap<String, usize>,
}

struct Kept {
    label: Arc<str>,
    /// What its locks counted that are gone.
    gone: Counters,
    /// The longest sums of waits and holds that were shown.
    ///
    /// The clock learns its rate while it runs, so the same ticks may be less time at the next look.
    shown: Times,
    /// Whether a lock ever belonged to it.
    is_used: bool,
}

/// A series at one moment.
pub(super) struct Sample {
    pub(super) label: Arc<str>,
    pub(super) counters: Counters,
    pub(super) times: Times,
    pub(super) gauges: Gauges,
}

/// Sums of times, which never fall.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) waited: Duration,
    pub(super) held: Duration,
}

/// What may fall.
#[derive(Default)]
pub(super) struct Gauges {
    pub(super) waiters: u64,
    pub(super) holders: u64,
    pub(super) oldest_wait: Duration,
    pub(super) max_wait: Duration,
    pub(super) max_hold: Duration,
    pub(super) recent_max_wait: Duration,
    pub(super) recent_max_hold: Duration,
}

impl Default for Series {
    fn default() -> Self {
        Self { all: vec![Kept::new(OTHERS)], of_text: HashMap::new() }
    }
}

impl Kept {
    fn new(label: &str) -> Self {
        let (gone, shown) = (Counters::default(), Times::default());
        Self { label: label.into(), gone, shown, is_used: false }
    }

    /// Begins with what the locks counted that are gone.
    fn sample(&self) -> Sample {
        Sample { label: Arc::clone(&self.label), counters: self.gone, times: self.shown, gauges: Gauges::default() }
    }
}

impl Series {
    /// Returns the series of locks that are shown under this id.
    ///
    /// Makes one if there is room.
    pub(super) fn of(&mut self, text: &str) -> usize {
        let series = match self.of_text.get(text) {
            Some(series) => *series,
            None if self.of_text.len() < MOST_LOCKS => {
                let series = self.all.len();
                self.all.push(Kept::new(&escaped(text)));
                self.of_text.insert(text.to_owned(), series);
                series
            }
            None => SHARED,
        };
        self.all[series].is_used = true;
        series
    }

    /// Keeps what a lock of a series has counted.
    pub(super) fn keep(&mut self, series: usize, counters: &Counters) {
        self.all[series].gone.add(counters);
    }

    /// Returns what each series shows now.
    ///
    /// Takes the series and the figures of each lock.
    pub(super) fn sample(&mut self, locks: impl Iterator<Item = (usize, Counters, LockFigures)>) -> Vec<Sample> {
        let mut samples: Vec<_> = self.all.iter().map(Kept::sample).collect();
        for (series, counters, figures) in locks {
            samples[series].counters.add(&counters);
            samples[series].gauges.add(&figures);
        }
        for (kept, Sample { counters, times, .. }) in self.all.iter_mut().zip(&mut samples) {
            times.waited = times.waited.max(counters.wait_time());
            times.held = times.held.max(counters.holds.total);
            kept.shown = *times;
        }
        if !self.all[SHARED].is_used {
            samples.remove(SHARED);
        }
        samples
    }
}

impl Gauges {
    fn add(&mut self, figures: &LockFigures) {
        self.waiters += u64::from(figures.current_waiters);
        self.holders += figures.current_holders;
        self.oldest_wait = self.oldest_wait.max(figures.oldest_wait_time);
        self.max_wait = self.max_wait.max(figures.max_wait_time);
        self.max_hold = self.max_hold.max(figures.max_hold_time);
        self.recent_max_wait = self.recent_max_wait.max(figures.recent_max_wait_time);
        self.recent_max_hold = self.recent_max_hold.max(figures.recent_max_hold_time);
    }
}

/// Returns an id as the value of a label.
///
/// Ids show control characters escaped, so only quotes and backslashes are left.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn times_never_fall_while_the_rate_is_learned() {
        let mut series = Series::default();
        let lock = series.of("a.rs:b");
        let mut held = |nanos| {
            let mut counters = Counters::default();
            counters.holds.total = Duration::from_nanos(nanos);
            series.sample(std::iter::once((lock, counters, LockFigures::default())))[0].times.held.as_nanos()
        };
        // The same hold, at a rate that is measured anew.
        assert_eq!([held(1003), held(1001), held(1004)], [1003, 1003, 1004]);
    }
}
