//! Everything that can go wrong around a lock manager, for as long as you like, with a witness.
//!
//! Threads and tasks use a few hot keys and many cold ones without a pause. Into that, others give up, cancel, panic with
//! a lock, panic in callbacks, die, lose grants and release what they do not hold; and from time to time there are ten
//! thousand waiters or seventy thousand readers on one key, a full table, hostile keys, a manager closed under load, a
//! fork. The [`ledger`] is what the locks protect: it finds every moment in which two were where one may be.
//!
//! ```text
//! cargo run --release -p keylatch --example soak -- --help
//! ```
//!
//! [`options`] reads the command line, [`load`] and [`tasks`] are the load, [`faults`] goes on beside it, [`crowds`],
//! [`limits`] and [`endings`] come in turn; [`tally`] counts, [`progress`] and [`report`] show.

#![allow(clippy::print_stdout, reason = "a program talks to its user")]

mod crowds;
mod endings;
mod faults;
mod ledger;
mod limits;
mod load;
mod options;
mod progress;
mod random;
mod report;
mod tally;
mod tasks;

use keylatch::{FastObjectLockManager, LockConfig};
use ledger::Ledger;
use options::{Command, Options};
use random::Random;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tally::{Fault, Tally};

/// How long the last ones may take to end: far longer than any of them does.
const PATIENCE: Duration = Duration::from_secs(60);

/// What everybody shares.
#[derive(Debug)]
struct Soak {
    options: Options,
    locks: FastObjectLockManager,
    ledger: Ledger,
    tally: Tally,
    stop: AtomicBool,
}

impl Soak {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn random(&self, number: u64) -> Random {
        Random::new(self.options.seed.wrapping_add(number << 32))
    }
}

fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(Command::Run(options)) => options,
        Ok(Command::Help) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("soak: {problem}\n(--help shows the options)");
            return ExitCode::from(2);
        }
    };
    let config = LockConfig {
        fairness: options.fairness,
        shards: 64,
        overtake_limit: 16,
        reader_slots: true,
        ..LockConfig::default()
    };
    let locks = match FastObjectLockManager::with_config(config) {
        Ok(locks) => locks,
        Err(problem) => {
            eprintln!("soak: {problem}");
            return ExitCode::FAILURE;
        }
    };
    println!("seed {}", options.seed);
    let before = report::Memory::of(&locks);
    let tally = Tally::default();
    let soak = Arc::new(Soak { options, locks, ledger: Ledger::new(), tally, stop: AtomicBool::new(false) });
    let took = run(&soak);
    report::at_rest(&soak.locks, "at the end", &soak.tally);
    print!("{}", report::text(&soak, took, &before));
    if soak.tally.violations() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Everything that goes on at the same time.
fn run(soak: &Arc<Soak>) -> Duration {
    let began = Instant::now();
    let mut running = Vec::new();
    for number in 0..soak.options.threads {
        running.push(start(soak, "load", u64::from(number), load::work));
    }
    running.push(start(soak, "tasks", 1000, |soak, random| tasks::work(soak, random.next())));
    running.push(start(soak, "faults", 1001, faults::work));
    running.push(start(soak, "faults in turn", 1002, faults_in_turn));
    progress::show(soak, began);
    soak.stop.store(true, Ordering::Relaxed);
    let patience = Instant::now() + PATIENCE;
    for (what, thread) in running {
        while !thread.is_finished() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !thread.is_finished() {
            // It would be waited for without end: the report says so.
            soak.tally.violation(format!("{what} still waits for a lock:\n{}", soak.locks.get_metrics()));
        } else if thread.join().is_err() {
            soak.tally.violation(format!("{what} panicked"));
        }
    }
    began.elapsed()
}

fn start(
    soak: &Arc<Soak>,
    what: &'static str,
    number: u64,
    work: impl FnOnce(&Arc<Soak>, &mut Random) + Send + 'static,
) -> (&'static str, std::thread::JoinHandle<()>) {
    let soak = Arc::clone(soak);
    (what, std::thread::spawn(move || work(&soak, &mut soak.random(number))))
}

/// The slow faults, each at least once, then again until the time is over.
fn faults_in_turn(soak: &Arc<Soak>, random: &mut Random) {
    type Scene = fn(&Soak, &mut Random);
    let scenes: [(Fault, Scene); 7] = [
        (Fault::HostileKeys, limits::hostile_keys),
        (Fault::FullTable, limits::full_table),
        (Fault::WaitersLimit, limits::too_many_waiters),
        (Fault::Crowd, crowds::ten_thousand_waiters),
        (Fault::Readers, crowds::seventy_thousand_readers),
        (Fault::Close, endings::close_under_load),
        (Fault::Fork, endings::fork_in_the_middle),
    ];
    for turn in 0.. {
        for (fault, scene) in scenes {
            if turn > 0 && soak.stopped() {
                return;
            }
            scene(soak, random);
            soak.tally.injected(fault);
        }
    }
}
