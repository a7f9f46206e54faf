//! How long a request waits, and what it returns when the time is over.

use crate::steps::*;
use keylatch::{Fairness, FastObjectLockManager, LockConfig, LockError, LockRequest, Mode};
use std::time::{Duration, Instant};

const MILLISECOND: Duration = Duration::from_millis(1);

#[track_caller]
fn timed_out<T: std::fmt::Debug>(answer: Result<T, LockError>, holder: &str) -> Duration {
    match answer {
        Err(LockError::Timeout { key, waited, holders }) => {
            assert_eq!(key.to_string(), "b/o");
            let names: Vec<&str> = holders.named.iter().map(|holder| &*holder.owner).collect();
            assert_eq!((names, holders.more), (vec![holder], 0));
            waited
        }
        other => panic!("no timeout: {other:?}"),
    }
}

/// A timeout beside others who come and go, on whom the named holder depends.
#[track_caller]
fn gave_up<T: std::fmt::Debug>(answer: Result<T, LockError>) {
    assert!(matches!(answer, Err(LockError::Timeout { .. })), "no timeout: {answer:?}");
}

#[test]
fn zero_timeout_names_the_holder() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let held = locks.acquire_write_lock_blocking("b", "o", "the writer").unwrap();
        let write = || LockRequest::write(("b", "o")).owner("me");
        let past = Instant::now() - Duration::from_secs(1);
        for request in
            [write().timeout(Duration::ZERO), write().timeout(Duration::from_nanos(1)), write().deadline(past)]
        {
            timed_out(locks.lock(request).blocking(), "the writer");
            timed_out(ByHand::new(locks.lock(request)).after_wakes(), "the writer");
        }
        let error = locks.lock(write()).try_now().unwrap_err();
        assert!(matches!(&error, LockError::WouldBlock { .. }));
        assert_eq!(error.code(), -2);
        assert!(error.to_string().contains("the writer"), "{error}");
        drop(held);
        assert_at_rest(&locks);
    }
}

#[test]
fn a_free_lock_is_had_however_short_the_time() {
    let locks = FastObjectLockManager::new();
    let past = Instant::now() - Duration::from_secs(1);
    for _ in 0..3 {
        let write = || LockRequest::write(("b", "o")).owner("me");
        for request in
            [write().timeout(Duration::ZERO), write().timeout(Duration::from_nanos(1)), write().deadline(past)]
        {
            drop(locks.lock(request).blocking().unwrap());
            drop(ByHand::new(locks.lock(request)).ready().unwrap());
        }
    }
    assert_eq!(locks.get_metrics().shard_metrics.timeouts, 0);
}

#[test]
fn timeout_is_never_early_and_names_holder() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let held = locks.acquire_read_lock_blocking("b", "o", "the reader").unwrap();
        let asked = 10 * MILLISECOND;
        let request = LockRequest::write(("b", "o")).owner("me").timeout(asked);
        let began = Instant::now();
        timed_out(locks.lock(request).blocking(), "the reader");
        assert!(began.elapsed() >= asked);
        let began = Instant::now();
        timed_out(ByHand::new(locks.lock(request)).after_wakes(), "the reader");
        assert!(began.elapsed() >= asked);
        drop(held);
        assert_eq!(locks.get_metrics().shard_metrics.timeouts, 2);
        assert_at_rest(&locks);
    }
}

#[test]
fn timeout_reports_the_full_wait() {
    let locks = few_shards(Fairness::default());
    let _held = locks.acquire_write_lock_blocking("b", "o", "the writer").unwrap();
    let mut short = Vec::new();
    // The first is over before anybody could lie down.
    for nanos in [1, 1_000, 10_000, 100_000, 1_000_000, 3_000_000] {
        for _ in 0..20 {
            let asked = Duration::from_nanos(nanos);
            let request = LockRequest::read(("b", "o")).owner("me").timeout(asked);
            let waited = [
                timed_out(locks.lock(request).blocking(), "the writer"),
                timed_out(ByHand::new(locks.lock(request)).after_wakes(), "the writer"),
            ];
            short.extend(waited.into_iter().filter(|waited| *waited < asked).map(|waited| (asked, waited)));
        }
    }
    assert!(short.is_empty(), "asked and waited: {short:?}");
}

/// Requests with any timeout wait, also those delayed until their time is over.
///
/// Otherwise such a request would be no wait in the figures and no event, and another time it would.
#[test]
fn nonzero_timeout_stands_in_line() {
    let locks = few_shards(Fairness::Fifo);
    let queue = locks.completion_queue().unwrap();
    let _held = locks.acquire_read_lock_blocking("b", "o", "the reader").unwrap();
    let request = LockRequest::write(("b", "o")).owner("me").timeout(Duration::from_nanos(1));
    gave_up(locks.lock(request).blocking());
    gave_up(ByHand::new(locks.lock(request)).after_wakes());
    assert!(locks.lock(request).with_queue(&queue, 1).unwrap().ticket().is_some());
    gave_up(queue.next(Some(FOREVER)).unwrap().unwrap().result);
    let (send, receive) = std::sync::mpsc::channel();
    let submitted = locks.lock(request).with_callback(move |answer| send.send(answer).unwrap());
    assert!(submitted.unwrap().ticket().is_some());
    gave_up(receive.recv_timeout(FOREVER).unwrap());
    let reader = locks.lock(LockRequest::read(("b", "o"))).grant_blocking().unwrap();
    let short = Some(Duration::from_nanos(1));
    assert!(locks.upgrade_with_queue(reader, short, &queue, 2).unwrap().is_some());
    gave_up(queue.next(Some(FOREVER)).unwrap().unwrap().result);
    locks.release(reader).unwrap();
    let figures = locks.get_metrics().shard_metrics;
    assert_eq!((figures.waits, figures.timeouts, figures.refused), (5, 5, 0));
}

#[test]
fn the_longest_time_is_for_as_long_as_it_takes() {
    let locks = few_shards(Fairness::default());
    let held = locks.acquire_write_lock_blocking("b", "o", "first").unwrap();
    let mut future = ByHand::waiting(locks.lock(LockRequest::write(("b", "o")).timeout(Duration::MAX)));
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| {
            drop(locks.lock(LockRequest::write(("b", "o")).timeout(Duration::MAX)).blocking().unwrap());
            drop(locks.lock(LockRequest::write(("b", "o")).timeout(Duration::from_secs(u64::MAX))).blocking().unwrap());
        });
        until_in_line(&locks, 2);
        drop(held);
        drop(future.after_wakes().unwrap());
        blocked.join().unwrap();
    });
    assert_at_rest(&locks);
}

#[test]
fn default_timeout_comes_from_manager() {
    let locks = with(LockConfig { default_timeout: Some(5 * MILLISECOND), ..LockConfig::default() });
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    timed_out(locks.acquire_write_lock_blocking("b", "o", "me"), "holder");
    timed_out(ByHand::new(locks.acquire_read_lock("b", "o", "me")).after_wakes(), "holder");
    let request = LockRequest::write(("b", "o")).no_timeout();
    let mut patient = ByHand::waiting(locks.lock(request));
    // The default has passed for certain when a request that was made later has come to its end.
    timed_out(locks.acquire_write_lock_blocking("b", "o", "me"), "holder");
    timed_out(locks.acquire_write_lock_blocking("b", "o", "me"), "holder");
    assert!(patient.poll().is_pending());
    drop(held);
    drop(patient.after_wakes().unwrap());
    assert_at_rest(&locks);
}

#[test]
fn cancelled_writer_lets_readers_in() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let reader = locks.acquire_read_lock_blocking("b", "o", "reader").unwrap();
        let write = LockRequest::write(("b", "o")).owner("writer").timeout(30 * MILLISECOND);
        let mut writer = ByHand::new(locks.lock(write));
        let waits = writer.poll().is_pending();
        std::thread::scope(|scope| {
            let behind = scope.spawn(|| drop(locks.acquire_read_lock_blocking("b", "o", "behind").unwrap()));
            if waits {
                gave_up(writer.after_wakes());
            }
            behind.join().unwrap();
        });
        drop(reader);
        assert_at_rest(&locks);
    }
}

#[test]
fn timed_out_writer_lets_readers_in() {
    let locks = few_shards(Fairness::Fifo);
    let reader = locks.acquire_read_lock_blocking("b", "o", "reader").unwrap();
    let write = LockRequest::write(("b", "o")).owner("writer").timeout(100 * MILLISECOND);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| gave_up(locks.lock(write).blocking()));
        until("the writer in line", || waiters(&locks) == 1 || writer.is_finished());
        let mut behind = ByHand::new(locks.acquire_read_lock("b", "o", "behind"));
        let at_first = behind.poll().is_pending();
        writer.join().unwrap();
        if at_first {
            drop(behind.after_wakes().unwrap());
        }
    });
    drop(reader);
    assert_at_rest(&locks);
}

#[test]
fn all_waiting_readers_come_in_together() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let writer = locks.acquire_write_lock_blocking("b", "o", "writer").unwrap();
        let mut readers: Vec<_> = (0..1000).map(|_| ByHand::waiting(locks.acquire_read_lock("b", "o", "r"))).collect();
        drop(writer);
        // The holders keep holding: they can only all get it if they share it.
        let held: Vec<_> = readers.iter_mut().map(|reader| reader.after_wakes().unwrap()).collect();
        assert_eq!(locks.get_metrics().shard_metrics.holders, 1000);
        assert!(held.iter().all(|guard| guard.mode() == Mode::Shared));
        drop(held);
        assert_at_rest(&locks);
    }
}

#[test]
fn ten_thousand_in_line_are_all_served_alone() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let first = locks.acquire_write_lock_blocking("b", "o", "first").unwrap();
        let mut line: Vec<_> = (0..10_000).map(|_| ByHand::waiting(locks.acquire_write_lock("b", "o", "w"))).collect();
        assert_eq!(waiters(&locks), 10_000);
        drop(first);
        for writer in &mut line {
            let guard = writer.after_wakes().unwrap();
            assert!(locks.try_acquire_read_lock("b", "o", "x").is_err());
            drop(guard);
        }
        assert_at_rest(&locks);
    }
}

/// A timeout so short that it often ends in the instant of the grant.
#[test]
fn timeout_racing_grant_leaves_nothing() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        within("timeouts racing grants", move || {
            std::thread::scope(|scope| {
                for thread in 0..4_u64 {
                    let locks = &locks;
                    scope.spawn(move || {
                        for round in 0..3000_u64 {
                            let nanos = [0, 1, 1_000, 20_000, u64::MAX][((round + thread) % 5) as usize];
                            let mode = if round % 3 == 0 { Mode::Shared } else { Mode::Exclusive };
                            let request = LockRequest::new(("b", "o"), mode).timeout(Duration::from_nanos(nanos));
                            let answer = if thread % 2 == 0 {
                                locks.lock(request).blocking()
                            } else {
                                ByHand::new(locks.lock(request)).after_wakes()
                            };
                            match answer {
                                Ok(guard) => drop(guard),
                                Err(LockError::Timeout { .. }) => assert_ne!(nanos, u64::MAX),
                                Err(other) => panic!("{other:?}"),
                            }
                        }
                    });
                }
            });
            assert_at_rest(&locks);
        });
    }
}

/// The timer sleeps until a deadline far away when one that is near is set.
#[test]
fn an_earlier_deadline_set_later_is_kept() {
    let locks = few_shards(Fairness::Fifo);
    let _held = locks.acquire_write_lock_blocking("b", "o", "the holder").unwrap();
    let far = ByHand::waiting(locks.lock(LockRequest::read(("b", "o")).timeout(20 * FOREVER)));
    // Long enough for the timer's thread to have gone to sleep, in all but the rarest of runs: not needed for this to
    // pass, only for it to notice.
    std::thread::sleep(20 * MILLISECOND);
    let mut near = ByHand::new(locks.lock(LockRequest::read(("b", "o")).timeout(5 * MILLISECOND)));
    gave_up(near.after_wakes());
    drop((near, far));
}

/// Under a policy of overtaking, a woken future that does not come is passed over.
#[test]
fn unpolled_future_starves_no_waiter() {
    let locks = with(LockConfig {
        shards: 4,
        fairness: Fairness::Eventual { after: Duration::from_millis(200) },
        ..LockConfig::default()
    });
    let write = || LockRequest::write(("b", "o"));
    loop {
        let held = locks.lock(write()).blocking().unwrap();
        let mut left_alone = ByHand::waiting(locks.lock(write()));
        let mut behind = ByHand::waiting(locks.lock(write()));
        drop(held);
        if !locks.holders(&keylatch::Filter::new()).is_empty() {
            // This thread was kept from going on for so long that the lock was handed over.
            continue;
        }
        let second = behind.after_wakes().unwrap();
        assert!(left_alone.poll().is_pending());
        drop(second);
        drop(left_alone.after_wakes().unwrap());
        break;
    }
    assert_at_rest(&locks);
}
