//! Dropping a request, wherever it has come, leaves nothing behind and no waiter.

use crate::steps::*;
use keylatch::{Fairness, FastObjectLockManager, LockConfig, LockError, LockRequest, Submitted, Ticket};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

#[test]
fn future_dropped_after_any_poll_leaves_nothing() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        for polls in 0..6 {
            let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
            let mut future = ByHand::new(locks.acquire_write_lock("b", "o", "me"));
            for _ in 0..polls {
                assert!(future.poll().is_pending());
            }
            assert_eq!(waiters(&locks), u64::from(polls > 0));
            drop(future);
            assert_eq!(waiters(&locks), 0);
            drop(held);
            drop(locks.try_acquire_write_lock("b", "o", "next").unwrap());
        }
        assert_at_rest(&locks);
    }
}

#[test]
fn finished_future_keeps_nothing() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        let mut granted = ByHand::waiting(locks.acquire_write_lock("b", "o", "granted"));
        drop(held);
        let guard = granted.ready().unwrap();
        let mut refused = ByHand::waiting(locks.acquire_write_lock("b", "o", "refused"));
        locks.close();
        assert!(matches!(refused.ready(), Err(LockError::Closed)));
        // Neither asks again, nor takes anything away with it.
        for over in [&mut granted, &mut refused] {
            let polled_again = std::panic::AssertUnwindSafe(|| over.poll().is_ready());
            assert!(std::panic::catch_unwind(polled_again).is_err());
        }
        drop((granted, refused));
        assert!(matches!(locks.try_acquire_read_lock("b", "o", "next"), Err(LockError::Closed)));
        assert_eq!(locks.get_metrics().shard_metrics.holders, 1);
        drop(guard);
        assert_at_rest(&locks);
    }
}

#[test]
fn future_dropped_after_grant_passes_lock_on() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        let first = ByHand::waiting(locks.acquire_write_lock("b", "o", "first"));
        let mut second = ByHand::waiting(locks.acquire_write_lock("b", "o", "second"));
        let mut third = ByHand::waiting(locks.acquire_read_lock("b", "o", "third"));
        drop(held);
        assert!(first.wakes() + second.wakes() + third.wakes() > 0, "one of them was woken");
        drop(first);
        // Which of the others is next depends on the policy; each has to come to the lock when woken.
        std::thread::scope(|scope| {
            scope.spawn(|| drop(second.after_wakes().unwrap()));
            scope.spawn(|| drop(third.after_wakes().unwrap()));
        });
        assert_at_rest(&locks);
    }
}

#[test]
fn the_first_in_line_leaving_wakes_the_new_first() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let reader = locks.acquire_read_lock_blocking("b", "o", "reader").unwrap();
        let writer = ByHand::waiting(locks.acquire_write_lock("b", "o", "writer"));
        let mut behind = ByHand::new(locks.acquire_read_lock("b", "o", "behind"));
        match behind.poll() {
            Poll::Ready(guard) => drop(guard.unwrap()), // it may join under some policies
            Poll::Pending => {
                drop(writer);
                assert_eq!(behind.wakes(), 1);
                drop(behind.ready().unwrap());
            }
        }
        drop(reader);
    }
}

#[test]
fn waiter_may_leave_any_place_in_line() {
    for fairness in POLICIES {
        for gone in 0..8 {
            let locks = few_shards(fairness);
            let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
            let mut line: Vec<_> = (0..8)
                .map(|n| {
                    let request =
                        if n % 3 == 0 { LockRequest::read(("b", "o")) } else { LockRequest::write(("b", "o")) };
                    ByHand::waiting(locks.lock(request))
                })
                .collect();
            drop(line.remove(gone));
            assert_eq!(waiters(&locks), 7);
            drop(held);
            // Every one that is woken gets it and lets go, until all have had it.
            let mut left = line;
            until("the line is served", || {
                left.retain_mut(|future| match future.poll() {
                    Poll::Ready(guard) => {
                        drop(guard.unwrap());
                        false
                    }
                    Poll::Pending => true,
                });
                left.is_empty()
            });
            assert_at_rest(&locks);
        }
    }
}

#[test]
fn the_latest_waker_is_the_one_that_is_called() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        let mut future = ByHand::new(locks.acquire_write_lock("b", "o", "me"));
        let flags: Vec<_> = (0..5).map(|_| Arc::new(Flag(AtomicBool::new(false)))).collect();
        for flag in &flags {
            assert!(future.poll_with(&Waker::from(Arc::clone(flag))).is_pending());
        }
        for stale in &flags[..4] {
            assert_eq!(Arc::strong_count(stale), 1, "a replaced waker is let go");
        }
        drop(held);
        let called: Vec<bool> = flags.iter().map(|flag| flag.0.load(Ordering::SeqCst)).collect();
        assert_eq!(called, [false, false, false, false, true]);
        drop(future.ready().unwrap());
        drop(future);
        assert_eq!(Arc::strong_count(&flags[4]), 1, "no waker stays behind");
    }
}

/// A future that moves to another task may be granted while that task polls it.
///
/// If that poll says "pending", its waker is the one to be called.
#[test]
fn waker_replaced_during_grant_is_called() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    for fairness in [Fairness::Fifo, Fairness::default()] {
        let locks = few_shards(fairness);
        within("wakers replaced while granted", move || {
            let (handing, handed) = mpsc::sync_channel::<keylatch::OwnedLockGuard>(0);
            let released = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&released);
            let releaser = std::thread::spawn(move || {
                for guard in handed {
                    drop(guard);
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
            for round in 0..5_000_u64 {
                let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap().into_owned();
                let mut future = ByHand::waiting(locks.acquire_write_lock("b", "o", "me"));
                handing.send(held).unwrap();
                let (mut latest, mut polls) = (None, 0);
                while released.load(Ordering::SeqCst) == round {
                    // Where the processors have more to do the releaser only gets its turn from a thread that yields.
                    polls += 1;
                    if polls > 1_000 {
                        std::thread::yield_now();
                    }
                    let flag = Arc::new(Flag(AtomicBool::new(false)));
                    match future.poll_with(&Waker::from(Arc::clone(&flag))) {
                        Poll::Pending => latest = Some(flag),
                        Poll::Ready(guard) => {
                            drop(guard.unwrap());
                            latest = None;
                            break;
                        }
                    }
                }
                until("the release", || released.load(Ordering::SeqCst) > round);
                if let Some(latest) = latest {
                    assert!(latest.0.load(Ordering::SeqCst), "round {round}: granted, and the latest waker not called");
                    drop(future.ready().unwrap());
                }
            }
            drop(handing);
            releaser.join().unwrap();
            assert_at_rest(&locks);
        });
    }
}

/// A waker uses the manager when it is called and when it is dropped.
///
/// Neither happens under a lock of the manager's.
#[test]
fn a_waker_may_use_the_manager() {
    struct Nosy(FastObjectLockManager, Arc<AtomicU64>);
    impl Nosy {
        fn look(&self) {
            drop(self.0.try_acquire_write_lock("b", "another", "waker"));
            drop(self.0.try_acquire_write_lock("b", "o", "waker"));
            let _ = self.0.get_metrics();
        }
    }
    impl Wake for Nosy {
        fn wake(self: Arc<Self>) {
            self.look();
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            self.look();
            self.1.fetch_sub(1, Ordering::SeqCst);
        }
    }
    within("wakers that use the manager", || {
        for fairness in POLICIES {
            // One shard: any mutex held while the waker runs would be the one that it needs.
            let locks = with(LockConfig { shards: 1, fairness, ..LockConfig::default() });
            let nosy = Arc::new(AtomicU64::new(0));
            let waker = || {
                nosy.fetch_add(1, Ordering::SeqCst);
                Waker::from(Arc::new(Nosy(locks.clone(), Arc::clone(&nosy))))
            };
            let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
            let mut polled = ByHand::new(locks.acquire_write_lock("b", "o", "me"));
            let mut dropped = ByHand::new(locks.acquire_write_lock("b", "o", "me"));
            let timeout = LockRequest::write(("b", "o")).timeout(Duration::from_millis(5));
            let mut late = ByHand::new(locks.lock(timeout));
            let mut is_late = false;
            for _ in 0..2 {
                assert!(polled.poll_with(&waker()).is_pending());
                assert!(dropped.poll_with(&waker()).is_pending());
                is_late = is_late || late.poll_with(&waker()).is_ready();
            }
            until("the timeout", || locks.get_metrics().shard_metrics.timeouts == 1);
            // The timer's thread is through with the waker, too; the others wait with theirs.
            until("its waker is let go", || nosy.load(Ordering::SeqCst) == 2);
            drop((late, dropped, held));
            drop(polled.ready().unwrap());
            drop(polled);
            assert_eq!(nosy.load(Ordering::SeqCst), 0);
            assert_at_rest(&locks);
        }
    });
}

#[test]
fn future_moves_to_another_thread() {
    let locks = few_shards(Fairness::default());
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let mut future = ByHand::waiting(locks.acquire_write_lock("b", "o", "me"));
    std::thread::scope(|scope| {
        let (polled, go) = mpsc::channel();
        let mover = scope.spawn(move || {
            assert!(future.poll().is_pending());
            polled.send(()).unwrap();
            drop(future.after_wakes().unwrap());
        });
        go.recv().unwrap();
        drop(held);
        mover.join().unwrap();
    });
    assert_at_rest(&locks);
}

#[test]
fn future_that_loses_select_leaves_line() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let locks = few_shards(Fairness::default());
        let held = locks.acquire_write_lock("b", "o", "holder").await.unwrap();
        for _ in 0..100 {
            tokio::select! {
                biased;
                _ = locks.acquire_write_lock("b", "o", "loser") => panic!("it is held"),
                () = tokio::task::yield_now() => {}
            }
            assert_eq!(waiters(&locks), 0);
        }
        let impatient = tokio::time::timeout(Duration::from_millis(2), locks.acquire_read_lock("b", "o", "late"));
        assert!(impatient.await.is_err());
        drop(held);
        drop(locks.try_acquire_write_lock("b", "o", "next").unwrap());
        assert_at_rest(&locks);
    });
}

/// A hundred thousand times, a future is dropped while its lock is released.
#[test]
fn future_dropped_while_granted_many_times() {
    for (fairness, rounds) in [(Fairness::Fifo, 50_000), (Fairness::default(), 50_000)] {
        let locks = few_shards(fairness);
        within("futures dropped while granted", move || {
            let (handing, handed) = mpsc::sync_channel::<keylatch::OwnedLockGuard>(0);
            let releaser = std::thread::spawn(move || handed.into_iter().for_each(drop));
            let noop = Waker::noop();
            for round in 0..rounds {
                let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap().into_owned();
                let mut future = Box::pin(locks.lock(LockRequest::write(("b", "o"))).into_future());
                assert!(future.as_mut().poll(&mut Context::from_waker(noop)).is_pending());
                handing.send(held).unwrap();
                for _ in 0..round % 60 {
                    std::hint::spin_loop();
                }
                if round % 7 == 0 {
                    let _ = future.as_mut().poll(&mut Context::from_waker(noop));
                }
                drop(future);
            }
            drop(handing);
            releaser.join().unwrap();
            drop(locks.try_acquire_write_lock("b", "o", "after").unwrap());
            assert_at_rest(&locks);
        });
    }
}

#[test]
fn a_cancelled_ticket_has_exactly_one_outcome() {
    for fairness in [Fairness::Fifo, Fairness::default()] {
        let locks = few_shards(fairness);
        within("tickets cancelled while granted", move || {
            let queue = locks.completion_queue().unwrap();
            let (handing, handed) = mpsc::sync_channel::<keylatch::OwnedLockGuard>(0);
            let releaser = std::thread::spawn(move || handed.into_iter().for_each(drop));
            let (mut granted, mut cancelled) = (0, 0);
            for token in 0..5000 {
                let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap().into_owned();
                let submitted = locks.lock(LockRequest::write(("b", "o"))).with_queue(&queue, token).unwrap();
                let Submitted::Waiting(ticket) = submitted else { panic!("it is held") };
                handing.send(held).unwrap();
                for _ in 0..token % 60 {
                    std::hint::spin_loop();
                }
                let first = locks.cancel(ticket);
                assert!(!locks.cancel(ticket), "a wait ends once");
                let completion = queue.next(Some(FOREVER)).unwrap().expect("an outcome");
                assert_eq!((completion.token, completion.ticket), (token, ticket));
                match completion.result {
                    Ok(guard) => {
                        assert!(!first, "cancelled, and granted");
                        granted += 1;
                        drop(guard);
                    }
                    Err(LockError::Cancelled { .. }) => {
                        assert!(first, "too late, and cancelled");
                        cancelled += 1;
                    }
                    Err(other) => panic!("{other:?}"),
                }
                assert!(queue.try_next().is_none(), "one outcome");
                assert!(!locks.cancel(ticket), "the ticket is void");
            }
            drop(handing);
            releaser.join().unwrap();
            assert_eq!(granted + cancelled, 5000);
            drop(queue);
            assert_at_rest(&locks);
        });
    }
}

#[test]
fn tickets_that_are_made_up_end_nothing() {
    let locks = few_shards(Fairness::Fifo);
    let queue = locks.completion_queue().unwrap();
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let submitted = locks.lock(LockRequest::write(("b", "o"))).with_queue(&queue, 1).unwrap();
    let real = submitted.ticket().unwrap();
    assert_eq!(Ticket::from_raw(real.to_raw()), Some(real));
    assert_eq!(Ticket::from_raw(0), None);
    let bits = (0..64).map(|bit| real.to_raw() ^ 1 << bit);
    for raw in bits.chain([1, u64::MAX, u64::from(u32::MAX), 1 << 32, real.to_raw() + 1]) {
        assert!(!Ticket::from_raw(raw).is_some_and(|ticket| locks.cancel(ticket)), "{raw:#x}");
    }
    assert_eq!(waiters(&locks), 1);
    assert!(locks.cancel(real));
    assert!(matches!(queue.try_next().unwrap().result, Err(LockError::Cancelled { .. })));
    drop(held);
}

#[test]
fn old_ticket_ends_no_other_wait() {
    let locks = few_shards(Fairness::Fifo);
    let queue = locks.completion_queue().unwrap();
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let mut old = Vec::new();
    for round in 0..10 {
        let submitted = locks.lock(LockRequest::write(("b", "o"))).with_queue(&queue, round).unwrap();
        let ticket = submitted.ticket().unwrap();
        assert!(!old.contains(&ticket), "a ticket never comes again");
        assert!(old.iter().all(|old| !locks.cancel(*old)));
        assert_eq!(waiters(&locks), 1);
        assert!(locks.cancel(ticket));
        drop(queue.try_next().expect("it was cancelled"));
        old.push(ticket);
    }
    drop(held);
    assert_at_rest(&locks);
}

#[test]
fn future_runs_on_minimal_executor() {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    fn block_on<F: Future>(future: F) -> F::Output {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => std::thread::park(),
            }
        }
    }
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let inside = AtomicU64::new(0);
        let (locks, inside) = (&locks, &inside);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(move || {
                    for _ in 0..1000 {
                        let guard = block_on(locks.acquire_write_lock("b", "o", "me")).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                        inside.fetch_sub(1, Ordering::Relaxed);
                        drop(guard);
                    }
                });
            }
        });
        assert_at_rest(locks);
    }
}
