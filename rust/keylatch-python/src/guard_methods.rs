//! What a guard can do besides being taken and released, and the tables that name it all to the interpreter.

use crate::classes::{class, mode_to_python, module};
use crate::guard::{self, GuardObject};
use crate::losses;
use crate::numbers::{Seconds, argument};
use crate::pending::Pending;
use crate::raw::{self, answer, attribute, new_ref, none, owned};
use crate::request::Timeout;
use crate::wait::wait_for;
use keylatch::{Lost, Mode};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyModule, PyString};
use std::ffi::{CStr, c_void};
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

/// A table that the interpreter reads and that never changes.
pub(crate) struct Table<T, const N: usize>([T; N]);

// SAFETY: the entries point to static strings and functions only.
unsafe impl<T, const N: usize> Sync for Table<T, N> {}

impl<T, const N: usize> Table<T, N> {
    pub(crate) const fn new(entries: [T; N]) -> Self {
        Self(entries)
    }

    pub(crate) fn as_pointer(&'static self) -> *mut c_void {
        self.0.as_ptr().cast_mut().cast()
    }
}

pub(crate) static DOC: &CStr = c"A held lock: what `LockManager.lock` returns.

It is released at the end of a `with` block, or by `release`, from whatever thread.
A guard that is forgotten while it is held is released with a `ResourceWarning`.

>>> from keylatch import LockManager
>>> locks = LockManager()
>>> with locks.lock((\"photos\", \"cat.jpg\")) as guard:
...     guard.downgrade()  # others may read now, and nobody wrote in between
...     guard.mode
<Mode.SHARED: 'shared'>
>>> guard.released
True
";

pub(crate) static METHODS: Table<ffi::PyMethodDef, 13> = Table::new([
    raw::method_without_arguments(c"__enter__", guard::enter, c"__enter__($self, /)\n--\n\nReturn the guard itself. Raises RuntimeError the second time."),
    raw::method_with_arguments(
        c"__exit__",
        guard::exit,
        c"__exit__($self, /, *exc_info)\n--\n\nRelease the lock, unless that was done before.",
    ),
    raw::method_without_arguments(
        c"release",
        guard::release,
        c"release($self, /)\n--\n\nRelease the lock. Never waits.\n\n\
        Raises LeaseLost if its lease ran out and somebody took the lock; NotHeld if it was released before, or taken\n\
        away by force; Forked. The end of a `with` block does the same, unless the block raised something itself or\n\
        released the lock. In a forked child it does nothing: the lock is the parent's.",
    ),
    raw::method_without_arguments(
        c"downgrade",
        downgrade,
        c"downgrade($self, /)\n--\n\nShare the lock from now on.\n\n\
        There is no moment in between in which somebody else could have it exclusively. Never waits. \
        Does nothing where a session holds the lock several times, until but one of them is left.\n\n\
        Raises LeaseLost if its lease ran out and somebody took the lock; NotHeld if it was released, or taken away by force.",
    ),
    raw::method_without_arguments(
        c"try_upgrade",
        try_upgrade,
        c"try_upgrade($self, /)\n--\n\nHold the lock alone from now on, if nobody else holds it.\n\n\
        Goes ahead of all who wait. Returns whether it worked; if not, the lock is still shared.\n\n\
        Raises LeaseLost if its lease ran out and somebody took the lock; NotHeld if it was released, or taken away by force.",
    ),
    raw::method_with_keywords(
        c"upgrade",
        upgrade,
        c"upgrade($self, /, timeout=None)\n--\n\nHold the lock alone as soon as the other readers are gone.\n\n\
        Goes ahead of all who wait. timeout is in seconds; None is for as long as it takes.\n\n\
        Raises UpgradeConflict at once if another reader waits for the same, because neither could go first;\n\
        LockTimeout, Closed. The lock is still shared then. LeaseLost, NotHeld: it is not held any more.",
    ),
    raw::method_with_keywords(
        c"aupgrade",
        aupgrade,
        c"aupgrade($self, /, timeout=None)\n--\n\nThe same as upgrade() for asyncio: await it. Cancelled, the lock is still shared.",
    ),
    raw::method_with_arguments(
        c"renew",
        renew,
        c"renew($self, ttl, /)\n--\n\nBegin the lease anew, from now, for so many seconds; or begin one.\n\n\
        Raises LeaseLost if it ran out and somebody took the lock; NotHeld if it was released, or taken away by force.",
    ),
    raw::method_with_arguments(
        c"on_lost",
        on_lost,
        c"on_lost($self, callback, /)\n--\n\nHave callback(why) called once if the lock is taken away; why is a Lost.\n\n\
        At once if it has been. It is called in a thread that all such callbacks share, and never after the lock was\n\
        released.",
    ),
    raw::method_without_arguments(
        c"lost",
        lost,
        c"lost($self, /)\n--\n\nFor asyncio: await it, to be told why the lock was taken away, when it is.\n\n\
        Until then, and when the lock is released, it goes on waiting: race it against the work that the lock is for.",
    ),
    raw::method_without_arguments(
        c"into_grant",
        into_grant,
        c"into_grant($self, /)\n--\n\nTurn the guard into a number, which is enough for LockManager.release().\n\n\
        The guard is as if it were released. The lock is held until the number is.",
    ),
    raw::method_without_arguments(c"__reduce__", refuse, c"__reduce__($self, /)\n--\n\nRefused: a lock is held once, in one process."),
    ffi::PyMethodDef::zeroed(),
]);

pub(crate) static ATTRIBUTES: Table<ffi::PyGetSetDef, 10> = Table::new([
    attribute(c"key", key, c"What is locked, as it was given."),
    attribute(c"owner", owner, c"Whose lock it is, or None."),
    attribute(c"mode", mode, c"How the lock is held: Mode.EXCLUSIVE or Mode.SHARED.\n\n\
        Once it was taken away, how it was held until then: that is what is_valid tells. Raises NotHeld once it is released."),
    attribute(
        c"fence",
        fence,
        c"A number greater than that of every exclusive hold of this key before.\n\n\
        A store that is told the number with each write can refuse a writer whose number is lower than one it has seen.\n\
        For a shared hold, the number of the latest exclusive one. Raises NotHeld once it is released.",
    ),
    attribute(
        c"grant",
        grant,
        c"The number of the hold, as in listings and logs. The guard keeps the lock: see into_grant.\n\n\
        Raises NotHeld once it is released.",
    ),
    attribute(
        c"remaining",
        remaining,
        c"For how many seconds the lock is safe from now on; None if it has no lease.\n\n\
        0.0 once the lease has run out, or the lock was released or taken away, and in a forked child.",
    ),
    attribute(
        c"is_valid",
        is_valid,
        c"Whether the lock is held and, if it is a lease, safe at this moment. It never is in a forked child.\n\n\
        Work that is done after this was asked may be too late all the same: that is what fence is for.",
    ),
    attribute(
        c"previous_holder_died",
        previous_holder_died,
        c"Whether another process died while it had the key exclusively: what the key protects may be half written.\n\n\
        Only the first holder after the death is informed, and only where managers share keys between processes. Raises\n\
        NotHeld once it is released.",
    ),
    attribute(c"released", released, c"Whether the lock was released."),
    ffi::PyGetSetDef { name: std::ptr::null(), get: None, set: None, doc: std::ptr::null(), closure: std::ptr::null_mut() },
]);

/// The guard that a method or attribute belongs to.
///
/// # Safety
/// `slf` is what the interpreter passed to such a function.
unsafe fn this<'a>(slf: *mut ffi::PyObject) -> &'a GuardObject {
    // SAFETY: the interpreter checks the type before it calls.
    unsafe { GuardObject::from_raw(slf) }
}

unsafe extern "C" fn downgrade(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let guard = unsafe { this(slf) };
        let downgraded = guard.look(py, |hold| hold.try_downgrade())?;
        downgraded.map_err(|error| guard.gone(py, &error))?;
        Ok(none())
    })
}

unsafe extern "C" fn try_upgrade(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
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

unsafe extern "C" fn upgrade(
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

unsafe extern "C" fn aupgrade(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: as the interpreter passed them.
        let timeout = unsafe { timeout_argument(py, "aupgrade", arguments, positional, keywords)? };
        // SAFETY: called on a guard, to which a reference is kept.
        let pending = unsafe { Pending::upgrade(py, Bound::from_borrowed_ptr(py, slf), timeout)? };
        Ok(owned(pending.into_coroutine(py)?))
    })
}

unsafe extern "C" fn renew(
    slf: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    given: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: as the interpreter passed them.
        let ttl = unsafe { only_argument(py, "renew", arguments, given)? };
        let ttl = argument::<Seconds>("a ttl", "a number of seconds", ttl)?.required("a ttl")?;
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

unsafe extern "C" fn on_lost(
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

unsafe extern "C" fn lost(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
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

unsafe extern "C" fn into_grant(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let hold = unsafe { this(slf) }.take_held(py)?;
        Ok(owned(hold.into_grant().to_raw().into_pyobject(py)?))
    })
}

unsafe extern "C" fn remaining(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
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

unsafe extern "C" fn is_valid(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let guard = unsafe { this(slf) };
        let valid = !guard.is_released() && !guard.is_forked() && guard.look(py, |hold| hold.is_valid())?;
        Ok(owned(PyBool::new(py, valid).to_owned()))
    })
}

unsafe extern "C" fn refuse(_: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|_| Err(PyTypeError::new_err("a keylatch.Guard is a held lock, and cannot be pickled or copied")))
}

unsafe extern "C" fn key(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: called on a guard.
    new_ref(unsafe { this(slf) }.key())
}

unsafe extern "C" fn owner(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: called on a guard.
    let owner = unsafe { this(slf) }.owner();
    if owner.is_null() { none() } else { new_ref(owner) }
}

unsafe extern "C" fn mode(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let mode = unsafe { this(slf) }.look(py, |hold| hold.mode())?;
        Ok(owned(mode_to_python(py, mode)?))
    })
}

unsafe extern "C" fn fence(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let fence = unsafe { this(slf) }.look(py, |hold| hold.fence())?;
        Ok(owned(fence.into_pyobject(py)?))
    })
}

unsafe extern "C" fn grant(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let number = unsafe { this(slf) }.look(py, |hold| hold.grant_number())?;
        Ok(owned(number.into_pyobject(py)?))
    })
}

unsafe extern "C" fn previous_holder_died(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let died = unsafe { this(slf) }.look(py, |hold| hold.previous_holder_died())?;
        Ok(owned(PyBool::new(py, died).to_owned()))
    })
}

unsafe extern "C" fn released(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
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
