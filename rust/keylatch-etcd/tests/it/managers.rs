//! Managers of several processes that share their keys on a cluster.

use crate::cluster::{Cluster, etcdctl};
use crate::locking::until;
use crate::proxy::Proxy;
use keylatch::tier::Tier;
use keylatch::{BatchLockRequest, FastObjectLockManager, LockConfig, LockError, LockRequest, Mode};
use keylatch_etcd::EtcdConfig;
use keylatch_etcd::tier::EtcdTier;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn manager(cluster: &Cluster, namespace: &str, ttl: u64) -> FastObjectLockManager {
    let config = EtcdConfig::new(cluster.endpoints()).namespace(namespace).ttl(Duration::from_secs(ttl));
    let tier = EtcdTier::open(config).expect("a tier");
    FastObjectLockManager::with_tier(LockConfig::default(), Arc::new(tier)).expect("a manager")
}

fn write(object: &str) -> LockRequest<'_> {
    LockRequest::write(("b", object)).timeout(LONG)
}

#[test]
fn kept_permit_serves_without_server() {
    let Some(cluster) = Cluster::start(1) else { return };
    let (one, two) = (manager(&cluster, "n", 60), manager(&cluster, "n", 60));
    let fence = one.lock(write("x")).blocking().expect("the lock").fence();
    cluster.pause(0);
    // No answer comes from the server, and none is needed.
    let mut last = fence;
    for _ in 0..1_000 {
        let guard = one.lock(write("x")).blocking().expect("the permit is kept");
        assert!(guard.fence() > last);
        last = guard.fence();
    }
    let short = Duration::from_millis(50);
    let late = one.lock(LockRequest::write(("b", "y")).timeout(short)).blocking();
    assert!(matches!(late, Err(LockError::Timeout { .. })), "{late:?}");
    cluster.resume(0);
    // Another process gets it back.
    assert!(two.lock(write("x")).blocking().expect("the lock").fence() > last);
    let entries = etcdctl(&cluster, &["get", "--prefix", "--keys-only", "keylatch/1/n/q/"]);
    assert!(!entries.is_empty(), "and keeps it");
}

#[test]
fn closed_tier_gives_everything_back() {
    let Some(cluster) = Cluster::shared() else { return };
    let config = EtcdConfig::new(cluster.endpoints()).namespace("closed-tier").ttl(Duration::from_secs(600));
    let tier = EtcdTier::open(config).expect("a tier");
    let one = FastObjectLockManager::with_tier(LockConfig::default(), Arc::new(tier.clone())).expect("a manager");
    let guard = one.lock(write("x")).blocking().expect("the lock");
    drop(one.lock(write("y")).blocking().expect("a permit that is kept"));
    tier.close();
    assert!(!guard.is_valid(), "another process may have it");
    let two = manager(cluster, "closed-tier", 60);
    for key in ["x", "y"] {
        assert!(two.lock(write(key)).blocking().expect("it does not wait for the lease").fence() > guard.fence());
    }
    tier.close();
    assert!(one.lock(write("x").timeout(Duration::from_millis(50))).blocking().is_err());
}

#[test]
fn holds_of_all_processes_listed() {
    let Some(cluster) = Cluster::shared() else { return };
    let (one, two) = (manager(cluster, "listed", 60), manager(cluster, "listed", 60));
    let guard = one.lock(write("x").owner("indexer")).blocking().expect("the lock");
    assert!(two.holders(&keylatch::Filter::new().bucket("b")).is_empty(), "it knows its own process");
    let key = keylatch::ObjectKey::new("b", "x");
    let held = |by: &FastObjectLockManager| {
        let holds = by.tier_holds(Some(key.as_ref())).expect("a list");
        assert_eq!(holds.len(), 1);
        (holds[0].own, holds[0].waits, holds[0].mode, holds[0].owner.to_string())
    };
    assert_eq!(held(&one), (true, false, Mode::Exclusive, "indexer".into()));
    assert_eq!(held(&two), (false, false, Mode::Exclusive, "indexer".into()));
    assert_eq!(two.tier_holds(None).expect("a list").len(), 1);
    drop(guard);
}

/// As where a manager is dropped in one thread, and its tier closed in another.
#[test]
fn tier_ended_twice_is_over_for_both() {
    let Some(cluster) = Cluster::start(1) else { return };
    let proxy = Proxy::to(cluster.port(0));
    let config = EtcdConfig::new([proxy.endpoint()]).ttl(Duration::from_secs(600));
    let tier = EtcdTier::open(config.connect_timeout(LONG)).expect("a tier");
    let leases = || etcdctl(&cluster, &["lease", "list"]).lines().skip(1).count();
    assert_eq!(leases(), 1);
    proxy.slow_down(Duration::from_millis(500));
    let first = std::thread::spawn({
        let tier = tier.clone();
        move || tier.detach()
    });
    until("the tier is being ended", || tier.list(None, &mut |_| {}).is_err());
    tier.close();
    assert_eq!(leases(), 0, "the second call returned before the first");
    first.join().expect("no panic");
}

#[test]
fn lost_permit_reaches_holder() {
    let Some(cluster) = Cluster::start(1) else { return };
    let one = manager(&cluster, "n", 2);
    let guard = one.lock(write("x")).blocking().expect("the lock");
    cluster.pause(0);
    until("the holder learns of it", || !guard.is_valid());
    cluster.resume(0);
    let next = one.lock(write("x")).blocking().expect("a new permit");
    assert!(next.fence() > guard.fence() && next.is_valid());
}

#[test]
fn upgrade_waits_for_reader_of_other_manager() {
    let Some(cluster) = Cluster::shared() else { return };
    let (one, two) = (manager(cluster, "upgrade-managers", 60), manager(cluster, "upgrade-managers", 60));
    let read = || LockRequest::read(("b", "x")).timeout(LONG);
    let mut first = one.lock(read()).blocking().expect("the lock");
    let mut second = two.lock(read()).blocking().expect("the lock");
    let short = Some(Duration::from_millis(100));
    let late = first.upgrade_blocking(short);
    assert!(matches!(late, Err(LockError::Timeout { .. })), "{late:?}");
    let fence = second.fence();
    let entries = || etcdctl(cluster, &["get", "--prefix", "--keys-only", "keylatch/1/upgrade-managers/q/"]);
    until("the mark of the late upgrade is gone", || !entries().contains("/wp"));
    std::thread::scope(|scope| {
        let upgrading = scope.spawn(|| first.upgrade_blocking(Some(LONG)));
        until("it waits", || entries().contains("/wp"));
        let refused = second.upgrade_blocking(Some(LONG));
        assert!(matches!(refused, Err(LockError::UpgradeConflict { .. })), "{refused:?}");
        assert!(!upgrading.is_finished());
        drop(second);
        upgrading.join().expect("no panic").expect("it is alone");
    });
    assert!(first.fence() > fence && first.is_valid());
    let busy = two.lock(read()).try_now();
    assert!(matches!(busy, Err(LockError::WouldBlock { .. })), "{busy:?}");
    drop(first);
    assert!(two.lock(write("x")).blocking().expect("the lock").fence() > fence);
}

/// A call of `upgrade`, between two numbers of a counter.
#[derive(Debug, Clone)]
struct Upgrade {
    key: usize,
    from: u64,
    to: u64,
    is_done: bool,
}

/// A conflict needs another upgrade of the key at the same time.
///
/// One of those that meet succeeds.
fn check_upgrades(mut all: Vec<Upgrade>) {
    all.sort_by_key(|upgrade| (upgrade.key, upgrade.from));
    // Those that overlap, one by one, up to a moment at which no upgrade is under way.
    let mut crowd: Vec<Upgrade> = Vec::new();
    for upgrade in all.into_iter().map(Some).chain([None]) {
        let is_next = upgrade
            .as_ref()
            .is_some_and(|upgrade| crowd.iter().any(|other| other.key == upgrade.key && upgrade.from < other.to));
        if !is_next && !crowd.is_empty() {
            assert!(crowd.iter().any(|upgrade| upgrade.is_done), "a conflict with no upgrade: {crowd:?}");
            crowd.clear();
        }
        crowd.extend(upgrade);
    }
}

#[test]
#[should_panic(expected = "a conflict with no upgrade")]
fn conflict_with_no_upgrade_noticed() {
    let upgrade = |from, to, is_done| Upgrade { key: 0, from, to, is_done };
    check_upgrades(vec![upgrade(0, 3, true), upgrade(1, 2, false), upgrade(4, 5, false), upgrade(6, 7, true)]);
}

/// Readers share and writers are alone, with tries, batches and upgrades.
#[test]
fn managers_exclude_under_random_load() {
    let Some(cluster) = Cluster::shared() else { return };
    let managers = [0, 1, 2].map(|_| manager(cluster, "random-managers", 30));
    let inside = [const { AtomicI32::new(0) }; 2];
    let (fences, holds) = ([const { AtomicU64::new(0) }; 2], AtomicU64::new(0));
    let (moment, upgrades) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let enter = |key: usize, mode: Mode, fence: u64| {
        let before = inside[key].fetch_add(if mode == Mode::Exclusive { 1_000 } else { 1 }, Ordering::SeqCst);
        assert!(before < 1_000 && (mode == Mode::Shared || before == 0), "{before} are inside");
        if mode == Mode::Exclusive {
            assert!(fences[key].swap(fence, Ordering::SeqCst) < fence, "fences grow");
        }
        holds.fetch_add(1, Ordering::Relaxed);
    };
    let leave = |key: usize, mode: Mode| {
        inside[key].fetch_sub(if mode == Mode::Exclusive { 1_000 } else { 1 }, Ordering::SeqCst);
    };
    let names = ["x", "y"];
    std::thread::scope(|scope| {
        for seed in 0..9_u64 {
            let (manager, enter, leave) = (&managers[seed as usize % 3], &enter, &leave);
            let (moment, upgrades) = (&moment, &upgrades);
            scope.spawn(move || {
                let mut random = seed * 7 + 1;
                let mut below = |limit: u64| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (random >> 33) % limit
                };
                for _ in 0..60 {
                    let key = usize::try_from(below(2)).expect("small");
                    match below(4) {
                        0 => {
                            let batch = BatchLockRequest::new("batch").timeout(LONG);
                            let batch =
                                names.iter().fold(batch, |batch, &name| batch.add(("b", name), Mode::Exclusive));
                            let held = manager.acquire_locks_batch_blocking(batch).expect("both locks").into_guards();
                            held.iter().enumerate().for_each(|(key, guard)| enter(key, Mode::Exclusive, guard.fence()));
                            (0..held.len()).for_each(|key| leave(key, Mode::Exclusive));
                        }
                        1 => {
                            if let Ok(guard) = manager.lock(write(names[key])).try_now() {
                                enter(key, Mode::Exclusive, guard.fence());
                                leave(key, Mode::Exclusive);
                            }
                        }
                        2 => {
                            let guard = manager.lock(write(names[key])).blocking().expect("the lock");
                            enter(key, Mode::Exclusive, guard.fence());
                            leave(key, Mode::Exclusive);
                        }
                        _ => {
                            let request = LockRequest::read(("b", names[key])).timeout(LONG);
                            let mut guard = manager.lock(request).blocking().expect("the lock");
                            enter(key, Mode::Shared, 0);
                            std::thread::sleep(Duration::from_micros(below(500)));
                            let upgraded = (below(2) == 0).then(|| {
                                let from = moment.fetch_add(1, Ordering::SeqCst);
                                let upgraded = guard.upgrade_blocking(Some(LONG));
                                let to = moment.fetch_add(1, Ordering::SeqCst);
                                let is_done = upgraded.is_ok();
                                upgrades.lock().expect("no panic").push(Upgrade { key, from, to, is_done });
                                upgraded
                            });
                            leave(key, Mode::Shared);
                            match upgraded {
                                Some(Ok(())) => {
                                    enter(key, Mode::Exclusive, guard.fence());
                                    leave(key, Mode::Exclusive);
                                }
                                Some(Err(error)) => {
                                    assert!(matches!(error, LockError::UpgradeConflict { .. }), "{error}")
                                }
                                None => {}
                            }
                            drop(guard);
                        }
                    }
                }
            });
        }
    });
    let upgrades = upgrades.into_inner().expect("no panic");
    assert!(holds.load(Ordering::Relaxed) > 300 && upgrades.iter().filter(|upgrade| upgrade.is_done).count() > 10);
    check_upgrades(upgrades);
}

/// Those of one process are one entry in etcd, however many they are.
#[test]
fn ten_thousand_wait_for_one_key() {
    let Some(cluster) = Cluster::shared() else { return };
    let managers = [0, 1].map(|_| manager(cluster, "crowd", 60));
    let held = managers[0].lock(write("x")).blocking().expect("the lock");
    let (inside, done) = (AtomicI32::new(0), AtomicU64::new(0));
    let wait = async |manager: &FastObjectLockManager| {
        let guard = manager.lock(write("x")).await.expect("the lock");
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold");
        inside.fetch_sub(1, Ordering::SeqCst);
        done.fetch_add(1, Ordering::SeqCst);
        drop(guard);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let waits = (0..10_000).map(|number| wait(&managers[number % 2]));
        let all = futures_util::future::join_all(waits);
        let release = async {
            // All stand in line by now: each future was polled before this one.
            let entries = etcdctl(cluster, &["get", "--prefix", "--keys-only", "keylatch/1/crowd/q/"]);
            assert!(entries.matches("q/").count() <= 2, "{entries}");
            drop(held);
        };
        futures_util::future::join(all, release).await;
    });
    assert_eq!(done.load(Ordering::SeqCst), 10_000);
}
