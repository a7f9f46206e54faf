//! What the machine is and what it gave us: cores, load, processor time, memory really in use. Linux only.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Processors this process may run on.
///
/// Asked once: asking reads files, and waiting loops want to know.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn read_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn processor_name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// Returns the moment in UTC, as `2026-01-31T12:34:56Z`.
fn utc(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let mut day = seconds / 86_400;
    let mut year = 1970;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
}

/// Returns what has to be known to read the figures later.
pub(crate) fn describe() -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "cores": cores(),
        "cpu": processor_name(),
        "date": utc(now),
        "rustc": env!("KEYLATCH_BENCH_RUSTC"),
        "kernel": read_line("/proc/sys/kernel/osrelease"),
        "load_average": read_line("/proc/loadavg"),
        "transparent_huge_pages": read_line("/sys/kernel/mm/transparent_hugepage/enabled"),
    })
}

/// Keeps the calling thread on the `number`th processor it may use.
///
/// Answers whether that worked.
pub(crate) fn pin_this_thread(number: usize) -> bool {
    // SAFETY: a cpu_set_t is a plain bit set, for which all zeroes is the empty set.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer and the size describe `allowed`; 0 is the calling thread.
    let status = unsafe { libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed) };
    if status != 0 {
        return false;
    }
    // SAFETY: every index is below the set's size.
    let mut usable = (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &allowed) });
    let Some(cpu) = usable.nth(number) else {
        return false;
    };
    // SAFETY: as above; the index came from the set itself.
    unsafe {
        let mut only: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut only);
        libc::sched_setaffinity(0, size_of_val(&only), &raw const only) == 0
    }
}

/// What the kernel has given the calling thread so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ThreadUse {
    pub(crate) processor: Duration,
    /// Times it went to sleep by itself.
    pub(crate) slept: u64,
    /// Times it was taken off its processor.
    pub(crate) preempted: u64,
}

impl ThreadUse {
    pub(crate) fn so_far() -> Self {
        // SAFETY: both structures are plain numbers, for which zeroes are valid, and both calls only fill them in.
        let (time, usage) = unsafe {
            let mut time: libc::timespec = std::mem::zeroed();
            libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
            (time, usage)
        };
        Self {
            processor: Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32),
            slept: usage.ru_nvcsw.unsigned_abs(),
            preempted: usage.ru_nivcsw.unsigned_abs(),
        }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            processor: self.processor.saturating_sub(before.processor),
            slept: self.slept - before.slept,
            preempted: self.preempted - before.preempted,
        }
    }
}

/// Returns the calling thread's number in the kernel.
pub(crate) fn thread_number() -> i32 {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Returns bytes of memory this process really occupies.
///
/// Counted page by page, so that it is exact.
pub(crate) fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let exact =
        text.lines().find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    exact.map_or_else(resident_bytes_about, |kib| kib * 1024)
}

fn resident_bytes_about() -> u64 {
    let pages: u64 = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0);
    // SAFETY: the call only reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * page.unsigned_abs()
}

/// Keeps this process on pages of the ordinary size from now on.
pub(crate) fn refuse_huge_pages() {
    // SAFETY: the call takes plain numbers and changes only how this process is given memory.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// Asks the C library to give back what it keeps of freed memory.
pub(crate) fn trim_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes a plain number and may be made at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        let day = |number: u64| utc(Duration::from_secs(number * 86_400 + 3661));
        assert_eq!(day(0), "1970-01-01T01:01:01Z");
        assert_eq!(day(11_016), "2000-02-29T01:01:01Z");
        assert_eq!(day(11_017), "2000-03-01T01:01:01Z");
        assert_eq!(day(19_723), "2024-01-01T01:01:01Z");
        assert_eq!(day(20_088), "2024-12-31T01:01:01Z");
    }

    #[test]
    fn touched_memory_is_seen() {
        let before = resident_bytes();
        let block = vec![1_u8; 32 << 20];
        std::hint::black_box(&block);
        assert!(resident_bytes() > before + (24 << 20));
    }
}
