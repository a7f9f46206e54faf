//! Typed locks with timeouts and statistics, and snapshots that readers never wait for.

#![deny(unsafe_op_in_unsafe_fn)]

mod acquire;
mod alarm;
mod clock;
mod error;
mod guard;
mod id;
mod lock;
mod monitor;
mod mutex;
mod options;
mod rwlock;
mod snapshot;
mod stats;
mod sync;
mod timeout;

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
pub use stats::{LockFigures, LockStats, Statistics};
