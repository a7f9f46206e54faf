//! Locks between processes, side by side: keylatch's and what Linux has. All figures are of one run.

#![allow(clippy::print_stdout, reason = "a program that reports")]

mod natives;
mod peers;
mod report;

use keylatch::Mode;
use keylatch_shm::{LockRequest, PreparedKey, SharedTable, TableConfig};
use natives::{FileLocks, Flock, Mapped, Mutexes, NamedSemaphore, Native, RwLocks, SystemV};
use report::{PairFigures, Report, WaitFigures};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const MANY: usize = 65_536;

fn fork(work: impl FnOnce()) -> libc::pid_t {
    // SAFETY: no thread of this process runs beside a fork but the life threads of tables, which the child leaves alone.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        work();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    pid
}

fn reap(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: the status is a local.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
}

fn kill(pid: libc::pid_t) {
    // SAFETY: the process is this one's child.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// One row: its name, and what a pair does, exclusive or shared.
type Row<'a> = (&'a str, Box<dyn Fn(usize) + 'a>, Box<dyn Fn(usize) + 'a>, usize);

/// Nanoseconds a pair: the median of interleaved rounds.
fn pairs(rows: &[Row<'_>], keys: usize) -> Vec<[f64; 2]> {
    let mut times = vec![[const { Vec::new() }; 2]; rows.len()];
    for _ in 0..ROUNDS {
        for (row, times) in rows.iter().zip(&mut times) {
            for (pair, times) in [&row.1, &row.2].into_iter().zip(times) {
                let begun = Instant::now();
                let mut at = 1_usize;
                for _ in 0..row.3 {
                    at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    pair((at >> 33) % keys);
                }
                times.push(begun.elapsed().as_nanos() as f64 / row.3 as f64);
            }
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    times.into_iter().map(|[mut one, mut other]| [median(&mut one), median(&mut other)]).collect()
}

fn uncontended(folder: &Path, keys: usize, library: Option<&Path>, report: &mut Report) {
    let table = SharedTable::open(folder.join("locks"), &config()).expect("a table");
    let names: Vec<String> = (0..keys).map(|number| format!("object-{number}")).collect();
    for name in &names {
        drop(table.acquire_write_lock_blocking("bench", name, "").expect("free"));
    }
    let prepared: Vec<PreparedKey<'_>> =
        names.iter().map(|name| table.prepare(("bench", name)).expect("a short key")).collect();
    let peers = library.map(|library| peers::load(library, &folder.join("locks")));
    let mutexes = Mutexes::new(keys, false);
    let robust = Mutexes::new(keys, true);
    let rwlocks = RwLocks::new(keys);
    let file = |name: &str| std::fs::File::create(folder.join(name)).expect("a file");
    let (flock, ofd) = (Flock(file("flock")), FileLocks(file("ofd")));
    let (semaphore, system_v) = (NamedSemaphore::new(), SystemV::new());
    let rows_of: [(&str, &dyn Native, usize); 7] = [
        ("pthread mutex, process-shared", &mutexes, 400_000),
        ("pthread mutex, robust", &robust, 400_000),
        ("pthread rwlock, process-shared", &rwlocks, 400_000),
        ("POSIX named semaphore (one)", &semaphore, 400_000),
        ("System V semaphore, undo (one)", &system_v, 40_000),
        ("flock (one file)", &flock, 40_000),
        ("fcntl OFD lock", &ofd, 40_000),
    ];
    let mut rows: Vec<Row<'_>> = rows_of
        .into_iter()
        .map(|(name, lock, count)| -> Row<'_> {
            (name, Box::new(move |at| lock.exclusive(at)), Box::new(move |at| lock.shared(at)), count)
        })
        .collect();
    rows.push((
        "keylatch, prepared key",
        Box::new(|at| drop(prepared[at].write().expect("free"))),
        Box::new(|at| drop(prepared[at].read().expect("free"))),
        400_000,
    ));
    rows.push((
        "keylatch, by key",
        Box::new(|at| drop(table.lock(LockRequest::write(("bench", &names[at]))).blocking().expect("free"))),
        Box::new(|at| drop(table.lock(LockRequest::read(("bench", &names[at]))).blocking().expect("free"))),
        400_000,
    ));
    for peer in peers.iter().flat_map(|peers| &peers.all) {
        rows.push((peer.name, Box::new(|at| peer.exclusive(at)), Box::new(|at| peer.shared(at)), 100_000));
    }
    let times = pairs(&rows, keys);
    report.pairs.extend(rows.iter().zip(&times).map(|(row, [exclusive, shared])| PairFigures {
        name: row.0.to_owned(),
        keys,
        exclusive: *exclusive,
        shared: *shared,
    }));
    let (mutex, rwlock) = (times[1][0], times[2][1]);
    println!("\nuncontended pair, {keys} key(s)        exclusive  / robust mutex    shared  / rwlock shared");
    for (row, [exclusive, shared]) in rows.iter().zip(&times) {
        println!(
            "  {:<34} {exclusive:8.1} ns {:10.2} {shared:12.1} ns {:10.2}",
            row.0,
            exclusive / mutex,
            shared / rwlock
        );
    }
}

fn config() -> TableConfig {
    TableConfig::default().keys(MANY as u32).members(64)
}

fn million() -> TableConfig {
    config().keys(1_000_000)
}

/// Counters that forked children share.
struct Counters(Mapped<AtomicU64>);

impl Counters {
    fn new() -> Self {
        Self(Mapped::new(64, |counter: *mut AtomicU64| {
            // SAFETY: the mapping is zeroed, and this thread alone has it.
            unsafe { counter.write(AtomicU64::new(0)) };
        }))
    }

    fn at(&self, at: usize) -> &AtomicU64 {
        // SAFETY: initialised in `new`, and never unmapped.
        unsafe { &*self.0.at(at) }
    }
}

/// Measures processes that contend for one key for a second.
///
/// Reports the locks in all, and the largest share over the smallest.
fn contended(path: &Path, processes: usize, what: &str, pair: impl Fn(Option<&PreparedKey<'_>>)) -> f64 {
    let counters = Counters::new();
    let children: Vec<_> = (1..=processes)
        .map(|number| {
            fork(|| {
                let table = SharedTable::open(path, &config()).expect("a table");
                let key = table.prepare(("bench", "hot")).expect("a short key");
                counters.at(0).fetch_add(1, SeqCst);
                while counters.at(0).load(SeqCst) < processes as u64 {
                    std::hint::spin_loop();
                }
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_secs(1) {
                    for _ in 0..16 {
                        pair(Some(&key));
                    }
                    counters.at(number).fetch_add(16, SeqCst);
                }
            })
        })
        .collect();
    children.into_iter().for_each(reap);
    let counts: Vec<u64> = (1..=processes).map(|number| counters.at(number).load(SeqCst)).collect();
    let total: u64 = counts.iter().sum();
    let (least, most) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0));
    println!(
        "  {what:<34} {processes:3} processes {:8.2} M/s   shares {:.1} : 1",
        total as f64 / 1e6,
        most as f64 / least.max(1) as f64
    );
    total as f64
}

fn percentiles(what: &str, times: &mut [f64], report: &mut Report) {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    report.waits.push(WaitFigures { name: what.to_owned(), p50: at(0.5), p99: at(0.99) });
    println!("  {what:<46} p50 {:8.0} us   p99 {:8.0} us   ({} times)", at(0.5), at(0.99), times.len());
}

/// What the killed process holds; the mutex shows what the kernel needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Writer,
    Reader,
    Mutex,
}

/// From the kill of a process to the grant of another, beside a million keys.
///
/// Each kind of holder in turn.
fn recovery(path: &Path, times: usize, report: &mut Report) {
    let table = SharedTable::open(path, &million()).expect("a table");
    for number in 0..1_000_000 {
        drop(table.acquire_write_lock_blocking("many", &format!("object-{number}"), "").expect("free"));
    }
    let robust = Mutexes::new(1, true);
    let rows = [
        (Victim::Writer, "kill -9 of a writer to the next grant"),
        (Victim::Reader, "kill -9 of a reader to the next grant"),
        (Victim::Mutex, "kill -9 of a robust mutex's holder"),
    ];
    let mut waits = rows.map(|_| Vec::new());
    // One mapping for all: each that is left behind makes the next victim's end longer.
    let ready = Counters::new();
    for _ in 0..times {
        for ((victim, _), waits) in rows.iter().zip(&mut waits) {
            ready.at(0).store(0, SeqCst);
            waits.push(killed(path, &table, &robust, *victim, ready.at(0)).as_nanos() as f64 / 1e3);
        }
    }
    for ((_, name), waits) in rows.iter().zip(&mut waits) {
        percentiles(name, waits, report);
    }
}

/// The time from the kill of one process to the grant.
fn killed(path: &Path, table: &SharedTable, robust: &Mutexes, victim: Victim, ready: &AtomicU64) -> Duration {
    let child = fork(|| {
        let table = SharedTable::open(path, &million()).expect("a table");
        let mode = if victim == Victim::Reader { Mode::Shared } else { Mode::Exclusive };
        if victim == Victim::Mutex {
            // SAFETY: the mutex was initialised before the fork.
            unsafe { assert_eq!(libc::pthread_mutex_lock(robust.0.at(0)), 0) };
        } else {
            std::mem::forget(table.lock(LockRequest::new(("bench", "killed"), mode)).blocking().expect("free"));
        }
        ready.fetch_add(1, SeqCst);
        loop {
            std::thread::park();
        }
    });
    while ready.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    let granted = std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            ready.fetch_add(1, SeqCst);
            if victim == Victim::Mutex {
                // SAFETY: as above; this thread has the mutex when its owner died, and gives it back.
                unsafe {
                    assert_eq!(libc::pthread_mutex_lock(robust.0.at(0)), libc::EOWNERDEAD);
                    libc::pthread_mutex_consistent(robust.0.at(0));
                    libc::pthread_mutex_unlock(robust.0.at(0));
                }
            } else {
                drop(table.lock(LockRequest::write(("bench", "killed"))).blocking().expect("recovered"));
            }
            Instant::now()
        });
        let is_waiting = || match victim {
            Victim::Mutex => ready.load(SeqCst) == 2,
            _ => table.waiting_here(("bench", "killed")).expect("sound") != 0,
        };
        while !is_waiting() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(1));
        let killed = Instant::now();
        kill(child);
        waits.join().expect("no panic").duration_since(killed)
    });
    reap(child);
    granted
}

/// Measures the time from a release to the grant of a sleeping process.
fn hand_off(what: &str, times: usize, report: &mut Report, lock: impl Fn(), unlock: impl Fn()) {
    let counters = Counters::new();
    let now = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the structure is a local.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    };
    lock();
    let child = fork(|| {
        // The child has a table of its own where that is what the closures open on first use.
        for round in 0..times as u64 {
            while counters.at(0).load(SeqCst) == round {
                std::thread::yield_now();
            }
            lock();
            counters.at(2).store(now(), SeqCst);
            unlock();
            counters.at(1).store(round + 1, SeqCst);
        }
    });
    let mut waits = Vec::new();
    for round in 0..times as u64 {
        counters.at(0).store(round + 1, SeqCst);
        std::thread::sleep(Duration::from_micros(400));
        let released = now();
        unlock();
        while counters.at(1).load(SeqCst) == round {
            std::thread::yield_now();
        }
        waits.push(counters.at(2).load(SeqCst).saturating_sub(released) as f64 / 1e3);
        lock();
    }
    unlock();
    reap(child);
    percentiles(what, &mut waits, report);
}

thread_local! {
    static MINE: std::cell::RefCell<Option<(u32, &'static SharedTable, Option<keylatch_shm::SharedLockGuard<'static>>)>> =
        const { std::cell::RefCell::new(None) };
}

/// Locks or unlocks the key in a table that each process opens for itself.
fn keylatch_hand_off(path: &Path, locks: bool) {
    MINE.with(|mine| {
        let mut mine = mine.borrow_mut();
        let here = std::process::id();
        if mine.as_ref().is_none_or(|(pid, ..)| *pid != here) {
            let table = Box::leak(Box::new(SharedTable::open(path, &config()).expect("a table")));
            if let Some(old) = mine.replace((here, table, None)) {
                std::mem::forget(old);
            }
        }
        let (_, table, guard) = mine.as_mut().expect("just made");
        *guard = locks.then(|| table.lock(LockRequest::write(("bench", "handed"))).blocking().expect("no timeout"));
    });
}

fn main() {
    let parent = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let folder = parent.join(format!("keylatch-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("locks");
    let times = if std::env::args().any(|argument| argument == "--quick") { 50 } else { 400 };
    let given = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1).map(PathBuf::from);
    // One part alone: pairs, contention, hand-off or recovery.
    let only = given("--only").map(|part| part.display().to_string());
    let has = |part: &str| only.as_ref().is_none_or(|only| only == part);
    let mut report = Report::default();
    if has("pairs") {
        uncontended(&folder, 1, given("--library").as_deref(), &mut report);
        uncontended(&folder, MANY, None, &mut report);
    }
    if has("contention") {
        contention(&path);
    }
    if has("hand-off") {
        hand_offs(&path, times, &mut report);
    }
    if has("recovery") {
        println!("\nrecovery");
        recovery(&folder.join("million"), times, &mut report);
    }
    if let Some(file) = given("--json") {
        report.write(&file);
    }
    std::fs::remove_dir_all(&folder).expect("the folder is this run's own");
}

fn contention(path: &Path) {
    println!("\none key, exclusive");
    let (rwlock, robust) = (RwLocks::new(1), Mutexes::new(1, true));
    for processes in [1, 2, 40] {
        let theirs = contended(path, processes, "pthread rwlock, process-shared", |_| rwlock.exclusive(0));
        contended(path, processes, "pthread mutex, robust", |_| robust.exclusive(0));
        let ours = contended(path, processes, "keylatch, prepared key", |key| {
            drop(key.expect("prepared").write().expect("no timeout"));
        });
        println!("  keylatch / rwlock: {:.2}", ours / theirs);
    }
}

fn hand_offs(path: &Path, times: usize, report: &mut Report) {
    println!("\nhand-off to a sleeping process");
    let robust = Mutexes::new(1, true);
    // SAFETY: the mutex was initialised before the processes began.
    let lock = || unsafe { assert_eq!(libc::pthread_mutex_lock(robust.0.at(0)), 0) };
    // SAFETY: each process unlocks what it locked.
    let unlock = || unsafe { assert_eq!(libc::pthread_mutex_unlock(robust.0.at(0)), 0) };
    hand_off("pthread mutex, robust", times, report, lock, unlock);
    hand_off("keylatch", times, report, || keylatch_hand_off(path, true), || keylatch_hand_off(path, false));
}
