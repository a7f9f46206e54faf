//! Locks of objects: the module that engines use.

pub mod disabled_manager;
pub mod guard;
mod key;
mod limits;
mod locks;
pub mod manager;
pub mod manager_trait;
pub mod metrics;
mod request;
pub mod shard;
mod stamps;
pub mod types;

pub use disabled_manager::DisabledLockManager;
pub use guard::FastLockGuard;
pub(crate) use limits::{ACQUIRE_SECONDS, MAX_ACQUIRE_SECONDS};
pub use limits::{
    CLEANUP_INTERVAL, DEFAULT_ACQUIRE_TIMEOUT, DEFAULT_LOCK_REFRESH_INTERVAL, DEFAULT_LOCK_TIMEOUT,
    DEFAULT_SHARD_COUNT, MAX_ACQUIRE_TIMEOUT,
};
pub use manager::FastObjectLockManager;
pub use manager_trait::LockManager;
pub use types::*;
