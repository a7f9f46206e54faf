//! Processes that lock, and a parent that kills and stops them at random and checks what they say.
//!
//! Every key protects two numbers. A writer stores its fence in the first, looks whether it stays, and stores it in the
//! second. So a second writer, a reader beside a writer, a fence that does not grow, and a death that is not reported all
//! show as numbers that do not fit.

#![allow(clippy::print_stdout, reason = "a program that reports")]

mod options;
mod sabotage;
mod steps;
mod worker;

use keylatch_shm::{LockRequest, SharedTable, TableConfig};
use options::{Control, Options};
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use worker::{Shared, key};

fn main() {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}");
            std::process::exit(2);
        }
    };
    let parent = if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    let folder = parent.join(format!("keylatch-chaos-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the table");
    let path = folder.join("locks");
    let bad = if options.steps { steps::run(&path, &options) } else { run(&path, &options) };
    std::fs::remove_dir_all(&folder).expect("the folder is this run's own");
    std::process::exit(i32::from(bad));
}

/// Kills without recovery: fewer than the table has members, so others get stuck.
const UNRECOVERED: u64 = 40;

/// A small generator of numbers that look random; each process has its own.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}

pub(crate) fn table_config() -> TableConfig {
    // So few keys that insertion and eviction never end.
    TableConfig::default().keys(24).members(64)
}

struct Process {
    pid: libc::pid_t,
    stopped: Option<Instant>,
}

fn spawn(path: &Path, shared: &'static Shared, options: &Options, seed: u64) -> Process {
    // SAFETY: the parent has one thread, so the child may do anything.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "no process could be started");
    if pid == 0 {
        worker::run(path, shared, options, seed);
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    Process { pid, stopped: None }
}

fn signal(process: &Process, signal: i32) {
    // SAFETY: the process is this one's child and has not been waited for.
    unsafe { libc::kill(process.pid, signal) };
}

fn reap(process: &Process) {
    let mut status = 0;
    // SAFETY: the status is a local.
    unsafe { libc::waitpid(process.pid, &raw mut status, 0) };
}

/// Runs the whole; says whether it was bad.
fn run(path: &Path, options: &Options) -> bool {
    let shared = Shared::new();
    let mut random = Random::new(options.seed);
    let mut processes: Vec<Process> =
        (0..options.processes).map(|number| spawn(path, shared, options, u64::from(number) + options.seed)).collect();
    let begun = Instant::now();
    let sabotage = sabotage::Sabotage::new(path, options.control);
    let (mut kills, mut stops) = (0_u64, 0_u64);
    while begun.elapsed() < options.time && (kills < options.kills || options.kills == 0) && !shared.is_bad() {
        std::thread::sleep(Duration::from_micros(200 + random.below(2_800)));
        for process in &mut processes {
            if process.stopped.is_some_and(|since| since.elapsed() > Duration::from_millis(30)) {
                process.stopped = None;
                signal(process, libc::SIGCONT);
            }
        }
        let at = random.below(processes.len() as u64) as usize;
        sabotage.act(&mut random);
        if options.stops && random.below(16) == 0 {
            stops += 1;
            processes[at].stopped = Some(Instant::now());
            signal(&processes[at], libc::SIGSTOP);
        } else if options.kills > 0 && (options.control != Control::NoRecovery || kills < UNRECOVERED) {
            kills += 1;
            sabotage.kills(processes[at].pid);
            signal(&processes[at], libc::SIGKILL);
            reap(&processes[at]);
            let seed = options.seed + kills + 1_000;
            processes[at] = spawn(path, shared, options, seed);
        }
    }
    shared.stop.store(1, SeqCst);
    for process in &processes {
        signal(process, libc::SIGCONT);
    }
    let sabotaged = options.control != Control::None;
    for process in &processes {
        if sabotaged && shared.is_bad() {
            signal(process, libc::SIGKILL);
        }
        reap(process);
    }
    report(path, shared, options, [kills, stops], begun.elapsed())
}

fn report(path: &Path, shared: &Shared, options: &Options, [kills, stops]: [u64; 2], took: Duration) -> bool {
    let [violations, stuck] = [shared.violations.load(SeqCst), shared.stuck.load(SeqCst)];
    let mut held = 0;
    let mut recoveries = 0;
    if options.control == Control::None {
        let table = SharedTable::open(path, &table_config()).expect("the table is as good as ever");
        held = table.holders(None).expect("a sound table").len();
        for number in 0..worker::KEYS {
            let name = key(number);
            let request = LockRequest::write(("chaos", &name)).timeout(Duration::from_secs(5));
            held += usize::from(table.lock(request).blocking().is_err());
        }
        recoveries = table.figures().recoveries;
    }
    println!(
        "{} processes, {:.1} s: {} locks, {} upgrades, {kills} kills, {stops} stops, {recoveries} recoveries, {} deaths reported, \
         longest wait {} ms, {} rechecks, {} late signals",
        options.processes,
        took.as_secs_f64(),
        shared.locks.load(SeqCst),
        shared.upgrades.load(SeqCst),
        shared.reported.load(SeqCst),
        shared.longest_ms.load(SeqCst),
        shared.rechecks.load(SeqCst),
        shared.late_signals.load(SeqCst),
    );
    println!("{violations} violations, {stuck} stuck, {held} keys not free at the end");
    violations + stuck + held as u64 > 0
}
