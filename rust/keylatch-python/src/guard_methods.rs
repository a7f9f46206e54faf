//! What a guard can do besides being taken and released.

use crate::classes::{class, mode_to_python, module};
use crate::guard::GuardObject;
use crate::losses;
use crate::numbers::{Seconds, argument};
use crate::pending::Pending;
use crate::raw::{answer, new_ref, none, owned};
use crate::request::Timeout;
use crate::upgrade;
use crate::wait::wait_for;
use keylatch::{Lost, Mode};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyModule, PyString};
use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

/// The guard that a method or attribute belongs to.
///
/// # Safety
/// `slf` is what the interpreter passed to such a function.
unsafe fn this<'a>(slf: *mut ffi::PyObject) -> &'a GuardObject {
    // SAFETY: the interpreter checks the type before it calls.
    unsafe { GuardObject::from_raw(slf) }
}

pub(crate) unsafe extern "C" fn downgrade(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let guard = unsafe { this(slf) };
        let downgraded = guard.look(py, |hold| hold.try_downgrade())?;
        downgraded.map_err(|error| guard.gone(py, &error))?;
        Ok(none())
    })
}

pub(crate) unsafe extern "C" fn try_upgrade(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let guard = unsafe { this(slf) };
        let upgraded = match guard.look(py, |hold| hold.try_upgrade())? {
            Ok(()) => true,
            Err(keylatch::LockError::WouldBlock { .. }) => false,
            Err(error) => return Err(guard.gone(py, &error)),
        };
        Ok(owned(PyBool::new(py, upgraded).to_owned()))
    })
}

/// The one argument of an upgrade, by position or by name.
///
/// # Safety
/// The arguments are as an interpreter passes them.
unsafe fn timeout_argument(
    py: Python<'_>,
    verb: &str,
    arguments: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> PyResult<Timeout> {
    // SAFETY: null, or a tuple of strings.
    let named = unsafe { Borrowed::from_ptr_or_opt(py, keywords) }.map_or(Ok(0), |names| names.len())?;
    match (positional, named) {
        (0, 0) => Ok(Timeout::Never),
        (1, 0) => {
            // SAFETY: there is one argument.
            let timeout = unsafe { Borrowed::from_ptr(py, *arguments) };
            Timeout::of(&timeout)
        }
        (0, 1) => {
            // SAFETY: there is one argument, and its name is not null.
            let (timeout, names) = unsafe { (Borrowed::from_ptr(py, *arguments), Borrowed::from_ptr(py, keywords)) };
            let name = names.get_item(0)?;
            if !name.eq("timeout")? {
                let problem = format!("{verb}() got an unexpected keyword argument {}", name.repr()?);
                return Err(PyTypeError::new_err(problem));
            }
            Timeout::of(&timeout)
        }
        _ => Err(PyTypeError::new_err(format!("{verb}() takes at most 1 argument, timeout"))),
    }
}

pub(crate) unsafe extern "C" fn upgrade(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: as the interpreter passed them.
        let timeout = unsafe { timeout_argument(py, "upgrade", arguments, positional, keywords)? };
        // SAFETY: called on a guard.
        let guard = unsafe { this(slf) };
        let upgraded = guard.upgrading(py, |hold| wait_for(py, hold.upgrade(timeout.as_duration())))?;
        upgraded.map_err(|error| guard.gone(py, &error))?;
        Ok(none())
    })
}

pub(crate) unsafe extern "C" fn aupgrade(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: as the interpreter passed them.
        let timeout = unsafe { timeout_argument(py, "aupgrade", arguments, positional, keywords)? };
        // SAFETY: called on a guard, to which a reference is kept.
        let pending = unsafe { upgrade::pending(py, Bound::from_borrowed_ptr(py, slf), timeout)? };
        Ok(owned(pending.into_coroutine(py)?))
    })
}

pub(crate) unsafe extern "C" fn renew(
    slf: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    given: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: as the interpreter passed them.
        let ttl = unsafe { only_argument(py, "renew", arguments, given)? };
        let ttl = argument::<Seconds>("a ttl", "a number of seconds", ttl)?.lease()?;
        // SAFETY: called on a guard.
        let guard = unsafe { this(slf) };
        let renewed = guard.look(py, |hold| hold.renew(ttl))?;
        renewed.map_err(|error| guard.gone(py, &error))?;
        Ok(none())
    })
}

/// The one argument of a method.
///
/// # Safety
/// The arguments are as an interpreter passes them.
unsafe fn only_argument<'a, 'py>(
    py: Python<'py>,
    verb: &str,
    arguments: *mut *mut ffi::PyObject,
    given: ffi::Py_ssize_t,
) -> PyResult<Borrowed<'a, 'py, PyAny>> {
    if given != 1 {
        return Err(PyTypeError::new_err(format!("{verb}() takes exactly one argument ({given} given)")));
    }
    // SAFETY: there is one argument.
    Ok(unsafe { Borrowed::from_ptr(py, *arguments) })
}

static LOSSES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

pub(crate) unsafe extern "C" fn on_lost(
    slf: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    given: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: the arguments as the interpreter passed them.
        let callback = unsafe { only_argument(py, "on_lost", arguments, given)? };
        // SAFETY: the interpreter keeps the object whose method it calls.
        let guard = unsafe { Borrowed::from_ptr(py, slf) };
        module(py, &LOSSES, "keylatch._losses")?.getattr("on_lost")?.call1((guard, callback))?;
        Ok(none())
    })
}

pub(crate) unsafe extern "C" fn lost(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: the interpreter calls a method of a guard with a guard.
        let guard = unsafe { this(slf) };
        let mut future: Pin<Box<dyn Future<Output = Lost> + Send>> =
            guard.look(py, |hold| Box::pin(hold.lost()) as Pin<Box<_>>)?;
        let pending = Pending::new(move |py, context| {
            let Poll::Ready(why) = future.as_mut().poll(context) else { return Poll::Pending };
            let why = class(py, "Lost").and_then(|class| class.call1((losses::word(why),)));
            Poll::Ready(why.map(Bound::unbind))
        });
        Ok(owned(pending.into_coroutine(py)?))
    })
}

pub(crate) unsafe extern "C" fn into_grant(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let hold = unsafe { this(slf) }.take_held(py)?;
        Ok(owned(hold.into_grant().to_raw().into_pyobject(py)?))
    })
}

pub(crate) unsafe extern "C" fn remaining(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let guard = unsafe { this(slf) };
        if guard.is_released() || guard.is_forked() {
            return Ok(owned(0.0.into_pyobject(py)?));
        }
        Ok(match guard.look(py, |hold| hold.remaining())? {
            Some(left) => owned(left.as_secs_f64().into_pyobject(py)?),
            None => none(),
        })
    })
}

pub(crate) unsafe extern "C" fn is_valid(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let guard = unsafe { this(slf) };
        let valid = !guard.is_released() && !guard.is_forked() && guard.look(py, |hold| hold.is_valid())?;
        Ok(owned(PyBool::new(py, valid).to_owned()))
    })
}

pub(crate) unsafe extern "C" fn refuse(_: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|_| Err(PyTypeError::new_err("a keylatch.Guard is a held lock, and cannot be pickled or copied")))
}

pub(crate) unsafe extern "C" fn key(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: called on a guard.
    new_ref(unsafe { this(slf) }.key())
}

pub(crate) unsafe extern "C" fn owner(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: called on a guard.
    let owner = unsafe { this(slf) }.owner();
    if owner.is_null() { none() } else { new_ref(owner) }
}

pub(crate) unsafe extern "C" fn mode(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let mode = unsafe { this(slf) }.look(py, |hold| hold.mode())?;
        Ok(owned(mode_to_python(py, mode)?))
    })
}

pub(crate) unsafe extern "C" fn fence(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let fence = unsafe { this(slf) }.look(py, |hold| hold.fence())?;
        Ok(owned(fence.into_pyobject(py)?))
    })
}

pub(crate) unsafe extern "C" fn grant(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let number = unsafe { this(slf) }.look(py, |hold| hold.grant_number())?;
        Ok(owned(number.into_pyobject(py)?))
    })
}

pub(crate) unsafe extern "C" fn previous_holder_died(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let died = unsafe { this(slf) }.look(py, |hold| hold.previous_holder_died())?;
        Ok(owned(PyBool::new(py, died).to_owned()))
    })
}

pub(crate) unsafe extern "C" fn released(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: called on a guard.
    answer(|py| Ok(owned(PyBool::new(py, unsafe { this(slf) }.is_released()).to_owned())))
}

pub(crate) unsafe extern "C" fn representation(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard, which has a key.
        let (guard, key) = unsafe { (this(slf), Borrowed::from_ptr(py, this(slf).key())) };
        let state = match guard.look(py, |hold| (hold.mode(), hold.is_valid())) {
            Ok((_, false)) => "not valid any more",
            Ok((Mode::Exclusive, true)) => "exclusive",
            Ok((Mode::Shared, true)) => "shared",
            Err(_) if guard.is_released() => "released",
            Err(_) if guard.is_forked() => "held by a parent process",
            Err(_) => "upgrading",
        };
        Ok(owned(PyString::new(py, &format!("<keylatch.Guard {} {state}>", key.repr()?))))
    })
}
