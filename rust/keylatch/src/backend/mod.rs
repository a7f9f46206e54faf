//! One set of verbs, three managers behind it: the real one, the one that everybody had before, and none at all.

mod disabled;
mod fast;
mod global;

pub use disabled::DisabledLockManager;
pub use global::GlobalLockManager;

use crate::config::{Backend, LockConfig};
use crate::engine::batch::in_order;
use crate::error::LockError;
use crate::hold::Grant;
use crate::inspect::Filter;
use crate::key::{KeyRef, ObjectKey};
use crate::listed::HolderInfo;
use crate::manager::FastObjectLockManager;
use crate::observe::{EndedWaits, Health, LockMetrics, RecentFigures, WaitOutcomes};
use crate::request::{BatchLockRequest, BatchMode, LockRequest};
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

/// A waiting acquire of any backend; dropping it cancels the request.
pub type BoxedAcquire<'a> = Pin<Box<dyn Future<Output = Result<Grant, LockError>> + Send + 'a>>;

/// What every backend can do: a setting switches a program from one to the other.
///
/// ```
/// # fn main() -> Result<(), keylatch::LockError> {
/// use keylatch::{Backend, LockConfig, LockRequest, open_backend};
/// let locks = open_backend(LockConfig { backend: Backend::Global, ..LockConfig::default() })?;
/// let guard = locks.guarded(locks.acquire_blocking(&LockRequest::write(("b", "o")))?);
/// assert!(locks.try_acquire(&LockRequest::read(("b", "o"))).is_err());
/// # drop(guard); Ok(()) }
/// ```
pub trait ObjectLocks: Send + Sync + Debug {
    /// Returns which one this is.
    fn backend(&self) -> Backend;

    /// Sleeps until the lock is free or the time is over.
    ///
    /// # Errors
    /// As [`Lock::blocking`](crate::Lock::blocking).
    fn acquire_blocking(&self, request: &LockRequest<'_>) -> Result<Grant, LockError>;

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// As [`Lock::try_now`](crate::Lock::try_now).
    fn try_acquire(&self, request: &LockRequest<'_>) -> Result<Grant, LockError>;

    /// Waits for the lock.
    fn acquire<'a>(&'a self, request: LockRequest<'a>) -> BoxedAcquire<'a>;

    /// Releases a grant.
    ///
    /// # Errors
    /// [`LockError::NotHeld`].
    fn release(&self, grant: Grant) -> Result<(), LockError>;

    /// Waits for the locks of a batch in the order of their keys, with one deadline.
    ///
    /// Returns each key with its grant. A best-effort batch returns those that were had.
    ///
    /// # Errors
    /// As [`acquire_locks_batch`](FastObjectLockManager::acquire_locks_batch); nothing is held then.
    fn acquire_batch_blocking(&self, batch: &BatchLockRequest<'_>) -> Result<Vec<(ObjectKey, Grant)>, LockError>;

    /// Goes from exclusive to shared, without a gap for another exclusive holder.
    ///
    /// # Errors
    /// [`LockError::NotHeld`].
    fn downgrade(&self, grant: Grant) -> Result<(), LockError>;

    /// Goes from shared to exclusive if there is no other holder.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`] with who holds it; [`LockError::NotHeld`]. The hold is as it was then.
    fn try_upgrade(&self, grant: Grant) -> Result<(), LockError>;

    /// Lists who holds what, as far as the filter lets pass.
    ///
    /// The disabled backend has no holders.
    fn holders(&self, filter: &Filter) -> Vec<HolderInfo>;

    /// Returns whether anybody holds the key at this moment.
    ///
    /// # Errors
    /// [`LockError::Forked`].
    fn is_locked(&self, key: KeyRef<'_>) -> Result<bool, LockError>;

    /// Returns whether it has been doing well lately.
    ///
    /// A backend without a window of time judges the time since it was made.
    fn health(&self) -> Health {
        Health::of(&since_made(&self.get_metrics()))
    }

    /// Returns what happened so far, in figures.
    fn get_metrics(&self) -> LockMetrics;

    /// Ends all waits; what is held can be released.
    fn close(&self);
}

impl dyn ObjectLocks + '_ {
    /// Has a grant released when the guard is dropped.
    pub fn guarded(&self, grant: Grant) -> BackendGuard<'_> {
        BackendGuard { locks: self, grant }
    }
}

/// A lock of any backend; dropping it releases it.
#[derive(Debug)]
#[must_use = "a guard releases its lock when it is dropped"]
pub struct BackendGuard<'a> {
    locks: &'a dyn ObjectLocks,
    grant: Grant,
}

impl Drop for BackendGuard<'_> {
    fn drop(&mut self) {
        // An error means that it was released by its number meanwhile, which is what is wanted.
        let _ = self.locks.release(self.grant);
    }
}

/// The figures since a backend was made, for one that has no window of time.
///
/// It does not know what was waited for.
fn since_made(metrics: &LockMetrics) -> RecentFigures {
    let all = &metrics.shard_metrics;
    let (granted, timed_out) = (all.slow, all.timeouts);
    let ended = EndedWaits { granted, timed_out, cancelled: all.cancelled, ..EndedWaits::default() };
    RecentFigures {
        window: metrics.uptime,
        immediate: all.fast + all.inserted,
        waits: WaitOutcomes { exclusive: ended, ..WaitOutcomes::default() },
        timeouts: all.timeouts,
        wait_time: all.wait_time,
        max_wait_time: all.max_wait_time,
    }
}

/// Waits for the locks of a batch one after the other.
fn one_by_one(
    locks: &dyn ObjectLocks,
    batch: &BatchLockRequest<'_>,
    deadline: Option<Instant>,
) -> Result<Vec<(ObjectKey, Grant)>, LockError> {
    let mut held = Vec::new();
    for (key, mode) in in_order(batch) {
        let cause = match locks.acquire_blocking(&batch.one(key, mode, deadline)) {
            Ok(grant) => {
                held.push((key.to_owned(), grant));
                continue;
            }
            Err(cause) => cause,
        };
        let is_over = matches!(cause, LockError::Closed | LockError::Forked);
        if batch.batch_mode == BatchMode::BestEffort && !is_over {
            continue;
        }
        for (_, grant) in held.into_iter().rev() {
            // It can only have been released by its number meanwhile.
            let _ = locks.release(grant);
        }
        return Err(if is_over { cause } else { LockError::Batch { key: key.to_owned(), cause: Box::new(cause) } });
    }
    Ok(held)
}

/// The environment variable that overrides [`LockConfig::backend`].
///
/// It is `fast`, `global` or `disabled`.
const BACKEND_VARIABLE: &str = "KEYLATCH_BACKEND";

/// Says once that locks exclude nothing.
///
/// A variable that was forgotten in an environment must not go unnoticed.
fn warn_of_disabled() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        eprintln!("keylatch: locks are disabled, by a setting or by {BACKEND_VARIABLE}: they exclude nothing")
    });
}

/// Returns the lock manager that the settings or the environment ask for.
///
/// The environment variable `KEYLATCH_BACKEND` comes first.
///
/// # Errors
/// [`LockError::InvalidConfig`], also for a name in the variable that is none.
pub fn open_backend(config: LockConfig) -> Result<Arc<dyn ObjectLocks>, LockError> {
    config.validate()?;
    let backend = match std::env::var_os(BACKEND_VARIABLE) {
        None => config.backend,
        Some(name) => name.to_string_lossy().parse()?,
    };
    if backend == Backend::Disabled {
        warn_of_disabled();
    }
    Ok(match backend {
        Backend::Fast => Arc::new(FastObjectLockManager::with_config(config)?),
        Backend::Global => GlobalLockManager::with_config(config)?,
        Backend::Disabled => Arc::new(DisabledLockManager::new()),
    })
}
