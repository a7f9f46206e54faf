//! Exchanges of an entry for another whose outcome is not known at first.
//!
//! The first copy of the request has no answer, and the second is refused for another reason: the user has lost its
//! permission meanwhile.

use crate::cluster::{Cluster, etcdctl, fill};
use crate::locking::until;
use crate::login::{as_root, as_root_at, cluster_with_login};
use crate::proxy::{Proxy, Then};
use crate::tier::Process;
use crate::tier_events::Event;
use keylatch::Mode::{Exclusive as X, Shared as S};
use keylatch::tier::{Answer, Effort, Tier};
use keylatch_etcd::EtcdConfig;
use std::time::Duration;

/// What becomes of an exchange before the client asks about it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum First {
    CarriedOut,
    Lost,
    CarriedOutAndRemoved,
}

const PERMISSION: [&str; 3] = ["locks", "--prefix=true", "keylatch/1/"];

/// A process with a shared permit, behind a proxy that spoils the next exchange.
fn spoiled(cluster: &Cluster, namespace: &str, first: First) -> (Process, Proxy, keylatch::tier::PermitId) {
    let proxy = Proxy::to(cluster.port(0));
    let config = EtcdConfig::new([proxy.endpoint()]).namespace(namespace).user("locker", "secret");
    let process = Process::with(config.ttl(Duration::from_secs(60)));
    let permit = process.ask(S);
    process.granted(permit);
    let (endpoints, queue) = (cluster.endpoints(), format!("keylatch/1/{namespace}/q/"));
    // Each request that creates something, or settles what a creation did, names the floor.
    proxy.on_request(&format!("keylatch/1/{namespace}/x/"), move |seen| match seen {
        1 if first == First::Lost => Then::Swallow,
        1 => Then::SwallowAnswers,
        2 => {
            as_root_at(&endpoints, &[&["role", "revoke-permission"][..], &PERMISSION].concat());
            Then::PassAgain
        }
        // The third copy has a new login, and is refused.
        4 => {
            let [role, prefix, range] = PERMISSION;
            as_root_at(&endpoints, &["role", "grant-permission", role, prefix, "readwrite", range]);
            if first == First::CarriedOutAndRemoved {
                as_root_at(&endpoints, &["del", "--prefix", &queue]);
            }
            Then::Pass
        }
        _ => Then::Pass,
    });
    (process, proxy, permit)
}

fn entries(cluster: &Cluster, namespace: &str) -> String {
    as_root(cluster, &["get", "--prefix", "--keys-only", &format!("keylatch/1/{namespace}/q/")])
}

#[test]
fn upgrade_unknown_but_done_granted() {
    let Some(cluster) = cluster_with_login() else { return };
    let (process, _proxy, permit) = spoiled(&cluster, "n", First::CarriedOut);
    assert_eq!(process.tier.upgrade(permit, process.term, Effort::Queue), Answer::Pending);
    process.granted(permit);
    let entries = entries(&cluster, "n");
    assert!(entries.contains("/w") && !entries.contains("/r"), "{entries}");
}

#[test]
fn upgrade_unknown_and_not_done_keeps_permit() {
    let Some(cluster) = cluster_with_login() else { return };
    let (process, _proxy, permit) = spoiled(&cluster, "n", First::Lost);
    assert_eq!(process.tier.upgrade(permit, process.term, Effort::AllOrNone), Answer::Pending);
    let Event::Answered(id, Answer::Failed(_)) = process.next() else { panic!("it was refused") };
    assert_eq!(id, permit);
    assert!(process.is_silent(), "the shared permit is as before");
    let entries = entries(&cluster, "n");
    assert!(entries.contains("/r") && !entries.contains("/w"), "{entries}");
}

/// A permit without an entry is lost before local readers may go on.
#[test]
fn upgrade_unknown_without_entry_is_lost() {
    let Some(cluster) = cluster_with_login() else { return };
    let (process, _proxy, permit) = spoiled(&cluster, "n", First::CarriedOutAndRemoved);
    assert_eq!(process.tier.upgrade(permit, process.term, Effort::Queue), Answer::Pending);
    process.expect(&Event::Lost(permit));
}

/// A shared permit whose next exchange is carried out without an answer.
///
/// The database is full before the next copy.
fn spoiled_and_full() -> Option<(Cluster, Process, Proxy, keylatch::tier::PermitId)> {
    let cluster = Cluster::start_with(1, &["--quota-backend-bytes", "2000000"])?;
    let proxy = Proxy::to(cluster.port(0));
    let config = EtcdConfig::new([proxy.endpoint()]).namespace("n");
    let process = Process::with(config.ttl(Duration::from_secs(60)));
    let permit = process.ask(S);
    process.granted(permit);
    let endpoints = cluster.endpoints();
    proxy.on_request("keylatch/1/n/x/", move |seen| match seen {
        1 => Then::SwallowAnswers,
        2 => {
            fill(&endpoints);
            Then::PassAgain
        }
        _ => Then::Pass,
    });
    Some((cluster, process, proxy, permit))
}

fn queue(cluster: &Cluster) -> String {
    etcdctl(cluster, &["get", "--prefix", "--keys-only", "keylatch/1/n/q/"])
}

#[test]
fn upgrade_unknown_in_full_database_given_back() {
    let Some((cluster, process, _proxy, permit)) = spoiled_and_full() else { return };
    assert_eq!(process.tier.upgrade(permit, process.term, Effort::Queue), Answer::Pending);
    until("it is done, and not known to be", || queue(&cluster).contains("/w"));
    process.tier.give_back(permit);
    until("the queue is empty", || queue(&cluster).is_empty());
    assert!(process.is_silent(), "the lease is as before");
}

#[test]
fn try_unknown_in_full_database_withdrawn() {
    let Some((cluster, process, _proxy, permit)) = spoiled_and_full() else { return };
    let (exclusive, _) = process.send(X, Effort::AllOrNone, Some(permit));
    until("it is done, and not known to be", || queue(&cluster).contains("/w"));
    process.tier.withdraw(exclusive);
    let events = [process.next(), process.next()];
    assert!(events.contains(&Event::Lost(permit)) && events.contains(&Event::Withdrawn(exclusive)), "{events:?}");
    until("the queue is empty", || queue(&cluster).is_empty());
}

#[test]
fn try_unknown_but_done_replaces() {
    let Some(cluster) = cluster_with_login() else { return };
    let (process, _proxy, permit) = spoiled(&cluster, "n", First::CarriedOut);
    let (exclusive, _) = process.send(X, Effort::AllOrNone, Some(permit));
    process.granted(exclusive);
    assert!(process.is_silent(), "the permit was replaced, not lost");
}

#[test]
fn try_unknown_without_entry_loses_permit() {
    let Some(cluster) = cluster_with_login() else { return };
    let (process, _proxy, permit) = spoiled(&cluster, "n", First::CarriedOutAndRemoved);
    let (exclusive, _) = process.send(X, Effort::AllOrNone, Some(permit));
    let events = [process.next(), process.next()];
    assert!(events.contains(&Event::Lost(permit)), "{events:?}");
    let is_refusal = |event: &Event| matches!(event, Event::Answered(id, Answer::Failed(_)) if *id == exclusive);
    assert!(events.iter().any(is_refusal), "{events:?}");
}
