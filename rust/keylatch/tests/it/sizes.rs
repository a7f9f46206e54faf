//! What callers carry about with them stays small.
#![cfg(target_pointer_width = "64")]

use keylatch::{FastObjectLockManager, KeyRef, LockError, LockRequest, Owner};

/// Returns how most programs wait for a lock.
async fn lock_and_work(locks: &FastObjectLockManager, key: KeyRef<'_>, owner: Owner) -> Result<(), LockError> {
    let _guard = locks.lock(LockRequest::write(key).owner(owner)).await?;
    Ok(())
}

/// A future moves to where it is polled: a large one costs more than its lock.
#[test]
fn a_future_is_no_larger_than_its_request_needs() {
    let locks = FastObjectLockManager::new();
    assert!(size_of::<LockRequest<'_>>() <= 112, "{}", size_of::<LockRequest<'_>>());
    let acquire = locks.acquire_write_lock("b", "o", "me");
    assert!(size_of_val(&acquire) <= 120, "{}", size_of_val(&acquire));
    let work = lock_and_work(&locks, KeyRef::new("b", "o"), locks.owner("me"));
    assert!(size_of_val(&work) <= 192, "{}", size_of_val(&work));
}

/// An `async fn` must not move its argument twice.
///
/// Compilers put the arguments first if what it awaits is not a multiple of 16 bytes, and move them alone then. With 8
/// bytes more the whole future was copied, which cost a third of an uncontended lock.
#[test]
fn a_future_is_an_odd_number_of_words() {
    let acquire = FastObjectLockManager::new();
    let acquire = acquire.acquire_write_lock("b", "o", "me");
    assert_eq!(size_of_val(&acquire) % 16, 8, "{}", size_of_val(&acquire));
}
