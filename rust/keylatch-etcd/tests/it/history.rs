//! What many processes did to each other over a bad network, recorded and checked.

use crate::cluster::Cluster;
use crate::proxy::Proxy;
use crate::record::{Hold, Random, Record, check, disturb, work};
use keylatch::Mode;
use keylatch_etcd::{EtcdConfig, EtcdLocks};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const HANDLES: u64 = 4;

fn run(cluster: &Cluster, namespace: &str, disturb: impl Fn(&[Proxy], &mut Random)) {
    let proxies: Vec<Proxy> = (0..HANDLES).map(|_| Proxy::to(cluster.port(0))).collect();
    let open = |proxy: &Proxy| {
        let config = EtcdConfig::new([proxy.endpoint()]).namespace(namespace).ttl(Duration::from_secs(2));
        EtcdLocks::open(config).expect("a handle")
    };
    let handles: Vec<EtcdLocks> = proxies.iter().map(open).collect();
    let (record, holds) = (Record::default(), Mutex::new(Vec::new()));
    let seconds = std::env::var("KEYLATCH_ETCD_HISTORY").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let until = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for (seed, locks) in (1..).zip(&handles) {
            for thread in 0..2 {
                let (record, holds) = (&record, &holds);
                scope.spawn(move || work(locks, until, seed * 2 + thread, record, holds));
            }
        }
        let mut random = Random::new(7);
        while Instant::now() < until {
            disturb(&proxies, &mut random);
        }
        proxies.iter().for_each(Proxy::pass);
    });
    let holds = holds.into_inner().expect("no panic");
    println!("{namespace}: {} holds", holds.len());
    assert!(holds.len() > 10, "hardly anything happened");
    check(&holds);
}

#[test]
fn history_good_network_holds() {
    let Some(cluster) = Cluster::shared() else { return };
    run(cluster, "good", |_, _| std::thread::sleep(Duration::from_millis(50)));
}

#[test]
fn history_bad_network_holds() {
    let Some(cluster) = Cluster::shared() else { return };
    run(cluster, "bad", disturb);
}

fn hold(from: u64, to: u64, revision: i64) -> Hold {
    Hold { key: 0, mode: Mode::Exclusive, from, to, revision }
}

#[test]
#[should_panic(expected = "two hold at a time")]
fn history_overlap_noticed() {
    check(&[hold(0, 10, 1), hold(9, 12, 2)]);
}

#[test]
#[should_panic(expected = "granted out of order")]
fn history_order_noticed() {
    check(&[hold(0, 10, 2), hold(11, 12, 1)]);
}
