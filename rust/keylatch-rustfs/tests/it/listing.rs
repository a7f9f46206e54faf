//! What listings and guards tell beyond what the published crate promises.

use keylatch_rustfs::fast_lock::{LockConfig, LockPriority};
use keylatch_rustfs::{FastObjectLockManager, LockResult, ObjectKey, ObjectLockRequest};
use std::time::{Duration, SystemTime};

fn key(object: &str) -> ObjectKey {
    ObjectKey::new("b", object)
}

#[tokio::test]
async fn listing_tells_the_time_of_each_acquisition() {
    let locks = FastObjectLockManager::new();
    let before = SystemTime::now();
    let guard = locks.acquire_write_lock(key("1"), "a").await.unwrap();
    let after = SystemTime::now();
    let [info] = &locks.list_locks()[..] else { panic!("one lock is held") };
    assert!(before <= info.acquired_at && info.acquired_at <= after);
    assert_eq!(Some(info.acquired_at), guard.lock_info().map(|info| info.acquired_at));
}

#[tokio::test]
async fn listing_tells_timeout_and_priority() {
    let locks = FastObjectLockManager::new();
    let request = ObjectLockRequest::new_read(key("1"), "a").with_priority(LockPriority::Critical);
    let _guard = locks.acquire_lock(request.with_lock_timeout(Duration::from_secs(3))).await.unwrap();
    let info = locks.get_lock_info(&key("1")).unwrap();
    assert_eq!(info.priority, LockPriority::Critical);
    assert_eq!(info.expires_at, info.acquired_at + Duration::from_secs(3));
}

#[tokio::test]
async fn reader_that_came_first_describes_the_key() {
    let locks = FastObjectLockManager::new();
    let first = locks.acquire_read_lock(key("1"), "first").await.unwrap();
    let _second = locks.acquire_read_lock(key("1"), "second").await.unwrap();
    assert_eq!(&*locks.get_lock_info(&key("1")).unwrap().owner, "first");
    drop(first);
    assert_eq!(&*locks.get_lock_info(&key("1")).unwrap().owner, "second");
}

#[tokio::test]
async fn settings_serve_verbs_without_a_request() {
    let config = LockConfig {
        default_acquire_timeout: Duration::from_millis(5),
        default_lock_timeout: Duration::from_secs(4),
        ..LockConfig::default()
    };
    let locks = FastObjectLockManager::with_config(config);
    let guard = locks.acquire_write_lock(key("1"), "a").await.unwrap();
    let info = guard.lock_info().unwrap();
    assert_eq!(info.expires_at, info.acquired_at + Duration::from_secs(4));
    assert!(matches!(locks.acquire_read_lock(key("1"), "b").await, Err(LockResult::Timeout)));
}

#[tokio::test]
async fn key_that_is_too_long_is_refused() {
    let locks = FastObjectLockManager::new();
    let long = "x".repeat(70_000);
    assert!(matches!(locks.acquire_write_lock(key(&long), "a").await, Err(LockResult::Timeout)));
    assert!(locks.acquire_write_lock(key(&long[..65_000]), "a").await.is_ok());
}

#[tokio::test]
async fn fences_grow_and_the_manager_behind_shows() {
    let locks = FastObjectLockManager::new();
    let mut first = locks.acquire_write_lock(key("1"), "a").await.unwrap();
    let fence = first.fence().unwrap();
    assert!(locks.keylatch().is_locked(("b", "1")).unwrap());
    assert!(first.release() && first.fence().is_none());
    assert!(locks.acquire_write_lock(key("1"), "a").await.unwrap().fence().unwrap() > fence);
}

#[tokio::test]
async fn idle_manager_is_healthy() {
    assert!(FastObjectLockManager::new().get_metrics().is_healthy());
}

#[tokio::test]
async fn guard_outlives_its_manager() {
    let locks = FastObjectLockManager::new();
    let mut guard = locks.acquire_write_lock(key("1"), "a").await.unwrap();
    drop(locks);
    assert!(guard.lock_info().is_some() && guard.release());
}
