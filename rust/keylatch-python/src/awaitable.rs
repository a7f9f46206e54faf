//! What `alock` returns: to be awaited, or used in `async with`.
//!
//! It is an awaitable of its own and not a function's coroutine, so that a free lock is taken without a frame, a task
//! switch or an exception. What has to wait goes through a coroutine of `keylatch._asyncio`. It has the methods of a
//! coroutine, too, because asyncio makes tasks of nothing else.

use crate::guard::{self, GuardObject};
use crate::key::AskedKey;
use crate::long_acquire::LongAcquire;
use crate::manager::LockManager;
use crate::pending::{Pending, asyncio, keep};
use crate::raw::{self, Table, answer, new_ref, none, owned};
use crate::request::{ALOCK, Asked};
use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString, PyTuple, PyType};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// An `Acquire` as the interpreter sees it. Only the event loop's thread uses it.
///
/// In an interpreter that runs threads in parallel, each pointer changes hands by an atomic swap.
#[repr(C)]
struct AcquireObject {
    head: ffi::PyObject,
    manager: *mut ffi::PyObject,
    /// The first positional argument, if it is the only argument; then it is the key.
    key: *mut ffi::PyObject,
    /// All arguments, with the names of those that have one, unless the key is alone.
    arguments: *mut ffi::PyObject,
    names: *mut ffi::PyObject,
    /// The guard: from when the lock was taken, for `async with` to release.
    guard: AtomicPtr<ffi::PyObject>,
    /// The coroutine that waits, if a task drives this object itself.
    waiting: AtomicPtr<ffi::PyObject>,
    /// Whether it was awaited, or entered.
    used: AtomicBool,
    /// Whether the guard stays here for `__aexit__`.
    entered: AtomicBool,
}

static ACQUIRE_TYPE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(null_mut());
static DONE: AtomicPtr<ffi::PyObject> = AtomicPtr::new(null_mut());

static ACQUIRE_METHODS: Table<ffi::PyMethodDef, 10> = Table::new([
    raw::method_without_arguments(
        c"__aenter__",
        enter,
        c"__aenter__($self, /)\n--\n\nTake the lock; awaiting it gives the guard.",
    ),
    raw::method_with_arguments(
        c"__aexit__",
        exit,
        c"__aexit__($self, /, *exc_info)\n--\n\nRelease the lock, unless that was done before.",
    ),
    raw::method_without_arguments(c"__enter__", enter_blocking, c"__enter__($self, /)\n--\n\nRefused: see `async with`."),
    raw::method_with_arguments(c"__exit__", exit, c"__exit__($self, /, *exc_info)\n--\n\nNever called: see __enter__."),
    raw::method_with_arguments(c"_entered", entered, c"_entered($self, guard, /)\n--\n\nKeep the guard for __aexit__."),
    raw::method_with_arguments(
        c"send",
        send_method,
        c"send($self, value, /)\n--\n\nFor event loops: go on, as a coroutine does.",
    ),
    raw::method_with_arguments(
        c"throw",
        throw,
        c"throw($self, error, /, *deprecated)\n--\n\nFor event loops: raise an exception where this waits, as in a coroutine.",
    ),
    raw::method_without_arguments(c"close", close, c"close($self, /)\n--\n\nWait no more, as a coroutine that is closed."),
    raw::method_without_arguments(c"__reduce__", refuse, c"__reduce__($self, /)\n--\n\nRefused."),
    ffi::PyMethodDef::zeroed(),
]);

/// Makes the types and adds the one that people see to the module.
pub(crate) fn add_types(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let known = ACQUIRE_TYPE.load(Ordering::Relaxed);
    // SAFETY: null, or a type that is kept for good.
    if let Some(known) = unsafe { Borrowed::from_ptr_or_opt(py, known.cast()) } {
        // The module was imported before, and forgotten.
        return module.add("Acquire", known);
    }
    let doc = c"A lock to be awaited, or used in `async with`: what `LockManager.alock` returns.";
    let mut slots = [
        raw::slot(ffi::Py_tp_dealloc, deallocate as *mut _),
        raw::slot(ffi::Py_tp_traverse, traverse as *mut _),
        raw::slot(ffi::Py_tp_clear, clear as *mut _),
        raw::slot(ffi::Py_tp_repr, representation as *mut _),
        raw::slot(ffi::Py_tp_methods, ACQUIRE_METHODS.as_pointer()),
        raw::slot(ffi::Py_am_await, begin as *mut _),
        raw::slot(ffi::Py_am_send, send as *mut _),
        raw::slot(ffi::Py_tp_iternext, next as *mut _),
        // `yield from`, by which asyncio makes a task of an awaitable, asks what `__await__` returned for its iterator.
        raw::slot(ffi::Py_tp_iter, done_begin as *mut _),
        raw::slot(ffi::Py_tp_doc, doc.as_ptr().cast_mut().cast()),
        raw::slot(0, null_mut()),
    ];
    let flags = ffi::Py_TPFLAGS_HAVE_GC;
    // SAFETY: the layout begins with the head, and the functions are for such objects.
    let kind = unsafe { raw::make_type_with::<AcquireObject>(py, c"keylatch.Acquire", flags, &mut slots)? };
    module.add("Acquire", &kind)?;
    ACQUIRE_TYPE.store(kind.into_ptr().cast(), Ordering::Relaxed);

    let mut slots = [
        raw::slot(ffi::Py_am_await, done_begin as *mut _),
        raw::slot(ffi::Py_am_send, done_send as *mut _),
        raw::slot(ffi::Py_tp_iternext, done_next as *mut _),
        raw::slot(0, null_mut()),
    ];
    // SAFETY: as above.
    let kind = unsafe { raw::make_type::<ffi::PyObject>(py, c"keylatch._keylatch.Done", &mut slots)? };
    // SAFETY: the type was just made.
    let done = unsafe { Bound::from_owned_ptr_or_err(py, raw::allocate(kind.into_ptr().cast()))? };
    DONE.store(done.into_ptr(), Ordering::Relaxed);
    Ok(())
}

/// `LockManager.alock`. Nothing is asked for before it is awaited.
pub(crate) unsafe extern "C" fn alock(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the type was made before any manager could be; the arguments are as the interpreter passed them. Its memory
    // is zero, which is good for each field that is not written.
    unsafe {
        let object = raw::allocate_untracked::<AcquireObject>(ACQUIRE_TYPE.load(Ordering::Relaxed));
        if object.is_null() {
            return object;
        }
        let acquire = object.cast::<AcquireObject>();
        (*acquire).manager = new_ref(slf);
        if positional == 1 && keywords.is_null() {
            (*acquire).key = new_ref(*arguments);
            return object;
        }
        match keep_arguments(acquire, arguments, positional, keywords) {
            Ok(()) => object,
            Err(error) => {
                // The caller gets the error and no object, so there is nothing to warn of.
                *(*acquire).used.get_mut() = true;
                ffi::Py_DECREF(object);
                answer(|_| Err(error))
            }
        }
    }
}

/// Keeps the arguments for later, after a look whether they are right.
unsafe fn keep_arguments(
    acquire: *mut AcquireObject,
    arguments: *const *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> PyResult<()> {
    // SAFETY: the arguments as the interpreter passed them, on a thread that is attached.
    unsafe {
        let py = Python::assume_attached();
        let asked = Asked::parse(py, &ALOCK, arguments, positional, keywords)?;
        AskedKey::of(&asked.key)?;
        let named = if keywords.is_null() { 0 } else { ffi::PyTuple_Size(keywords) };
        let all = (0..positional + named).map(|position| Borrowed::from_ptr(py, *arguments.offset(position)));
        (*acquire).key = new_ref(asked.key.as_ptr());
        (*acquire).arguments = PyTuple::new(py, all.collect::<Vec<_>>())?.into_ptr();
        (*acquire).names = new_ref(keywords);
    }
    Ok(())
}

/// The object that a method was called on.
///
/// # Safety
/// The interpreter has checked that it is one.
unsafe fn this<'a>(slf: *mut ffi::PyObject) -> &'a AcquireObject {
    // SAFETY: the caller says so.
    unsafe { &*slf.cast() }
}

/// What asking for the lock has come to.
enum Begun {
    /// The guard is kept in the object.
    Taken,
    Waiting(Pending),
}

/// Asks for the lock, once.
fn ask_once(py: Python<'_>, slf: *mut ffi::PyObject) -> PyResult<Begun> {
    // SAFETY: called on an acquire, whose pointers stay what they are.
    let this = unsafe { this(slf) };
    if this.used.swap(true, Ordering::Relaxed) {
        return Err(awaited_before());
    }
    // SAFETY: the arguments are kept as the interpreter passed them, and they are kept as long as `this`.
    let (manager, asked) = unsafe {
        let manager = LockManager::from_raw(this.manager);
        if this.arguments.is_null() {
            (manager, Asked::plainly(Borrowed::from_ptr(py, this.key)))
        } else {
            let all = Borrowed::from_ptr(py, this.arguments);
            let all: Vec<_> = all.cast::<PyTuple>()?.iter().map(|argument| argument.as_ptr()).collect();
            let named = if this.names.is_null() { 0 } else { ffi::PyTuple_Size(this.names) };
            (manager, Asked::parse(py, &ALOCK, all.as_ptr(), all.len() as isize - named, this.names)?)
        }
    };
    let key = AskedKey::of(&asked.key)?;
    let name = asked.owner.name(py);
    let owner = name.as_ref().map_or(null_mut(), |name| name.as_ptr());
    let request = asked.request(&key, manager.id());
    let answered = if asked.wait { manager.ask(request) } else { Ok(manager.locks().lock(request).try_now()) };
    match answered {
        Ok(held) => {
            let guard = guard::from_answer(py, held, this.manager, this.key, owner);
            let guard = guard::renewed(py, guard, asked.renewed())?;
            this.guard.store(guard, Ordering::Release);
            Ok(Begun::Taken)
        }
        Err(future) => {
            let session = asked.owner.keep();
            // SAFETY: the future borrows from the manager and from the objects that are kept here with it.
            let long = unsafe {
                LongAcquire {
                    future: std::mem::transmute::<keylatch::Acquire<'_, '_>, keylatch::Acquire<'static, 'static>>(
                        future,
                    ),
                    manager: keep(py, this.manager),
                    key: keep(py, this.key),
                    owner: name.map(|name| name.into_any().unbind()),
                    renewed: asked.renewed(),
                    _kept: (key.keep(), session),
                }
            };
            Ok(Begun::Waiting(long.into_pending()))
        }
    }
}

/// `__aenter__`: the object itself when the lock is taken, else the coroutine.
unsafe extern "C" fn enter(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| match ask_once(py, slf)? {
        Begun::Taken => {
            // SAFETY: called on an acquire, which has taken the lock.
            unsafe {
                this(slf).entered.store(true, Ordering::Relaxed);
                GuardObject::from_raw(this(slf).guard.load(Ordering::Acquire)).enter();
            }
            Ok(new_ref(slf))
        }
        Begun::Waiting(pending) => {
            // SAFETY: an object that the caller refers to.
            let this = unsafe { Borrowed::from_ptr(py, slf) };
            Ok(asyncio(py)?.getattr("enter")?.call1((Bound::new(py, pending)?, this))?.into_ptr())
        }
    })
}

/// Refuses `with`. Nothing was asked for yet, and nothing will be.
unsafe extern "C" fn enter_blocking(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called on an acquire.
    unsafe { this(slf) }.used.store(true, Ordering::Relaxed);
    answer(|_| {
        Err(PyTypeError::new_err("alock() is awaited: write `async with locks.alock(...)`, or `with locks.lock(...)`"))
    })
}

/// `__await__`, which is called for what `__aenter__` returns too.
unsafe extern "C" fn begin(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called on an acquire.
    if !unsafe { this(slf) }.guard.load(Ordering::Acquire).is_null() {
        return new_ref(slf);
    }
    answer(|py| match ask_once(py, slf)? {
        Begun::Taken => Ok(new_ref(slf)),
        Begun::Waiting(pending) => Ok(pending.into_coroutine(py)?.call_method0("__await__")?.into_ptr()),
    })
}

/// What the wait has come to, for `async with`.
unsafe extern "C" fn entered(
    slf: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    positional: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: as the interpreter passed them.
        let given = (positional == 1).then(|| unsafe { Bound::from_borrowed_ptr(py, *arguments) });
        let guard = given.as_ref().and_then(GuardObject::from_object);
        let (Some(given), Some(guard)) = (&given, guard) else {
            return Err(PyTypeError::new_err("_entered() takes the guard"));
        };
        guard.enter();
        // SAFETY: called on an acquire.
        let old = unsafe { this(slf) }.guard.swap(new_ref(given.as_ptr()), Ordering::AcqRel);
        // SAFETY: the reference that was kept, if one was.
        unsafe { ffi::Py_XDECREF(old) };
        Ok(none())
    })
}

/// Gives the guard to the awaiting task.
///
/// It is the object's own reference, unless `__aexit__` will need that.
fn result(this: &AcquireObject) -> *mut ffi::PyObject {
    if this.entered.load(Ordering::Relaxed) {
        return new_ref(this.guard.load(Ordering::Acquire));
    }
    let guard = this.guard.swap(null_mut(), Ordering::AcqRel);
    if guard.is_null() { none() } else { guard }
}

unsafe extern "C" fn send(
    slf: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    sent: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: called on an acquire, with a place for the result.
    unsafe {
        if this(slf).guard.load(Ordering::Acquire).is_null() {
            return send_slow(slf, value, sent);
        }
        *sent = result(this(slf));
    }
    ffi::PySendResult::PYGEN_RETURN
}

/// The step of a task that drives the object itself, without `__await__`.
///
/// Asks for the lock, or goes on waiting.
#[cold]
#[inline(never)]
unsafe extern "C" fn send_slow(
    slf: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    sent: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    let mut goes_on = false;
    let step = answer(|py| {
        // SAFETY: called on an acquire.
        let this = unsafe { this(slf) };
        if this.waiting.load(Ordering::Acquire).is_null() {
            match ask_once(py, slf)? {
                Begun::Taken => return Ok(result(this)),
                Begun::Waiting(pending) => {
                    this.waiting.store(pending.into_coroutine(py)?.into_ptr(), Ordering::Release);
                    // Only now can it be part of a circle. Telling the collector of each would cost as much as the lock.
                    // SAFETY: an object that it may know, once: a coroutine comes once.
                    unsafe { ffi::PyObject_GC_Track(slf.cast()) };
                }
            }
        }
        let waiting = this.waiting(py).ok_or_else(awaited_before)?;
        let mut step = null_mut();
        // SAFETY: a coroutine, what is to be sent to it, and a place for the result.
        let how = unsafe { ffi::PyIter_Send(waiting.as_ptr(), value, &raw mut step) };
        goes_on = matches!(how, ffi::PySendResult::PYGEN_NEXT);
        if !goes_on {
            this.forget_waiting();
        }
        if matches!(how, ffi::PySendResult::PYGEN_ERROR) { Err(PyErr::fetch(py)) } else { Ok(step) }
    });
    // SAFETY: there is a place for the result.
    unsafe { *sent = step };
    match (step.is_null(), goes_on) {
        (true, _) => ffi::PySendResult::PYGEN_ERROR,
        (_, true) => ffi::PySendResult::PYGEN_NEXT,
        (_, false) => ffi::PySendResult::PYGEN_RETURN,
    }
}

impl AcquireObject {
    fn waiting<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        // SAFETY: null, or a coroutine that the object refers to.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, self.waiting.load(Ordering::Acquire)) }
    }

    fn forget_waiting(&self) {
        let waiting = self.waiting.swap(null_mut(), Ordering::AcqRel);
        // SAFETY: null, or the object's own reference; the thread is attached.
        unsafe { ffi::Py_XDECREF(waiting) };
    }
}

#[cold]
fn awaited_before() -> PyErr {
    PyRuntimeError::new_err("this was awaited before; call alock() again for another lock")
}

/// `send`, and `__next__`: a result is the value of a `StopIteration`.
unsafe fn step(slf: *mut ffi::PyObject, value: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let mut sent = null_mut();
    // SAFETY: called on an acquire; the exception takes a reference of its own.
    unsafe {
        if !matches!(send(slf, value, &raw mut sent), ffi::PySendResult::PYGEN_RETURN) {
            return sent;
        }
        ffi::PyErr_SetObject(ffi::PyExc_StopIteration, sent);
        ffi::Py_DECREF(sent);
    }
    null_mut()
}

/// For interpreters that do not call `send`.
unsafe extern "C" fn next(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called on an acquire, and `None` is always there.
    unsafe { step(slf, ffi::Py_None()) }
}

unsafe extern "C" fn send_method(
    slf: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    given: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    if given != 1 {
        return answer(|_| Err(PyTypeError::new_err(format!("send() takes exactly one argument ({given} given)"))));
    }
    // SAFETY: called on an acquire, with one argument.
    unsafe { step(slf, *arguments) }
}

/// Raises an exception where the lock is waited for, which ends the wait.
unsafe extern "C" fn throw(
    slf: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    given: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: as the interpreter passed them, to a method of an acquire.
        let (this, given) = unsafe {
            (this(slf), (0..given).map(|at| Bound::from_borrowed_ptr(py, *arguments.offset(at))).collect::<Vec<_>>())
        };
        let Some(first) = given.first() else { return Err(PyTypeError::new_err("throw() takes an exception")) };
        this.used.store(true, Ordering::Relaxed);
        let Some(waiting) = this.waiting(py) else {
            let error = if first.is_instance_of::<PyType>() {
                first.call1(PyTuple::new(py, given.get(1))?)?
            } else {
                first.clone()
            };
            return Err(PyErr::from_value(error));
        };
        let thrown = waiting.call_method1("throw", PyTuple::new(py, given)?);
        if thrown.is_err() {
            this.forget_waiting();
        }
        thrown.map(owned)
    })
}

unsafe extern "C" fn close(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on an acquire.
        let this = unsafe { this(slf) };
        this.used.store(true, Ordering::Relaxed);
        if let Some(waiting) = this.waiting(py) {
            this.forget_waiting();
            let _: Bound<'_, PyAny> = waiting.call_method0("close")?;
        }
        Ok(none())
    })
}

unsafe extern "C" fn representation(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: called on an acquire, which has a key.
        let key = unsafe { Borrowed::from_ptr(py, this(slf).key) };
        Ok(owned(PyString::new(py, &format!("<keylatch.Acquire {}>", key.repr()?))))
    })
}

/// `__aexit__`: nothing to wait for.
unsafe extern "C" fn exit(
    slf: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    given: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called on an acquire; its reference to the guard is taken once.
    unsafe {
        let guard = this(slf).guard.swap(null_mut(), Ordering::AcqRel);
        if !guard.is_null() {
            let let_go = GuardObject::from_raw(guard).let_go();
            if !let_go.is_well() && !guard::block_raised(arguments, given) {
                return answer(|py| {
                    let ended = let_go.into_result(py, GuardObject::from_raw(guard));
                    ffi::Py_DECREF(guard);
                    ended.map(|()| new_ref(DONE.load(Ordering::Relaxed)))
                });
            }
            ffi::Py_DECREF(guard);
        }
    }
    new_ref(DONE.load(Ordering::Relaxed))
}

unsafe extern "C" fn done_begin(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    new_ref(slf)
}

unsafe extern "C" fn done_send(
    _: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
    sent: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: there is a place for the result.
    unsafe { *sent = none() };
    ffi::PySendResult::PYGEN_RETURN
}

/// Without an exception this is the end, with `None`.
unsafe extern "C" fn done_next(_: *mut ffi::PyObject) -> *mut ffi::PyObject {
    null_mut()
}

unsafe extern "C" fn refuse(_: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|_| Err(PyTypeError::new_err("what alock() returns cannot be pickled or copied")))
}

/// Visits what the object refers to.
///
/// A task refers to what it drives, that to the coroutine that waits, and that to what wakes the task.
unsafe extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    argument: *mut std::ffi::c_void,
) -> std::ffi::c_int {
    // SAFETY: called on an acquire, whose references stay while nothing but the collector runs.
    unsafe {
        let this = this(object);
        let guard = this.guard.load(Ordering::Acquire);
        let waiting = this.waiting.load(Ordering::Acquire);
        let kind = ffi::Py_TYPE(object).cast();
        for referred in [kind, this.manager, this.key, this.arguments, this.names, guard, waiting] {
            if !referred.is_null() {
                let result = visit(referred, argument);
                if result != 0 {
                    return result;
                }
            }
        }
    }
    0
}

/// Drops the references that could be part of a circle.
///
/// The others stay: a method may still be called, and circles through those are broken elsewhere.
unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> std::ffi::c_int {
    // SAFETY: called on an acquire.
    unsafe { this(object) }.forget_waiting();
    0
}

/// Warns, as of a coroutine, of a lock that was never awaited, so never locked.
///
/// # Safety
/// The key is one, or NULL after the collector has cleared the object; the caller is attached to the interpreter.
#[cold]
unsafe fn warn_unawaited(key: *mut ffi::PyObject) {
    // SAFETY: by the contract. A deallocation may run while an exception is on its way, which is put back.
    unsafe {
        let py = Python::assume_attached();
        let on_its_way = PyErr::take(py);
        let key = Borrowed::from_ptr_or_opt(py, key).and_then(|key| key.repr().ok());
        let key = key.map_or_else(|| "...".to_owned(), |key| key.to_string());
        let text = format!("alock({key}) was never awaited, so nothing was locked").replace('\0', "");
        let text = std::ffi::CString::new(text).unwrap_or_default();
        if let Err(error) = PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &text, 1) {
            error.write_unraisable(py, None);
        }
        if let Some(error) = on_its_way {
            error.restore(py);
        }
    }
}

unsafe extern "C" fn deallocate(object: *mut ffi::PyObject) {
    // SAFETY: the last reference is gone, so that nothing else uses the object; what it holds is given back once.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let acquire = object.cast::<AcquireObject>();
        if !*(*acquire).used.get_mut() {
            warn_unawaited((*acquire).key);
        }
        ffi::Py_XDECREF(*(*acquire).waiting.get_mut());
        ffi::Py_XDECREF(*(*acquire).guard.get_mut());
        ffi::Py_XDECREF((*acquire).names);
        ffi::Py_XDECREF((*acquire).arguments);
        ffi::Py_XDECREF((*acquire).key);
        ffi::Py_XDECREF((*acquire).manager);
        raw::deallocate_collected(object);
    }
}
