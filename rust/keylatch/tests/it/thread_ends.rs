//! What a thread does with locks while it ends: its thread-local values are dropped one after the other, and may hold
//! guards, or take locks.

use keylatch::{FastObjectLockManager, OwnedLockGuard};
use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

/// Does something when it is dropped with its thread.
struct AtTheEnd(Option<Box<dyn FnOnce()>>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work();
        }
    }
}

thread_local! {
    static FIRST: RefCell<AtTheEnd> = const { RefCell::new(AtTheEnd(None)) };
    static LAST: RefCell<AtTheEnd> = const { RefCell::new(AtTheEnd(None)) };
}

/// Runs `begin` on a thread, and what it returns when the thread ends.
///
/// That is in thread-local values that are used for the first time before it uses locks, and after.
fn at_the_end_of_a_thread<W: FnOnce() + 'static>(begin: impl Fn() -> W + Send + Sync + 'static) {
    let begin = Arc::new(begin);
    std::thread::spawn(move || {
        FIRST.with(|_| ());
        let (first, last) = (begin(), begin());
        FIRST.with(|end| end.borrow_mut().0 = Some(Box::new(first)));
        LAST.with(|end| end.borrow_mut().0 = Some(Box::new(last)));
    })
    .join()
    .expect("nothing panics while the thread ends");
}

fn held(locks: &FastObjectLockManager) -> u64 {
    locks.get_metrics().shard_metrics.holders
}

#[test]
fn guard_in_thread_local_is_released() {
    let locks = FastObjectLockManager::new();
    for _ in 0..100 {
        let manager = locks.clone();
        at_the_end_of_a_thread(move || {
            let guard: OwnedLockGuard = manager.try_acquire_read_lock("b", "o", "ending").unwrap().into_owned();
            move || drop(guard)
        });
        assert_eq!(held(&locks), 0);
        drop(locks.try_acquire_write_lock("b", "o", "next").unwrap());
    }
}

#[test]
fn a_thread_that_ends_takes_locks_like_any_other() {
    let locks = FastObjectLockManager::new();
    for _ in 0..100 {
        let manager = locks.clone();
        at_the_end_of_a_thread(move || {
            let locks = manager.clone();
            move || {
                for key in ["x", "y"] {
                    drop(locks.acquire_write_lock_blocking("b", key, "ending").unwrap());
                }
            }
        });
    }
    let figures = locks.get_metrics().shard_metrics;
    assert_eq!((figures.acquisitions(), figures.releases), (400, 400));
}

#[test]
fn the_last_handle_may_go_with_its_thread() {
    at_the_end_of_a_thread(|| {
        let locks = FastObjectLockManager::new();
        let guard = locks.try_acquire_write_lock("b", "o", "ending").unwrap().into_owned();
        move || drop((locks, guard))
    });
}

/// As a C program does it: a destructor of a `pthread` key.
///
/// It may run after the library's own.
#[test]
fn a_destructor_of_a_pthread_key_may_use_locks() {
    static LOCKS: OnceLock<FastObjectLockManager> = OnceLock::new();
    extern "C" fn at_the_end(_: *mut libc::c_void) {
        let locks = LOCKS.get().unwrap();
        drop(locks.acquire_write_lock_blocking("b", "o", "ending").unwrap());
    }
    let locks = LOCKS.get_or_init(FastObjectLockManager::new);
    let new_key = || {
        let mut key = 0;
        // SAFETY: written here and nowhere else; the destructor is a function.
        assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(at_the_end)) }, 0);
        key
    };
    // Made after the library's, by which it runs later, and before it in the next round.
    drop(locks.try_acquire_read_lock("b", "o", "first").unwrap());
    let keys = [new_key(), new_key()];
    for _ in 0..100 {
        std::thread::spawn(move || {
            drop(LOCKS.get().unwrap().try_acquire_read_lock("b", "o", "a thread").unwrap());
            for key in keys {
                // SAFETY: both keys were made above.
                assert_eq!(unsafe { libc::pthread_setspecific(key, std::ptr::without_provenance(1)) }, 0);
            }
        })
        .join()
        .unwrap();
    }
    assert_eq!(held(locks), 0);
    // Two of its own, and two hundred at the end of threads.
    assert_eq!(locks.get_metrics().shard_metrics.acquisitions(), 1 + 100 + 200);
}
