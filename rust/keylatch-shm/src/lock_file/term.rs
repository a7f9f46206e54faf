//! For how long a lock is kept: until the next end of a term, which a timer of the process says.
//!
//! A program that sleeps until it can lock a file opens it once, and perhaps long before. So nothing else than time says
//! that it may be there, and each lock that is kept is given up within a second, used or not. Terms end at whole seconds of
//! the system's clock, so that the processes of a table give up together: what one of them keeps bars the program, too.

use crate::lock_file::descriptor::Descriptor;
use crate::os::clock;
use std::io::{Error, Result};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// For how long nothing is kept at the end of a term.
///
/// Long enough for the watchers of all processes to give up what those keep, on a busy machine, too, and for a holder to
/// leave a gap then.
pub(crate) const BREATH: Duration = Duration::from_millis(20);

/// Whether a term ended a moment ago, whatever this process kept in it.
pub(crate) fn has_just_ended() -> bool {
    clock::monotonic().subsec_nanos() < BREATH.subsec_nanos()
}

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
        let end = clock::monotonic().as_secs() + 1;
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let once =
            libc::itimerspec { it_interval: never, it_value: libc::timespec { tv_sec: end as libc::time_t, ..never } };
        let (timer, flags) = (self.timer.as_raw(), libc::TFD_TIMER_ABSTIME);
        // SAFETY: the structure is a local.
        match unsafe { libc::timerfd_settime(timer, flags, &raw const once, std::ptr::null_mut()) } {
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Instant;

    /// When the term of a new timer ends: between these times.
    ///
    /// `None` if it has ended by now.
    fn end_of_new_term() -> Option<(Duration, Duration)> {
        let term = Term::new().expect("a timer");
        term.begin().expect("the system allows it");
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let mut left = libc::itimerspec { it_interval: none, it_value: none };
        let before = clock::monotonic();
        // SAFETY: the structure is a local.
        assert_eq!(unsafe { libc::timerfd_gettime(term.as_raw(), &raw mut left) }, 0);
        let left = Duration::new(left.it_value.tv_sec as u64, left.it_value.tv_nsec as u32);
        (!left.is_zero()).then(|| (before + left, clock::monotonic() + left))
    }

    #[test]
    fn terms_end_with_whole_seconds() {
        // Whenever they begin: none but these ends is common to all processes.
        for (earliest, latest) in std::iter::repeat_with(end_of_new_term).flatten().take(100) {
            let second = Duration::from_secs((latest + Duration::from_micros(1)).as_secs());
            assert!(second >= earliest, "{earliest:?} to {latest:?}");
        }
    }

    #[test]
    fn nothing_is_kept_when_a_second_begins() {
        let end = Instant::now() + Duration::from_secs(60);
        for wanted in [true, false, true] {
            while has_just_ended() != wanted {
                assert!(Instant::now() < end, "it is never {wanted}");
            }
        }
    }
}
