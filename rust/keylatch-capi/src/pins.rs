//! PINNED KEYS
//!
//! A key that a program knows it will lock often, such as an inode of a table in memory. It stays in the manager's table while
//! the pin is there, held or not, and locking it with the pin costs less: there is nothing to hash, to look up or to compare.
//! It is the same lock as that of the key without the pin, and its grants are grants of the manager.

use crate::acquire::{self, keylatch_callback, keylatch_free_fn};
use crate::annotate;
use crate::boundary::{Out, call};
use crate::callbacks::Promise;
use crate::handle::{self, Entered, Kind, Mark};
use crate::key::{self, KEYLATCH_EXCLUSIVE, KEYLATCH_SHARED, keylatch_key};
use crate::manager::{self, handed_out, keylatch_manager};
use crate::options::{self, keylatch_request_options};
use crate::queue::keylatch_queue;
use crate::refusal::{Failure, null};
use crate::status::{KEYLATCH_EHANDLE, KEYLATCH_OK};
use keylatch::{Mode, PinnedKey};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A key that stays in its manager's table.
///
/// Made by keylatch_pin(), ended by keylatch_unpin().
#[derive(Debug)]
pub struct keylatch_pinned_key {
    pin: PinnedKey,
    /// The handle of its manager, which may have been freed.
    manager: Manager,
    number: u64,
}

/// A pointer that is only entered, which says whether it is a manager still.
#[derive(Debug)]
struct Manager(*mut keylatch_manager);

// SAFETY: it is not followed but through `enter`, which any thread may call.
unsafe impl Send for Manager {}
// SAFETY: as above.
unsafe impl Sync for Manager {}

impl Kind for keylatch_pinned_key {
    const MARK: &'static Mark = {
        static MARK: Mark = Mark::new();
        &MARK
    };
    const NAME: &'static str = "keylatch_pinned_key";
}

impl keylatch_pinned_key {
    fn manager(&self) -> Result<Entered<keylatch_manager>, Failure> {
        let freed = || {
            Failure::new(KEYLATCH_EHANDLE, "the manager of the pinned key was freed; end the pin with keylatch_unpin()")
        };
        // A fork is another matter than a manager that was freed.
        let manager = manager::enter(self.manager.0).map_err(|failure| match failure.status() {
            KEYLATCH_EHANDLE => freed(),
            _ => failure,
        })?;
        // The handle may be another manager's by now.
        if manager.number == self.number { Ok(manager) } else { Err(freed()) }
    }
}

/// Keeps a key in the manager's table until keylatch_unpin(), held or not.
///
/// It takes one place of max_locks meanwhile. Writes *pin on success; it is the caller's, to be ended with keylatch_unpin(). Errors:
/// KEYLATCH_ETABLEFULL, KEYLATCH_EKEY, KEYLATCH_ECLOSED, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID; KEYLATCH_EHANDLE
/// also if there are as many handles as there can be. Threads: any; also from callbacks.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_pin(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
    pin: *mut *mut keylatch_pinned_key,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(pin) }?;
        let entered = manager::enter_here(manager)?;
        // SAFETY: the header says what the caller promises.
        let key = key::lockable(unsafe { key::read(key) }?, &entered.locks)?;
        let pin = entered.locks.pin(key)?;
        let made = keylatch_pinned_key { pin, manager: Manager(manager), number: entered.number };
        out.write(handed_out(handle::create(made)?));
        Ok(())
    })
}

/// Ends a pin. What is held of the key stays held. NULL is fine and does nothing.
///
/// A pin has to be ended also after its manager was freed; until then the memory of the manager's table stays. Errors:
/// KEYLATCH_EHANDLE, KEYLATCH_EFORKED in a forked child, KEYLATCH_EBUSY from a free_fn that is called inside a call with this pin.
/// Threads: any; waits for calls in progress with this pin, so end their waits first (keylatch_cancel(), keylatch_manager_close()).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_unpin(pin: *mut keylatch_pinned_key) -> i32 {
    call(|| {
        if !pin.is_null() {
            drop(handle::end::<keylatch_pinned_key>(pin.cast(), |_| ())?);
        }
        Ok(())
    })
}

/// Takes a lock that is plainly free and asked for in an ordinary way.
///
/// `false` says nothing.
///
/// If results are to arrive in a queue, it has to be one of the same manager.
///
/// # Safety
/// As the header says of keylatch_acquire_pinned().
#[inline(always)]
unsafe fn take_plainly(
    pin: *mut keylatch_pinned_key,
    mode: i32,
    options: *const keylatch_request_options,
    queue: Option<*mut keylatch_queue>,
    grant: *mut u64,
) -> bool {
    // SAFETY: promised.
    unsafe {
        match (mode, options.is_null()) {
            (KEYLATCH_EXCLUSIVE, true) => take::<true, false>(pin, options, queue, grant),
            (KEYLATCH_EXCLUSIVE, false) => take::<true, true>(pin, options, queue, grant),
            (KEYLATCH_SHARED, true) => take::<false, false>(pin, options, queue, grant),
            (KEYLATCH_SHARED, false) => take::<false, true>(pin, options, queue, grant),
            _ => false,
        }
    }
}

/// As `take_plainly`, for one mode, with options or without.
///
/// # Safety
/// As there.
#[inline(never)]
unsafe fn take<const EXCLUSIVE: bool, const OWNED: bool>(
    pin: *mut keylatch_pinned_key,
    options: *const keylatch_request_options,
    queue: Option<*mut keylatch_queue>,
    grant: *mut u64,
) -> bool {
    if grant.is_null() {
        return false;
    }
    let take = || {
        let pinned = handle::enter_fast::<keylatch_pinned_key>(pin.cast())?;
        if let Some(queue) = queue
            && pinned.and::<keylatch_queue>(queue.cast())?.manager != pinned.number
        {
            return None;
        }
        // SAFETY: promised.
        let given = unsafe { options::plain::<OWNED, _>(options, &pinned, pinned.number) }?;
        let taken = pinned.pin.grant_if_free::<EXCLUSIVE>(given.owner(), given.priority)?;
        annotate::granted_pin(pinned.number, &pinned.pin, if EXCLUSIVE { Mode::Exclusive } else { Mode::Shared });
        Some(taken)
    };
    // It does not panic; if it does all the same, the way around it finds out about that too.
    let Ok(Some(taken)) = catch_unwind(AssertUnwindSafe(take)) else { return false };
    // SAFETY: promised, and not NULL.
    unsafe { grant.write_unaligned(taken.to_raw()) };
    true
}

/// As keylatch_try(), for the key of a pin.
///
/// Errors: as keylatch_try(); KEYLATCH_EHANDLE also if the manager was freed. Threads: any; also from callbacks.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_try_pinned(
    pin: *mut keylatch_pinned_key,
    mode: i32,
    options: *const keylatch_request_options,
    grant: *mut u64,
) -> i32 {
    // SAFETY: the header says what the caller promises.
    match unsafe { take_plainly(pin, mode, options, None, grant) } {
        true => KEYLATCH_OK,
        // SAFETY: as above.
        false => unsafe { try_slow(pin, mode, options, grant) },
    }
}

#[cold]
#[inline(never)]
unsafe extern "C" fn try_slow(
    pin: *mut keylatch_pinned_key,
    mode: i32,
    options: *const keylatch_request_options,
    grant: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(grant) }?;
        let pinned = handle::enter::<keylatch_pinned_key>(pin.cast())?;
        let manager = pinned.manager()?;
        // SAFETY: the header says what the caller promises.
        out.write(unsafe { acquire::now(&manager, pinned.pin.key().as_ref(), mode, options) }?.to_raw());
        Ok(())
    })
}

/// As keylatch_acquire(), for the key of a pin.
///
/// Errors: as keylatch_acquire(); KEYLATCH_EHANDLE also if the manager was freed. Threads: any, but callbacks must not wait.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_acquire_pinned(
    pin: *mut keylatch_pinned_key,
    mode: i32,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    grant: *mut u64,
) -> i32 {
    // SAFETY: the header says what the caller promises.
    match unsafe { take_plainly(pin, mode, options, None, grant) } {
        true => KEYLATCH_OK,
        // SAFETY: as above.
        false => unsafe { acquire_slow(pin, mode, timeout_ns, options, grant) },
    }
}

#[cold]
#[inline(never)]
unsafe extern "C" fn acquire_slow(
    pin: *mut keylatch_pinned_key,
    mode: i32,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    grant: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(grant) }?;
        let pinned = handle::enter::<keylatch_pinned_key>(pin.cast())?;
        let manager = pinned.manager()?;
        // SAFETY: the header says what the caller promises.
        let taken = unsafe { acquire::blocking(&manager, pinned.pin.key().as_ref(), mode, timeout_ns, options) }?;
        out.write(taken.to_raw());
        Ok(())
    })
}

/// As keylatch_acquire_callback(), for the key of a pin.
///
/// Errors: as keylatch_acquire_callback(); KEYLATCH_EHANDLE also if the manager was freed. Threads: any; also from callbacks.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_acquire_pinned_callback(
    pin: *mut keylatch_pinned_key,
    mode: i32,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    callback: keylatch_callback,
    user_data: *mut c_void,
    free_fn: keylatch_free_fn,
    grant: *mut u64,
    ticket: *mut u64,
) -> i32 {
    let promise = Promise::new(user_data, free_fn);
    let status = call(|| {
        // SAFETY: the header says what the caller promises.
        let outs = unsafe { (Out::new(grant)?, Out::new(ticket)?) };
        let callback = callback.ok_or_else(|| null("the callback"))?;
        let pinned = handle::enter_here::<keylatch_pinned_key>(pin.cast())?;
        let (manager, key) = (pinned.manager()?, pinned.pin.key().as_ref());
        // SAFETY: the header says what the caller promises.
        let handed = unsafe { acquire::by_callback(&manager, (key, mode), timeout_ns, options, (callback, &promise)) }?;
        handed.write(outs);
        Ok(())
    });
    // Out of the manager, so that free_fn may free it.
    drop(promise);
    status
}

/// As keylatch_acquire_queue(), for the key of a pin.
///
/// Errors: as keylatch_acquire_queue(); KEYLATCH_EHANDLE also if the manager was freed. Threads: any; also from callbacks.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_acquire_pinned_queue(
    pin: *mut keylatch_pinned_key,
    mode: i32,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    queue: *mut keylatch_queue,
    token: u64,
    grant: *mut u64,
    ticket: *mut u64,
) -> i32 {
    // SAFETY: the header says what the caller promises.
    if !ticket.is_null() && unsafe { take_plainly(pin, mode, options, Some(queue), grant) } {
        // SAFETY: as above, and it is not NULL.
        unsafe { ticket.write_unaligned(0) };
        return KEYLATCH_OK;
    }
    // SAFETY: as above.
    unsafe { acquire_queue_slow(pin, mode, timeout_ns, options, queue, token, grant, ticket) }
}

#[cold]
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "as many as the function has that it is a part of")]
unsafe fn acquire_queue_slow(
    pin: *mut keylatch_pinned_key,
    mode: i32,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    queue: *mut keylatch_queue,
    token: u64,
    grant: *mut u64,
    ticket: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let outs = unsafe { (Out::new(grant)?, Out::new(ticket)?) };
        let pinned = handle::enter::<keylatch_pinned_key>(pin.cast())?;
        let (manager, key) = (pinned.manager()?, pinned.pin.key().as_ref());
        let queue = handle::enter::<keylatch_queue>(queue.cast())?;
        acquire::of_manager(&queue, &manager)?;
        // SAFETY: the header says what the caller promises.
        unsafe { acquire::by_queue(&manager, (key, mode), timeout_ns, options, (&queue, token)) }?.write(outs);
        Ok(())
    })
}
