//! Names of entries that are used again.

use crate::cluster::{Cluster, etcdctl, metric};
use crate::locking::until;
use crate::proxy::{Proxy, Then};
use crate::tier::Process;
use keylatch::Mode::{Exclusive as X, Shared as S};
use keylatch::tier::{Answer, Effort, Tier};
use keylatch_etcd::{BatchLockRequest, EtcdConfig, EtcdLocks, LockRequest};
use std::collections::BTreeSet;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const KEY: (&str, &str) = ("photos", "cat.jpg");

fn open(cluster: &Cluster, namespace: &str) -> EtcdLocks {
    EtcdLocks::open(EtcdConfig::new(cluster.endpoints()).namespace(namespace).ttl(LONG)).expect("a handle")
}

/// The names in all queues of a namespace.
fn names(cluster: &Cluster, namespace: &str) -> Vec<String> {
    let names = etcdctl(cluster, &["get", "--prefix", "--keys-only", &format!("keylatch/1/{namespace}/q/")]);
    names.split_whitespace().map(str::to_owned).collect()
}

/// etcd visits all names in a look at a queue, until it compacts.
#[test]
fn names_after_release_used_again() {
    let Some(cluster) = Cluster::shared() else { return };
    let locks = open(cluster, "again");
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let guard = locks.lock(LockRequest::write(KEY).timeout(LONG)).blocking().expect("free");
        seen.extend(names(cluster, "again"));
        guard.release_blocking(LONG).expect("released");
        let batch = BatchLockRequest::new().write(KEY).write(("photos", "other")).timeout(LONG);
        let guard = locks.lock_batch(batch).blocking().expect("free");
        seen.extend(names(cluster, "again"));
        guard.release_blocking(LONG).expect("released");
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

#[test]
fn names_after_failed_try_used_again() {
    let Some(cluster) = Cluster::shared() else { return };
    let (locks, other) = (open(cluster, "tries"), open(cluster, "tries"));
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let held = other.lock(LockRequest::write(KEY).timeout(LONG)).blocking().expect("free");
        assert!(locks.lock(LockRequest::write(KEY)).now().is_err());
        held.release_blocking(LONG).expect("released");
        let guard = locks.lock(LockRequest::write(KEY)).now().expect("free");
        seen.extend(names(cluster, "tries"));
        guard.release_blocking(LONG).expect("released");
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn names_of_changed_permits_used_again() {
    let Some(cluster) = Cluster::shared() else { return };
    let process = Process::new(cluster, "changed", LONG);
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let permit = process.ask(S);
        process.granted(permit);
        seen.extend(names(cluster, "changed"));
        assert_eq!(process.tier.upgrade(permit, process.term, Effort::Queue), Answer::Pending);
        process.granted(permit);
        seen.extend(names(cluster, "changed"));
        process.tier.downgrade(permit);
        until("it is shared", || names(cluster, "changed").iter().any(|name| name.contains("/0r")));
        seen.extend(names(cluster, "changed"));
        process.tier.give_back(permit);
        // The next ask begins when the permit is given back.
        let permit = process.ask(X);
        process.granted(permit);
        process.tier.give_back(permit);
        until("nothing is left", || names(cluster, "changed").is_empty());
    }
    // Of two slots a shared, an exclusive and a downgraded entry each.
    assert!(seen.len() <= 6, "{seen:?}");
}

/// The first copy of a removal arrives while the next acquisition holds.
#[test]
fn removal_that_comes_late_leaves_next() {
    let Some(cluster) = Cluster::start(1) else { return };
    let proxy = Proxy::to(cluster.port(0));
    let config = EtcdConfig::new([proxy.endpoint()]).namespace("late-removal").ttl(LONG);
    let locks = EtcdLocks::open(config).expect("a handle");
    let lock = || locks.lock(LockRequest::write(KEY).timeout(LONG)).blocking().expect("free");
    let guard = lock();
    proxy.on_request("keylatch/1/late-removal/q/", |seen| if seen == 1 { Then::Late } else { Then::Pass });
    guard.release_blocking(LONG).expect("the second copy is answered");
    let guard = lock();
    let carried_out = || metric(cluster.port(0), "etcd_server_proposals_applied_total");
    let before = carried_out();
    assert_eq!(proxy.deliver_late(), 1);
    until("the late removal is carried out", || carried_out() > before);
    guard.release_blocking(LONG).expect("the entry is there still");
}
