//! Counts what each thread asks of the allocator, so that "0 allocations" is a count and not a belief.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// `const`, without a destructor: reading it in the allocator allocates nothing.
    ///
    /// It registers nothing either.
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// The system allocator, with a count of allocations per thread.
///
/// A reallocation is one, a release is none.
pub(crate) struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[inline(always)]
fn count() {
    // A thread that is being torn down has no cell any more; nothing measured runs there.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: every call is passed on to `System` unchanged, which upholds the contract; counting touches a plain cell
// of the calling thread and never allocates.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on as it is.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `block` came from `System` through this allocator, with this `layout`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `System` through this allocator, with this `layout`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Allocations of the calling thread since it began.
pub(crate) fn of_this_thread() -> u64 {
    ASKED.with(Cell::get)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_box_is_one_allocation_and_its_release_none() {
        let before = super::of_this_thread();
        drop(std::hint::black_box(Box::new(7_u64)));
        assert_eq!(super::of_this_thread() - before, 1);
    }
}
