//! Sleeping on words of the mapped file, across processes.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// What `futex_waitv` accepts at most.
pub(crate) const MAX_WAITS: usize = 128;

/// A word and the value that it must still have for the thread to sleep.
pub(crate) type Wait<'w> = (&'w AtomicU32, u32);

/// Set once `futex_waitv` was refused: before Linux 5.16, or by a filter.
static WITHOUT_WAITV: AtomicBool = AtomicBool::new(false);

/// How often a thread looks where it cannot sleep on several words.
const POLL: Duration = Duration::from_millis(1);

/// Sleeps until the word differs from `seen`, a wake-up, a signal, or a timeout.
///
/// The kernel compares before it sleeps, so a change between the caller's load and this call is not lost.
pub(crate) fn wait(word: &AtomicU32, seen: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(to_timespec);
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word is mapped for as long as the reference lives, and the time, if any, is a local of this function.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, timeout, std::ptr::null::<u32>(), 0);
    }
}

/// Wakes all threads, of all processes, that sleep on the word.
pub(crate) fn wake_all(word: &AtomicU32) {
    // SAFETY: the word is mapped for as long as the reference lives; waking reads and writes nothing.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX);
    }
}

/// Sleeps on up to 128 words together; polls where the kernel cannot do that.
pub(crate) fn wait_any(waits: &[Wait<'_>], timeout: Duration) {
    let waits = &waits[..waits.len().min(MAX_WAITS)];
    if !WITHOUT_WAITV.load(Ordering::Relaxed) {
        if wait_vector(waits, timeout) {
            return;
        }
        WITHOUT_WAITV.store(true, Ordering::Relaxed);
    }
    let end = std::time::Instant::now() + timeout;
    while waits.iter().all(|(word, seen)| word.load(Ordering::Relaxed) == *seen) {
        let now = std::time::Instant::now();
        if now >= end {
            return;
        }
        std::thread::sleep(POLL.min(end - now));
    }
}

#[repr(C)]
struct FutexWait {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// Says whether the kernel knows the call.
fn wait_vector(waits: &[Wait<'_>], timeout: Duration) -> bool {
    const FUTEX2_SIZE_U32: u32 = 2;
    let mut vector = [const { FutexWait { value: 0, address: 0, flags: FUTEX2_SIZE_U32, reserved: 0 } }; MAX_WAITS];
    for (slot, (word, seen)) in vector.iter_mut().zip(waits) {
        (slot.value, slot.address) = (u64::from(*seen), word.as_ptr() as u64);
    }
    let end = to_timespec(super::clock::monotonic() + timeout);
    // SAFETY: the vector and the time are locals, the words are mapped for as long as the references live.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            vector.as_ptr(),
            waits.len(),
            0,
            std::ptr::from_ref(&end),
            libc::CLOCK_MONOTONIC,
        )
    };
    result >= 0 || !matches!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

fn to_timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(i32::try_from(duration.subsec_nanos()).expect("below a second")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_changed_word_returns() {
        let word = AtomicU32::new(1);
        wait(&word, 0, None);
        wait_any(&[(&word, 1), (&word, 0)], Duration::from_secs(3600));
    }

    #[test]
    fn wait_any_wake_returns() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                word.store(1, Ordering::Relaxed);
                wake_all(&word);
            });
            while word.load(Ordering::Relaxed) == 0 {
                wait_any(&[(&word, 0)], Duration::from_secs(3600));
            }
        });
    }
}
