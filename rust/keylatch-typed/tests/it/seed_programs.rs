//! Programs as the design of these locks shows them: a service, a long operation, a monitor task.

use keylatch_typed::{
    AsyncMutex, AsyncMutexGuard, AsyncRwLock, AsyncRwLockReadGuard, AsyncRwLockWriteGuard, LockId, LockMonitor,
    LockReport, LockStats, LockTimeoutError, LockType,
};
use std::collections::HashMap;
use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Debug, Clone, PartialEq)]
struct MemoryItem(String);

struct MemoryService {
    data: AsyncRwLock<HashMap<String, MemoryItem>>,
}

impl MemoryService {
    fn new() -> Self {
        Self { data: AsyncRwLock::new(HashMap::new(), Duration::from_secs(5)) }
    }

    async fn get(&self, key: &str) -> Result<Option<MemoryItem>> {
        let data = self.data.read_with_timeout().await?;
        Ok(data.get(key).cloned())
    }

    async fn critical_section(&self) -> Result<()> {
        let mut data = self.data.write_with_custom_timeout(Duration::from_secs(30)).await?;
        self.process_data(&mut data).await?;
        Ok(())
    }

    async fn process_data(&self, data: &mut HashMap<String, MemoryItem>) -> Result<()> {
        tokio::task::yield_now().await;
        data.insert("key".into(), MemoryItem("value".into()));
        Ok(())
    }
}

struct SkillManager {
    skills: AsyncMutex<Vec<String>>,
}

fn setup_monitoring(memory_service: &MemoryService, skill_manager: &SkillManager) -> tokio::task::JoinHandle<()> {
    let monitor = LockMonitor::new();

    monitor.register_lock(LockId::new("memory/service.rs", "data"), memory_service.data.stats().clone());
    monitor.register_lock(LockId::new("skill/manager.rs", "skills"), skill_manager.skills.stats().clone());

    tokio::spawn(async move {
        let mut interval = tokio::time::interval(Duration::from_secs(60));
        loop {
            interval.tick().await;
            monitor.log_report();

            let contested = monitor.detect_contention(Duration::from_millis(100));
            if !contested.is_empty() {
                warn!("High contention detected on locks: {:?}", contested);
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn service_and_monitor_work_together() {
    let memory_service = MemoryService::new();
    let skills = LockId::new("skill/manager.rs", "skills");
    let skill_manager = SkillManager { skills: AsyncMutex::with_id(vec![], Duration::from_secs(5), skills) };
    let monitoring = setup_monitoring(&memory_service, &skill_manager);
    assert_eq!(memory_service.get("key").await.unwrap(), None);
    memory_service.critical_section().await.unwrap();
    assert_eq!(memory_service.get("key").await.unwrap(), Some(MemoryItem("value".into())));
    skill_manager.skills.lock_with_timeout().await.unwrap().push("read".into());
    skill_manager.skills.lock_with_custom_timeout(Duration::from_secs(1)).await.unwrap().clear();
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(!monitoring.is_finished());
    monitoring.abort();
    memory_service.data.reset_stats();
    assert_eq!(memory_service.data.stats().total_acquisitions(), 0);
    skill_manager.skills.reset_stats();
    assert_eq!(skill_manager.skills.stats().current_waiters(), 0);
}

#[tokio::test(start_paused = true)]
async fn caller_degrades_after_a_timeout() {
    async fn count(lock: &AsyncRwLock<Vec<u32>>) -> std::result::Result<usize, LockTimeoutError> {
        Ok(lock.read_with_custom_timeout(Duration::from_millis(200)).await?.len())
    }
    let lock =
        AsyncRwLock::with_id(vec![1, 2], Duration::from_secs(3), LockId::new("decision/arbitration.rs", "votes"));
    assert_eq!(count(&lock).await, Ok(2));
    let writing = lock.write_with_timeout().await.unwrap();
    let shown = match count(&lock).await {
        Ok(count) => count.to_string(),
        Err(LockTimeoutError::Timeout { lock_type, timeout, .. }) => {
            assert_eq!((lock_type, timeout), (LockType::ReadLock, Duration::from_millis(200)));
            "busy".to_string()
        }
        Err(LockTimeoutError::Cancelled) => "cancelled".to_string(),
    };
    assert_eq!((shown.as_str(), lock.stats().timeout_count()), ("busy", 1));
    drop(writing);
    let error: Box<dyn Error> = Box::new(LockTimeoutError::Cancelled);
    assert_eq!(error.to_string(), "Lock acquisition cancelled");
}

/// A service that hands guards on under the names of their types.
struct Arbitration {
    votes: AsyncRwLock<Vec<u32>>,
    decided: AsyncMutex<Option<u32>>,
}

impl Arbitration {
    async fn votes(&self) -> std::result::Result<AsyncRwLockReadGuard<'_, Vec<u32>>, LockTimeoutError> {
        self.votes.read_with_timeout().await
    }

    async fn change(&self) -> std::result::Result<AsyncRwLockWriteGuard<'_, Vec<u32>>, LockTimeoutError> {
        self.votes.write_with_timeout().await
    }

    async fn decide(&self) -> std::result::Result<AsyncMutexGuard<'_, Option<u32>>, LockTimeoutError> {
        self.decided.lock_with_timeout().await
    }
}

#[tokio::test]
async fn guards_have_their_names() {
    fn length(guard: &impl Deref<Target = Vec<u32>>) -> usize {
        guard.len()
    }
    fn push(guard: &mut impl DerefMut<Target = Vec<u32>>) {
        guard.push(3);
    }
    let id = LockId::new("decision/arbitration.rs", "decided");
    let service = Arbitration {
        votes: AsyncRwLock::new(vec![1, 2], Duration::from_secs(3)),
        decided: AsyncMutex::with_id(None, Duration::from_secs(3), id),
    };
    push(&mut service.change().await.unwrap());
    assert_eq!(length(&service.votes().await.unwrap()), 3);
    *service.decide().await.unwrap() = Some(3);
    assert_eq!(*service.decide().await.unwrap(), Some(3));
}

#[tokio::test]
async fn statistics_and_report_have_their_names() {
    let monitor = LockMonitor::new();
    let id = LockId::new("memory/service.rs", "data");
    let lock = AsyncRwLock::with_id(1, Duration::ZERO, id.clone());
    monitor.register_lock(id.clone(), lock.stats().clone());
    let held = lock.write_with_timeout().await.unwrap();
    assert!(lock.read_with_timeout().await.is_err());
    drop(held);
    let stats: Arc<LockStats> = monitor.get_stats(&id).unwrap();
    assert_eq!((stats.total_acquisitions(), stats.timeout_count(), stats.current_waiters()), (1, 1, 0));
    assert_eq!((stats.avg_wait_time(), stats.max_wait_time()), (Duration::ZERO, Duration::ZERO));
    assert!(stats.avg_hold_time() > Duration::ZERO && stats.max_hold_time() > Duration::ZERO);
    let report: LockReport = monitor.generate_report();
    assert_eq!((report.locks[0].figures.total_acquisitions, report.locks[0].figures.timeout_count), (1, 1));
    assert_eq!(monitor.detect_contention(Duration::from_millis(100)), []);
    monitor.log_report();
}
