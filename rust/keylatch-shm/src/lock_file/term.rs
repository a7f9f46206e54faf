//! For how long a lock is kept: until the next end of a term, which a timer of the process says.
//!
//! A program that sleeps until it can lock a file opens it once, and perhaps long before. So nothing else than time says
//! that it may be there, and each lock that is kept is given up about a second after it was taken, used or not.

use crate::lock_file::descriptor::Descriptor;
use std::io::{Error, Result};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// Seconds that a lock is kept at most.
const SECONDS: libc::time_t = 1;

/// The timer, which runs while a lock may be kept.
#[derive(Debug)]
pub(crate) struct Term {
    timer: Descriptor,
    runs: AtomicBool,
}

impl Term {
    /// Makes a timer; `None` where the system gives none.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: takes numbers.
        let timer = Descriptor::open(|| unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) })?;
        Some(Self { timer, runs: false.into() })
    }

    /// Readable at the end of a term.
    pub(crate) fn as_raw(&self) -> RawFd {
        self.timer.as_raw()
    }

    /// Begins a term if none has begun.
    ///
    /// The word that says that a lock is kept has been written.
    pub(crate) fn begin(&self) -> Result<()> {
        // Pairs with: the swap at the end, after which the words are looked at.
        if self.runs.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let once = libc::itimerspec { it_interval: none, it_value: libc::timespec { tv_sec: SECONDS, ..none } };
        // SAFETY: the structure is a local.
        match unsafe { libc::timerfd_settime(self.timer.as_raw(), 0, &raw const once, std::ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    }

    /// Ends the term. All that is kept has to be given up after this.
    pub(crate) fn end(&self) {
        let mut ends = 0_u64;
        // SAFETY: the number is a local.
        unsafe { libc::read(self.timer.as_raw(), (&raw mut ends).cast(), size_of_val(&ends)) };
        // Pairs with: the swap at the beginning.
        self.runs.swap(false, Ordering::AcqRel);
    }
}
