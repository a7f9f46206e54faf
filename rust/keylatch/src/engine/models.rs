//! The real engine under the model checker: every interleaving of a few steps, up to a number of preemptions, and every
//! value that a load may see under the memory model.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target-loom LOOM_MAX_PREEMPTIONS=2 cargo test --release -p keylatch --lib models
//! ```
//!
//! What a key protects is a [`loom::cell::UnsafeCell`] here: two holders that should exclude each other, or a holder
//! that does not see what the last one did, are reported as a data race; a waiter that is never woken as a deadlock.
//!
//! Under `--cfg loom` a manager is tiny: one warm slot a shard, rounds of two waiters, no spinning. The clock moves on by a
//! nanosecond with each look, and a sleep with a deadline ends immediately unless the waiter was woken: the checker tries
//! both. Timer and dispatcher threads are not modelled; what they call is.
//!
//! Models queue waiters from the main thread where the order of arrival is not what they are about: that costs nothing.

mod batches;
mod closing;
mod conversion;
mod deadlocks;
mod ending_waits;
mod full_table;
mod hand_over;
mod losing;
mod pinning;
mod reentering;
mod rekeying;
mod releasing;
mod seeing;
mod slots;
mod slots_in_use;
mod tasks;
mod tiers;
mod warm_key;

use super::acquire::{Answer, Wait};
use super::core::Core;
use super::waiting::Ended;
use super::wanted::Wanted;
use crate::config::{Fairness, LockConfig};
use crate::error::LockError;
use crate::hold::Grant;
use crate::key::KeyRef;
use crate::mode::Mode;
use crate::request::LockRequest;
use crate::wait::{Delivery, Ticket};
use loom::cell::UnsafeCell;
use loom::thread::JoinHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SHARED: Mode = Mode::Shared;
const EXCLUSIVE: Mode = Mode::Exclusive;

/// Every release looks who has waited for long enough, and everybody has.
const HANDED: Fairness = Fairness::Eventual { after: Duration::ZERO };
/// No waiter ever has waited long enough: waiters are notified to try.
const NEVER: Fairness = Fairness::Eventual { after: Duration::from_secs(3600) };
/// Some have and some have not: looks at the clock are what makes the time go by.
const SOON: Fairness = Fairness::Eventual { after: Duration::from_nanos(2) };

/// Keys that the models use.
const KEYS: [&str; 6] = ["0", "1", "2", "3", "4", "5"];

fn request(key: usize, mode: Mode) -> LockRequest<'static> {
    LockRequest::new(KeyRef::new("b", KEYS[key]), mode)
}

/// Runs a model through all its executions.
fn check(model: impl Fn() + Sync + Send + 'static) {
    check_within(usize::MAX, model);
}

/// Runs a model of few executions through those with more preemptions than usual.
fn check_deeper(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    check_bounded(|usual| usual.max(preemptions), model);
}

/// Runs a model through the executions with at most this many preemptions.
fn check_within(most_preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    check_bounded(|usual| usual.min(most_preemptions), model);
}

fn check_bounded(bound: impl Fn(usize) -> usize, model: impl Fn() + Sync + Send + 'static) {
    let executions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&executions);
    let mut checker = loom::model::Builder::new();
    checker.preemption_bound = Some(bound(checker.preemption_bound.unwrap_or(2)));
    checker.max_branches = checker.max_branches.max(20_000);
    let began = Instant::now();
    checker.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    eprintln!("{name}: {} executions, {:?}", executions.load(Ordering::Relaxed), began.elapsed());
}

/// A manager and what its keys protect; clones are the same one.
#[derive(Clone)]
struct Model(Arc<Parts>);

struct Parts {
    core: Arc<Core>,
    protected: Arc<[UnsafeCell<u32>; KEYS.len()]>,
}

// SAFETY: the cells are for the model checker to find two threads in, which it reports instead of letting it happen.
unsafe impl Sync for Parts {}
// SAFETY: as above.
unsafe impl Send for Parts {}

const MAX_WAITERS: u32 = 4;

impl Model {
    fn new(fairness: Fairness) -> Self {
        Self::with_shards(fairness, 1)
    }

    fn with_shards(fairness: Fairness, shards: u32) -> Self {
        Self::with(LockConfig { shards, fairness, ..LockConfig::default() })
    }

    fn with(config: LockConfig) -> Self {
        let config = LockConfig { max_locks: 3, max_waiters: MAX_WAITERS, ..config };
        let core = Arc::new(Core::new(config).expect("a valid setting"));
        let model = Self(Arc::new(Parts { core, protected: Arc::new(std::array::from_fn(|_| UnsafeCell::new(0))) }));
        model.open_fast_path();
        model
    }

    /// Uses the manager once, as a thread that asks for its second lock has.
    fn open_fast_path(&self) {
        let _ = self.core().local();
    }

    /// Makes a manager with a key that was held a moment ago.
    fn with_warm_key(fairness: Fairness, key: usize, mode: Mode) -> Self {
        let model = Self::new(fairness);
        model.lock_and_work(key, mode);
        model
    }

    fn core(&self) -> &Core {
        &self.0.core
    }

    fn spawn<T: 'static>(&self, run: impl FnOnce(&Self) -> T + 'static) -> JoinHandle<T> {
        let model = self.clone();
        loom::thread::spawn(move || {
            model.open_fast_path();
            run(&model)
        })
    }

    fn wanted(&self, key: usize, mode: Mode) -> Wanted<'static> {
        self.core().wanted(self.core().local(), &request(key, mode))
    }

    fn lock(&self, key: usize, mode: Mode) -> Grant {
        self.core().blocking(request(key, mode), false).expect("granted in the end")
    }

    fn try_lock(&self, key: usize, mode: Mode) -> Result<Grant, LockError> {
        self.core().try_now(request(key, mode), false)
    }

    fn lock_fast(&self, key: usize, mode: Mode) -> Option<Grant> {
        self.core().acquire_fast(self.core().local(), &self.wanted(key, mode)).ok()
    }

    /// Queues a request behind a holder. The caller waits for it later.
    fn queue(&self, key: usize, mode: Mode) -> Ticket {
        let answer =
            self.core().acquire_slow(self.core().local(), &self.wanted(key, mode), Wait::InLine(Delivery::Thread));
        match answer {
            Ok(Answer::Queued(ticket)) => ticket,
            other => panic!("{other:?} though it is held"),
        }
    }

    fn wait(&self, ticket: Ticket, key: usize) -> Ended {
        self.wait_until(ticket, key, None)
    }

    fn wait_until(&self, ticket: Ticket, key: usize, deadline: Option<Instant>) -> Ended {
        let hash = self.wanted(key, SHARED).hash;
        self.core().wait_blocking(self.core().local(), ticket.index(), hash, deadline)
    }

    /// Waits for as long as it takes; then works and releases.
    fn wait_and_work(&self, ticket: Ticket, key: usize, mode: Mode) {
        let Ended::Granted(Some(grant)) = self.wait(ticket, key) else { panic!("a wait without limit ended without") };
        self.work(key, mode);
        self.release(grant);
    }

    /// Does what a holder does: the checker objects if it may collide with another.
    fn work(&self, key: usize, mode: Mode) {
        let protected = &self.0.protected[key];
        match mode {
            // SAFETY: alone, or the model checker ends the execution before this.
            Mode::Exclusive => protected.with_mut(|value| unsafe { *value += 1 }),
            Mode::Shared => protected.with(|value| {
                // SAFETY: as above.
                std::hint::black_box(unsafe { *value });
            }),
        }
    }

    /// Returns how often an exclusive holder worked on a key.
    fn worked(&self, key: usize) -> u32 {
        // SAFETY: as in `work`.
        self.0.protected[key].with(|value| unsafe { *value })
    }

    fn release(&self, grant: Grant) {
        self.core().release_guard(grant);
    }

    fn lock_and_work(&self, key: usize, mode: Mode) {
        let grant = self.lock(key, mode);
        self.work(key, mode);
        self.release(grant);
    }

    /// Checks that there is no holder and no waiter, and that nothing is lost.
    ///
    /// Call it when all threads have ended and everything is released.
    fn assert_nothing_left(&self) {
        let core = self.core();
        let mut in_table = 0;
        for shard in 0..core.table.shard_count() {
            let mut shard = core.table.lock(shard);
            let mut idle = 0;
            let mut entries = Vec::new();
            shard.for_each(|index, entry| entries.push((index, entry)));
            entries.into_iter().for_each(|(index, entry)| shard.unbias(index, entry));
            shard.for_each(|_, entry| {
                let word = entry.word();
                assert!(word.is_free() && !word.has_waiters() && !word.is_to_evict(), "left behind: {word:?}");
                assert!(core.queue(entry).is_empty());
                assert!(!entry.is_shut() && entry.counted() == 0);
                idle += 1;
            });
            assert_eq!(idle, shard.entries());
            assert!(idle as usize <= crate::table::shard::WARM, "{idle} entries stay, and no thread evicts them");
            in_table += idle;
        }
        assert!(core.table.slots.are_empty(), "a reader is left in a slot");
        assert!((0..MAX_WAITERS).all(|_| core.waiters.take().is_some()), "a waiter was not given back");
        core.records.for_each(usize::MAX, |_, record| assert_eq!(record.held(), None));
        let records = core.locals().map(|local| drain(|| core.records.take(&local.records))).sum::<u32>();
        assert_eq!(records, RECORDS, "records lost or found");
        let entries = core.locals().map(|local| drain(|| core.table.arena().take(&local.entries))).sum::<u32>();
        assert_eq!(entries + in_table, ENTRIES, "entries lost or found");
    }
}

/// The places of an arena for 3 locks, and for 8 records more.
///
/// Whole pages of four, without index 0.
const ENTRIES: u32 = 3;
const RECORDS: u32 = 11;

/// How often `take` gives something.
fn drain(take: impl Fn() -> u32) -> u32 {
    let mut taken = Vec::new();
    loop {
        match take() {
            crate::memory::NONE => return taken.len() as u32,
            index => {
                assert!(!taken.contains(&index), "{index} is free twice");
                taken.push(index);
            }
        }
    }
}
