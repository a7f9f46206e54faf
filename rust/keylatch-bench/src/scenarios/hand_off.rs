//! The parked hand-off: how long it takes from the start of a release until a thread that sleeps in the lock holds it.
//!
//! Two threads pass one lock back and forth. The holder lets go only when the kernel says that the other thread sleeps,
//! so every hand-off really wakes a thread and no spinning hides it. A `parking_lot` mutex does the same in chunks that
//! take turns with the subject's: what the kernel needs to wake a thread is in both, and so is a machine that was busy.

use std::fs::File;
use std::hint::spin_loop;
use std::os::unix::fs::FileExt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::allocations;
use crate::keys::{Key, KeySet};
use crate::machine::{cores, pin_this_thread, thread_number};
use crate::row::Row;
use crate::slices::{self, Pace};
use crate::subject::{Exclusive, Subject};
use crate::subjects::bare::ParkingLotMutex;
use crate::subjects::is_ours;
use crate::unit::BareWord;

/// Hand-offs of one lock before the other has its turn.
const CHUNK: u32 = 250;

/// A waiter that does not sleep within this time never does.
///
/// The hand-off goes on and is counted apart.
const PATIENCE: Duration = Duration::from_millis(5);

/// Reads from the kernel whether another thread of this process sleeps.
struct Sleeper(File);

impl Sleeper {
    fn of(thread: i32) -> Self {
        let path = format!("/proc/self/task/{thread}/stat");
        Self(File::open(path).expect("a thread that runs has a state"))
    }

    fn sleeps(&self) -> bool {
        let mut text = [0; 512];
        let length = self.0.read_at(&mut text, 0).unwrap_or(0);
        // The name stands in parentheses and may contain anything; the state is the letter after the last of them.
        let name_end = text[..length].iter().rposition(|&byte| byte == b')');
        name_end.and_then(|end| text.get(end + 2)).is_some_and(|&state| state == b'S')
    }
}

/// What the two threads tell one another.
struct Relay {
    epoch: Instant,
    threads: [AtomicI32; 2],
    gate: Barrier,
    /// Turns that have the lock or had it.
    acquired: AtomicU32,
    /// The turn that is about to wait, or waits.
    waiting: AtomicU32,
    /// When the holder began to release, in nanoseconds since `epoch`.
    released_at: AtomicU64,
}

/// Spins briefly and then lets others run, until `done`.
fn wait_until(done: impl Fn() -> bool) {
    let mut spins = 0_u32;
    while !done() {
        spins += 1;
        if spins < 200 && cores() > 1 { spin_loop() } else { std::thread::yield_now() }
    }
}

/// The hand-offs that one thread received.
#[derive(Default)]
struct Received {
    nanoseconds: Vec<u64>,
    awake: u64,
    allocations: u64,
}

impl Relay {
    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Plays `count` turns of `lock`, every second of them on this thread.
    fn chunk<S: Exclusive>(&self, lock: &S, key: Key<'_>, thread: u32, other: &Sleeper, received: &mut Received) {
        if self.gate.wait().is_leader() {
            self.acquired.store(0, Ordering::Relaxed);
            self.waiting.store(0, Ordering::Relaxed);
        }
        self.gate.wait();
        let allocations = allocations::of_this_thread();
        for turn in (thread..=CHUNK).step_by(2) {
            wait_until(|| self.acquired.load(Ordering::Acquire) == turn);
            self.waiting.store(turn, Ordering::Release);
            lock.exclusive(key, || {
                let now = self.now();
                if turn > 0 {
                    received.nanoseconds.push(now.saturating_sub(self.released_at.load(Ordering::Acquire)));
                }
                self.acquired.store(turn + 1, Ordering::Release);
                if turn < CHUNK {
                    wait_until(|| self.waiting.load(Ordering::Acquire) == turn + 1);
                    let began = Instant::now();
                    while !other.sleeps() {
                        if began.elapsed() > PATIENCE {
                            received.awake += 1;
                            break;
                        }
                    }
                    self.released_at.store(self.now(), Ordering::Release);
                }
            });
        }
        received.allocations += allocations::of_this_thread() - allocations;
    }

    fn play<S: Exclusive>(&self, subject: &S, control: &ParkingLotMutex, thread: u32, chunks: u32) -> [Received; 2] {
        let _entered = subject.enter();
        pin_this_thread(thread as usize);
        self.threads[thread as usize].store(thread_number(), Ordering::Release);
        self.gate.wait();
        let other = Sleeper::of(self.threads[1 - thread as usize].load(Ordering::Acquire));
        let keys = KeySet::common(1);
        let mut received = [Received::default(), Received::default()];
        for both in &mut received {
            both.nanoseconds.reserve((chunks * CHUNK) as usize);
        }
        let mut warm_up = Received::default();
        self.chunk(subject, keys.get(0), thread, &other, &mut warm_up);
        self.chunk(control, keys.get(0), thread, &other, &mut warm_up);
        for _ in 0..chunks {
            self.chunk(subject, keys.get(0), thread, &other, &mut received[0]);
            self.chunk(control, keys.get(0), thread, &other, &mut received[1]);
        }
        received
    }
}

/// All hand-offs of one lock, sorted.
struct Distribution {
    nanoseconds: Vec<u64>,
    awake: u64,
    allocations: u64,
}

impl Distribution {
    fn of([mut one, two]: [Received; 2]) -> Self {
        one.nanoseconds.extend(two.nanoseconds);
        one.nanoseconds.sort_unstable();
        Self {
            nanoseconds: one.nanoseconds,
            awake: one.awake + two.awake,
            allocations: one.allocations + two.allocations,
        }
    }

    fn at(&self, share: f64) -> f64 {
        let last = self.nanoseconds.len() - 1;
        self.nanoseconds[((last as f64) * share) as usize] as f64
    }

    fn above_5ms(&self) -> f64 {
        self.nanoseconds.iter().filter(|&&took| took > 5_000_000).count() as f64
    }
}

/// Ours is measured as often as its goal needs; for a peer the median is enough.
pub(super) fn hand_off<S: Exclusive>(pace: &Pace) -> Row {
    let hand_offs = if is_ours(S::NAME) { pace.hand_offs } else { pace.peer_hand_offs };
    let word = BareWord::new();
    let shortly = Pace { subject: Duration::from_millis(20), ..Pace::QUICK };
    let [unit] = slices::in_turn(&shortly, [slices::Lane::new(|count| word.pairs(count))]);
    let (subject, control) = (S::create(), ParkingLotMutex::create());
    let relay = Relay {
        epoch: Instant::now(),
        threads: [AtomicI32::new(0), AtomicI32::new(0)],
        gate: Barrier::new(2),
        acquired: AtomicU32::new(0),
        waiting: AtomicU32::new(0),
        released_at: AtomicU64::new(0),
    };
    let chunks = hand_offs.div_ceil(CHUNK);
    let [first, second] = std::thread::scope(|scope| {
        let play = |thread| relay.play(&subject, &control, thread, chunks);
        let threads = [scope.spawn(move || play(0)), scope.spawn(move || play(1))];
        threads.map(|thread| thread.join().expect("a passing thread panics only if its subject fails"))
    });
    let ([ours, control_1], [ours_2, control_2]) = (first, second);
    let (ours, control) = (Distribution::of([ours, ours_2]), Distribution::of([control_1, control_2]));
    let mut row = Row::new(S::NAME, "handoff")
        .with("unit_ns", unit.best)
        .with("p99_ns", ours.at(0.99))
        .with("max_ns", ours.at(1.0))
        .with("above_5ms", ours.above_5ms())
        .with("control_ns", control.at(0.5))
        .with("control_p99_ns", control.at(0.99))
        .with("control_max_ns", control.at(1.0))
        .with("control_above_5ms", control.above_5ms())
        .with("versus_control", ours.at(0.5) / control.at(0.5))
        .with("cores", cores() as f64);
    row.ns = ours.at(0.5);
    row.ratio = row.ns / unit.best;
    row.ops = ours.nanoseconds.len() as u64;
    row.allocs = ours.allocations as f64 / row.ops as f64;
    row.remark(&format!("{} cores; control p99 {:.0} ns, max {:.0} ns", cores(), control.at(0.99), control.at(1.0)));
    if ours.awake > 0 {
        row.remark(&format!("{} times the waiter did not go to sleep", ours.awake));
    }
    row
}
