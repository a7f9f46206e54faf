//! Servers that find their database full after they have carried a request out.
//!
//! A server looks for room before it passes a request on, and again when it carries it out. In between it may get full. Here
//! the other members stand still meanwhile, so that requests wait in the log behind large ones.

use crate::cluster::{Cluster, etcdctl, etcdctl_at, metric, put_large};
use crate::locking::until;
use crate::proxy::{Proxy, Then};
use crate::tier::Process;
use crate::tier_events::Event;
use keylatch::Mode::Shared as S;
use keylatch::tier::{Answer, Effort, Tier};
use keylatch_etcd::{EtcdConfig, EtcdError, EtcdLocks, LockRequest};
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const FLAGS: [&str; 6] =
    ["--quota-backend-bytes", "2000000", "--backend-batch-limit", "1", "--election-timeout", "2000"];

/// The member that leads.
fn leader(cluster: &Cluster) -> usize {
    let leads =
        |endpoint: &String| etcdctl_at(std::slice::from_ref(endpoint), &["endpoint", "status"]).contains("true");
    let mut found = None;
    until("a member leads", || {
        found = cluster.endpoints().iter().position(leads);
        found.is_some()
    });
    found.expect("a member leads")
}

/// A member that gets full while requests wait in its log.
struct Filling {
    cluster: Arc<Cluster>,
    leader: usize,
    proxy: Proxy,
}

impl Filling {
    fn start() -> Option<Self> {
        let cluster = Arc::new(Cluster::start_with(3, &FLAGS)?);
        let leader = leader(&cluster);
        let proxy = Proxy::to(cluster.port(leader));
        Some(Self { cluster, leader, proxy })
    }

    fn config(&self) -> EtcdConfig {
        EtcdConfig::new([self.proxy.endpoint()]).namespace("n").ttl(LONG)
    }

    /// Lets the member get full before the next request with this word.
    fn spoil(&self, word: &str) {
        let (cluster, leader) = (Arc::clone(&self.cluster), self.leader);
        self.proxy.on_request(word, move |seen| {
            if seen == 1 {
                let others: Vec<usize> = (0..3).filter(|&member| member != leader).collect();
                others.iter().for_each(|&member| cluster.pause(member));
                let endpoint = cluster.endpoints()[leader].clone();
                for filler in ["filler1", "filler2"] {
                    let endpoint = endpoint.clone();
                    std::thread::spawn(move || put_large(&endpoint, filler, 1_200_000));
                }
                let port = cluster.port(leader);
                until("the large requests wait", || metric(port, "etcd_server_proposals_pending") == 2);
                let cluster = Arc::clone(&cluster);
                std::thread::spawn(move || {
                    until("the request waits behind them", || metric(port, "etcd_server_proposals_pending") == 3);
                    others.iter().for_each(|&member| cluster.resume(member));
                });
            }
            Then::Pass
        });
    }

    fn queue(&self) -> String {
        etcdctl(&self.cluster, &["get", "--prefix", "--keys-only", "keylatch/1/n/q/"])
    }
}

#[test]
fn creation_done_though_full_is_removed() {
    let Some(filling) = Filling::start() else { return };
    let locks = EtcdLocks::open(filling.config()).expect("a handle");
    filling.spoil("some-owner");
    let request = LockRequest::write(("photos", "cat.jpg")).owner("some-owner").timeout(LONG);
    let refused = locks.lock(request).blocking();
    assert!(matches!(refused, Err(EtcdError::NoSpace)), "{refused:?}");
    until("nothing is left", || filling.queue().is_empty());
}

#[test]
fn exchange_done_though_full_is_granted() {
    let Some(filling) = Filling::start() else { return };
    let process = Process::with(filling.config());
    let permit = process.ask(S);
    process.granted(permit);
    filling.spoil("keylatch/1/n/x/");
    assert_eq!(process.tier.upgrade(permit, process.term, Effort::Queue), Answer::Pending);
    process.granted(permit);
    let queue = filling.queue();
    assert!(queue.contains("/w") && !queue.contains("/r"), "{queue}");
}

#[test]
fn mark_done_though_full_is_removed() {
    let Some(filling) = Filling::start() else { return };
    let (one, other) = (Process::with(filling.config()), Process::with(filling.config()));
    let permits = [&one, &other].map(|process| {
        let permit = process.ask(S);
        process.granted(permit);
        permit
    });
    filling.spoil("/wp");
    assert_eq!(one.tier.upgrade(permits[0], one.term, Effort::Queue), Answer::Pending);
    let Event::Answered(_, Answer::Failed(error)) = one.next() else { panic!("it was refused") };
    assert_eq!(error.kind(), keylatch::tier::TierErrorKind::Full);
    until("the mark is gone", || !filling.queue().contains("/wp"));
    assert_eq!(filling.queue().matches("/r").count(), 2, "both share as before");
}
