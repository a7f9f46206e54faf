//! Upgrades that wait: between processes, between threads of one, and what becomes of them when one is killed.

use crate::children::{Child, Folder, Pipe};
use keylatch::Mode;
use keylatch_shm::{LockRequest, SharedLockGuard, SharedTable, ShmError, TableConfig};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const CAT: (&str, &str) = ("photos", "cat.jpg");
/// Longer than any wait; a test that needs it has failed.
const LONG: Duration = Duration::from_secs(60);

fn open(path: &Path) -> SharedTable {
    SharedTable::open(path, &TableConfig::default().keys(8).members(8)).expect("a table")
}

/// Tables of one file, each a member of its own.
fn members(folder: &Folder, count: usize) -> Vec<SharedTable> {
    (0..count).map(|_| open(&folder.file())).collect()
}

fn read(table: &SharedTable) -> SharedLockGuard<'_> {
    table.lock(LockRequest::read(CAT)).now().expect("readers share it")
}

fn write(table: &SharedTable) -> SharedLockGuard<'_> {
    table.lock(LockRequest::write(CAT).timeout(LONG)).blocking().expect("no end")
}

/// Waits until an upgrade bars readers.
fn until_barred(table: &SharedTable) {
    let end = Instant::now() + LONG;
    while table.lock(LockRequest::read(CAT)).try_now().expect("sound").is_some() {
        assert!(Instant::now() < end, "readers come in");
    }
}

#[test]
fn upgrade_waits_for_other_readers() {
    let folder = Folder::new();
    let tables = members(&folder, 5);
    // Two have their names in the word; the others have none.
    for upgrades in 0..4 {
        let mut guards: Vec<_> = tables[..4].iter().map(read).collect();
        let mut first = guards.remove(upgrades);
        let left = AtomicU32::new(3);
        std::thread::scope(|scope| {
            let upgrade = scope.spawn(|| {
                first.upgrade_blocking(Some(LONG)).expect("they leave");
                assert_eq!(left.load(Ordering::SeqCst), 0, "another reads");
                first
            });
            until_barred(&tables[4]);
            for guard in guards.drain(..) {
                // Long enough for it to look, if it should come to a wrong end.
                std::thread::sleep(Duration::from_millis(2));
                left.fetch_sub(1, Ordering::SeqCst);
                drop(guard);
            }
            let guard = upgrade.join().expect("no panic");
            assert_eq!(guard.mode(), Mode::Exclusive);
            assert!(tables[4].lock(LockRequest::read(CAT)).now().is_err());
        });
        let last = write(&tables[4]);
        assert!(last.fence() > 1 && !last.previous_holder_died());
    }
}

#[test]
fn upgrade_waits_for_threads_of_its_process() {
    let folder = Folder::new();
    let tables = members(&folder, 4);
    for others in [0, 2] {
        // With two, the threads have no place in the word.
        let first: Vec<_> = tables[..others].iter().map(read).collect();
        let (mut upgrades, shares) = (read(&tables[2]), read(&tables[2]));
        drop(first);
        std::thread::scope(|scope| {
            let upgrade = scope.spawn(|| upgrades.upgrade_blocking(Some(LONG)).map(|()| upgrades.mode()));
            until_barred(&tables[3]);
            drop(shares);
            assert_eq!(upgrade.join().expect("no panic"), Ok(Mode::Exclusive));
        });
        drop(upgrades);
        drop(write(&tables[3]));
    }
}

#[test]
fn second_upgrade_conflicts() {
    let folder = Folder::new();
    let tables = members(&folder, 3);
    for second in [1, 0] {
        let (mut first, mut other) = (read(&tables[0]), read(&tables[second]));
        std::thread::scope(|scope| {
            let upgrade = scope.spawn(|| first.upgrade_blocking(Some(LONG)));
            until_barred(&tables[2]);
            assert!(matches!(other.upgrade_blocking(Some(LONG)), Err(ShmError::UpgradeConflict { .. })));
            assert!(matches!(other.try_upgrade(), Err(ShmError::UpgradeConflict { .. })));
            assert_eq!(other.mode(), Mode::Shared);
            drop(other);
            upgrade.join().expect("no panic").expect("it is alone");
        });
    }
}

#[test]
fn upgrade_passes_writer_that_waits() {
    let folder = Folder::new();
    let tables = members(&folder, 3);
    let (mut first, second) = (read(&tables[0]), read(&tables[1]));
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let last = write(&tables[2]);
            assert_eq!(inside.load(Ordering::SeqCst), 2, "the upgrade comes first");
            assert!(last.fence() > 0);
        });
        // It is named as the writer, and bars readers.
        until_barred(&tables[1]);
        std::thread::scope(|scope| {
            let upgrade = scope.spawn(|| {
                first.upgrade_blocking(Some(LONG)).expect("it is ahead");
                inside.fetch_add(1, Ordering::SeqCst);
            });
            drop(second);
            upgrade.join().expect("no panic");
        });
        inside.fetch_add(1, Ordering::SeqCst);
        drop(first);
    });
}

#[test]
fn late_upgrade_leaves_a_reader() {
    let folder = Folder::new();
    let tables = members(&folder, 4);
    let (mut first, second) = (read(&tables[0]), read(&tables[1]));
    let brief = Some(Duration::from_millis(2));
    assert!(matches!(first.upgrade_blocking(brief), Err(ShmError::Timeout { holders, .. }) if holders.len() == 2));
    assert_eq!(first.mode(), Mode::Shared);
    drop(read(&tables[2]));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| drop(write(&tables[2])));
        until_barred(&tables[3]);
        assert!(first.upgrade_blocking(brief).is_err());
        drop(second);
        drop(first);
        writer.join().expect("no panic");
    });
}

#[test]
fn revoked_reader_upgrades_no_more() {
    let folder = Folder::new();
    let tables = members(&folder, 3);
    let (mut first, second) = (read(&tables[0]), read(&tables[1]));
    let hold = first.id();
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| first.upgrade_blocking(Some(LONG)));
        until_barred(&tables[2]);
        let end = Instant::now() + LONG;
        // Not while it looks.
        while !tables[2].revoke(hold).expect("one thread") {
            assert!(Instant::now() < end, "it is never revoked");
        }
        assert!(matches!(upgrade.join().expect("no panic"), Err(ShmError::Revoked { .. })));
        drop(read(&tables[2]));
    });
    drop(second);
    drop(write(&tables[2]));
}

/// A process that shares the key, and upgrades.
///
/// It has said that it shares when this returns, and says when it is the writer.
fn upgrader(folder: &Folder, ready: &Pipe) -> Child {
    let path = folder.file();
    let child = Child::run(move || {
        let table = open(&path);
        let mut guard = read(&table);
        ready.say();
        guard.upgrade_blocking(None).expect("no end");
        ready.say();
        loop {
            std::thread::park();
        }
    });
    ready.hear();
    child
}

#[test]
fn killed_upgrade_leaves_nothing() {
    let (folder, ready) = (Folder::new(), Pipe::new());
    let tables = members(&folder, 4);
    let last = &tables[3];
    // With three, it has no place in the word.
    for others in [1, 3] {
        let reads: Vec<_> = tables[..others].iter().map(read).collect();
        let child = upgrader(&folder, &ready);
        until_barred(last);
        child.kill();
        drop(last.lock(LockRequest::read(CAT).timeout(LONG)).blocking().expect("recovered"));
        drop(reads);
        assert!(!write(last).previous_holder_died(), "it only read");

        let child = upgrader(&folder, &ready);
        ready.hear();
        child.kill();
        assert!(write(last).previous_holder_died(), "it was the writer");
    }
}

#[test]
fn killed_reader_lets_upgrade_through() {
    let (folder, ready) = (Folder::new(), Pipe::new());
    let table = open(&folder.file());
    let path = folder.file();
    for writes in [false, true] {
        let mut guard = read(&table);
        let child = Child::run(|| {
            let table = open(&path);
            let _guard = (!writes).then(|| read(&table));
            ready.say();
            if writes {
                // It waits for the reader, and is killed at that.
                drop(write(&table));
            }
            loop {
                std::thread::park();
            }
        });
        ready.hear();
        std::thread::scope(|scope| {
            if writes {
                until_barred(&table);
            }
            let upgrade = scope.spawn(|| guard.upgrade_blocking(Some(LONG)));
            if !writes {
                until_barred(&table);
            }
            child.kill();
            upgrade.join().expect("no panic").expect("recovered");
        });
    }
}

#[test]
fn upgrades_readers_and_writers_exclude() {
    let folder = Folder::new();
    // No sleeper looks by itself.
    let config = TableConfig::default().keys(8).members(8).recheck(2 * LONG);
    let tables: Vec<_> = (0..4).map(|_| SharedTable::open(folder.file(), &config).expect("a table")).collect();
    let (readers, writers, upgrades) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let exclusive = || {
        assert_eq!(writers.fetch_add(1, Ordering::SeqCst), 0, "another writer is inside");
        std::thread::yield_now();
        assert_eq!(readers.load(Ordering::SeqCst), 0, "a reader is inside");
        writers.fetch_sub(1, Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let (table, exclusive) = (&tables[thread as usize % 4], &exclusive);
            let [readers, writers, upgrades] = [&readers, &writers, &upgrades];
            scope.spawn(move || {
                for turn in 0..1_500 {
                    let choice = (turn * 7 + thread) % 5;
                    if choice == 0 {
                        let _guard = write(table);
                        exclusive();
                        continue;
                    }
                    let request = LockRequest::read(CAT).timeout(LONG);
                    let mut guard = table.lock(request).blocking().expect("no end");
                    readers.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(writers.load(Ordering::SeqCst), 0, "a writer is inside");
                    std::thread::yield_now();
                    readers.fetch_sub(1, Ordering::SeqCst);
                    let patience = if choice == 1 { Duration::from_micros(50) } else { LONG };
                    if choice < 3 {
                        match guard.upgrade_blocking(Some(patience)) {
                            Ok(()) => {
                                exclusive();
                                upgrades.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(ShmError::UpgradeConflict { .. }) => {}
                            Err(ShmError::Timeout { waited, .. }) => assert!(waited < LONG, "it was not woken"),
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
    });
    assert!(upgrades.into_inner() > 0);
    drop(tables[0].lock(LockRequest::write(CAT)).now().expect("nothing is left"));
}
