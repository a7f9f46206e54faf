//! Requests that may be carried out after they were given up, and removals that find nothing.

use crate::cluster::{Cluster, etcdctl, metric};
use crate::locking::until;
use crate::proxy::{Proxy, Then};
use keylatch_etcd::{EtcdConfig, EtcdError, EtcdLocks, LockRequest};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const KEY: (&str, &str) = ("photos", "cat.jpg");

/// Long enough that no lease ends while a test runs.
const TTL: Duration = Duration::from_secs(120);

fn open<T: Into<String>>(endpoints: impl IntoIterator<Item = T>, namespace: &str) -> EtcdLocks {
    EtcdLocks::open(EtcdConfig::new(endpoints).namespace(namespace).ttl(TTL)).expect("a handle")
}

/// The floors of a namespace, one a lease.
fn floors(cluster: &Cluster, namespace: &str) -> Vec<u64> {
    let values = etcdctl(cluster, &["get", "--prefix", "--print-value-only", &format!("keylatch/1/{namespace}/x/")]);
    values.split_whitespace().map(|value| u64::from_str_radix(value, 16).expect("a number")).collect()
}

fn is_queue_empty(cluster: &Cluster, namespace: &str) -> bool {
    etcdctl(cluster, &["get", "--prefix", &format!("keylatch/1/{namespace}/q/")]).is_empty()
}

#[test]
fn answers_swallowed_leave_no_entry() {
    let Some(cluster) = Cluster::shared() else { return };
    let proxy = Proxy::to(cluster.port(0));
    let (one, other) = (open([proxy.endpoint()], "swallowed"), open(cluster.endpoints(), "swallowed"));
    proxy.swallow_answers();
    let late = one.lock(LockRequest::write(KEY).timeout(Duration::from_millis(200))).blocking();
    assert!(matches!(late, Err(EtcdError::Timeout { .. })), "{late:?}");
    // The removal raises the floor for copies of the creation.
    until("the removal arrived", || floors(cluster, "swallowed").iter().any(|&floor| floor > 0));
    assert!(is_queue_empty(cluster, "swallowed"));
    assert!(other.lock(LockRequest::write(KEY).timeout(LONG)).blocking().is_ok());
    proxy.pass();
}

/// The first copy of a creation arrives when its acquisition is over.
#[test]
fn creation_that_comes_late_creates_nothing() {
    let Some(cluster) = Cluster::start(1) else { return };
    let proxy = Proxy::to(cluster.port(0));
    let locks = open([proxy.endpoint()], "n");
    proxy.on_request("slow-owner", |seen| if seen == 1 { Then::Late } else { Then::Pass });
    let request = LockRequest::write(KEY).owner("slow-owner").timeout(Duration::from_millis(200));
    let late = locks.lock(request).blocking();
    assert!(matches!(late, Err(EtcdError::Timeout { .. })), "{late:?}");
    until("the removal arrived", || floors(&cluster, "n") != [0]);
    deliver_late(&cluster, &proxy);
    assert!(is_queue_empty(&cluster, "n"));
}

/// It arrives beside what the second copy has created.
#[test]
fn creation_that_comes_late_changes_no_hold() {
    let Some(cluster) = Cluster::start(1) else { return };
    let proxy = Proxy::to(cluster.port(0));
    let (locks, other) = (open([proxy.endpoint()], "n"), open(cluster.endpoints(), "n"));
    proxy.on_request("slow-owner", |seen| if seen == 1 { Then::Late } else { Then::Pass });
    let guard = locks.lock(LockRequest::write(KEY).owner("slow-owner").timeout(LONG)).blocking().expect("free");
    let waiter = std::thread::spawn({
        let other = other.clone();
        move || other.lock(LockRequest::write(KEY).timeout(LONG)).blocking().expect("its turn")
    });
    until("the waiter is in line", || other.entries(KEY).expect("a list").len() == 2);
    deliver_late(&cluster, &proxy);
    let list = other.entries(KEY).expect("a list");
    assert_eq!((list.len(), list[0].revision, list[0].waits), (2, guard.revision(), false));
    guard.release_blocking(LONG).expect("it was held to the end");
    assert!(waiter.join().expect("granted").is_valid());
}

/// Delivers what is late, and waits until it is carried out.
fn deliver_late(cluster: &Cluster, proxy: &Proxy) {
    let carried_out = || metric(cluster.port(0), "etcd_server_proposals_applied_total");
    let before = carried_out();
    assert_eq!(proxy.deliver_late(), 1);
    until("it is carried out", || carried_out() > before);
}

/// The first creation is answered, so only the second one may come late.
#[test]
fn second_creation_unanswered_raises_floor() {
    let Some(cluster) = Cluster::shared() else { return };
    for is_try in [false, true] {
        let namespace = format!("second-{is_try}");
        let proxy = Proxy::to(cluster.port(0));
        let config = EtcdConfig::new([proxy.endpoint()]).namespace(&namespace).ttl(TTL);
        let locks = EtcdLocks::open(config.connect_timeout(Duration::from_secs(3))).expect("a handle");
        etcdctl(cluster, &["put", &format!("keylatch/1/{namespace}/epoch"), "1"]);
        // Only a creation names the owner.
        proxy.on_request("slow-owner", |seen| if seen == 2 { Then::SwallowAnswers } else { Then::Pass });
        let request = LockRequest::write(KEY).owner("slow-owner").timeout(Duration::from_secs(3));
        let late = if is_try { locks.lock(request).now() } else { locks.lock(request).blocking() };
        assert!(matches!(late, Err(EtcdError::Timeout { .. } | EtcdError::Unreachable { .. })), "{late:?}");
        until("the removal arrived", || floors(cluster, &namespace) != [0]);
        assert!(is_queue_empty(cluster, &namespace));
    }
}

#[test]
fn removals_leave_one_key_each_lease() {
    let Some(cluster) = Cluster::shared() else { return };
    let proxy = Proxy::to(cluster.port(0));
    let locks = open([proxy.endpoint()], "floors");
    proxy.slow_down(Duration::from_millis(30));
    for _ in 0..20 {
        let late = locks.lock(LockRequest::write(KEY).timeout(Duration::from_millis(2))).blocking();
        assert!(matches!(late, Err(EtcdError::Timeout { .. })), "{late:?}");
    }
    // A wait that is given up before it begins has no number, so the last one is not known.
    until("the removals arrived", || floors(cluster, "floors") > vec![1] && is_queue_empty(cluster, "floors"));
    assert_eq!(floors(cluster, "floors").len(), 1);
    assert!(locks.lock(LockRequest::write(KEY).timeout(LONG)).blocking().is_ok());
}

#[test]
fn floor_deleted_by_hand_ends_lease() {
    let Some(cluster) = Cluster::shared() else { return };
    let locks = open(cluster.endpoints(), "no-floor");
    let held = locks.lock(LockRequest::write(KEY)).now().expect("free");
    etcdctl(cluster, &["del", "--prefix", "keylatch/1/no-floor/"]);
    let next = locks.lock(LockRequest::write(("photos", "other")).timeout(LONG)).blocking().expect("the lock");
    assert!(next.is_valid() && !held.is_valid());
}

#[test]
fn release_of_deleted_entry_says_lost() {
    let Some(cluster) = Cluster::shared() else { return };
    let proxy = Proxy::to(cluster.port(0));
    for round in 0..4 {
        let namespace = format!("late-{round}");
        let locks = open([proxy.endpoint()], &namespace);
        let request = |object| LockRequest::write(("photos", object)).timeout(LONG);
        let batch =
            || keylatch_etcd::BatchLockRequest::new().write(("photos", "a")).write(("photos", "b")).timeout(LONG);
        let guard = if round % 2 == 0 { locks.lock(request("a")) } else { locks.lock_batch(batch()) };
        let guard = guard.blocking().expect("free");
        // The entry goes just before the release arrives.
        let (endpoints, prefix) = (cluster.endpoints(), format!("keylatch/1/{namespace}/q/"));
        proxy.on_request(&prefix.clone(), move |seen| {
            if seen == 1 {
                crate::cluster::etcdctl_at(&endpoints, &["del", "--prefix", &prefix]);
            }
            Then::Pass
        });
        let released = if round < 2 {
            guard.release_blocking(LONG)
        } else {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(guard.release())
        };
        assert!(matches!(released, Err(EtcdError::Lost { .. })), "{released:?}");
    }
}
