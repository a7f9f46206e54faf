//! Which thread asks.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

static NEXT: AtomicUsize = AtomicUsize::new(1);
thread_local!(static NUMBER: Cell<usize> = const { Cell::new(0) });

/// A number that no other thread of the process has or gets.
#[inline]
pub(crate) fn this_thread() -> usize {
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}
