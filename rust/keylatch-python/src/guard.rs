//! The guard: the object that a held lock is in Python.
//!
//! One is made and unmade with every lock, so its type is written against the C interface (see `raw`). What happens less
//! often than taking and releasing is in `guard_methods`, and `guard_type` names it all to the interpreter.

use crate::classes::module;
use crate::errors::{OrRaise, to_exception};
use crate::fork::{Process, forked};
use crate::manager::LockManager;
use crate::raw::{self, RawResult, answer, new_ref, none};
use keylatch::{FastLockGuard, LockError};
use pyo3::exceptions::{PyResourceWarning, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use std::cell::UnsafeCell;
use std::ffi::CString;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};
use std::time::Duration;

/// Where in a guard the interpreter finds the weak references to it.
pub(crate) const WEAK: usize = std::mem::offset_of!(GuardObject, weak);

/// A guard as the interpreter sees it.
#[repr(C)]
pub(crate) struct GuardObject {
    head: ffi::PyObject,
    state: AtomicU8,
    /// Whether a block has begun that will release it.
    entered: AtomicBool,
    /// The hold.
    ///
    /// Belongs to the thread that moved `state` from `HELD` to something else, or is about to free the object.
    hold: UnsafeCell<Option<FastLockGuard<'static>>>,
    /// The manager, whose memory `hold` refers to.
    manager: *mut ffi::PyObject,
    /// The key as it was given.
    key: *mut ffi::PyObject,
    /// The owner's name, or null.
    owner: *mut ffi::PyObject,
    /// Weak references to the guard, which the interpreter keeps here.
    weak: *mut ffi::PyObject,
}

/// Nothing is held any more.
const RELEASED: u8 = 0;
const HELD: u8 = 1;
/// A thread looks at the hold, for a moment in which nothing can wait.
const LOOKED_AT: u8 = 2;
/// A thread waits with the hold, for an upgrade.
const UPGRADING: u8 = 3;

/// Set by `guard_type`, before any manager can be.
pub(crate) static GUARD_TYPE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(null_mut());

/// A new guard for a lock that was taken.
///
/// # Safety
/// The thread is attached; `manager` is a `LockManager` and `hold` one of its locks; `key` is an object, and `owner` one
/// or null.
#[inline(always)]
pub(crate) unsafe fn new(
    hold: FastLockGuard<'_>,
    manager: *mut ffi::PyObject,
    key: *mut ffi::PyObject,
    owner: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the type was made before any manager could be. The object keeps the manager alive, which `hold` refers to.
    // Without memory for the object `hold` is dropped here, and the lock released.
    unsafe {
        let hold: FastLockGuard<'static> = std::mem::transmute(hold);
        let object = raw::allocate(GUARD_TYPE.load(Ordering::Relaxed));
        if !object.is_null() {
            let guard = object.cast::<GuardObject>();
            (&raw mut (*guard).state).write(AtomicU8::new(HELD));
            (&raw mut (*guard).hold).write(UnsafeCell::new(Some(hold)));
            (&raw mut (*guard).manager).write(new_ref(manager));
            (&raw mut (*guard).key).write(new_ref(key));
            (&raw mut (*guard).owner).write(new_ref(owner));
            (&raw mut (*guard).weak).write(null_mut());
        }
        object
    }
}

impl GuardObject {
    /// The guard that a method was called on.
    ///
    /// # Safety
    /// It is one: the interpreter has checked that before it calls a method.
    #[inline(always)]
    pub(crate) unsafe fn from_raw<'a>(object: *mut ffi::PyObject) -> &'a Self {
        // SAFETY: the caller says so, and holds a reference through the call.
        unsafe { &*object.cast() }
    }

    /// The guard that an object is, if it is one.
    pub(crate) fn from_object<'a>(object: &'a Bound<'_, PyAny>) -> Option<&'a Self> {
        let kind = GUARD_TYPE.load(Ordering::Relaxed);
        // SAFETY: the type cannot be derived from, so that whatever has it is a guard, which `object` keeps.
        (object.get_type_ptr() == kind).then(|| unsafe { Self::from_raw(object.as_ptr()) })
    }

    /// Changes the state if it is `from`.
    ///
    /// Where one thread runs at a time nothing can come in between, and a locked instruction would be for nothing.
    #[inline(always)]
    fn change(&self, from: u8, to: u8) -> Result<(), u8> {
        if cfg!(Py_GIL_DISABLED) {
            // Acquire pairs with the Release of the thread that had the hold before.
            self.state.compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed).map(|_| ())
        } else {
            let state = self.state.load(Ordering::Relaxed);
            if state == from {
                self.state.store(to, Ordering::Relaxed);
                Ok(())
            } else {
                Err(state)
            }
        }
    }

    /// Releases the lock if it is held.
    #[inline(always)]
    pub(crate) fn let_go(&self) -> LetGo {
        match self.change(HELD, RELEASED) {
            Ok(()) => {
                // SAFETY: the state was moved from HELD by this thread.
                match unsafe { (*self.hold.get()).take() }.map(FastLockGuard::try_release) {
                    Some(Ok(())) => LetGo::Released,
                    Some(Err(error)) => LetGo::Lost(error),
                    None => LetGo::NotHeld,
                }
            }
            Err(RELEASED) => LetGo::NotHeld,
            Err(_) => self.let_go_slow(),
        }
    }

    #[cold]
    #[inline(never)]
    fn let_go_slow(&self) -> LetGo {
        if self.is_forked() {
            // Another thread of the parent was about to do something with it.
            return LetGo::Lost(LockError::Forked);
        }
        match self.take() {
            Ok(Some(hold)) => hold.try_release().map_or_else(LetGo::Lost, |()| LetGo::Released),
            Ok(None) => LetGo::NotHeld,
            Err(error) => LetGo::Busy(error),
        }
    }

    /// Takes the hold out, if it is there; from then on the guard is a released one.
    fn take(&self) -> PyResult<Option<FastLockGuard<'static>>> {
        loop {
            match self.change(HELD, RELEASED) {
                // SAFETY: the state was moved from HELD by this thread.
                Ok(()) => return Ok(unsafe { (*self.hold.get()).take() }),
                Err(RELEASED) => return Ok(None),
                Err(UPGRADING) => return Err(upgrading()),
                Err(_) => std::hint::spin_loop(),
            }
        }
    }

    /// The same, or says why there is none.
    pub(crate) fn take_held(&self, py: Python<'_>) -> PyResult<FastLockGuard<'static>> {
        self.process().check(py)?;
        self.take()?.ok_or_else(|| self.not_held(py))
    }

    /// Lets `look` at the hold, or says that there is none.
    pub(crate) fn look<T>(&self, py: Python<'_>, look: impl FnOnce(&mut FastLockGuard<'static>) -> T) -> PyResult<T> {
        self.process().check(py)?;
        loop {
            match self.change(HELD, LOOKED_AT) {
                Ok(()) => break,
                Err(RELEASED) => return Err(self.not_held(py)),
                Err(UPGRADING) => return Err(upgrading()),
                Err(_) => std::hint::spin_loop(),
            }
        }
        // SAFETY: the state was moved from HELD by this thread, and goes back only after the last use.
        let hold = unsafe { (*self.hold.get()).as_mut() };
        let seen = hold.map(look);
        // Release pairs with the Acquire of the thread that has the hold next.
        self.state.store(HELD, Ordering::Release);
        seen.ok_or_else(|| self.not_held(py))
    }

    /// Lends the hold for a long operation; meanwhile the guard can do nothing else.
    pub(crate) fn lend(&self, py: Python<'_>) -> PyResult<*mut FastLockGuard<'static>> {
        self.process().check(py)?;
        loop {
            match self.change(HELD, UPGRADING) {
                Ok(()) => break,
                Err(RELEASED) => return Err(self.not_held(py)),
                Err(UPGRADING) => return Err(upgrading()),
                Err(_) => std::hint::spin_loop(),
            }
        }
        // SAFETY: the state was moved from HELD by this thread.
        match unsafe { (*self.hold.get()).as_mut() } {
            Some(hold) => Ok(hold),
            None => Err(self.not_held(py)),
        }
    }

    /// Takes back what was lent.
    ///
    /// # Safety
    /// It was lent, and is used no more.
    pub(crate) unsafe fn give_back(&self) {
        // Release pairs with the Acquire of the thread that has the hold next.
        self.state.store(HELD, Ordering::Release);
    }

    /// Lends the hold to `wait`.
    pub(crate) fn upgrading<T>(
        &self,
        py: Python<'_>,
        wait: impl FnOnce(&mut FastLockGuard<'static>) -> PyResult<T>,
    ) -> PyResult<T> {
        let hold = self.lend(py)?;
        // SAFETY: lent to this alone, and given back after the last use.
        let waited = wait(unsafe { &mut *hold });
        // SAFETY: as above.
        unsafe { self.give_back() };
        waited
    }

    /// Notes that a block has begun that will release the lock.
    ///
    /// Returns `false` if one has already: at the end of the inner one the rest of the outer would go on without the
    /// lock.
    #[inline(always)]
    pub(crate) fn enter(&self) -> bool {
        if cfg!(Py_GIL_DISABLED) {
            !self.entered.swap(true, Ordering::Relaxed)
        } else if self.entered.load(Ordering::Relaxed) {
            false
        } else {
            self.entered.store(true, Ordering::Relaxed);
            true
        }
    }

    /// Has a block begun that will release the lock, or says why not.
    #[inline(always)]
    pub(crate) fn enter_block(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_released() || self.is_forked() {
            return Err(self.nothing_held(py));
        }
        if self.enter() { Ok(()) } else { Err(entered_before()) }
    }

    #[inline(always)]
    fn process(&self) -> Process {
        // SAFETY: it is one, and alive as long as the guard.
        unsafe { LockManager::from_raw(self.manager) }.process()
    }

    /// Whether this is a child of the process whose lock it is.
    pub(crate) fn is_forked(&self) -> bool {
        self.process().is_forked()
    }

    #[inline(always)]
    pub(crate) fn is_released(&self) -> bool {
        self.state.load(Ordering::Relaxed) == RELEASED
    }

    /// The key as it is to be shown.
    fn shown(&self, py: Python<'_>) -> String {
        // SAFETY: an object that the guard holds a reference to.
        let key = unsafe { Borrowed::from_ptr(py, self.key) };
        key.repr().map_or_else(|_| "its key".into(), |key| key.to_string())
    }

    #[cold]
    pub(crate) fn not_held(&self, py: Python<'_>) -> PyErr {
        is_not_held(py, &format!("the guard of {} was released before", self.shown(py)))
    }

    /// The exception for the lock's answer.
    ///
    /// A guard whose hold is not held lost it by force.
    #[cold]
    pub(crate) fn gone(&self, py: Python<'_>, error: &LockError) -> PyErr {
        match error {
            LockError::NotHeld { .. } => {
                is_not_held(py, &format!("the lock on {} was taken away by force", self.shown(py)))
            }
            LockError::LeaseLost { grant } => {
                // A caller with a guard knows the key, and has never seen the number.
                let text = error.to_string().replacen(&format!("grant {grant:#x}"), &self.shown(py), 1);
                let exception = to_exception(py, error);
                match exception.value(py).setattr("args", (text,)) {
                    Ok(()) => exception,
                    Err(error) => error,
                }
            }
            error => to_exception(py, error),
        }
    }

    /// Why there is nothing to release.
    #[cold]
    fn nothing_held(&self, py: Python<'_>) -> PyErr {
        if self.is_forked() { forked(py) } else { self.not_held(py) }
    }

    pub(crate) fn key(&self) -> *mut ffi::PyObject {
        self.key
    }

    pub(crate) fn owner(&self) -> *mut ffi::PyObject {
        self.owner
    }
}

/// What letting go of a guard has come to.
#[must_use]
pub(crate) enum LetGo {
    Released,
    /// It was released before.
    NotHeld,
    /// The lock had been taken away, or is a parent's.
    Lost(LockError),
    /// An upgrade has the hold.
    Busy(PyErr),
}

impl LetGo {
    /// Releases at the end of a block.
    ///
    /// The guard may have been released before. A forked child leaves the block as its parent does: the lock is the
    /// parent's, and its block is still to end.
    #[inline(always)]
    pub(crate) fn is_well(&self) -> bool {
        matches!(self, Self::Released | Self::NotHeld | Self::Lost(LockError::Forked))
    }

    /// Raises the error, if any, except for a guard that was released before.
    #[cold]
    pub(crate) fn into_result(self, py: Python<'_>, guard: &GuardObject) -> PyResult<()> {
        match self {
            Self::Released | Self::NotHeld => Ok(()),
            Self::Lost(error) => Err(guard.gone(py, &error)),
            Self::Busy(error) => Err(error),
        }
    }
}

/// Whether the arguments of an `__exit__` name an exception.
///
/// That one goes on, instead of one from releasing.
///
/// # Safety
/// They are as an interpreter passes them.
pub(crate) unsafe fn block_raised(arguments: *mut *mut ffi::PyObject, given: ffi::Py_ssize_t) -> bool {
    // SAFETY: the caller says so.
    given > 0 && unsafe { *arguments != ffi::Py_None() }
}

#[cold]
fn entered_before() -> PyErr {
    PyRuntimeError::new_err("a block has the guard already, and is to release it; lock again for another block")
}

fn upgrading() -> PyErr {
    PyRuntimeError::new_err("another thread waits to upgrade this guard")
}

pub(crate) fn is_not_held(py: Python<'_>, why: &str) -> PyErr {
    let class = crate::classes::exception_class(py, "NotHeld");
    match class.and_then(|class| class.call1((why,))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

pub(crate) unsafe extern "C" fn enter(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called on a guard.
    let guard = unsafe { GuardObject::from_raw(slf) };
    // SAFETY: called with the thread attached.
    match guard.enter_block(unsafe { Python::assume_attached() }) {
        Ok(()) => new_ref(slf),
        Err(error) => answer(|_| Err(error)),
    }
}

/// Refuses `async with`, and releases the guard.
///
/// Nothing else would release it before it is garbage.
pub(crate) unsafe extern "C" fn enter_async(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called on a guard.
    let guard = unsafe { GuardObject::from_raw(slf) };
    let let_go = guard.let_go();
    answer(|py| {
        let_go.into_result(py, guard)?;
        Err(PyTypeError::new_err(
            "lock() is for `with`, and has blocked the event loop: write `async with locks.alock(...)`",
        ))
    })
}

pub(crate) unsafe extern "C" fn exit(
    slf: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    given: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called on a guard.
    let guard = unsafe { GuardObject::from_raw(slf) };
    let let_go = guard.let_go();
    // SAFETY: as the interpreter passed them.
    if let_go.is_well() || unsafe { block_raised(arguments, given) } {
        return none();
    }
    answer(|py| let_go.into_result(py, guard).map(|()| none()))
}

pub(crate) unsafe extern "C" fn release(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called on a guard.
    let guard = unsafe { GuardObject::from_raw(slf) };
    match guard.let_go() {
        LetGo::Released => none(),
        LetGo::NotHeld => answer(|py| Err(guard.nothing_held(py))),
        let_go => answer(|py| let_go.into_result(py, guard).map(|()| none())),
    }
}

pub(crate) unsafe extern "C" fn deallocate(object: *mut ffi::PyObject) {
    // SAFETY: the last reference is gone, so that nothing else uses the object; what it holds is given back once.
    unsafe {
        let guard = object.cast::<GuardObject>();
        if !(*guard).weak.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        if *(*guard).state.get_mut() != RELEASED {
            forgotten(&*guard);
        }
        (&raw mut (*guard).hold).drop_in_place();
        ffi::Py_XDECREF((*guard).owner);
        ffi::Py_DECREF((*guard).key);
        ffi::Py_DECREF((*guard).manager);
        raw::deallocate(object);
    }
}

/// Releases a guard that became garbage while it was held, with a warning.
#[cold]
#[inline(never)]
fn forgotten(guard: &GuardObject) {
    // SAFETY: called while an object is freed, which needs the thread to be attached.
    let py = unsafe { Python::assume_attached() };
    // One whose lock was taken away has nothing that could be forgotten; and a parent's lock is the parent's to warn of.
    let LetGo::Released = guard.let_go() else { return };
    // An exception may be on its way; it goes on undisturbed.
    let on_its_way = PyErr::take(py);
    if let Err(error) = warn(py, guard) {
        error.write_unraisable(py, None);
    }
    if let Some(error) = on_its_way {
        error.restore(py);
    }
}

fn warn(py: Python<'_>, guard: &GuardObject) -> PyResult<()> {
    let text = CString::new(format!("unreleased lock on {}", guard.shown(py)))?;
    PyErr::warn(py, &py.get_type::<PyResourceWarning>(), &text, 1)
}

static RENEWAL: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// Has a new guard's lease renewed for as long as the guard lives, if asked to.
pub(crate) fn renewed(py: Python<'_>, guard: RawResult, ttl: Option<Duration>) -> RawResult {
    let Some(ttl) = ttl else { return guard };
    // SAFETY: a new reference.
    let guard = unsafe { Bound::from_owned_ptr(py, guard?) };
    let keep = module(py, &RENEWAL, "keylatch._renewal")?.getattr("keep")?;
    let kept: PyResult<Bound<'_, PyAny>> = keep.call1((&guard, ttl.as_secs_f64()));
    if let Err(error) = kept {
        if let Some(guard) = GuardObject::from_object(&guard) {
            let _ = guard.let_go();
        }
        return Err(error);
    }
    Ok(guard.into_ptr())
}

/// Turns the answer of a lock manager into a guard.
pub(crate) fn from_answer(
    py: Python<'_>,
    held: Result<FastLockGuard<'_>, LockError>,
    manager: *mut ffi::PyObject,
    key: *mut ffi::PyObject,
    owner: *mut ffi::PyObject,
) -> RawResult {
    let hold = held.or_raise(py)?;
    // SAFETY: the thread is attached, and the callers pass what they were called with.
    let guard = unsafe { new(hold, manager, key, owner) };
    if guard.is_null() { Err(PyErr::fetch(py)) } else { Ok(guard) }
}
