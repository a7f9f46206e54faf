//! keylatch: who may read or write this bucket, object, version *now*.
//!
//! A lock manager for storage engines: shared and exclusive locks on keys that need no creating and no cleaning up.
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
//! // Another caller waits for a moment at most; the error names the holder.
//! let busy = locks.lock(LockRequest::read(("photos", "cat.jpg")).timeout(Duration::from_millis(1))).blocking();
//! assert!(busy.unwrap_err().to_string().contains("node-7"));
//! drop(writer);
//!
//! // A batch of keys, in an order in which no two batches wait for each other.
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
//! # Leases and fences
//!
//! A lease frees a lock whose holder is gone. But a holder that seems to be gone may only be paused. It comes back and
//! writes as if nothing had happened: between the call of [`is_valid`](LockGuard::is_valid) and the write there is always
//! a gap. A store that refuses closes the gap. Each exclusive hold has a number, its [`fence`](LockGuard::fence), greater
//! than every earlier fence of this key. The writer sends its fence with each write, and the store refuses a lower fence
//! than it has seen.
//!
//! ```
//! use keylatch::{FastObjectLockManager, LockError, LockRequest};
//! use std::collections::HashMap;
//! use std::time::Duration;
//!
//! /// What is stored under a name, and the greatest fence it was ever written with.
//! #[derive(Default)]
//! struct Store(HashMap<&'static str, (u64, &'static str)>);
//!
//! impl Store {
//!     /// Compares and writes in one step.
//!     fn write(&mut self, name: &'static str, fence: u64, content: &'static str) -> Result<(), String> {
//!         let (newest, stored) = self.0.entry(name).or_default();
//!         if fence < *newest {
//!             return Err(format!("fence {fence} is old: {newest} has written since"));
//!         }
//!         (*newest, *stored) = (fence, content);
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (locks, mut store) = (FastObjectLockManager::new(), Store::default());
//! let lease = LockRequest::write(("photos", "cat.jpg")).ttl(Duration::from_millis(5));
//! let slow = locks.lock(lease.owner("slow")).blocking()?;
//! store.write("cat.jpg", slow.fence(), "half of it")?;
//!
//! // Here "slow" is paused. The next request waits until the lease has expired.
//! let next = locks.lock(lease.owner("next")).blocking()?;
//! store.write("cat.jpg", next.fence(), "all of it")?;
//!
//! // "slow" comes back with the rest of its work. The store refuses it.
//! assert!(store.write("cat.jpg", slow.fence(), "the other half").is_err());
//! assert_eq!(store.0["cat.jpg"].1, "all of it");
//! assert!(matches!(slow.try_release(), Err(LockError::LeaseLost { .. }))); // which changes nothing
//! # Ok(()) }
//! ```
//!
//! A store in the same process may ask [`is_current`](FastObjectLockManager::is_current) instead. A store that outlives
//! the manager keeps the greatest fence with the data. A new manager counts from 1, so the store puts a number in front of
//! the fence that grows with each start of the program. [`lock_delay`](LockConfig::lock_delay) keeps a lock closed for a
//! while after its lease, for writes that are already on their way.
//!
//! # What is promised
//!
//! * **Exclusion**: an exclusive holder is alone; any number of readers share a key.
//! * **Fairness**: every waiter gets its turn; [`Fairness`] says how far each policy may go.
//! * **Cancellation** is exact: dropping a future, a timeout or [`cancel`](FastObjectLockManager::cancel) leaves nothing
//!   behind, and a lock that is granted in that very instant is delivered or goes to the next waiter.
//! * **Release** never blocks, works from any thread, and an old or made-up [`Grant`] is refused.
//! * **Memory**: keys without holders cost nothing, except for up to four warm keys a shard.
//! * **Re-entrancy** is for [`Session`]s. If a session asks again for what it holds, and would wait for itself, it is
//!   refused or gets the lock once more, as [`Reentrancy`] says. Requests with the same label, or without one, wait for each
//!   other like any others, so give a timeout.
//! * **Leases**: a hold with a [`ttl`](LockRequest::ttl) is safe until its time is over. After that a waiter may take the
//!   lock, or [`expire`](FastObjectLockManager::expire) revokes it; nothing else does. The holder is
//!   [notified](LockGuard::on_lost), and its later calls fail with [`LockError::LeaseLost`] and change nothing.
//! * **Fences** of exclusive holds only grow for a key, for as long as the manager lives: across other keys in between,
//!   across expired leases, and across locks that were [revoked by force](FastObjectLockManager::force_release).
//! * **Deadlocks** among [`Session`]s are found and broken: one session of the deadlock gets [`LockError::Deadlock`], and no
//!   other session does. Nothing is concluded from two requests that share a label.
//! * **Fork**: in a forked child every call fails with [`LockError::Forked`]; make a new manager there.
//! * **Clocks**: only the monotonic clock is used.

#![deny(unsafe_op_in_unsafe_fn)]

/// Runs the examples of the README and of the guide.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
#[doc = include_str!("../../../docs/rust.md")]
#[doc = include_str!("../../../docs/fencing.md")]
struct Guide;

mod backend;
pub mod claim;
mod config;
mod engine;
mod error;
mod events;
mod grant;
mod grants;
mod guard;
mod hold;
mod inspect;
mod key;
mod key_verbs;
mod listed;
mod manager;
mod measure;
mod memory;
mod mode;
mod observe;
mod owner;
mod pending;
mod pinned;
mod prepared;
mod request;
mod session;
mod subscription;
mod sync;
mod table;
pub mod tier;
mod wait;
#[cfg(feature = "serde")]
mod written;

pub use backend::{BackendGuard, BoxedAcquire, DisabledLockManager, GlobalLockManager, ObjectLocks, open_backend};
pub use config::{AdaptiveTimeout, Backend, Fairness, LockConfig, Reentrancy, Victim};
pub use error::{DeadlockLink, Holder, Holders, LockError};
pub use grant::Grant;
pub use guard::{FastLockGuard, LockBatch, LockGuard, ManagerRef, OwnedLockGuard, Upgrade};
pub use hold::Lost;
pub use inspect::{BlockingChain, ChainLink, ChainStart, Cycle, Filter, LockOrderReports, TopBy, TopKey};
pub use key::{KeyRef, ObjectKey};
pub use listed::{HolderInfo, LockOrderLink, LockOrderReport, WaiterInfo};
pub use manager::FastObjectLockManager;
pub use mode::Mode;
pub use observe::{
    AdaptiveState, EndedWaits, Event, EventOptions, HOTTEST_KEYS, Health, HoldTimes, LearnedTimeout, LockMetrics,
    OPENMETRICS_CONTENT_TYPE, RecentFigures, ShardMetrics, WaitHistogram, WaitOutcomes,
};
pub use owner::{Owner, OwnerRef, SessionRef};
pub use pending::{Acquire, Completion, CompletionQueue, Lock, Submitted};
pub use pinned::PinnedKey;
pub use prepared::PreparedKey;
pub use request::{BatchLockRequest, BatchMode, LockRequest};
pub use session::{NumberedRequest, RequestRepeat, RequestTurn, Session};
#[cfg(feature = "tracing")]
pub use subscription::TracedEvents;
pub use subscription::{Events, NextEvent};
#[doc(hidden)]
pub use sync::thread::{Blocked as BlockedSignals, run_threads_inside};
pub use wait::Ticket;
