//! GRANTS
//!
//! What can be done with a lock that is held. Each function takes the grant's number, from whatever thread, and each says
//! KEYLATCH_ENOTHELD to a number that is no grant or no grant any more, and harms nobody. While one of them
//! works on a grant in one thread, another thread that uses the same grant may be told KEYLATCH_ENOTHELD.

use crate::acquire::grant as grant_of;
use crate::boundary::{Failure, Out, call, null};
use crate::key::{keylatch_key, number_of};
use crate::manager::{self, keylatch_manager};
use crate::options::{KEYLATCH_WAIT_DEFAULT, KEYLATCH_WAIT_FOREVER};
use crate::status::KEYLATCH_EBUFFER;
use keylatch::{FastLockGuard, LockError};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::time::Duration;

/// Releases a lock. Never waits, allocates nothing.
///
/// Errors: KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any, whichever acquired it; also
/// from callbacks. Of several that release the same grant one succeeds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_release(manager: *mut keylatch_manager, grant: u64) -> i32 {
    call(|| {
        let manager = manager::enter(manager)?;
        manager.locks.release(grant_of(grant)?)?;
        Ok(())
    })
}

/// Releases many locks: an array of grants as a batch gave them. Zeros are passed over. All are tried.
///
/// released may be NULL; otherwise *released is written on success and on failure: how many were released. Errors: that of the first
/// that failed, as keylatch_release(). Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_release_many(
    manager: *mut keylatch_manager,
    grants: *const u64,
    count: usize,
    released: *mut usize,
) -> i32 {
    call(|| {
        let manager = manager::enter(manager)?;
        let mut done = 0;
        let mut first = None;
        if count > 0 && grants.is_null() {
            return Err(null("the array of grants"));
        }
        for position in 0..crate::acquire::array_len::<u64>(count)? {
            // SAFETY: the header says what the caller promises.
            let number = unsafe { grants.add(position).read_unaligned() };
            if let Ok(grant) = grant_of(number) {
                match manager.locks.release(grant) {
                    Ok(()) => done += 1,
                    Err(error) => first = first.or(Some(error)),
                }
            }
        }
        if let Some(released) = NonNull::new(released) {
            // SAFETY: the header says what the caller promises.
            unsafe { released.write_unaligned(done) };
        }
        first.map_or(Ok(()), |error| Err(error.into()))
    })
}

/// Does something with a grant as a guard, and leaves it a grant.
fn with_guard<T>(
    manager: &keylatch_manager,
    number: u64,
    act: impl FnOnce(&mut FastLockGuard<'_>) -> Result<T, LockError>,
) -> Result<T, Failure> {
    let mut guard = manager.locks.adopt(grant_of(number)?)?;
    let done = act(&mut guard);
    // The same number as before.
    let _ = guard.into_grant();
    Ok(done?)
}

/// From exclusive to shared, with no moment in between in which anybody else could have it exclusively. Does nothing to a
/// shared hold. Never waits.
///
/// Errors: KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_downgrade(manager: *mut keylatch_manager, grant: u64) -> i32 {
    call(|| {
        with_guard(&*manager::enter(manager)?, grant, |guard| {
            guard.downgrade();
            Ok(())
        })
    })
}

/// From shared to exclusive, if nobody else holds the lock now; goes ahead of all who wait. Does nothing to an exclusive
/// hold. Never waits.
///
/// Errors: KEYLATCH_EWOULDBLOCK, and keylatch_last_holder() tells the other readers; KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED,
/// KEYLATCH_ENULL, KEYLATCH_EHANDLE. After an error the hold is as it was. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_try_upgrade(manager: *mut keylatch_manager, grant: u64) -> i32 {
    call(|| with_guard(&*manager::enter(manager)?, grant, |guard| guard.try_upgrade()))
}

/// From shared to exclusive, as soon as the other readers are gone, ahead of all others who wait. Waits in the calling
/// thread, for at most timeout_ns as in keylatch_acquire(); while it waits the grant cannot be used otherwise.
///
/// Errors: KEYLATCH_EUPGRADE at once if another reader already waits to upgrade: neither could go first, so release and ask for
/// it exclusively. KEYLATCH_ETIMEOUT, KEYLATCH_EDEADLOCK, KEYLATCH_ECLOSED, KEYLATCH_EWAITERS, KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL,
/// KEYLATCH_EHANDLE. After an error the hold is shared as before. Threads: any, but callbacks must not wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_upgrade(manager: *mut keylatch_manager, grant: u64, timeout_ns: u64) -> i32 {
    call(|| {
        let manager = manager::enter(manager)?;
        let timeout = match timeout_ns {
            KEYLATCH_WAIT_FOREVER => None,
            KEYLATCH_WAIT_DEFAULT => manager.locks.config().default_timeout,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        };
        with_guard(&manager, grant, |guard| guard.upgrade_blocking(timeout))
    })
}

/// Tells how a lock is held now: *mode is KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE.
///
/// Writes *mode on success. Errors: KEYLATCH_ENOTHELD, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also
/// from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_grant_mode(manager: *mut keylatch_manager, grant: u64, mode: *mut i32) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(mode) }?;
        out.write(number_of(with_guard(&*manager::enter(manager)?, grant, |guard| Ok(guard.mode()))?));
        Ok(())
    })
}

/// Tells what is held: copies the bytes of the key's parts into buffer, one after the other, and has *key point into it.
/// A buffer as large as the setting max_key_bytes always suffices.
///
/// Writes *key and buffer on success. Errors: KEYLATCH_EBUFFER if the key has more than buffer_len bytes, and
/// keylatch_last_error() tells how many; KEYLATCH_ENOTHELD, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from
/// callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_grant_key(
    manager: *mut keylatch_manager,
    grant: u64,
    buffer: *mut c_void,
    buffer_len: usize,
    key: *mut keylatch_key,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(key) }?;
        let held = with_guard(&*manager::enter(manager)?, grant, |guard| Ok(guard.key()))?;
        let held = held.as_ref();
        if held.byte_len() > buffer_len {
            let message = format!("the key has {} bytes, the buffer {buffer_len}", held.byte_len());
            return Err(Failure::owned(KEYLATCH_EBUFFER, message));
        }
        if buffer.is_null() && held.byte_len() > 0 {
            return Err(null("the buffer"));
        }
        let mut end = buffer.cast::<u8>();
        let mut copy = |part: &[u8]| -> *const c_void {
            let start = end;
            if !part.is_empty() {
                // SAFETY: the caller promises as many bytes as were found to be enough for all parts.
                unsafe {
                    std::ptr::copy_nonoverlapping(part.as_ptr(), start, part.len());
                    end = start.add(part.len());
                }
            }
            start.cast_const().cast()
        };
        // An empty version must not be NULL, and has nothing in the buffer.
        let version = |at: *const c_void| if at.is_null() { c"".as_ptr().cast() } else { at };
        let (bucket, object) = (copy(held.bucket()), copy(held.object()));
        out.write(keylatch_key {
            bucket,
            bucket_len: held.bucket().len(),
            object,
            object_len: held.object().len(),
            version: held.version().map_or(std::ptr::null(), |part| version(copy(part))),
            version_len: held.version().map_or(0, <[u8]>::len),
        });
        Ok(())
    })
}

/// Tells the fence number of a hold. For an exclusive one it is greater than that of every exclusive hold of the same
/// key before, whatever happened in between, so that a store can refuse a writer whose number is lower than one it has
/// seen. For a shared one it is the number of the latest exclusive one.
///
/// Writes *fence on success. Errors: KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also
/// from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_fence(manager: *mut keylatch_manager, grant: u64, fence: *mut u64) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(fence) }?;
        out.write(with_guard(&*manager::enter(manager)?, grant, |guard| Ok(guard.fence()))?);
        Ok(())
    })
}
