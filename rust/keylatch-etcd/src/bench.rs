//! What the protocol costs beside raw requests of the same client: `make bench-etcd`.

#![allow(clippy::print_stdout, reason = "a measurement is there to be read")]
// The cluster of the tests has more verbs than a measurement needs.
#![allow(dead_code)]

use crate::config::EtcdConfig;
use crate::core::Core;
use crate::locks::EtcdLocks;
use crate::request::{BatchLockRequest, LockRequest};
use crate::tier::EtcdTier;
use crate::wire::{Compare, RequestOp, TxnRequest};
use keylatch::{FastObjectLockManager, LockConfig};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
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

#[derive(Default)]
struct Times {
    puts: Vec<Duration>,
    deletes: Vec<Duration>,
    acquires: Vec<Duration>,
    releases: Vec<Duration>,
    pairs: Vec<Duration>,
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

/// Pairs a second of sixteen threads that want one key all the time.
fn hot_pairs(pair: impl Fn(usize) + Sync) -> f64 {
    let (begun, time) = (Instant::now(), Duration::from_secs(2));
    let pairs: u64 = std::thread::scope(|scope| {
        let pair = &pair;
        let count = move |thread| {
            let mut pairs = 0;
            while begun.elapsed() < time {
                pair(thread);
                pairs += 1;
            }
            pairs
        };
        let threads: Vec<_> = (0..16).map(|thread| scope.spawn(move || count(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    #[allow(clippy::cast_precision_loss, reason = "a measurement")]
    let pairs = pairs as f64;
    pairs / begun.elapsed().as_secs_f64()
}

/// Nanoseconds of a pair of a warm key: the median of runs, and the mean.
///
/// A permit has fences for 32,767 holds, and is then asked for anew; that is in the mean alone.
fn warm_pair(manager: &FastObjectLockManager) -> (f64, f64) {
    let pair = || drop(manager.lock(keylatch::LockRequest::write(KEY)).blocking().expect("the lock"));
    (0..1_000).for_each(|_| pair());
    let begun = Instant::now();
    let mut runs = Vec::new();
    (0..1_000).for_each(|_| timed(&mut runs, || (0..1_000).for_each(|_| pair())));
    let mean = begun.elapsed().as_secs_f64() * 1e3;
    (median(runs), mean)
}

/// What a process has of asking the cluster once for all its threads.
fn measure_tier(open: impl Fn() -> EtcdConfig) {
    let tier = EtcdTier::open(open()).expect("a tier");
    let kept = FastObjectLockManager::with_tier(LockConfig::default(), Arc::new(tier)).expect("a manager");
    let plain = FastObjectLockManager::new();
    let (kept_pair, plain_pair) = (warm_pair(&kept), warm_pair(&plain));
    println!("kept permit / in-process pair      {:>6.0} ns {:>7.2}  1.1", kept_pair.0, kept_pair.0 / plain_pair.0);
    println!("the same, with new fences          {:>6.0} ns {:>7.2}", kept_pair.1, kept_pair.1 / plain_pair.1);
    let of_one = hot_pairs(|_| drop(kept.lock(keylatch::LockRequest::write(KEY)).blocking().expect("the lock")));
    kept.close();
    let sessions: Vec<EtcdLocks> = (0..16).map(|_| EtcdLocks::open(open()).expect("a handle")).collect();
    let of_many = hot_pairs(|thread| {
        let guard = sessions[thread].lock(LockRequest::write(KEY).timeout(LONG)).blocking().expect("the lock");
        guard.release_blocking(LONG).expect("released");
    });
    println!("16 threads / 16 sessions, hot key  {of_one:>9.0} /s {:>6.0}  30 ({of_many:.0} /s)", of_one / of_many);
}

/// What other locks take on the same cluster.
fn peers(cluster: &cluster::Cluster, rounds: usize, with_redis: bool) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/bench_etcd_peers.py");
    let mut command = Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()));
    command.arg(script).arg(&cluster.endpoints()[0]).arg(rounds.to_string());
    let done = command.args(with_redis.then_some("--redis")).stderr(std::process::Stdio::inherit()).output();
    let done = done.expect("Python runs");
    assert!(done.status.success(), "the other locks cannot be measured");
    let rows = String::from_utf8(done.stdout).expect("lines of JSON");
    rows.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn measure(nodes: usize, rounds: usize) -> Option<Value> {
    let cluster = cluster::Cluster::start(nodes)?;
    let config = || EtcdConfig::new(cluster.endpoints()).namespace("bench");
    let open = || EtcdLocks::open(config()).expect("a handle");
    let (locks, other) = (open(), open());
    let mut times = Times::default();
    // In turns, so that what else the machine does hits all alike.
    for round in 0..rounds {
        raw(locks.core(), round, &mut times.puts, &mut times.deletes);
        let request = LockRequest::write(KEY).owner("owner").timeout(LONG);
        let begun = Instant::now();
        let guard = timed(&mut times.acquires, || locks.lock(request).blocking().expect("free"));
        timed(&mut times.releases, || guard.release_blocking(LONG).expect("released"));
        times.pairs.push(begun.elapsed());
        let names: Vec<String> = (0..16).map(|n| format!("o{n}")).collect();
        let batch = names.iter().fold(BatchLockRequest::new(), |batch, name| batch.write(("b", name)));
        let guard = timed(&mut times.batches, || locks.lock_batch(batch.timeout(LONG)).blocking().expect("free"));
        guard.release_blocking(LONG).expect("released");
        if round % 4 == 0 {
            times.hand_offs.push(hand_off(&locks, &other));
        }
    }
    let (put, delete, acquire) = (median(times.puts), median(times.deletes), median(times.acquires));
    let (pair, hand_off) = (median(times.pairs), median(times.hand_offs));
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
    line("hand-off / raw transaction", hand_off, put, 3.0);
    measure_tier(config);
    let row = |what: &str, kind: &str, us: f64| json!({ "what": what, "kind": kind, "us": us });
    let mut rows = vec![
        row("keylatch", "pair", pair),
        row("raw transaction and deletion, Rust", "pair", put + delete),
        row("keylatch", "hand-over", hand_off),
    ];
    rows.extend(peers(&cluster, rounds, nodes == 1));
    for row in &rows {
        let (what, kind) = (row["what"].as_str().unwrap_or_default(), row["kind"].as_str().unwrap_or_default());
        println!("{what:<44} {kind:<10} {:>9.0} µs", row["us"].as_f64().unwrap_or_default());
    }
    Some(json!({ "members": nodes, "rows": rows }))
}

#[test]
#[ignore = "a measurement; make bench-etcd runs it"]
fn bench_beside_raw_requests() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(400);
    let clusters: Vec<Value> = [1, 3].into_iter().filter_map(|nodes| measure(nodes, rounds)).collect();
    if let Some(path) = std::env::var_os("KEYLATCH_BENCH_JSON") {
        std::fs::write(path, Value::from(clusters).to_string()).expect("the file is written");
    }
}
