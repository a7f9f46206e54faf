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
    /// Whether a lock ever belonged to it.
    is_used: bool,
}

/// A series at one moment.
pub(super) struct Sample {
    pub(super) label: Arc<str>,
    pub(super) counters: Counters,
    pub(super) gauges: Gauges,
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
        Self { label: label.into(), gone: Counters::default(), is_used: false }
    }

    /// Begins with what the locks counted that are gone.
    fn sample(&self) -> Sample {
        Sample { label: Arc::clone(&self.label), counters: self.gone, gauges: Gauges::default() }
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
    pub(super) fn sample(&self, locks: impl Iterator<Item = (usize, Counters, LockFigures)>) -> Vec<Sample> {
        let mut samples: Vec<_> = self.all.iter().map(Kept::sample).collect();
        for (series, counters, figures) in locks {
            samples[series].counters.add(&counters);
            samples[series].gauges.add(&figures);
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
