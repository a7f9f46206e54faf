//! What locks count: exactly, also under load, across resets and in every mode.

use crate::waiting::{LONG, granted, in_line};
use keylatch_typed::{AsyncMutex, AsyncRwLock, LockFigures, LockOptions, Statistics};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn waits_and_holds_are_measured() {
    let lock = AsyncRwLock::new(0, LONG);
    let began = Instant::now();
    let held = lock.try_write().unwrap();
    let waiting = in_line(lock.read_with_timeout());
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!((lock.stats().current_waiters(), lock.stats().figures().current_holders), (1, 1));
    drop(held);
    drop(granted(waiting));
    let most = began.elapsed();
    let figures = lock.stats().figures();
    let least = Duration::from_micros(19_900);
    assert_eq!((figures.total_acquisitions, figures.waited_count, figures.timed_holds), (2, 1, 2));
    assert!(figures.max_wait_time >= least && figures.max_wait_time <= most, "{figures:?}");
    assert!(figures.max_hold_time >= least && figures.max_hold_time <= most, "{figures:?}");
    assert!(figures.avg_wait_time >= least / 2 && figures.avg_wait_time <= most / 2, "{figures:?}");
    assert!(figures.avg_hold_time >= least / 2 && figures.avg_hold_time <= most, "{figures:?}");
    let stats = lock.stats();
    for (again, before) in [
        (stats.avg_wait_time(), figures.avg_wait_time),
        (stats.max_wait_time(), figures.max_wait_time),
        (stats.avg_hold_time(), figures.avg_hold_time),
        (stats.max_hold_time(), figures.max_hold_time),
    ] {
        // The clock's rate is still being measured.
        assert!(again.abs_diff(before) <= before / 100, "{again:?} {before:?}");
    }
    assert_eq!(stats.timeout_count(), 0);
}

#[test]
fn hold_is_counted_once_across_downgrade() {
    let lock = AsyncRwLock::new(0, LONG);
    drop(lock.try_write().unwrap().downgrade());
    let figures = lock.stats().figures();
    assert_eq!((figures.total_acquisitions, figures.timed_holds, figures.current_holders), (1, 1, 0));
}

#[test]
fn modes_count_the_same_and_time_less() {
    for (statistics, timed) in [(Statistics::Exact, 640), (Statistics::Sampled, 10), (Statistics::Off, 0)] {
        let lock = AsyncRwLock::with_options(0, LockOptions::new(Duration::ZERO).statistics(statistics));
        for turn in 0..640 {
            if turn % 2 == 0 { drop(lock.try_write()) } else { drop(lock.try_read()) }
        }
        let _held = lock.try_write();
        assert!(lock.blocking_read_with_timeout().is_err());
        let figures = lock.stats().figures();
        assert_eq!((figures.total_acquisitions, figures.timeout_count), (641, 1), "{statistics:?}");
        assert_eq!(figures.timed_holds, timed, "{statistics:?}");
        assert_eq!(figures.max_hold_time.is_zero(), timed == 0, "{statistics:?}");
    }
}

#[test]
fn holds_after_a_wait_are_sampled() {
    let mutex = AsyncMutex::with_options(0, LockOptions::new(LONG).statistics(Statistics::Sampled));
    let mut held = mutex.try_lock().unwrap();
    for _ in 1..640 {
        let next = in_line(mutex.lock_with_timeout());
        drop(held);
        held = granted(next);
    }
    drop(held);
    let figures = mutex.stats().figures();
    assert_eq!((figures.total_acquisitions, figures.waited_count, figures.timed_holds), (640, 639, 10));
}

#[test]
fn dropped_wait_is_counted_as_cancelled() {
    let lock = AsyncRwLock::new(0, LONG);
    let held = lock.try_write().unwrap();
    let (waiting, granted_later) = (in_line(lock.read_with_timeout()), in_line(lock.write_with_timeout()));
    std::thread::sleep(Duration::from_millis(20));
    drop(waiting);
    drop(held);
    drop(granted_later);
    let figures = lock.stats().figures();
    assert_eq!((figures.waited_count, figures.cancelled_count, figures.timeout_count), (2, 2, 0));
    assert_eq!((figures.shared_waits.cancelled, figures.exclusive_waits.cancelled), (1, 1));
    let least = Duration::from_micros(19_900);
    assert!(figures.max_wait_time >= least && figures.total_wait_time >= 2 * least, "{figures:?}");
}

#[test]
fn wait_that_goes_on_is_shown() {
    let mutex = AsyncMutex::new(0, LONG);
    let held = mutex.try_lock().unwrap();
    assert_eq!(mutex.stats().figures().oldest_wait_time, Duration::ZERO);
    let (first, second) = (in_line(mutex.lock_with_timeout()), in_line(mutex.lock_with_timeout()));
    std::thread::sleep(Duration::from_millis(20));
    let (figures, least) = (mutex.stats().figures(), Duration::from_micros(19_900));
    for longest in [figures.oldest_wait_time, figures.max_wait_time, figures.recent_max_wait_time] {
        assert!(longest >= least, "{figures:?}");
    }
    drop((held, first, second));
    assert_eq!(mutex.stats().figures().oldest_wait_time, Duration::ZERO);
}

#[test]
fn refusal_is_no_wait() {
    let mutex = AsyncMutex::new(0, Duration::ZERO);
    let _held = mutex.try_lock().unwrap();
    assert!(mutex.blocking_lock_with_timeout().is_err());
    assert!(mutex.blocking_lock_with_custom_timeout(Duration::from_nanos(1)).is_err());
    let figures = mutex.stats().figures();
    assert_eq!((figures.timeout_count, figures.refused_count, figures.waited_count), (2, 1, 1));
}

#[test]
fn longest_is_kept() {
    let lock = AsyncRwLock::new(0, LONG);
    for pause in [Duration::from_millis(20), Duration::ZERO] {
        let held = lock.try_write().unwrap();
        let waiting = in_line(lock.read_with_timeout());
        std::thread::sleep(pause);
        drop(held);
        drop(granted(waiting));
    }
    let (figures, least) = (lock.stats().figures(), Duration::from_micros(19_900));
    assert!(figures.max_wait_time >= least && figures.max_hold_time >= least, "{figures:?}");
}

/// Threads take the lock a known number of times while another resets.
///
/// The periods have to add up to the whole.
#[test]
fn reset_under_load_loses_nothing() {
    const THREADS: u64 = 3;
    const TURNS: u64 = 30_000;
    let lock = AsyncRwLock::new(0, LONG);
    let done = AtomicBool::new(false);
    let mut sums = LockFigures::default();
    let mut add = |period: LockFigures| {
        sums.total_acquisitions += period.total_acquisitions;
        sums.timeout_count += period.timeout_count;
        sums.waited_count += period.waited_count;
        sums.timed_holds += period.timed_holds;
        assert!(period.avg_hold_time <= period.max_hold_time.max(Duration::from_secs(1)));
    };
    let timeouts: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let lock = &lock;
                scope.spawn(move || {
                    let mut timeouts = 0;
                    for turn in 0..TURNS {
                        if turn % 3 == thread {
                            match lock.blocking_write_with_custom_timeout(Duration::ZERO) {
                                Ok(mut value) => *value += 1,
                                Err(_) => timeouts += 1,
                            }
                        } else {
                            drop(lock.blocking_read_with_timeout().unwrap());
                        }
                    }
                    timeouts
                })
            })
            .collect();
        let resetting = scope.spawn(|| {
            let mut periods = Vec::new();
            while !done.load(Ordering::Relaxed) {
                periods.push(lock.stats().reset());
            }
            periods
        });
        let timeouts = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        done.store(true, Ordering::Relaxed);
        resetting.join().unwrap().into_iter().for_each(&mut add);
        timeouts
    });
    add(lock.stats().reset());
    assert_eq!(sums.timeout_count, timeouts);
    assert_eq!(sums.total_acquisitions, THREADS * TURNS - timeouts);
    assert_eq!(sums.timed_holds, THREADS * TURNS - timeouts);
    let mut rest = lock.stats().figures();
    // The window of the recent maxima goes on.
    (rest.recent_max_wait_time, rest.recent_max_hold_time) = (Duration::ZERO, Duration::ZERO);
    assert_eq!(rest, LockFigures::default());
}

#[test]
fn reset_begins_anew() {
    let mutex = AsyncMutex::new(0, Duration::ZERO);
    let held = mutex.try_lock().unwrap();
    assert!(mutex.blocking_lock_with_timeout().is_err());
    mutex.reset_stats();
    let figures = mutex.stats().figures();
    assert_eq!((figures.total_acquisitions, figures.timeout_count, figures.current_holders), (0, 0, 1));
    drop(held);
    // The hold ends in the new period, so it counts there.
    assert_eq!(mutex.stats().figures().timed_holds, 1);
}

#[test]
fn timeout_ratio_is_of_all_requests() {
    assert_eq!(LockFigures::default().timeout_ratio(), 0.0);
    let mutex = AsyncMutex::new(0, Duration::ZERO);
    let _held = mutex.try_lock().unwrap();
    (0..3).for_each(|_| assert!(mutex.blocking_lock_with_timeout().is_err()));
    assert_eq!(mutex.stats().figures().timeout_ratio(), 0.75);
}
