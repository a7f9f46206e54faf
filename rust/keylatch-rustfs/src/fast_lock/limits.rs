//! The constants of the face.

use std::time::Duration;

/// How long a request waits that says nothing about it, in seconds.
pub(crate) const ACQUIRE_SECONDS: u64 = 10;
/// The longest wait that a request may ask for, in seconds.
pub(crate) const MAX_ACQUIRE_SECONDS: u64 = 60;

/// The number of shards of a manager that says nothing about it.
pub const DEFAULT_SHARD_COUNT: usize = 1024;

/// The time after which a lock is listed as expired; nothing is revoked then.
pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The interval at which the holder of a distributed lock refreshes it.
pub const DEFAULT_LOCK_REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// The time for which a request waits that says nothing about it.
pub const DEFAULT_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(ACQUIRE_SECONDS);

/// The longest time for which a request waits, whatever it asks for.
pub const MAX_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(MAX_ACQUIRE_SECONDS);

/// The interval of a cleanup that keylatch does not need; kept for settings.
pub const CLEANUP_INTERVAL: Duration = Duration::from_secs(60);
