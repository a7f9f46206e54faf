//! What can be seen while it runs: one line that is rewritten on a terminal, a few lines anywhere else.

use crate::options::Options;
use crate::report::{count, percent};
use crate::store::Store;
use keylatch::FastObjectLockManager;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Returns when the time is over, or when it is stopped.
pub(crate) fn show(options: &Options, locks: &FastObjectLockManager, store: &Store, stop: &AtomicBool) {
    let rewrites = std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let sparse = (options.duration / 10).max(Duration::from_secs(1));
    let interval = if rewrites { Duration::from_millis(200) } else { sparse };
    let began = Instant::now();
    let end = began + options.duration;
    let (mut last, mut taken_before) = (began, 0);
    while !stop.load(Ordering::Relaxed) && Instant::now() < end {
        let now = Instant::now();
        std::thread::sleep((end - now).min(last + interval - now).min(Duration::from_millis(100)));
        let now = Instant::now();
        if now < last + interval || now >= end {
            continue;
        }
        let all = locks.get_metrics().shard_metrics;
        let per_second = (all.acquisitions() - taken_before) as f64 / (now - last).as_secs_f64();
        let line = format!(
            "{:5.1} s  {:>12} locks/s  fast path {:>8}  {:>4} waiting  {} violations",
            (now - began).as_secs_f64(),
            count(per_second as u64),
            percent(all.fast_path_rate()),
            all.waiters,
            store.violations()
        );
        (last, taken_before) = (now, all.acquisitions());
        let mut out = std::io::stdout();
        // There may be no reader any more; the report is tried in any case.
        let _ = if rewrites { write!(out, "\r\x1b[2K{line}") } else { writeln!(out, "{line}") };
        let _ = out.flush();
    }
    if rewrites {
        let _ = write!(std::io::stdout(), "\r\x1b[2K");
    }
}
