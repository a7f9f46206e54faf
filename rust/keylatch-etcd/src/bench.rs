//! What the protocol costs beside raw requests of the same client: `make bench-etcd`.

#![allow(clippy::print_stdout, reason = "a measurement is there to be read")]
// The cluster of the tests has more verbs than a measurement needs.
#![allow(dead_code)]

use crate::config::EtcdConfig;
use crate::core::Core;
use crate::locks::EtcdLocks;
use crate::request::{BatchLockRequest, LockRequest};
use crate::wire::{Compare, RequestOp, TxnRequest};
use std::time::{Duration, Instant};

#[path = "../tests/it/cluster.rs"]
mod cluster;

const LONG: Duration = Duration::from_secs(60);
const KEY: (&str, &str) = ("photos", "cat.jpg");

/// The median of durations, in microseconds.
fn median(mut all: Vec<Duration>) -> f64 {
    all.sort_unstable();
    all[all.len() / 2].as_secs_f64() * 1e6
}

fn timed<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    times.push(begun.elapsed());
    done
}

/// One transaction that compares and puts, as an acquisition does; one deletion.
fn raw(core: &Core, number: usize, puts: &mut Vec<Duration>, deletes: &mut Vec<Duration>) {
    let key = format!("keylatch/1/bench/q/raw/{number}").into_bytes();
    let lease = core.space().session_now().expect("a session").lease;
    let space = core.space();
    let request = TxnRequest {
        compare: vec![Compare::created_at(key.clone(), 0)],
        success: vec![RequestOp::put(key.clone(), b"owner photos cat.jpg".to_vec(), lease)],
        failure: Vec::new(),
    };
    timed(puts, || {
        let space = core.space();
        core.wait_for(async move { Ok(space.client.txn(request).await?.body.succeeded) }).expect("put")
    });
    timed(deletes, || core.wait_for(async move { Ok(space.client.delete(key).await?.body.deleted) }).expect("deleted"));
}

struct Times {
    puts: Vec<Duration>,
    deletes: Vec<Duration>,
    acquires: Vec<Duration>,
    releases: Vec<Duration>,
    batches: Vec<Duration>,
    hand_offs: Vec<Duration>,
}

fn hand_off(from: &EtcdLocks, to: &EtcdLocks) -> Duration {
    let guard = from.lock(LockRequest::write(KEY)).now().expect("free");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let guard = to.lock(LockRequest::write(KEY).timeout(LONG)).blocking().expect("the lock");
            (Instant::now(), guard)
        });
        while from.entries(KEY).expect("a list").len() < 2 {
            std::thread::yield_now();
        }
        // The watch of the waiter is on its way; a hand-off is one between those that wait already.
        std::thread::sleep(Duration::from_millis(5));
        let released = Instant::now();
        drop(guard);
        let (granted, guard) = waiter.join().expect("granted");
        guard.release_blocking(LONG).expect("released");
        granted - released
    })
}

fn measure(nodes: usize, rounds: usize) {
    let Some(cluster) = cluster::Cluster::start(nodes) else { return };
    let open = || EtcdLocks::open(EtcdConfig::new(cluster.endpoints()).namespace("bench")).expect("a handle");
    let (locks, other) = (open(), open());
    let mut times = Times {
        puts: Vec::new(),
        deletes: Vec::new(),
        acquires: Vec::new(),
        releases: Vec::new(),
        batches: Vec::new(),
        hand_offs: Vec::new(),
    };
    // In turns, so that what else the machine does hits all alike.
    for round in 0..rounds {
        raw(locks.core(), round, &mut times.puts, &mut times.deletes);
        let request = LockRequest::write(KEY).owner("owner").timeout(LONG);
        let guard = timed(&mut times.acquires, || locks.lock(request).blocking().expect("free"));
        timed(&mut times.releases, || guard.release_blocking(LONG).expect("released"));
        let names: Vec<String> = (0..16).map(|n| format!("o{n}")).collect();
        let batch = names.iter().fold(BatchLockRequest::new(), |batch, name| batch.write(("b", name)));
        let guard = timed(&mut times.batches, || locks.lock_batch(batch.timeout(LONG)).blocking().expect("free"));
        guard.release_blocking(LONG).expect("released");
        if round % 4 == 0 {
            times.hand_offs.push(hand_off(&locks, &other));
        }
    }
    let (put, delete, acquire) = (median(times.puts), median(times.deletes), median(times.acquires));
    println!("\n{nodes} member(s), {rounds} rounds, medians");
    println!("{:<34} {:>9}  {:>6}  goal", "", "µs", "ratio");
    let line = |what: &str, micros: f64, beside: f64, goal: f64| {
        println!("{what:<34} {micros:>9.0}  {:>6.2}  {goal}", micros / beside);
    };
    line("raw transaction", put, put, 1.0);
    line("raw deletion", delete, delete, 1.0);
    line("free acquire / raw transaction", acquire, put, 1.15);
    line("release / raw deletion", median(times.releases), delete, 1.1);
    line("batch of 16 / free acquire", median(times.batches), acquire, 1.6);
    line("hand-off / raw transaction", median(times.hand_offs), put, 3.0);
}

#[test]
#[ignore = "a measurement; make bench-etcd runs it"]
fn bench_beside_raw_requests() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(400);
    for nodes in [1, 3] {
        measure(nodes, rounds);
    }
}
