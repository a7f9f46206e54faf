//! GRANTS
//!
//! What can be done with a lock that is held. Each function takes the grant's number, from whatever thread, and each says
//! KEYLATCH_ENOTHELD to a number that is no grant or no grant any more, and KEYLATCH_ELEASELOST to a lease that ran out
//! and was revoked, and changes nothing. While a downgrade or an upgrade works on a grant in one thread, another
//! thread that uses the same grant gets KEYLATCH_ENOTHELD.

use crate::acquire::{grant as grant_of, keylatch_free_fn};
use crate::annotate;
use crate::boundary::{Out, call};
use crate::callbacks::Promise;
use crate::handle;
use crate::key::{self, keylatch_key, number_of};
use crate::manager::{self, KEYLATCH_NEVER, keylatch_manager};
use crate::options::{KEYLATCH_WAIT_DEFAULT, KEYLATCH_WAIT_FOREVER, ttl_of};
use crate::queue::keylatch_queue;
use crate::refusal::{Failure, null};
use crate::section::after_section;
use crate::status::{KEYLATCH_EBUFFER, KEYLATCH_EHANDLE, KEYLATCH_OK};
use keylatch::{Grant, LockError, Lost};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// Releases a lock. Never waits, allocates nothing.
///
/// Errors: KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any, whichever acquired it; also
/// from callbacks. Of several that release the same grant one succeeds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_release(manager: *mut keylatch_manager, grant: u64) -> i32 {
    let release = || {
        let held = Grant::from_raw(grant)?;
        let manager = handle::enter_fast::<keylatch_manager>(manager.cast())?;
        annotate::releasing(manager.number, &manager.locks, held);
        manager.locks.release_fast(held)
    };
    // It does not panic; if it does all the same, the way around it finds out about that too.
    match catch_unwind(AssertUnwindSafe(release)) {
        Ok(Some(Ok(()))) => KEYLATCH_OK,
        Ok(Some(Err(why))) => lost_meanwhile(grant, why),
        _ => release_slow(manager, grant),
    }
}

/// The lock was revoked while it was being released.
#[cold]
#[inline(never)]
fn lost_meanwhile(grant: u64, why: Lost) -> i32 {
    call(|| Err(lost_in_this_moment(grant, why).into()))
}

#[cold]
fn lost_in_this_moment(grant: u64, why: Lost) -> LockError {
    match why {
        Lost::Forced => LockError::NotHeld { grant },
        _ => LockError::LeaseLost { grant },
    }
}

#[cold]
#[inline(never)]
fn release_slow(manager: *mut keylatch_manager, grant: u64) -> i32 {
    call(|| {
        let manager = manager::enter(manager)?;
        let held = grant_of(grant)?;
        annotate::releasing(manager.number, &manager.locks, held);
        manager.locks.release(held)?;
        Ok(())
    })
}

/// Releases many locks: an array of grants as a batch gave them.
///
/// Zeros are passed over. All are tried.
///
/// released may be NULL; otherwise *released is written on success, and when releasing one of them failed: how many were released. When
/// none was tried (KEYLATCH_ENULL, KEYLATCH_EHANDLE, KEYLATCH_EINVALID) it is left alone. Errors: that of the first
/// that failed, as keylatch_release(); KEYLATCH_EINVALID for more grants than memory can have. Threads: any; also from callbacks.
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
            let Some(held) = Grant::from_raw(number) else { continue };
            annotate::releasing(manager.number, &manager.locks, held);
            let released = match manager.locks.release_fast(held) {
                Some(Ok(())) => Ok(()),
                Some(Err(why)) => Err(lost_in_this_moment(number, why)),
                None => manager.locks.release(held),
            };
            match released {
                Ok(()) => done += 1,
                Err(error) => first = first.or(Some(error)),
            }
        }
        if let Some(released) = NonNull::new(released) {
            // SAFETY: the header says what the caller promises.
            unsafe { released.write_unaligned(done) };
        }
        first.map_or(Ok(()), |error| Err(error.into()))
    })
}

/// From exclusive to shared, without a gap for another exclusive holder.
///
/// Does nothing to a shared hold, nor to one of several that a session has of the lock
/// (KEYLATCH_REENTRANCY_COUNT). Never waits.
///
/// Errors: KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_downgrade(manager: *mut keylatch_manager, grant: u64) -> i32 {
    call(|| {
        let (manager, held) = (manager::enter(manager)?, grant_of(grant)?);
        annotate::releasing(manager.number, &manager.locks, held);
        manager.locks.downgrade(held)?;
        Ok(())
    })
}

/// From shared to exclusive, if there is no other holder now.
///
/// Goes ahead of all who wait. Does nothing to an exclusive hold. Never waits.
///
/// Errors: KEYLATCH_EWOULDBLOCK, and keylatch_last_holder() tells the other readers; KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED,
/// KEYLATCH_ENULL, KEYLATCH_EHANDLE. After an error the hold is as it was. Threads: any; also from callbacks.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_try_upgrade(manager: *mut keylatch_manager, grant: u64) -> i32 {
    call(|| {
        let (manager, held) = (manager::enter(manager)?, grant_of(grant)?);
        manager.locks.try_upgrade(held)?;
        annotate::granted(manager.number, &manager.locks, held);
        Ok(())
    })
}

/// From shared to exclusive, as soon as the other readers are gone.
///
/// Goes ahead of all others who wait. Waits in the calling thread, for at most timeout_ns as in keylatch_acquire();
/// while it waits the grant cannot be used otherwise.
///
/// Errors: KEYLATCH_EUPGRADE without waiting if another reader already waits to upgrade: neither could go first, so
/// release and ask for it exclusively. KEYLATCH_ETIMEOUT, KEYLATCH_EDEADLOCK, KEYLATCH_ECLOSED, KEYLATCH_EWAITERS,
/// KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. After an error the hold
/// is shared as before. Threads: any, but callbacks must not wait.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_upgrade(manager: *mut keylatch_manager, grant: u64, timeout_ns: u64) -> i32 {
    call(|| {
        let manager = manager::enter(manager)?;
        let timeout = upgrade_timeout(&manager, timeout_ns);
        let held = grant_of(grant)?;
        manager.locks.upgrade_blocking(held, timeout)?;
        annotate::granted(manager.number, &manager.locks, held);
        Ok(())
    })
}

/// As keylatch_upgrade(), without waiting: the result may arrive in the queue.
///
/// It does if others read, with token, which is the caller's own.
///
/// On success *ticket is 0 if the lock was upgraded without waiting; otherwise the result will arrive, and
/// keylatch_cancel() ends the wait. The grant of the result is the same number. Until it is fetched the grant cannot be
/// used otherwise; when the queue is freed before, the lock is released if it was upgraded, and is held shared if not.
///
/// Writes *ticket on success. Errors: as keylatch_upgrade(), KEYLATCH_EUPGRADE and KEYLATCH_ENOTHELD for instance; nothing arrives then, and the hold is as it was. KEYLATCH_ETIMEOUT
/// only for a timeout of 0; KEYLATCH_EHANDLE also for a queue of another manager. Threads: any; also from callbacks.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_upgrade_queue(
    manager: *mut keylatch_manager,
    grant: u64,
    timeout_ns: u64,
    queue: *mut keylatch_queue,
    token: u64,
    ticket: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(ticket) }?;
        let manager = manager::enter_here(manager)?;
        let queue = handle::enter::<keylatch_queue>(queue.cast())?;
        if queue.manager != manager.number {
            return Err(Failure::new(KEYLATCH_EHANDLE, "the queue belongs to another manager"));
        }
        let timeout = upgrade_timeout(&manager, timeout_ns);
        let held = grant_of(grant)?;
        let waits = manager.locks.upgrade_with_queue(held, timeout, &queue.completions, token)?;
        if waits.is_none() {
            annotate::granted(manager.number, &manager.locks, held);
        }
        out.write(waits.map_or(0, keylatch::Ticket::to_raw));
        Ok(())
    })
}

fn upgrade_timeout(manager: &keylatch_manager, timeout_ns: u64) -> Option<Duration> {
    match timeout_ns {
        KEYLATCH_WAIT_FOREVER => None,
        KEYLATCH_WAIT_DEFAULT => manager.locks.default_timeout(),
        nanoseconds => Some(Duration::from_nanos(nanoseconds)),
    }
}

/// Gets how a lock is held now: *mode is KEYLATCH_SHARED or KEYLATCH_EXCLUSIVE.
///
/// Writes *mode on success. Errors: KEYLATCH_ENOTHELD, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also
/// from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_grant_mode(manager: *mut keylatch_manager, grant: u64, mode: *mut i32) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(mode) }?;
        let (_, mode) = manager::enter(manager)?.locks.key_and_mode(grant_of(grant)?)?;
        out.write(number_of(mode));
        Ok(())
    })
}

/// Gets what is held: the key, with its bytes in buffer.
///
/// The parts are copied one after the other, and *key points into buffer. A buffer as large as the setting
/// max_key_bytes always suffices.
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
        let (held, _) = manager::enter(manager)?.locks.key_and_mode(grant_of(grant)?)?;
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

/// Gets the fence number of a hold.
///
/// For an exclusive one it is greater than that of every exclusive hold of the same key before, whatever happened in
/// between, so that a store can refuse a writer whose number is lower than one it has seen. For a shared one it is the
/// number of the latest exclusive one.
///
/// Writes *fence on success. Errors: KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also
/// from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_fence(manager: *mut keylatch_manager, grant: u64, fence: *mut u64) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(fence) }?;
        out.write(manager::enter(manager)?.locks.fence(grant_of(grant)?)?);
        Ok(())
    })
}

/// Says whether another process died while it had the key exclusively.
///
/// What the key protects may be half written then. *died is 1 or 0. The first holder after the death is informed. 0 for a manager that shares its keys with no other
/// process.
///
/// Writes *died on success. Errors: KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL,
/// KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_previous_holder_died(
    manager: *mut keylatch_manager,
    grant: u64,
    died: *mut i32,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(died) }?;
        out.write(i32::from(manager::enter(manager)?.locks.previous_holder_died(grant_of(grant)?)?));
        Ok(())
    })
}

/// Gets whether the exclusive hold with this fence number still has the key.
///
/// *current is 1, or 0 after it was released, downgraded or revoked. A store asks this before it lets a late write
/// through.
///
/// Writes *current on success. Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_EHANDLE. Threads: any;
/// also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_is_current(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
    fence: u64,
    current: *mut i32,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(current) }?;
        let manager = manager::enter(manager)?;
        // SAFETY: the header says what the caller promises.
        let key = unsafe { key::read(key) }?;
        out.write(i32::from(manager.locks.is_current(key, fence)?));
        Ok(())
    })
}

/// Begins the lease of a grant anew, to last ttl_ns from now; or begins one.
///
/// Errors: KEYLATCH_ELEASELOST, KEYLATCH_ENOTHELD, KEYLATCH_EFORKED; KEYLATCH_ECONFIG for a ttl_ns of 0 or KEYLATCH_NEVER; KEYLATCH_ENULL, KEYLATCH_EHANDLE.
/// Threads: any; also from callbacks. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_renew(manager: *mut keylatch_manager, grant: u64, ttl_ns: u64) -> i32 {
    call(|| {
        let ttl = ttl_of(ttl_ns)?.unwrap_or(Duration::ZERO);
        manager::enter(manager)?.locks.renew(grant_of(grant)?, ttl)?;
        Ok(())
    })
}

/// Gets how long a grant is safe from now on.
///
/// That is 0 once its lease has run out, although it stays held until another request revokes it, and
/// KEYLATCH_NEVER for a hold without a lease, which never runs out.
///
/// Writes *remaining_ns on success. Errors: KEYLATCH_ELEASELOST, KEYLATCH_ENOTHELD, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE.
/// Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_remaining(manager: *mut keylatch_manager, grant: u64, remaining_ns: *mut u64) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(remaining_ns) }?;
        let remaining = manager::enter(manager)?.locks.remaining(grant_of(grant)?)?;
        out.write(
            remaining.map_or(KEYLATCH_NEVER, |left| u64::try_from(left.as_nanos()).unwrap_or(KEYLATCH_NEVER - 1)),
        );
        Ok(())
    })
}

/// Gets whether a grant is held and, if it is a lease, safe at this moment.
///
/// *valid is 1 or 0. A number that is no grant is not valid.
///
/// Writes *valid on success. Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_is_valid(manager: *mut keylatch_manager, grant: u64, valid: *mut i32) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(valid) }?;
        let manager = manager::enter(manager)?;
        out.write(i32::from(grant_of(grant).is_ok_and(|grant| manager.locks.is_valid(grant))));
        Ok(())
    })
}

/// The lease ran out, and a waiter took the lock, or a caller revoked it.
pub const KEYLATCH_LOST_EXPIRED: i32 = 1;
/// The lock was released by force.
pub const KEYLATCH_LOST_FORCED: i32 = 2;

/// Called once when a hold is revoked: which, and why (KEYLATCH_LOST_...).
///
/// It runs in the thread that revokes the lock, inside a call of that thread, but never inside one of the library's locks. It may call
/// everything that does not wait, except that freeing the handles of that call gets KEYLATCH_EBUSY.
pub type keylatch_lost_callback = Option<unsafe extern "C" fn(user_data: *mut c_void, grant: u64, why: i32)>;

/// Has callback called once if the hold is revoked.
///
/// If it was revoked before, callback is called immediately. When the hold is released, or ends with its manager, it
/// is not called. free_fn (NULL for none) is called once with user_data in any case: after callback, when the hold is
/// over, or before this function returns if it fails.
///
/// Errors: KEYLATCH_ENOTHELD, KEYLATCH_ELEASELOST, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from callbacks. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_on_lost(
    manager: *mut keylatch_manager,
    grant: u64,
    callback: keylatch_lost_callback,
    user_data: *mut c_void,
    free_fn: keylatch_free_fn,
) -> i32 {
    let promise = Promise::new(user_data, free_fn);
    let kept = Arc::clone(&promise);
    let status = call(|| {
        let callback = callback.ok_or_else(|| null("the callback"))?;
        let manager = manager::enter_here(manager)?;
        promise.is_owed(manager.number, &manager.callbacks);
        let listener = move |why| {
            let why = match why {
                Lost::Expired => KEYLATCH_LOST_EXPIRED,
                _ => KEYLATCH_LOST_FORCED,
            };
            // SAFETY: the caller gave the function for this pointer.
            after_section(move || kept.call(|user_data| unsafe { callback(user_data, grant, why) }));
        };
        manager.locks.on_lost(grant_of(grant)?, listener)?;
        Ok(())
    });
    drop(promise);
    status
}
