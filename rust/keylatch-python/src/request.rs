//! What `lock` and its kin are called with.

use crate::key::AskedKey;
use crate::numbers::{Seconds, Whole, argument};
use crate::owner::AskedOwner;
use keylatch::{LockRequest, Mode};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};
use std::time::Duration;

/// How long a request may wait.
#[derive(Clone, Copy)]
pub(crate) enum Timeout {
    /// As the manager is set.
    Default,
    Never,
    After(Duration),
}

impl Timeout {
    /// From seconds; `None` is the manager's default, and infinity is without a limit.
    pub(crate) fn of(seconds: &Bound<'_, PyAny>) -> PyResult<Self> {
        if seconds.is_none() {
            return Ok(Self::Default);
        }
        match argument::<Seconds>("a timeout", "a number of seconds or None", seconds.as_borrowed())?.duration() {
            Some(Duration::MAX) => Ok(Self::Never),
            Some(timeout) => Ok(Self::After(timeout)),
            None => Err(PyValueError::new_err(
                "a timeout is a number of seconds from 0 on, math.inf, or None for the manager's default",
            )),
        }
    }

    /// As upgrades take it, which know no default.
    pub(crate) fn as_duration(self) -> Option<Duration> {
        match self {
            Self::Default | Self::Never => None,
            Self::After(duration) => Some(duration),
        }
    }
}

/// How long a lease is: of seconds, or `None` for a hold that is none.
pub(crate) fn ttl_of(seconds: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    if seconds.is_none() {
        return Ok(None);
    }
    argument::<Seconds>("a ttl", "a number of seconds", seconds.as_borrowed())?.lease().map(Some)
}

/// The arguments of one request. Objects are the caller's.
pub(crate) struct Asked<'a, 'py> {
    pub(crate) key: Borrowed<'a, 'py, PyAny>,
    pub(crate) shared: bool,
    pub(crate) owner: AskedOwner<'a, 'py>,
    pub(crate) timeout: Timeout,
    pub(crate) ttl: Option<Duration>,
    pub(crate) priority: u8,
    pub(crate) wait: bool,
    /// The lease is to be renewed for as long as the guard lives.
    pub(crate) renew: bool,
}

/// A function that takes a request, and which of the parameters it has.
pub(crate) struct Verb {
    name: &'static str,
    parameters: &'static [&'static str],
}

pub(crate) const LOCK: Verb = Verb { name: "lock", parameters: &NAMES };
pub(crate) const ALOCK: Verb = Verb { name: "alock", parameters: &NAMES };
pub(crate) const TRY_LOCK: Verb = Verb { name: "try_lock", parameters: &["key", "shared", "owner", "ttl", "priority"] };

const NAMES: [&str; 8] = ["key", "shared", "owner", "timeout", "ttl", "priority", "wait", "renew"];
static INTERNED: PyOnceLock<[Py<PyString>; NAMES.len()]> = PyOnceLock::new();

/// Which parameter a keyword names.
///
/// Keywords in a program's text are interned, so that comparing addresses nearly always does.
fn parameter(py: Python<'_>, keyword: Borrowed<'_, '_, PyAny>) -> Option<usize> {
    let interned = INTERNED.get_or_init(py, || NAMES.map(|name| PyString::intern(py, name).unbind()));
    let same = interned.iter().position(|name| name.as_ptr() == keyword.as_ptr());
    same.or_else(|| {
        let keyword = keyword.cast::<PyString>().ok()?;
        NAMES.iter().position(|name| keyword.to_str().is_ok_and(|keyword| keyword == *name))
    })
}

impl<'a, 'py: 'a> Asked<'a, 'py> {
    /// An exclusive lock, with nothing said about it.
    pub(crate) fn plainly(key: Borrowed<'a, 'py, PyAny>) -> Self {
        let (owner, timeout) = (AskedOwner::Unnamed, Timeout::Default);
        Self { key, shared: false, owner, timeout, ttl: None, priority: 0, wait: true, renew: false }
    }

    /// Reads the arguments of `verb`.
    ///
    /// # Safety
    /// They are as an interpreter passes them to a function that takes positional and keyword arguments in an array.
    pub(crate) unsafe fn parse(
        py: Python<'py>,
        verb: &Verb,
        arguments: *const *mut ffi::PyObject,
        positional: ffi::Py_ssize_t,
        keywords: *mut ffi::PyObject,
    ) -> PyResult<Self> {
        // SAFETY: the caller says so; the objects outlive the call.
        let argument = |position: usize| unsafe { Borrowed::from_ptr(py, *arguments.add(position)) };
        let positional = positional as usize;
        let Verb { name: verb, parameters } = verb;
        if positional > 1 {
            let problem = format!("{verb}() takes 1 positional argument but {positional} were given");
            return Err(PyTypeError::new_err(problem));
        }
        let mut given: [Option<Borrowed<'a, 'py, PyAny>>; NAMES.len()] = [None; NAMES.len()];
        if positional == 1 {
            given[0] = Some(argument(0));
        }
        // SAFETY: null, or a tuple with the names of the arguments after the positional ones.
        if let Some(keywords) = unsafe { Borrowed::from_ptr_or_opt(py, keywords) } {
            for (offset, keyword) in keywords.cast::<PyTuple>()?.iter().enumerate() {
                let known = parameter(py, keyword.as_borrowed()).filter(|place| parameters.contains(&NAMES[*place]));
                let Some(place) = known.and_then(|place| given.get_mut(place)) else {
                    let problem = format!("{verb}() got an unexpected keyword argument {}", keyword.repr()?);
                    return Err(PyTypeError::new_err(problem));
                };
                if place.replace(argument(positional + offset)).is_some() {
                    let problem = format!("{verb}() got multiple values for argument {}", keyword.repr()?);
                    return Err(PyTypeError::new_err(problem));
                }
            }
        }
        let [key, shared, owner, timeout, ttl, priority, wait, renew] = given;
        let Some(key) = key else {
            return Err(PyTypeError::new_err(format!("{verb}() missing 1 required positional argument: 'key'")));
        };
        let ttl = ttl.map_or(Ok(None), |ttl| ttl_of(&ttl))?;
        let renew = renew.map_or(Ok(false), |renew| renew.is_truthy())?;
        if renew && ttl.is_none() {
            return Err(PyValueError::new_err("renew=True renews a lease: say how long it is with ttl"));
        }
        Ok(Self {
            key,
            shared: shared.map_or(Ok(false), |shared| shared.is_truthy())?,
            owner: owner.map_or(Ok(AskedOwner::Unnamed), AskedOwner::asking)?,
            timeout: timeout.map_or(Ok(Timeout::Default), |timeout| Timeout::of(&timeout))?,
            ttl,
            priority: priority.map_or(Ok(0), |priority| priority_of(&priority))?,
            wait: wait.map_or(Ok(true), |wait| wait.is_truthy())?,
            renew,
        })
    }

    /// How often the lease of the guard is to be renewed: its length, if at all.
    pub(crate) fn renewed(&self) -> Option<Duration> {
        self.ttl.filter(|_| self.renew)
    }

    /// The request, as the manager takes it.
    pub(crate) fn request<'k>(&'k self, key: &'k AskedKey<'py>, manager: u64) -> LockRequest<'k> {
        let mode = if self.shared { Mode::Shared } else { Mode::Exclusive };
        let request = LockRequest::new(key.as_ref(), mode).owner(self.owner.as_ref(manager)).priority(self.priority);
        let request = if let Some(ttl) = self.ttl { request.ttl(ttl) } else { request };
        match self.timeout {
            Timeout::Default => request,
            Timeout::Never => request.no_timeout(),
            Timeout::After(timeout) => request.timeout(timeout),
        }
    }
}

pub(crate) fn priority_of(priority: &Bound<'_, PyAny>) -> PyResult<u8> {
    priority_from(&argument("a priority", "an int", priority.as_borrowed())?)
}

pub(crate) fn priority_from(number: &Whole) -> PyResult<u8> {
    number.within("a priority", &(0..=u8::MAX.into())).map(|priority| priority as u8)
}
