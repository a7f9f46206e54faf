//! What a caller has while it holds a lock: guards, and the numbers that they become.

use crate::steps::*;
use keylatch::{
    Fairness, FastObjectLockManager, Filter, Grant, LockConfig, LockError, LockRequest, Mode, OwnedLockGuard,
};
use proptest::prelude::*;
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};

#[track_caller]
fn not_held(answer: Result<(), LockError>, grant: Grant) {
    match answer {
        Err(error @ LockError::NotHeld { grant: named }) => {
            assert_eq!(named, grant.to_raw());
            assert_eq!(error.code(), -6);
            assert!(!error.is_transient());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_guard_may_be_released_on_another_thread() {
    let locks = FastObjectLockManager::new();
    std::thread::scope(|scope| {
        for mode in [Mode::Exclusive, Mode::Shared] {
            let guard = locks.lock(LockRequest::new(("b", "o"), mode)).blocking().unwrap();
            scope.spawn(move || drop(guard)).join().unwrap();
            let grant = locks.lock(LockRequest::new(("b", "o"), mode)).blocking().unwrap().into_grant();
            let locks = &locks;
            scope.spawn(move || locks.release(grant).unwrap()).join().unwrap();
        }
    });
    drop(locks.try_acquire_write_lock("b", "o", "after").unwrap());
    assert_at_rest(&locks);
}

#[test]
fn a_grant_is_released_exactly_once() {
    let locks = FastObjectLockManager::new();
    let grant = locks.acquire_write_lock_blocking("b", "o", "me").unwrap().into_grant();
    assert!(locks.try_acquire_read_lock("b", "o", "other").is_err(), "it is held without a guard");
    assert_eq!(Grant::from_raw(grant.to_raw()), Some(grant));
    locks.release(grant).unwrap();
    not_held(locks.release(grant), grant);
    not_held(locks.adopt(grant).map(drop), grant);
    assert_at_rest(&locks);
}

#[test]
fn one_of_many_threads_releases_a_grant() {
    let locks = FastObjectLockManager::new();
    for _ in 0..500 {
        let grant = locks.acquire_write_lock_blocking("b", "o", "me").unwrap().into_grant();
        let released: usize = std::thread::scope(|scope| {
            let threads = [(); 3].map(|()| scope.spawn(|| usize::from(locks.release(grant).is_ok())));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(released, 1);
    }
    assert_at_rest(&locks);
}

#[test]
fn a_stale_grant_never_hits_the_next_holder() {
    let locks = FastObjectLockManager::new();
    let stale = locks.acquire_write_lock_blocking("b", "o", "same owner").unwrap().into_grant();
    locks.release(stale).unwrap();
    let mut seen = HashMap::new();
    for round in 0..10_000 {
        let grant = locks.acquire_write_lock_blocking("b", "o", "same owner").unwrap().into_grant();
        assert_eq!(seen.insert(grant, round), None, "a grant's number never comes again");
        not_held(locks.release(stale), stale);
        assert!(locks.try_acquire_read_lock("b", "o", "other").is_err(), "still held after {round} rounds");
        locks.release(grant).unwrap();
    }
    assert_at_rest(&locks);
}

#[test]
fn a_grant_becomes_a_guard_again() {
    let locks = FastObjectLockManager::new();
    let grant = locks.acquire_read_lock_blocking("b", "o", "me").unwrap().into_grant();
    let mut guard = locks.adopt(grant).unwrap();
    not_held(locks.adopt(grant).map(drop), grant);
    not_held(locks.release(grant), grant);
    assert_eq!((guard.mode(), guard.key().to_string()), (Mode::Shared, "b/o".into()));
    guard.try_upgrade().unwrap();
    let again = guard.into_grant();
    assert_eq!(again, grant, "the hold keeps its number");
    drop(locks.adopt(again).unwrap());
    drop(locks.try_acquire_write_lock("b", "o", "after").unwrap());
    assert_at_rest(&locks);
}

#[test]
fn a_guard_cannot_be_released_by_its_number() {
    let locks = FastObjectLockManager::new();
    let grant = locks.acquire_write_lock_blocking("b", "o", "me").unwrap().into_grant();
    let guard = locks.adopt(grant).unwrap();
    for near in grant.to_raw().saturating_sub(64)..grant.to_raw() + 64 {
        let near = Grant::from_raw(near).unwrap();
        not_held(locks.release(near), near);
    }
    assert!(locks.try_acquire_read_lock("b", "o", "other").is_err());
    drop(guard);
    assert_at_rest(&locks);
}

#[test]
fn another_managers_grant_is_refused() {
    let (mine, theirs) = (FastObjectLockManager::new(), FastObjectLockManager::new());
    for round in 0..100 {
        let name = format!("o{round}");
        let ours = mine.acquire_write_lock_blocking("b", &name, "me").unwrap().into_grant();
        let foreign = theirs.acquire_write_lock_blocking("b", &name, "them").unwrap().into_grant();
        not_held(mine.release(foreign), foreign);
        not_held(theirs.release(ours), ours);
        assert!(mine.try_acquire_read_lock("b", &name, "x").is_err());
        mine.release(ours).unwrap();
        theirs.release(foreign).unwrap();
    }
    assert_at_rest(&mine);
    assert_at_rest(&theirs);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn made_up_numbers_are_never_held(raw in prop_oneof![any::<u64>(), 0..1_000_u64, any::<u64>().prop_map(|n| n << 26), any::<u64>().prop_map(|n| n | 0x3ff_ffff)]) {
        thread_local! {
            static LOCKS: (FastObjectLockManager, Grant, OwnedLockGuard) = {
                let locks = FastObjectLockManager::new();
                let grant = locks.acquire_write_lock_blocking("b", "detached", "me").unwrap().into_grant();
                let guard = locks.acquire_write_lock_blocking("b", "guarded", "me").unwrap().into_owned();
                (locks, grant, guard)
            };
        }
        LOCKS.with(|(locks, real, _)| {
            // Near misses of a real one too: one part right, the other made up.
            let real = real.to_raw();
            for raw in [raw, real ^ (raw & 0x3ff_ffff), real ^ (raw << 26), real ^ (1 << (raw % 64))] {
                let Some(forged) = Grant::from_raw(raw).filter(|forged| forged.to_raw() != real) else { continue };
                not_held(locks.release(forged), forged);
                not_held(locks.adopt(forged).map(drop), forged);
            }
            prop_assert!(locks.try_acquire_read_lock("b", "detached", "x").is_err());
            prop_assert!(locks.try_acquire_read_lock("b", "guarded", "x").is_err());
            Ok(())
        })?;
    }
}

#[test]
fn owned_guard_outlives_its_handle() {
    let locks = FastObjectLockManager::new();
    let owned = locks.acquire_write_lock_blocking("b", "o", "me").unwrap().into_owned();
    let other = locks.clone();
    drop(locks);
    let thread = std::thread::spawn(move || {
        assert_eq!(owned.key().to_string(), "b/o");
        owned
    });
    let mut owned = thread.join().unwrap();
    assert!(other.try_acquire_read_lock("b", "o", "x").is_err());
    owned.downgrade();
    drop(other.try_acquire_read_lock("b", "o", "x").unwrap());
    owned.release();
    drop(other.try_acquire_write_lock("b", "o", "x").unwrap());
    assert_at_rest(&other);
}

#[test]
fn an_owned_guard_becomes_a_grant() {
    let locks = FastObjectLockManager::new();
    let grant = locks.acquire_write_lock_blocking("b", "o", "me").unwrap().into_owned().into_grant();
    assert!(locks.try_acquire_read_lock("b", "o", "x").is_err());
    locks.release(grant).unwrap();
    assert_at_rest(&locks);
}

#[test]
fn the_fence_grows_whatever_happens_in_between() {
    let locks = with(keylatch::LockConfig { shards: 16, ..Default::default() });
    let mut last = 0;
    let mut next = |what: &str| {
        let guard = locks.acquire_write_lock_blocking("b", "fenced", "me").unwrap();
        let fence = guard.fence();
        assert!(fence > last, "{fence} after {last}, {what}");
        last = fence;
        drop(guard);
        let reader = locks.acquire_read_lock_blocking("b", "fenced", "me").unwrap();
        assert_eq!(reader.fence(), fence, "a reader sees the latest writer's");
    };
    next("first");
    next("immediately");
    // Enough other keys that its entry is given to others again and again.
    for round in 0..100_000_u32 {
        drop(locks.acquire_write_lock_blocking("other", &round.to_le_bytes(), "x").unwrap());
        if round % 1000 == 0 {
            next("after other keys");
        }
    }
    let names: Vec<_> = (0..10_000_u32).map(u32::to_le_bytes).collect();
    let many: Vec<_> = names.iter().map(|name| locks.acquire_read_lock_blocking("held", name, "x").unwrap()).collect();
    next("with many held");
    drop(many);
    next("with many released");
}

#[test]
fn fence_grows_through_conversions() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let fences = Story::default();
        let mut first = locks.acquire_write_lock_blocking("b", "o", "me").unwrap();
        fences.tell(first.fence());
        let mut line: Vec<_> = (0..20).map(|_| ByHand::waiting(locks.acquire_write_lock("b", "o", "w"))).collect();
        first.downgrade();
        assert_eq!(first.fence(), fences.so_far()[0]);
        first.try_upgrade().unwrap();
        fences.tell(first.fence());
        drop(first);
        let mut waiting: Vec<_> = line.iter_mut().collect();
        until("all have had it", || {
            waiting.retain_mut(|future| match future.poll() {
                std::task::Poll::Ready(guard) => {
                    fences.tell(guard.unwrap().fence());
                    false
                }
                std::task::Poll::Pending => true,
            });
            waiting.is_empty()
        });
        let fences = fences.so_far();
        assert_eq!(fences.len(), 22);
        assert!(fences.windows(2).all(|pair| pair[0] < pair[1]), "{fences:?}");
    }
}

#[test]
fn holder_name_is_known_while_others_wait() {
    let locks = FastObjectLockManager::new();
    let known = locks.owner("made before");
    let _held = locks.acquire_write_lock_blocking("b", "o", known).unwrap();
    let name = String::from("by string");
    let held_too = locks.acquire_read_lock_blocking("b", "p", &name).unwrap();
    let unnamed = locks.acquire_read_lock_blocking("b", "q", "").unwrap();
    for (object, expected) in [("o", "made before"), ("p", "by string"), ("q", "")] {
        let wait = LockRequest::write(("b", object)).timeout(std::time::Duration::from_millis(2));
        let Err(LockError::Timeout { holders, .. }) = locks.lock(wait).blocking() else { panic!("it is held") };
        assert_eq!(&*holders.named[0].owner, expected);
        let Err(LockError::Timeout { holders, .. }) = locks.lock(wait).blocking() else { panic!("it is held") };
        assert!(holders.named[0].held_for >= std::time::Duration::from_millis(2), "{holders:?}");
    }
    drop((held_too, unnamed));
}

/// When the next holder is woken, it has the lock, and the old grant is void.
#[test]
fn revoked_grant_is_void_when_the_next_is_woken() {
    struct Asks(FastObjectLockManager, Grant, AtomicU32);
    impl Wake for Asks {
        fn wake(self: Arc<Self>) {
            assert!(!self.0.is_valid(self.1), "the next one has the lock");
            assert!(matches!(self.0.remaining(self.1), Err(LockError::NotHeld { .. })));
            self.2.fetch_add(1, Ordering::Relaxed);
        }
    }
    let config = LockConfig { fairness: Fairness::Fifo, ..LockConfig::default() };
    let locks = FastObjectLockManager::with_config(config).unwrap();
    let grant = locks.acquire_write_lock_blocking("b", "o", "first").unwrap().into_grant();
    let mut next = pin!(locks.acquire_write_lock("b", "o", "next"));
    let asks = Arc::new(Asks(locks.clone(), grant, AtomicU32::new(0)));
    let waker = Waker::from(Arc::clone(&asks));
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(locks.force_release(&Filter::new().owner("first")).len(), 1);
    assert_eq!(asks.2.load(Ordering::Relaxed), 1, "it was woken, and asked");
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
}
