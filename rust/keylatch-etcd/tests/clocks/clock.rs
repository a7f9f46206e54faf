//! The clocks of this program: the system's, and what a test adds to them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Nanoseconds that the wall clock is ahead.
static WALL: AtomicI64 = AtomicI64::new(0);
/// The same of the clock that goes on while the machine sleeps.
static BOOT: AtomicI64 = AtomicI64::new(0);

const SECOND: i64 = 1_000_000_000;

/// Takes the place of the C library's function for all of this program.
///
/// # Safety
/// As that one: `time` points to where a time may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the caller's pointer goes to the kernel, which checks it.
    let outcome = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    let ahead = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => WALL.load(Ordering::Relaxed),
        libc::CLOCK_BOOTTIME => BOOT.load(Ordering::Relaxed),
        _ => 0,
    };
    if outcome == 0 && ahead != 0 {
        // SAFETY: the kernel has written there.
        let time = unsafe { &mut *time };
        let nanos = time.tv_sec * SECOND + time.tv_nsec + ahead;
        (time.tv_sec, time.tv_nsec) = (nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND));
    }
    libc::c_int::try_from(outcome).unwrap_or(-1)
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).expect("not centuries")
}

/// Someone sets the wall clock, to so much after the true time.
pub(crate) fn set_wall_ahead(time: Duration) {
    WALL.store(nanos(time), Ordering::Relaxed);
}

/// The same before the true time.
pub(crate) fn set_wall_behind(time: Duration) {
    WALL.store(-nanos(time), Ordering::Relaxed);
}

/// The machine was asleep: this clock has gone on, and timers have not.
pub(crate) fn sleep_machine(time: Duration) {
    BOOT.fetch_add(nanos(time), Ordering::Relaxed);
}

/// What no clock does that leases are counted on: it goes back.
pub(crate) fn turn_back(time: Duration) {
    BOOT.fetch_sub(nanos(time), Ordering::Relaxed);
}

/// All clocks are the system's again.
pub(crate) fn reset() {
    WALL.store(0, Ordering::Relaxed);
    BOOT.store(0, Ordering::Relaxed);
}
