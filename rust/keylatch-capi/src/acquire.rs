//! ACQUIRING
//!
//! A lock that is had is a grant: a number that is never 0. It belongs to the caller, from whatever thread, until it is
//! released; nothing else has to be kept. A request that has to wait in the background has a ticket: a number that is
//! never 0 either.

use crate::annotate;
use crate::boundary::{Out, call};
use crate::callbacks::Promise;
use crate::handed::{Handed, answer};
use crate::handle;
use crate::key::{self, KEYLATCH_EXCLUSIVE, KEYLATCH_SHARED, keylatch_key};
use crate::manager::{self, keylatch_manager};
use crate::options::{self, Given, keylatch_request_options, waiting};
use crate::queue::keylatch_queue;
use crate::refusal::{Failure, invalid, null};
use crate::status::{KEYLATCH_EHANDLE, KEYLATCH_ESYSTEM, KEYLATCH_ETIMEOUT, KEYLATCH_EWOULDBLOCK, KEYLATCH_OK};
use keylatch::{Grant, KeyRef, LockError, LockRequest, Mode, NumberedRequest, RequestTurn, Ticket};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// Called once with the result of a request that had to wait.
///
/// KEYLATCH_OK comes with the grant, which is the callee's now; an error comes with 0. keylatch_last_error() and its
/// like tell more of a failure.
///
/// It runs on a thread of the library's, never inside one of its locks, one callback of a manager at a time. It may
/// call everything that does not wait. It must return: no longjmp, no exception, no pthread_exit.
pub type keylatch_callback = Option<unsafe extern "C" fn(user_data: *mut c_void, status: i32, grant: u64)>;

/// Called once with a user_data that is no longer needed; NULL for no such call.
pub type keylatch_free_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// The functions that have a fast path, each a version of it.
const TRY: u8 = 0;
const ACQUIRE: u8 = 1;
const QUEUE: u8 = 2;

/// Takes a lock that is plainly free and asked for in an ordinary way.
///
/// This is the fast path. `false` gives no reason; nothing was done then, and nothing was written.
///
/// What it is for is in its type, so that there is a version for each with nothing in it about the others, and each is
/// part of the function that it is for.
///
/// # Safety
/// As the header says of keylatch_acquire().
#[inline(always)]
unsafe fn take_plainly<const FOR: u8, const MODE: i32, const VERSIONED: bool, const OWNED: bool>(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
    options: *const keylatch_request_options,
    grant: *mut u64,
) -> bool {
    if grant.is_null() {
        return false;
    }
    let take = || {
        // SAFETY: promised, and `plainly` has looked whether it is NULL.
        let key = unsafe { key::plain::<VERSIONED>(&*key) }?;
        let manager = handle::enter_fast::<keylatch_manager>(manager.cast())?;
        key::forced_panic(key.bucket());
        // SAFETY: promised.
        let given = unsafe { options::plain::<OWNED, _>(options, &manager, manager.number) }?;
        let mode = if MODE == KEYLATCH_SHARED { Mode::Shared } else { Mode::Exclusive };
        let request = LockRequest::new(key, mode).owner(given.owner()).priority(given.priority);
        let taken = manager.locks.lock(request).grant_fast()?;
        annotate::granted(manager.number, &manager.locks, taken);
        Some(taken)
    };
    // It does not panic; if it does all the same, the way around it finds out about that too.
    let Ok(Some(taken)) = catch_unwind(AssertUnwindSafe(take)) else { return false };
    // SAFETY: promised, and not NULL.
    unsafe { grant.write_unaligned(taken.to_raw()) };
    true
}

/// Whether a request is for a version, and has options; `None` without a key.
///
/// # Safety
/// The key is NULL or one.
#[inline(always)]
unsafe fn plainly(key: *const keylatch_key, options: *const keylatch_request_options) -> Option<(bool, bool)> {
    // SAFETY: promised.
    unsafe { key.as_ref() }.map(|key| (!key.version.is_null(), !options.is_null()))
}

/// Takes a lock if it is free. Never waits.
///
/// options may be NULL. Writes *grant on success. Errors: KEYLATCH_EWOULDBLOCK, and keylatch_last_holder() says who
/// holds it, which may be the asking session itself; KEYLATCH_EKEY, KEYLATCH_ETABLEFULL, KEYLATCH_ECLOSED, KEYLATCH_EFORKED; KEYLATCH_ECONFIG for a
/// request_id that was for something else or is no session's, and a ttl_ns that is too long; KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; also from callbacks.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_try(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
    mode: i32,
    options: *const keylatch_request_options,
    grant: *mut u64,
) -> i32 {
    // SAFETY: the header says what the caller promises.
    unsafe {
        match (mode, plainly(key, options)) {
            (KEYLATCH_EXCLUSIVE, Some((false, false))) => {
                try_plainly::<KEYLATCH_EXCLUSIVE, false, false>(manager, key, mode, options, grant)
            }
            (KEYLATCH_EXCLUSIVE, Some((false, true))) => {
                try_plainly::<KEYLATCH_EXCLUSIVE, false, true>(manager, key, mode, options, grant)
            }
            (KEYLATCH_EXCLUSIVE, Some((true, false))) => {
                try_plainly::<KEYLATCH_EXCLUSIVE, true, false>(manager, key, mode, options, grant)
            }
            (KEYLATCH_EXCLUSIVE, Some((true, true))) => {
                try_plainly::<KEYLATCH_EXCLUSIVE, true, true>(manager, key, mode, options, grant)
            }
            (KEYLATCH_SHARED, Some((false, false))) => {
                try_plainly::<KEYLATCH_SHARED, false, false>(manager, key, mode, options, grant)
            }
            (KEYLATCH_SHARED, Some((false, true))) => {
                try_plainly::<KEYLATCH_SHARED, false, true>(manager, key, mode, options, grant)
            }
            (KEYLATCH_SHARED, Some((true, false))) => {
                try_plainly::<KEYLATCH_SHARED, true, false>(manager, key, mode, options, grant)
            }
            (KEYLATCH_SHARED, Some((true, true))) => {
                try_plainly::<KEYLATCH_SHARED, true, true>(manager, key, mode, options, grant)
            }
            _ => try_slow(manager, key, mode, options, grant),
        }
    }
}

#[inline(never)]
unsafe extern "C" fn try_plainly<const MODE: i32, const VERSIONED: bool, const OWNED: bool>(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
    mode: i32,
    options: *const keylatch_request_options,
    grant: *mut u64,
) -> i32 {
    // SAFETY: promised.
    unsafe {
        match take_plainly::<TRY, MODE, VERSIONED, OWNED>(manager, key, options, grant) {
            true => KEYLATCH_OK,
            false => try_slow(manager, key, mode, options, grant),
        }
    }
}

#[cold]
#[inline(never)]
unsafe extern "C" fn try_slow(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
    mode: i32,
    options: *const keylatch_request_options,
    grant: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(grant) }?;
        let manager = manager::enter(manager)?;
        // SAFETY: the header says what the caller promises.
        let key = key::lockable(unsafe { key::read(key) }?, &manager.locks)?;
        // SAFETY: the header says what the caller promises.
        out.write(unsafe { now(&manager, key, mode, options) }?.to_raw());
        Ok(())
    })
}

/// # Safety
/// As the header says of keylatch_request_options.
pub(crate) unsafe fn now(
    manager: &keylatch_manager,
    key: KeyRef<'_>,
    mode: i32,
    options: *const keylatch_request_options,
) -> Result<Grant, Failure> {
    // SAFETY: promised.
    let given = unsafe { Given::read(options, manager, 0) }?;
    let taken = manager.locks.lock(given.request(key, key::mode(mode)?)).grant_now()?;
    annotate::granted(manager.number, &manager.locks, taken);
    Ok(taken)
}

/// Waits for a lock in the calling thread, for at most timeout_ns nanoseconds.
///
/// A timeout_ns of 0 tries once without waiting, KEYLATCH_WAIT_FOREVER waits as long as it takes, and
/// KEYLATCH_WAIT_DEFAULT as the manager is set.
///
/// options may be NULL. Writes *grant on success. Errors: KEYLATCH_ETIMEOUT, and keylatch_last_holder() says who held it;
/// KEYLATCH_EDEADLOCK, and keylatch_last_cycle_link() says who waits for whom; KEYLATCH_ECLOSED if the manager is closed
/// or freed meanwhile; KEYLATCH_EKEY, KEYLATCH_ETABLEFULL, KEYLATCH_EWAITERS, KEYLATCH_EFORKED; KEYLATCH_ECONFIG for a
/// request_id that was for something else or is no session's, and a ttl_ns that is too long; KEYLATCH_ENULL,
/// KEYLATCH_EINVALID, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any, but callbacks must not wait. Signals do not end the wait.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_acquire(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
    mode: i32,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    grant: *mut u64,
) -> i32 {
    // SAFETY: the header says what the caller promises.
    unsafe {
        match (mode, plainly(key, options)) {
            (KEYLATCH_EXCLUSIVE, Some((false, false))) => {
                acquire_plainly::<KEYLATCH_EXCLUSIVE, false, false>(manager, key, mode, timeout_ns, options, grant)
            }
            (KEYLATCH_EXCLUSIVE, Some((false, true))) => {
                acquire_plainly::<KEYLATCH_EXCLUSIVE, false, true>(manager, key, mode, timeout_ns, options, grant)
            }
            (KEYLATCH_EXCLUSIVE, Some((true, false))) => {
                acquire_plainly::<KEYLATCH_EXCLUSIVE, true, false>(manager, key, mode, timeout_ns, options, grant)
            }
            (KEYLATCH_EXCLUSIVE, Some((true, true))) => {
                acquire_plainly::<KEYLATCH_EXCLUSIVE, true, true>(manager, key, mode, timeout_ns, options, grant)
            }
            (KEYLATCH_SHARED, Some((false, false))) => {
                acquire_plainly::<KEYLATCH_SHARED, false, false>(manager, key, mode, timeout_ns, options, grant)
            }
            (KEYLATCH_SHARED, Some((false, true))) => {
                acquire_plainly::<KEYLATCH_SHARED, false, true>(manager, key, mode, timeout_ns, options, grant)
            }
            (KEYLATCH_SHARED, Some((true, false))) => {
                acquire_plainly::<KEYLATCH_SHARED, true, false>(manager, key, mode, timeout_ns, options, grant)
            }
            (KEYLATCH_SHARED, Some((true, true))) => {
                acquire_plainly::<KEYLATCH_SHARED, true, true>(manager, key, mode, timeout_ns, options, grant)
            }
            _ => acquire_slow(manager, key, mode, timeout_ns, options, grant),
        }
    }
}

#[inline(never)]
unsafe extern "C" fn acquire_plainly<const MODE: i32, const VERSIONED: bool, const OWNED: bool>(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
    mode: i32,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    grant: *mut u64,
) -> i32 {
    // SAFETY: promised.
    unsafe {
        match take_plainly::<ACQUIRE, MODE, VERSIONED, OWNED>(manager, key, options, grant) {
            true => KEYLATCH_OK,
            false => acquire_slow(manager, key, mode, timeout_ns, options, grant),
        }
    }
}

#[cold]
#[inline(never)]
unsafe extern "C" fn acquire_slow(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
    mode: i32,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    grant: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(grant) }?;
        let manager = manager::enter(manager)?;
        // SAFETY: the header says what the caller promises.
        let key = key::lockable(unsafe { key::read(key) }?, &manager.locks)?;
        // SAFETY: the header says what the caller promises.
        out.write(unsafe { blocking(&manager, key, mode, timeout_ns, options) }?.to_raw());
        Ok(())
    })
}

/// # Safety
/// As the header says of keylatch_request_options.
pub(crate) unsafe fn blocking(
    manager: &keylatch_manager,
    key: KeyRef<'_>,
    mode: i32,
    timeout_ns: u64,
    options: *const keylatch_request_options,
) -> Result<Grant, Failure> {
    // SAFETY: promised.
    let given = unsafe { Given::read(options, manager, 0) }?;
    let request = waiting(given.request(key, key::mode(mode)?), timeout_ns);
    let taken = manager.locks.lock(request).grant_blocking()?;
    annotate::granted(manager.number, &manager.locks, taken);
    Ok(taken)
}

/// Takes a lock if it is free; otherwise has callback called with the result.
///
/// The callback is called once. Never waits.
///
/// On success exactly one of *grant and *ticket is not 0. *grant: the lock was free, and callback will not be called. *ticket: it was not,
/// and callback will be called, maybe before this function returns; keylatch_cancel() ends the wait.
/// free_fn (NULL for none) is called once with user_data when that is no longer needed, in any case: after callback has
/// returned, or, when callback will not be called, before this function returns.
///
/// options may be NULL. Errors: as keylatch_acquire(); callback is not called then. KEYLATCH_ETIMEOUT only for a timeout of 0;
/// KEYLATCH_EWOULDBLOCK for a request_id of which the same request waits already; KEYLATCH_ESYSTEM if there is no thread for
/// callbacks. Threads: any; also from callbacks.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_acquire_callback(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
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
        let manager = manager::enter_here(manager)?;
        // SAFETY: the header says what the caller promises.
        let key = key::lockable(unsafe { key::read(key) }?, &manager.locks)?;
        // SAFETY: the header says what the caller promises.
        unsafe { by_callback(&manager, (key, mode), timeout_ns, options, (callback, &promise)) }?.write(outs);
        Ok(())
    });
    // Out of the manager, so that free_fn may free it.
    drop(promise);
    status
}

/// What has a callback, which is there.
type Callback = unsafe extern "C" fn(user_data: *mut c_void, status: i32, grant: u64);

/// # Safety
/// As the header says of keylatch_request_options, and the callback is for the promise's pointer.
pub(crate) unsafe fn by_callback(
    manager: &keylatch_manager,
    (key, mode): (KeyRef<'_>, i32),
    timeout_ns: u64,
    options: *const keylatch_request_options,
    (callback, promise): (Callback, &Arc<Promise>),
) -> Result<Handed, Failure> {
    // SAFETY: promised.
    let mut given = unsafe { Given::read(options, manager, 0) }?;
    let mode = key::mode(mode)?;
    let turn = match begin(&mut given, manager, (key, mode), timeout_ns)? {
        Begun::Has(known) => return Ok(Handed::Granted(known)),
        Begun::Asks(turn) => Arc::new(Mutex::new(turn)),
    };
    let (turn_of_callback, kept) = (Arc::clone(&turn), Arc::clone(promise));
    let request = waiting(given.request(key, mode), timeout_ns);
    promise.is_owed(manager.number, &manager.callbacks);
    let submitted = manager.locks.lock(request).with_callback(move |result| {
        let (status, grant) = answer(kept.manager(), result);
        answer_turn(&turn_of_callback, Grant::from_raw(grant));
        // SAFETY: the caller gave the function for this pointer.
        kept.call(|user_data| unsafe { callback(user_data, status, grant) });
    });
    let submitted = submitted.map_err(|error| match error {
        // It is no setting of the caller's.
        LockError::InvalidConfig { setting: "callbacks", problem } => {
            Failure::owned(KEYLATCH_ESYSTEM, format!("callbacks: {problem}"))
        }
        other => other.into(),
    })?;
    let handed = Handed::from(submitted);
    if let Handed::Granted(taken) = handed {
        answer_turn(&turn, Some(taken));
        annotate::granted(manager.number, &manager.locks, taken);
    }
    Ok(handed)
}

/// What a request that may be answered later does about its number.
enum Begun {
    /// It was answered before.
    Has(Grant),
    /// It is made, without its number; with the turn, if it had one.
    Asks(Option<RequestTurn>),
}

/// Takes the number out of a request, and the turn for it.
fn begin(
    given: &mut Given<'_>,
    manager: &keylatch_manager,
    (key, mode): (KeyRef<'_>, Mode),
    timeout_ns: u64,
) -> Result<Begun, Failure> {
    if given.request_id.is_none() {
        return Ok(Begun::Asks(None));
    }
    let begun = manager.locks.begin_numbered(&given.request(key, mode))?;
    given.request_id = None;
    match begun {
        NumberedRequest::Answered(grant) => Ok(Begun::Has(grant)),
        NumberedRequest::First(turn) => Ok(Begun::Asks(Some(turn))),
        NumberedRequest::Repeated(_) => {
            let (status, instead) =
                if timeout_ns == 0 { (KEYLATCH_ETIMEOUT, "") } else { (KEYLATCH_EWOULDBLOCK, REPEATED) };
            Err(Failure::owned(status, format!("the same numbered request of this session waits already{instead}")))
        }
    }
}

const REPEATED: &str = ", and its answer goes where that was asked for; ask again later, or wait for it in a thread";

fn answer_turn(turn: &Mutex<Option<RequestTurn>>, grant: Option<Grant>) {
    let turn = turn.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let (Some(turn), Some(grant)) = (turn, grant) {
        turn.answer(grant);
    }
}

/// Takes a lock if it is free; otherwise the result arrives in the queue.
///
/// It comes with token, which is the caller's own. Never waits.
///
/// On success exactly one of *grant and *ticket is not 0. *grant: the lock was free, and nothing will arrive. *ticket:
/// the result will arrive; keylatch_cancel() ends the wait.
///
/// options may be NULL. Errors: as keylatch_acquire(); nothing arrives then. KEYLATCH_ETIMEOUT only for a timeout of 0;
/// KEYLATCH_EWOULDBLOCK for a request_id of which the same request waits already; KEYLATCH_EHANDLE also for a queue of another manager. Threads: any; also from callbacks.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_acquire_queue(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
    mode: i32,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    queue: *mut keylatch_queue,
    token: u64,
    grant: *mut u64,
    ticket: *mut u64,
) -> i32 {
    let taken = !ticket.is_null()
        && belongs(queue, manager)
        // SAFETY: the header says what the caller promises, and `take_plainly` asks for no more.
        && unsafe {
            match (mode, plainly(key, options)) {
                (KEYLATCH_EXCLUSIVE, Some((false, false))) => {
                    take_plainly::<QUEUE, KEYLATCH_EXCLUSIVE, false, false>(manager, key, options, grant)
                }
                (KEYLATCH_EXCLUSIVE, Some((false, true))) => {
                    take_plainly::<QUEUE, KEYLATCH_EXCLUSIVE, false, true>(manager, key, options, grant)
                }
                (KEYLATCH_SHARED, Some((false, false))) => {
                    take_plainly::<QUEUE, KEYLATCH_SHARED, false, false>(manager, key, options, grant)
                }
                (KEYLATCH_SHARED, Some((false, true))) => {
                    take_plainly::<QUEUE, KEYLATCH_SHARED, false, true>(manager, key, options, grant)
                }
                _ => false,
            }
        };
    if taken {
        // SAFETY: the header says what the caller promises, and it is not NULL.
        unsafe { ticket.write_unaligned(0) };
        return KEYLATCH_OK;
    }
    // SAFETY: the header says what the caller promises.
    unsafe { acquire_queue_slow(manager, key, mode, timeout_ns, options, queue, token, grant, ticket) }
}

/// Whether a queue is one of the manager's, and neither is wrong.
#[inline(always)]
fn belongs(queue: *mut keylatch_queue, manager: *mut keylatch_manager) -> bool {
    let Some(manager) = handle::enter_fast::<keylatch_manager>(manager.cast()) else { return false };
    handle::enter_fast::<keylatch_queue>(queue.cast()).is_some_and(|queue| queue.manager == manager.number)
}

#[cold]
#[inline(never)]
#[expect(clippy::too_many_arguments, reason = "as many as the function has that it is a part of")]
unsafe fn acquire_queue_slow(
    manager: *mut keylatch_manager,
    key: *const keylatch_key,
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
        let manager = manager::enter(manager)?;
        let queue = handle::enter::<keylatch_queue>(queue.cast())?;
        of_manager(&queue, &manager)?;
        // SAFETY: the header says what the caller promises.
        let key = key::lockable(unsafe { key::read(key) }?, &manager.locks)?;
        // SAFETY: the header says what the caller promises.
        unsafe { by_queue(&manager, (key, mode), timeout_ns, options, (&queue, token)) }?.write(outs);
        Ok(())
    })
}

pub(crate) fn of_manager(queue: &keylatch_queue, manager: &keylatch_manager) -> Result<(), Failure> {
    match queue.manager == manager.number {
        true => Ok(()),
        false => Err(Failure::new(KEYLATCH_EHANDLE, "the queue belongs to another manager")),
    }
}

/// # Safety
/// As the header says of keylatch_request_options.
pub(crate) unsafe fn by_queue(
    manager: &keylatch_manager,
    (key, mode): (KeyRef<'_>, i32),
    timeout_ns: u64,
    options: *const keylatch_request_options,
    (queue, token): (&keylatch_queue, u64),
) -> Result<Handed, Failure> {
    // SAFETY: promised.
    let mut given = unsafe { Given::read(options, manager, 0) }?;
    let mode = key::mode(mode)?;
    let ask = |given: &Given<'_>| {
        let request = waiting(given.request(key, mode), timeout_ns);
        Ok(Handed::from(manager.locks.lock(request).with_queue(&queue.completions, token)?))
    };
    let handed = match begin(&mut given, manager, (key, mode), timeout_ns)? {
        Begun::Has(known) => Handed::Granted(known),
        Begun::Asks(None) => ask(&given)?,
        Begun::Asks(Some(turn)) => queue.numbered(turn, || ask(&given))?,
    };
    if let Handed::Granted(taken) = handed {
        annotate::granted(manager.number, &manager.locks, taken);
    }
    Ok(handed)
}

/// Ends the wait of a request that was made with a callback or a queue.
///
/// *cancelled is 1 if it did: the result that arrives is KEYLATCH_ECANCELLED. It is 0 if the request had ended already,
/// with a grant for instance: its result has arrived or is about to, and the grant has to be released. A number that
/// was never a ticket is 0 too, and so is every number in a forked child.
///
/// Writes *cancelled on success. Errors: KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; also from
/// callbacks. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_cancel(manager: *mut keylatch_manager, ticket: u64, cancelled: *mut i32) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(cancelled) }?;
        let entered = manager::enter(manager)?;
        let ended = Ticket::from_raw(ticket).is_some_and(|ticket| entered.locks.cancel(ticket))
            || manager::enter_here(manager).is_ok_and(|manager| manager.in_parts.cancel(ticket));
        out.write(i32::from(ended));
        Ok(())
    })
}

/// A grant from its number.
#[inline(always)]
pub(crate) fn grant(number: u64) -> Result<Grant, Failure> {
    Grant::from_raw(number).ok_or_else(no_grant)
}

#[cold]
fn no_grant() -> Failure {
    Failure::Core(LockError::NotHeld { grant: 0 })
}

/// A length that memory cannot have is a mistake.
pub(crate) fn array_len<T>(count: usize) -> Result<usize, Failure> {
    match count.checked_mul(size_of::<T>()) {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(count),
        _ => Err(invalid(format!("there cannot be {count} of them"))),
    }
}
