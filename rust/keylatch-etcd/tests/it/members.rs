//! Three members: leaders and followers that die or stop, and a quorum that is lost.

use crate::cluster::{Cluster, etcdctl_at};
use crate::locking::until;
use keylatch_etcd::{EtcdConfig, EtcdLocks, LockGuard, LockRequest};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const KEY: (&str, &str) = ("photos", "cat.jpg");

fn open(cluster: &Cluster, ttl: Duration) -> EtcdLocks {
    let config = EtcdConfig::new(cluster.endpoints()).ttl(ttl).connect_timeout(LONG);
    EtcdLocks::open(config).expect("a handle")
}

fn write(locks: &EtcdLocks) -> LockGuard {
    locks.lock(LockRequest::write(KEY).timeout(LONG)).blocking().expect("the lock")
}

/// Each member in turn, so the leader is among them whichever it is.
#[test]
fn each_member_killed_keeps_holds() {
    let Some(mut cluster) = Cluster::start(3) else { return };
    let (one, two) = (open(&cluster, LONG), open(&cluster, LONG));
    let mut fence = 0;
    for member in 0..3 {
        let guard = write(&one);
        assert!(guard.fence() > fence);
        fence = guard.fence();
        let waiter = std::thread::spawn({
            let two = two.clone();
            move || write(&two)
        });
        until("the waiter is in line", || one.entries(KEY).is_ok_and(|list| list.len() == 2));
        cluster.kill(member);
        assert!(guard.is_valid());
        drop(guard);
        let next = waiter.join().expect("granted");
        assert!(next.is_valid() && next.fence() > fence);
        fence = next.fence();
        drop(next);
        cluster.restart(member);
    }
    assert!(write(&one).is_valid());
}

/// A leader that hands over drops what comes meanwhile.
#[test]
fn leader_moved_fails_nothing() {
    let Some(cluster) = Cluster::start(3) else { return };
    let status = |endpoint: &String| etcdctl_at(std::slice::from_ref(endpoint), &["endpoint", "status"]);
    let id = |endpoint: &String| status(endpoint).split(", ").nth(1).expect("a number").to_owned();
    let ids: Vec<String> = cluster.endpoints().iter().take(2).map(id).collect();
    // On one member, so that a failed request is not answered by another.
    let config = EtcdConfig::new([&cluster.endpoints()[0]]).ttl(LONG).connect_timeout(LONG);
    let locks = EtcdLocks::open(config).expect("a handle");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (locks, is_over) = (&locks, &is_over);
            scope.spawn(move || {
                let object = format!("o{thread}");
                while !is_over.load(Ordering::Relaxed) {
                    let guard = locks.lock(LockRequest::write(("photos", &object)).timeout(LONG)).blocking();
                    guard.expect("granted").release_blocking(LONG).expect("released");
                }
            });
        }
        let endpoints = cluster.endpoints();
        for to in ids.iter().cycle().take(20) {
            // It leads already, or was elected meanwhile.
            let _ = std::panic::catch_unwind(|| etcdctl_at(&endpoints, &["move-leader", to]));
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn member_stopped_is_left() {
    let Some(cluster) = Cluster::start(3) else { return };
    let locks = open(&cluster, Duration::from_secs(9));
    for member in 0..3 {
        let guard = write(&locks);
        cluster.pause(member);
        drop(guard);
        let guard = write(&locks);
        assert!(guard.is_valid());
        cluster.resume(member);
        drop(guard);
    }
}

#[test]
fn quorum_lost_below_ttl_keeps_hold() {
    let Some(mut cluster) = Cluster::start(3) else { return };
    let locks = open(&cluster, LONG);
    let guard = write(&locks);
    cluster.kill(0);
    cluster.kill(1);
    let short = Duration::from_millis(300);
    let other = LockRequest::write(("photos", "other"));
    assert!(locks.lock(other.timeout(short)).blocking().is_err(), "nothing is granted without a quorum");
    cluster.restart(0);
    cluster.restart(1);
    let second = locks.lock(other.timeout(LONG)).blocking().expect("granted with a quorum");
    assert!(guard.is_valid() && second.is_valid());
}

#[test]
fn quorum_lost_past_ttl_loses_hold() {
    let Some(cluster) = Cluster::start(3) else { return };
    let (one, two) = (open(&cluster, Duration::from_secs(3)), open(&cluster, Duration::from_secs(3)));
    let guard = write(&one);
    cluster.pause(0);
    cluster.pause(1);
    until("our own clock says lost", || !guard.is_valid());
    cluster.resume(0);
    cluster.resume(1);
    let next = write(&two);
    assert!(next.fence() > guard.fence());
    assert!(!guard.is_valid());
}
