//! Programs as the first design of the manager had them.

use rustfs_lock::early::*;
use std::sync::Arc;
use std::time::Duration;

/// An engine that swapped its old locks for the manager.
struct Disks {
    fast_lock_manager: Arc<FastObjectLockManager>,
    locker_owner: String,
}

impl Disks {
    async fn write(&self, bucket: &str, object: &str) -> Result<Duration, LockResult> {
        let _guard = self.fast_lock_manager.acquire_write_lock(bucket, object, &self.locker_owner).await?;
        Ok(self.fast_lock_manager.get_metrics().shard_metrics.avg_wait_time())
    }

    async fn write_version(&self, bucket: &str, object: &str, version: &str, owner: &str) -> Result<(), LockResult> {
        let _guard = self.fast_lock_manager.acquire_write_lock_versioned(bucket, object, version, owner).await?;
        let _latest = self.fast_lock_manager.acquire_write_lock(bucket, object, owner).await?;
        Ok(())
    }

    async fn rename(&self, bucket: &str, owner: &str) -> BatchLockResult {
        let batch = BatchLockRequest::new(owner).add_write_lock(bucket, "obj1").add_write_lock(bucket, "obj2");
        self.fast_lock_manager.acquire_locks_batch(batch).await
    }

    /// Sorts by hand, as the design showed it.
    async fn in_order(&self, mut requests: Vec<ObjectLockRequest>) -> BatchLockResult {
        requests.sort_by(|a, b| a.key.cmp(&b.key));
        self.fast_lock_manager.acquire_locks_batch(requests).await
    }
}

/// A part of the design: which shard lists a key.
struct Shards {
    shards: Vec<Arc<LockShard>>,
    shard_mask: usize,
}

impl Shards {
    fn get_shard(&self, key: &ObjectKey) -> &Arc<LockShard> {
        let index = key.shard_index(self.shard_mask);
        &self.shards[index]
    }
}

fn disks() -> Disks {
    Disks { fast_lock_manager: Arc::new(FastObjectLockManager::new()), locker_owner: "node-7".to_string() }
}

#[tokio::test]
async fn engine_of_the_first_design_runs() {
    let disks = disks();
    assert_eq!(disks.write("bucket", "object").await.unwrap(), Duration::ZERO);
    disks.write_version("bucket", "object", "v1", "owner").await.unwrap();
    let result = disks.rename("bucket", "owner").await;
    assert!(result.all_acquired);
    assert_eq!(disks.fast_lock_manager.total_lock_count(), 2);
    drop(result);
    let keys = ["b", "a"].map(|object| ObjectLockRequest::new_write(ObjectKey::new("bucket", object), "owner"));
    let ordered = disks.in_order(keys.to_vec()).await;
    assert_eq!(ordered.successful_locks.iter().map(|key| &*key.object).collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn versions_of_one_object_are_locked_together() {
    let (manager, owner) = (FastObjectLockManager::with_config(LockConfig::default()), "owner");
    let first = manager.acquire_write_lock_versioned("bucket", "object", "v1", owner).await.unwrap();
    let second = manager.acquire_read_lock_versioned("bucket", "object", "v2", owner).await.unwrap();
    let latest = manager.acquire_read_lock("bucket", "object", owner).await.unwrap();
    assert_eq!((first.mode(), second.mode(), latest.mode()), (LockMode::Exclusive, LockMode::Shared, LockMode::Shared));
}

#[tokio::test]
async fn batch_of_the_first_design_takes_what_it_can() {
    let manager = FastObjectLockManager::new();
    let held = manager.acquire_write_lock("b", "1", "a").await.unwrap();
    let waiting = {
        let manager = manager.clone();
        let batch =
            BatchLockRequest::new("b").add_read_lock("b", "1").add_write_lock("b", "2").with_all_or_nothing(false);
        tokio::spawn(async move { manager.acquire_locks_batch(batch).await.guards.len() })
    };
    drop(held);
    assert_eq!(waiting.await.unwrap(), 2);
}

#[tokio::test]
async fn report_of_the_first_design_prints() {
    let manager = FastObjectLockManager::new();
    drop(manager.acquire_write_lock("b", "o", "a").await.unwrap());
    let metrics = manager.get_metrics();
    let rate = format!("Fast path success rate: {:.2}%", metrics.shard_metrics.fast_path_rate() * 100.0);
    assert_eq!(rate, "Fast path success rate: 100.00%");
    assert_eq!(format!("Average wait time: {:?}", metrics.shard_metrics.avg_wait_time()), "Average wait time: 0ns");
    assert!(format!("Operations per second: {:.2}", metrics.ops_per_second()).len() > "Operations per second: ".len());
    let healthy = metrics.is_healthy();
    assert!(healthy);
}

#[tokio::test]
async fn shard_lists_the_keys_of_its_hash() {
    let manager = FastObjectLockManager::with_config(LockConfig { shard_count: 4, ..LockConfig::default() });
    let shards = Shards { shards: manager.shards.clone(), shard_mask: 3 };
    let key = ObjectKey::new("b", "o");
    let guard = manager.acquire_write_lock("b", "o", "a").await.unwrap();
    let (mine, others) = (shards.get_shard(&key), shards.shards.iter().map(|shard| shard.lock_count()).sum::<usize>());
    assert_eq!((mine.lock_count(), mine.active_lock_count(), mine.list_locks().len(), others), (1, 1, 1, 1));
    assert!(Arc::ptr_eq(mine, manager.get_shard(&key)));
    assert_eq!((&*mine.get_lock_info(&key).unwrap().owner, mine.current_load_factor()), ("a", 1.0));
    assert_eq!((mine.adaptive_cleanup(), mine.cleanup_expired(1), mine.cleanup_expired_millis(1)), (0, 0, 0));
    let all = shards.shards.iter().map(|shard| shard.metrics().total_acquisitions()).sum::<u64>();
    let warm = shards.shards.iter().map(|shard| shard.pool_stats().1).sum::<u64>();
    assert_eq!((all, warm, mine.pool_hit_rate()), (1, 1, 0.0));
    assert_eq!(mine.force_release_all(&key), 1);
    drop(guard);
    assert_eq!((mine.lock_count(), mine.current_load_factor()), (0, 0.0));
}

#[tokio::test]
async fn shard_alone_locks_without_guards() {
    let shard = LockShard::new(3);
    let (key, owner): (_, Arc<str>) = (ObjectKey::new("b", "o"), "a".into());
    let request = ObjectLockRequest::new_write(key.clone(), owner.clone());
    shard.acquire_lock(&request).await.unwrap();
    assert!(!shard.try_fast_path_only(&request));
    assert!(
        !shard.release_lock(&key, &owner, LockMode::Shared)
            && !shard.release_lock(&key, &"b".into(), LockMode::Exclusive)
    );
    assert!(
        shard.release_lock(&key, &owner, LockMode::Exclusive) && !shard.release_lock(&key, &owner, LockMode::Exclusive)
    );
    assert!(shard.try_fast_path_only(&request));
}
