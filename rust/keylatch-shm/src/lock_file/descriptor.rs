//! Descriptors whose `flock` must not live on in a forked child, which closes them first of all.
//!
//! A `flock` belongs to what the descriptors of parent and child have in common. If the child kept its own open, the file
//! would stay locked when the parent is killed.

use crate::os::fork;
use std::os::fd::RawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

/// Descriptors that are listed at most.
const MOST: usize = 256;
const NONE: RawFd = -1;

static LISTED: [AtomicI32; MOST] = [const { AtomicI32::new(NONE) }; MOST];

extern "C" fn close_in_child() {
    for place in &LISTED {
        let fd = place.swap(NONE, Ordering::Relaxed);
        if fd != NONE {
            // SAFETY: a descriptor that the parent owned, whose owner in the child lets it be. `close` is allowed here.
            unsafe { libc::close(fd) };
        }
    }
}

/// A descriptor that forked children close, if there was room in the list.
#[derive(Debug)]
pub(crate) struct Descriptor {
    fd: RawFd,
    place: Option<usize>,
    /// Forks when it was opened.
    forks: u32,
}

impl Descriptor {
    /// Owns a descriptor that the system has just given; `None` if it gave none.
    pub(crate) fn own(fd: RawFd) -> Option<Self> {
        static ONCE: Once = Once::new();
        fork::watch();
        // SAFETY: the handler is never unloaded, and calls what is allowed in a child of a threaded process.
        ONCE.call_once(|| unsafe {
            libc::pthread_atfork(None, None, Some(close_in_child));
        });
        if fd < 0 {
            return None;
        }
        let free = |place: &AtomicI32| place.compare_exchange(NONE, fd, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        Some(Self { fd, place: LISTED.iter().position(free), forks: fork::count() })
    }

    /// Whether forked children close it.
    pub(crate) fn is_listed(&self) -> bool {
        self.place.is_some()
    }

    #[inline]
    pub(crate) fn as_raw(&self) -> RawFd {
        self.fd
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.forks != fork::count() && self.place.is_some() {
            return;
        }
        if let Some(place) = self.place {
            // First: a child that is forked in between had better keep it than close the next one of this number.
            LISTED[place].store(NONE, Ordering::Relaxed);
        }
        // SAFETY: owned by this alone.
        unsafe { libc::close(self.fd) };
    }
}
