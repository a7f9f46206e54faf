//! Counts the forks between this process and the one that loaded the library: what tells a child from its parent.

use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// Returns the number of forks.
#[inline(always)]
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Notes that this process is a fork.
pub(super) fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
