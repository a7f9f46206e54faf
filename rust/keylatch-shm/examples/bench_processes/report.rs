//! The figures of a run, for the plot.

use std::fmt::Write;
use std::path::Path;

/// All figures, as they come.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) pairs: Vec<PairFigures>,
    pub(crate) waits: Vec<WaitFigures>,
}

/// Nanoseconds a pair.
pub(crate) struct PairFigures {
    pub(crate) name: String,
    pub(crate) keys: usize,
    pub(crate) exclusive: f64,
    pub(crate) shared: f64,
}

/// Microseconds.
pub(crate) struct WaitFigures {
    pub(crate) name: String,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Report {
    /// Writes it as JSON. No name has a character that JSON would not take as it is.
    pub(crate) fn write(&self, file: &Path) {
        let mut text = String::from("{\n \"pairs\": [");
        for (at, row) in self.pairs.iter().enumerate() {
            let PairFigures { name, keys, exclusive, shared } = row;
            let comma = if at == 0 { "" } else { "," };
            write!(
                text,
                "{comma}\n  {{\"name\": \"{name}\", \"keys\": {keys}, \"exclusive_ns\": {exclusive:.1}, \"shared_ns\": {shared:.1}}}"
            )
            .expect("memory");
        }
        text += "\n ],\n \"waits\": [";
        for (at, WaitFigures { name, p50, p99 }) in self.waits.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(text, "{comma}\n  {{\"name\": \"{name}\", \"p50_us\": {p50:.1}, \"p99_us\": {p99:.1}}}")
                .expect("memory");
        }
        text += "\n ]\n}\n";
        std::fs::write(file, text).expect("the file can be written");
    }
}
