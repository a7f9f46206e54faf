//! Keys as Python has them: `str`, `bytes`, or a tuple of bucket, object and, optionally, version.
//!
//! The bytes of a key are read where they lie in the Python objects. Strings are their UTF-8; lone surrogates, as file
//! names may have them, are encoded too, so that every string is a key and different strings are different keys.

use keylatch::{KeyRef, ObjectKey};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use std::ptr::addr_of_mut;

/// The bytes of a `str` without surrogates, or of `bytes`, or nothing.
///
/// # Safety
/// `part` is a Python object, and this thread is attached. The slice is good while the object lives.
#[inline(always)]
pub(crate) unsafe fn plain_bytes<'a>(part: *mut ffi::PyObject) -> Option<&'a [u8]> {
    // SAFETY: the caller gives an object. Only the exact types are looked into, with their own accessors; what they
    // return belongs to the object, and neither type can be changed.
    unsafe {
        let kind = ffi::Py_TYPE(part);
        let mut length: ffi::Py_ssize_t = 0;
        if kind == addr_of_mut!(ffi::PyUnicode_Type) {
            let text = ffi::PyUnicode_AsUTF8AndSize(part, &raw mut length);
            if text.is_null() {
                ffi::PyErr_Clear();
                return None;
            }
            Some(std::slice::from_raw_parts(text.cast(), length as usize))
        } else if kind == addr_of_mut!(ffi::PyBytes_Type) {
            Some(std::slice::from_raw_parts(ffi::PyBytes_AsString(part).cast(), ffi::PyBytes_Size(part) as usize))
        } else {
            None
        }
    }
}

/// A key of a form that needs nothing to be made: a plain part, or a pair of them.
///
/// # Safety
/// As [`plain_bytes`].
#[inline(always)]
pub(crate) unsafe fn plain_key<'a>(key: *mut ffi::PyObject) -> Option<KeyRef<'a>> {
    // SAFETY: as the caller says; the items belong to the tuple, which cannot be changed.
    unsafe {
        if ffi::Py_TYPE(key) != addr_of_mut!(ffi::PyTuple_Type) {
            return plain_bytes(key).map(|object| KeyRef::new(b"", object));
        }
        if ffi::PyTuple_Size(key) != 2 {
            return None;
        }
        Some(KeyRef::new(plain_bytes(ffi::PyTuple_GetItem(key, 0))?, plain_bytes(ffi::PyTuple_GetItem(key, 1))?))
    }
}

/// A key and whatever had to be made to have its bytes.
pub(crate) struct AskedKey<'py> {
    parts: Parts<'py>,
}

enum Parts<'py> {
    /// As [`plain_key`] reads it.
    Plain(Bound<'py, PyAny>),
    /// The object in the unnamed bucket.
    One(Part<'py>),
    Two(Part<'py>, Part<'py>),
    Three(Part<'py>, Part<'py>, Part<'py>),
}

/// Bytes that a Python object lends for as long as it lives.
struct Part<'py>(Bound<'py, PyAny>);

impl<'py> Part<'py> {
    fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        // SAFETY: an object, and the thread is attached, or there would be no `Bound`.
        if unsafe { plain_bytes(object.as_ptr()) }.is_some() {
            return Ok(Self(object.clone()));
        }
        if let Ok(text) = object.cast::<PyString>() {
            return Ok(Self(
                text.call_method1("encode", ("utf-8", "surrogatepass"))?.cast_into_exact::<PyBytes>()?.into_any(),
            ));
        }
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Self(PyBytes::new(object.py(), bytes.as_bytes()).into_any()));
        }
        Err(wrong(object))
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: an object that lives as long as `self`, and the thread is attached.
        unsafe { plain_bytes(self.0.as_ptr()) }.unwrap_or_default()
    }
}

/// The bytes of a part of a key, which is the argument `name`.
pub(crate) fn part_bytes(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match Part::of(object) {
        Ok(part) => Ok(part.bytes().to_vec()),
        // Anything else comes of the encoding of a `str`.
        Err(_) if !object.is_instance_of::<PyString>() => {
            Err(PyTypeError::new_err(format!("{name} is str or bytes, not {}", kind_of(object))))
        }
        Err(error) => Err(error),
    }
}

fn kind_of(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string())
}

fn wrong(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "a key is str, bytes, (bucket, object) or (bucket, object, version), and its parts are str or bytes, not {}",
        kind_of(object)
    ))
}

impl<'py> AskedKey<'py> {
    /// Reads a key of any form.
    pub(crate) fn of(key: &Bound<'py, PyAny>) -> PyResult<Self> {
        // SAFETY: an object, and the thread is attached, or there would be no `Bound`.
        if unsafe { plain_key(key.as_ptr()) }.is_some() {
            return Ok(Self { parts: Parts::Plain(key.clone()) });
        }
        let Ok(tuple) = key.cast::<PyTuple>() else { return Ok(Self { parts: Parts::One(Part::of(key)?) }) };
        let part = |position| Part::of(&tuple.get_item(position)?);
        let parts = match tuple.len() {
            2 => Parts::Two(part(0)?, part(1)?),
            3 if tuple.get_item(2)?.is_none() => Parts::Two(part(0)?, part(1)?),
            3 => Parts::Three(part(0)?, part(1)?, part(2)?),
            length => {
                return Err(PyTypeError::new_err(format!(
                    "a key that is a tuple is (bucket, object) or (bucket, object, version), and has not {length} parts"
                )));
            }
        };
        Ok(Self { parts })
    }

    /// The key, as the manager takes it.
    pub(crate) fn as_ref(&self) -> KeyRef<'_> {
        match &self.parts {
            // SAFETY: an object that lives as long as `self`, and the thread is attached; it has not changed since.
            Parts::Plain(key) => unsafe { plain_key(key.as_ptr()) }.unwrap_or(KeyRef::new(b"", b"")),
            Parts::One(object) => KeyRef::new(b"", object.bytes()),
            Parts::Two(bucket, object) => KeyRef::new(bucket.bytes(), object.bytes()),
            Parts::Three(bucket, object, version) => {
                KeyRef::new(bucket.bytes(), object.bytes()).with_version(version.bytes())
            }
        }
    }
}

impl AskedKey<'_> {
    /// The objects whose bytes the key is made of.
    pub(crate) fn keep(&self) -> Vec<Py<PyAny>> {
        let parts: &[&Part<'_>] = match &self.parts {
            Parts::Plain(key) => return vec![key.clone().unbind()],
            Parts::One(object) => &[object],
            Parts::Two(bucket, object) => &[bucket, object],
            Parts::Three(bucket, object, version) => &[bucket, object, version],
        };
        parts.iter().map(|part| part.0.clone().unbind()).collect()
    }
}

/// A key as a caller would write it: `str` where it is UTF-8, else `bytes`.
///
/// Without the bucket, if that is the unnamed one.
pub(crate) fn to_python<'py>(py: Python<'py>, key: &ObjectKey) -> PyResult<Bound<'py, PyAny>> {
    let object = part_to_python(py, key.object());
    Ok(match key.version() {
        None if key.bucket().is_empty() => object,
        None => PyTuple::new(py, [part_to_python(py, key.bucket()), object])?.into_any(),
        Some(version) => {
            PyTuple::new(py, [part_to_python(py, key.bucket()), object, part_to_python(py, version)])?.into_any()
        }
    })
}

fn part_to_python<'py>(py: Python<'py>, part: &[u8]) -> Bound<'py, PyAny> {
    let bytes = PyBytes::new(py, part);
    match std::str::from_utf8(part) {
        Ok(text) => PyString::new(py, text).into_any(),
        Err(_) => bytes.call_method1("decode", ("utf-8", "surrogatepass")).unwrap_or_else(|_| bytes.into_any()),
    }
}
