//! One process: modes, waiting, tasks, batches, fences, listings, revocation.

use futures_util::FutureExt;
use keylatch::{KeyRef, Mode};
use keylatch_shm::{BatchLockRequest, LockRequest, SharedTable, ShmError, TableConfig};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

pub(crate) fn table(keys: u32) -> SharedTable {
    SharedTable::memfd("test", &TableConfig::default().keys(keys).members(8)).expect("a table")
}

const CAT: (&str, &str) = ("photos", "cat.jpg");

/// A future on the calling thread.
pub(crate) fn block_on<F: std::future::Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

#[test]
fn exclusive_held_others_refused() {
    let table = table(64);
    let held = table.acquire_write_lock_blocking("photos", "cat.jpg", "writer").expect("free");
    for mode in [Mode::Shared, Mode::Exclusive] {
        let refused = table.lock(LockRequest::new(CAT, mode)).now().expect_err("held");
        assert!(matches!(&refused, ShmError::WouldBlock { holders, .. } if holders[0].owner == "writer"), "{refused}");
    }
    drop(table.try_acquire_write_lock("photos", "dog.jpg", "").expect("another key"));
    drop(held);
    assert!(!table.is_locked(CAT).expect("a sound table"));
}

#[test]
fn shared_many_threads_one_name() {
    let table = table(64);
    let readers: Vec<_> =
        (0..5).map(|_| table.acquire_read_lock_blocking("photos", "cat.jpg", "reader").expect("shared")).collect();
    assert_eq!(table.holders(Some(CAT.into())).expect("a sound table").len(), 5);
    for reader in readers {
        assert!(table.lock(LockRequest::write(CAT)).now().is_err());
        drop(reader);
    }
    drop(table.lock(LockRequest::write(CAT)).now().expect("all readers left"));
}

#[test]
fn timeout_names_holder() {
    let table = table(64);
    let _held = table.acquire_read_lock_blocking("photos", "cat.jpg", "reader").expect("free");
    let request = LockRequest::write(CAT).timeout(Duration::from_millis(5));
    let error = table.lock(request).blocking().expect_err("held");
    assert!(error.to_string().contains("reader") && error.is_transient(), "{error}");
    // The writer that gave up bars no reader.
    drop(table.lock(LockRequest::read(CAT)).now().expect("shared"));
}

#[test]
fn fence_grows_across_eviction() {
    let table = table(8);
    let mut last = table.acquire_write_lock_blocking("photos", "cat.jpg", "").expect("free").fence();
    for round in 0..50 {
        for other in 0..20 {
            drop(table.acquire_write_lock_blocking("other", &format!("{round}-{other}"), "").expect("evicts"));
        }
        let fence = table.acquire_write_lock_blocking("photos", "cat.jpg", "").expect("free").fence();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
    }
}

#[test]
fn table_full_holds_refused_then_free() {
    let table = table(16);
    let mut held = Vec::new();
    let error = loop {
        match table.acquire_write_lock_blocking("many", &held.len().to_string(), "") {
            Ok(guard) => held.push(guard),
            Err(error) => break error,
        }
    };
    assert!(held.len() >= 16, "{} keys", held.len());
    assert!(matches!(error, ShmError::TableFull { keys: 16 }), "{error}");
    drop(held);
    for number in 0..100 {
        drop(table.acquire_write_lock_blocking("again", &number.to_string(), "").expect("idle keys make room"));
    }
}

#[test]
fn log_full_says_what_to_do() {
    let config = TableConfig::default().keys(1_000).members(1).holds(63);
    let table = SharedTable::memfd("test", &config).expect("a table");
    let mut held = Vec::new();
    let error = loop {
        match table.acquire_write_lock_blocking("many", &held.len().to_string(), "") {
            Ok(guard) => held.push(guard),
            Err(error) => break error,
        }
    };
    assert!(held.len() >= 63 && matches!(error, ShmError::LogFull { .. }), "{} {error}", held.len());
    drop(held);
    drop(table.acquire_write_lock_blocking("many", "0", "").expect("records came back"));
}

#[test]
fn threads_contend_exclusion_holds() {
    let table = table(64);
    let (writers, readers, total) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (table, writers, readers, total) = (&table, &writers, &readers, &total);
            scope.spawn(move || {
                for round in 0..2_000 {
                    if (thread + round) % 3 == 0 {
                        let _guard = table.acquire_write_lock_blocking("photos", "cat.jpg", "").expect("no timeout");
                        assert_eq!(writers.fetch_add(1, Ordering::SeqCst), 0);
                        assert_eq!(readers.load(Ordering::SeqCst), 0);
                        writers.fetch_sub(1, Ordering::SeqCst);
                    } else {
                        let _guard = table.acquire_read_lock_blocking("photos", "cat.jpg", "").expect("no timeout");
                        readers.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(writers.load(Ordering::SeqCst), 0);
                        readers.fetch_sub(1, Ordering::SeqCst);
                    }
                    total.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(total.into_inner(), 12_000);
    assert!(table.holders(None).expect("a sound table").is_empty());
}

#[test]
fn waiters_one_process_first_come() {
    let table = table(64);
    let order = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let held = table.acquire_write_lock_blocking("photos", "cat.jpg", "").expect("free");
        for number in 0..8 {
            let (table, order) = (&table, &order);
            let before = waiting(table);
            scope.spawn(move || {
                let _guard = table.acquire_write_lock_blocking("photos", "cat.jpg", "").expect("no timeout");
                order.lock().expect("no panic").push(number);
            });
            while waiting(table) == before {
                std::thread::yield_now();
            }
        }
        drop(held);
    });
    assert_eq!(*order.lock().expect("no panic"), [0, 1, 2, 3, 4, 5, 6, 7]);
}

fn waiting(table: &SharedTable) -> usize {
    table.waiting_here(CAT).expect("a sound table")
}

#[test]
fn future_waits_and_is_granted() {
    let table = table(64);
    let held = table.acquire_write_lock_blocking("photos", "cat.jpg", "").expect("free");
    std::thread::scope(|scope| {
        let waits =
            scope.spawn(|| block_on(async { table.lock(LockRequest::write(CAT)).await.map(|guard| guard.fence()) }));
        while waiting(&table) == 0 {
            std::thread::yield_now();
        }
        let fence = held.fence();
        drop(held);
        assert!(waits.join().expect("no panic").expect("granted") > fence);
    });
}

#[test]
fn future_dropped_leaves_nothing() {
    let table = table(64);
    for polls in 0..200 {
        let held = table.acquire_write_lock_blocking("photos", "cat.jpg", "").expect("free");
        let mut future = Box::pin(std::future::IntoFuture::into_future(table.lock(LockRequest::write(CAT))));
        assert!((&mut future).now_or_never().is_none());
        if polls % 2 == 0 {
            drop(held);
            if polls % 4 == 0 {
                std::thread::yield_now();
            }
            drop(future);
        } else {
            drop(future);
            drop(held);
        }
        drop(table.lock(LockRequest::write(CAT).timeout(Duration::from_secs(20))).blocking().expect("free"));
    }
    assert!(table.holders(None).expect("a sound table").is_empty());
}

#[test]
fn future_timeout_expires() {
    let table = table(64);
    let _held = table.acquire_write_lock_blocking("photos", "cat.jpg", "").expect("free");
    let request = LockRequest::read(CAT).timeout(Duration::from_millis(3));
    let result = block_on(async { table.lock(request).await.map(drop) });
    assert!(matches!(result, Err(ShmError::Timeout { .. })), "{result:?}");
}

#[test]
fn batches_opposite_orders_no_deadlock() {
    let table = table(64);
    std::thread::scope(|scope| {
        for flip in [false, true] {
            let table = &table;
            scope.spawn(move || {
                for _ in 0..500 {
                    let (one, two) = if flip { ("a", "b") } else { ("b", "a") };
                    let batch = BatchLockRequest::new("mover")
                        .add(("box", one), Mode::Exclusive)
                        .add(("box", two), Mode::Shared)
                        .add(("box", two), Mode::Exclusive);
                    let held = table.acquire_locks_batch_blocking(&batch).expect("no timeout");
                    assert_eq!(held.len(), 2);
                }
            });
        }
    });
    let _held = table.acquire_write_lock_blocking("box", "b", "").expect("free");
    let batch = BatchLockRequest::new("mover").add(("box", "a"), Mode::Exclusive).add(("box", "b"), Mode::Exclusive);
    let error = table.acquire_locks_batch_blocking(&batch.timeout(Duration::from_millis(2))).expect_err("held");
    assert!(matches!(error, ShmError::Batch { .. }));
    assert!(!table.is_locked(("box", "a")).expect("a sound table"), "a batch that fails holds nothing");
}

/// Tables of one file, each a member of its own.
fn members(folder: &crate::children::Folder, count: usize) -> Vec<SharedTable> {
    let config = TableConfig::default().keys(8).members(8);
    (0..count).map(|_| SharedTable::open(folder.file(), &config).expect("a table")).collect()
}

#[test]
fn reader_without_place_in_word_upgrades() {
    let folder = crate::children::Folder::new();
    let tables = members(&folder, 4);
    let read = |table: usize| tables[table].lock(LockRequest::read(("photos", "cat.jpg"))).now().expect("readers");
    // Two have their names in the word.
    let (first, second, mut third) = (read(0), read(1), read(2));
    assert!(third.try_upgrade().is_err(), "others read");
    let fourth = read(3);
    drop((first, second));
    assert!(third.try_upgrade().is_err(), "another reads that has no place either");
    drop(fourth);
    third.try_upgrade().expect("alone");
    assert!(tables[0].lock(LockRequest::read(("photos", "cat.jpg"))).now().is_err());
    third.downgrade().expect("held");
    drop(read(0));
    drop(third);
    drop(tables[1].lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("nothing is left"));
}

#[test]
fn upgrades_of_many_readers_exclude() {
    let folder = crate::children::Folder::new();
    let tables = members(&folder, 5);
    let (inside, upgrades) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for table in &tables {
            scope.spawn(|| {
                for _ in 0..4_000 {
                    let mut guard = table.lock(LockRequest::read(("photos", "cat.jpg"))).blocking().expect("no end");
                    inside.fetch_add(1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    if guard.try_upgrade().is_ok() {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "another is inside");
                        upgrades.fetch_add(1, Ordering::Relaxed);
                        std::hint::spin_loop();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1, "another came in");
                    }
                }
            });
        }
    });
    assert!(upgrades.into_inner() > 0);
    drop(tables[0].lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("nothing is left"));
}

#[test]
fn downgrade_then_upgrade() {
    let table = table(64);
    let mut guard = table.acquire_write_lock_blocking("photos", "cat.jpg", "").expect("free");
    let fence = guard.fence();
    guard.downgrade().expect("held");
    let other = table.acquire_read_lock_blocking("photos", "cat.jpg", "").expect("shared");
    assert!(matches!(guard.try_upgrade(), Err(ShmError::UpgradeConflict { .. })));
    drop(other);
    let mut again = table.try_acquire_read_lock("photos", "cat.jpg", "");
    drop(guard);
    let guard = again.as_mut().expect("shared");
    // Two shared the name, and this one is left.
    guard.try_upgrade().expect("alone");
    assert!(table.try_acquire_read_lock("photos", "cat.jpg", "").is_err());
    guard.downgrade().expect("held");
    let other = table.acquire_read_lock_blocking("photos", "cat.jpg", "").expect("shared");
    assert!(matches!(guard.try_upgrade(), Err(ShmError::UpgradeConflict { .. })));
    drop(again);
    assert!(table.try_acquire_write_lock("photos", "cat.jpg", "").is_err());
    drop(other);
    let mut guard = table.acquire_read_lock_blocking("photos", "cat.jpg", "").expect("free");
    guard.try_upgrade().expect("alone");
    assert!(guard.fence() > fence && guard.mode() == Mode::Exclusive);
    assert!(table.try_acquire_read_lock("photos", "cat.jpg", "").is_err());
}

#[test]
fn revoked_guard_harms_no_successor() {
    let table = table(64);
    let slow = table.acquire_write_lock_blocking("photos", "cat.jpg", "slow").expect("free");
    let holders = table.holders(Some(KeyRef::from(CAT))).expect("a sound table");
    assert_eq!((holders.len(), holders[0].hold), (1, slow.id()));
    assert!(table.revoke(holders[0].hold).expect("not shared by threads"));
    assert!(!table.revoke(holders[0].hold).expect("not shared by threads"), "a second time");
    assert!(!slow.is_valid());
    let next = table.acquire_write_lock_blocking("photos", "cat.jpg", "next").expect("revoked");
    assert!(next.fence() > slow.fence());
    assert!(matches!(slow.try_release(), Err(ShmError::Revoked { .. })));
    assert!(next.is_valid() && table.try_acquire_read_lock("photos", "cat.jpg", "").is_err());
    let stale = next.id();
    drop(next);
    assert!(!table.revoke(stale).expect("released before"));
}

#[test]
fn sleepers_are_woken_without_a_look() {
    const LONG: std::time::Duration = std::time::Duration::from_secs(60);
    let folder = crate::children::Folder::new();
    let config = TableConfig::default().keys(8).members(8).recheck(2 * LONG);
    let tables: Vec<_> = (0..3).map(|_| SharedTable::open(folder.file(), &config).expect("a table")).collect();
    std::thread::scope(|scope| {
        for (at, table) in tables.iter().chain(&tables).enumerate() {
            scope.spawn(move || {
                for turn in 0..3_000 {
                    let mode = if (turn + at) % 4 == 0 { Mode::Shared } else { Mode::Exclusive };
                    let request = LockRequest::new(("photos", "cat.jpg"), mode).timeout(LONG);
                    let _guard = table.lock(request).blocking().expect("it was not woken");
                    // Others come meanwhile, and sleep.
                    if turn % 8 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
}
