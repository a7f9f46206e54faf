//! Programs as engines write them, against the public names alone.
//!
//! It says nothing that only one of this crate and the published `rustfs-lock` promises.

use rustfs_lock::fast_lock::guard::MultipleLockGuards;
use rustfs_lock::fast_lock::metrics::{GlobalMetrics, MetricsSnapshot, ShardMetrics};
use rustfs_lock::fast_lock::{
    CLEANUP_INTERVAL, DEFAULT_ACQUIRE_TIMEOUT, DEFAULT_LOCK_REFRESH_INTERVAL, DEFAULT_LOCK_TIMEOUT,
    DEFAULT_SHARD_COUNT, LockConfig, LockPriority, MAX_ACQUIRE_TIMEOUT, OptimizedObjectKey,
};
use rustfs_lock::{
    AggregatedMetrics, BatchLockRequest, BatchLockResult, DisabledLockManager, FastLockGuard, FastObjectLockManager,
    GlobalLockManager, LockError, LockManager, LockMode, LockResult, ObjectKey, ObjectLockInfo, ObjectLockRequest,
};
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(20);

fn cat() -> ObjectKey {
    ObjectKey::new("photos", "cat.jpg")
}

fn write(key: ObjectKey, owner: &str) -> ObjectLockRequest {
    ObjectLockRequest::new_write(key, owner).with_acquire_timeout(SOON)
}

fn read(key: ObjectKey, owner: &str) -> ObjectLockRequest {
    ObjectLockRequest::new_read(key, owner).with_acquire_timeout(SOON)
}

/// What an engine keeps.
struct Disks {
    locks: Arc<FastObjectLockManager>,
    owner: Arc<str>,
}

impl Disks {
    async fn put(&self, bucket: &str, object: &str) -> Result<FastLockGuard, LockResult> {
        self.locks.acquire_write_lock(ObjectKey::new(bucket, object), self.owner.clone()).await
    }

    async fn delete_all(&self, bucket: &str, objects: &[&str]) -> BatchLockResult {
        let batch = objects.iter().fold(BatchLockRequest::new(self.owner.clone()), |batch, object| {
            batch.add_write_lock(ObjectKey::new(bucket, *object))
        });
        self.locks.acquire_locks_batch(batch).await
    }
}

fn disks() -> Disks {
    Disks { locks: Arc::new(FastObjectLockManager::new()), owner: "node-7".into() }
}

#[test]
fn key_has_parts_order_text_and_json() {
    let (latest, versioned) = (cat(), ObjectKey::with_version("photos", "cat.jpg", "v1"));
    let ObjectKey { bucket, object, version } = versioned.clone();
    assert_eq!((&*bucket, &*object, version.as_deref()), ("photos", "cat.jpg", Some("v1")));
    assert_eq!(
        (latest.to_string(), versioned.to_string()),
        ("photos/cat.jpg@latest".into(), "photos/cat.jpg@v1".into())
    );
    assert!(latest < versioned && versioned.as_latest() == latest);
    assert!(latest.shard_index(1023) < 1024 && latest.shard_index(1023) == cat().shard_index(1023));
    let json = serde_json::to_string(&versioned).unwrap();
    assert_eq!(json, r#"{"bucket":"photos","object":"cat.jpg","version":"v1"}"#);
    assert_eq!(serde_json::from_str::<ObjectKey>(&json).unwrap(), versioned);
    assert_eq!(serde_json::from_str::<ObjectKey>(r#"{"bucket":"photos","object":"cat.jpg"}"#).unwrap(), latest);
    assert!(serde_json::from_str::<ObjectKey>(r#"{"bucket":"photos"}"#).is_err());
}

#[test]
fn compact_key_is_the_same_key() {
    let mut compact = OptimizedObjectKey::from_object_key(&ObjectKey::with_version("photos", "cat.jpg", "v1"));
    assert_eq!(compact, OptimizedObjectKey::with_version("photos", "cat.jpg", "v1"));
    assert_eq!(compact.to_object_key().to_string(), "photos/cat.jpg@v1");
    let index = compact.shard_index(7);
    compact.object = "dog.jpg".into();
    compact.invalidate_cache();
    assert!(index < 8 && compact > OptimizedObjectKey::new("photos", "cat.jpg"));
}

#[test]
fn constants_and_settings_are_public() {
    let LockConfig {
        shard_count,
        default_lock_timeout,
        default_acquire_timeout,
        cleanup_interval,
        max_idle_time,
        enable_metrics,
    } = LockConfig::default();
    assert_eq!((shard_count, enable_metrics, max_idle_time), (DEFAULT_SHARD_COUNT, true, Duration::from_secs(300)));
    assert_eq!((default_lock_timeout, default_acquire_timeout), (DEFAULT_LOCK_TIMEOUT, DEFAULT_ACQUIRE_TIMEOUT));
    assert_eq!((cleanup_interval, MAX_ACQUIRE_TIMEOUT), (CLEANUP_INTERVAL, Duration::from_secs(60)));
    assert_eq!(DEFAULT_LOCK_REFRESH_INTERVAL, Duration::from_secs(10));
    assert_eq!([LockPriority::Low as u8, LockPriority::default() as u8, LockPriority::Critical as u8], [1, 2, 4]);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let settings = |shard_count| LockConfig { shard_count, ..LockConfig::default() };
    for wrong in [0, 3, 1000] {
        let refused = FastObjectLockManager::try_with_config(settings(wrong));
        assert!(matches!(refused, Err(LockError::Configuration { .. })), "{wrong}");
        assert_eq!(FastObjectLockManager::with_config(settings(wrong)).shards.len(), DEFAULT_SHARD_COUNT);
    }
    assert_eq!(FastObjectLockManager::try_with_config(settings(4)).unwrap().shards.len(), 4);
}

#[tokio::test]
async fn guard_knows_its_lock_and_releases_once() {
    let disks = disks();
    let mut guard = disks.put("photos", "cat.jpg").await.unwrap();
    assert_eq!((guard.key(), guard.mode(), &**guard.owner()), (&cat(), LockMode::Exclusive, "node-7"));
    let ObjectLockInfo { key, mode, owner, acquired_at, expires_at, priority } = guard.lock_info().unwrap();
    assert_eq!((key, mode, &*owner, priority), (cat(), LockMode::Exclusive, "node-7", LockPriority::Normal));
    assert_eq!(expires_at.duration_since(acquired_at).unwrap(), DEFAULT_LOCK_TIMEOUT);
    assert!(acquired_at.elapsed().unwrap() < Duration::from_secs(60));
    assert!(!guard.is_released() && !guard.is_disabled());
    assert!(guard.release() && guard.is_released() && !guard.release());
    assert!(guard.lock_info().is_none() && disks.locks.get_lock_info(&cat()).is_none());
}

#[tokio::test]
async fn writers_exclude_all_and_readers_writers() {
    let locks = FastObjectLockManager::new();
    let writer = locks.acquire_write_lock(cat(), "a").await.unwrap();
    assert!(matches!(locks.acquire_lock(write(cat(), "b")).await, Err(LockResult::Timeout)));
    assert!(matches!(locks.acquire_lock(read(cat(), "b")).await, Err(LockResult::Timeout)));
    // A label is no session: the same owner waits for itself.
    assert!(matches!(locks.acquire_lock(write(cat(), "a")).await, Err(LockResult::Timeout)));
    let version = locks.acquire_lock(write(cat(), "b").with_version("v1")).await.unwrap();
    drop((writer, version));
    let first = locks.acquire_read_lock(cat(), "a").await.unwrap();
    let second = locks.acquire_lock(read(cat(), "b")).await.unwrap();
    assert_ne!(first.guard_id(), second.guard_id());
    assert!(matches!(locks.acquire_lock(write(cat(), "c")).await, Err(LockResult::Timeout)));
    drop((first, second));
    assert!(locks.acquire_lock(write(cat(), "c")).await.is_ok());
    assert_eq!(locks.get_metrics().shard_metrics.timeouts, 4);
}

#[tokio::test]
async fn waiter_gets_the_lock_on_release() {
    let locks = Arc::new(FastObjectLockManager::new());
    let writer = locks.acquire_write_lock(cat(), "a").await.unwrap();
    let (handle, (waits, is_waiting)) = (Arc::clone(&locks), tokio::sync::oneshot::channel());
    let waiter = tokio::spawn(async move {
        waits.send(()).unwrap();
        handle.acquire_critical_write_lock(cat(), "b").await.map(|guard| guard.owner().clone())
    });
    is_waiting.await.unwrap();
    drop(writer);
    assert_eq!(&*waiter.await.unwrap().unwrap(), "b");
}

#[tokio::test]
async fn priorities_are_verbs_of_their_own() {
    let locks = FastObjectLockManager::new();
    drop(locks.acquire_high_priority_read_lock(cat(), "a").await.unwrap());
    drop(locks.acquire_high_priority_write_lock(cat(), "a").await.unwrap());
    drop(locks.acquire_critical_read_lock(cat(), "a").await.unwrap());
    drop(locks.acquire_critical_write_lock(cat(), "a").await.unwrap());
    let request = write(cat(), "a").with_priority(LockPriority::Low).with_lock_timeout(Duration::from_secs(7));
    let guard = locks.acquire_lock(request).await.unwrap();
    let info = guard.lock_info().unwrap();
    assert_eq!(info.expires_at.duration_since(info.acquired_at).unwrap(), Duration::from_secs(7));
}

#[tokio::test]
async fn batch_is_all_or_nothing_or_best_effort() {
    let disks = disks();
    let all = disks.delete_all("photos", &["c", "a", "b"]).await;
    assert!(all.all_acquired && all.failed_locks.is_empty());
    assert_eq!((all.successful_locks.len(), all.guards.len()), (3, 3));

    let second = |all_or_nothing| {
        let mut batch = BatchLockRequest::new("b").with_all_or_nothing(all_or_nothing);
        batch.requests.push(write(ObjectKey::new("photos", "b"), "b"));
        batch.requests.push(read(ObjectKey::new("photos", "d"), "b"));
        disks.locks.acquire_locks_batch(batch)
    };
    let none = second(true).await;
    assert!(!none.all_acquired && none.guards.is_empty() && none.successful_locks.is_empty());
    assert!(matches!(&none.failed_locks[..], [(key, LockResult::Timeout)] if &*key.object == "b"));
    let some = second(false).await;
    assert_eq!((some.all_acquired, some.guards.len(), some.failed_locks.len()), (false, 1, 1));
    drop((all, some));
    assert!(second(true).await.all_acquired);
}

#[tokio::test]
async fn guards_are_kept_together() {
    let locks = FastObjectLockManager::new();
    let mut guards = MultipleLockGuards::new();
    assert!(guards.is_empty());
    guards.add(locks.acquire_read_lock(ObjectKey::new("photos", "a"), "x").await.unwrap());
    guards.merge(MultipleLockGuards::from(locks.acquire_write_lock(ObjectKey::new("photos", "b"), "y").await.unwrap()));
    guards.merge_guards(vec![locks.acquire_write_lock(ObjectKey::new("logs", "c"), "x").await.unwrap()]);
    assert_eq!((guards.len(), guards.active_count(), guards.keys().len()), (3, 3, 3));
    assert_eq!((guards.guards_for_bucket("photos").len(), guards.guards_for_owner("x").len()), (2, 2));
    let (shared, exclusive) = guards.split_by_mode_ref();
    assert_eq!((shared.len(), exclusive.len()), (1, 2));
    assert!(guards.iter_mut().next().unwrap().release());
    assert_eq!((guards.active_count(), (&guards).into_iter().count()), (2, 3));
    let (shared, exclusive) = guards.split_by_mode();
    drop(shared);
    let logs = MultipleLockGuards::from(exclusive).filter_owned(|guard| &*guard.key().bucket == "logs");
    assert_eq!(logs.len(), 1);
    // The other one is released.
    assert!(locks.acquire_lock(write(ObjectKey::new("photos", "b"), "z")).await.is_ok());
    let mut logs = MultipleLockGuards::from(logs);
    assert_eq!((logs.release_all(), logs.release_all(), logs.active_count()), (1, 0, 0));
}

#[tokio::test]
async fn figures_count_what_happened() {
    let locks = FastObjectLockManager::new();
    for _ in 0..100 {
        drop(locks.acquire_write_lock(cat(), "a").await.unwrap());
    }
    let metrics: AggregatedMetrics = locks.get_metrics();
    let all: &MetricsSnapshot = &metrics.shard_metrics;
    assert_eq!((all.total_acquisitions(), all.fast_path_success, all.releases, all.timeouts), (100, 100, 100, 0));
    assert_eq!((all.fast_path_rate(), all.timeout_rate()), (1.0, 0.0));
    assert_eq!((all.avg_wait_time(), all.max_wait_time()), (Duration::ZERO, Duration::ZERO));
    assert!(metrics.is_healthy() && !metrics.is_empty() && metrics.ops_per_second() > 0.0);
    assert_eq!(metrics.shard_count, DEFAULT_SHARD_COUNT);
    assert!(metrics.avg_locks_per_shard() > 0.0);
}

#[test]
fn figures_are_public_types() {
    let shard = ShardMetrics::new();
    shard.record_fast_path_success();
    shard.record_slow_path_success();
    shard.record_timeout();
    shard.record_release();
    shard.record_cleanup(3);
    shard.record_wait_time(Duration::from_nanos(40));
    assert_eq!((shard.total_acquisitions(), shard.fast_path_rate(), shard.avg_wait_time_ns()), (2, 0.5, 40.0));
    let all = GlobalMetrics::new(2);
    all.record_cleanup_run(5);
    let sum = all.aggregate_shard_metrics(&[shard.snapshot(), shard.snapshot()]);
    assert_eq!((sum.shard_metrics.fast_path_success, sum.shard_metrics.cleanups), (2, 6));
    assert_eq!((sum.cleanup_runs, sum.total_objects_cleaned, sum.shard_metrics.max_wait_time_ns), (1, 5, 40));
    assert!(all.uptime() >= Duration::ZERO && AggregatedMetrics::empty().is_empty());
}

#[tokio::test]
async fn administrator_lists_and_takes_locks() {
    let locks = FastObjectLockManager::new();
    let reader = locks.acquire_read_lock(cat(), "r").await.unwrap();
    let again = locks.acquire_read_lock(cat(), "r").await.unwrap();
    let other = locks.acquire_read_lock(cat(), "s").await.unwrap();
    let dog = ObjectKey::new("photos", "dog.jpg");
    let mut writer = locks.acquire_write_lock(dog.clone(), "w").await.unwrap();
    assert_eq!((locks.list_locks().len(), locks.total_lock_count(), locks.current_lock_counts()), (3, 2, (4, 0)));
    let counts = locks.list_locks_with_holder_counts();
    let of = |owner: &str| counts.iter().find(|(info, _)| &*info.owner == owner).unwrap().1;
    assert_eq!((of("r"), of("s"), of("w")), (2, 1, 1));
    let mut ids = vec![reader.guard_id(), again.guard_id()];
    ids.sort_unstable();
    let listed = locks.list_locks_with_holder_generations();
    assert!(
        listed.iter().any(|(info, count, found)| &*info.owner == "r" && *count == 2 && found.as_ref() == Some(&ids))
    );
    assert_eq!((locks.force_unlock(&dog), locks.force_unlock(&ObjectKey::new("no", "such"))), (1, 0));
    let next = locks.acquire_lock(write(dog.clone(), "x")).await.unwrap();
    assert!(!writer.release() && !writer.is_released());
    drop(writer);
    assert_eq!(&*locks.get_lock_info(&dog).unwrap().owner, "x");
    drop((reader, again, other, next));
    assert_eq!((locks.list_locks().len(), locks.current_lock_counts()), (0, (0, 0)));
}

#[tokio::test]
async fn clean_up_and_shutdown_end_nothing() {
    let locks = FastObjectLockManager::new();
    let guard = locks.acquire_write_lock(cat(), "a").await.unwrap();
    assert_eq!((locks.cleanup_expired().await, locks.cleanup_expired_traditional().await), (0, 0));
    locks.shutdown().await;
    assert!(locks.clone().acquire_lock(write(cat(), "b")).await.is_err());
    drop(guard);
    assert!(locks.acquire_lock(write(cat(), "b")).await.is_ok());
    assert!(locks.get_metrics().cleanup_runs >= 3 && !locks.get_pool_stats().is_empty());
}

/// Runs a program against whatever manager it is given.
async fn copy(locks: &impl LockManager) -> (usize, bool) {
    let reader = locks.acquire_read_lock(cat(), "c").await.unwrap();
    let target = locks.acquire_lock(ObjectLockRequest::new_write(cat().as_latest(), "c").with_version("v2")).await;
    let batch = BatchLockRequest::new("c").add_read_lock(ObjectKey::new("logs", "today"));
    let logs = locks.acquire_locks_batch(batch).await;
    let held = locks.total_lock_count();
    assert!(logs.all_acquired && locks.get_lock_info(reader.key()).is_some() != locks.is_disabled());
    locks.cleanup_expired().await;
    locks.shutdown().await;
    drop(locks.acquire_write_lock(ObjectKey::new("logs", "now"), "c").await.unwrap());
    assert_eq!(locks.get_metrics().is_empty(), locks.is_disabled());
    assert_eq!(locks.get_pool_stats().is_empty(), locks.is_disabled());
    (held, target.unwrap().is_disabled())
}

#[tokio::test]
async fn program_runs_with_any_manager() {
    assert_eq!(copy(&FastObjectLockManager::default()).await, (3, false));
    assert_eq!(copy(&DisabledLockManager::new()).await, (0, true));
    assert_eq!(copy(&DisabledLockManager::with_config(LockConfig::default())).await, (0, true));
    let enabled = GlobalLockManager::Enabled(Arc::new(FastObjectLockManager::new()));
    assert!(enabled.as_fast_lock_manager().is_some());
    assert_eq!(copy(&enabled).await, (3, false));
    let disabled = GlobalLockManager::Disabled(DisabledLockManager::new());
    assert!(disabled.as_fast_lock_manager().is_none() && disabled.is_disabled());
    assert_eq!(copy(&disabled).await, (0, true));
}

#[tokio::test]
async fn disabled_guard_releases_once() {
    let mut guard = DisabledLockManager::default().acquire_write_lock(cat(), "a").await.unwrap();
    assert!(guard.is_disabled() && guard.lock_info().is_none());
    assert!(guard.release() && !guard.release() && guard.is_released());
}
