//! What many processes did to each other over a bad network, recorded and checked.

use crate::cluster::Cluster;
use crate::proxy::Proxy;
use keylatch::Mode;
use keylatch_etcd::{BatchLockRequest, EtcdConfig, EtcdError, EtcdLocks};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One hold, from after its grant to the last moment at which it was valid.
#[derive(Debug, Clone)]
struct Hold {
    key: usize,
    mode: Mode,
    from: Instant,
    to: Instant,
    revision: i64,
}

const KEYS: [&str; 3] = ["a", "b", "c"];
const HANDLES: u64 = 4;

/// A small generator of its own.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A store that refuses fences below the greatest it has seen.
#[derive(Default)]
struct Store {
    greatest: [AtomicU64; KEYS.len()],
}

impl Store {
    /// Whether the write was taken.
    fn write(&self, key: usize, fence: u64) -> bool {
        self.greatest[key].fetch_max(fence, Ordering::AcqRel) <= fence
    }
}

fn work(locks: &EtcdLocks, until: Instant, seed: u64, store: &Store, holds: &Mutex<Vec<Hold>>) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
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
        let from = Instant::now();
        if !guard.is_valid() {
            continue;
        }
        let mut to = from;
        for _ in 0..random.below(20) {
            std::thread::sleep(Duration::from_micros(200));
            let now = Instant::now();
            if !guard.is_valid() {
                break;
            }
            to = now;
            for &(key, mode) in &keys {
                if mode == Mode::Exclusive {
                    // By the clocks we are alone, so no greater fence can be there unless we were stopped since.
                    let taken = store.write(key, guard.fence());
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
fn check(holds: &[Hold]) {
    for key in 0..KEYS.len() {
        let mut of_key: Vec<&Hold> = holds.iter().filter(|hold| hold.key == key).collect();
        of_key.sort_by_key(|hold| hold.from);
        for (at, first) in of_key.iter().enumerate() {
            for second in &of_key[at + 1..] {
                if first.mode == Mode::Shared && second.mode == Mode::Shared {
                    continue;
                }
                assert!(first.to <= second.from, "two hold at a time: {first:?} {second:?}");
                assert!(first.revision < second.revision, "granted out of order: {first:?} {second:?}");
            }
        }
    }
}

fn run(cluster: &Cluster, namespace: &str, disturb: impl Fn(&[Proxy], &mut Random)) {
    let proxies: Vec<Proxy> = (0..HANDLES).map(|_| Proxy::to(cluster.port(0))).collect();
    let open = |proxy: &Proxy| {
        let config = EtcdConfig::new([proxy.endpoint()]).namespace(namespace).ttl(Duration::from_secs(2));
        EtcdLocks::open(config).expect("a handle")
    };
    let handles: Vec<EtcdLocks> = proxies.iter().map(open).collect();
    let (store, holds) = (Store::default(), Mutex::new(Vec::new()));
    let seconds = std::env::var("KEYLATCH_ETCD_HISTORY").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let until = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for (seed, locks) in (1..).zip(&handles) {
            for thread in 0..2 {
                let (store, holds) = (&store, &holds);
                scope.spawn(move || work(locks, until, seed * 2 + thread, store, holds));
            }
        }
        let mut random = Random(7);
        while Instant::now() < until {
            disturb(&proxies, &mut random);
        }
        proxies.iter().for_each(Proxy::pass);
    });
    let holds = holds.into_inner().expect("no panic");
    println!("{namespace}: {} holds", holds.len());
    assert!(holds.len() > 10, "hardly anything happened");
    check(&holds);
}

#[test]
fn history_good_network_holds() {
    let Some(cluster) = Cluster::shared() else { return };
    run(cluster, "good", |_, _| std::thread::sleep(Duration::from_millis(50)));
}

#[test]
fn history_bad_network_holds() {
    let Some(cluster) = Cluster::shared() else { return };
    run(cluster, "bad", |proxies, random| {
        let pick = usize::try_from(random.below(HANDLES)).expect("small");
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
    });
}

#[test]
#[should_panic(expected = "two hold at a time")]
fn history_overlap_noticed() {
    let now = Instant::now();
    let hold = |from, to, revision| Hold {
        key: 0,
        mode: Mode::Exclusive,
        from: now + Duration::from_millis(from),
        to: now + Duration::from_millis(to),
        revision,
    };
    check(&[hold(0, 10, 1), hold(9, 12, 2)]);
}

#[test]
#[should_panic(expected = "granted out of order")]
fn history_order_noticed() {
    let now = Instant::now();
    let hold = |from, to, revision| Hold {
        key: 0,
        mode: Mode::Exclusive,
        from: now + Duration::from_millis(from),
        to: now + Duration::from_millis(to),
        revision,
    };
    check(&[hold(0, 10, 2), hold(10, 12, 1)]);
}
