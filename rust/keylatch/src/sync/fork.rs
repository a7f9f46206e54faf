//! Counts the forks between this process and the one that loaded the library: what tells a child from its parent.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// Returns the number of forks.
#[inline(always)]
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Begins to count, before the first fork that matters.
pub(crate) fn watch_forks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler is a function of this library, which is never unloaded while it is registered, and does
        // nothing that is forbidden in a child of a threaded process: it changes an integer and the thread's own cells.
        unsafe {
            libc::pthread_atfork(None, None, Some(in_child));
        }
    });
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    // The only thread of the child keeps nothing at hand of managers that are the parent's.
    #[cfg(not(loom))]
    super::per_thread::keep_nothing_at_hand();
}
