//! MANAGERS
//!
//! A manager is one table of locks. Most programs have one. Making one reserves address space, not memory.

use crate::annotate;
use crate::boundary::{Out, SizedOut, Versioned, call, flag, nanoseconds, read};
use crate::callbacks::{InParts, Outstanding};
use crate::etcd::{self, Remote, keylatch_etcd_options};
use crate::handle::{self, Entered, Kind, Mark};
use crate::refusal::{Failure, invalid};
use keylatch::{AdaptiveTimeout, Fairness, FastObjectLockManager, LockConfig, LockError, Reentrancy, Victim};
use keylatch_shm::tier::SharedMemory;
use std::ffi::{CStr, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::ptr::{NonNull, null};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A lock manager: keylatch_manager_new() makes it.
///
/// Freed by keylatch_manager_free().
#[derive(Debug)]
pub struct keylatch_manager {
    pub(crate) locks: FastObjectLockManager,
    /// Tells managers apart, for what belongs to one.
    pub(crate) number: u64,
    pub(crate) callbacks: Arc<Outstanding>,
    pub(crate) in_parts: InParts,
    remote: Option<Remote>,
}

impl Kind for keylatch_manager {
    const MARK: &'static Mark = {
        static MARK: Mark = Mark::new();
        &MARK
    };
    const NAME: &'static str = "keylatch_manager";
}

/// A running caller may take a free lock ahead of the line; the default.
///
/// It may until a waiter has waited for fairness_after_ns. This is by far the fastest on a hot key.
pub const KEYLATCH_FAIRNESS_EVENTUAL: u32 = 1;
/// First come, first served; every release hands the lock to the next in line.
pub const KEYLATCH_FAIRNESS_FIFO: u32 = 2;
/// As FIFO, but a writer queues ahead of waiting readers.
///
/// A reader is overtaken at most overtake_limit times.
pub const KEYLATCH_FAIRNESS_WRITER_FIRST: u32 = 3;
/// As FIFO, but a reader joins readers ahead of waiting writers.
///
/// A writer is overtaken at most overtake_limit times.
pub const KEYLATCH_FAIRNESS_READER_FIRST: u32 = 4;

/// A session that would wait for itself fails with KEYLATCH_EDEADLOCK.
///
/// It asks again for what it holds, in a way that has to wait. The default.
pub const KEYLATCH_REENTRANCY_DENY: u32 = 1;
/// It is granted once more; the lock is free when as many grants are released.
/// A session that shares a lock and asks for it exclusively has all its holds exclusively, once it shares with no other.
pub const KEYLATCH_REENTRANCY_COUNT: u32 = 2;

/// The victim is the session whose request closed the circle.
///
/// The default.
pub const KEYLATCH_VICTIM_ASKER: u32 = 1;
/// The victim is the session that was begun last.
pub const KEYLATCH_VICTIM_YOUNGEST: u32 = 2;
/// The victim is the session that waits with the lowest priority.
///
/// Of several it is the youngest.
pub const KEYLATCH_VICTIM_LOWEST_PRIORITY: u32 = 3;

/// KEYLATCH_WAIT_DEFAULT is learned from how long waits take.
///
/// See keylatch_manager_adaptive().
pub const KEYLATCH_MANAGER_ADAPTIVE: u32 = 1;
/// Watches sessions for lock orders that contradict each other.
///
/// Such orders can become a deadlock.
///
/// keylatch_lock_orders() and an event report them. For development: every request of a session takes a mutex then.
pub const KEYLATCH_MANAGER_LOCK_ORDER: u32 = 2;
/// Lets the readers of a crowded key write nothing that their threads share.
///
/// Each writes to memory of its own thread instead. The first request that asks for the key exclusively, converts a lock
/// or lists its holders looks at the memory of all threads: some microseconds. Not where a tier shares the keys. The default.
pub const KEYLATCH_MANAGER_READER_SLOTS: u32 = 4;
/// The opposite of KEYLATCH_MANAGER_READER_SLOTS.
pub const KEYLATCH_MANAGER_NO_READER_SLOTS: u32 = 8;

/// Never: a time that does not end.
pub const KEYLATCH_NEVER: u64 = u64::MAX;

/// The settings of a manager. Everything that is 0 is the default, so that
///
///     keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
///
/// is all defaults.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_manager_options {
    /// sizeof(keylatch_manager_options)
    pub struct_size: usize,
    /// Parts of the table that change independently.
    ///
    /// A power of two from 1 to 65,536. Default 1024.
    pub shards: u32,
    /// Who goes first: KEYLATCH_FAIRNESS_... Default EVENTUAL.
    pub fairness: u32,
    /// For EVENTUAL: how long a waiter may be overtaken.
    ///
    /// Default 500 us; 1 is practically not at all.
    pub fairness_after_ns: u64,
    /// How long a request waits that says KEYLATCH_WAIT_DEFAULT.
    ///
    /// Default KEYLATCH_WAIT_FOREVER.
    pub default_timeout_ns: u64,
    /// Locks that can be in the table at a time, up to 33,554,432.
    ///
    /// Default 8,388,608, or as many as address space can be had for. Only address space is reserved for them. A key
    /// longer than 56 bytes counts as several.
    pub max_locks: u32,
    /// Requests that can wait at a time, up to 16,777,216. Default 1,048,576.
    pub max_waiters: u32,
    /// Bytes of a key, its parts together, up to 65,535. Default 8192.
    pub max_key_bytes: u64,
    /// How often a waiter may be overtaken.
    ///
    /// That is by higher priorities, or by the mode that the fairness prefers. Default 64; KEYLATCH_OVERTAKE_NEVER for
    /// not at all.
    pub overtake_limit: u32,
    /// What a session gets that asks again for what it holds.
    ///
    /// KEYLATCH_REENTRANCY_...; default DENY.
    pub reentrancy: u32,
    /// How long a session's request waits before it looks for a deadlock.
    ///
    /// Default 50 ms; 1 is practically no delay, KEYLATCH_NEVER does not look.
    pub deadlock_delay_ns: u64,
    /// Which session of a deadlock is the victim: KEYLATCH_VICTIM_... Default ASKER.
    pub victim: u32,
    /// Flags: KEYLATCH_MANAGER_..., or 0.
    pub flags: u32,
    /// How long a lock stays closed that an exclusive holder lost by its lease.
    ///
    /// What the old holder still has on its way arrives first. Default: not at all.
    pub lock_delay_ns: u64,
    /// For KEYLATCH_MANAGER_ADAPTIVE: how the timeout is learned.
    ///
    /// The timeout is adaptive_factor_per_mille thousandths (at least 1000, default 2000) of what
    /// adaptive_quantile_per_mille thousandths (1 to 1000, default 990) of waits stay below, but not shorter than
    /// adaptive_floor_ns (default 10 ms) and not longer than adaptive_ceiling_ns (default 30 s). Until 32 waits were
    /// observed it is default_timeout_ns, or else the longest.
    pub adaptive_quantile_per_mille: u32,
    pub adaptive_factor_per_mille: u32,
    pub adaptive_floor_ns: u64,
    pub adaptive_ceiling_ns: u64,
    /// The window of keylatch_manager_health(). Default one minute.
    pub health_window_ns: u64,
    /// A file through which managers of several processes share their keys.
    ///
    /// Such as "/dev/shm/my-engine", with a terminating NUL. It is made if it is missing. NULL for a manager of this process alone, the default.
    /// keylatch_manager_settings() does not tell it.
    pub shared_memory: *const c_char,
    /// The addresses of an etcd cluster through which managers share their keys.
    ///
    /// On several machines. Such as "10.0.0.1:2379,10.0.0.2:2379", with a terminating NUL; http:// and https:// may be before each. Not together
    /// with shared_memory. NULL for none, the default. keylatch_manager_settings() does not tell it.
    pub etcd: *const c_char,
    /// What else is to be said of the cluster; NULL for all defaults.
    pub etcd_options: *const keylatch_etcd_options,
}

/// For overtake_limit: no waiter is ever overtaken.
pub const KEYLATCH_OVERTAKE_NEVER: u32 = u32::MAX;

// SAFETY: integers and pointers without padding.
unsafe impl Versioned for keylatch_manager_options {
    const FIRST_SIZE: usize = 104;
    const NAME: &'static str = "keylatch_manager_options";
}

const _: () = assert!(size_of::<keylatch_manager_options>() == 136);

fn config_of(options: &keylatch_manager_options) -> Result<LockConfig, Failure> {
    let mut config = LockConfig::default();
    let or = |given: u32, default: u32| if given == 0 { default } else { given };
    let time = |given: u64, default: Option<Duration>| match given {
        0 => default,
        KEYLATCH_NEVER => None,
        nanoseconds => Some(Duration::from_nanos(nanoseconds)),
    };
    const SLOTS: u32 = KEYLATCH_MANAGER_READER_SLOTS;
    const NO_SLOTS: u32 = KEYLATCH_MANAGER_NO_READER_SLOTS;
    if options.flags & !(KEYLATCH_MANAGER_ADAPTIVE | KEYLATCH_MANAGER_LOCK_ORDER | SLOTS | NO_SLOTS) != 0 {
        return Err(invalid(format!(
            "{:#x} is not a set of flags of a manager: they are KEYLATCH_MANAGER_ADAPTIVE, KEYLATCH_MANAGER_LOCK_ORDER, \
             KEYLATCH_MANAGER_READER_SLOTS and KEYLATCH_MANAGER_NO_READER_SLOTS",
            options.flags
        )));
    }
    config.reader_slots = match options.flags & (SLOTS | NO_SLOTS) {
        SLOTS => true,
        NO_SLOTS => false,
        0 => config.reader_slots,
        _ => {
            return Err(invalid(
                "KEYLATCH_MANAGER_READER_SLOTS and KEYLATCH_MANAGER_NO_READER_SLOTS: choose one".into(),
            ));
        }
    };
    if options.flags & KEYLATCH_MANAGER_ADAPTIVE != 0 {
        let default = AdaptiveTimeout::default();
        let long = |given: u64, default: Duration| if given == 0 { default } else { Duration::from_nanos(given) };
        config.adaptive = Some(AdaptiveTimeout {
            quantile_per_mille: or(options.adaptive_quantile_per_mille, default.quantile_per_mille),
            factor_per_mille: or(options.adaptive_factor_per_mille, default.factor_per_mille),
            floor: long(options.adaptive_floor_ns, default.floor),
            ceiling: long(options.adaptive_ceiling_ns, default.ceiling),
        });
    }
    config.lock_order_lint = options.flags & KEYLATCH_MANAGER_LOCK_ORDER != 0;
    config.shards = or(options.shards, config.shards);
    config.max_locks = or(options.max_locks, config.max_locks);
    config.max_waiters = or(options.max_waiters, config.max_waiters);
    if options.max_key_bytes != 0 {
        config.max_key_bytes = usize::try_from(options.max_key_bytes).unwrap_or(usize::MAX);
    }
    config.overtake_limit = match options.overtake_limit {
        KEYLATCH_OVERTAKE_NEVER => 0,
        limit => or(limit, config.overtake_limit),
    };
    config.default_timeout = time(options.default_timeout_ns, None);
    config.fairness = match options.fairness {
        0 | KEYLATCH_FAIRNESS_EVENTUAL => match options.fairness_after_ns {
            0 => Fairness::default(),
            nanoseconds => Fairness::Eventual { after: Duration::from_nanos(nanoseconds) },
        },
        KEYLATCH_FAIRNESS_FIFO => Fairness::Fifo,
        KEYLATCH_FAIRNESS_WRITER_FIRST => Fairness::WriterFirst,
        KEYLATCH_FAIRNESS_READER_FIRST => Fairness::ReaderFirst,
        other => {
            return Err(invalid(format!("{other} is no fairness: it is from 1 (eventual) to 4 (reader first), or 0")));
        }
    };
    config.reentrancy = match options.reentrancy {
        0 | KEYLATCH_REENTRANCY_DENY => Reentrancy::Deny,
        KEYLATCH_REENTRANCY_COUNT => Reentrancy::Count,
        other => return Err(invalid(format!("{other} is no reentrancy: it is 1 (deny) or 2 (count), or 0"))),
    };
    config.victim = match options.victim {
        0 | KEYLATCH_VICTIM_ASKER => Victim::Asker,
        KEYLATCH_VICTIM_YOUNGEST => Victim::Youngest,
        KEYLATCH_VICTIM_LOWEST_PRIORITY => Victim::LowestPriority,
        other => {
            return Err(invalid(format!("{other} is no victim: it is from 1 (asker) to 3 (lowest priority), or 0")));
        }
    };
    config.deadlock_delay = time(options.deadlock_delay_ns, config.deadlock_delay);
    config.lock_delay = time(options.lock_delay_ns, Some(Duration::ZERO)).unwrap_or(Duration::MAX);
    config.health_window = time(options.health_window_ns, Some(config.health_window)).unwrap_or(Duration::MAX);
    Ok(config)
}

/// The opposite, with every default written out.
fn options_of(config: &LockConfig) -> keylatch_manager_options {
    let (fairness, fairness_after_ns) = match config.fairness {
        Fairness::Eventual { after } => (KEYLATCH_FAIRNESS_EVENTUAL, nanoseconds(after)),
        Fairness::Fifo => (KEYLATCH_FAIRNESS_FIFO, 0),
        Fairness::WriterFirst => (KEYLATCH_FAIRNESS_WRITER_FIRST, 0),
        Fairness::ReaderFirst => (KEYLATCH_FAIRNESS_READER_FIRST, 0),
    };
    keylatch_manager_options {
        struct_size: size_of::<keylatch_manager_options>(),
        shards: config.shards,
        fairness,
        fairness_after_ns,
        default_timeout_ns: config.default_timeout.map_or(KEYLATCH_NEVER, nanoseconds),
        max_locks: config.max_locks,
        max_waiters: config.max_waiters,
        max_key_bytes: config.max_key_bytes as u64,
        overtake_limit: if config.overtake_limit == 0 { KEYLATCH_OVERTAKE_NEVER } else { config.overtake_limit },
        reentrancy: match config.reentrancy {
            Reentrancy::Deny => KEYLATCH_REENTRANCY_DENY,
            Reentrancy::Count => KEYLATCH_REENTRANCY_COUNT,
        },
        deadlock_delay_ns: config.deadlock_delay.map_or(KEYLATCH_NEVER, nanoseconds),
        victim: match config.victim {
            Victim::Asker => KEYLATCH_VICTIM_ASKER,
            Victim::Youngest => KEYLATCH_VICTIM_YOUNGEST,
            Victim::LowestPriority => KEYLATCH_VICTIM_LOWEST_PRIORITY,
        },
        flags: flag(config.adaptive.is_some(), KEYLATCH_MANAGER_ADAPTIVE)
            | flag(config.lock_order_lint, KEYLATCH_MANAGER_LOCK_ORDER)
            | flag(config.reader_slots, KEYLATCH_MANAGER_READER_SLOTS)
            | flag(!config.reader_slots, KEYLATCH_MANAGER_NO_READER_SLOTS),
        lock_delay_ns: nanoseconds(config.lock_delay),
        adaptive_quantile_per_mille: config.adaptive.map_or(0, |adaptive| adaptive.quantile_per_mille),
        adaptive_factor_per_mille: config.adaptive.map_or(0, |adaptive| adaptive.factor_per_mille),
        adaptive_floor_ns: config.adaptive.map_or(0, |adaptive| nanoseconds(adaptive.floor)),
        adaptive_ceiling_ns: config.adaptive.map_or(0, |adaptive| nanoseconds(adaptive.ceiling)),
        health_window_ns: nanoseconds(config.health_window),
        shared_memory: null(),
        etcd: null(),
        etcd_options: null(),
    }
}

/// A manager has one tier.
fn check_tiers(options: &keylatch_manager_options) -> Result<(), Failure> {
    let problem = match (options.etcd.is_null(), options.etcd_options.is_null(), options.shared_memory.is_null()) {
        (true, false, _) => "etcd_options are given without etcd; give both",
        (false, _, false) => "shared_memory is given, too; a manager shares its keys in one way",
        _ => return Ok(()),
    };
    Err(Failure::Core(LockError::InvalidConfig { setting: "etcd", problem: problem.into() }))
}

/// Goes inside a manager.
#[inline(always)]
pub(crate) fn enter(manager: *const keylatch_manager) -> Result<Entered<keylatch_manager>, Failure> {
    handle::enter(manager.cast())
}

/// As [`enter`], but not with a manager of the parent's in a forked child.
///
/// For calls that take mutexes, which may be locked there for ever.
pub(crate) fn enter_here(manager: *const keylatch_manager) -> Result<Entered<keylatch_manager>, Failure> {
    handle::enter_here(manager.cast())
}

/// A handle as the caller holds it.
pub(crate) fn handed_out<T>(handle: NonNull<c_void>) -> *mut T {
    handle.as_ptr().cast()
}

/// Makes a manager. options may be NULL for the defaults.
///
/// With etcd it waits until the cluster has answered, or until etcd_options->connect_timeout_ns is over and some seconds.
///
/// Writes *manager on success; it is the caller's, to be freed with keylatch_manager_free(). Errors: KEYLATCH_ENULL,
/// KEYLATCH_ESTRUCT, KEYLATCH_EINVALID; KEYLATCH_ECONFIG for an invalid setting, and keylatch_last_error() names a valid
/// value; KEYLATCH_ETIER if shared_memory or etcd cannot be used; KEYLATCH_EHANDLE if there are as many handles as there can be. Threads: any; also in a forked child.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_manager_new(
    options: *const keylatch_manager_options,
    manager: *mut *mut keylatch_manager,
) -> i32 {
    call(|| {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        keylatch::run_threads_inside(annotate::own_thread);
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(manager) }?;
        let mut remote = None;
        let locks = match NonNull::new(options.cast_mut()) {
            None => FastObjectLockManager::fitting(LockConfig::default())?,
            Some(options) => {
                // SAFETY: the header says what the caller promises.
                let options = unsafe { read(options) }?;
                let config = config_of(&options)?;
                check_tiers(&options)?;
                match options.max_locks {
                    _ if !options.etcd.is_null() => {
                        // SAFETY: the header says what the caller promises.
                        let (locks, tier) = unsafe { etcd::manager(config, options.etcd, options.etcd_options) }?;
                        remote = Some(tier);
                        locks
                    }
                    _ if !options.shared_memory.is_null() => {
                        // SAFETY: not NULL, and the header says that it ends with a NUL.
                        let path = unsafe { CStr::from_ptr(options.shared_memory) };
                        config.shared_memory(OsStr::from_bytes(path.to_bytes()))?
                    }
                    0 => FastObjectLockManager::fitting(config)?,
                    _ => FastObjectLockManager::with_config(config)?,
                }
            }
        };
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let manager =
            keylatch_manager { locks, number, callbacks: Arc::default(), in_parts: InParts::default(), remote };
        out.write(handed_out(handle::create(manager)?));
        Ok(())
    })
}

/// Gets the settings that the manager has, with every default written out.
///
/// Set options->struct_size first; the rest is written on success. Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE,
/// KEYLATCH_ESTRUCT. Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_manager_settings(
    manager: *const keylatch_manager,
    options: *mut keylatch_manager_options,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { SizedOut::new(options) }?;
        out.write(&options_of(enter(manager)?.locks.config()));
        Ok(())
    })
}

/// Closes a manager: requests that wait and those to come fail.
///
/// They fail with KEYLATCH_ECLOSED. What is held stays held until it is released. Closing again does nothing.
///
/// Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any, at any time; also from callbacks. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_manager_close(manager: *mut keylatch_manager) -> i32 {
    call(|| {
        enter(manager)?.locks.close();
        Ok(())
    })
}

/// Gets whether a manager was closed: *closed is 1 or 0.
///
/// Writes *closed on success. Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_manager_is_closed(manager: *const keylatch_manager, closed: *mut i32) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(closed) }?;
        out.write(i32::from(enter(manager)?.locks.is_closed()));
        Ok(())
    })
}

/// Closes and frees a manager.
///
/// Requests that wait in other threads end with KEYLATCH_ECLOSED; this function waits until every call in progress on
/// the manager has returned, until every callback has been called, has returned, and its free_fn too, and until the
/// manager's own threads have ended: a plug-in that contains the library may be unloaded then. Calls that come later
/// get KEYLATCH_EHANDLE. Grants of this manager end with it, on other machines, too: with etcd the cluster knows when it returns. Owners and queues of it stay, to be freed by their own
/// functions.
///
/// A callback may free its manager; then callbacks of this manager that are still to come, and its own end, are not waited for.
/// A callback of another manager waits as other threads do; two callbacks that free each other's manager wait for ever.
/// NULL is fine and does nothing.
///
/// Errors: KEYLATCH_EHANDLE, for a second time for instance; KEYLATCH_EFORKED in a forked child: nothing is freed there
/// then; KEYLATCH_EBUSY from a function that is called back inside a call on this manager (a free_fn). Threads: any; two
/// together are fine, one of them gets KEYLATCH_EHANDLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_manager_free(manager: *mut keylatch_manager) -> i32 {
    call(|| {
        if manager.is_null() {
            return Ok(());
        }
        let ended = handle::end::<keylatch_manager>(manager.cast(), |inside| inside.locks.close())?;
        // Those about holds that will be lost no more: they are freed now rather than when the last queue is.
        ended.locks.forget_listeners();
        let are_over = ended.callbacks.wait_for_all(ended.number);
        if let Some(remote) = &ended.remote {
            remote.close();
        }
        if are_over {
            ended.locks.join_threads();
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_round_trip_zeros_are_defaults() {
        // SAFETY: integers.
        let zeros: keylatch_manager_options = unsafe { std::mem::zeroed() };
        assert_eq!(config_of(&zeros).unwrap(), LockConfig::default());
        for config in [
            LockConfig::default(),
            LockConfig { fairness: Fairness::Fifo, overtake_limit: 0, ..LockConfig::default() },
            LockConfig {
                adaptive: Some(AdaptiveTimeout { quantile_per_mille: 900, ..AdaptiveTimeout::default() }),
                lock_order_lint: true,
                ..LockConfig::default()
            },
            LockConfig { victim: Victim::Youngest, deadlock_delay: None, ..LockConfig::default() },
            LockConfig { reader_slots: true, ..LockConfig::default() },
            LockConfig { reader_slots: false, ..LockConfig::default() },
            LockConfig {
                reentrancy: Reentrancy::Count,
                default_timeout: Some(Duration::from_millis(7)),
                lock_delay: Duration::from_secs(1),
                health_window: Duration::from_secs(7),
                ..LockConfig::default()
            },
        ] {
            assert_eq!(config_of(&options_of(&config)).unwrap(), config);
        }
    }
}
