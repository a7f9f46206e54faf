//! Typed locks with timeouts and statistics, and snapshots that readers never wait for.
//!
//! * [`AsyncRwLock`] and [`AsyncMutex`] protect a value for tasks and threads. Every request has a timeout, and a request
//!   that times out learns who holds the lock, since which line of code, and where in line it stood.
//! * [`LockStats`] are the statistics of a lock. A [`LockMonitor`] collects those of all locks, reports on them and finds
//!   contention.
//! * [`Snapshot`] is a value that is replaced as a whole. Readers keep the version that they have and wait for no writer.
//!
//! ```
//! use keylatch_typed::{AsyncRwLock, LockTimeoutError};
//! use std::time::Duration;
//!
//! struct Service {
//!     names: AsyncRwLock<Vec<String>>,
//! }
//!
//! impl Service {
//!     async fn add(&self, name: &str) -> Result<usize, LockTimeoutError> {
//!         let mut names = self.names.write_with_timeout().await?;
//!         names.push(name.to_string());
//!         Ok(names.len())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), LockTimeoutError> {
//! let service = Service { names: AsyncRwLock::new(Vec::new(), Duration::from_secs(5)) };
//! assert_eq!(service.add("ada").await?, 1);
//! # Ok(()) }
//! ```
//!
//! # What is promised
//!
//! * **Fairness**: first come, first served; neighbouring readers hold together; a line keeps newcomers out.
//! * **Cancellation**: a future may be dropped at any point. A grant that it got meanwhile goes to the next in line.
//! * **Release** never blocks, allocates nothing, and works from any thread.
//! * **No poisoning**: a panic while a guard is held releases the lock. An update of a snapshot that panics keeps what it
//!   changed, and the updates beside it are applied.
//! * **Executors**: any. Only timers differ: on a tokio runtime (feature `tokio`, on by default) timeouts use its timer,
//!   elsewhere one timer thread of this crate.
//!
//! # Arrows between the modules
//!
//! `rwlock, mutex -> acquire, guard -> stats -> lock -> sync`; `acquire -> alarm`; `monitor -> stats`; `snapshot -> sync`.

#![deny(unsafe_op_in_unsafe_fn)]

/// The README's example is run too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod acquire;
mod alarm;
mod clock;
mod error;
mod guard;
mod id;
mod lock;
#[cfg(all(test, loom))]
mod models;
mod monitor;
mod mutex;
mod options;
mod rwlock;
mod snapshot;
mod stats;
mod sync;

pub use acquire::{Acquire, Kind, Lock, Read, Write};
pub use keylatch::{AdaptiveState, AdaptiveTimeout};

pub use error::{HeldBy, LockTimeoutError, LockType, TimeoutDetails};
pub use guard::{Downgradable, ExclusiveGuard, LockRef, ReadGuard};
pub use id::LockId;
pub use monitor::{
    LockEntry, LockMonitor, LockReport, LockStatus, MOST_LOCKS, ManagerEntry, ReportSummary, Reporter, StatusLimits,
};
pub use mutex::{AsyncMutex, AsyncMutexGuard, OwnedAsyncMutexGuard};
pub use options::LockOptions;
pub use rwlock::{
    AsyncRwLock, AsyncRwLockReadGuard, AsyncRwLockWriteGuard, OwnedAsyncRwLockReadGuard, OwnedAsyncRwLockWriteGuard,
};
pub use snapshot::{
    Changed, Freshness, PublishConflict, Snapshot, SnapshotClosed, SnapshotReader, Update, UpdateError,
};
pub use stats::{EndedWaits, LockFigures, LockStats, Statistics};
