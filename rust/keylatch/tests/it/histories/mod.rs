//! Histories: what really happened, among many threads, tasks, callbacks and completion queues on few keys, written down
//! and checked afterwards against everything that is promised.
//!
//! A program, who asks for what and how, is made from a seed; the seed of a history that breaks a promise is printed, and
//! `KEYLATCH_SEED` takes it again. `KEYLATCH_HISTORY_SECONDS` (2 by default) says how long each policy is watched.

#![allow(clippy::print_stdout, reason = "a long run should show how much it did")]

mod event;
mod exclusion;
mod forged;
mod overtaking;
mod program;
mod runner;
mod story;
mod task;
mod verdict;

use event::What;
use keylatch::Fairness;
use program::Program;
use std::hash::{BuildHasher, RandomState};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const EVENTUALLY: Duration = Duration::from_micros(500);

/// Longer than any program takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(300);

fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Histories of programs from one seed after the other, until the time is over.
fn watch(what: &str, program: impl Fn(u64) -> Program) {
    let replayed: Option<u64> = from_environment("KEYLATCH_SEED");
    let seconds = Duration::from_secs_f64(from_environment("KEYLATCH_HISTORY_SECONDS").unwrap_or(2.0));
    let first = replayed.unwrap_or_else(|| RandomState::new().hash_one(what) >> 16);
    let until = Instant::now() + seconds;
    let (mut histories, mut requests, mut waited) = (0, 0, 0);
    while histories == 0 || Instant::now() < until {
        // A replay repeats the program: who is how fast is not in the seed.
        let seed = if replayed.is_some() { first } else { first + histories };
        let program = program(seed);
        let (send, ended) = mpsc::channel();
        let running = program.clone();
        std::thread::spawn(move || send.send(runner::run(&running)));
        let (events, at_rest) = ended.recv_timeout(PATIENCE).unwrap_or_else(|problem| {
            panic!("{what}: the program of KEYLATCH_SEED={seed} hangs or panics ({problem})");
        });
        requests += events.iter().filter(|event| matches!(event.what, What::Asking { .. })).count();
        waited += events.iter().filter(|event| event.what == What::InLine).count();
        let violations = verdict::check(&program.promise(), events, at_rest);
        assert!(
            violations.is_empty(),
            "{what}: KEYLATCH_SEED={seed} breaks {} promises, limit {}, {} keys: {:#?}",
            violations.len(),
            program.overtake_limit,
            program.keys,
            &violations[..violations.len().min(5)]
        );
        histories += 1;
    }
    println!("{what}: {histories} histories from KEYLATCH_SEED={first}, {requests} requests, {waited} seen in line");
}

#[test]
fn under_eventual() {
    watch("eventual", |seed| Program::mixed(Fairness::Eventual { after: EVENTUALLY }, seed));
}

#[test]
fn under_eventual_with_overtakers() {
    watch("overtakers", |seed| Program::overtakers(EVENTUALLY / 5, seed));
}

#[test]
fn under_fifo() {
    watch("fifo", |seed| Program::mixed(Fairness::Fifo, seed));
}

#[test]
fn under_writer_first() {
    watch("writer-first", |seed| Program::mixed(Fairness::WriterFirst, seed));
}

#[test]
fn under_reader_first() {
    watch("reader-first", |seed| Program::mixed(Fairness::ReaderFirst, seed));
}
