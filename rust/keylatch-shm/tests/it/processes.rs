//! Several processes: death, recovery, stopping, forking, joining.

use crate::children::{Child, Folder, Pipe};
use keylatch::Mode;
use keylatch_shm::{LockRequest, SharedTable, ShmError, TableConfig};
use std::time::Duration;

const CAT: (&str, &str) = ("photos", "cat.jpg");
/// Longer than any recovery; a test that needs it has failed.
const LONG: Duration = Duration::from_secs(20);

fn config() -> TableConfig {
    TableConfig::default().keys(64).members(16)
}

fn holder(folder: &Folder, mode: Mode, ready: &Pipe, label: &str) -> Child {
    let path = folder.file();
    Child::run(move || {
        let table = SharedTable::open(path, &config().label(label)).expect("a table");
        let _guard = table.lock(LockRequest::new(CAT, mode).owner("holder")).blocking().expect("free");
        ready.say();
        loop {
            std::thread::park();
        }
    })
}

#[test]
fn writer_killed_next_is_informed() {
    let (folder, ready) = (Folder::new(), Pipe::new());
    let child = holder(&folder, Mode::Exclusive, &ready, "victim");
    ready.hear();
    let table = SharedTable::open(folder.file(), &config()).expect("attach");
    let busy = table.lock(LockRequest::read(CAT)).now().expect_err("held by the child");
    assert!(busy.to_string().contains("victim"), "{busy}");
    child.kill();
    let guard = table.lock(LockRequest::write(CAT).timeout(LONG)).blocking().expect("recovered");
    assert!(guard.previous_holder_died());
    drop(guard);
    let guard = table.lock(LockRequest::write(CAT)).now().expect("free");
    assert!(!guard.previous_holder_died(), "reported once");
}

#[test]
fn readers_killed_writer_enters() {
    let (folder, ready) = (Folder::new(), Pipe::new());
    let children: Vec<_> = (0..5).map(|_| holder(&folder, Mode::Shared, &ready, "reader")).collect();
    children.iter().for_each(|_| ready.hear());
    let table = SharedTable::open(folder.file(), &config()).expect("attach");
    assert_eq!(table.holders(Some(CAT.into())).expect("sound").len(), 5);
    assert!(table.lock(LockRequest::write(CAT).timeout(Duration::from_millis(2))).blocking().is_err());
    children.into_iter().for_each(Child::kill);
    let guard = table.lock(LockRequest::write(CAT).timeout(LONG)).blocking().expect("recovered");
    assert!(!guard.previous_holder_died(), "readers leave nothing half-written");
}

#[test]
fn waiter_sleeping_holder_killed_granted() {
    let (folder, ready) = (Folder::new(), Pipe::new());
    let child = holder(&folder, Mode::Exclusive, &ready, "");
    ready.hear();
    let table = SharedTable::open(folder.file(), &config()).expect("attach");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            table.lock(LockRequest::read(CAT).timeout(LONG)).blocking().map(|guard| guard.previous_holder_died())
        });
        while table.waiting_here(CAT).expect("sound") == 0 {
            std::thread::yield_now();
        }
        child.kill();
        assert_eq!(waits.join().expect("no panic"), Ok(true));
    });
}

#[test]
fn left_over_file_just_works() {
    let folder = Folder::new();
    let mut fence = 0;
    for _ in 0..3 {
        let ready = Pipe::new();
        let child = holder(&folder, Mode::Exclusive, &ready, "");
        ready.hear();
        child.kill();
        let table = SharedTable::open(folder.file(), &config()).expect("attach");
        let guard = table.lock(LockRequest::write(CAT)).now().expect("no process lives");
        assert!(guard.previous_holder_died() && guard.fence() > fence);
        fence = guard.fence();
    }
}

#[test]
fn stopped_holder_keeps_its_lock() {
    let (folder, ready) = (Folder::new(), Pipe::new());
    let child = holder(&folder, Mode::Exclusive, &ready, "");
    ready.hear();
    child.signal(libc::SIGSTOP);
    let table = SharedTable::open(folder.file(), &config()).expect("attach");
    assert!(table.lock(LockRequest::write(CAT).timeout(Duration::from_millis(100))).blocking().is_err());
    let hold = table.holders(None).expect("sound")[0].hold;
    assert!(table.revoke(hold).expect("one thread"));
    drop(table.lock(LockRequest::write(CAT)).now().expect("revoked"));
    child.kill();
}

#[test]
fn stopped_writer_that_waits_is_revoked() {
    let folder = Folder::new();
    let table = SharedTable::open(folder.file(), &config()).expect("a table");
    let read = table.lock(LockRequest::read(CAT)).now().expect("free");
    let child = Child::run(|| {
        let table = SharedTable::open(folder.file(), &config()).expect("attach");
        let held = table.lock(LockRequest::write(CAT)).blocking().expect("revoked or not, it asks on");
        held.try_release().expect("it had the lock");
    });
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    // The writer bars new readers from its first look on, asleep from the moment in which it is listed.
    let waits = loop {
        let listed = table.holders(Some(CAT.into())).expect("sound");
        if let Some(writer) = listed.into_iter().find(|holder| holder.mode == keylatch::Mode::Exclusive) {
            break writer.hold;
        }
        assert!(std::time::Instant::now() < deadline, "it never sleeps");
        std::thread::yield_now();
    };
    child.signal(libc::SIGSTOP);
    // It may have been stopped in the middle of a look, for which it is let on a bit.
    while !table.revoke(waits).expect("one thread") {
        assert!(std::time::Instant::now() < deadline, "it is never revoked");
        child.signal(libc::SIGCONT);
        std::thread::sleep(Duration::from_millis(1));
        child.signal(libc::SIGSTOP);
    }
    drop(table.lock(LockRequest::read(CAT)).now().expect("the writer is out"));
    child.signal(libc::SIGCONT);
    drop(read);
    assert!(child.wait(), "it gets the lock");
}

#[test]
fn fork_child_refused_parent_keeps() {
    let table = crate::locking::table(64);
    let guard = table.acquire_write_lock_blocking("photos", "cat.jpg", "").expect("free");
    let child = Child::run(|| {
        assert_eq!(table.lock(LockRequest::read(("a", "b"))).blocking().map(drop), Err(ShmError::Forked));
        assert_eq!(table.holders(None), Err(ShmError::Forked));
        assert!(!guard.is_valid());
        drop(table.clone());
    });
    assert!(child.wait());
    assert!(guard.is_valid() && table.lock(LockRequest::read(CAT)).now().is_err());
}

#[test]
fn openers_race_one_table() {
    let folder = Folder::new();
    let children: Vec<_> = (0..12)
        .map(|number| {
            let path = folder.file();
            Child::run(move || {
                let table = SharedTable::open(path, &config()).expect("create or attach");
                for _ in 0..200 {
                    let guard = table
                        .acquire_write_lock_blocking("photos", "cat.jpg", &number.to_string())
                        .expect("no timeout");
                    assert!(guard.is_valid());
                }
            })
        })
        .collect();
    assert!(children.into_iter().map(Child::wait).collect::<Vec<_>>().into_iter().all(|ended| ended));
    let table = SharedTable::attach(folder.file(), &config()).expect("attach");
    assert_eq!(table.figures().live_members, 1);
    assert_eq!(table.figures().recoveries, 0, "all left in order");
}

#[test]
fn descriptor_inherited_attaches() {
    use std::os::fd::AsFd;
    let table = SharedTable::memfd("test", &config()).expect("a table");
    let guard = table.acquire_write_lock_blocking("photos", "cat.jpg", "parent").expect("free");
    let child = Child::run(|| {
        let fd = table.as_fd().try_clone_to_owned().expect("a descriptor");
        let mine = SharedTable::from_fd(fd, &config()).expect("attach");
        assert!(mine.lock(LockRequest::read(CAT)).now().is_err());
        drop(mine.lock(LockRequest::read(("other", "key"))).now().expect("free"));
    });
    assert!(child.wait());
    drop(guard);
}

#[test]
fn members_full_refused_until_one_ends() {
    let folder = Folder::new();
    let config = TableConfig::default().keys(64).members(2);
    let first = SharedTable::open(folder.file(), &config).expect("a table");
    let second = SharedTable::open(folder.file(), &config).expect("a second membership");
    let error = SharedTable::open(folder.file(), &config).expect_err("full");
    assert!(matches!(error, ShmError::TooManyMembers { members: 2 }), "{error}");
    drop(second);
    drop(SharedTable::open(folder.file(), &config).expect("room again"));
    drop(first);
}

#[test]
fn million_keys_thousand_members() {
    let folder = Folder::new();
    let config = TableConfig::default().keys(1_000_000).members(1_024);
    let table = SharedTable::open(folder.file(), &config).expect("a large table");
    let held: Vec<_> = (0..1_000_000_u32)
        .map(|number| table.acquire_write_lock_blocking("many", &number.to_le_bytes(), "").expect("room"))
        .collect();
    let others: Vec<_> =
        (1..1_024).step_by(128).map(|_| SharedTable::attach(folder.file(), &config).expect("room")).collect();
    assert!(others[0].lock(LockRequest::read(("many", &999_999_u32.to_le_bytes()))).now().is_err());
    drop(held);
    drop(others[0].lock(LockRequest::write(("many", &999_999_u32.to_le_bytes()))).now().expect("free"));
}

#[test]
fn batch_fails_death_passes_to_next() {
    let (folder, ready) = (Folder::new(), Pipe::new());
    let child = holder(&folder, Mode::Exclusive, &ready, "");
    ready.hear();
    child.kill();
    let table = SharedTable::open(folder.file(), &config()).expect("attach");
    let busy = table.acquire_write_lock_blocking("photos", "dog.jpg", "").expect("free");
    let batch = keylatch_shm::BatchLockRequest::new("mover")
        .add(CAT, Mode::Exclusive)
        .add(("photos", "dog.jpg"), Mode::Exclusive)
        .timeout(Duration::from_millis(2));
    assert!(table.acquire_locks_batch_blocking(&batch).is_err());
    drop(busy);
    let guard = table.lock(LockRequest::write(CAT)).now().expect("free");
    assert!(guard.previous_holder_died(), "no caller has heard of it yet");
}

#[test]
fn evicted_key_death_still_reported() {
    let folder = Folder::new();
    let config = TableConfig::default().keys(8).members(4);
    drop(SharedTable::open(folder.file(), &config).expect("a table"));
    let path = folder.file();
    let ready = Pipe::new();
    let child = Child::run(|| {
        let table = SharedTable::open(path, &TableConfig::default().keys(8).members(4)).expect("attach");
        let _guards: Vec<_> = (0..8)
            .map(|number: u32| table.acquire_write_lock_blocking("died", &number.to_string(), "").expect("room"))
            .collect();
        ready.say();
        loop {
            std::thread::park();
        }
    });
    ready.hear();
    child.kill();
    let table = SharedTable::attach(folder.file(), &config).expect("attach");
    for number in 0..200 {
        drop(table.acquire_write_lock_blocking("other", &number.to_string(), "").expect("evicts"));
    }
    // As many as fit: for these the keys with a report have to go too.
    let mut held = Vec::new();
    let full = loop {
        match table.acquire_write_lock_blocking("other", &held.len().to_string(), "") {
            Ok(guard) => held.push(guard),
            Err(error) => break error,
        }
    };
    assert!(held.len() > 8, "{} fit: {full}", held.len());
    drop(held);
    for number in 0..8 {
        let guard = table.acquire_write_lock_blocking("died", &number.to_string(), "").expect("room");
        assert!(guard.previous_holder_died(), "key {number}");
    }
}
