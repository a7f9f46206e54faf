//! Threads that end while they use the library: values of theirs that are dropped with them lock and release.

// A test in C, written in Rust: every call is of a C function with pointers to what lives through it.
#![allow(clippy::undocumented_unsafe_blocks)]

use keylatch_capi::acquire::keylatch_acquire;
use keylatch_capi::grants::keylatch_release;
use keylatch_capi::key::{KEYLATCH_EXCLUSIVE, keylatch_key};
use keylatch_capi::manager::{keylatch_manager, keylatch_manager_free, keylatch_manager_new};
use keylatch_capi::options::KEYLATCH_WAIT_FOREVER;
use keylatch_capi::status::KEYLATCH_OK;
use std::cell::UnsafeCell;
use std::ptr::{null, null_mut};
use std::sync::Barrier;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

static MANAGER: AtomicPtr<keylatch_manager> = AtomicPtr::new(null_mut());
static OTHER: AtomicPtr<keylatch_manager> = AtomicPtr::new(null_mut());
static DONE: AtomicU64 = AtomicU64::new(0);

struct Guarded(UnsafeCell<u64>);
// SAFETY: a thread that touches the number holds the lock, or is alone; that this is so is what the test is about.
unsafe impl Sync for Guarded {}
static GUARDED: Guarded = Guarded(UnsafeCell::new(0));

fn count(manager: *mut keylatch_manager) {
    let (bucket, object) = ("bucket", "object");
    let key = keylatch_key {
        bucket: bucket.as_ptr().cast(),
        bucket_len: bucket.len(),
        object: object.as_ptr().cast(),
        object_len: object.len(),
        version: null(),
        version_len: 0,
    };
    let mut grant = 0;
    // SAFETY: the manager is freed after all threads have ended, and the number is touched under the lock.
    unsafe {
        let status = keylatch_acquire(
            manager,
            &raw const key,
            KEYLATCH_EXCLUSIVE,
            KEYLATCH_WAIT_FOREVER,
            null(),
            &raw mut grant,
        );
        assert_eq!(
            status,
            KEYLATCH_OK,
            "{:?}",
            std::ffi::CStr::from_ptr(keylatch_capi::failure::keylatch_last_error())
        );
        if manager == MANAGER.load(Ordering::Relaxed) {
            *GUARDED.0.get() += 1;
            DONE.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(keylatch_release(manager, grant), KEYLATCH_OK);
    }
}

/// Counts when its thread ends.
struct Counts;

impl Drop for Counts {
    fn drop(&mut self) {
        for _ in 0..20 {
            count(MANAGER.load(Ordering::Relaxed));
            count(OTHER.load(Ordering::Relaxed));
        }
    }
}

thread_local! {
    static EARLY: Counts = const { Counts };
    static LATE: Counts = const { Counts };
}

#[test]
fn thread_local_drop_may_lock() {
    for place in [&MANAGER, &OTHER] {
        let mut manager = null_mut();
        // SAFETY: NULL for the defaults, and a place for the result.
        assert_eq!(unsafe { keylatch_manager_new(null(), &raw mut manager) }, KEYLATCH_OK);
        place.store(manager, Ordering::Relaxed);
    }
    for _ in 0..100 {
        let together = Barrier::new(4);
        std::thread::scope(|scope| {
            let work = || {
                EARLY.with(|_| ()); // dropped last: what is used first is dropped last
                together.wait();
                (0..20).for_each(|_| count(MANAGER.load(Ordering::Relaxed)));
                LATE.with(|_| ()); // dropped first
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            // A scope does not wait for what is dropped with a thread; joining does.
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
    // Everybody was alone, so nothing was counted over.
    // SAFETY: all threads have ended.
    assert_eq!(unsafe { *GUARDED.0.get() }, DONE.load(Ordering::Relaxed));
    assert_eq!(DONE.load(Ordering::Relaxed), 100 * 4 * (20 + 2 * 20));
    for place in [&MANAGER, &OTHER] {
        // SAFETY: made above, and freed once.
        assert_eq!(unsafe { keylatch_manager_free(place.load(Ordering::Relaxed)) }, KEYLATCH_OK);
    }
}
