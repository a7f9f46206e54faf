//! One server and its clients, with a network, a server and processes that fail.

use crate::child::Holder;
use crate::cluster::{Cluster, etcdctl, etcdctl_at, fill, metric};
use crate::locking::until;
use crate::proxy::{Proxy, Then};
use keylatch_etcd::{BatchLockRequest, EtcdConfig, EtcdError, EtcdLocks, LockGuard, LockRequest};
use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(2);
const KEY: (&str, &str) = ("photos", "cat.jpg");

fn open<T: Into<String>>(endpoints: impl IntoIterator<Item = T>, namespace: &str, ttl: Duration) -> EtcdLocks {
    EtcdLocks::open(EtcdConfig::new(endpoints).namespace(namespace).ttl(ttl)).expect("a handle")
}

fn write(locks: &EtcdLocks) -> LockGuard {
    locks.lock(LockRequest::write(KEY).timeout(LONG)).blocking().expect("the lock")
}

#[test]
fn server_stopped_past_ttl_loses_hold() {
    let Some(cluster) = Cluster::start(1) else { return };
    let locks = open(cluster.endpoints(), "stopped", TTL);
    let guard = write(&locks);
    cluster.pause(0);
    let begun = Instant::now();
    until("our own clock says lost", || !guard.is_valid());
    assert!(!locks.is_connected());
    // A wait and a try end by their own time, without a server.
    let short = Duration::from_millis(100);
    let late = locks.lock(LockRequest::write(("photos", "other")).timeout(short)).blocking();
    assert!(matches!(late, Err(EtcdError::Timeout { .. })), "{late:?}");
    assert!(begun.elapsed() < LONG);
    cluster.resume(0);
    let next = write(&locks);
    assert!(next.fence() > guard.fence());
    assert!(!guard.is_valid(), "a lost guard stays lost");
}

#[test]
fn server_killed_briefly_keeps_hold() {
    let Some(mut cluster) = Cluster::start(1) else { return };
    let (one, two) = (open(cluster.endpoints(), "n", LONG), open(cluster.endpoints(), "n", LONG));
    let guard = write(&one);
    let waiter = std::thread::spawn({
        let two = two.clone();
        move || write(&two)
    });
    until("the waiter is in line", || one.entries(KEY).expect("a list").len() == 2);
    cluster.kill(0);
    cluster.restart(0);
    assert!(guard.is_valid());
    let fence = guard.fence();
    drop(guard);
    assert!(waiter.join().expect("granted").fence() > fence);
}

#[test]
fn partition_loses_before_next_grant() {
    let Some(cluster) = Cluster::shared() else { return };
    let proxy = Proxy::to(cluster.port(0));
    let cut_off = open([proxy.endpoint()], "partition", TTL);
    let other = open(cluster.endpoints(), "partition", TTL);
    let guard = write(&cut_off);
    proxy.silence();
    let next = write(&other);
    assert!(!guard.is_valid(), "both hold by their own clocks");
    assert!(next.is_valid());
    proxy.pass();
    drop(next);
    assert!(write(&cut_off).fence() > guard.fence());
}

#[test]
fn half_open_member_is_left() {
    let Some(cluster) = Cluster::shared() else { return };
    let proxy = Proxy::to(cluster.port(0));
    let ttl = Duration::from_secs(6);
    let endpoints = [proxy.endpoint()].into_iter().chain(cluster.endpoints());
    let (locks, other) = (open(endpoints, "half-open", ttl), open(cluster.endpoints(), "half-open", ttl));
    let held = write(&other);
    let waiter = std::thread::spawn({
        let locks = locks.clone();
        move || write(&locks)
    });
    until("the waiter is in line", || other.entries(KEY).expect("a list").len() == 2);
    proxy.silence();
    // The watch of the waiter is on a connection that says nothing: the renewal finds out, and both go elsewhere.
    drop(held);
    let guard = waiter.join().expect("granted");
    assert!(guard.is_valid());
    assert!(locks.is_connected());
}

/// With a lease of an hour, no renewal finds out within the time of this test.
#[test]
fn half_open_stream_is_pinged() {
    let Some(cluster) = Cluster::shared() else { return };
    let proxy = Proxy::to(cluster.port(0));
    let ttl = Duration::from_secs(3_600);
    let endpoints = [proxy.endpoint()].into_iter().chain(cluster.endpoints());
    let (locks, other) = (open(endpoints, "pinged", ttl), open(cluster.endpoints(), "pinged", ttl));
    let held = write(&other);
    let waiter = std::thread::spawn({
        let locks = locks.clone();
        move || write(&locks)
    });
    until("the waiter is in line", || other.entries(KEY).expect("a list").len() == 2);
    proxy.silence();
    drop(held);
    assert!(waiter.join().expect("granted").is_valid());
}

#[test]
fn close_in_outage_ends_waits() {
    let Some(cluster) = Cluster::start(1) else { return };
    let locks = open(cluster.endpoints(), "outage", TTL);
    let guard = write(&locks);
    cluster.pause(0);
    until("the lease is over", || !locks.is_connected());
    // It is under way before the handle is closed, and has no timeout of its own.
    let wait = locks.lock(LockRequest::write(KEY)).into_future();
    locks.close();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let outcome = runtime.block_on(async { tokio::time::timeout(LONG, wait).await }).expect("the wait ends");
    assert!(matches!(outcome, Err(EtcdError::Closed)), "{outcome:?}");
    assert!(!guard.is_valid());
}

#[test]
fn slow_link_keeps_hold() {
    let Some(cluster) = Cluster::shared() else { return };
    let proxy = Proxy::to(cluster.port(0));
    let locks = open([proxy.endpoint()], "slow", Duration::from_secs(6));
    proxy.slow_down(Duration::from_millis(100));
    let guard = write(&locks);
    proxy.break_connections();
    let second = locks.lock(LockRequest::write(("photos", "other")).timeout(LONG)).blocking().expect("another lock");
    assert!(guard.is_valid() && second.is_valid());
}

#[test]
fn process_killed_frees_lock_by_ttl() {
    let Some(cluster) = Cluster::shared() else { return };
    let holder = Holder::start(&cluster.endpoints());
    let locks = open(cluster.endpoints(), "child", TTL);
    assert_eq!(locks.entries(KEY).expect("a list")[0].owner, "child");
    holder.signal(libc::SIGKILL);
    assert!(write(&locks).is_valid());
    drop(holder);
    stopped_process_finds_lock_lost(cluster, &locks);
    process_in_other_time_excludes(cluster, &locks);
}

/// A process whose clocks show another time since the start.
fn process_in_other_time_excludes(cluster: &Cluster, locks: &EtcdLocks) {
    let mut command = std::process::Command::new("unshare");
    command.args(["--time", "--boottime", "864000", "--monotonic", "864000"]);
    let is_permitted = command.arg("true").status().is_ok_and(|status| status.success());
    if !is_permitted {
        println!("SKIPPED: only root gets a time namespace");
        return;
    }
    let mut command = std::process::Command::new("unshare");
    command.args(["--time", "--fork", "--kill-child", "--boottime", "864000", "--monotonic", "864000"]);
    command.arg(std::env::current_exe().expect("this program"));
    let mut holder = Holder::start_by(command, &cluster.endpoints());
    assert!(matches!(locks.lock(LockRequest::write(KEY)).now(), Err(EtcdError::WouldBlock { .. })));
    locks.revoke(KEY).expect("revoked");
    holder.wait_for("lost");
    assert!(write(locks).is_valid());
}

/// The namespace of the second process is one, so both cases are one test.
fn stopped_process_finds_lock_lost(cluster: &Cluster, locks: &EtcdLocks) {
    let mut holder = Holder::start(&cluster.endpoints());
    holder.signal(libc::SIGSTOP);
    let guard = write(locks);
    holder.signal(libc::SIGCONT);
    holder.wait_for("lost");
    assert!(guard.is_valid());
}

#[test]
fn entry_deleted_by_hand_noticed() {
    let Some(cluster) = Cluster::shared() else { return };
    let (one, two) = (open(cluster.endpoints(), "by-hand", LONG), open(cluster.endpoints(), "by-hand", LONG));
    let guard = write(&one);
    etcdctl(cluster, &["del", "--prefix", "keylatch/1/by-hand/q/"]);
    let next = write(&two);
    until("the holder notices", || !guard.is_valid());
    // A waiter whose entry was deleted joins the queue again.
    let waiter = std::thread::spawn({
        let one = one.clone();
        move || write(&one)
    });
    let in_line = || one.entries(KEY).expect("a list");
    until("the waiter is in line", || in_line().len() == 2);
    let queue = etcdctl(cluster, &["get", "--prefix", "--keys-only", "keylatch/1/by-hand/q/"]);
    let own = queue.split_whitespace().max_by_key(|key| revision_of(cluster, key)).expect("an entry");
    etcdctl(cluster, &["del", own]);
    drop(next);
    let guard = waiter.join().expect("granted");
    let list = in_line();
    assert_eq!((list.len(), list[0].revision), (1, guard.revision()), "the hold has an entry");
}

/// One read says of all entries of a batch whether they are there.
#[test]
fn batch_entry_deleted_unseen_noticed() {
    // The second is divided among transactions within one.
    for size in [3_u64, 100] {
        let Some(cluster) = Cluster::start(1) else { return };
        let proxy = Proxy::to(cluster.port(0));
        let locks = open([proxy.endpoint()], "n", LONG);
        let batch = (0..size).fold(BatchLockRequest::new(), |batch, n| batch.write(("b", &n.to_string())));
        let guard = locks.lock_batch(batch).now().expect("free");
        let watches = || metric(cluster.port(0), "etcd_debugging_mvcc_watcher_total");
        until("the batch is watched", || watches() == size);
        assert!(guard.is_valid());
        let queues = etcdctl(&cluster, &["get", "--prefix", "--keys-only", "keylatch/1/n/q/"]);
        // No watch sees it.
        proxy.silence();
        etcdctl(&cluster, &["del", queues.split_whitespace().last().expect("an entry")]);
        proxy.pass();
        until("the holder notices", || !guard.is_valid());
    }
}

fn revision_of(cluster: &Cluster, key: &str) -> i64 {
    let fields = etcdctl(cluster, &["get", key, "-w", "fields"]);
    let line = fields.lines().find(|line| line.contains("CreateRevision")).expect("a revision");
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn lease_revoked_outside_noticed() {
    let Some(cluster) = Cluster::start(1) else { return };
    let locks = open(cluster.endpoints(), "n", Duration::from_secs(6));
    let guard = write(&locks);
    let leases = etcdctl(&cluster, &["lease", "list"]);
    etcdctl(&cluster, &["lease", "revoke", leases.lines().last().expect("a lease").trim()]);
    let next = write(&locks);
    until("the holder notices", || !guard.is_valid());
    assert!(next.fence() > guard.fence());
}

/// The first lease of the process, and one that follows a loss.
#[test]
fn lease_over_before_its_use_is_asked_again() {
    let Some(cluster) = Cluster::start(1) else { return };
    let proxy = Proxy::to(cluster.port(0));
    let endpoints = cluster.endpoints();
    let revoke_all = move || {
        for lease in etcdctl_at(&endpoints, &["lease", "list"]).lines().skip(1) {
            etcdctl_at(&endpoints, &["lease", "revoke", lease.trim()]);
        }
    };
    let (revoke, is_due) = (revoke_all.clone(), Arc::new(AtomicBool::new(true)));
    // Each session begins with its entry as a member.
    proxy.on_request("keylatch/1/over/m/", {
        let is_due = Arc::clone(&is_due);
        move |_| {
            if is_due.swap(false, Ordering::SeqCst) {
                revoke();
            }
            Then::Pass
        }
    });
    let locks = open([proxy.endpoint()], "over", LONG);
    assert!(!is_due.swap(true, Ordering::SeqCst), "the first lease was revoked");
    let guard = write(&locks);
    revoke_all();
    let next = write(&locks);
    assert!(next.is_valid() && !guard.is_valid());
    assert!(!is_due.load(Ordering::SeqCst), "the second lease was revoked before its use");
}

#[test]
fn compaction_under_watch_misses_nothing() {
    let Some(cluster) = Cluster::start(1) else { return };
    let (one, two) = (open(cluster.endpoints(), "n", LONG), open(cluster.endpoints(), "n", LONG));
    let guard = write(&one);
    let waiter = std::thread::spawn({
        let two = two.clone();
        move || write(&two)
    });
    until("the waiter is in line", || one.entries(KEY).expect("a list").len() == 2);
    for value in 0..5 {
        etcdctl(&cluster, &["put", "other", &value.to_string()]);
    }
    let revision = revision_of_store(&cluster);
    etcdctl(&cluster, &["compact", &revision.to_string()]);
    assert!(guard.is_valid());
    drop(guard);
    assert!(waiter.join().expect("granted").is_valid());
}

fn revision_of_store(cluster: &Cluster) -> i64 {
    let fields = etcdctl(cluster, &["get", "other", "-w", "fields"]);
    let line = fields.lines().find(|line| line.starts_with("\"Revision\"")).expect("a revision");
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn full_database_refuses_and_releases() {
    let Some(cluster) = Cluster::start_with(1, &["--quota-backend-bytes", "2000000"]) else { return };
    let locks = open(cluster.endpoints(), "n", LONG);
    let guard = write(&locks);
    fill(&cluster.endpoints());
    let refused = locks.lock(LockRequest::write(("photos", "other")).timeout(LONG)).blocking();
    assert!(matches!(refused, Err(EtcdError::NoSpace)), "{refused:?}");
    assert!(guard.is_valid());
    guard.release_blocking(LONG).expect("a deletion needs no space");
    assert!(etcdctl(&cluster, &["get", "--prefix", "keylatch/1/n/q/"]).is_empty());
}

/// Neither the old lease nor the new one stays.
#[test]
fn close_while_lease_is_replaced_revokes_both() {
    let Some(cluster) = Cluster::start(1) else { return };
    let proxy = Proxy::to(cluster.port(0));
    let locks = open([proxy.endpoint()], "n", Duration::from_secs(120));
    let leases = || etcdctl(&cluster, &["lease", "list"]).lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let first = leases();
    assert_eq!(first.len(), 1);
    proxy.slow_down(Duration::from_millis(300));
    // The next creation finds its floor gone, and the lease counts as lost.
    etcdctl(&cluster, &["del", "--prefix", "keylatch/1/n/x/"]);
    let waiter = std::thread::spawn({
        let locks = locks.clone();
        move || locks.lock(LockRequest::write(KEY).timeout(LONG)).blocking()
    });
    until("the new lease is granted, and its answer on the way", || {
        leases().iter().any(|lease| !first.contains(lease))
    });
    locks.close();
    assert!(leases().is_empty(), "{:?}", leases());
    let ended = waiter.join().expect("no panic");
    assert!(matches!(ended, Err(EtcdError::Closed)), "{ended:?}");
}
