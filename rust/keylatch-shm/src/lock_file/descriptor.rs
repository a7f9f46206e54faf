//! Descriptors whose `flock` must not live on in a forked child, which closes them first of all.
//!
//! A `flock` belongs to what the descriptors of parent and child have in common. If the child kept its own open, the file
//! would stay locked when the parent is killed. No process forks while a descriptor is open that is not in the list yet,
//! or is not open any more that still is: a mutex is held meanwhile, by a fork, too.

use crate::os::fork;
use std::cell::UnsafeCell;
use std::os::fd::RawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};

/// Descriptors that are listed at most.
const MOST: usize = 256;
const NONE: RawFd = -1;

static LISTED: [AtomicI32; MOST] = [const { AtomicI32::new(NONE) }; MOST];

/// The C library's mutex.
///
/// It may be unlocked in a child that was forked with it locked.
struct ForkMutex(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: all access is by the functions of the C library, which is what they are for.
unsafe impl Sync for ForkMutex {}

static CHANGING: ForkMutex = ForkMutex(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));

extern "C" fn lock() {
    // SAFETY: the mutex is a static, and initialised.
    unsafe { libc::pthread_mutex_lock(CHANGING.0.get()) };
}

extern "C" fn unlock() {
    // SAFETY: each caller has locked it, or is the child of the thread that has.
    unsafe { libc::pthread_mutex_unlock(CHANGING.0.get()) };
}

extern "C" fn close_in_child() {
    for place in &LISTED {
        let fd = place.swap(NONE, Ordering::Relaxed);
        if fd != NONE {
            // SAFETY: a descriptor that the parent owned, whose owner in the child lets it be. `close` is allowed here.
            unsafe { libc::close(fd) };
        }
    }
    unlock();
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
    /// Owns the descriptor that `open` gets from the system; `None` if it gets none.
    pub(crate) fn open(open: impl FnOnce() -> RawFd) -> Option<Self> {
        static ONCE: Once = Once::new();
        fork::watch();
        // SAFETY: the handlers are never unloaded, and call what is allowed in a child of a threaded process.
        ONCE.call_once(|| unsafe {
            libc::pthread_atfork(Some(lock), Some(unlock), Some(close_in_child));
        });
        lock();
        let fd = open();
        let free = |place: &AtomicI32| place.compare_exchange(NONE, fd, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let place = if fd < 0 { None } else { LISTED.iter().position(free) };
        let forks = fork::count();
        unlock();
        (fd >= 0).then_some(Self { fd, place, forks })
    }

    /// Whether forked children close it.
    pub(crate) fn is_listed(&self) -> bool {
        self.place.is_some()
    }

    /// Whether it is open still: not in a child that closed it.
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.place.is_none() || self.forks == fork::count()
    }

    #[inline]
    pub(crate) fn as_raw(&self) -> RawFd {
        self.fd
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if !self.is_of_this_process() {
            return;
        }
        lock();
        if let Some(place) = self.place {
            LISTED[place].store(NONE, Ordering::Relaxed);
        }
        // SAFETY: owned by this alone.
        unsafe { libc::close(self.fd) };
        unlock();
    }
}
