//! The types of requests and answers.

use super::guard::FastLockGuard;

pub use super::key::{ObjectKey, OptimizedObjectKey};
pub use super::request::{
    BatchLockRequest, LockConfig, LockMode, LockPriority, LockResult, ObjectLockInfo, ObjectLockRequest,
};

/// Answers a batch.
#[derive(Debug)]
pub struct BatchLockResult {
    /// What was locked.
    pub successful_locks: Vec<ObjectKey>,
    /// What was not, and why.
    pub failed_locks: Vec<(ObjectKey, LockResult)>,
    /// Whether all of it was locked.
    pub all_acquired: bool,
    /// A guard for each key that was locked.
    pub guards: Vec<FastLockGuard>,
}
