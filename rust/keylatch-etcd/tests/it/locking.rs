//! The verbs, against one server.

use crate::cluster::Cluster;
use keylatch::{Mode, ObjectKey};
use keylatch_etcd::{BatchLockRequest, EtcdConfig, EtcdError, EtcdLocks, KEYS_PER_BATCH, LockRequest};
use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);
const KEY: (&str, &str) = ("photos", "cat.jpg");

fn open(namespace: &str) -> Option<EtcdLocks> {
    let cluster = Cluster::shared()?;
    Some(EtcdLocks::open(EtcdConfig::new(cluster.endpoints()).namespace(namespace)).expect("a handle"))
}

fn write(locks: &EtcdLocks) -> keylatch_etcd::LockGuard {
    locks.lock(LockRequest::write(KEY).timeout(LONG)).blocking().expect("the lock")
}

#[test]
fn exclusive_excludes_other_handles() {
    let (Some(one), Some(two)) = (open("exclusive"), open("exclusive")) else { return };
    let guard = write(&one);
    assert!(guard.is_valid());
    let busy = two.lock(LockRequest::write(KEY)).now();
    assert!(matches!(busy, Err(EtcdError::WouldBlock { .. })), "{busy:?}");
    let busy = two.lock(LockRequest::read(KEY)).now();
    assert!(matches!(busy, Err(EtcdError::WouldBlock { .. })), "{busy:?}");
    let late = two.lock(LockRequest::write(KEY).timeout(SHORT)).blocking();
    assert!(matches!(late, Err(EtcdError::Timeout { .. })), "{late:?}");
    let other = two.lock(LockRequest::write(("photos", "dog.jpg"))).now();
    assert!(other.is_ok());
    let fence = guard.fence();
    guard.release_blocking(LONG).expect("released");
    let guard = two.lock(LockRequest::write(KEY)).now().expect("free now");
    assert!(guard.fence() > fence);
}

#[test]
fn readers_share_and_exclude_writers() {
    let (Some(one), Some(two)) = (open("readers"), open("readers")) else { return };
    let first = one.lock(LockRequest::read(KEY)).now().expect("free");
    let second = two.lock(LockRequest::read(KEY)).now().expect("shared");
    let late = two.lock(LockRequest::write(KEY).timeout(SHORT)).blocking();
    assert!(matches!(late, Err(EtcdError::Timeout { .. })), "{late:?}");
    let writer = std::thread::spawn({
        let one = one.clone();
        move || write(&one)
    });
    until("the writer is in line", || one.entries(KEY).expect("a list").len() == 3);
    // The younger reader goes first; the writer waits for the older one, too.
    second.release_blocking(LONG).expect("released");
    let late = two.lock(LockRequest::write(KEY).timeout(SHORT)).blocking();
    assert!(matches!(late, Err(EtcdError::Timeout { .. })), "{late:?}");
    assert!(!writer.is_finished());
    drop(first);
    assert!(writer.join().expect("granted").is_valid());
}

#[test]
fn waiters_granted_in_order() {
    let Some(locks) = open("order") else { return };
    let turn = Arc::new(AtomicU32::new(0));
    let guard = write(&locks);
    let mut waiters = Vec::new();
    for expected in 0..8_u32 {
        let (locks, turn) = (locks.clone(), Arc::clone(&turn));
        let queued = locks.clone();
        waiters.push(std::thread::spawn(move || {
            let guard = write(&locks);
            assert_eq!(turn.fetch_add(1, Ordering::Relaxed), expected);
            guard.revision()
        }));
        // The next waiter comes when this one is in line.
        while queued.entries(KEY).expect("a list").len() < expected as usize + 2 {
            std::thread::yield_now();
        }
    }
    drop(guard);
    let revisions: Vec<i64> = waiters.into_iter().map(|waiter| waiter.join().expect("granted")).collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
}

#[test]
fn reader_behind_writer_waits() {
    let (Some(one), Some(two)) = (open("phases"), open("phases")) else { return };
    let reader = one.lock(LockRequest::read(KEY)).now().expect("free");
    let writer = std::thread::spawn({
        let two = two.clone();
        move || write(&two)
    });
    while one.entries(KEY).expect("a list").len() < 2 {
        std::thread::yield_now();
    }
    let busy = one.lock(LockRequest::read(KEY)).now();
    assert!(matches!(busy, Err(EtcdError::WouldBlock { .. })), "a reader does not overtake a writer: {busy:?}");
    drop(reader);
    drop(writer.join().expect("granted"));
    assert!(one.lock(LockRequest::read(KEY).timeout(LONG)).blocking().is_ok());
}

#[test]
fn timeout_leaves_nothing() {
    let (Some(one), Some(two)) = (open("timeout"), open("timeout")) else { return };
    let guard = write(&one);
    for _ in 0..20 {
        let late = two.lock(LockRequest::write(KEY).timeout(Duration::from_millis(3))).blocking();
        assert!(matches!(late, Err(EtcdError::Timeout { .. })), "{late:?}");
    }
    until("only the holder is in line", || one.entries(KEY).expect("a list").len() == 1);
    drop(guard);
    assert!(write(&two).is_valid());
}

pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn futures_wait_and_cancel() {
    let (Some(one), Some(two)) = (open("futures"), open("futures")) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let guard = one.lock(LockRequest::write(KEY)).await.expect("free");
        for polls in 0..20_u64 {
            let wait = two.lock(LockRequest::write(KEY)).into_future();
            assert!(tokio::time::timeout(Duration::from_micros(polls * 200), wait).await.is_err());
        }
        let late = two.lock(LockRequest::write(KEY).timeout(SHORT)).await;
        assert!(matches!(late, Err(EtcdError::Timeout { .. })), "{late:?}");
        let next = two.lock(LockRequest::write(KEY)).into_future();
        guard.release().await.expect("released");
        let guard = next.await.expect("granted");
        guard.release().await.expect("released");
    });
    until("the queue is empty", || one.entries(KEY).expect("a list").is_empty());
}

#[test]
fn batch_takes_all_or_waits() {
    let (Some(one), Some(two)) = (open("batch"), open("batch")) else { return };
    let keys = |from: usize| (from..from + 64).map(|n| format!("o{n}"));
    let batch = |from| keys(from).fold(BatchLockRequest::new(), |batch, key| batch.write(("b", &key)));
    let guard = one.lock_batch(batch(0).timeout(LONG)).blocking().expect("all 64");
    assert_eq!(guard.keys().count(), 64);
    let busy = two.lock_batch(batch(63)).now();
    assert!(matches!(busy, Err(EtcdError::WouldBlock { .. })), "{busy:?}");
    let disjoint = two.lock_batch(batch(64)).now().expect("other keys are free");
    drop(guard);
    drop(disjoint);
    let guard = two.lock_batch(batch(63).timeout(LONG)).blocking().expect("free now");
    drop(guard);
    let large = (0..=KEYS_PER_BATCH).fold(BatchLockRequest::new(), |batch, n| batch.write(("b", &n.to_string())));
    let large = two.lock_batch(large).now();
    assert!(matches!(large, Err(EtcdError::BatchTooLarge { limit: KEYS_PER_BATCH, .. })), "{large:?}");
    assert!(matches!(two.lock_batch(BatchLockRequest::new()).now(), Err(EtcdError::InvalidConfig { .. })));
}

/// More keys than one transaction takes still join their queues in one step.
#[test]
fn large_batch_is_one_step() {
    let (Some(one), Some(two)) = (open("large"), open("large")) else { return };
    let batch = |keys: std::ops::Range<usize>| {
        let batch = BatchLockRequest::new().timeout(LONG);
        keys.fold(batch, |batch, n| {
            batch.key(("b", &format!("o{n}")), if n % 2 == 0 { Mode::Exclusive } else { Mode::Shared })
        })
    };
    for size in [65, 112, 113, KEYS_PER_BATCH] {
        let last = format!("o{}", size - 1);
        let held = two.lock(LockRequest::write(("b", &last)).timeout(LONG)).blocking().expect("free");
        let busy = one.lock_batch(batch(0..size)).now();
        assert!(matches!(busy, Err(EtcdError::WouldBlock { .. })), "{busy:?}");
        assert_eq!(one.all_entries().expect("a list").len(), 1, "the try left nothing");
        // It waits for its last key, and has its place in the other queues already.
        let waits = one.lock_batch(batch(0..size)).into_future();
        until("all its entries are there", || two.all_entries().expect("a list").len() == 1 + size);
        let first = two.lock(LockRequest::write(("b", "o0"))).now();
        assert!(matches!(first, Err(EtcdError::WouldBlock { .. })), "{first:?}");
        held.release_blocking(LONG).expect("released");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let guard = runtime.block_on(waits).expect("its turn");
        let revisions = one.all_entries().expect("a list").into_iter().map(|entry| entry.revision);
        assert!(revisions.eq(std::iter::repeat_n(guard.revision(), size)), "one revision");
        guard.release_blocking(LONG).expect("all were there to the end");
        assert!(one.all_entries().expect("a list").is_empty());
        let tried = one.lock_batch(batch(0..size)).now().expect("free");
        assert!(tried.fence() > 0 && tried.is_valid());
        tried.release_blocking(LONG).expect("released");
    }
    // What is kept of such names is more than a request may have.
    let name = |n: usize| [&[0xff; 300][..], &n.to_be_bytes()].concat();
    let key = |n: usize| ObjectKey::new(name(0), name(n)).with_version(name(n));
    let huge = (0..KEYS_PER_BATCH).fold(BatchLockRequest::new(), |batch, n| batch.write(&key(n)));
    let refused = one.lock_batch(huge).blocking();
    assert!(matches!(refused, Err(EtcdError::RequestTooLarge)), "{refused:?}");
}

#[test]
fn batches_in_opposite_order_end() {
    let Some(locks) = open("opposite") else { return };
    let rounds = 30;
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let locks = locks.clone();
            std::thread::spawn(move || {
                for _ in 0..rounds {
                    let (first, second) = if thread % 2 == 0 { ("a", "b") } else { ("b", "a") };
                    let batch = BatchLockRequest::new().write(("x", first)).write(("x", second)).read(("x", "c"));
                    let guard = locks.lock_batch(batch.timeout(LONG)).blocking().expect("no deadlock");
                    assert!(guard.is_valid());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("all rounds"));
}

#[test]
fn entries_name_holders_and_waiters() {
    let (Some(one), Some(two)) = (open("listing"), open("listing")) else { return };
    let _guard = one.lock(LockRequest::write(KEY).owner("indexer")).now().expect("free");
    let waiting = std::thread::spawn({
        let two = two.clone();
        move || two.lock(LockRequest::read(KEY).owner("viewer").timeout(Duration::from_secs(1))).blocking()
    });
    until("the waiter is in line", || one.entries(KEY).expect("a list").len() == 2);
    let list = two.all_entries().expect("a list");
    assert_eq!(list.len(), 2);
    let [holder, waiter] = [&list[0], &list[1]];
    assert_eq!((holder.owner.as_str(), holder.waits, holder.own), ("indexer", false, false));
    assert_eq!((waiter.owner.as_str(), waiter.waits, waiter.own), ("viewer", true, true));
    assert_eq!(holder.key.to_string(), "photos/cat.jpg");
    assert!(holder.process.contains(&std::process::id().to_string()), "{}", holder.process);
    assert!(matches!(waiting.join().expect("ends"), Err(EtcdError::Timeout { .. })));
}

#[test]
fn revoke_ends_hold_and_says_so() {
    let (Some(one), Some(two)) = (open("revoke"), open("revoke")) else { return };
    let guard = write(&one);
    assert_eq!(two.revoke(KEY).expect("revoked"), 1);
    let next = write(&two);
    assert!(next.fence() > guard.fence());
    until("the holder notices", || !guard.is_valid());
    assert!(matches!(guard.check(), Err(EtcdError::Lost { .. })));
    drop(guard);
    // The late release of the revoked guard does not hit the next.
    let busy = one.lock(LockRequest::write(KEY)).now();
    assert!(matches!(busy, Err(EtcdError::WouldBlock { .. })), "{busy:?}");
    assert!(next.is_valid());
    assert_eq!(two.revoke(("photos", "free")).expect("nothing to do"), 0);
}

#[test]
fn close_gives_everything_back() {
    let (Some(one), Some(two)) = (open("close"), open("close")) else { return };
    let guard = write(&one);
    one.close();
    assert!(!guard.is_valid());
    assert!(matches!(one.lock(LockRequest::write(KEY)).now(), Err(EtcdError::Closed)));
    assert!(two.lock(LockRequest::write(KEY)).now().is_ok());
}

#[test]
fn forked_child_holds_nothing() {
    let Some(locks) = open("forked") else { return };
    let guard = write(&locks);
    assert!(guard.is_valid() && locks.is_connected());
    // SAFETY: the child only asks what takes no lock and allocates nothing, and ends without the destructors.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let answers = i32::from(guard.is_valid()) | i32::from(locks.is_connected()) << 1;
        // SAFETY: it ends the child, which shares nothing with the parent but files.
        unsafe { libc::_exit(answers) };
    }
    let mut status = 0;
    // SAFETY: the process is our child, and the status a local.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 0), "bit 0: guard; bit 1: handle");
    assert!(guard.is_valid());
}

#[test]
fn hand_offs_survive_busy_store() {
    let (Some(one), Some(two)) = (open("busy"), open("busy")) else { return };
    let is_over = AtomicU32::new(0);
    std::thread::scope(|scope| {
        // Other keys move the revision between each read and its watch.
        scope.spawn(|| {
            while is_over.load(Ordering::Relaxed) < 2 {
                drop(one.lock(LockRequest::write(("photos", "other")).timeout(LONG)).blocking().expect("the lock"));
            }
        });
        for locks in [&one, &two] {
            let is_over = &is_over;
            scope.spawn(move || {
                for _ in 0..50 {
                    assert!(write(locks).is_valid());
                }
                is_over.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
}

/// A try is not refused because of what its own process is giving back.
#[test]
fn try_after_drop_or_cancel_is_granted() {
    let (Some(one), Some(two)) = (open("give-back"), open("give-back")) else { return };
    let request = || LockRequest::write(KEY).timeout(LONG);
    for round in 0..20 {
        let held = two.lock(request()).blocking().expect("free");
        let waits = one.lock(request()).into_future();
        until("it waits", || two.entries(KEY).expect("a list").len() == 2);
        drop(waits);
        held.release_blocking(LONG).expect("released");
        // What was cancelled is gone, too, and so is what is dropped here.
        for _ in 0..5 {
            drop(one.lock(request()).now().unwrap_or_else(|error| panic!("round {round}: {error}")));
        }
    }
}

#[test]
fn batch_over_servers_operations_refused() {
    let Some(cluster) = Cluster::start_with(1, &["--max-txn-ops", "64"]) else { return };
    let locks = EtcdLocks::open(EtcdConfig::new(cluster.endpoints())).expect("a handle");
    let held = write(&locks);
    let batch = || (0..64).fold(BatchLockRequest::new(), |batch, n| batch.write(("b", &n.to_string())));
    let refused = locks.lock_batch(batch()).blocking();
    assert!(matches!(refused, Err(EtcdError::TooManyOperations)), "{refused:?}");
    let refused = locks.lock_batch(batch()).now();
    assert!(matches!(refused, Err(EtcdError::TooManyOperations)), "{refused:?}");
    let smaller = (0..32).fold(BatchLockRequest::new(), |batch, n| batch.write(("b", &n.to_string())));
    assert!(locks.lock_batch(smaller.timeout(LONG)).blocking().is_ok(), "nothing of the others is left");
    assert!(held.is_valid());
}
