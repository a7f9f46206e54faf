//! The clock that leases are counted on: it goes on while the machine sleeps, and no person sets it.

use std::time::Duration;

/// Nanoseconds since the machine started, suspended or not.
pub(crate) fn boottime() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is a local, and the clock exists on every Linux since 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// How late a sleeper may notice that the machine was asleep.
const SLICE: Duration = Duration::from_millis(250);

/// Returns when this clock shows a time.
///
/// The timers of the runtime stand still while the machine sleeps, so it looks at the clock again and again.
pub(crate) async fn sleep_until(time: u64) {
    loop {
        let left = Duration::from_nanos(time.saturating_sub(boottime()));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(SLICE)).await;
    }
}

/// Nanoseconds of a duration; the largest number where they are more.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
