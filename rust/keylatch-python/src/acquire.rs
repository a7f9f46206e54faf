//! The verbs of the fast path: `lock`, `try_lock` and `alock`.
//!
//! A free lock is taken without leaving the interpreter and without pyo3's conversions. What has to wait goes to a
//! `…_slow` function with its place in line already taken.

use crate::awaitable;
use crate::errors::{OrRaise, to_exception};
use crate::guard;
use crate::key::{AskedKey, plain_key};
use crate::manager::LockManager;
use crate::raw::{self, RawResult, Table, answer, none};
use crate::request::{Asked, LOCK, TRY_LOCK};
use crate::wait::wait_for;
use keylatch::{Acquire, LockError, LockRequest, Mode};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

static METHODS: Table<ffi::PyMethodDef, 3> = Table::new([
    raw::method_with_keywords(
        c"lock",
        lock,
        c"lock($self, /, key, *, shared=False, owner=None, timeout=None, ttl=None, priority=0, wait=True, renew=False)\n--\n\n\
        Take a lock, waiting until it is free, and return the guard that holds it.\n\n\
        key is a str or bytes, or a tuple (bucket, object) or (bucket, object, version) of them. Any number may\n\
        hold it shared; otherwise one holds it alone. owner says whose request it is, in errors and listings; a\n\
        Session is more than a name: see LockManager.session.\n\
        timeout is in seconds; None is the manager's default_timeout, and math.inf is for as long as it takes.\n\
        Requests of higher priority (0 to 255) wait ahead of others. wait=False does not wait at all.\n\
        With ttl the lock is a lease: waiters may take it away once that many seconds have passed since it was\n\
        granted or renewed. With renew=True a thread renews it in time for as long as the guard is held: who holds it keeps\n\
        it, and who dies, or is stopped for longer than ttl, loses it.\n\n\
        Raises LockTimeout, which says who holds the lock; WouldBlock, with wait=False; LockDeadlock; Closed; Forked.\n\n\
        >>> from keylatch import LockManager\n\
        >>> locks = LockManager()\n\
        >>> with locks.lock(\"cat.jpg\", owner=\"indexer\"):\n\
        ...     locks.lock(\"cat.jpg\", timeout=0.01)\n\
        Traceback (most recent call last):\n\
        keylatch.LockTimeout: \"cat.jpg\" was not free within ...; held by indexer (exclusive, ...)\n",
    ),
    raw::method_with_keywords(
        c"try_lock",
        try_lock,
        c"try_lock($self, /, key, *, shared=False, owner=None, ttl=None, priority=0)\n--\n\n\
        Take a lock if it is free now, and return its guard, or None.\n\n\
        >>> from keylatch import LockManager\n\
        >>> locks = LockManager()\n\
        >>> with locks.lock(\"cat.jpg\"):\n\
        ...     locks.try_lock(\"cat.jpg\") is None\n\
        True\n",
    ),
    raw::method_with_keywords(
        c"alock",
        awaitable::alock,
        c"alock($self, /, key, *, shared=False, owner=None, timeout=None, ttl=None, priority=0, wait=True, renew=False)\n--\n\n\
        The same as lock() for asyncio: await it, use it in `async with`, or make a task of it.\n\n\
        Cancelling the wait is exact: the request is out of the line, and nothing is held.\n\n\
        >>> import asyncio\n\
        >>> from keylatch import LockManager\n\
        >>> locks = LockManager()\n\
        >>> async def main():\n\
        ...     async with locks.alock(\"cat.jpg\") as guard:\n\
        ...         print(guard.key)\n\
        ...     guard = await locks.alock(\"dog.jpg\", timeout=1)\n\
        ...     guard.release()\n\
        >>> asyncio.run(main())\n\
        cat.jpg\n",
    ),
]);

/// Adds the verbs to the class.
pub(crate) fn add_methods(class: &Bound<'_, PyAny>) -> PyResult<()> {
    // Kept for good.
    SHARED.store(PyString::intern(class.py(), "shared").into_ptr(), Ordering::Relaxed);
    raw::add_methods(class, METHODS.as_pointer().cast(), &["lock", "try_lock", "alock"])
}

/// Whether only a key was asked for, or a key and `shared`; `None` otherwise.
///
/// # Safety
/// The arguments are as an interpreter passes them.
#[inline(always)]
unsafe fn plain_mode(
    arguments: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> Option<Mode> {
    if positional != 1 {
        return None;
    }
    if keywords.is_null() {
        return Some(Mode::Exclusive);
    }
    // SAFETY: a tuple of the names of the arguments after the positional one. The objects are only compared.
    unsafe {
        if ffi::PyTuple_Size(keywords) != 1 || ffi::PyTuple_GetItem(keywords, 0) != SHARED.load(Ordering::Relaxed) {
            return None;
        }
        let shared = *arguments.add(1);
        match () {
            () if shared == ffi::Py_True() => Some(Mode::Shared),
            () if shared == ffi::Py_False() => Some(Mode::Exclusive),
            () => None,
        }
    }
}

/// The word `shared`, of which interned program text has one object.
static SHARED: AtomicPtr<ffi::PyObject> = AtomicPtr::new(null_mut());

/// `LockManager.lock`. Here the plain case: a key alone, or shared, which is free.
unsafe extern "C" fn lock(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the interpreter passed them.
    if let Some(mode) = unsafe { plain_mode(arguments, positional, keywords) } {
        // SAFETY: there is a positional argument, on a thread that is attached.
        let (key, plain) = unsafe { (*arguments, plain_key(*arguments)) };
        if let Some(plain) = plain {
            // SAFETY: called on a manager.
            let manager = unsafe { LockManager::from_raw(slf) };
            return match manager.ask(LockRequest::new(plain, mode)) {
                // SAFETY: called on this manager with this key.
                Ok(Ok(hold)) => unsafe { guard::new(hold, slf, key, null_mut()) },
                Ok(Err(error)) => refused_slow(&error),
                Err(future) => wait_slow(future, slf, key, null_mut()),
            };
        }
    }
    // SAFETY: the arguments as they were passed.
    unsafe { lock_slow(slf, arguments, positional, keywords) }
}

#[cold]
#[inline(never)]
fn refused_slow(error: &LockError) -> *mut ffi::PyObject {
    answer(|py| Err(to_exception(py, error)))
}

#[cold]
#[inline(never)]
fn wait_slow(
    future: Acquire<'_, '_>,
    manager: *mut ffi::PyObject,
    key: *mut ffi::PyObject,
    owner: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    answer(|py| guard::from_answer(py, wait_for(py, future)?, manager, key, owner))
}

#[inline(never)]
unsafe fn lock_slow(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: the arguments as the interpreter passed them.
        let asked = unsafe { Asked::parse(py, &LOCK, arguments, positional, keywords)? };
        take(py, slf, &asked)
    })
}

/// Takes the lock that was asked for.
fn take(py: Python<'_>, slf: *mut ffi::PyObject, asked: &Asked<'_, '_>) -> RawResult {
    // SAFETY: called on a manager.
    let manager = unsafe { LockManager::from_raw(slf) };
    let key = AskedKey::of(&asked.key)?;
    let owner = asked.owner.name(py);
    let owner = owner.as_ref().map_or(null_mut(), |name| name.as_ptr());
    let request = asked.request(&key, manager.id());
    if !asked.wait {
        let held = manager.locks().lock(request).try_now();
        let guard = guard::from_answer(py, held, slf, asked.key.as_ptr(), owner);
        return guard::renewed(py, guard, asked.renewed());
    }
    let held = match manager.ask(request) {
        Ok(held) => held,
        Err(future) => wait_for(py, future)?,
    };
    let guard = guard::from_answer(py, held, slf, asked.key.as_ptr(), owner);
    guard::renewed(py, guard, asked.renewed())
}

/// `LockManager.try_lock`. Here the plain case, as in `lock`.
unsafe extern "C" fn try_lock(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the interpreter passed them.
    if let Some(mode) = unsafe { plain_mode(arguments, positional, keywords) } {
        // SAFETY: there is a positional argument, on a thread that is attached.
        let (key, plain) = unsafe { (*arguments, plain_key(*arguments)) };
        if let Some(plain) = plain {
            // SAFETY: called on a manager.
            let manager = unsafe { LockManager::from_raw(slf) };
            return match manager.locks().lock(LockRequest::new(plain, mode)).try_now() {
                // SAFETY: called on this manager with this key.
                Ok(hold) => unsafe { guard::new(hold, slf, key, null_mut()) },
                Err(LockError::WouldBlock { .. }) => none(),
                Err(error) => refused_slow(&error),
            };
        }
    }
    // SAFETY: the arguments as they were passed.
    unsafe { try_lock_slow(slf, arguments, positional, keywords) }
}

#[inline(never)]
unsafe fn try_lock_slow(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: the arguments as the interpreter passed them.
        let asked = unsafe { Asked::parse(py, &TRY_LOCK, arguments, positional, keywords)? };
        // SAFETY: the interpreter calls a method of a manager with a manager.
        let manager = unsafe { LockManager::from_raw(slf) };
        let key = AskedKey::of(&asked.key)?;
        let owner = asked.owner.name(py);
        let owner = owner.as_ref().map_or(null_mut(), |name| name.as_ptr());
        match manager.locks().lock(asked.request(&key, manager.id())).try_now() {
            Ok(hold) => guard::from_answer(py, Ok(hold), slf, asked.key.as_ptr(), owner),
            Err(LockError::WouldBlock { .. }) => Ok(none()),
            Err(error) => Err(error).or_raise(py),
        }
    })
}
