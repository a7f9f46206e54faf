//! Batches beyond what the published crate promises.

use rustfs_lock::{BatchLockRequest, FastObjectLockManager, LockMode, ObjectKey};
use std::sync::Arc;

fn key(object: &str) -> ObjectKey {
    ObjectKey::new("b", object)
}

#[tokio::test]
async fn key_named_twice_is_taken_once() {
    let locks = FastObjectLockManager::new();
    let batch = BatchLockRequest::new("a").add_read_lock(key("1")).add_write_lock(key("1")).add_read_lock(key("2"));
    let result = locks.acquire_locks_batch(batch).await;
    assert!(result.all_acquired);
    let taken: Vec<_> = result.guards.iter().map(|guard| (&*guard.key().object, guard.mode())).collect();
    assert_eq!(taken, [("1", LockMode::Exclusive), ("2", LockMode::Shared)]);
}

#[tokio::test]
async fn empty_batch_is_all_there_is() {
    let result = FastObjectLockManager::new().acquire_locks_batch(BatchLockRequest::new("a")).await;
    assert!(result.all_acquired && result.guards.is_empty());
}

#[tokio::test]
async fn dropped_batch_leaves_nothing_held() {
    let locks = FastObjectLockManager::new();
    let held = locks.acquire_write_lock(key("2"), "other").await.unwrap();
    let batch = BatchLockRequest::new("a").add_write_lock(key("1")).add_write_lock(key("2"));
    {
        let mut waiting = Box::pin(locks.acquire_locks_batch(batch));
        assert!(
            std::future::poll_fn(|context| { std::task::Poll::Ready(waiting.as_mut().poll(context).is_pending()) })
                .await
        );
        assert_eq!(locks.current_lock_counts(), (2, 1));
    }
    assert_eq!(locks.current_lock_counts(), (1, 0));
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_in_opposite_orders_all_end() {
    let locks = Arc::new(FastObjectLockManager::new());
    let tasks = (0..8).map(|task| {
        let locks = Arc::clone(&locks);
        tokio::spawn(async move {
            for _ in 0..200 {
                let (first, second) = if task % 2 == 0 { ("1", "2") } else { ("2", "1") };
                let batch = BatchLockRequest::new("a").add_write_lock(key(first)).add_write_lock(key(second));
                assert!(locks.acquire_locks_batch(batch).await.all_acquired);
                tokio::task::yield_now().await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(locks.current_lock_counts(), (0, 0));
}
