//! As much as there may be, and keys that are made to be mistaken for each other.

use crate::Soak;
use crate::load::FOREVER;
use crate::random::Random;
use crate::report::at_rest;
use keylatch::{FastObjectLockManager, Filter, LockConfig, LockError, LockRequest, ObjectKey};
use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

fn small(soak: &Soak, config: LockConfig) -> Option<FastObjectLockManager> {
    let manager = FastObjectLockManager::with_config(LockConfig { fairness: soak.options.fairness, ..config });
    manager.inspect_err(|error| soak.tally.violation(format!("no small manager: {error}"))).ok()
}

/// More keys than the table has room for; as many again are served after that.
pub(crate) fn full_table(soak: &Soak, random: &mut Random) {
    let max_locks = 64 + random.below(2000);
    let Some(locks) = small(soak, LockConfig { shards: 4, max_locks, ..LockConfig::default() }) else { return };
    for round in 0..3 {
        let mut held = Vec::new();
        let refused = loop {
            match locks.acquire_write_lock_blocking("full", &format!("{round} {}", held.len()), "filler") {
                Ok(guard) => held.push(guard),
                Err(error) => break error,
            }
        };
        let fine = refused == LockError::TableFull { limit: max_locks };
        soak.tally.expect(fine, || format!("a full table says {refused}"));
        // A page of entries more than asked for may be there, and a few may be out with threads.
        let most = max_locks as usize + 64;
        let fits = (max_locks as usize - 64..=most).contains(&held.len());
        soak.tally.expect(fits, || format!("{} locks fit where {max_locks} may be", held.len()));
        let elsewhere = std::thread::scope(|scope| {
            scope.spawn(|| locks.try_acquire_write_lock("full", "elsewhere", "other").map(drop)).join()
        });
        let fine = matches!(elsewhere, Ok(Ok(()) | Err(LockError::TableFull { .. })));
        soak.tally.expect(fine, || format!("another thread gets {elsewhere:?}"));
        let taken = locks.force_release(&Filter::all()).len();
        soak.tally.expect(taken == held.len(), || format!("of {} locks {taken} were taken away by force", held.len()));
    }
    at_rest(&locks, "after a full table", &soak.tally);
}

/// More in line than may be: the refused get an error, and the others are served.
pub(crate) fn too_many_waiters(soak: &Soak, random: &mut Random) {
    let max_waiters = 1 + random.below(500);
    let Some(locks) = small(soak, LockConfig { shards: 1, max_waiters, ..LockConfig::default() }) else { return };
    let Ok(held) = locks.acquire_write_lock_blocking("b", "o", "holder") else { return };
    let context = &mut Context::from_waker(Waker::noop());
    let mut line = Vec::new();
    let refused = loop {
        let mut future = locks.lock(LockRequest::read(("b", "o")).timeout(FOREVER)).into_future();
        match Pin::new(&mut future).poll(context) {
            Poll::Pending => line.push(future),
            Poll::Ready(answer) => break answer.map(drop),
        }
        if line.len() > 100_000 {
            break Ok(());
        }
    };
    let fine = refused == Err(LockError::TooManyWaiters { limit: max_waiters });
    soak.tally.expect(fine, || format!("{} wait where {max_waiters} may: {refused:?}", line.len()));
    drop(held);
    let mut served = 0;
    let mut inside = Vec::new();
    for future in &mut line {
        if let Poll::Ready(Ok(guard)) = Pin::new(future).poll(context) {
            inside.push(guard);
            served += 1;
        }
    }
    drop(inside);
    soak.tally.expect(served == line.len(), || format!("{served} of {} readers in line are served", line.len()));
    drop(line);
    at_rest(&locks, "after too many waiters", &soak.tally);
}

/// Keys that differ in one byte, in length, or in where their parts end.
///
/// All can be held exclusively at the same time.
pub(crate) fn hostile_keys(soak: &Soak, random: &mut Random) {
    let mut keys = BTreeSet::new();
    for length in [0, 1, 7, 8, 9, 59, 60, 61, 64, 127, 128, 129, 4096] {
        let base = vec![b'k'; length];
        for place in [0, length / 2, length.saturating_sub(1)] {
            for byte in [0, 1, b'/', 0x7f, 0x80, 0xff, random.below(256) as u8] {
                let mut object = base.clone();
                if let Some(there) = object.get_mut(place) {
                    *there = byte;
                }
                keys.insert(ObjectKey::new("", &object));
                keys.insert(ObjectKey::new(&object, ""));
                keys.insert(ObjectKey::new("", "").with_version(&object));
            }
        }
    }
    for cut in 0..=4 {
        let (bucket, object) = b"a/b\0c"[..].split_at(cut);
        keys.insert(ObjectKey::new(bucket, object));
        keys.insert(ObjectKey::new(bucket, "").with_version(object));
    }
    let Some(locks) = small(soak, LockConfig { shards: 1, ..LockConfig::default() }) else { return };
    let mut held = Vec::new();
    for key in &keys {
        match locks.lock(LockRequest::write(key)).try_now() {
            Ok(guard) => held.push(guard),
            Err(error) => soak.tally.violation(format!("a key is taken for another: {error}")),
        }
    }
    for (key, guard) in keys.iter().zip(&held) {
        soak.tally.expect(guard.key() == *key, || format!("{} is held as {}", key, guard.key()));
        let again = locks.lock(LockRequest::read(key)).try_now();
        soak.tally.expect(again.is_err(), || format!("{key} is held and free"));
    }
    let long = vec![0; locks.config().max_key_bytes + 1];
    let refused = locks.try_acquire_read_lock("", &long, "long").map(drop);
    soak.tally.expect(matches!(refused, Err(LockError::InvalidKey { .. })), || format!("a key too long: {refused:?}"));
    drop(held);
    at_rest(&locks, "after hostile keys", &soak.tally);
}
