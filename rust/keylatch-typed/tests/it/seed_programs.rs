//! Programs as the design of these locks shows them: a service, a long operation, a monitor task.

use keylatch_typed::{AsyncMutex, AsyncRwLock, LockId, LockMonitor, LockTimeoutError, LockType};
use std::collections::HashMap;
use std::error::Error;
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
