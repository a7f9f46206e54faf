//! Owners: whose request it is, as people see it in errors and listings.

use crate::errors::to_exception;
use crate::numbers::text_of;
use crate::session::Session;
use keylatch::{LockError, OwnerRef};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// A name for the owner of requests, shown in errors and listings.
///
/// Made once, by `LockManager.owner`.
///
/// It is a label: two requests with the same owner are in each other's way like strangers.
///
/// >>> from keylatch import LockManager
/// >>> locks = LockManager()
/// >>> node = locks.owner("node-7")
/// >>> node.name
/// 'node-7'
/// >>> with locks.lock("cat.jpg", owner=node) as guard:
/// ...     guard.owner
/// 'node-7'
#[pyclass(frozen, module = "keylatch")]
pub(crate) struct Owner {
    owner: keylatch::Owner,
    /// The name as it was given.
    #[pyo3(get)]
    name: Py<PyString>,
    /// Where in the program it comes from, for listings; empty for nothing.
    #[pyo3(get)]
    source: &'static str,
    /// The name once more, for a manager that has to look it up.
    text: String,
    /// The manager that knows `owner`.
    manager: u64,
}

#[pymethods]
impl Owner {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<keylatch.Owner {}>", self.name.bind(py).repr()?))
    }

    fn __str__(&self) -> &str {
        &self.text
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("an Owner belongs to one LockManager in one process and cannot be pickled or copied"))
    }
}

impl Owner {
    pub(crate) fn new(owner: keylatch::Owner, name: &Bound<'_, PyString>, source: &'static str, manager: u64) -> Self {
        Self { owner, name: name.clone().unbind(), source, text: text_of(name), manager }
    }
}

const MAX_SOURCES: usize = 1024;
const MAX_SOURCE_BYTES: usize = 256;

/// A source that is kept for ever; empty when there are too many.
///
/// The lock manager takes those that a program has in its text.
pub(crate) fn source_of(text: &str) -> &'static str {
    static SOURCES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let text = &text[..text.floor_char_boundary(MAX_SOURCE_BYTES)];
    let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = sources.get(text) {
        return kept;
    }
    if text.is_empty() || sources.len() >= MAX_SOURCES {
        return "";
    }
    let kept: &'static str = Box::leak(Box::from(text));
    sources.insert(kept);
    kept
}

/// The owner of a request, as it was given: something with a name, or nothing.
pub(crate) enum AskedOwner<'a, 'py> {
    Unnamed,
    Known(Borrowed<'a, 'py, Owner>),
    Session(Borrowed<'a, 'py, Session>),
    Named(Borrowed<'a, 'py, PyString>),
    /// A name that is no text as it is, and the text that stands for it.
    Replaced(Borrowed<'a, 'py, PyString>, Bound<'py, PyString>),
}

impl<'a, 'py> AskedOwner<'a, 'py> {
    pub(crate) fn of(owner: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if owner.is_none() {
            return Ok(Self::Unnamed);
        }
        if let Ok(known) = owner.cast::<Owner>() {
            return Ok(Self::Known(known));
        }
        if let Ok(session) = owner.cast::<Session>() {
            return Ok(Self::Session(session));
        }
        let Ok(name) = owner.cast::<PyString>() else {
            let kind = owner.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "an owner is a str, or an Owner or Session of the manager, not {kind}"
            )));
        };
        Ok(match name.to_str() {
            Ok(_) => Self::Named(name),
            Err(_) => Self::Replaced(name, PyString::new(name.py(), &text_of(&name))),
        })
    }

    /// Reads the owner of a request, and refuses a session that has ended.
    pub(crate) fn asking(owner: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let owner = Self::of(owner)?;
        owner.session().map_or(Ok(()), Session::check_open)?;
        Ok(owner)
    }

    /// Refuses another manager's session, for calls with no error of their own for it.
    pub(crate) fn check(&self, py: Python<'_>, manager: u64) -> PyResult<()> {
        match self {
            Self::Session(session) if !session.get().is_of(manager) => {
                let problem = "the session is another manager's; begin one with this manager's session()".into();
                Err(to_exception(py, &LockError::InvalidConfig { setting: "owner", problem }))
            }
            _ => Ok(()),
        }
    }

    /// The owner as the manager takes it.
    pub(crate) fn as_ref(&self, manager: u64) -> OwnerRef<'_> {
        match self {
            Self::Unnamed => OwnerRef::Named(""),
            Self::Known(known) if known.get().manager == manager => OwnerRef::Known(known.get().owner),
            Self::Known(known) => OwnerRef::Named(&known.get().text),
            Self::Session(session) => session.get().as_owner(),
            Self::Named(name) => OwnerRef::Named(name.to_str().unwrap_or_default()),
            Self::Replaced(_, text) => OwnerRef::Named(text.to_str().unwrap_or_default()),
        }
    }

    /// Its name, for the guard; `None` without one.
    pub(crate) fn name(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        match self {
            Self::Unnamed => None,
            Self::Known(known) => Some(known.get().name.bind(py).clone()),
            Self::Session(session) => Some(session.get().name(py)),
            Self::Named(name) | Self::Replaced(name, _) => Some(Bound::clone(name)),
        }
    }

    /// What has to be kept while the request waits, beside the name.
    pub(crate) fn keep(&self) -> Option<Py<PyAny>> {
        match self {
            Self::Session(session) => Some(Bound::clone(session).into_any().unbind()),
            Self::Replaced(_, text) => Some(text.clone().into_any().unbind()),
            Self::Unnamed | Self::Known(_) | Self::Named(_) => None,
        }
    }

    /// The session that asks, if one does.
    pub(crate) fn session(&self) -> Option<&Session> {
        match self {
            Self::Session(session) => Some(session.get()),
            Self::Unnamed | Self::Known(_) | Self::Named(_) | Self::Replaced(..) => None,
        }
    }
}
