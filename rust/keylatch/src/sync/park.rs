//! A 32-bit word that a thread can sleep on until it changes.
//!
//! On Linux it is a futex. Elsewhere, and for the model checker, it is a small mutex and a condition variable beside the
//! word.

use super::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParkedUntil {
    /// The word changed, or something woke the thread for no reason: look at the word.
    Woken,
    /// The deadline passed.
    Deadline,
}

/// The word. After a change that a sleeper waits for comes [`Park::wake`].
#[derive(Debug, Default)]
pub(crate) struct Park {
    word: AtomicU32,
    #[cfg(any(loom, not(target_os = "linux")))]
    bed: bed::Bed,
}

impl Park {
    #[inline]
    pub(crate) fn load(&self, ordering: Ordering) -> u32 {
        self.word.load(ordering)
    }

    #[inline]
    pub(crate) fn store(&self, value: u32, ordering: Ordering) {
        self.word.store(value, ordering);
    }

    #[inline]
    pub(crate) fn swap(&self, value: u32, ordering: Ordering) -> u32 {
        self.word.swap(value, ordering)
    }

    #[inline]
    pub(crate) fn compare_exchange(&self, current: u32, new: u32) -> Result<u32, u32> {
        // AcqRel: a thread that reads the new value sees what its writer did before. A failure is read like a load.
        self.word.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
    }
}

#[cfg(all(not(loom), target_os = "linux"))]
impl Park {
    /// Sleeps while the word is `expected`, until `deadline`. May return early.
    pub(crate) fn park(&self, expected: u32, deadline: Option<Instant>) -> ParkedUntil {
        let timeout = match deadline {
            None => None,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return ParkedUntil::Deadline;
                }
                Some(libc::timespec {
                    tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
                    // Always below 10^9, so it fits whatever the width is.
                    tv_nsec: left.subsec_nanos() as _,
                })
            }
        };
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        futex(&self.word, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, expected, timeout);
        // EAGAIN (the word had changed), EINTR and a wake all mean "look again"; a timeout is judged by the clock,
        // so that a deadline is never reported before it passed.
        match deadline {
            Some(at) if Instant::now() >= at => ParkedUntil::Deadline,
            _ => ParkedUntil::Woken,
        }
    }

    /// Wakes the sleeper, if there is one.
    pub(crate) fn wake(&self) {
        futex(&self.word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1, std::ptr::null());
    }
}

#[cfg(all(not(loom), target_os = "linux"))]
fn futex(word: &AtomicU32, operation: libc::c_int, value: u32, timeout: *const libc::timespec) {
    // SAFETY: `word` is a live, aligned 32-bit word for the whole call, the kernel only compares it, and `timeout` is
    // null or points to a timespec that outlives the call.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, timeout, std::ptr::null::<u32>(), 0u32);
    }
}

#[cfg(any(loom, not(target_os = "linux")))]
mod bed {
    #[cfg(loom)]
    pub(super) use loom::sync::{Condvar, Mutex};
    #[cfg(not(loom))]
    pub(super) use std::sync::{Condvar, Mutex};

    #[derive(Debug, Default)]
    pub(super) struct Bed {
        pub(super) gate: Mutex<()>,
        pub(super) alarm: Condvar,
    }
}

#[cfg(any(loom, not(target_os = "linux")))]
impl Park {
    pub(crate) fn park(&self, expected: u32, deadline: Option<Instant>) -> ParkedUntil {
        let gate = self.bed.gate.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.word.load(Ordering::Acquire) != expected {
            return ParkedUntil::Woken;
        }
        match deadline {
            None => {
                drop(self.bed.alarm.wait(gate));
                ParkedUntil::Woken
            }
            // The deadline may come before any wake: the model checker tries both.
            #[cfg(loom)]
            Some(_) => ParkedUntil::Deadline,
            #[cfg(not(loom))]
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                drop(self.bed.alarm.wait_timeout(gate, left));
                if Instant::now() >= at { ParkedUntil::Deadline } else { ParkedUntil::Woken }
            }
        }
    }

    pub(crate) fn wake(&self) {
        // Taking the gate orders this wake after a sleeper's check of the word, or before it.
        drop(self.bed.gate.lock());
        self.bed.alarm.notify_all();
    }
}
