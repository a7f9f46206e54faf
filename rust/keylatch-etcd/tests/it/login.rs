//! Clusters with authentication: logins, what changes under them, and what a user may not do.

use crate::cluster::{Cluster, etcdctl, etcdctl_at, metric};
use crate::locking::until;
use crate::opening::{refusal, works};
use crate::proxy::{Proxy, Then};
use keylatch_etcd::{EtcdConfig, EtcdError, EtcdLocks, LockGuard, LockRequest};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);
const KEY: (&str, &str) = ("photos", "cat.jpg");

/// The users `root`, `guest` and `locker`, of which the last may use the locks.
fn add_users(cluster: &Cluster) {
    for arguments in [
        &["user", "add", "root:secret"][..],
        &["user", "add", "guest:secret"],
        &["user", "add", "locker:secret"],
        &["role", "add", "locks"],
        &["role", "grant-permission", "locks", "--prefix=true", "readwrite", "keylatch/1/"],
        &["user", "grant-role", "locker", "locks"],
        &["user", "grant-role", "root", "root"],
    ] {
        etcdctl(cluster, arguments);
    }
}

pub(crate) fn cluster_with_login() -> Option<Cluster> {
    let cluster = Cluster::start(1)?;
    add_users(&cluster);
    etcdctl(&cluster, &["auth", "enable"]);
    Some(cluster)
}

/// Runs etcdctl as `root`; what it printed.
pub(crate) fn as_root(cluster: &Cluster, arguments: &[&str]) -> String {
    as_root_at(&cluster.endpoints(), arguments)
}

/// The same for these client addresses.
pub(crate) fn as_root_at(endpoints: &[String], arguments: &[&str]) -> String {
    etcdctl_at(endpoints, &[&["--user", "root:secret"], arguments].concat())
}

fn write(locks: &EtcdLocks) -> LockGuard {
    locks.lock(LockRequest::write(KEY).timeout(LONG)).blocking().expect("the lock")
}

/// Holds by one handle, and waits by another until it is its turn.
fn hand_over(from: &EtcdLocks, to: &EtcdLocks) -> LockGuard {
    let held = write(from);
    let waiter = std::thread::spawn({
        let to = to.clone();
        move || write(&to)
    });
    until("the waiter is in line", || from.entries(KEY).expect("a list").len() == 2);
    drop(held);
    waiter.join().expect("granted")
}

#[test]
fn login_wrong_refused() {
    let Some(cluster) = cluster_with_login() else { return };
    let config = EtcdConfig::new(cluster.endpoints());
    assert_eq!(refusal(config.clone()), EtcdError::Login { user: String::new() });
    assert_eq!(refusal(config.clone().user("locker", "wrong")), EtcdError::Login { user: "locker".into() });
    let error = refusal(config.clone().user("guest", "secret"));
    assert!(matches!(error, EtcdError::NotPermitted { .. }), "{error:?}");
    works(config.user("locker", "secret"));
}

#[test]
fn watch_denied_to_old_login_ends_wait() {
    let Some(cluster) = cluster_with_login() else { return };
    let open = || EtcdLocks::open(EtcdConfig::new(cluster.endpoints()).user("locker", "secret")).expect("a handle");
    let (one, two) = (open(), open());
    // The second handle has its stream of watches now.
    drop(hand_over(&one, &two));
    for _ in 0..3 {
        // The server forgets its tokens, so it takes no watches from the stream any more, which stays open.
        as_root(&cluster, &["auth", "disable"]);
        etcdctl(&cluster, &["auth", "enable"]);
        assert!(hand_over(&one, &two).is_valid());
    }
}

#[test]
fn removal_refused_gives_lease_up() {
    let Some(cluster) = cluster_with_login() else { return };
    let config = EtcdConfig::new(cluster.endpoints()).ttl(Duration::from_secs(2));
    let locks = EtcdLocks::open(config.clone().user("locker", "secret")).expect("a handle");
    let other = EtcdLocks::open(config.user("root", "secret")).expect("a handle");
    let (guard, bystander) = (write(&locks), locks.lock(LockRequest::write(("photos", "other"))).now().expect("free"));
    as_root(&cluster, &["role", "revoke-permission", "locks", "--prefix=true", "keylatch/1/"]);
    let refused = guard.release_blocking(LONG);
    assert!(matches!(refused, Err(EtcdError::NotPermitted { .. })), "{refused:?}");
    assert!(!bystander.is_valid(), "what keeps the entry is the lease, so it goes with all that it has");
    assert!(write(&other).is_valid());
}

/// Those who wait for a session hear why there is none, and leases do not pile up.
#[test]
fn session_refused_says_so() {
    let Some(cluster) = cluster_with_login() else { return };
    let config = EtcdConfig::new(cluster.endpoints()).ttl(Duration::from_secs(600));
    let locks = EtcdLocks::open(config.user("locker", "secret")).expect("a handle");
    let guard = write(&locks);
    let leases = || {
        let list = as_root(&cluster, &["lease", "list"]);
        list.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let first = leases();
    as_root(&cluster, &["role", "revoke-permission", "locks", "--prefix=true", "keylatch/1/"]);
    let refused = guard.release_blocking(LONG);
    assert!(matches!(refused, Err(EtcdError::NotPermitted { .. })), "{refused:?}");
    // The lease is given up, and cannot be revoked while its entries may not be touched.
    let refused = locks.lock(LockRequest::write(KEY).timeout(LONG)).blocking();
    assert!(matches!(refused, Err(EtcdError::NotPermitted { .. })), "{refused:?}");
    as_root(&cluster, &["lease", "revoke", first[0].trim()]);
    let granted = || metric(cluster.port(0), "etcd_debugging_lease_granted_total");
    until("several were asked for", || granted() >= 5);
    assert!(leases().len() <= 1, "{:?}", leases());
    let [role, prefix, range] = ["locks", "--prefix=true", "keylatch/1/"];
    as_root(&cluster, &["role", "grant-permission", role, prefix, "readwrite", range]);
    until("there is a session again", || locks.is_connected());
    assert!(write(&locks).is_valid());
}

/// The first removal has no answer, and the second is refused.
#[test]
fn release_done_before_refusal_is_no_loss() {
    let Some(cluster) = cluster_with_login() else { return };
    let proxy = Proxy::to(cluster.port(0));
    let config = EtcdConfig::new([proxy.endpoint()]).ttl(Duration::from_secs(60));
    let guard = write(&EtcdLocks::open(config.user("locker", "secret")).expect("a handle"));
    let endpoints = cluster.endpoints();
    proxy.on_request("keylatch/1/default/q/", move |seen| {
        let permission = ["locks", "--prefix=true", "keylatch/1/"];
        match seen {
            1 => return Then::SwallowAnswers,
            2 => {
                as_root_at(&endpoints, &[&["role", "revoke-permission"][..], &permission].concat());
                return Then::PassAgain;
            }
            // The third copy has a new login, and is refused.
            4 => {
                let [role, prefix, range] = permission;
                as_root_at(&endpoints, &["role", "grant-permission", role, prefix, "readwrite", range]);
            }
            _ => {}
        }
        Then::Pass
    });
    assert_eq!(guard.release_blocking(LONG), Ok(()));
}

#[test]
fn login_needed_once() {
    let Some(cluster) = Cluster::start(1) else { return };
    let proxy = Proxy::to(cluster.port(0));
    let logins = Arc::new(AtomicU64::new(0));
    proxy.on_request("locker", {
        let logins = Arc::clone(&logins);
        move |seen| {
            logins.store(seen, Ordering::SeqCst);
            Then::Pass
        }
    });
    let config = EtcdConfig::new([proxy.endpoint()]).user("locker", "secret");
    let locks = EtcdLocks::open(config).expect("a handle");
    for _ in 0..10 {
        write(&locks).release_blocking(LONG).expect("released");
    }
    assert_eq!(logins.load(Ordering::SeqCst), 1, "the cluster has said that it wants no login");
    // It may change its mind.
    add_users(&cluster);
    etcdctl(&cluster, &["auth", "enable"]);
    write(&locks).release_blocking(LONG).expect("released");
    assert!(logins.load(Ordering::SeqCst) > 1);
}
