//! Keys that stay in the table: `PinnedKey`, whose `with` block is the fastest way to a lock.
//!
//! The hold of a block lies in the object, so that no guard is made. A hold that was taken away by force lies there until
//! its block ends, and that of the next holder beside it: so each has the thread that began the block.

use crate::errors::{OrRaise, to_exception};
use crate::guard::{block_raised, is_not_held};
use crate::key::{AskedKey, to_python};
use crate::manager::LockManager;
use crate::raw::{self, RawResult, Table, answer, new_ref, none};
use crate::wait::wait_for;
use keylatch::{FastLockGuard, LockError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// What `keylatch.PinnedKey` is made of.
#[pyclass(frozen, subclass, weakref, name = "PinnedKey", module = "keylatch._keylatch")]
pub(crate) struct PinnedKey {
    /// Before the pin, whose manager they refer to.
    blocks: Blocks,
    pin: keylatch::PinnedKey,
    locks: Py<LockManager>,
}

/// The holds of blocks that have begun.
struct Blocks {
    /// A thread looks at them. For interpreters without a lock of their own.
    busy: AtomicBool,
    begun: UnsafeCell<Begun>,
}

#[derive(Default)]
struct Begun {
    first: Option<Block>,
    /// There are more only after a lock was taken away by force.
    more: Vec<Block>,
}

struct Block {
    thread: libc::pthread_t,
    hold: FastLockGuard<'static>,
}

// SAFETY: `begun` is reached by `look` alone, which lets one thread in at a time; holds may be released by any thread.
unsafe impl Send for Blocks {}
// SAFETY: as above.
unsafe impl Sync for Blocks {}

impl Blocks {
    /// Lets `look` at the holds. It neither waits nor runs Python.
    #[inline(always)]
    fn look<T>(&self, look: impl FnOnce(&mut Begun) -> T) -> T {
        if cfg!(Py_GIL_DISABLED) {
            while self.busy.swap(true, Ordering::Acquire) {
                std::hint::spin_loop();
            }
        }
        // SAFETY: one thread at a time: by the interpreter's lock, or by `busy`.
        let looked = look(unsafe { &mut *self.begun.get() });
        if cfg!(Py_GIL_DISABLED) {
            self.busy.store(false, Ordering::Release);
        }
        looked
    }

    #[inline(always)]
    fn begin(&self, hold: FastLockGuard<'static>) {
        let block = Block { thread: this_thread(), hold };
        self.look(|begun| match &begun.first {
            None => begun.first = Some(block),
            Some(_) => begun.more.push(block),
        });
    }

    /// Takes out the hold of a block that ends: the only one, or that of this thread.
    #[inline(always)]
    fn end(&self) -> Option<FastLockGuard<'static>> {
        let block = self.look(|begun| if begun.more.is_empty() { begun.first.take() } else { begun.of_this_thread() });
        block.map(|block| block.hold)
    }
}

impl Begun {
    #[cold]
    fn of_this_thread(&mut self) -> Option<Block> {
        let thread = this_thread();
        let block = self.first.take_if(|first| first.thread == thread);
        block.or_else(|| {
            let at = self.more.iter().position(|block| block.thread == thread)?;
            Some(self.more.swap_remove(at))
        })
    }
}

fn this_thread() -> libc::pthread_t {
    // SAFETY: has no conditions.
    unsafe { libc::pthread_self() }
}

static METHODS: Table<ffi::PyMethodDef, 2> = Table::new([
    raw::method_without_arguments(
        c"__enter__",
        enter,
        c"__enter__($self, /)\n--\n\nTake the lock exclusively, waiting until it is free, and return the PinnedKey.",
    ),
    raw::method_with_arguments(c"__exit__", exit, c"__exit__($self, /, *exc_info)\n--\n\nRelease the lock."),
]);

/// Adds the verbs of a block to the class.
pub(crate) fn add_methods(class: &Bound<'_, PyAny>) -> PyResult<()> {
    raw::add_methods(class, METHODS.as_pointer().cast(), &["__enter__", "__exit__"])
}

#[pymethods]
impl PinnedKey {
    #[new]
    fn new(locks: &Bound<'_, LockManager>, key: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (py, asked) = (key.py(), AskedKey::of(key)?);
        let pin = locks.get().own_locks(py)?.pin(asked.as_ref()).or_raise(py)?;
        let blocks = Blocks { busy: AtomicBool::new(false), begun: UnsafeCell::default() };
        Ok(Self { blocks, pin, locks: locks.clone().unbind() })
    }

    /// What is pinned.
    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, self.pin.key())
    }

    /// The manager whose key it is.
    #[getter]
    fn locks(&self, py: Python<'_>) -> Py<LockManager> {
        self.locks.clone_ref(py)
    }
}

impl PinnedKey {
    /// The object that a method was called on.
    ///
    /// # Safety
    /// It is one, and outlives the use.
    #[inline(always)]
    unsafe fn from_raw<'a>(object: *mut ffi::PyObject) -> &'a Self {
        // SAFETY: the caller says so. The value lies in the object, and is never borrowed mutably.
        unsafe {
            let this = Borrowed::from_ptr(Python::assume_attached(), object);
            let this: &Self = this.cast_unchecked::<Self>().get();
            &*std::ptr::from_ref(this)
        }
    }

    #[inline(always)]
    fn begin(&self, hold: FastLockGuard<'_>) {
        // SAFETY: the hold refers to the manager of the pin, which is dropped after the holds.
        self.blocks.begin(unsafe { std::mem::transmute::<FastLockGuard<'_>, FastLockGuard<'static>>(hold) });
    }

    #[cold]
    #[inline(never)]
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        let locks = self.locks.bind(py).get();
        let hold = match locks.ask(self.pin.write()) {
            Ok(held) => held,
            Err(future) => wait_for(py, future)?,
        };
        self.begin(hold.or_raise(py)?);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn lost(&self, py: Python<'_>, error: Option<&LockError>) -> RawResult {
        let key =
            || to_python(py, self.pin.key()).and_then(|key| key.repr()).map_or("its key".into(), |key| key.to_string());
        match error {
            // The lock is the parent's.
            Some(LockError::Forked) => Ok(none()),
            Some(LockError::NotHeld { .. }) => {
                Err(is_not_held(py, &format!("the lock on {} was taken away by force", key())))
            }
            Some(error) => Err(to_exception(py, error)),
            None => Err(is_not_held(py, &format!("no `with` block of the PinnedKey {} has begun", key()))),
        }
    }
}

unsafe extern "C" fn enter(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called on a pinned key.
    let pinned = unsafe { PinnedKey::from_raw(slf) };
    if let Ok(hold) = pinned.pin.try_acquire_write_lock("") {
        pinned.begin(hold);
        return new_ref(slf);
    }
    answer(|py| pinned.wait(py).map(|()| new_ref(slf)))
}

unsafe extern "C" fn exit(
    slf: *mut ffi::PyObject,
    arguments: *mut *mut ffi::PyObject,
    given: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called on a pinned key.
    let pinned = unsafe { PinnedKey::from_raw(slf) };
    let error = match pinned.blocks.end().map(FastLockGuard::try_release) {
        Some(Ok(())) => return none(),
        Some(Err(error)) => Some(error),
        None => None,
    };
    // SAFETY: as the interpreter passed them.
    if unsafe { block_raised(arguments, given) } {
        return none();
    }
    answer(|py| pinned.lost(py, error.as_ref()))
}
