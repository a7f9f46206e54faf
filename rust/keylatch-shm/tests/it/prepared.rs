//! Keys that are looked up once, requests that their caller ends, holds that are given back.

use crate::children::{Child, Folder, Pipe};
use crate::locking::{block_on, table};
use keylatch::Mode;
use keylatch_shm::{LockRequest, SharedTable, TableConfig};
use std::sync::Arc;
use std::time::{Duration, Instant};

const CAT: (&str, &str) = ("photos", "cat.jpg");

#[test]
fn prepared_key_held_not_taken() {
    let table = table(64);
    let cat = table.prepare(CAT).expect("a short key");
    let reader = cat.read().expect("free");
    assert!(cat.try_acquire(Mode::Exclusive, "").expect("sound").is_none());
    drop(cat.try_acquire(Mode::Shared, "second").expect("sound").expect("shared"));
    drop(reader);
    let writer = cat.try_acquire(Mode::Exclusive, "writer").expect("sound").expect("free");
    let holders = table.holders(Some(CAT.into())).expect("sound");
    assert!(holders.len() == 1 && holders[0].owner == "writer", "{holders:?}");
    drop(writer);
}

#[test]
fn wait_ended_by_caller_bars_none() {
    let table = table(64);
    let cat = table.prepare_owned(CAT).expect("a short key");
    let reader = cat.read().expect("free");
    for threads in [1, 3] {
        // With three, all but one wait behind another thread of this process.
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut looks = 0;
                    let mut go_on = || {
                        looks += 1;
                        looks < 3
                    };
                    let ended = cat.acquire_while(Mode::Exclusive, "", None, &mut go_on).expect("sound");
                    assert!(ended.is_none() && looks == 3, "{looks}");
                });
            }
        });
        assert_eq!(table.waiting_here(CAT).expect("sound"), 0);
        drop(cat.try_acquire(Mode::Shared, "").expect("sound").expect("no writer waits"));
    }
    drop(reader);
    drop(cat.try_acquire(Mode::Exclusive, "").expect("sound").expect("free"));
}

#[test]
fn owned_task_outlives_handles() {
    let table = table(64);
    let cat = Arc::new(table.prepare_owned(CAT).expect("a short key"));
    let held = table.lock(LockRequest::write(CAT)).now().expect("free");
    let soon = Instant::now() + Duration::from_millis(5);
    assert!(block_on(cat.acquire_until(Mode::Shared, "", Some(soon))).expect("sound").is_none());
    let waits = cat.acquire_until(Mode::Shared, "task", None);
    drop(cat);
    let task = std::thread::scope(|scope| {
        let waits = scope.spawn(|| block_on(waits));
        while table.waiting_here(CAT).expect("sound") == 0 {
            std::thread::yield_now();
        }
        drop(held);
        waits.join().expect("no panic")
    });
    drop(table);
    let guard = task.expect("sound").expect("no deadline");
    assert!(guard.is_valid() && guard.mode() == Mode::Shared);
}

#[test]
fn given_back_death_still_reported() {
    let (folder, ready) = (Folder::new(), Pipe::new());
    let (path, config) = (folder.file(), TableConfig::default().keys(64).members(4));
    let child = Child::run(|| {
        let table = SharedTable::open(&path, &config).expect("a table");
        let _guard = table.lock(LockRequest::write(CAT)).blocking().expect("free");
        ready.say();
        loop {
            std::thread::park();
        }
    });
    ready.hear();
    let table = SharedTable::open(&path, &config).expect("attach");
    child.kill();
    let cat = table.prepare(CAT).expect("a short key");
    let unwanted = cat.write().expect("recovered");
    assert!(unwanted.previous_holder_died());
    unwanted.give_back();
    assert!(cat.write().expect("free").previous_holder_died());
    assert!(!cat.write().expect("free").previous_holder_died());
}
