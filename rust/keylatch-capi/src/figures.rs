//! FIGURES
//!
//! What happened so far. Counting costs the locks nothing; reading takes the mutex of each part of the table for a moment.

use crate::boundary::{Out, SizedOut, Versioned, call, nanoseconds};
use crate::manager::{self, keylatch_manager};
use crate::refusal::{Failure, invalid, null};
use crate::status::{KEYLATCH_EBUFFER, KEYLATCH_EEND};
use keylatch::{LockMetrics, ShardMetrics};
use std::ffi::{CString, c_char};

/// For the shard of keylatch_manager_metrics(): all of them together.
pub const KEYLATCH_ALL_SHARDS: u32 = u32::MAX;

/// Figures of a manager, or of one shard of it. Those that count only grow.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_metrics {
    /// sizeof(keylatch_metrics), set by the caller
    pub struct_size: usize,
    /// Locks taken: by one compare-and-swap, under the shard's mutex, or after a wait.
    pub acquisitions: u64,
    pub fast: u64,
    pub inserted: u64,
    pub slow: u64,
    /// Locks released.
    pub releases: u64,
    /// Requests that had to wait in line.
    pub waits: u64,
    /// Requests whose time was over before they had the lock.
    pub timeouts: u64,
    /// Waits that were cancelled, or ended by closing the manager.
    pub cancelled: u64,
    /// Attempts without waiting that found the lock held.
    pub refused: u64,
    /// Time waited altogether, and the longest wait, of requests whose wait is over.
    pub wait_ns: u64,
    pub max_wait_ns: u64,
    /// Bounds below which 50, 90 and 99 % of waits stayed.
    ///
    /// UINT64_MAX if that is longer than the histogram reaches, 0 if there were no waits.
    pub wait_p50_ns: u64,
    pub wait_p90_ns: u64,
    pub wait_p99_ns: u64,
    /// Now: locks held, requests waiting, and keys in the table.
    ///
    /// Each reader counts as a held lock, and the keys include a few idle ones.
    pub holders: u64,
    pub waiters: u64,
    pub entries: u64,
    /// Of the whole manager, for any shard: its memory, and how long it has existed.
    pub bytes: u64,
    pub uptime_ns: u64,
    /// Deadlocks that were found.
    pub deadlocks: u64,
}

// SAFETY: integers without padding.
unsafe impl Versioned for keylatch_metrics {
    const FIRST_SIZE: usize = 160;
    const NAME: &'static str = "keylatch_metrics";
}

const _: () = assert!(size_of::<keylatch_metrics>() == 168);

/// Waits of about the same length. This struct will never change.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_wait_bucket {
    /// They were shorter than this, and not than the bound of the bucket before.
    ///
    /// UINT64_MAX for the last one, which has no bound.
    pub below_ns: u64,
    /// How many.
    pub waits: u64,
}

const _: () = assert!(size_of::<keylatch_wait_bucket>() == 16);

/// How a manager has been doing in the last minute.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_health {
    /// sizeof(keylatch_health), set by the caller
    pub struct_size: usize,
    /// 1 if the manager has been doing well; 0 if not.
    ///
    /// That is: more than 80 % of locks were had without a wait, fewer than 5 % of requests timed out, and waits were
    /// shorter than 10 ms on average. A manager that did nothing is healthy.
    pub healthy: i32,
    /// 0.
    pub reserved: u32,
    /// The share of locks that were had without a wait, 0 to 1.
    pub fast_path_rate: f64,
    /// The share of requests that timed out, 0 to 1.
    pub timeout_rate: f64,
    /// The mean wait of those who had to wait.
    pub avg_wait_ns: u64,
}

// SAFETY: integers and floats without padding.
unsafe impl Versioned for keylatch_health {
    const FIRST_SIZE: usize = 40;
    const NAME: &'static str = "keylatch_health";
}

const _: () = assert!(size_of::<keylatch_health>() == 40);

fn metrics_of(figures: &ShardMetrics, whole: &LockMetrics) -> keylatch_metrics {
    let quantile = |share| match figures.wait_histogram.quantile(share) {
        Some(bound) => nanoseconds(bound),
        None if figures.wait_histogram.count() == 0 => 0,
        None => u64::MAX,
    };
    keylatch_metrics {
        struct_size: 0,
        acquisitions: figures.acquisitions(),
        fast: figures.fast,
        inserted: figures.inserted,
        slow: figures.slow,
        releases: figures.releases,
        waits: figures.waits,
        timeouts: figures.timeouts,
        cancelled: figures.cancelled,
        refused: figures.refused,
        wait_ns: nanoseconds(figures.wait_time),
        max_wait_ns: nanoseconds(figures.max_wait_time),
        wait_p50_ns: quantile(0.5),
        wait_p90_ns: quantile(0.9),
        wait_p99_ns: quantile(0.99),
        holders: figures.holders,
        waiters: figures.waiters,
        entries: figures.entries,
        bytes: whole.bytes,
        uptime_ns: nanoseconds(whole.uptime),
        deadlocks: figures.deadlocks,
    }
}

/// The figures of a shard, or of all together.
fn of_shard(whole: &LockMetrics, shard: u32) -> Result<&ShardMetrics, Failure> {
    match shard {
        KEYLATCH_ALL_SHARDS => Ok(&whole.shard_metrics),
        one => whole.shards.get(one as usize).ok_or_else(|| invalid(format!("there is no shard {one}"))),
    }
}

/// In a forked child they are the parent's and cannot be read.
fn figures(manager: *const keylatch_manager) -> Result<LockMetrics, Failure> {
    Ok(manager::enter_here(manager)?.locks.get_metrics())
}

/// Gets the figures of one shard, or of all together: KEYLATCH_ALL_SHARDS.
///
/// Set metrics->struct_size first; the rest is written on success. Errors: KEYLATCH_EINVALID for a shard that there is not;
/// KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_manager_metrics(
    manager: *const keylatch_manager,
    shard: u32,
    metrics: *mut keylatch_metrics,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { SizedOut::new(metrics) }?;
        let whole = figures(manager)?;
        out.write(&metrics_of(of_shard(&whole, shard)?, &whole));
        Ok(())
    })
}

/// Gets how long waits of one shard were, or of all (KEYLATCH_ALL_SHARDS).
///
/// It says how many there were of each of a fixed row of lengths, the shortest first. There are at most 64 buckets, the
/// same ones always.
///
/// Writes *count, and as many buckets, on success. Errors: KEYLATCH_EBUFFER if there are more than capacity, and
/// keylatch_last_error() tells how many; KEYLATCH_EINVALID for a shard that there is not; KEYLATCH_EFORKED, KEYLATCH_ENULL,
/// KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_manager_wait_times(
    manager: *const keylatch_manager,
    shard: u32,
    buckets: *mut keylatch_wait_bucket,
    capacity: usize,
    count: *mut usize,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(count) }?;
        let whole = figures(manager)?;
        let histogram = &of_shard(&whole, shard)?.wait_histogram;
        let there = histogram.buckets().count();
        if buckets.is_null() {
            return Err(null("the array for the buckets"));
        }
        if capacity < there {
            return Err(Failure::owned(
                KEYLATCH_EBUFFER,
                format!("there are {there} buckets, and place for {capacity}"),
            ));
        }
        for (position, (below, waits)) in histogram.buckets().enumerate() {
            let bucket = keylatch_wait_bucket { below_ns: below.map_or(u64::MAX, nanoseconds), waits };
            // SAFETY: the header says what the caller promises, and there is place for that many.
            unsafe { buckets.add(position).write_unaligned(bucket) };
        }
        out.write(there);
        Ok(())
    })
}

/// Gets whether a manager has been doing well in the last minute.
///
/// If problems is not NULL, *problems becomes a text with a line for each thing that is wrong, empty if nothing is; it
/// is the caller's, to be freed with keylatch_text_free().
///
/// Set health->struct_size first; the rest is written on success. Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL,
/// KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_manager_health(
    manager: *const keylatch_manager,
    health: *mut keylatch_health,
    problems: *mut *mut c_char,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { SizedOut::new(health) }?;
        let found = figures(manager)?.health();
        if !problems.is_null() {
            let lines = found.problems.iter().map(|problem| format!("{problem}\n")).collect::<String>();
            // SAFETY: the header says what the caller promises.
            unsafe { problems.write_unaligned(text(lines)) };
        }
        out.write(&keylatch_health {
            struct_size: 0,
            healthy: i32::from(found.healthy),
            reserved: 0,
            fast_path_rate: found.fast_path_rate,
            timeout_rate: found.timeout_rate,
            avg_wait_ns: nanoseconds(found.avg_wait_time),
        });
        Ok(())
    })
}

/// A text of the caller's from now on.
pub(crate) fn text(text: String) -> *mut c_char {
    CString::new(text.replace('\0', "\\0")).unwrap_or_default().into_raw()
}

/// What a manager has learned about how long waits take.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_adaptive {
    /// sizeof(keylatch_adaptive), set by the caller
    pub struct_size: usize,
    /// How long a request waits now that says KEYLATCH_WAIT_DEFAULT.
    pub timeout_ns: u64,
    /// What the given share of the latest waits stayed below; 0 before 32 waits.
    pub quantile_ns: u64,
    /// Waits that were learned from, and how many of them timed out.
    pub samples: u64,
    pub timeouts: u64,
    /// The limits of the timeout, and how often each replaced what was learned.
    pub floor_ns: u64,
    pub ceiling_ns: u64,
    pub times_at_floor: u64,
    pub times_at_ceiling: u64,
}

// SAFETY: integers without padding.
unsafe impl Versioned for keylatch_adaptive {
    const FIRST_SIZE: usize = 72;
    const NAME: &'static str = "keylatch_adaptive";
}

const _: () = assert!(size_of::<keylatch_adaptive>() == 72);

/// Gets what the manager has learned about how long waits take.
///
/// It learns if it was made with KEYLATCH_MANAGER_ADAPTIVE.
///
/// Set adaptive->struct_size first; the rest is written on success. Errors: KEYLATCH_EEND if it was made without;
/// KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_manager_adaptive(
    manager: *const keylatch_manager,
    adaptive: *mut keylatch_adaptive,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { SizedOut::new(adaptive) }?;
        let learned = manager::enter_here(manager)?.locks.adaptive_timeout();
        let learned = learned
            .ok_or_else(|| Failure::new(KEYLATCH_EEND, "the manager was made without KEYLATCH_MANAGER_ADAPTIVE"))?;
        out.write(&keylatch_adaptive {
            struct_size: 0,
            timeout_ns: nanoseconds(learned.timeout),
            quantile_ns: learned.quantile.map_or(0, nanoseconds),
            samples: learned.samples,
            timeouts: learned.timeouts,
            floor_ns: nanoseconds(learned.floor),
            ceiling_ns: nanoseconds(learned.ceiling),
            times_at_floor: learned.times_at_floor,
            times_at_ceiling: learned.times_at_ceiling,
        });
        Ok(())
    })
}

/// Gets the figures as OpenMetrics 1.0 text, which monitoring systems read.
///
/// It can be served as "application/openmetrics-text; version=1.0.0; charset=utf-8".
///
/// Writes *metrics_text on success; it ends with a NUL and is the caller's, to be freed with keylatch_text_free(). Errors:
/// KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_manager_openmetrics(
    manager: *const keylatch_manager,
    metrics_text: *mut *mut c_char,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(metrics_text) }?;
        out.write(text(figures(manager)?.to_openmetrics()));
        Ok(())
    })
}

/// As keylatch_manager_openmetrics(), with the ten hottest keys.
///
/// Each of these keys is a label, and so a time series of its own in the monitoring system. Writes *metrics_text on
/// success; it ends with a NUL and is the caller's, to be freed with keylatch_text_free(). Errors: KEYLATCH_EFORKED,
/// KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_manager_openmetrics_with_keys(
    manager: *const keylatch_manager,
    metrics_text: *mut *mut c_char,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(metrics_text) }?;
        out.write(text(manager::enter_here(manager)?.locks.get_metrics_with_hottest_keys().to_openmetrics()));
        Ok(())
    })
}

/// Gets the figures as a report for people.
///
/// Writes *report on success; it ends with a NUL and is the caller's, to be freed with keylatch_text_free(). Errors:
/// KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_manager_report(manager: *const keylatch_manager, report: *mut *mut c_char) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(report) }?;
        out.write(text(figures(manager)?.to_string()));
        Ok(())
    })
}

/// Frees a text that the library made. NULL is fine and does nothing.
///
/// Errors: none; a text that was freed before, or is not the library's, is undefined behaviour, as with free(). Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_text_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the header says that it is one that `text` made, once.
        drop(unsafe { CString::from_raw(text) });
    }
}
