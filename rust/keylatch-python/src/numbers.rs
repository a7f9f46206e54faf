//! Numbers and text as Python has them, which may be of any size. What the lock manager cannot use is refused in the
//! caller's words, always as a `ValueError`.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A whole number.
pub(crate) enum Whole {
    Of(u64),
    /// One below zero, or of more than 64 bits, as it is to be shown.
    Beyond(String),
}

impl FromPyObject<'_, '_> for Whole {
    type Error = PyErr;

    fn extract(number: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match number.extract() {
            Ok(number) => Ok(Self::Of(number)),
            Err(error) if is_overflow(&error, number.py()) => Ok(Self::Beyond(shown(&number))),
            Err(error) => Err(error),
        }
    }
}

impl Whole {
    /// The number, if it is one of these.
    pub(crate) fn within(&self, what: &str, range: &RangeInclusive<u64>) -> PyResult<u64> {
        let given = match self {
            Self::Of(number) if range.contains(number) => return Ok(*number),
            Self::Of(number) => number.to_string(),
            Self::Beyond(shown) => shown.clone(),
        };
        let (least, most) = range.clone().into_inner();
        Err(PyValueError::new_err(format!("{what} is a number from {least} to {most}, not {given}")))
    }

    /// How many of something there may be.
    pub(crate) fn count(&self, what: &str) -> PyResult<usize> {
        self.within(what, &(0..=usize::MAX as u64)).map(|count| count as usize)
    }
}

/// A number of seconds. One that is too large for a `float` is infinite.
#[derive(Clone, Copy)]
pub(crate) struct Seconds(pub(crate) f64);

impl FromPyObject<'_, '_> for Seconds {
    type Error = PyErr;

    fn extract(number: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match number.extract() {
            Ok(seconds) => Ok(Self(seconds)),
            Err(error) if is_overflow(&error, number.py()) => {
                Ok(Self(if number.gt(0)? { f64::INFINITY } else { f64::NEG_INFINITY }))
            }
            Err(error) => Err(error),
        }
    }
}

impl Seconds {
    /// As a length of time; `None` for what is none. Infinity is as long as can be.
    pub(crate) fn duration(self) -> Option<Duration> {
        let Self(seconds) = self;
        (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// The length of a lease.
    pub(crate) fn lease(self) -> PyResult<Duration> {
        self.duration().ok_or_else(|| PyValueError::new_err("a ttl is a number of seconds above 0"))
    }

    /// The same, where it has to be one, such as an age.
    pub(crate) fn required(self, what: &str) -> PyResult<Duration> {
        self.duration().ok_or_else(|| PyValueError::new_err(format!("{what} is a number of seconds from 0 on")))
    }
}

/// An argument that is a number: what is none is refused by the argument's name.
pub(crate) fn argument<'a, 'py, T>(what: &str, kind: &str, value: Borrowed<'a, 'py, PyAny>) -> PyResult<T>
where
    T: FromPyObject<'a, 'py, Error = PyErr>,
{
    value.extract().map_err(|error: PyErr| {
        if !error.is_instance_of::<PyTypeError>(value.py()) {
            return error;
        }
        let given = value.get_type().name().map_or_else(|_| "that".into(), |name| name.to_string());
        PyTypeError::new_err(format!("{what} is {kind}, not {given}"))
    })
}

/// Text for people: lone surrogates, which it cannot have, are replaced.
#[derive(Default)]
pub(crate) struct Text(pub(crate) String);

impl FromPyObject<'_, '_> for Text {
    type Error = PyErr;

    fn extract(text: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        Ok(Self(text_of(&*text.cast::<PyString>()?)))
    }
}

/// A name as text, with its lone surrogates replaced, which no text can have.
pub(crate) fn text_of(name: &Bound<'_, PyString>) -> String {
    name.to_string_lossy().into_owned()
}

fn is_overflow(error: &PyErr, py: Python<'_>) -> bool {
    error.is_instance_of::<PyOverflowError>(py)
}

/// A number as it is to be shown in an error.
pub(crate) fn shown(number: &Bound<'_, PyAny>) -> String {
    const LONG: usize = 40;
    // What is very long Python does not show at all.
    number.str().map(|text| text.to_string()).ok().filter(|text| text.len() <= LONG).unwrap_or_else(|| "that".into())
}
