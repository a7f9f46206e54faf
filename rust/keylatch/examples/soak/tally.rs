//! What was done on purpose, how often, and what must not have happened.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Something that goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    DroppedFuture,
    Cancelled,
    TimedOut,
    PanicWithLock,
    PanicInCallback,
    DeadThread,
    LostGrant,
    StaleRelease,
    ForgedGrant,
    LeaseOver,
    TakenByForce,
    Crowd,
    Readers,
    FullTable,
    WaitersLimit,
    HostileKeys,
    Close,
    Fork,
}

impl Fault {
    pub(crate) const ALL: [(Fault, &'static str); 18] = [
        (Fault::DroppedFuture, "future dropped while it waited"),
        (Fault::Cancelled, "ticket cancelled"),
        (Fault::TimedOut, "time over (0, 1 ns, µs)"),
        (Fault::PanicWithLock, "panic in a critical section"),
        (Fault::PanicInCallback, "panic in a callback"),
        (Fault::DeadThread, "thread died with a lock"),
        (Fault::LostGrant, "grant lost, released elsewhere"),
        (Fault::StaleRelease, "grant released twice"),
        (Fault::ForgedGrant, "made-up grant released"),
        (Fault::LeaseOver, "lease over while the lock is held"),
        (Fault::TakenByForce, "lock taken away by force"),
        (Fault::Crowd, "10,000 waiters on one key"),
        (Fault::Readers, "70,000 readers on one key"),
        (Fault::FullTable, "full table"),
        (Fault::WaitersLimit, "more waiters than may be"),
        (Fault::HostileKeys, "round of hostile keys"),
        (Fault::Close, "manager closed under load"),
        (Fault::Fork, "fork in the middle"),
    ];
}

/// Violations that are kept word for word.
const KEPT: usize = 20;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    faults: [AtomicU64; Fault::ALL.len()],
    violations: AtomicU64,
    kept: Mutex<Vec<String>>,
}

impl Tally {
    pub(crate) fn injected(&self, fault: Fault) {
        self.faults[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.faults[fault as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn faults(&self) -> u64 {
        self.faults.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn violation(&self, what: String) {
        self.violations.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock().expect("no thread panics with it");
        if kept.len() < KEPT {
            kept.push(what);
        }
    }

    /// Something that has to be so.
    pub(crate) fn expect(&self, so: bool, otherwise: impl FnOnce() -> String) {
        if !so {
            self.violation(otherwise());
        }
    }

    pub(crate) fn violations(&self) -> u64 {
        self.violations.load(Ordering::Relaxed)
    }

    pub(crate) fn kept(&self) -> Vec<String> {
        self.kept.lock().expect("no thread panics with it").clone()
    }
}
