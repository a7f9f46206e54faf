//! Locks released by force, and sessions that release what they hold.

use keylatch::{Event, EventOptions, FastObjectLockManager, Filter, LockConfig, LockError, LockRequest, Mode};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn holders(locks: &FastObjectLockManager) -> u64 {
    locks.get_metrics().shard_metrics.holders
}

#[test]
fn forced_release_serves_next_in_line() {
    let locks = FastObjectLockManager::new();
    let mut guard = locks.acquire_write_lock_blocking("b", "o", "stuck").unwrap();
    let number = locks.lock(LockRequest::write(("b", "p")).owner("stuck")).grant_now().unwrap();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = ["o", "p"]
            .map(|object| scope.spawn(|| locks.acquire_write_lock_blocking("b", object, "next").unwrap().into_owned()))
            .into_iter()
            .collect();
        while locks.get_metrics().shard_metrics.waiters < 2 {
            std::thread::yield_now();
        }
        let fence = guard.fence();
        let taken = locks.force_release(&Filter::new().owner("stuck"));
        assert_eq!(taken.len(), 2);
        let next: Vec<_> = waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect();
        assert!(matches!(guard.try_downgrade(), Err(LockError::NotHeld { .. })));
        assert_eq!(guard.mode(), Mode::Exclusive, "as it was held");
        assert!(matches!(guard.try_release(), Err(LockError::NotHeld { .. })));
        assert!(matches!(locks.release(number), Err(LockError::NotHeld { .. })));
        assert!(next.iter().all(|guard| guard.is_valid() && &*guard.owner() == "next"));
        assert!(next[0].fence() > fence && !locks.is_current(("b", "o"), fence).unwrap());
        assert_eq!(holders(&locks), 2);
    });
    assert_eq!(holders(&locks), 0);
}

#[test]
fn only_what_the_filter_lets_pass_is_taken() {
    let locks = FastObjectLockManager::new();
    let mut readers: Vec<_> =
        (0..10).map(|i| locks.acquire_read_lock_blocking("b", "o", &format!("r{i}")).unwrap()).collect();
    let other = locks.acquire_write_lock_blocking("c", "o", "r3").unwrap();
    assert_eq!(locks.force_release(&Filter::new().bucket("b").owner("r3")).len(), 1);
    assert_eq!(locks.force_release(&Filter::new().bucket("b").owner("r7")).len(), 1);
    assert_eq!(readers.iter().filter(|reader| reader.is_valid()).count(), 8);
    assert!(other.is_valid());
    assert_eq!(locks.holders(&Filter::new().key(("b", "o"))).len(), 8);
    assert!(locks.try_acquire_write_lock("b", "o", "w").is_err());
    let lost = readers.remove(3);
    assert_eq!((lost.mode(), &*lost.owner()), (Mode::Shared, "r3"));
    assert_eq!(locks.force_release(&Filter::new().bucket("b")).len(), 8);
    let writer = locks.try_acquire_write_lock("b", "o", "w").unwrap();
    drop((lost, readers));
    assert!(writer.is_valid() && locks.try_acquire_read_lock("b", "o", "late").is_err());
    drop((writer, other));
    assert_eq!(holders(&locks), 0);
}

#[test]
fn forced_release_ends_waiting_upgrade() {
    let locks = FastObjectLockManager::new();
    let other = locks.acquire_read_lock_blocking("b", "o", "other").unwrap();
    let mut upgrading = locks.acquire_read_lock_blocking("b", "o", "upgrading").unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| upgrading.upgrade_blocking(None));
        while locks.get_metrics().shard_metrics.waiters == 0 {
            std::thread::yield_now();
        }
        assert_eq!(locks.force_release(&Filter::new().owner("upgrading")).len(), 1);
        assert!(matches!(waiter.join().unwrap(), Err(LockError::NotHeld { .. })));
    });
    assert!(other.is_valid());
    drop((upgrading, other));
    assert_eq!(holders(&locks), 0);
    // The other way round: the one in the way goes, and the upgrade is done.
    let other = locks.acquire_read_lock_blocking("b", "o", "other").unwrap();
    let mut upgrading = locks.acquire_read_lock_blocking("b", "o", "upgrading").unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| upgrading.upgrade_blocking(None));
        while locks.get_metrics().shard_metrics.waiters == 0 {
            std::thread::yield_now();
        }
        locks.force_release(&Filter::new().owner("other"));
        waiter.join().unwrap().unwrap();
    });
    assert_eq!(upgrading.mode(), Mode::Exclusive);
    drop(other);
    assert!(upgrading.is_valid());
    drop(upgrading);
    assert_eq!(holders(&locks), 0);
}

#[test]
fn session_end_releases_its_holds() {
    let locks = FastObjectLockManager::new();
    let session = locks.session("txn").release_on_drop(true);
    let guard = locks.lock(LockRequest::write(("b", "o")).owner(&session)).blocking().unwrap();
    let number = locks.lock(LockRequest::read(("b", "p")).owner(&session)).grant_now().unwrap();
    let stranger = locks.acquire_write_lock_blocking("b", "q", "txn").unwrap();
    assert_eq!(session.release_all(), 2);
    assert!(!guard.is_valid() && !locks.is_valid(number) && stranger.is_valid());
    let again = locks.lock(LockRequest::write(("b", "o")).owner(&session)).blocking().unwrap();
    drop(session);
    assert!(!again.is_valid());
    drop((guard, again, stranger));
    assert_eq!(holders(&locks), 0);
    drop(locks.try_acquire_write_lock("b", "o", "next").unwrap());
}

#[test]
fn lock_delay_is_listed_and_ends_by_force() {
    let hour = Duration::from_secs(3600);
    for by_number in [false, true] {
        let config = LockConfig { lock_delay: hour, ..LockConfig::default() };
        let locks = FastObjectLockManager::with_config(config).unwrap();
        let events = locks.subscribe(EventOptions::default());
        let request = LockRequest::write(("b", "o")).owner("dead").ttl(Duration::from_nanos(1));
        let (guard, fence) = match by_number {
            true => {
                let grant = locks.lock(request).grant_now().unwrap();
                (None, locks.fence(grant).unwrap())
            }
            false => {
                let guard = locks.lock(request).try_now().unwrap();
                let fence = guard.fence();
                (Some(guard), fence)
            }
        };
        while locks.expire(&Filter::all()).is_empty() {
            std::thread::yield_now();
        }
        assert!(matches!(events.try_next(), Some(Event::Expired(_))));
        let [shut] = &locks.holders(&Filter::new())[..] else { panic!("it has no holder, and is shut") };
        assert!(shut.in_lock_delay && shut.fence > Some(fence) && !shut.session);
        assert!(shut.lease.is_some_and(|left| left > hour / 2 && left <= hour));
        assert!(shut.to_string().starts_with(r#""b"/"o" is kept shut for another 3"#), "{shut}");
        assert!(!locks.is_current(("b", "o"), fence).unwrap());
        assert!(locks.expire(&Filter::all()).is_empty(), "not before its time");
        let queue = locks.completion_queue().unwrap();
        let waits = locks.lock(LockRequest::write(("b", "o")).owner("next")).with_queue(&queue, 1).unwrap();
        assert!(waits.ticket().is_some());
        let opened = locks.force_release(&Filter::new().key(("b", "o")));
        assert!(opened.len() == 1 && opened[0].in_lock_delay);
        let next = queue.next(None).unwrap().unwrap().result.unwrap();
        assert!(next.is_valid() && next.fence() > fence);
        let listed = locks.holders(&Filter::new());
        assert!(listed.len() == 1 && !listed[0].in_lock_delay);
        assert_eq!(events.try_next(), None, "no holder lost anything");
        drop((guard, next));
        assert_eq!(holders(&locks), 0);
    }
}

#[test]
fn forced_releases_under_load_keep_exclusion() {
    let locks = FastObjectLockManager::new();
    let done = AtomicBool::new(false);
    let start = Barrier::new(5);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|thread| {
                let (locks, start) = (&locks, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut lost = 0;
                    for round in 0..5000_u32 {
                        let object = ["x", "y", "z"][round as usize % 3];
                        let request = match (round + thread) % 4 {
                            0 => LockRequest::write(("b", object)),
                            _ => LockRequest::read(("b", object)),
                        };
                        if round % 2 == 0 {
                            let guard = locks.lock(request.owner("worker")).blocking().unwrap();
                            lost += u32::from(guard.try_release().is_err());
                        } else {
                            let grant = locks.lock(request.owner("worker")).grant_blocking().unwrap();
                            lost += u32::from(locks.release(grant).is_err());
                        }
                    }
                    lost
                })
            })
            .collect();
        let taker = scope.spawn(|| {
            start.wait();
            let mut taken = 0;
            while !done.load(Ordering::Acquire) {
                taken += locks.force_release(&Filter::new().bucket("b")).len() as u32;
            }
            taken
        });
        let lost: u32 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        done.store(true, Ordering::Release);
        assert_eq!(lost, taker.join().unwrap(), "each loss is reported to its holder, and to no other");
    });
    assert_eq!(holders(&locks), 0);
    for object in ["x", "y", "z"] {
        drop(locks.try_acquire_write_lock("b", object, "after").unwrap());
    }
}

#[test]
fn a_lost_guard_keeps_its_key_and_number() {
    let locks = FastObjectLockManager::with_config(LockConfig { shards: 1, ..LockConfig::default() }).unwrap();
    for write in [true, false] {
        let request = if write { LockRequest::write(("b", "mine")) } else { LockRequest::read(("b", "mine")) };
        let lost = locks.lock(request).blocking().unwrap();
        let (key, fence) = (lost.key(), lost.fence());
        assert_eq!(locks.force_release(&Filter::all()).len(), 1);
        // The entry is some other key's before long, and that of the same key has another number.
        for number in 0..20 {
            drop(locks.acquire_write_lock_blocking("b", &number.to_string(), "other").unwrap());
            drop(locks.acquire_write_lock_blocking("b", "mine", "other").unwrap());
            assert_eq!((lost.key(), lost.fence()), (key.clone(), fence));
        }
        assert!(!lost.is_valid());
    }
}
