//! What can be seen while it runs: one line that is rewritten on a terminal, a few lines anywhere else.

use crate::Soak;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Returns when the time is over.
pub(crate) fn show(soak: &Soak, began: Instant) {
    let rewrites = std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let sparse = (soak.options.duration / 10).clamp(Duration::from_secs(2), Duration::from_secs(60));
    let interval = if rewrites { Duration::from_millis(250) } else { sparse };
    let end = began + soak.options.duration;
    let (mut last, mut taken_before) = (began, 0);
    while Instant::now() < end {
        std::thread::sleep(interval.min(end.saturating_duration_since(Instant::now())));
        let now = Instant::now();
        let figures = soak.locks.get_metrics().shard_metrics;
        let taken = figures.acquisitions();
        let line = format!(
            "{:7.1} s  {:>9.0} locks/s  {:>6} held  {:>6} waiting  {:>9} faults  {} violations",
            (now - began).as_secs_f64(),
            (taken - taken_before) as f64 / (now - last).as_secs_f64().max(1e-9),
            figures.holders,
            figures.waiters,
            soak.tally.faults(),
            soak.tally.violations(),
        );
        (last, taken_before) = (now, taken);
        let mut out = std::io::stdout();
        // There may be no reader any more; the report is tried in any case.
        let _ = if rewrites { write!(out, "\r\x1b[2K{line}") } else { writeln!(out, "{line}") };
        let _ = out.flush();
    }
    if rewrites {
        let _ = write!(std::io::stdout(), "\r\x1b[2K");
    }
}
