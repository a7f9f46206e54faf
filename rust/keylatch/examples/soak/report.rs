//! What came of it.

use crate::Soak;
use crate::tally::{Fault, Tally};
use keylatch::FastObjectLockManager;
use std::fmt::Write as _;
use std::time::Duration;

/// Bytes in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// The process, where the system tells.
    resident: Option<u64>,
    manager: u64,
}

impl Memory {
    pub(crate) fn of(locks: &FastObjectLockManager) -> Self {
        Self { resident: resident(), manager: locks.get_metrics().bytes }
    }
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Checks that no holds, no waiters and no keys but the warm ones are left.
///
/// Every lock taken was released.
pub(crate) fn at_rest(locks: &FastObjectLockManager, when: &str, tally: &Tally) {
    let figures = locks.get_metrics().shard_metrics;
    let most = 4 * u64::from(locks.config().shards);
    let clean = figures.holders == 0
        && figures.waiters == 0
        && figures.entries <= most
        && figures.acquisitions() == figures.releases;
    tally.expect(clean, || format!("something is left {when} ({most} entries may be): {figures:?}"));
}

/// Returns the whole report.
pub(crate) fn text(soak: &Soak, took: Duration, before: &Memory) -> String {
    let after = Memory::of(&soak.locks);
    let figures = soak.locks.get_metrics().shard_metrics;
    let mut text = String::new();
    // Writing to a string does not fail.
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:34} {value:>16}");
    };
    let mebibytes = |bytes: u64| format!("{:.2} MiB", bytes as f64 / (1 << 20) as f64);
    row("seconds", format!("{:.1}", took.as_secs_f64()));
    row("threads and 8 tasks of load", soak.options.threads.to_string());
    row("locks taken", figures.acquisitions().to_string());
    row("locks taken a second", format!("{:.0}", figures.acquisitions() as f64 / took.as_secs_f64()));
    row("waits", figures.waits.to_string());
    row("longest wait", format!("{:.1?}", figures.max_wait_time));
    row("faults injected", soak.tally.faults().to_string());
    for (fault, name) in Fault::ALL {
        row(&format!("  {name}"), soak.tally.count(fault).to_string());
    }
    let memory = [("at the start", before), ("at the end", &after)];
    for (when, memory) in memory {
        row(&format!("manager's bytes {when}"), mebibytes(memory.manager));
        row(&format!("resident bytes {when}"), memory.resident.map_or("unknown".into(), mebibytes));
    }
    row("violations", soak.tally.violations().to_string());
    for violation in soak.tally.kept() {
        let _ = writeln!(text, "violated: {violation}");
    }
    text
}
