//! Holds of many handles, and of many processes, in one order that needs no clock.

use crate::proxy::Proxy;
use keylatch::Mode;
use keylatch_etcd::{BatchLockRequest, EtcdError, EtcdLocks};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const KEYS: [&str; 3] = ["a", "b", "c"];

/// One hold, from after its grant to the last moment at which it was valid.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) key: usize,
    pub(crate) mode: Mode,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) revision: i64,
}

/// What holders share, in memory or in a file that processes map.
///
/// Moments are numbers of a counter, so the clocks of those who hold may show what they like.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Record {
    moment: AtomicU64,
    /// A store that refuses fences below the greatest it has seen.
    greatest: [AtomicU64; KEYS.len()],
}

impl Record {
    pub(crate) fn now(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst)
    }

    /// Whether the store takes a write.
    fn write(&self, key: usize, fence: u64) -> bool {
        self.greatest[key].fetch_max(fence, Ordering::AcqRel) <= fence
    }
}

/// A small generator of its own.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Holds keys at random, and writes while the guards say that they are valid.
pub(crate) fn work(locks: &EtcdLocks, until: Instant, seed: u64, record: &Record, holds: &Mutex<Vec<Hold>>) {
    let mut random = Random::new(seed);
    while Instant::now() < until {
        let mut keys = Vec::new();
        for key in 0..KEYS.len() {
            if keys.is_empty() && key + 1 == KEYS.len() || random.below(2) == 0 {
                keys.push((key, if random.below(3) == 0 { Mode::Shared } else { Mode::Exclusive }));
            }
        }
        let batch = keys.iter().fold(BatchLockRequest::new(), |batch, &(key, mode)| batch.key(("x", KEYS[key]), mode));
        let timeout = Duration::from_millis(random.below(400));
        let guard = match locks.lock_batch(batch.timeout(timeout)).blocking() {
            Ok(guard) => guard,
            Err(EtcdError::Timeout { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        let from = record.now();
        if !guard.is_valid() {
            continue;
        }
        let mut to = from;
        for _ in 0..random.below(20) {
            std::thread::sleep(Duration::from_micros(200));
            let now = record.now();
            if !guard.is_valid() {
                break;
            }
            to = now;
            for &(key, mode) in &keys {
                if mode == Mode::Exclusive {
                    // By the clocks we are alone, so no greater fence can be there unless we were stopped since.
                    let taken = record.write(key, guard.fence());
                    assert!(taken || !guard.is_valid(), "a valid holder is refused");
                }
            }
        }
        let revision = guard.revision();
        holds.lock().expect("no panic").extend(keys.iter().map(|&(key, mode)| Hold { key, mode, from, to, revision }));
        drop(guard);
    }
}

/// Holders overlap only if they share; the others came in order of revision.
pub(crate) fn check(holds: &[Hold]) {
    for key in 0..KEYS.len() {
        let mut of_key: Vec<&Hold> = holds.iter().filter(|hold| hold.key == key).collect();
        of_key.sort_by_key(|hold| hold.from);
        for (at, first) in of_key.iter().enumerate() {
            for second in &of_key[at + 1..] {
                if first.mode == Mode::Shared && second.mode == Mode::Shared {
                    continue;
                }
                assert!(first.to < second.from, "two hold at a time: {first:?} {second:?}");
                assert!(first.revision < second.revision, "granted out of order: {first:?} {second:?}");
            }
        }
    }
}

/// Breaks, silences or slows one of the links for a while.
pub(crate) fn disturb(proxies: &[Proxy], random: &mut Random) {
    let pick = usize::try_from(random.below(proxies.len() as u64)).expect("small");
    let pause = Duration::from_millis(50 + random.below(150));
    match random.below(4) {
        0 => proxies[pick].break_connections(),
        1 => proxies[pick].silence(),
        2 => proxies[pick].swallow_answers(),
        _ => proxies[pick].slow_down(Duration::from_millis(random.below(10))),
    }
    std::thread::sleep(pause);
    if random.below(3) > 0 {
        proxies[pick].pass();
    }
}
