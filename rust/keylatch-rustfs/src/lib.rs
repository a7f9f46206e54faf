//! The face of `rustfs-lock` 1.0's `fast_lock`, over keylatch.
//!
//! An engine changes one dependency line, and no line of code:
//!
//! ```toml
//! [dependencies]
//! rustfs-lock = { package = "keylatch-rustfs", version = "0.1" }
//! ```
//!
//! ```
//! # extern crate keylatch_rustfs as rustfs_lock;
//! use rustfs_lock::{BatchLockRequest, LockManager, ObjectKey, get_global_lock_manager};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rustfs_lock::LockResult> {
//! let locks = get_global_lock_manager(); // disabled by RUSTFS_LOCK_ENABLED=false
//! let cat = ObjectKey::new("photos", "cat.jpg");
//! let mut guard = locks.acquire_write_lock(cat.clone(), "node-7").await?;
//! assert_eq!(locks.get_lock_info(&cat).unwrap().owner.as_ref(), "node-7");
//! assert!(guard.release());
//!
//! let batch = BatchLockRequest::new("node-7").add_read_lock(cat).add_write_lock(ObjectKey::new("photos", "dog.jpg"));
//! assert!(locks.acquire_locks_batch(batch).await.all_acquired);
//! # Ok(()) }
//! ```
//!
//! The README says what differs. [`FastObjectLockManager::keylatch`] is the manager behind the face, with all that it can
//! do besides; [`early`] has the verbs of the first design, which take bucket, object and owner apart.

#![forbid(unsafe_code)]

pub mod early;
pub mod error;
pub mod fast_lock;
mod global;

pub use error::{LockError, Result};
pub use fast_lock::metrics::AggregatedMetrics;
pub use fast_lock::{
    BatchLockRequest, BatchLockResult, DisabledLockManager, FastLockGuard, FastObjectLockManager, LockManager,
    LockMode, LockPriority, LockResult, ObjectKey, ObjectLockInfo, ObjectLockRequest,
};
#[allow(deprecated, reason = "engines may still use it")]
pub use global::get_global_fast_lock_manager;
pub use global::{GlobalLockManager, get_global_lock_manager, get_initialized_global_lock_manager};

/// The version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The time of the build, which is not recorded.
pub const BUILD_TIMESTAMP: &str = "unknown";

/// How many objects one request deletes at most.
pub const MAX_DELETE_LIST: usize = 1000;
