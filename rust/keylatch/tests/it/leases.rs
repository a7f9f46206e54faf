//! Leases, fences and losing a hold.

use crate::steps::{ByHand, assert_at_rest, until, with};
use keylatch::{
    BatchLockRequest, FastObjectLockManager, Filter, Grant, LockConfig, LockError, LockRequest, Lost, Reentrancy,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3600);

fn manager() -> FastObjectLockManager {
    FastObjectLockManager::new()
}

fn write() -> LockRequest<'static> {
    LockRequest::write(("b", "o"))
}

fn read() -> LockRequest<'static> {
    LockRequest::read(("b", "o"))
}

/// Waits until the lease of a hold has run out, which only a clock can say.
fn wait_out(remaining: impl Fn() -> Option<Duration>) {
    while remaining().is_some_and(|left| !left.is_zero()) {
        std::thread::yield_now();
    }
}

fn is_idle(locks: &FastObjectLockManager) {
    let metrics = locks.get_metrics().shard_metrics;
    assert_eq!((metrics.holders, metrics.waiters), (0, 0));
    for _ in 0..2 {
        drop(locks.try_acquire_write_lock("b", "o", "after").expect("free again"));
    }
}

#[test]
fn unwanted_expired_lease_stays() {
    let locks = manager();
    let guard = locks.lock(write().ttl(Duration::from_nanos(1))).blocking().unwrap();
    wait_out(|| guard.remaining());
    assert!(!guard.is_valid());
    guard.renew(LONG).unwrap();
    assert!(guard.is_valid() && guard.remaining().unwrap() > LONG / 2);
    guard.try_release().unwrap();
    is_idle(&locks);
}

#[test]
fn try_takes_expired_lock_and_reports_loss() {
    let locks = manager();
    let (tell, heard) = mpsc::channel();
    let guard = locks.lock(write().owner("slow").ttl(Duration::from_nanos(1))).blocking().unwrap();
    let fence = guard.fence();
    guard.on_lost(move |why| tell.send(why).unwrap());
    wait_out(|| guard.remaining());
    let next = locks.lock(write().owner("next")).try_now().unwrap();
    assert_eq!(heard.recv().unwrap(), Lost::Expired);
    assert!(next.fence() > fence);
    assert!(locks.is_current(("b", "o"), next.fence()).unwrap() && !locks.is_current(("b", "o"), fence).unwrap());
    // What is left to the old guard: to look back, and to report the loss.
    assert_eq!(guard.key(), keylatch::ObjectKey::new("b", "o"));
    assert_eq!((guard.fence(), guard.is_valid(), guard.remaining()), (fence, false, Some(Duration::ZERO)));
    assert!(matches!(guard.renew(LONG), Err(LockError::LeaseLost { .. })));
    assert!(matches!(guard.try_release(), Err(LockError::LeaseLost { .. })));
    assert!(locks.try_acquire_read_lock("b", "o", "third").is_err(), "the late release changed nothing");
    drop(next);
    is_idle(&locks);
}

#[test]
fn lost_grant_says_so_once() {
    let locks = manager();
    let grant = locks.lock(write().ttl(Duration::from_nanos(1))).grant_now().unwrap();
    wait_out(|| locks.remaining(grant).unwrap());
    let next = locks.lock(write()).grant_now().unwrap();
    assert!(matches!(locks.renew(grant, LONG), Err(LockError::LeaseLost { .. })));
    assert!(matches!(locks.release(grant), Err(LockError::LeaseLost { .. })));
    assert!(matches!(locks.release(grant), Err(LockError::NotHeld { .. })));
    locks.release(next).unwrap();
    is_idle(&locks);
}

#[test]
fn whatever_is_done_with_a_lost_lease_says_so() {
    let locks = manager();
    let lost = |error: LockError| matches!(error, LockError::LeaseLost { .. });
    let mut guard = locks.lock(read().ttl(Duration::from_nanos(1))).blocking().unwrap();
    let number = locks.lock(read().ttl(Duration::from_nanos(1))).grant_now().unwrap();
    let mut gone = ByHand::new(guard.lost());
    assert!(gone.poll().is_pending());
    wait_out(|| locks.remaining(number).unwrap());
    wait_out(|| guard.remaining());
    let next = locks.lock(write()).try_now().unwrap();
    assert_eq!((gone.wakes(), gone.ready()), (1, Lost::Expired));
    assert_eq!(ByHand::new(guard.lost()).ready(), Lost::Expired, "asked afterwards too");
    assert!(lost(guard.try_upgrade().unwrap_err()) && lost(guard.upgrade_blocking(None).unwrap_err()));
    guard.downgrade();
    assert!(lost(guard.try_downgrade().unwrap_err()));
    for error in [
        locks.renew(number, LONG).unwrap_err(),
        locks.remaining(number).unwrap_err(),
        locks.fence(number).unwrap_err(),
        locks.key_and_mode(number).unwrap_err(),
        locks.on_lost(number, |_| {}).err().unwrap_or(LockError::LeaseLost { grant: 0 }),
    ] {
        assert!(lost(error.clone()), "{error}");
    }
    assert!(!locks.is_valid(number));
    assert!(lost(locks.try_upgrade(number).unwrap_err()), "which is the last that is known of it");
    assert!(lost(guard.try_release().unwrap_err()));
    assert!(next.is_valid());
    drop(next);
    is_idle(&locks);
}

#[test]
fn sleeping_thread_gets_expired_lock() {
    let locks = manager();
    let began = Instant::now();
    let guard = locks.lock(write().ttl(SHORT)).blocking().unwrap();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                // Each dies with it: the next in line has to notice too.
                scope.spawn(|| std::mem::forget(locks.lock(write().ttl(SHORT).timeout(LONG)).blocking().unwrap()))
            })
            .collect();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
    assert!(began.elapsed() >= 4 * SHORT, "none was early");
    assert!(!guard.is_valid());
    drop(guard);
}

#[test]
fn future_and_callback_get_expired_lock() {
    let locks = manager();
    let held = locks.lock(write()).blocking().unwrap();
    let (tell, heard) = mpsc::channel();
    let submitted = locks
        .lock(write().ttl(SHORT))
        .with_callback(move |guard| {
            // Without a holder by now.
            let _ = guard.unwrap().into_grant();
            tell.send(()).unwrap();
        })
        .unwrap();
    assert!(submitted.ticket().is_some());
    held.renew(SHORT).unwrap();
    std::mem::forget(held);
    heard.recv().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    drop(runtime.block_on(async { locks.lock(write()).await }).unwrap());
    locks.close();
}

#[test]
fn renewal_keeps_lock_from_waiters() {
    let locks = manager();
    // Long enough for a waiter to come, on the slowest machine.
    let guard = locks.lock(write().ttl(LONG / 60)).blocking().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| locks.lock(write().timeout(LONG)).blocking().map(drop));
        while locks.get_metrics().shard_metrics.waiters == 0 {
            std::thread::yield_now();
        }
        guard.renew(LONG).unwrap();
        assert!(locks.lock(read().timeout(2 * SHORT)).blocking().is_err());
        assert!(guard.is_valid());
        guard.renew(Duration::from_nanos(1)).unwrap();
        waiter.join().unwrap().unwrap();
    });
    assert!(matches!(guard.try_release(), Err(LockError::LeaseLost { .. })));
    is_idle(&locks);
}

#[test]
fn of_several_readers_only_the_expired_ones_go() {
    let locks = manager();
    let forever = locks.lock(read()).blocking().unwrap();
    let numbers: Vec<_> =
        (0..3).map(|_| locks.lock(read().ttl(Duration::from_nanos(1))).grant_now().unwrap()).collect();
    let guards: Vec<_> = (0..3).map(|_| locks.lock(read().ttl(Duration::from_nanos(1))).blocking().unwrap()).collect();
    wait_out(|| guards[2].remaining());
    assert!(locks.lock(write()).try_now().is_err(), "one reads on");
    assert!(forever.is_valid() && guards.iter().all(|guard| !guard.is_valid()));
    assert_eq!(locks.get_metrics().shard_metrics.holders, 1);
    let mut forever = forever;
    forever.try_upgrade().expect("it is the only one left");
    assert!(locks.lock(read()).try_now().is_err());
    forever.downgrade();
    drop(locks.lock(read()).try_now().unwrap());
    drop(forever);
    for number in numbers {
        assert!(matches!(locks.release(number), Err(LockError::LeaseLost { .. })));
    }
    let writer = locks.lock(write()).try_now().unwrap();
    for guard in guards {
        assert!(matches!(guard.try_release(), Err(LockError::LeaseLost { .. })));
    }
    drop(writer);
    is_idle(&locks);
}

#[test]
fn fence_is_current_until_last_counted_hold_ends() {
    let config = LockConfig { reentrancy: Reentrancy::Count, ..LockConfig::default() };
    let locks = FastObjectLockManager::with_config(config).unwrap();
    let session = locks.session("txn");
    for first_loses in [false, true] {
        let hold = || locks.lock(write().owner(&session)).blocking().unwrap();
        let (outer, inner) = (hold(), hold());
        let fence = outer.fence();
        assert_eq!(inner.fence(), fence);
        let (lost, stays) = if first_loses { (outer, inner) } else { (inner, outer) };
        lost.renew(Duration::from_nanos(1)).unwrap();
        wait_out(|| lost.remaining());
        assert!(locks.lock(read()).try_now().is_err(), "the other hold is there");
        assert!(matches!(lost.try_release(), Err(LockError::LeaseLost { .. })));
        assert!(stays.is_valid() && stays.fence() == fence);
        assert!(locks.is_current(("b", "o"), fence).unwrap());
        drop(stays);
        assert!(!locks.is_current(("b", "o"), fence).unwrap());
        let next = locks.lock(write()).try_now().unwrap();
        assert!(next.fence() > fence);
    }
}

#[test]
fn what_readers_lose_is_not_kept_shut() {
    let locks = with(LockConfig { shards: 2, lock_delay: LONG, ..LockConfig::default() });
    for downgraded in [false, true] {
        for by_number in [false, true] {
            let request = if downgraded { write() } else { read() };
            let mut guard = locks.lock(request).blocking().unwrap();
            guard.downgrade();
            guard.renew(Duration::from_nanos(1)).unwrap();
            wait_out(|| guard.remaining());
            let (guard, number) = if by_number { (None, Some(guard.into_grant())) } else { (Some(guard), None) };
            drop(locks.lock(write()).try_now().expect("no writer came in between"));
            if let Some(number) = number {
                assert!(matches!(locks.release(number), Err(LockError::LeaseLost { .. })));
            }
            assert!(guard.is_none_or(|guard| guard.try_release().is_err()));
            is_idle(&locks);
        }
    }
}

#[test]
fn lost_lock_is_kept_shut_for_lock_delay() {
    for (by_number, lock_delay) in [(false, LONG), (true, LONG), (false, 2 * SHORT), (true, 2 * SHORT)] {
        let locks = with(LockConfig { lock_delay, ..LockConfig::default() });
        let request = write().owner("dead").ttl(Duration::from_nanos(1));
        if by_number {
            let grant = locks.lock(request).grant_now().unwrap();
            wait_out(|| locks.remaining(grant).unwrap());
        } else {
            let guard = locks.lock(request).blocking().unwrap();
            wait_out(|| guard.remaining());
            std::mem::forget(guard);
        }
        let began = Instant::now();
        if lock_delay == LONG {
            let refused = locks.lock(write()).try_now().unwrap_err();
            assert!(refused.to_string().contains("kept shut"), "{refused}");
            continue;
        }
        drop(locks.lock(write().timeout(LONG)).blocking().unwrap());
        assert!(began.elapsed() >= lock_delay);
        is_idle(&locks);
    }
}

#[test]
fn a_ttl_of_zero_is_refused_by_every_verb() {
    let locks = manager();
    let zero = write().ttl(Duration::ZERO);
    let is_refused = |error: LockError| matches!(error, LockError::InvalidConfig { setting: "ttl", .. });
    assert!(is_refused(locks.lock(zero).blocking().unwrap_err()));
    assert!(is_refused(locks.lock(zero).try_now().unwrap_err()));
    assert!(is_refused(locks.lock(zero).grant_now().unwrap_err()));
    assert!(is_refused(locks.lock(zero).with_callback(|_| ()).unwrap_err()));
    assert!(is_refused(
        futures_util::future::FutureExt::now_or_never(async { locks.lock(zero).await }).unwrap().unwrap_err()
    ));
    let batch = BatchLockRequest::new("o").add_write_lock("b", "o").ttl(Duration::ZERO);
    assert!(is_refused(locks.acquire_locks_batch_blocking(batch).unwrap_err()));
    is_idle(&locks);
}

#[test]
fn every_lock_of_a_batch_has_the_lease() {
    let locks = manager();
    let batch = BatchLockRequest::new("o").add_write_lock("b", "o").add_read_lock("b", "p").ttl(LONG);
    for guard in locks.acquire_locks_batch_blocking(batch).unwrap().into_guards() {
        assert!(guard.remaining().is_some_and(|left| left > LONG / 2));
    }
}

#[test]
fn waiting_batch_loses_no_gathered_lock() {
    let locks = manager();
    let leases = || locks.holders(&Filter::new().owner("batch")).into_iter().map(|hold| hold.lease).collect::<Vec<_>>();
    let batch = || BatchLockRequest::new("batch").add_write_lock("b", "o").add_write_lock("b", "p").ttl(LONG);
    // Whichever is taken first, it waits with it for the other.
    for last in ["o", "p"] {
        std::thread::scope(|scope| {
            let held = locks.try_acquire_write_lock("b", last, "other").unwrap();
            let mut waiting = ByHand::new(Box::pin(locks.acquire_locks_batch(batch())));
            assert!(waiting.poll().is_pending());
            let blocking = scope.spawn(|| locks.acquire_locks_batch_blocking(batch()).unwrap().into_grants());
            until("both wait", || locks.waiters(&Filter::new()).len() == 2);
            assert!(leases().iter().all(Option::is_none), "a lease runs while the batch waits: {:?}", leases());
            drop(held);
            let batch = waiting.ready().unwrap();
            assert!(leases().iter().all(Option::is_some));
            assert_eq!(batch.len(), 2);
            drop(batch);
            let grants = blocking.join().unwrap();
            assert_eq!((grants.len(), leases().len()), (2, 2));
            assert!(leases().iter().all(Option::is_some));
            grants.into_iter().for_each(|grant| locks.release(grant).unwrap());
        });
    }
    is_idle(&locks);
}

/// A store that remembers the highest fence and refuses a writer with a lower one.
///
/// The crate's documentation shows it; this one is for threads.
#[derive(Default)]
struct Store {
    fence: AtomicU64,
}

impl Store {
    fn write(&self, fence: u64) -> Result<(), u64> {
        let highest = self.fence.fetch_max(fence, Ordering::AcqRel);
        if fence < highest { Err(highest) } else { Ok(()) }
    }
}

#[test]
fn store_rejects_write_after_lease() {
    let locks = Arc::new(manager());
    let store = Arc::new(Store::default());
    let (resume, paused) = mpsc::channel::<()>();
    let (has_lock, lock_held) = mpsc::channel();
    let sleeper = {
        let (locks, store) = (Arc::clone(&locks), Arc::clone(&store));
        std::thread::spawn(move || {
            let guard = locks.lock(write().ttl(SHORT)).blocking().unwrap();
            store.write(guard.fence()).expect("the first write, in time");
            has_lock.send(()).unwrap();
            // A long pause of its machine.
            paused.recv().unwrap();
            store.write(guard.fence())
        })
    };
    lock_held.recv().unwrap();
    let next = locks.lock(write().timeout(LONG)).blocking().unwrap();
    store.write(next.fence()).unwrap();
    resume.send(()).unwrap();
    assert_eq!(sleeper.join().unwrap(), Err(next.fence()), "the store has seen a later writer");
}

#[test]
fn loss_during_release_leaves_nothing() {
    let locks = manager();
    let rounds = 3000;
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let locks = &locks;
            scope.spawn(move || {
                let mut last = 0;
                for round in 0..rounds {
                    let request = if (round + thread) % 3 == 0 { read() } else { write() };
                    let request = request.ttl(Duration::from_nanos(1 + round % 5 * 2000)).timeout(LONG);
                    if round % 2 == 0 {
                        let guard = locks.lock(request).blocking().unwrap();
                        if guard.mode() == keylatch::Mode::Exclusive {
                            assert!(guard.fence() > last);
                            last = guard.fence();
                        }
                        let _ = guard.try_release();
                    } else {
                        let grant = locks.lock(request).grant_blocking().unwrap();
                        let _ = locks.release(grant);
                    }
                }
            });
        }
    });
    is_idle(&locks);
}

/// Locks a key with a lease that has run out by now.
fn ended(locks: &FastObjectLockManager, key: &str) -> Result<Grant, LockError> {
    let grant = locks.lock(LockRequest::write(("b", key)).ttl(Duration::from_nanos(1))).grant_now()?;
    wait_out(|| locks.remaining(grant).unwrap());
    Ok(grant)
}

#[test]
fn opened_locks_leave_a_full_table() {
    let lock_delay = Duration::from_millis(1);
    let locks = with(LockConfig { shards: 1, max_locks: 100, lock_delay, ..LockConfig::default() });
    for number in 0..1000 {
        let key = number.to_string();
        let mut grant = None;
        // It is full for as long as others are kept shut, and no longer.
        until("room", || match ended(&locks, &key) {
            Ok(granted) => grant.replace(granted).is_none(),
            Err(error) => !matches!(error, LockError::TableFull { .. }),
        });
        // Takes it away, and keeps it shut; on a slow machine the time for which it is shut may be over already.
        drop(locks.try_acquire_write_lock("b", &key, "next"));
        assert!(matches!(locks.release(grant.unwrap()), Err(LockError::LeaseLost { .. })));
    }
    until("all are open", || locks.get_metrics().shard_metrics.entries <= 4);
    assert_at_rest(&locks);
}

#[test]
fn lock_delay_ends_with_the_close() {
    for by_guard in [false, true] {
        let locks = with(LockConfig { shards: 2, lock_delay: LONG, ..LockConfig::default() });
        let guard = by_guard.then(|| locks.lock(write().ttl(Duration::from_nanos(1))).blocking().unwrap());
        let grant = (!by_guard).then(|| ended(&locks, "o").unwrap());
        until("it is lost", || !locks.expire(&Filter::all()).is_empty());
        drop(guard);
        grant.into_iter().for_each(|grant| assert!(locks.release(grant).is_err()));
        assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
        let [shut] = &locks.holders(&Filter::new())[..] else { panic!("it is shown") };
        assert!(shut.in_lock_delay);
        // It has no holder: its number is only a name.
        assert!(matches!(locks.release(shut.grant), Err(LockError::NotHeld { .. })));
        assert!(matches!(locks.renew(shut.grant, LONG), Err(LockError::NotHeld { .. })));
        assert!(locks.adopt(shut.grant).is_err() && locks.downgrade(shut.grant).is_err());
        assert!(locks.lock(write()).try_now().is_err());
        locks.close();
        assert!(locks.holders(&Filter::new()).is_empty());
        assert_at_rest(&locks);
    }
}

#[test]
fn what_is_lost_after_the_close_is_not_kept_shut() {
    let locks = with(LockConfig { shards: 2, lock_delay: LONG, ..LockConfig::default() });
    let (grant, guard) = (ended(&locks, "o").unwrap(), locks.lock(read().ttl(Duration::from_nanos(1))));
    assert!(guard.try_now().is_err());
    let late = ended(&locks, "late").unwrap();
    locks.close();
    until("it is lost", || !locks.expire(&Filter::all()).is_empty());
    assert!(locks.release(late).is_err() && locks.release(grant).is_err());
    assert!(locks.holders(&Filter::new()).is_empty());
    assert_at_rest(&locks);
}

#[test]
fn full_table_reuses_expired_leases() {
    let locks = with(LockConfig { shards: 2, max_locks: 60, ..LockConfig::default() });
    let mut held = Vec::new();
    let (mut safe, mut over) = (Vec::new(), Vec::new());
    // Every third hold has no lease, every third a long one.
    let kept = locks.lock(LockRequest::write(("b", "guard")).ttl(Duration::from_nanos(1))).try_now().unwrap();
    wait_out(|| kept.remaining());
    let refused = (0..).find_map(|number: u32| {
        let key = number.to_string();
        let request = LockRequest::write(("b", key.as_str()));
        match number % 3 {
            0 => locks.lock(request).grant_now().map(|grant| held.push(grant)).err(),
            1 => locks.lock(request.ttl(LONG)).grant_now().map(|grant| safe.push(grant)).err(),
            // Long enough for the table to be filled, or they would make room for others already.
            _ => locks.lock(request.ttl(LONG)).grant_now().map(|grant| over.push(grant)).err(),
        }
    });
    assert!(matches!(refused, Some(LockError::TableFull { .. })), "{refused:?}");
    for grant in &over {
        locks.renew(*grant, Duration::from_nanos(1)).unwrap();
        wait_out(|| locks.remaining(*grant).unwrap());
    }
    let more: Vec<_> =
        (1000..).map_while(|key: u32| locks.try_acquire_write_lock("b", &key.to_string(), "me").ok()).collect();
    assert_eq!(more.len(), over.len());
    assert!(matches!(kept.renew(LONG), Err(LockError::LeaseLost { .. })), "the end of a guard's lease makes room, too");
    assert!(safe.iter().chain(&held).all(|grant| locks.is_valid(*grant)));
    for grant in over {
        assert!(matches!(locks.release(grant), Err(LockError::LeaseLost { .. })));
    }
    drop((more, kept));
    held.into_iter().chain(safe).for_each(|grant| locks.release(grant).unwrap());
    assert_at_rest(&locks);
}
