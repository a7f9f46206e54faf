//! Futures dropped at every await point, and what is left behind: nothing.

use crate::waiting::{LONG, granted, in_line};
use futures_util::FutureExt;
use keylatch_typed::{AsyncMutex, AsyncRwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Small and quick pseudo-random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn grant_dropped_before_poll_goes_on() {
    let mutex = AsyncMutex::new(0, LONG);
    let held = mutex.try_lock().unwrap();
    let (first, second) = (in_line(mutex.lock_with_timeout()), in_line(mutex.lock_with_timeout()));
    drop(held);
    drop(first);
    drop(granted(second));
    let figures = mutex.stats().figures();
    assert_eq!((figures.total_acquisitions, figures.current_holders, figures.current_waiters), (2, 0, 0));
}

/// Drops a request at every point of its life.
///
/// Before its first poll, in line, when granted and not polled, and as a guard: 100,000 times, with
/// others around it.
#[test]
fn drop_at_every_point_leaves_nothing() {
    let lock = AsyncRwLock::new(0_u64, LONG);
    let mut random = Random(0x5eed_1234_5678_9abc);
    for round in 0..100_000 {
        let held = match random.below(3) {
            0 => (lock.try_write(), None),
            1 => (None, lock.try_read()),
            _ => (None, None),
        };
        let mut writer = lock.write_with_timeout();
        let mut reader = lock.read_with_timeout();
        let mut other = lock.write_with_timeout();
        let writes = [random.below(2) == 0, random.below(2) == 0].map(|polled| polled.then_some(()));
        let mut guards = (None, None, None);
        if writes[0].is_some() {
            guards.0 = (&mut writer).now_or_never().map(Result::unwrap);
        }
        if writes[1].is_some() {
            guards.1 = (&mut reader).now_or_never().map(Result::unwrap);
        }
        if round % 2 == 0 {
            guards.2 = (&mut other).now_or_never().map(Result::unwrap);
        }
        // In every order, so that each request is dropped waiting, granted and delivered.
        match random.below(6) {
            0 => drop((held, writer, reader, other, guards)),
            1 => drop((writer, held, other, reader, guards)),
            2 => drop((guards, other, held, writer, reader)),
            3 => drop((reader, guards, writer, held, other)),
            4 => drop((guards, held, reader, other, writer)),
            _ => drop((other, guards, reader, writer, held)),
        }
        let figures = lock.stats().figures();
        assert_eq!((figures.current_holders, figures.current_waiters), (0, 0), "round {round}");
        assert!(lock.try_write().is_some(), "round {round}");
    }
}

/// Timeouts race with grants on a runtime of several threads.
///
/// Then the lock is free and the line empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abort_and_timeout_against_grant() {
    const REQUESTS: u64 = 100_000;
    let lock = Arc::new(AsyncRwLock::new(0_u64, LONG));
    let inside = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..20_u64)
        .map(|task| {
            let (lock, inside) = (Arc::clone(&lock), Arc::clone(&inside));
            tokio::spawn(async move {
                let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (task + 1));
                for _ in 0..REQUESTS / 20 {
                    let timeout = Duration::from_nanos(random.below(300_000));
                    let polls = random.below(4);
                    if random.below(3) == 0 {
                        let request = lock.write_with_custom_timeout(timeout);
                        if let Some(Ok(mut value)) = polled_at_most(request, polls).await {
                            assert!(!inside.swap(true, Ordering::Relaxed), "two writers at the same time");
                            *value += 1;
                            tokio::task::yield_now().await;
                            inside.store(false, Ordering::Relaxed);
                        }
                    } else if let Some(Ok(_reading)) =
                        polled_at_most(lock.read_with_custom_timeout(timeout), polls).await
                    {
                        assert!(!inside.load(Ordering::Relaxed), "a reader beside a writer");
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let figures = lock.stats().figures();
    assert_eq!((figures.current_holders, figures.current_waiters), (0, 0));
    assert_eq!(figures.total_acquisitions, figures.timed_holds);
    assert!(figures.timeout_count > 0 && figures.waited_count > 0, "{figures:?}");
    assert!(lock.try_write().is_some());
}

/// Polls a future until it is ready, or drops it after a number of polls.
///
/// 0 polls it to the end.
async fn polled_at_most<F: Future + Unpin>(mut future: F, polls: u64) -> Option<F::Output> {
    let mut left = polls;
    std::future::poll_fn(|context| match future.poll_unpin(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending if left == 1 => std::task::Poll::Ready(None),
        std::task::Poll::Pending => {
            left = left.saturating_sub(1);
            if left > 0 {
                context.waker().wake_by_ref();
            }
            std::task::Poll::Pending
        }
    })
    .await
}
