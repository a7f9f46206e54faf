//! Typed locks and snapshots beside tokio's locks and `arc-swap`, in one run: `make bench-typed`.
//!
//! Each subject is measured in short slices, all subjects in turn, and the slice counts that a tenth of them stayed
//! below. So other programs disturb all subjects alike, and least where it counts: ratios hold where nanoseconds do not.
//! Words choose parts, as `report`. `instructions NAME COUNT` runs one subject `COUNT` times and nothing else, for
//! callgrind.

#![allow(clippy::print_stdout)]

use arc_swap::ArcSwap;
use keylatch_typed::{AsyncMutex, AsyncRwLock, LockId, LockMonitor, LockOptions, LockStats, Snapshot, Statistics};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(5);
const SLICE: Duration = Duration::from_millis(2);
const SLICES: usize = 151;

/// A subject: its name, and what runs it a number of times.
type Subject<'a> = (&'static str, Box<dyn FnMut(u64) + 'a>);

/// Polls a future that is ready with its first poll.
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("the lock is free"),
    }
}

/// Lets the compiler leave nothing out.
fn keep(value: u64) {
    black_box(value);
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [command, name, count] = &words[..]
        && command == "instructions"
    {
        return instructions(name, count.parse().expect("a count"));
    }
    let parts: [(&str, fn()); 6] = [
        ("sizes", sizes),
        ("pairs", pairs),
        ("loads", loads),
        ("throughput", throughput),
        ("publishing", publishing),
        ("report", report),
    ];
    let chosen = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    parts.into_iter().filter(|(name, _)| chosen(name)).for_each(|(_, part)| part());
}

fn locks(statistics: Statistics) -> (AsyncRwLock<u64>, AsyncMutex<u64>) {
    let options = || LockOptions::new(TIMEOUT).statistics(statistics);
    (AsyncRwLock::with_options(0, options()), AsyncMutex::with_options(0, options()))
}

/// Makes locks with exact statistics that a monitor knows.
///
/// These sort their holds by how long they take, too.
fn registered(monitor: &LockMonitor) -> (AsyncRwLock<u64>, AsyncMutex<u64>) {
    let locks = locks(Statistics::Exact);
    monitor.register_lock(LockId::new("bench.rs", "lock"), locks.0.stats().clone());
    monitor.register_lock(LockId::new("bench.rs", "mutex"), locks.1.stats().clone());
    locks
}

fn pair_subjects<'a>(
    tokio: &'a (tokio::sync::RwLock<u64>, tokio::sync::Mutex<u64>),
    [exact, sampled, off, registered]: [&'a (AsyncRwLock<u64>, AsyncMutex<u64>); 4],
) -> Vec<(&'static str, Vec<Subject<'a>>)> {
    let read = |name, lock: &'a AsyncRwLock<u64>| -> Subject<'a> {
        (name, Box::new(move |count| (0..count).for_each(|_| drop(black_box(ready(lock.read_with_timeout()))))))
    };
    let write = |name, lock: &'a AsyncRwLock<u64>| -> Subject<'a> {
        (name, Box::new(move |count| (0..count).for_each(|_| *ready(lock.write_with_timeout()).unwrap() += 1)))
    };
    let mutex = |name, lock: &'a AsyncMutex<u64>| -> Subject<'a> {
        (name, Box::new(move |count| (0..count).for_each(|_| *ready(lock.lock_with_timeout()).unwrap() += 1)))
    };
    vec![
        (
            "read and release",
            vec![
                ("tokio-read", Box::new(|count| (0..count).for_each(|_| drop(black_box(ready(tokio.0.read())))))),
                read("read-exact", &exact.0),
                read("read-sampled", &sampled.0),
                read("read-off", &off.0),
                read("read-exact-registered", &registered.0),
            ],
        ),
        (
            "write and release",
            vec![
                ("tokio-write", Box::new(|count| (0..count).for_each(|_| *ready(tokio.0.write()) += 1))),
                write("write-exact", &exact.0),
                write("write-sampled", &sampled.0),
                write("write-off", &off.0),
                write("write-exact-registered", &registered.0),
            ],
        ),
        (
            "lock a mutex and release",
            vec![
                ("tokio-mutex", Box::new(|count| (0..count).for_each(|_| *ready(tokio.1.lock()) += 1))),
                mutex("mutex-exact", &exact.1),
                mutex("mutex-sampled", &sampled.1),
                mutex("mutex-off", &off.1),
                mutex("mutex-exact-registered", &registered.1),
            ],
        ),
    ]
}

/// Runs all subjects in turn and returns the nanoseconds of one operation of each.
fn measure(subjects: &mut [Subject<'_>]) -> Vec<f64> {
    let counts: Vec<u64> = subjects
        .iter_mut()
        .map(|(_, run)| {
            let began = Instant::now();
            run(10_000);
            (10_000 * SLICE.as_nanos() / began.elapsed().as_nanos().max(1)) as u64 + 1
        })
        .collect();
    let mut slices = vec![Vec::with_capacity(SLICES); subjects.len()];
    for _ in 0..SLICES {
        for (index, (_, run)) in subjects.iter_mut().enumerate() {
            let began = Instant::now();
            run(counts[index]);
            slices[index].push(began.elapsed().as_nanos() as f64 / counts[index] as f64);
        }
    }
    slices.into_iter().map(undisturbed).collect()
}

/// Returns what a tenth of the values stayed below.
fn undisturbed(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 10]
}

fn table(title: &str, subjects: &mut [Subject<'_>]) -> Vec<f64> {
    let nanos = measure(subjects);
    println!("\n{title}");
    for ((name, _), each) in subjects.iter().zip(&nanos) {
        println!("    {name:<28} {each:>7.1} ns   {:>5.2} x", each / nanos[0]);
    }
    nanos
}

/// Returns the clock of exact statistics, which read it twice a hold.
#[cfg(target_arch = "x86_64")]
fn clock() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and it only reads.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn clock() -> u64 {
    Instant::now().elapsed().as_nanos() as u64
}

fn pairs() {
    let mut twice: Vec<Subject<'_>> = vec![(
        "twice",
        Box::new(|count| {
            (0..count).for_each(|_| {
                keep(clock());
                keep(clock());
            })
        }),
    )];
    table("the clock that exact statistics read, alone", &mut twice);
    let tokio = (tokio::sync::RwLock::new(0), tokio::sync::Mutex::new(0));
    let [exact, sampled, off] = [Statistics::Exact, Statistics::Sampled, Statistics::Off].map(locks);
    let monitor = LockMonitor::new();
    let registered = registered(&monitor);
    for (title, mut subjects) in pair_subjects(&tokio, [&exact, &sampled, &off, &registered]) {
        let nanos = table(&format!("{title}, alone; x = tokio's lock, which has no statistics"), &mut subjects);
        println!("    exact statistics cost        {:>7.1} ns", nanos[1] - nanos[3]);
    }
}

fn loads() {
    let (snapshot, swap) = (Snapshot::new(7_u64), ArcSwap::from_pointee(7_u64));
    let (mut reader, mut cache) = (snapshot.reader(), arc_swap::Cache::new(&swap));
    let mut subjects: Vec<Subject<'_>> = vec![
        ("arc_swap load", Box::new(|count| (0..count).for_each(|_| drop(black_box(swap.load()))))),
        ("arc_swap cache", Box::new(|count| (0..count).for_each(|_| keep(**cache.load())))),
        ("snapshot reader", Box::new(|count| (0..count).for_each(|_| keep(**reader.load())))),
        ("snapshot load without reader", Box::new(|count| (0..count).for_each(|_| drop(black_box(snapshot.load()))))),
    ];
    table("load a snapshot, alone; x = arc_swap::ArcSwap::load", &mut subjects);
}

/// Whether the threads of a measurement read one snapshot or one each.
#[derive(Clone, Copy)]
enum Share {
    One,
    Each,
}

/// Loads a second of this many threads, each with its own reader.
fn loads_a_second(threads: usize, share: Share) -> f64 {
    let snapshot = Snapshot::new(7_u64);
    let (begin, stop) = (Barrier::new(threads + 1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                let (snapshot, begin, stop) = (&snapshot, &begin, &stop);
                scope.spawn(move || {
                    let own = Snapshot::new(7_u64);
                    let mut reader = match share {
                        Share::One => snapshot.reader(),
                        Share::Each => own.reader(),
                    };
                    begin.wait();
                    let (began, mut loads) = (Instant::now(), 0_u64);
                    while !stop.load(Ordering::Relaxed) {
                        (0..1000).for_each(|_| keep(**reader.load()));
                        loads += 1000;
                    }
                    loads as f64 / began.elapsed().as_secs_f64()
                })
            })
            .collect();
        begin.wait();
        std::thread::sleep(Duration::from_millis(40));
        stop.store(true, Ordering::Relaxed);
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// Two threads beside one.
///
/// With a snapshot each they share nothing, so their ratio is what the machine has to give.
fn throughput() {
    let (mut shared, mut apart) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        let one = loads_a_second(1, Share::One);
        shared.push(loads_a_second(2, Share::One) / one);
        apart.push(loads_a_second(2, Share::Each) / one);
    }
    println!("\nloads of two threads; x = the throughput of one");
    for (what, mut ratios) in [("of one snapshot", shared), ("of a snapshot each", apart)] {
        ratios.sort_by(f64::total_cmp);
        println!("    {what:<20} median {:>5.2} x, best {:>5.2} x", ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
    }
}

/// How long a publish takes while readers load without a pause.
fn publishing() {
    let snapshot = Snapshot::new([0_u64; 16]);
    let stop = AtomicBool::new(false);
    let mut times: Vec<f64> = std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut reader = snapshot.reader();
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    black_box(reader.load()[0]);
                }
            });
        }
        let publish = |value| {
            let began = Instant::now();
            snapshot.publish([value; 16]);
            began.elapsed().as_nanos() as f64
        };
        let times = (0..100_000).map(publish).collect();
        stop.store(true, Ordering::Relaxed);
        times
    });
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[(times.len() as f64 * share) as usize];
    println!(
        "\npublish beside two readers\n    median {:.0} ns, p99 {:.0} ns, p99.9 {:.0} ns",
        at(0.5),
        at(0.99),
        at(0.999)
    );
}

/// Returns a monitor of this many locks, each of which was held once.
fn monitored(count: usize) -> (LockMonitor, Vec<AsyncMutex<usize>>) {
    let monitor = LockMonitor::new();
    let lock = |number: usize| {
        let lock = AsyncMutex::new(number, TIMEOUT);
        monitor.register_lock(LockId::new("bench.rs", &number.to_string()), lock.stats().clone());
        drop(lock.try_lock());
        lock
    };
    let locks = (0..count).map(lock).collect();
    (monitor, locks)
}

fn report() {
    let (monitor, locks) = monitored(10_000);
    let timed = |work: &mut dyn FnMut() -> usize| {
        let times = (0..31).map(|_| {
            let began = Instant::now();
            black_box(work());
            began.elapsed().as_secs_f64() * 1000.0
        });
        undisturbed(times.collect())
    };
    let figures = timed(&mut || monitor.generate_report().locks.len());
    let text = timed(&mut || monitor.generate_report().to_string().len());
    println!("\nreport of {} locks\n    figures {figures:.2} ms, figures and text {text:.2} ms", locks.len());
}

fn sizes() {
    println!(
        "bytes: AsyncRwLock {} + T, AsyncMutex {} + T, LockStats {} on the heap",
        size_of::<AsyncRwLock<()>>(),
        size_of::<AsyncMutex<()>>(),
        size_of::<LockStats>()
    );
    println!(
        "       futures {} and {}, tokio's lock {} + T",
        size_of_val(&AsyncRwLock::new((), TIMEOUT).read_with_timeout()),
        size_of_val(&AsyncMutex::new((), TIMEOUT).lock_with_timeout()),
        size_of::<tokio::sync::RwLock<()>>()
    );
}

fn instructions(name: &str, count: u64) {
    let tokio = (tokio::sync::RwLock::new(0), tokio::sync::Mutex::new(0));
    if name == "report" {
        let (monitor, _locks) = monitored(10_000);
        return (0..count).for_each(|_| keep(monitor.generate_report().to_string().len() as u64));
    }
    let [exact, sampled, off] = [Statistics::Exact, Statistics::Sampled, Statistics::Off].map(locks);
    let monitor = LockMonitor::new();
    let registered = registered(&monitor);
    let subjects = pair_subjects(&tokio, [&exact, &sampled, &off, &registered]);
    let mut subjects = subjects.into_iter().flat_map(|(_, subjects)| subjects);
    let (_, mut run) = subjects.find(|(known, _)| *known == name).expect("the name of a subject");
    run(count);
}
