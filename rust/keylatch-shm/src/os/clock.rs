//! Clocks, and the number of this start of the machine.

use std::time::Duration;

/// Time since the machine started, as all its processes read it.
pub(crate) fn monotonic() -> Duration {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970; only where a table is created.
pub(crate) fn unix_nanos() -> u64 {
    u64::try_from(read(libc::CLOCK_REALTIME).as_nanos()).unwrap_or(0)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is a local, and both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// The kernel's number of this start.
///
/// Processes with the same number share one machine. Zero where it is hidden.
pub(crate) fn boot_id() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let half = |range| digits.get(range).and_then(|part: &str| u64::from_str_radix(part, 16).ok()).unwrap_or(0);
    [half(0..16), half(16..32)]
}
