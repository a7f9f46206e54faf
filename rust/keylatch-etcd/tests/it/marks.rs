//! The marks of upgrades that wait, when requests come late or numbers are used up.

use crate::cluster::{Cluster, etcdctl, etcdctl_at, fill};
use crate::locking::until;
use crate::proxy::{Proxy, Then};
use crate::tier::Process;
use keylatch::KeyRef;
use keylatch::Mode::{Exclusive as X, Shared as S};
use keylatch::tier::{Answer, Effort, Tier};
use keylatch_etcd::EtcdConfig;
use std::time::Duration;

const TTL: Duration = Duration::from_secs(12);

fn process(endpoints: impl IntoIterator<Item = String>, namespace: &str) -> Process {
    Process::with(EtcdConfig::new(endpoints).namespace(namespace).ttl(TTL))
}

/// The names in the queues of a namespace.
fn names(cluster: &Cluster, namespace: &str) -> Vec<String> {
    let names = etcdctl(cluster, &["get", "--prefix", "--keys-only", &format!("keylatch/1/{namespace}/q/")]);
    names.split_whitespace().map(str::to_owned).collect()
}

/// Puts an entry of no process at the end of the queue of another.
fn put(cluster: &Cluster, beside: &str, letter: char, number: u32) -> String {
    let (queue, _) = beside.rsplit_once('/').expect("a queue");
    let name = format!("{queue}/{letter}{:016x}{number:016x}", 7);
    etcdctl(cluster, &["put", &name, "by-hand photos cat.jpg"]);
    name
}

/// A removal of the second mark that comes late does not remove the next.
#[test]
fn late_removal_of_second_mark_leaves_next() {
    let Some(cluster) = Cluster::shared() else { return };
    let proxy = Proxy::to(cluster.port(0));
    let (one, two) = (process([proxy.endpoint()], "late-mark"), process(cluster.endpoints(), "late-mark"));
    let first = one.ask(S);
    one.granted(first);
    let own = names(cluster, "late-mark").pop().expect("the entry");
    let [writer, reader, second] = [('w', 1), ('r', 2), ('w', 3)].map(|(letter, n)| put(cluster, &own, letter, n));
    let waiting = two.ask(S);
    until("the last reader is in line", || names(cluster, "late-mark").len() == 5);
    // The mark waits for no one. Then the writer leaves, and the reader behind it comes first.
    let endpoints = cluster.endpoints();
    proxy.on_request("/wu", move |seen| match seen {
        1 => {
            etcdctl_at(&endpoints, &["del", &writer]);
            Then::Pass
        }
        2 => Then::Late,
        _ => Then::Pass,
    });
    assert_eq!(one.tier.upgrade(first, one.term, Effort::Queue), Answer::Pending);
    until("the first copy of the removal is late", || proxy.late() == 1);
    until("the second copy is carried out", || !names(cluster, "late-mark").iter().any(|name| name.contains("/wu")));
    etcdctl(cluster, &["del", &reader]);
    one.granted(first);
    assert_eq!(proxy.deliver_late(), 1);
    etcdctl(cluster, &["del", &second]);
    assert!(two.has_no_answer(), "the upgrade is done, and exclusive");
    one.tier.give_back(first);
    two.granted(waiting);
}

/// Its own mark of before is no other's.
#[test]
fn upgrade_goes_on_with_another_number() {
    let Some(cluster) = Cluster::shared() else { return };
    let (one, two) = (process(cluster.endpoints(), "spent-mark"), process(cluster.endpoints(), "spent-mark"));
    for _ in 0..20 {
        let (first, second) = (one.ask(S), two.ask(S));
        one.granted(first);
        two.granted(second);
        assert_eq!(one.tier.upgrade(first, one.term, Effort::Queue), Answer::Pending);
        let mut mark = None;
        until("the upgrade waits", || {
            mark = names(cluster, "spent-mark").into_iter().find(|name| name.contains("/wp"));
            mark.is_some()
        });
        let mark = mark.expect("it waits");
        let (lease, number) = mark[mark.len() - 32..].split_at(16);
        // As the removal of a later acquisition does.
        etcdctl(cluster, &["put", "--ignore-lease", &format!("keylatch/1/spent-mark/x/{lease}"), number]);
        two.tier.give_back(second);
        one.granted(first);
        one.tier.give_back(first);
        until("nothing is left", || names(cluster, "spent-mark").is_empty());
    }
}

/// Else another upgrade of the key begins, and both wait for each other.
#[test]
fn mark_deleted_by_hand_is_put_again() {
    let Some(cluster) = Cluster::shared() else { return };
    let (one, two) = (process(cluster.endpoints(), "gone-mark"), process(cluster.endpoints(), "gone-mark"));
    let (first, second) = (one.ask(S), two.ask(S));
    one.granted(first);
    two.granted(second);
    assert_eq!(one.tier.upgrade(first, one.term, Effort::Queue), Answer::Pending);
    let mark = || names(cluster, "gone-mark").into_iter().find(|name| name.contains("/wp"));
    until("the upgrade waits", || mark().is_some());
    let before = mark().expect("it waits");
    etcdctl(cluster, &["del", &before]);
    until("it waits with another mark", || mark().is_some_and(|mark| mark != before));
    two.tier.give_back(second);
    one.granted(first);
}

#[test]
fn revoke_takes_marks_and_no_reader_that_waits() {
    let Some(cluster) = Cluster::shared() else { return };
    let process = process(cluster.endpoints(), "revoked-marks");
    let key = KeyRef::new("photos", "cat.jpg");
    let permit = process.ask(S);
    process.granted(permit);
    let own = names(cluster, "revoked-marks").pop().expect("the entry");
    process.tier.give_back(permit);
    until("the queue is empty", || names(cluster, "revoked-marks").is_empty());
    // A process that answers no more: its shared entry and the marks of its upgrade. The writer between has left.
    let (queue, _) = own.rsplit_once('/').expect("a queue");
    let [_, reader, ..] = [("r", 7), ("r", 8), ("wp", 7), ("wu", 7)].map(|(letters, lease)| {
        let name = format!("{queue}/{letters}{lease:016x}{:016x}", 1);
        etcdctl(cluster, &["put", &name, "by-hand photos cat.jpg"]);
        name
    });
    let mut list = Vec::new();
    process.tier.list(Some(key), &mut |hold| list.push((hold.mode, hold.waits))).expect("a list");
    assert_eq!(list, [(S, false), (S, true), (X, false)]);
    assert_eq!(process.tier.revoke(key), Ok(1));
    assert_eq!(names(cluster, "revoked-marks"), [reader]);
}

/// A full database takes no shared entry, and gives up the exclusive one.
#[test]
fn refused_downgrade_can_be_given_back() {
    let Some(cluster) = Cluster::start_with(1, &["--quota-backend-bytes", "2000000"]) else { return };
    let process = process(cluster.endpoints(), "n");
    let permit = process.ask(X);
    process.granted(permit);
    fill(&cluster.endpoints());
    process.tier.downgrade(permit);
    process.tier.give_back(permit);
    until("the queue is empty", || names(&cluster, "n").is_empty());
    assert!(process.is_silent(), "the lease is as before");
}
