//! Modules and classes of the package, which the library makes values of.

use keylatch::Mode;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;

/// A module of the package, imported when it is first needed.
pub(crate) fn module<'py>(
    py: Python<'py>,
    place: &'static PyOnceLock<Py<PyModule>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyModule>> {
    place.get_or_try_init(py, || py.import(name).map(Bound::unbind)).map(|module| module.bind(py))
}

static EXCEPTIONS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// A class of `keylatch._exceptions`.
pub(crate) fn exception_class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    module(py, &EXCEPTIONS, "keylatch._exceptions")?.getattr(name)
}

static TYPES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// A class of `keylatch._types`.
pub(crate) fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    module(py, &TYPES, "keylatch._types")?.getattr(name)
}

/// A member of `keylatch.Mode`.
pub(crate) fn mode_to_python(py: Python<'_>, mode: Mode) -> PyResult<Bound<'_, PyAny>> {
    class(py, "Mode")?.getattr(match mode {
        Mode::Shared => "SHARED",
        Mode::Exclusive => "EXCLUSIVE",
    })
}
