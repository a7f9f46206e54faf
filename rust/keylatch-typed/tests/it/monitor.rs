//! `LockMonitor`: registration, the report's layout and status words, contention, the periodic reporter.

use crate::events;
use crate::waiting::{LONG, granted, in_line};
use keylatch::{FastObjectLockManager, LockRequest};
use keylatch_typed::{AsyncMutex, AsyncRwLock, LockId, LockMonitor, LockOptions, LockStatus, Statistics, StatusLimits};
use std::sync::Arc;
use std::time::Duration;
use tracing::Level;

const SHORT: Duration = Duration::from_millis(1);

/// Returns the report with everything measured or dated replaced by `_`.
fn shape(report: &impl ToString) -> String {
    let mut shape = String::new();
    for line in report.to_string().lines() {
        let kept = match line.split_once(": ") {
            Some((label, _)) if line.starts_with("Generated at") || label.ends_with("time") => format!("{label}: _"),
            _ => line.to_string(),
        };
        shape.push_str(&kept);
        shape.push('\n');
    }
    shape
}

#[test]
fn report_has_the_layout() {
    let monitor = LockMonitor::new();
    let data = AsyncRwLock::new(1, SHORT);
    let skills = AsyncMutex::new(1, SHORT);
    monitor.register_lock(LockId::new("memory/service.rs", "data"), data.stats().clone());
    monitor.register_lock(LockId::new("skill/manager.rs", "skills"), skills.stats().clone());
    drop(skills.try_lock().unwrap());
    (0..127).for_each(|_| drop(data.try_read().unwrap()));
    let held = data.try_write().unwrap();
    assert!(data.blocking_read_with_timeout().is_err());
    drop(held);
    let report = monitor.generate_report();
    let expected = "\
=== Lock Performance Report ===
Generated at: _

Lock: memory/service.rs:data
  Total acquisitions: 128
  Timeouts: 1 (0.78%)
  Avg wait time: _
  Max wait time: _
  Avg hold time: _
  Max hold time: _
  Current waiters: 0
  Status: ⚠️  High contention detected

Lock: skill/manager.rs:skills
  Total acquisitions: 1
  Timeouts: 0 (0.00%)
  Avg wait time: _
  Max wait time: _
  Avg hold time: _
  Max hold time: _
  Current waiters: 0
  Status: ✅ Healthy

Summary:
  Total locks: 2
  Total acquisitions: 129
  Total timeouts: 1
  Critical locks: 0
";
    assert_eq!(shape(&report), expected);
    let date = report.to_string().lines().nth(1).unwrap().to_string();
    assert_eq!(date.len(), "Generated at: 2026-02-12 10:30:00".len(), "{date}");
}

#[test]
fn report_of_nothing_has_a_summary() {
    let report = LockMonitor::new().generate_report();
    assert!(report.to_string().ends_with(
        "\n\nSummary:\n  Total locks: 0\n  Total acquisitions: 0\n  Total timeouts: 0\n  Critical locks: 0"
    ));
}

#[test]
fn contention_is_judged_by_limits() {
    let monitor = LockMonitor::new();
    let calm = AsyncMutex::new(1, SHORT);
    let busy = AsyncMutex::new(1, SHORT);
    let (calm_id, busy_id) = (LockId::new("a", "calm"), LockId::new("a", "busy"));
    monitor.register_lock(calm_id.clone(), calm.stats().clone());
    monitor.register_lock(busy_id.clone(), busy.stats().clone());
    let held = busy.try_lock().unwrap();
    assert!(busy.blocking_lock_with_timeout().is_err());
    drop((held, calm.try_lock()));
    assert_eq!(monitor.detect_contention(SHORT), [busy_id]);
    assert_eq!(monitor.detect_contention(Duration::from_secs(3600)), []);
    assert_eq!(monitor.detect_contention(Duration::ZERO).len(), 2);
    let statuses = |limits: &StatusLimits| {
        let report = monitor.generate_report_with(limits);
        (report.locks[0].status, report.locks[1].status, report.summary.critical_locks)
    };
    assert_eq!(statuses(&StatusLimits::default()), (LockStatus::Healthy, LockStatus::Critical, 1));
    let mut limits = StatusLimits { critical_timeout_ratio: 0.9, critical_wait: LONG, ..StatusLimits::default() };
    assert_eq!(statuses(&limits), (LockStatus::Healthy, LockStatus::HighContention, 0));
    limits.critical_wait = SHORT;
    assert_eq!(statuses(&limits), (LockStatus::Healthy, LockStatus::Critical, 1));
    monitor.reset_stats();
    assert_eq!(monitor.detect_contention(SHORT), []);
    assert_eq!(statuses(&limits), (LockStatus::Healthy, LockStatus::Healthy, 0));
}

#[test]
fn locks_with_one_id_are_all_reported() {
    let monitor = LockMonitor::new();
    let id = LockId::new("cache.rs", "shard");
    let [first, second] = [1, 2].map(|value| AsyncMutex::new(value, LONG));
    monitor.register_lock(id.clone(), first.stats().clone());
    monitor.register_lock(id.clone(), second.stats().clone());
    monitor.register_lock(id.clone(), first.stats().clone());
    drop(second.try_lock());
    let text = monitor.generate_report().to_string();
    assert!(text.contains("Lock: cache.rs:shard\n") && text.contains("Lock: cache.rs:shard #2\n"), "{text}");
    assert!(text.contains("Total locks: 2\n"), "the same lock counts once: {text}");
    assert!(Arc::ptr_eq(&monitor.get_stats(&id).unwrap(), second.stats()));
    assert_eq!((monitor.unregister(&id), monitor.unregister(&id)), (2, 0));
    assert!(monitor.get_stats(&id).is_none());
}

#[test]
fn openmetrics_has_holds_and_waits_of_late() {
    let monitor = LockMonitor::new();
    let lock = AsyncRwLock::new(1, SHORT);
    let id = LockId::new("cache.rs", "lru");
    monitor.register_lock(id.clone(), lock.stats().clone());
    let held = lock.try_write().unwrap();
    assert!(lock.blocking_read_with_timeout().is_err());
    let waiting = in_line(lock.read_with_custom_timeout(LONG));
    assert_eq!(lock.cancel_waiters(), 1);
    drop((held, waiting));
    let (held, waiting) = (lock.try_read().unwrap(), in_line(lock.write_with_custom_timeout(LONG)));
    drop(held);
    drop(granted(waiting));
    let figures = monitor.get_stats(&id).unwrap().figures();
    let (shared, exclusive) = (figures.shared_waits, figures.exclusive_waits);
    assert_eq!((shared.granted, shared.timed_out, shared.cancelled), (0, 1, 1));
    assert_eq!((exclusive.granted, exclusive.timed_out, exclusive.cancelled), (1, 0, 0));
    assert_eq!(
        (figures.recent_max_wait_time, figures.recent_max_hold_time),
        (figures.max_wait_time, figures.max_hold_time)
    );
    monitor.reset_stats();
    let after = lock.stats().figures();
    assert_eq!((after.max_hold_time, after.shared_waits.timed_out), (Duration::ZERO, 0));
    assert!(after.recent_max_hold_time >= figures.max_hold_time / 2, "the window goes on: {after:?}");
    let text = monitor.to_openmetrics();
    for sample in [
        "keylatch_lock_waits_ended_total{lock=\"cache.rs:lru\",mode=\"shared\",outcome=\"timeout\"} 1\n",
        "keylatch_lock_hold_seconds_count{lock=\"cache.rs:lru\"} 3\n",
        "keylatch_lock_hold_seconds_bucket{lock=\"cache.rs:lru\",le=\"8.388608\"} 3\n",
        "keylatch_build_info{version=",
    ] {
        assert!(text.contains(sample), "{sample}{text}");
    }
    let all_short = "keylatch_lock_hold_seconds_bucket{lock=\"cache.rs:lru\",le=\"0.000002\"} 3\n";
    assert!(!text.contains(all_short), "one was held until the reader gave up");
}

#[test]
fn holds_are_sorted_from_the_registration_on() {
    for statistics in [Statistics::Exact, Statistics::Sampled] {
        let (monitor, options) = (LockMonitor::new(), LockOptions::new(LONG).statistics(statistics));
        let mutex = AsyncMutex::with_options(1, options);
        (0..128).for_each(|_| drop(mutex.try_lock()));
        monitor.register_lock(LockId::new("cache.rs", "lru"), mutex.stats().clone());
        let held = mutex.try_lock();
        drop(held);
        (1..64).for_each(|_| drop(mutex.try_lock()));
        let timed = if statistics == Statistics::Exact { 64 } else { 1 };
        let (text, count) =
            (monitor.to_openmetrics(), format!("hold_seconds_count{{lock=\"cache.rs:lru\"}} {timed}\n"));
        assert!(text.contains(&count), "{count}{text}");
    }
}

#[test]
fn dropped_lock_leaves_the_report() {
    let monitor = LockMonitor::new();
    let (kept, dropped) = (AsyncMutex::new(1, LONG), AsyncMutex::new(2, LONG));
    monitor.register_lock(LockId::new("a", "dropped"), dropped.stats().clone());
    monitor.register_lock(LockId::new("a", "kept"), kept.stats().clone());
    drop(dropped);
    assert_eq!(monitor.generate_report().locks.len(), 1);
    assert!(monitor.get_stats(&LockId::new("a", "dropped")).is_none());
    assert!(Arc::ptr_eq(&monitor.get_stats(&LockId::new("a", "kept")).unwrap(), kept.stats()));
}

#[test]
fn dropped_lock_leaves_every_monitor() {
    let monitors = [(); 2].map(|()| LockMonitor::new());
    let (lock, stats) = (AsyncRwLock::new(1, LONG), AsyncMutex::new(1, LONG).stats().clone());
    for monitor in &monitors {
        for name in ["first", "second"] {
            monitor.register_lock(LockId::new("a", name), lock.stats().clone());
        }
        // Of a lock that is gone already, kept by the program.
        monitor.register_lock(LockId::new("a", "gone"), stats.clone());
    }
    assert_eq!(monitors.each_ref().map(|monitor| monitor.generate_report().locks.len()), [2, 2]);
    drop(lock);
    assert_eq!(monitors.each_ref().map(|monitor| monitor.generate_report().locks.len()), [0, 0]);
}

#[test]
fn monitor_without_reports_forgets_dropped_locks() {
    let monitor = LockMonitor::new();
    let kept = AsyncMutex::new(1, LONG);
    monitor.register_lock(LockId::new("a", "kept"), kept.stats().clone());
    for number in 0..10_000 {
        monitor.register_lock(LockId::new("a", &number.to_string()), AsyncMutex::new(1, LONG).stats().clone());
    }
    let shown = format!("{monitor:?}");
    let locks: usize = shown["LockMonitor { locks: ".len()..shown.find(',').unwrap()].parse().unwrap();
    assert!(locks <= 65, "{shown}");
    assert!(monitor.get_stats(&LockId::new("a", "kept")).is_some());
}

#[test]
fn numbers_stay_with_their_locks() {
    let monitor = LockMonitor::new();
    let id = LockId::new("cache.rs", "shard");
    let [first, second, third] = [1, 2, 3].map(|value| AsyncMutex::new(value, LONG));
    for lock in [&first, &second] {
        monitor.register_lock(id.clone(), lock.stats().clone());
    }
    drop(first);
    let numbers = || monitor.generate_report().locks.iter().map(|lock| lock.number).collect::<Vec<_>>();
    assert_eq!(numbers(), [2]);
    monitor.register_lock(id.clone(), third.stats().clone());
    assert_eq!(numbers(), [2, 3]);
    drop((second, third));
}

#[test]
fn registered_lock_takes_the_id() {
    let (monitor, id) = (LockMonitor::new(), LockId::new("cache.rs", "lru"));
    let [plain, named] = [None, Some(LockId::new("own", "id"))].map(|id| {
        let options = LockOptions::new(SHORT);
        AsyncMutex::with_options(1, id.map_or(options.clone(), |id| options.id(id)))
    });
    for lock in [&plain, &named] {
        monitor.register_lock(id.clone(), lock.stats().clone());
    }
    monitor.register_lock(LockId::new("cache.rs", "again"), plain.stats().clone());
    let blamed = [&plain, &named].map(|lock| {
        let _held = lock.try_lock();
        lock.blocking_lock_with_timeout().unwrap_err().details().unwrap().id.clone()
    });
    assert_eq!(blamed, [id, LockId::new("own", "id")]);
}

/// The holder hangs, and no wait ends.
#[test]
fn stuck_lock_is_contended() {
    let monitor = LockMonitor::new();
    let (id, lock) = (LockId::new("a", "stuck"), AsyncMutex::new(1, Duration::MAX));
    monitor.register_lock(id.clone(), lock.stats().clone());
    let _held = lock.try_lock();
    let _waiting = in_line(lock.lock_with_timeout());
    let threshold = Duration::from_millis(5);
    std::thread::sleep(threshold);
    assert_eq!(monitor.detect_contention(threshold), [id]);
    let limits = StatusLimits { long_wait: threshold, critical_wait: LONG, ..StatusLimits::default() };
    assert_eq!(monitor.generate_report_with(&limits).locks[0].status, LockStatus::HighContention);
    let text = monitor.to_openmetrics();
    assert!(text.contains("keylatch_lock_oldest_wait_seconds{lock=\"a:stuck\"} 0.0"), "{text}");
}

#[test]
fn id_cannot_forge_lines() {
    let monitor = LockMonitor::new();
    let lock = AsyncMutex::new(1, LONG);
    let forged = LockId::new("x\nLock: admin", "\u{1b}[2Jdata\r\n  Status: fine\u{202e}");
    monitor.register_lock(forged.clone(), lock.stats().clone());
    let text = monitor.generate_report().to_string();
    assert_eq!(text.matches("Lock: ").count(), 2, "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("Lock: ")).count(), 1);
    assert_eq!(text.lines().filter(|line| line.starts_with("  Status: ")).count(), 1);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}') && !text.contains('\r'));
    assert!(monitor.get_stats(&forged).is_some());
}

#[test]
fn manager_reports_its_hottest_keys() {
    let monitor = LockMonitor::new();
    let manager = Arc::new(FastObjectLockManager::new());
    let id = LockId::new("store", "objects");
    monitor.register_manager(id.clone(), Arc::clone(&manager));
    monitor.register_manager(id.clone(), Arc::clone(&manager));
    let _held = manager.acquire_write_lock_blocking("photos", "dog.jpg", "indexer\n").unwrap();
    let queue = manager.completion_queue().unwrap();
    let waiting = manager.lock(LockRequest::read(("photos", "dog.jpg")).owner("viewer")).with_queue(&queue, 1).unwrap();
    let report = monitor.generate_report();
    assert_eq!((report.managers.len(), report.managers[0].hottest_keys.len()), (1, 1));
    let text = report.to_string();
    assert!(text.contains("Manager: store:objects\n  Total acquisitions: 1\n"), "{text}");
    assert!(
        text.contains(
            "  Current waiters: 1\n  Current holders: 1\n  Hottest keys:\n    photos/dog.jpg: 1 waiting, the first for "
        ),
        "{text}"
    );
    assert!(text.contains(", held by indexer\\u{a} for "), "{text}");
    drop(waiting);
    assert_eq!(monitor.unregister(&id), 1);
}

#[test]
fn log_report_warns_of_contention() {
    let monitor = LockMonitor::new();
    let lock = AsyncMutex::with_id(1, SHORT, LockId::new("a", "b"));
    monitor.register_lock(lock.stats().id(), lock.stats().clone());
    let calm = events::of(|| monitor.log_report());
    assert_eq!(calm.iter().map(|(level, _)| *level).collect::<Vec<_>>(), [Level::INFO]);
    assert!(calm[0].1.contains("Lock: a:b"), "{calm:?}");
    let contended = events::of(|| {
        let _held = lock.try_lock().unwrap();
        assert!(lock.blocking_lock_with_timeout().is_err());
        monitor.log_report();
    });
    assert_eq!(contended.iter().map(|(level, _)| *level).collect::<Vec<_>>(), [Level::WARN, Level::WARN]);
    let timeout = &contended[0].1;
    for part in [
        "lock acquisition timed out",
        "lock=a:b",
        "kind=Mutex",
        "timeout=1ms",
        "waited=",
        "held exclusively",
        "place=1",
        file!(),
    ] {
        assert!(timeout.contains(part), "{part}: {timeout}");
    }
}

#[test]
fn log_report_forgets_trouble_that_is_over() {
    let (monitor, lock) = (LockMonitor::new(), AsyncMutex::new(1, SHORT));
    let trouble = || {
        let _held = lock.try_lock();
        assert!(lock.blocking_lock_with_custom_timeout(Duration::ZERO).is_err());
    };
    trouble();
    monitor.register_lock(LockId::new("a", "b"), lock.stats().clone());
    let log = || events::of(|| monitor.log_report()).into_iter().map(|(level, _)| level).collect::<Vec<_>>();
    assert_eq!(log(), [Level::INFO], "what was before the registration");
    trouble();
    assert_eq!([log(), log(), log()].concat(), [Level::WARN, Level::INFO, Level::INFO]);
    assert_eq!(monitor.generate_report().locks[0].status, LockStatus::Critical, "since the reset");
}

#[test]
fn reporter_reports_until_dropped() {
    let (monitor, kept) = (LockMonitor::new(), Arc::new(AsyncMutex::new(1, SHORT)));
    monitor.register_lock(LockId::new("a", "b"), kept.stats().clone());
    let reporter = monitor.report_every(Duration::ZERO, LONG).unwrap();
    // A report removes locks that are gone: that it happens shows that one was made.
    let weak = Arc::downgrade(kept.stats());
    drop(kept);
    while weak.upgrade().is_some() {
        std::thread::yield_now();
    }
    drop(reporter);
    drop(monitor.report_every(Duration::MAX, LONG).unwrap());
}
