//! The one manager of a process, and the environment variables that decide which it is.

use crate::fast_lock::metrics::AggregatedMetrics;
use crate::fast_lock::{
    ACQUIRE_SECONDS, BatchLockRequest, BatchLockResult, DisabledLockManager, FastLockGuard, FastObjectLockManager,
    LockConfig, LockManager, LockResult, MAX_ACQUIRE_SECONDS, ObjectKey, ObjectLockInfo, ObjectLockRequest,
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Whether locks are taken at all: true or false, 1 or 0, yes or no, on or off.
const ENABLED: &str = "RUSTFS_LOCK_ENABLED";
/// The older name of the variable, which counts where the other is not set.
const ENABLED_BEFORE: &str = "RUSTFS_ENABLE_LOCKS";
/// How long the verbs wait that take no request, in seconds.
const ACQUIRE_TIMEOUT: &str = "RUSTFS_LOCK_ACQUIRE_TIMEOUT";

/// Locks objects, or pretends to, as the environment says.
#[derive(Debug)]
pub enum GlobalLockManager {
    /// Locks are taken.
    Enabled(Arc<FastObjectLockManager>),
    /// Locks exclude nothing.
    Disabled(DisabledLockManager),
}

impl GlobalLockManager {
    /// Makes a manager as the environment says.
    ///
    /// `RUSTFS_LOCK_ENABLED` (before: `RUSTFS_ENABLE_LOCKS`) switches locks off, `RUSTFS_LOCK_ACQUIRE_TIMEOUT` sets
    /// the seconds, from 1 to 60, for which the verbs wait that take no request.
    ///
    /// # Panics
    /// If the process may not even reserve address space for a small table.
    #[must_use]
    pub fn new() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        if !is_enabled(&variable) {
            tracing::warn!("locks are disabled by {ENABLED} or {ENABLED_BEFORE}: they exclude nothing");
            return Self::Disabled(DisabledLockManager::new());
        }
        let default_acquire_timeout = acquire_timeout(&variable);
        let config = LockConfig { default_acquire_timeout, ..LockConfig::default() };
        Self::Enabled(Arc::new(FastObjectLockManager::with_config(config)))
    }

    /// Says whether locks exclude nothing.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        matches!(self, Self::Disabled(_))
    }

    /// Returns the manager, unless locks are disabled.
    #[must_use]
    pub fn as_fast_lock_manager(&self) -> Option<Arc<FastObjectLockManager>> {
        match self {
            Self::Enabled(manager) => Some(Arc::clone(manager)),
            Self::Disabled(_) => None,
        }
    }
}

impl Default for GlobalLockManager {
    fn default() -> Self {
        Self::new()
    }
}

fn is_enabled(variable: &impl Fn(&str) -> Option<String>) -> bool {
    let Some(value) = variable(ENABLED).or_else(|| variable(ENABLED_BEFORE)) else { return true };
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "yes" | "ok" | "success" | "active" | "enabled" => true,
        "0" | "f" | "false" | "off" | "no" | "not_ok" | "failure" | "inactive" | "disabled" => false,
        _ => {
            tracing::warn!("{ENABLED} is neither true nor false but {value:?}; locks stay enabled");
            true
        }
    }
}

fn acquire_timeout(variable: &impl Fn(&str) -> Option<String>) -> Duration {
    let usual = Duration::from_secs(ACQUIRE_SECONDS);
    let Some(value) = variable(ACQUIRE_TIMEOUT) else { return usual };
    let Ok(seconds) = value.trim().parse::<u64>() else {
        tracing::warn!("{ACQUIRE_TIMEOUT} is no number of seconds but {value:?}; requests wait for {usual:?}");
        return usual;
    };
    let allowed = seconds.clamp(1, MAX_ACQUIRE_SECONDS);
    if allowed != seconds {
        tracing::warn!(
            "{ACQUIRE_TIMEOUT} is from 1 to {MAX_ACQUIRE_SECONDS} seconds; {allowed} is taken for {seconds}"
        );
    }
    Duration::from_secs(allowed)
}

static GLOBAL: OnceLock<Arc<GlobalLockManager>> = OnceLock::new();

/// Returns the one manager of the process.
///
/// It is made, as the environment says, when it is first asked for.
pub fn get_global_lock_manager() -> Arc<GlobalLockManager> {
    Arc::clone(GLOBAL.get_or_init(Arc::default))
}

/// Returns the one manager of the process, if it was asked for before.
pub fn get_initialized_global_lock_manager() -> Option<Arc<GlobalLockManager>> {
    GLOBAL.get().cloned()
}

/// Returns the one manager of the process.
///
/// # Panics
/// If locks are disabled.
#[deprecated(note = "use get_global_lock_manager, which has an answer for disabled locks")]
pub fn get_global_fast_lock_manager() -> Arc<FastObjectLockManager> {
    let manager = get_global_lock_manager().as_fast_lock_manager();
    manager.unwrap_or_else(|| panic!("locks are disabled by {ENABLED}; use get_global_lock_manager()"))
}

macro_rules! either {
    ($manager:expr, $locks:ident => $call:expr) => {
        match $manager {
            GlobalLockManager::Enabled($locks) => $call,
            GlobalLockManager::Disabled($locks) => $call,
        }
    };
}

#[async_trait::async_trait]
impl LockManager for GlobalLockManager {
    async fn acquire_lock(&self, request: ObjectLockRequest) -> Result<FastLockGuard, LockResult> {
        either!(self, locks => locks.acquire_lock(request).await)
    }

    async fn acquire_read_lock(
        &self,
        key: ObjectKey,
        owner: impl Into<Arc<str>> + Send,
    ) -> Result<FastLockGuard, LockResult> {
        either!(self, locks => locks.acquire_read_lock(key, owner).await)
    }

    async fn acquire_write_lock(
        &self,
        key: ObjectKey,
        owner: impl Into<Arc<str>> + Send,
    ) -> Result<FastLockGuard, LockResult> {
        either!(self, locks => locks.acquire_write_lock(key, owner).await)
    }

    async fn acquire_locks_batch(&self, batch_request: BatchLockRequest) -> BatchLockResult {
        either!(self, locks => locks.acquire_locks_batch(batch_request).await)
    }

    fn get_lock_info(&self, key: &ObjectKey) -> Option<ObjectLockInfo> {
        either!(self, locks => locks.get_lock_info(key))
    }

    fn get_metrics(&self) -> AggregatedMetrics {
        either!(self, locks => locks.get_metrics())
    }

    fn total_lock_count(&self) -> usize {
        either!(self, locks => locks.total_lock_count())
    }

    fn get_pool_stats(&self) -> Vec<(u64, u64, u64, usize)> {
        either!(self, locks => locks.get_pool_stats())
    }

    async fn cleanup_expired(&self) -> usize {
        either!(self, locks => locks.cleanup_expired().await)
    }

    async fn cleanup_expired_traditional(&self) -> usize {
        either!(self, locks => locks.cleanup_expired_traditional().await)
    }

    async fn shutdown(&self) {
        either!(self, locks => locks.shutdown().await);
    }

    fn is_disabled(&self) -> bool {
        GlobalLockManager::is_disabled(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(&str, &str)]) -> GlobalLockManager {
        GlobalLockManager::from_variables(|name| {
            set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn timeout(value: &str) -> u64 {
        acquire_timeout(&|_: &str| Some(value.to_owned())).as_secs()
    }

    #[test]
    fn locks_without_variables_are_enabled() {
        assert!(!with(&[]).is_disabled());
        assert!(with(&[]).as_fast_lock_manager().is_some());
    }

    #[test]
    fn switch_of_any_spelling_disables_locks() {
        for value in ["0", "false", "FALSE", " off ", "no", "disabled"] {
            assert!(with(&[(ENABLED, value)]).is_disabled(), "{value}");
            assert!(with(&[(ENABLED_BEFORE, value)]).is_disabled(), "{value}");
        }
        assert!(with(&[(ENABLED, "0")]).as_fast_lock_manager().is_none());
    }

    #[test]
    fn newer_switch_counts_where_both_are_set() {
        assert!(!with(&[(ENABLED, "true"), (ENABLED_BEFORE, "false")]).is_disabled());
    }

    #[test]
    fn senseless_switch_leaves_locks_enabled() {
        assert!(!with(&[(ENABLED, "perhaps")]).is_disabled());
    }

    #[test]
    fn acquire_timeout_stays_within_its_bounds() {
        assert_eq!([timeout("0"), timeout("7"), timeout("3600"), timeout("soon")], [1, 7, 60, 10]);
    }
}
