//! What a guard can do besides being taken and released, and the tables that name it all to the interpreter.

use crate::errors::{OrRaise, mode_to_python};
use crate::guard::{self, GuardObject};
use crate::pending::Pending;
use crate::raw::{self, answer, attribute, new_ref, none, owned};
use crate::request::Timeout;
use crate::wait::wait_for;
use keylatch::Mode;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};
use std::ffi::{CStr, c_void};

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

pub(crate) static METHODS: Table<ffi::PyMethodDef, 9> = Table::new([
    raw::method_without_arguments(c"__enter__", guard::enter, c"__enter__($self, /)\n--\n\nReturn the guard itself."),
    raw::method_with_arguments(
        c"__exit__",
        guard::exit,
        c"__exit__($self, /, *exc_info)\n--\n\nRelease the lock, unless that was done before.",
    ),
    raw::method_without_arguments(
        c"release",
        guard::release,
        c"release($self, /)\n--\n\nRelease the lock. Never waits.\n\nRaises NotHeld if it was released before.",
    ),
    raw::method_without_arguments(
        c"downgrade",
        downgrade,
        c"downgrade($self, /)\n--\n\nShare the lock from now on.\n\n\
        There is no moment in between in which somebody else could have it exclusively. Never waits.\n\n\
        Raises NotHeld if it was released before.",
    ),
    raw::method_without_arguments(
        c"try_upgrade",
        try_upgrade,
        c"try_upgrade($self, /)\n--\n\nHold the lock alone from now on, if nobody else holds it.\n\n\
        Goes ahead of all who wait. Returns whether it worked; if not, the lock is still shared.\n\n\
        Raises NotHeld if it was released before.",
    ),
    raw::method_with_keywords(
        c"upgrade",
        upgrade,
        c"upgrade($self, /, timeout=None)\n--\n\nHold the lock alone as soon as the other readers are gone.\n\n\
        Goes ahead of all who wait. timeout is in seconds; None is for as long as it takes.\n\n\
        Raises UpgradeConflict at once if another reader waits for the same, because neither could go first;\n\
        LockTimeout, Closed, NotHeld. The lock is still shared then.",
    ),
    raw::method_with_keywords(
        c"aupgrade",
        aupgrade,
        c"aupgrade($self, /, timeout=None)\n--\n\nThe same as upgrade() for asyncio: await it. Cancelled, the lock is still shared.",
    ),
    raw::method_without_arguments(c"__reduce__", refuse, c"__reduce__($self, /)\n--\n\nRefused: a lock is held once, in one process."),
    ffi::PyMethodDef::zeroed(),
]);

pub(crate) static ATTRIBUTES: Table<ffi::PyGetSetDef, 6> = Table::new([
    attribute(c"key", key, c"What is locked, as it was given."),
    attribute(c"owner", owner, c"Whose lock it is, or None."),
    attribute(c"mode", mode, c"How the lock is held: Mode.EXCLUSIVE or Mode.SHARED. Raises NotHeld once it is released."),
    attribute(
        c"fence",
        fence,
        c"A number greater than that of every exclusive hold of this key before.\n\n\
        A store that is told the number with each write can refuse a writer whose number is lower than one it has seen.\n\
        For a shared hold, the number of the latest exclusive one. Raises NotHeld once it is released.",
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
        unsafe { this(slf) }.look(py, |hold| hold.downgrade())?;
        Ok(none())
    })
}

unsafe extern "C" fn try_upgrade(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard.
        let upgraded = match unsafe { this(slf) }.look(py, |hold| hold.try_upgrade())? {
            Ok(()) => true,
            Err(keylatch::LockError::WouldBlock { .. }) => false,
            Err(error) => return Err(crate::errors::to_exception(py, &error)),
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
        unsafe { this(slf) }.upgrading(py, |hold| wait_for(py, hold.upgrade(timeout.as_duration()))?.or_raise(py))?;
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

unsafe extern "C" fn released(slf: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: called on a guard.
    answer(|py| Ok(owned(PyBool::new(py, unsafe { this(slf) }.is_released()).to_owned())))
}

pub(crate) unsafe extern "C" fn representation(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on a guard, which has a key.
        let (guard, key) = unsafe { (this(slf), Borrowed::from_ptr(py, this(slf).key())) };
        let state = match guard.look(py, |hold| hold.mode()) {
            Ok(Mode::Exclusive) => "exclusive",
            Ok(Mode::Shared) => "shared",
            Err(_) if guard.is_released() => "released",
            Err(_) => "upgrading",
        };
        Ok(owned(PyString::new(py, &format!("<keylatch.Guard {} {state}>", key.repr()?))))
    })
}
