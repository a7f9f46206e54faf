//! Begins to count forks.

use super::fork::count_fork;
use std::sync::Once;

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
    count_fork();
    // The only thread of the child keeps nothing at hand of managers that are the parent's.
    #[cfg(not(loom))]
    super::per_thread::keep_nothing_at_hand();
}
