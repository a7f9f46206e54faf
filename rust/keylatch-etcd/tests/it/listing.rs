//! Lists of more entries than a page has.

use crate::cluster::{Cluster, etcdctl, etcdctl_at, put_large};
use crate::locking::until;
use crate::proxy::{Proxy, Then};
use keylatch_etcd::{BatchLockRequest, EtcdConfig, EtcdLocks, LockRequest};
use std::time::Duration;

#[test]
fn pages_are_of_one_moment() {
    let Some(cluster) = Cluster::shared() else { return };
    let proxy = Proxy::to(cluster.port(0));
    let config = |endpoints: Vec<String>| EtcdConfig::new(endpoints).namespace("pages").ttl(Duration::from_secs(120));
    let holding = EtcdLocks::open(config(cluster.endpoints())).expect("a handle");
    let listing = EtcdLocks::open(config(vec![proxy.endpoint()])).expect("a handle");
    let batch = |number: u32| {
        let keys = (0..60).map(move |key| format!("{number}-{key}"));
        keys.fold(BatchLockRequest::new(), |batch, key| batch.write(("b", &key)))
    };
    let guards: Vec<_> = (0..40).map(|number| holding.lock_batch(batch(number)).now().expect("free")).collect();
    let queues = "keylatch/1/pages/q/";
    let names = etcdctl(cluster, &["get", "--prefix", "--keys-only", queues]);
    let last = names.split_whitespace().last().expect("an entry").to_owned();
    // Something of the third page goes before the second page is read.
    let endpoints = cluster.endpoints();
    proxy.on_request(queues, move |seen| {
        if seen == 2 {
            etcdctl_at(&endpoints, &["del", &last]);
        }
        Then::Pass
    });
    assert_eq!(listing.all_entries().expect("a list").len(), 40 * 60);
    assert_eq!(listing.all_entries().expect("a list").len(), 40 * 60 - 1);
    drop(guards);
}

/// What those who wait say to people has more bytes than an answer may have.
#[test]
fn revoke_before_long_queue_works() {
    let Some(cluster) = Cluster::shared() else { return };
    let config = EtcdConfig::new(cluster.endpoints()).namespace("long-queue").ttl(Duration::from_secs(120));
    let locks = EtcdLocks::open(config).expect("a handle");
    let guard = locks.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free");
    let queue = "keylatch/1/long-queue/q/";
    let held = etcdctl(cluster, &["get", "--prefix", "--keys-only", queue]).trim().to_owned();
    for number in 0..4 {
        let other = format!("{}{number:032x}", &held[..held.len() - 32]);
        put_large(&cluster.endpoints()[0], &other, 1_200_000);
    }
    assert_eq!(etcdctl(cluster, &["get", "--prefix", "--keys-only", queue]).split_whitespace().count(), 5);
    assert_eq!(locks.revoke(("photos", "cat.jpg")), Ok(1));
    until("the holder notices", || !guard.is_valid());
    etcdctl(cluster, &["del", "--prefix", queue]);
}
