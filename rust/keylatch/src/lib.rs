//! keylatch: who may read or write this bucket, object, version *now*.
//!
//! A lock manager for storage engines: shared and exclusive locks on keys that nobody has to create or clean up.
//!
//! ```
//! use keylatch::{BatchLockRequest, FastObjectLockManager, LockRequest};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), keylatch::LockError> {
//! let locks = FastObjectLockManager::new();
//! let node = locks.owner("node-7"); // a label for errors and listings
//!
//! // A thread waits.
//! let writer = locks.acquire_write_lock_blocking("photos", "cat.jpg", node)?;
//!
//! // Somebody else does not want to, or not for long; the error says who is in the way.
//! let busy = locks.lock(LockRequest::read(("photos", "cat.jpg")).timeout(Duration::from_millis(1))).blocking();
//! assert!(busy.unwrap_err().to_string().contains("node-7"));
//! drop(writer);
//!
//! // Many at once, in an order in which no two batches wait for each other.
//! let both = locks.acquire_locks_batch_blocking(
//!     BatchLockRequest::new(node).add_write_lock("photos", "dog.jpg").add_read_lock("photos", "cat.jpg"),
//! )?;
//! # drop(both); Ok(()) }
//! ```
//!
//! A task awaits, on any executor:
//!
//! ```
//! # async fn upload(locks: &keylatch::FastObjectLockManager) -> Result<(), keylatch::LockError> {
//! let guard = locks.acquire_write_lock("photos", "cat.jpg", "uploader").await?;
//! # drop(guard); Ok(()) }
//! ```
//!
//! # What is promised
//!
//! * **Exclusion**: an exclusive holder is alone; at most 65,535 share a key, and more wait in line.
//! * **Fairness**: nobody starves; [`Fairness`] says how far each policy may go.
//! * **Cancellation** is exact: dropping a future, a timeout or [`cancel`](FastObjectLockManager::cancel) leaves nothing
//!   behind, and a lock granted in that very instant is delivered or goes to the next in line.
//! * **Release** never blocks, works from any thread, and an old or made-up [`Grant`] is refused.
//! * **Memory**: keys cost nothing when nobody holds them, but for up to four warm ones a shard.
//! * **Re-entrancy**: none. Asking again for what one holds exclusively waits for oneself; give a timeout.
//! * **Deadlocks** among [`Session`]s are found and broken: one of them gets [`LockError::Deadlock`], none that is not part
//!   of one does, and nothing is ever concluded from two requests that share a label.
//! * **Fork**: in a forked child every call says [`LockError::Forked`]; make a new manager there.
//! * **Clocks**: only the monotonic one counts.

#![deny(unsafe_op_in_unsafe_fn)]

/// The README's examples are run too.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

mod backend;
mod config;
mod engine;
mod error;
mod guard;
mod hold;
mod inspect;
mod key;
mod listed;
mod manager;
mod memory;
mod mode;
mod observe;
mod pending;
mod request;
mod session;
mod subscription;
mod sync;
mod table;
mod wait;

pub use backend::{BackendGuard, BoxedAcquire, DisabledLockManager, GlobalLockManager, ObjectLocks, open_backend};
pub use config::{AdaptiveTimeout, Backend, Fairness, LockConfig, Reentrancy, Victim};
pub use error::{DeadlockLink, Holder, Holders, LockError};
pub use guard::{FastLockGuard, LockBatch, LockGuard, ManagerRef, OwnedLockGuard, Upgrade};
pub use hold::{Grant, Lost, Owner, OwnerRef, SessionRef};
pub use inspect::{BlockingChain, ChainLink, ChainStart, Cycle, Filter, LockOrderReports, TopBy, TopKey};
pub use key::{KeyRef, ObjectKey};
pub use listed::{HolderInfo, LockOrderLink, LockOrderReport, WaiterInfo};
pub use manager::FastObjectLockManager;
pub use mode::Mode;
pub use observe::{
    AdaptiveState, Event, EventOptions, Health, LockMetrics, OPENMETRICS_CONTENT_TYPE, ShardMetrics, WaitHistogram,
};
pub use pending::{Acquire, Completion, CompletionQueue, Lock, Submitted};
pub use request::{BatchLockRequest, BatchMode, LockRequest};
pub use session::Session;
#[cfg(feature = "tracing")]
pub use subscription::TracedEvents;
pub use subscription::{Events, NextEvent};
pub use wait::Ticket;
