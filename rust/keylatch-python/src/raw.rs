//! The little that is written against Python's C interface directly: types whose objects come and go with every lock,
//! where the conversions and checks of pyo3 would cost more than the lock.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_int, c_ulong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A function's result on its way out to the interpreter.
pub(crate) type RawResult = PyResult<*mut ffi::PyObject>;

/// Runs the body of a C function: raises its error, and lets no panic out.
#[inline(always)]
pub(crate) fn answer(body: impl FnOnce(Python<'_>) -> RawResult) -> *mut ffi::PyObject {
    // SAFETY: called from such functions only, and the interpreter calls those with the thread attached.
    let py = unsafe { Python::assume_attached() };
    match catch_unwind(AssertUnwindSafe(|| body(py))) {
        Ok(Ok(object)) => object,
        Ok(Err(error)) => {
            error.restore(py);
            std::ptr::null_mut()
        }
        Err(_) => {
            PyRuntimeError::new_err("keylatch panicked; please report this").restore(py);
            std::ptr::null_mut()
        }
    }
}

/// A new reference to an object.
#[inline(always)]
pub(crate) fn new_ref(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: an object that the caller holds a reference to, on a thread that is attached; null stays null.
    unsafe { ffi::Py_XINCREF(object) };
    object
}

#[inline(always)]
pub(crate) fn none() -> *mut ffi::PyObject {
    // SAFETY: `None` is always there.
    new_ref(unsafe { ffi::Py_None() })
}

pub(crate) fn owned<T>(object: Bound<'_, T>) -> *mut ffi::PyObject {
    object.into_ptr()
}

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

/// A method that takes no arguments.
pub(crate) const fn method_without_arguments(
    name: &'static CStr,
    function: ffi::PyCFunction,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: doc.as_ptr(),
    }
}

/// A method that takes positional arguments in an array.
pub(crate) const fn method_with_arguments(
    name: &'static CStr,
    function: ffi::PyCFunctionFast,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFast: function },
        ml_flags: ffi::METH_FASTCALL,
        ml_doc: doc.as_ptr(),
    }
}

/// A method that takes positional and keyword arguments in an array.
pub(crate) const fn method_with_keywords(
    name: &'static CStr,
    function: ffi::PyCFunctionFastWithKeywords,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    }
}

/// A read-only attribute.
pub(crate) const fn attribute(name: &'static CStr, get: ffi::getter, doc: &'static CStr) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set: None,
        doc: doc.as_ptr(),
        closure: std::ptr::null_mut(),
    }
}

pub(crate) const fn slot(number: c_int, function: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot: number, pfunc: function }
}

/// Makes a type of objects of layout `T` that Python code cannot make or change.
///
/// # Safety
/// `T` begins with a `PyObject`, and the slots are functions for such objects and end with a zero.
pub(crate) unsafe fn make_type<'py, T>(
    py: Python<'py>,
    name: &'static CStr,
    slots: &mut [ffi::PyType_Slot],
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the caller says so.
    unsafe { make_type_with::<T>(py, name, 0, slots) }
}

/// The same, with more flags.
///
/// # Safety
/// As for [`make_type`], and the slots have what the flags call for.
pub(crate) unsafe fn make_type_with<'py, T>(
    py: Python<'py>,
    name: &'static CStr,
    flags: c_ulong,
    slots: &mut [ffi::PyType_Slot],
) -> PyResult<Bound<'py, PyAny>> {
    let flags =
        flags | ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION | ffi::Py_TPFLAGS_IMMUTABLETYPE;
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        basicsize: size_of::<T>() as c_int,
        itemsize: 0,
        flags: flags as u32,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the caller gives good slots; the interpreter copies what it keeps of the specification, but for the
    // tables of methods and attributes, which are static.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec)) }
}

/// Memory for an object of a type, with the head filled in and the rest zero.
///
/// # Safety
/// The type was made by [`make_type`], and the thread is attached.
#[inline(always)]
pub(crate) unsafe fn allocate(kind: *mut ffi::PyTypeObject) -> *mut ffi::PyObject {
    // SAFETY: a type that allocates in the generic way.
    unsafe { ffi::PyType_GenericAlloc(kind, 0) }
}

/// As [`allocate`], for a `T` that the garbage collector may know.
///
/// It does not know it before `PyObject_GC_Track`.
///
/// # Safety
/// The type was made by [`make_type_with`] for a `T`, with `Py_TPFLAGS_HAVE_GC`, and the thread is attached.
#[inline(always)]
pub(crate) unsafe fn allocate_untracked<T>(kind: *mut ffi::PyTypeObject) -> *mut ffi::PyObject {
    const { assert!(size_of::<T>() >= size_of::<ffi::PyObject>()) };
    // SAFETY: of such a type; what comes is as large as a `T`, and the head at its beginning is filled in.
    unsafe {
        let object = ffi::PyObject_GC_New::<ffi::PyObject>(kind);
        if !object.is_null() {
            let rest = size_of::<T>() - size_of::<ffi::PyObject>();
            object.add(1).cast::<u8>().write_bytes(0, rest);
        }
        object
    }
}

/// Frees an object whose contents are gone, and drops its reference to its type.
///
/// # Safety
/// The object was made by [`allocate`], nothing refers to it any more, and the thread is attached.
#[inline(always)]
pub(crate) unsafe fn deallocate(object: *mut ffi::PyObject) {
    // SAFETY: the caller says so.
    unsafe {
        let kind = ffi::Py_TYPE(object);
        ffi::PyObject_Free(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// The same for an [`allocate_untracked`] object, which the collector forgot.
///
/// # Safety
/// As for [`deallocate`], and the object's type has `Py_TPFLAGS_HAVE_GC`.
#[inline(always)]
pub(crate) unsafe fn deallocate_collected(object: *mut ffi::PyObject) {
    // SAFETY: the caller says so.
    unsafe {
        let kind = ffi::Py_TYPE(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// Adds methods of a table that is never changed to a class.
pub(crate) fn add_methods(class: &Bound<'_, PyAny>, table: *mut ffi::PyMethodDef, names: &[&str]) -> PyResult<()> {
    for (position, name) in names.iter().enumerate() {
        // SAFETY: one of the entries of a table that is never changed; there is one for each name.
        let method = unsafe { ffi::PyDescr_NewMethod(class.as_ptr().cast(), table.add(position)) };
        // SAFETY: a new reference, or null with an exception.
        let method = unsafe { Bound::from_owned_ptr_or_err(class.py(), method)? };
        class.setattr(*name, method)?;
    }
    Ok(())
}
