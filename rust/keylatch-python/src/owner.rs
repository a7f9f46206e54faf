//! Owners: whose request it is, as people see it in errors and listings.

use keylatch::OwnerRef;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A name for whoever asks, made once by `LockManager.owner` and shown in errors and listings.
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
    pub(crate) fn new(owner: keylatch::Owner, name: &Bound<'_, PyString>, manager: u64) -> PyResult<Self> {
        Ok(Self { owner, name: name.clone().unbind(), text: text_of(name)?, manager })
    }
}

/// A name as text; lone surrogates, which text for people cannot have, are replaced.
pub(crate) fn text_of(name: &Bound<'_, PyString>) -> PyResult<String> {
    Ok(name.to_string_lossy().into_owned())
}

/// The owner of a request, as it was given: something with a name, or nothing.
pub(crate) enum AskedOwner<'a, 'py> {
    Nobody,
    Known(Borrowed<'a, 'py, Owner>),
    Named(Borrowed<'a, 'py, PyString>),
}

impl<'a, 'py> AskedOwner<'a, 'py> {
    pub(crate) fn of(owner: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if owner.is_none() {
            return Ok(Self::Nobody);
        }
        if let Ok(known) = owner.cast::<Owner>() {
            return Ok(Self::Known(known));
        }
        let Ok(name) = owner.cast::<PyString>() else {
            let kind = owner.get_type().name()?;
            return Err(PyTypeError::new_err(format!("an owner is a str or an Owner of the manager, not {kind}")));
        };
        name.to_str()?;
        Ok(Self::Named(name))
    }

    /// The owner as the manager takes it.
    pub(crate) fn as_ref(&self, manager: u64) -> OwnerRef<'_> {
        match self {
            Self::Nobody => OwnerRef::Named(""),
            Self::Known(known) if known.get().manager == manager => OwnerRef::Known(known.get().owner),
            Self::Known(known) => OwnerRef::Named(&known.get().text),
            Self::Named(name) => OwnerRef::Named(name.to_str().unwrap_or_default()),
        }
    }

    /// Its name, for the guard; `None` for nobody.
    pub(crate) fn name(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        match self {
            Self::Nobody => None,
            Self::Known(known) => Some(known.get().name.bind(py).clone()),
            Self::Named(name) => Some(Bound::clone(name)),
        }
    }
}
