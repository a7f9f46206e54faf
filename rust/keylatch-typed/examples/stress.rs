//! Threads that use locks and snapshots in every way, for a sanitizer to watch: `stress SECONDS`, 1 if not said.
//!
//! The locked data is plain memory, so a lock that does not order accesses shows as a data race. It checks what it can
//! check without a sanitizer, too: no update is lost, and in the end nothing is held and nothing waits.

#![allow(clippy::print_stdout)]

use keylatch_typed::{AsyncMutex, AsyncRwLock, LockMonitor, Snapshot};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

const THREADS: u64 = 4;
const TIMEOUT: Duration = Duration::from_secs(60);

struct Shared {
    lock: AsyncRwLock<[u64; 4]>,
    mutex: AsyncMutex<u64>,
    snapshot: Snapshot<Vec<u64>>,
}

/// What a thread has done; compared with the data in the end.
#[derive(Default)]
struct Done {
    writes: u64,
    locks: u64,
    updates: u64,
}

fn main() {
    let seconds = std::env::args().nth(1).map_or(1, |seconds| seconds.parse().expect("a number of seconds"));
    let shared = Shared {
        lock: AsyncRwLock::new([0; 4], TIMEOUT),
        mutex: AsyncMutex::new(0, TIMEOUT),
        snapshot: Snapshot::new(vec![0; THREADS as usize]),
    };
    let monitor = LockMonitor::new();
    monitor.register_lock(shared.lock.stats().id(), shared.lock.stats().clone());
    monitor.register_lock(shared.mutex.stats().id(), shared.mutex.stats().clone());
    let (mut last, coalescing) = (shared.snapshot.reader(), coalesce(&shared.snapshot));
    let until = Instant::now() + Duration::from_secs(seconds);
    let all: Vec<Done> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let shared = &shared;
                scope.spawn(move || work(shared, thread, until))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sum = |count: fn(&Done) -> u64| all.iter().map(count).sum::<u64>();
    assert_eq!(*shared.lock.try_read().expect("nothing holds the lock"), [sum(|done| done.writes); 4]);
    assert_eq!(*shared.mutex.try_lock().expect("nothing holds the mutex"), sum(|done| done.locks));
    drop(shared.snapshot);
    coalescing.join().unwrap();
    assert_eq!(last.load().iter().sum::<u64>(), sum(|done| done.updates));
    for stats in [shared.lock.stats(), shared.mutex.stats()] {
        let figures = stats.figures();
        assert_eq!((figures.current_holders, figures.current_waiters), (0, 0));
    }
    println!("{}", monitor.generate_report());
}

/// Applies deferred closures in a thread of its own, as they come.
///
/// It ends when the snapshot is dropped.
fn coalesce(snapshot: &Snapshot<Vec<u64>>) -> JoinHandle<()> {
    // Without a gap there is no timer, so any executor will do.
    let mut coalescer = Box::pin(snapshot.coalescer(Duration::ZERO));
    std::thread::spawn(move || {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        while coalescer.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            std::thread::park();
        }
    })
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn work(shared: &Shared, thread: u64, until: Instant) -> Done {
    let mut done = Done::default();
    let mut reader = shared.snapshot.reader();
    let mut random = 0x9e37_79b9_7f4a_7c15 ^ (thread + 1);
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    while Instant::now() < until {
        match below(13) {
            0 => {
                let mut writing = shared.lock.blocking_write_with_timeout().unwrap();
                writing.iter_mut().for_each(|value| *value += 1);
                done.writes += 1;
                if below(2) == 0 {
                    let reading = writing.downgrade();
                    assert!(reading.iter().all(|value| *value == reading[0]));
                }
            }
            1 => {
                let timeout = Duration::from_micros(below(3) * 20);
                if let Ok(mut writing) = shared.lock.blocking_write_with_custom_timeout(timeout) {
                    writing.iter_mut().for_each(|value| *value += 1);
                    done.writes += 1;
                }
            }
            2 => {
                // Dropped after one poll: in line, or granted meanwhile, or with the guard.
                let mut request = pin!(shared.mutex.lock_with_custom_timeout(Duration::MAX));
                if let std::task::Poll::Ready(Ok(mut value)) =
                    request.as_mut().poll(&mut Context::from_waker(Waker::noop()))
                {
                    *value += 1;
                    done.locks += 1;
                }
            }
            3 => {
                *shared.mutex.blocking_lock_with_timeout().unwrap() += 1;
                done.locks += 1;
            }
            4 => {
                shared.snapshot.update(move |counts| counts[thread as usize] += 1);
                done.updates += 1;
            }
            7 => {
                shared.snapshot.defer(move |counts| counts[thread as usize] += 1);
                done.updates += 1;
            }
            8 => {
                let mut counts = reader.load().to_vec();
                counts[thread as usize] += 1;
                done.updates += u64::from(shared.snapshot.publish_if(reader.version(), counts).is_ok());
            }
            9 => {
                let before = reader.version();
                if let Some(version) = reader.changed_blocking(Duration::from_micros(below(50))).unwrap() {
                    assert!(version > before && version == reader.version());
                }
            }
            5 | 6 => assert!(reader.load()[thread as usize] <= done.updates),
            _ => {
                let reading = shared.lock.blocking_read_with_timeout().unwrap();
                assert!(reading.iter().all(|value| *value == reading[0]));
            }
        }
    }
    done
}
