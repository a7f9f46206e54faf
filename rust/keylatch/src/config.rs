//! The settings of a manager, and their valid values.

use crate::error::LockError;
use crate::key::MAX_KEY_BYTES;
use std::time::Duration;

/// Which request goes first when several want the same lock.
///
/// Every waiter gets its turn under each policy. The policies differ in how often a waiter may be overtaken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
pub enum Fairness {
    /// A running caller may take a free lock ahead of the queue.
    ///
    /// It may until a waiter has waited for `after`; then the lock is handed over directly, in order.
    ///
    /// *Bound*: once a waiter has waited for `after`, no request overtakes it from the next release on, or from the moment
    /// it wakes to try by itself. A future that was woken and is not polled for `after` is passed over until it is. This
    /// is by far the fastest policy on a hot key.
    Eventual {
        /// How long a waiter may be overtaken.
        #[cfg_attr(feature = "serde", serde(with = "crate::written::seconds"))]
        after: Duration,
    },
    /// First come, first served; every release hands the lock to the next in line.
    ///
    /// Neighbouring readers get the lock together.
    ///
    /// *Bound*: no request overtakes one of the same priority.
    Fifo,
    /// As `Fifo`, but a writer queues ahead of waiting readers.
    ///
    /// *Bound*: a reader is overtaken at most `overtake_limit` times.
    WriterFirst,
    /// As `Fifo`, but a reader joins readers ahead of waiting writers.
    ///
    /// *Bound*: a writer is overtaken at most `overtake_limit` times.
    ReaderFirst,
}

impl Default for Fairness {
    /// `Eventual` after 500 µs.
    fn default() -> Self {
        Self::Eventual { after: Duration::from_micros(500) }
    }
}

/// Which lock manager answers; see [`open_backend`](crate::open_backend).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Backend {
    /// The real one.
    #[default]
    Fast,
    /// One mutex and a map, first in first out.
    ///
    /// For comparison, and as a fallback.
    Global,
    /// Grants everything, without a wait.
    ///
    /// For tests of code around it, and for measuring what locking costs.
    Disabled,
}

impl std::str::FromStr for Backend {
    type Err = LockError;

    fn from_str(name: &str) -> Result<Self, LockError> {
        match name {
            "fast" => Ok(Self::Fast),
            "global" => Ok(Self::Global),
            "disabled" => Ok(Self::Disabled),
            other => Err(invalid("backend", format!("\"{}\" is none of fast, global, disabled", other.escape_debug()))),
        }
    }
}

/// What happens when a session would wait for itself.
///
/// It asks again for what it holds, and would have to wait.
///
/// ```
/// use keylatch::{FastObjectLockManager, LockConfig, LockError, LockRequest, Reentrancy};
/// let strict = FastObjectLockManager::new();
/// let session = strict.session("txn-17");
/// let _held = strict.lock(LockRequest::write(("b", "o")).owner(&session)).blocking()?;
/// let again = strict.lock(LockRequest::write(("b", "o")).owner(&session)).blocking();
/// assert!(matches!(again, Err(LockError::Deadlock { .. })));
///
/// let counting = FastObjectLockManager::with_config(LockConfig { reentrancy: Reentrancy::Count, ..Default::default() })?;
/// let session = counting.session("txn-17");
/// let outer = counting.lock(LockRequest::write(("b", "o")).owner(&session)).blocking()?;
/// let inner = counting.lock(LockRequest::write(("b", "o")).owner(&session)).blocking()?;
/// drop(outer); // still held, until `inner` goes too
/// assert!(counting.try_acquire_read_lock("b", "o", "stranger").is_err());
/// drop(inner);
///
/// let reads = counting.lock(LockRequest::read(("b", "o")).owner(&session)).blocking()?;
/// let writes = counting.lock(LockRequest::write(("b", "o")).owner(&session)).blocking()?; // no other reads
/// assert_eq!(reads.mode(), writes.mode()); // both are exclusive now
/// # Ok::<(), LockError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Reentrancy {
    /// It fails with [`LockError::Deadlock`], which names the session itself.
    #[default]
    Deny,
    /// It is granted once more; the lock is free when as many guards are gone.
    ///
    /// It cannot be downgraded before all but one are gone.
    ///
    /// A session that shares a lock and asks for it exclusively, or upgrades one of its guards, waits ahead of the queue
    /// until no other shares it. Then all its holds of the lock are exclusive until they end. Two sessions that wait so for
    /// each other are a deadlock; of one session only one request waits so, and another is refused as a conflict.
    Count,
}

/// Which session of a deadlock is the victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Victim {
    /// The one whose request closed the circle.
    #[default]
    Asker,
    /// The session that was begun last: it has probably done the least.
    Youngest,
    /// The one that waits with the lowest priority; of several the youngest.
    LowestPriority,
}

/// A timeout learned from how long waits take; see [`LockConfig::adaptive`].
///
/// It is `factor_per_mille` thousandths of the wait that `quantile_per_mille` thousandths of the latest waits stayed below,
/// and never less than `floor` nor more than `ceiling`. A wait that timed out counts for twice as long as it took, so that
/// a timeout that is too short becomes longer. About the latest thousand waits count, and those older than a few
/// minutes count for less and less.
///
/// ```
/// use keylatch::{AdaptiveTimeout, FastObjectLockManager, LockConfig};
/// use std::time::Duration;
/// # fn main() -> Result<(), keylatch::LockError> {
/// // Four times as long as 19 of 20 waits took, but at least 50 ms and at most 5 s.
/// let policy = AdaptiveTimeout {
///     quantile_per_mille: 950,
///     factor_per_mille: 4000,
///     floor: Duration::from_millis(50),
///     ceiling: Duration::from_secs(5),
/// };
/// let locks = FastObjectLockManager::with_config(LockConfig { adaptive: Some(policy), ..LockConfig::default() })?;
/// let state = locks.adaptive_timeout().expect("it was asked for");
/// assert_eq!((state.samples, state.timeout), (0, policy.ceiling)); // there were no waits yet
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct AdaptiveTimeout {
    /// The share of waits that the timeout goes by, in thousandths.
    ///
    /// From 1 to 1000, default 990.
    pub quantile_per_mille: u32,
    /// How much longer the timeout is than those waits, in thousandths.
    ///
    /// At least 1000, for a shorter one would end waits of which it then never learned how long they take. Default
    /// 2000: twice as long.
    pub factor_per_mille: u32,
    /// The shortest timeout. Default 10 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::written::seconds"))]
    pub floor: Duration,
    /// The longest. Default 30 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::written::seconds"))]
    pub ceiling: Duration,
}

impl Default for AdaptiveTimeout {
    fn default() -> Self {
        Self {
            quantile_per_mille: 990,
            factor_per_mille: 2000,
            floor: Duration::from_millis(10),
            ceiling: Duration::from_secs(30),
        }
    }
}

impl AdaptiveTimeout {
    pub(crate) fn validate(&self) -> Result<(), LockError> {
        let problem = match self {
            Self { quantile_per_mille: 1..=1000, factor_per_mille: 1000.., floor, ceiling } => {
                if floor <= ceiling && !ceiling.is_zero() {
                    return Ok(());
                }
                format!(
                    "floor {floor:?} and ceiling {ceiling:?} leave no timeout; the ceiling is above zero and the floor"
                )
            }
            Self { quantile_per_mille: 1..=1000, factor_per_mille: factor, .. } => {
                format!("factor_per_mille {factor} is below 1000, which is once as long")
            }
            Self { quantile_per_mille: quantile, .. } => {
                format!("quantile_per_mille {quantile} is not from 1 to 1000; 990 stands for 99 of 100 waits")
            }
        };
        Err(invalid("adaptive", problem))
    }
}

/// The settings of a manager. The defaults need no reading.
///
/// ```
/// use keylatch::{FastObjectLockManager, Fairness, LockConfig};
/// let locks = FastObjectLockManager::with_config(LockConfig { fairness: Fairness::Fifo, ..LockConfig::default() })?;
/// let wrong = FastObjectLockManager::with_config(LockConfig { shards: 1000, ..LockConfig::default() });
/// assert!(wrong.unwrap_err().to_string().contains("1024"));
/// # Ok::<(), keylatch::LockError>(())
/// ```
///
/// With the feature `serde` a file can have the settings. Times are seconds there, `"never"` is none, what is missing is the
/// default, and an unknown name is an error. The format has to describe itself, as TOML and JSON do:
///
/// ```toml
/// max_locks = 1_000_000
/// default_timeout = 2.5
/// deadlock_delay = "never"
/// fairness.eventual.after = 0.001
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct LockConfig {
    /// Parts of the table that change independently.
    ///
    /// A power of two from 1 to 65,536, default 1024.
    pub shards: u32,
    /// Who goes first. Default [`Fairness::Eventual`] after 500 µs.
    pub fairness: Fairness,
    /// How long a request waits by default; `None`, the default, sets no limit.
    #[cfg_attr(feature = "serde", serde(with = "crate::written::seconds_or_never"))]
    pub default_timeout: Option<Duration>,
    /// Learns from the waits it sees how long a request waits by default.
    ///
    /// Then `default_timeout` serves only until 32 waits were seen, and without one the ceiling. Default `None`.
    pub adaptive: Option<AdaptiveTimeout>,
    /// Locks that can be in the table at a time, from 1 to 33,554,432.
    ///
    /// Default 8,388,608. Only address space is reserved for them. Keys longer than 56 bytes count as several. Large
    /// tables hand entries out to threads in small batches, so that the limit may be felt up to 64 locks a thread
    /// early. A lock that was taken away counts until its guard is gone; there is room beyond the limit for taking
    /// locks away.
    pub max_locks: u32,
    /// Requests that can wait at a time, from 1 to 16,777,216. Default 1,048,576.
    pub max_waiters: u32,
    /// Bytes of a key, its parts together, from 1 to 65,535. Default 8192.
    pub max_key_bytes: usize,
    /// How often a waiter may be overtaken.
    ///
    /// That is by higher priorities, or by the preferred mode under `WriterFirst` and `ReaderFirst`. Default 64.
    pub overtake_limit: u32,
    /// What a session gets that asks again for what it holds.
    ///
    /// Default [`Reentrancy::Deny`].
    pub reentrancy: Reentrancy,
    /// How long a session's request waits before it looks for a deadlock.
    ///
    /// Zero looks before it sleeps, and `None` never looks. Default 50 ms.
    ///
    /// A look goes through the line it stands in, so that of a crowd of sessions at one key that have all waited this long
    /// each looks at all: a longer delay, or labels where nothing can come of it, spares that.
    #[cfg_attr(feature = "serde", serde(with = "crate::written::seconds_or_never"))]
    pub deadlock_delay: Option<Duration>,
    /// Which session of a deadlock is the victim. Default [`Victim::Asker`].
    pub victim: Victim,
    /// Reports orders of locks that could become a deadlock, before they do.
    ///
    /// It watches sessions, and reports by [`Event::LockOrder`](crate::Event::LockOrder) and
    /// [`lock_order_reports`](crate::FastObjectLockManager::lock_order_reports). Of labels and of guards without an
    /// owner nothing is known. Each circle of orders is reported once. Default `false`.
    ///
    /// It works in every build, and is meant for those of developers, `lock_order_lint: cfg!(debug_assertions)`: while it
    /// is set the fast path is off, and every request takes its shard's mutex and one for the whole manager.
    pub lock_order_lint: bool,
    /// Lets the readers of a crowded key write nothing that their threads share.
    ///
    /// A key is crowded while many threads read it at a time.
    /// Each reader then writes to memory of its own thread alone. The first request that asks for the key exclusively, lists its
    /// holders or asks for more than to share it looks at the memory of all threads: some microseconds, after which the key
    /// is as others are, until it is read so often again. Not where a tier shares the keys. Default `true`.
    pub reader_slots: bool,
    /// How long a lock stays closed that an exclusive holder lost by its lease.
    ///
    /// What the old holder still has on its way arrives first. Listings show it as kept shut, figures count no holder,
    /// and releasing it by force or closing the manager ends that. Default zero.
    #[cfg_attr(feature = "serde", serde(with = "crate::written::seconds"))]
    pub lock_delay: Duration,
    /// The latest stretch of time, which [`health`] judges: at least one millisecond.
    ///
    /// It is kept to a twelfth. Default one minute.
    ///
    /// [`health`]: crate::FastObjectLockManager::health
    #[cfg_attr(feature = "serde", serde(with = "crate::written::seconds"))]
    pub health_window: Duration,
    /// Which manager [`open_backend`](crate::open_backend) makes.
    ///
    /// Default [`Backend::Fast`].
    pub backend: Backend,
}

impl Default for LockConfig {
    fn default() -> Self {
        Self {
            shards: 1024,
            fairness: Fairness::default(),
            default_timeout: None,
            adaptive: None,
            max_locks: 1 << 23,
            max_waiters: 1 << 20,
            max_key_bytes: 8192,
            overtake_limit: 64,
            reentrancy: Reentrancy::Deny,
            deadlock_delay: Some(Duration::from_millis(50)),
            victim: Victim::Asker,
            lock_order_lint: false,
            // Under the model checker they add executions to models that are about other things.
            reader_slots: !cfg!(loom),
            lock_delay: Duration::ZERO,
            health_window: Duration::from_secs(60),
            backend: Backend::Fast,
        }
    }
}

const MAX_SHARDS: u32 = 1 << 16;
const MAX_LOCKS: u32 = 1 << 25;
const MAX_WAITERS: u32 = 1 << 24;
/// Bytes of a name that are kept.
pub(crate) const MAX_NAME_BYTES: usize = 256;
const MIN_HEALTH_WINDOW: Duration = Duration::from_millis(1);

// Every lock can have a record, with room for readers that share one.
const _: () = assert!(MAX_LOCKS < crate::grant::MAX_RECORDS);

impl LockConfig {
    /// Returns an error that names an invalid setting, if there is one.
    ///
    /// # Errors
    /// [`LockError::InvalidConfig`].
    pub fn validate(&self) -> Result<(), LockError> {
        if !self.shards.is_power_of_two() || self.shards > MAX_SHARDS {
            let nearest = self.shards.clamp(1, MAX_SHARDS).next_power_of_two();
            let problem = format!("{} is no power of two from 1 to {MAX_SHARDS}; {nearest} is", self.shards);
            return Err(invalid("shards", problem));
        }
        in_range("max_locks", u64::from(self.max_locks), u64::from(MAX_LOCKS))?;
        in_range("max_waiters", u64::from(self.max_waiters), u64::from(MAX_WAITERS))?;
        in_range("max_key_bytes", self.max_key_bytes as u64, MAX_KEY_BYTES as u64)?;
        if self.health_window < MIN_HEALTH_WINDOW {
            let problem = format!("{:?} is shorter than {MIN_HEALTH_WINDOW:?}", self.health_window);
            return Err(invalid("health_window", problem));
        }
        self.adaptive.map_or(Ok(()), |adaptive| adaptive.validate())
    }
}

fn in_range(setting: &'static str, value: u64, most: u64) -> Result<(), LockError> {
    if (1..=most).contains(&value) { Ok(()) } else { Err(invalid(setting, format!("{value} is not from 1 to {most}"))) }
}

pub(crate) fn invalid(setting: &'static str, problem: String) -> LockError {
    LockError::InvalidConfig { setting, problem }
}
