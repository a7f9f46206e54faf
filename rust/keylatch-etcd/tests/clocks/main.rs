//! Leases beside clocks that are set, that jump, and that count from another moment.
//!
//! A program of its own: its clocks are not the system's.

#![allow(clippy::print_stdout, reason = "processes speak to their parent, and runs say what they did")]

mod clock;
#[allow(dead_code)]
#[path = "../it/cluster.rs"]
mod cluster;
#[allow(dead_code)]
#[path = "../it/proxy.rs"]
mod proxy;
#[allow(dead_code)]
#[path = "../it/record.rs"]
mod record;
mod worker;

use cluster::Cluster;
use keylatch::{FastObjectLockManager, LockConfig, Mode};
use keylatch_etcd::tier::EtcdTier;
use keylatch_etcd::{EtcdConfig, EtcdLocks, LockGuard, LockRequest};
use parking_lot::{Mutex, MutexGuard};
use proxy::Proxy;
use record::{Hold, Random, Record, check, disturb};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use worker::{Clocks, Worker};

const LONG: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(2);
const DAY: Duration = Duration::from_secs(86_400);
const KEY: (&str, &str) = ("photos", "cat.jpg");

/// The clocks are those of all threads, so one test at a time changes them.
struct Turn(#[allow(dead_code)] MutexGuard<'static, ()>);

impl Turn {
    fn take() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        Self(TURN.lock())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        clock::reset();
    }
}

fn open(endpoint: &str, namespace: &str) -> EtcdLocks {
    EtcdLocks::open(EtcdConfig::new([endpoint]).namespace(namespace).ttl(TTL)).expect("a handle")
}

fn write(locks: &EtcdLocks) -> LockGuard {
    locks.lock(LockRequest::write(KEY).timeout(LONG)).blocking().expect("the lock")
}

#[test]
fn wall_clock_set_ahead_keeps_hold() {
    let Some(cluster) = Cluster::shared() else { return };
    let _turn = Turn::take();
    let locks = open(&cluster.endpoints()[0], "ahead");
    let guard = write(&locks);
    let before = SystemTime::now();
    clock::set_wall_ahead(DAY);
    assert!(SystemTime::now().duration_since(before).is_ok_and(|time| time >= DAY), "the clock was not set");
    assert!(guard.is_valid());
    assert!(guard.release_blocking(LONG).is_ok());
    assert!(write(&locks).is_valid());
}

#[test]
fn wall_clock_set_back_loses_in_time() {
    let Some(cluster) = Cluster::shared() else { return };
    let _turn = Turn::take();
    let proxy = Proxy::to(cluster.port(0));
    let (cut_off, other) = (open(&proxy.endpoint(), "behind"), open(&cluster.endpoints()[0], "behind"));
    let guard = write(&cut_off);
    clock::set_wall_behind(DAY);
    assert!(guard.is_valid());
    proxy.silence();
    let next = write(&other);
    assert!(!guard.is_valid(), "both hold by their own clocks");
    assert!(next.is_valid());
}

#[test]
fn machine_asleep_past_lease_loses_hold() {
    let Some(cluster) = Cluster::shared() else { return };
    let _turn = Turn::take();
    let locks = open(&cluster.endpoints()[0], "asleep");
    let guard = write(&locks);
    assert!(guard.is_valid());
    clock::sleep_machine(TTL);
    // The first look after it: no timer has gone off since.
    assert!(!guard.is_valid());
    assert!(write(&locks).is_valid());
}

/// Until `condition` holds.
fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// So long that no renewal comes within the time of a test.
const LONG_TTL: Duration = Duration::from_secs(900);

/// No timer is due: they stand still while the machine sleeps.
#[test]
fn machine_asleep_ends_kept_permit() {
    let Some(cluster) = Cluster::shared() else { return };
    let _turn = Turn::take();
    let tier = EtcdTier::open(EtcdConfig::new(cluster.endpoints()).namespace("kept").ttl(LONG_TTL)).expect("a tier");
    let locks = FastObjectLockManager::with_tier(LockConfig::default(), Arc::new(tier)).expect("a manager");
    let lock = || locks.lock(keylatch::LockRequest::write(KEY).timeout(LONG)).blocking().expect("the lock");
    let guard = lock();
    clock::sleep_machine(LONG_TTL);
    until("the manager hears that its permit is lost", || !guard.is_valid());
    let fence = guard.fence();
    drop(guard);
    let guard = lock();
    assert!(guard.fence() > fence && guard.is_valid());
}

#[test]
fn machine_asleep_begins_next_lease() {
    let Some(cluster) = Cluster::shared() else { return };
    let _turn = Turn::take();
    let config = EtcdConfig::new(cluster.endpoints()).namespace("asleep-long").ttl(LONG_TTL);
    let locks = EtcdLocks::open(config).expect("a handle");
    let guard = write(&locks);
    clock::sleep_machine(LONG_TTL);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(LONG, guard.lost()).await }).expect("the holder hears of it");
    assert!(!guard.is_valid() && write(&locks).is_valid());
}

/// Without this, a history that finds nothing would say nothing.
#[test]
#[should_panic(expected = "two hold at a time")]
fn clock_turned_back_is_noticed() {
    let Some(cluster) = Cluster::shared() else { panic!("two hold at a time: without a server there is none") };
    let _turn = Turn::take();
    let (record, proxy) = (Record::default(), Proxy::to(cluster.port(0)));
    let (cut_off, other) = (open(&proxy.endpoint(), "turned"), open(&cluster.endpoints()[0], "turned"));
    let first = write(&cut_off);
    let from = record.now();
    clock::turn_back(Duration::from_secs(3));
    proxy.silence();
    let second = write(&other);
    let hold = |guard: &LockGuard, from| {
        let to = record.now();
        assert!(guard.is_valid(), "the lease is over by this clock, too");
        Hold { key: 0, mode: Mode::Exclusive, from, to, revision: guard.revision() }
    };
    let second_from = record.now();
    check(&[hold(&first, from), hold(&second, second_from)]);
}

/// Four processes on bad links, each with clocks of its own kind.
#[test]
fn history_of_other_clocks_holds() {
    let Some(cluster) = Cluster::shared() else { return };
    let kinds = [Clocks::System, Clocks::WallJumps, Clocks::OtherStart, Clocks::Sleeps];
    let proxies: Vec<Proxy> = kinds.iter().map(|_| Proxy::to(cluster.port(0))).collect();
    let record = worker::SharedRecord::create();
    let seconds = std::env::var("KEYLATCH_ETCD_HISTORY").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let workers = kinds.iter().zip(&proxies).map(|(&kind, proxy)| Worker::start(kind, proxy, &record, seconds));
    let workers: Vec<Worker> = workers.collect();
    let mut random = Random::new(7);
    let mut holds = Vec::new();
    std::thread::scope(|scope| {
        let reading: Vec<_> = workers.into_iter().map(|worker| scope.spawn(|| worker.finish())).collect();
        while !reading.iter().all(|reading| reading.is_finished()) {
            disturb(&proxies, &mut random);
        }
        for (kind, reading) in kinds.iter().zip(reading) {
            let of_one = reading.join().expect("the process ends well");
            println!("{kind:?}: {} holds", of_one.len());
            assert!(!of_one.is_empty(), "{kind:?} held nothing");
            holds.extend(of_one);
        }
    });
    check(&holds);
}
