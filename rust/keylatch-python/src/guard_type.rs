//! The type of guards: the tables that name what a guard has to the interpreter.

use crate::guard::{self, GUARD_TYPE, GuardObject};
use crate::guard_methods;
use crate::raw::{self, Table, attribute};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyModule;
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

static DOC: &CStr = c"A held lock: what `LockManager.lock` returns.

It is released at the end of a `with` block, or by `release`, from whatever thread.
A guard that is forgotten while it is held is released with a `ResourceWarning`.

>>> from keylatch import LockManager
>>> locks = LockManager()
>>> with locks.lock((\"photos\", \"cat.jpg\")) as guard:
...     guard.downgrade()  # others may read now, and no other writer came in between
...     guard.mode
<Mode.SHARED: 'shared'>
>>> guard.released
True
";

static METHODS: Table<ffi::PyMethodDef, 15> = Table::new([
    raw::method_without_arguments(c"__enter__", guard::enter, c"__enter__($self, /)\n--\n\nReturn the guard itself. Raises RuntimeError the second time."),
    raw::method_with_arguments(
        c"__exit__",
        guard::exit,
        c"__exit__($self, /, *exc_info)\n--\n\nRelease the lock, unless that was done before.",
    ),
    raw::method_without_arguments(
        c"__aenter__",
        guard::enter_async,
        c"__aenter__($self, /)\n--\n\nRefused, and the lock is released: `async with` takes alock().",
    ),
    raw::method_with_arguments(c"__aexit__", guard::exit, c"__aexit__($self, /, *exc_info)\n--\n\nNever called: see __aenter__."),
    raw::method_without_arguments(
        c"release",
        guard::release,
        c"release($self, /)\n--\n\nRelease the lock. Never waits.\n\n\
        Raises LeaseLost if its lease ran out and another caller took the lock; NotHeld if it was released before, or taken\n\
        away by force; Forked. The end of a `with` block does the same, unless the block raised something itself or\n\
        released the lock. In a forked child it does nothing: the lock is the parent's.",
    ),
    raw::method_without_arguments(
        c"downgrade",
        guard_methods::downgrade,
        c"downgrade($self, /)\n--\n\nShare the lock from now on.\n\n\
        There is no moment in between in which another holder could have it exclusively. Never waits. \
        Does nothing where a session holds the lock several times, until but one of them is left.\n\n\
        Raises LeaseLost if its lease ran out and another caller took the lock; NotHeld if it was released, or taken away by force.",
    ),
    raw::method_without_arguments(
        c"try_upgrade",
        guard_methods::try_upgrade,
        c"try_upgrade($self, /)\n--\n\nHold the lock alone from now on, if there is no other holder.\n\n\
        Goes ahead of all who wait. Returns whether it worked; if not, the lock is still shared.\n\n\
        Raises LeaseLost if its lease ran out and another caller took the lock; NotHeld if it was released, or taken away by force.",
    ),
    raw::method_with_keywords(
        c"upgrade",
        guard_methods::upgrade,
        c"upgrade($self, /, timeout=None)\n--\n\nHold the lock alone as soon as the other readers are gone.\n\n\
        Goes ahead of all who wait. timeout is in seconds; None is for as long as it takes.\n\n\
        Raises UpgradeConflict without waiting if another reader waits for the same, because neither could go first;\n\
        LockTimeout, Closed. The lock is still shared then. LeaseLost, NotHeld: it is not held any more.",
    ),
    raw::method_with_keywords(
        c"aupgrade",
        guard_methods::aupgrade,
        c"aupgrade($self, /, timeout=None)\n--\n\nThe same as upgrade() for asyncio: await it. Cancelled, the lock is still shared.",
    ),
    raw::method_with_arguments(
        c"renew",
        guard_methods::renew,
        c"renew($self, ttl, /)\n--\n\nBegin the lease anew, from now, for ttl seconds; or begin one.\n\n\
        Raises LeaseLost if it ran out and another caller took the lock; NotHeld if it was released, or taken away by force.",
    ),
    raw::method_with_arguments(
        c"on_lost",
        guard_methods::on_lost,
        c"on_lost($self, callback, /)\n--\n\nHave callback(why) called once if the lock is taken away; why is a Lost.\n\n\
        Immediately if it has been. It is called in a thread that all such callbacks share, and never after the lock was\n\
        released.",
    ),
    raw::method_without_arguments(
        c"lost",
        guard_methods::lost,
        c"lost($self, /)\n--\n\nFor asyncio: await it to get the reason when the lock is taken away.\n\n\
        Until then, and when the lock is released, it goes on waiting: race it against the work that the lock is for.",
    ),
    raw::method_without_arguments(
        c"into_grant",
        guard_methods::into_grant,
        c"into_grant($self, /)\n--\n\nTurn the guard into a number, which is enough for LockManager.release().\n\n\
        The guard is as if it were released. The lock is held until the number is.",
    ),
    raw::method_without_arguments(c"__reduce__", guard_methods::refuse, c"__reduce__($self, /)\n--\n\nRefused: a lock is held once, in one process."),
    ffi::PyMethodDef::zeroed(),
]);

static ATTRIBUTES: Table<ffi::PyGetSetDef, 10> = Table::new([
    attribute(c"key", guard_methods::key, c"What is locked, as it was given."),
    attribute(c"owner", guard_methods::owner, c"Whose lock it is, or None."),
    attribute(c"mode", guard_methods::mode, c"How the lock is held: Mode.EXCLUSIVE or Mode.SHARED.\n\n\
        Once it was taken away, how it was held until then: that is what is_valid tells. Raises NotHeld once it is released."),
    attribute(
        c"fence",
        guard_methods::fence,
        c"A number greater than that of every exclusive hold of this key before.\n\n\
        A store that gets the number with each write can refuse a writer whose number is lower than one it has seen.\n\
        For a shared hold, the number of the latest exclusive one. Raises NotHeld once it is released.",
    ),
    attribute(
        c"grant",
        guard_methods::grant,
        c"The number of the hold, as in listings and logs. The guard keeps the lock: see into_grant.\n\n\
        Raises NotHeld once it is released.",
    ),
    attribute(
        c"remaining",
        guard_methods::remaining,
        c"For how many seconds the lock is safe from now on; None if it has no lease.\n\n\
        0.0 once the lease has run out, or the lock was released or taken away, and in a forked child.",
    ),
    attribute(
        c"is_valid",
        guard_methods::is_valid,
        c"Whether the lock is held and, if it is a lease, safe at this moment. It never is in a forked child.\n\n\
        Work that is done after this was asked may be too late all the same: that is what fence is for.",
    ),
    attribute(
        c"previous_holder_died",
        guard_methods::previous_holder_died,
        c"Whether another process died while it had the key exclusively: what the key protects may be half written.\n\n\
        Only the first holder after the death is informed, and only where managers share keys between processes. Raises\n\
        NotHeld once it is released.",
    ),
    attribute(c"released", guard_methods::released, c"Whether the lock was released."),
    ffi::PyGetSetDef { name: std::ptr::null(), get: None, set: None, doc: std::ptr::null(), closure: std::ptr::null_mut() },
]);

/// Where the interpreter finds the weak references.
static MEMBERS: Table<ffi::PyMemberDef, 2> = Table::new([
    ffi::PyMemberDef {
        name: c"__weaklistoffset__".as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: guard::WEAK as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: std::ptr::null(),
    },
    ffi::PyMemberDef { name: std::ptr::null(), type_code: 0, offset: 0, flags: 0, doc: std::ptr::null() },
]);

/// Makes the type and adds it to the module.
pub(crate) fn add_type(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let known = GUARD_TYPE.load(Ordering::Relaxed);
    // SAFETY: null, or a type that is kept for good.
    if let Some(known) = unsafe { Borrowed::from_ptr_or_opt(module.py(), known.cast()) } {
        // The module was imported before, and forgotten.
        return module.add("Guard", known);
    }
    let mut slots = [
        raw::slot(ffi::Py_tp_dealloc, guard::deallocate as *mut _),
        raw::slot(ffi::Py_tp_methods, METHODS.as_pointer()),
        raw::slot(ffi::Py_tp_members, MEMBERS.as_pointer()),
        raw::slot(ffi::Py_tp_getset, ATTRIBUTES.as_pointer()),
        raw::slot(ffi::Py_tp_repr, guard_methods::representation as *mut _),
        raw::slot(ffi::Py_tp_doc, DOC.as_ptr().cast_mut().cast()),
        raw::slot(0, null_mut()),
    ];
    // SAFETY: the layout begins with the head, and the functions are for such objects.
    let kind = unsafe { raw::make_type::<GuardObject>(module.py(), c"keylatch.Guard", &mut slots)? };
    module.add("Guard", &kind)?;
    // One reference is kept for good, by this.
    GUARD_TYPE.store(kind.into_ptr().cast(), Ordering::Relaxed);
    Ok(())
}
