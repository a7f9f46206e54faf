//! A storage engine's locking, at full speed, with its own witness.
//!
//! Threads read and write objects, publish versions, delete in batches, compact, lose patience and fight over one hot
//! object; beside them tasks do the same on an executor of forty lines. Nothing but keylatch keeps them apart, and the
//! [`store`] counts every moment in which it did not. One such moment, or one lock that is left over at the end, makes
//! the program fail.
//!
//! ```text
//! cargo run --release --example storage_engine -- --help
//! ```
//!
//! [`options`] reads the command line, [`jobs`] says what there is to do, [`workers`] and [`tasks`] do it,
//! [`progress`] shows that it goes on and [`report`] what came of it.

mod executor;
mod histogram;
mod jobs;
mod options;
mod progress;
mod random;
mod report;
mod results;
mod store;
mod tasks;
mod workers;

use keylatch::{FastObjectLockManager, LockError};
use options::{Command, Options};
use results::Results;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use store::Store;

/// How long the last jobs may take to end: far longer than any of them does.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(Command::Run(options)) => options,
        Ok(Command::Help) => {
            say(options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(problem) => return misused(&problem),
    };
    let locks = match FastObjectLockManager::with_config(options.lock_config()) {
        Ok(locks) => locks,
        Err(problem) => return misused(&problem.to_string()),
    };
    match run(&options, &locks) {
        Ok((results, store, took)) => {
            let verdict = report::Verdict::of(&locks.get_metrics(), &store);
            say(&report::text(&options, &locks.get_metrics(), &results, &verdict, took));
            if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(problem) => {
            eprintln!("storage_engine: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that is under way at the same time.
fn run(options: &Options, locks: &FastObjectLockManager) -> Result<(Results, Store, Duration), LockError> {
    let store = Store::new(options.objects);
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let results = std::thread::scope(|scope| {
        let (store, stop) = (&store, &stop);
        let mut running: Vec<_> = (0..options.threads)
            .map(|number| scope.spawn(move || stopping(stop, || workers::work(number, options, locks, store, stop))))
            .collect();
        running.push(scope.spawn(|| stopping(stop, || tasks::work(locks, store, stop))));
        progress::show(options, locks, store, stop);
        stop.store(true, Ordering::Relaxed);
        let patience = Instant::now() + PATIENCE;
        while running.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() > patience {
                // They would be waited for without end: what is left is to say so.
                eprintln!(
                    "storage_engine: a request waits for a lock that is never released:\n{}",
                    locks.get_metrics()
                );
                std::process::exit(1);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut all = Results::default();
        for thread in running {
            match thread.join() {
                Ok(results) => all.add(&results?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<_, LockError>(all)
    })?;
    Ok((results, store, began.elapsed()))
}

/// Does something that should not fail; if it does, stops all others too.
fn stopping<T>(stop: &AtomicBool, work: impl FnOnce() -> Result<T, LockError>) -> Result<T, LockError> {
    work().inspect_err(|_| stop.store(true, Ordering::Relaxed))
}

/// A reader that has seen enough may close the pipe; that is no reason to fail.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn misused(problem: &str) -> ExitCode {
    eprintln!("storage_engine: {problem}\n(--help shows the options)");
    ExitCode::from(2)
}
