//! The clock that leases are counted by.

use std::time::Duration;

/// Time since the machine started, including the time that it was suspended.
///
/// A lease goes on while the machine sleeps.
#[must_use]
pub(crate) fn boottime() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a place for the answer, and the clock exists on every system that this is built for.
    let failed = unsafe { libc::clock_gettime(CLOCK, &raw mut time) };
    assert_eq!(failed, 0, "the system has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Sleeps until the clock says so.
///
/// A suspended machine wakes late and sees that the time is over.
pub(crate) async fn sleep_until(at: Duration) {
    loop {
        let left = at.saturating_sub(boottime());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}
