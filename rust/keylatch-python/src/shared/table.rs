//! The table: `SharedTable`, but for awaiting, which is in `python/keylatch/_shared.py`.

use crate::classes::class;
use crate::fork::Process;
use crate::key::AskedKey;
use crate::numbers::text_of;
use crate::numbers::{Text, Whole};
use crate::pending::Pending;
use crate::request::Timeout;
use crate::setting;
use crate::shared::failure::{OrRaise, check_process, to_exception};
use crate::shared::guard::SharedGuard;
use crate::shared::listed::{self, SharedHold};
use crate::shared::wait;
use keylatch::Mode;
use keylatch_shm::{LockRequest, OwnedSharedLockGuard, ShmError, TableConfig};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// What `keylatch.SharedTable` is made of.
#[pyclass(frozen, subclass, weakref, name = "SharedTable", module = "keylatch._keylatch")]
pub(crate) struct SharedTable {
    table: keylatch_shm::SharedTable,
    path: PathBuf,
    default_timeout: Option<Duration>,
    process: Process,
}

/// A request, as it was given.
struct Asked<'py> {
    key: Bound<'py, PyAny>,
    parsed: AskedKey<'py>,
    mode: Mode,
    owner: Option<Bound<'py, PyString>>,
    label: String,
}

impl<'py> Asked<'py> {
    fn of(key: &Bound<'py, PyAny>, shared: bool, owner: Option<Bound<'py, PyString>>) -> PyResult<Self> {
        let mode = if shared { Mode::Shared } else { Mode::Exclusive };
        let label = owner.as_ref().map(text_of).unwrap_or_default();
        Ok(Self { key: key.clone(), parsed: AskedKey::of(key)?, mode, owner, label })
    }

    fn guard(self, hold: OwnedSharedLockGuard) -> SharedGuard {
        SharedGuard::new(hold, self.key.unbind(), self.owner.map(Bound::unbind))
    }
}

impl SharedTable {
    /// Takes the lock if it is free.
    fn try_now(&self, py: Python<'_>, asked: &Asked<'_>) -> PyResult<Option<OwnedSharedLockGuard>> {
        let request = LockRequest::new(asked.parsed.as_ref(), asked.mode).owner(&asked.label);
        let held = self.table.lock(request).try_now().or_raise(py)?;
        Ok(held.map(keylatch_shm::SharedLockGuard::into_owned))
    }

    fn deadline(&self, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Instant>> {
        let timeout = match timeout.map_or(Ok(Timeout::Default), Timeout::of)? {
            Timeout::Default => self.default_timeout,
            Timeout::Never => None,
            Timeout::After(timeout) => Some(timeout),
        };
        Ok(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    fn refused(&self, py: Python<'_>, asked: &Asked<'_>, waited: Option<Duration>) -> PyErr {
        let key = asked.parsed.as_ref();
        let holders = self.table.holders(Some(key)).unwrap_or_default();
        let key = key.to_owned();
        to_exception(
            py,
            &match waited {
                Some(waited) => ShmError::Timeout { key, waited, holders },
                None => ShmError::WouldBlock { key, holders },
            },
        )
    }
}

/// Where the table is: a path, or a name, which is a `str` without a slash.
fn place(path: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    match path.cast::<PyString>() {
        Ok(name) if !name.to_string_lossy().contains('/') => {
            // SAFETY: takes nothing and cannot fail.
            let user = unsafe { libc::geteuid() };
            Ok(PathBuf::from(format!("/dev/shm/keylatch-{user}-{}", name.to_string_lossy())))
        }
        _ => path.extract(),
    }
}

fn number<T: TryFrom<u64>>(py: Python<'_>, setting: &'static str, given: &Whole) -> PyResult<T> {
    let shown = match given {
        Whole::Of(number) => match T::try_from(*number) {
            Ok(number) => return Ok(number),
            Err(_) => number.to_string(),
        },
        Whole::Beyond(shown) => shown.clone(),
    };
    Err(setting::invalid(
        py,
        setting,
        format!("it is from 0 to {}, not {shown}", u64::MAX >> (64 - 8 * size_of::<T>().min(8))),
    ))
}

#[pymethods]
impl SharedTable {
    #[new]
    #[pyo3(
        signature = (
            path, *, keys = None, members = None, holds = None, mode = Whole::Of(0o600),
            label = Text::default(), default_timeout = None
        ),
        text_signature = "(path, *, keys=None, members=None, holds=None, mode=0o600, label='', default_timeout=None)"
    )]
    #[expect(clippy::too_many_arguments, clippy::needless_pass_by_value, reason = "as pyo3 calls it")]
    fn new(
        py: Python<'_>,
        path: &Bound<'_, PyAny>,
        keys: Option<Whole>,
        members: Option<Whole>,
        holds: Option<Whole>,
        mode: Whole,
        label: Text,
        default_timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let path = place(path)?;
        let default_timeout = default_timeout.map_or(Ok(Timeout::Default), Timeout::of)?.as_duration();
        let mut config = TableConfig::default().mode(number(py, "mode", &mode)?).label(label.0);
        if let Some(keys) = keys {
            config = config.keys(number(py, "keys", &keys)?);
        }
        if let Some(members) = members {
            config = config.members(number(py, "members", &members)?);
        }
        if let Some(holds) = holds {
            config = config.holds(number(py, "holds", &holds)?);
        }
        let table = py.detach(|| keylatch_shm::SharedTable::open(&path, &config)).or_raise(py)?;
        Ok(Self { table, path, default_timeout, process: Process::this() })
    }

    /// Take a lock, and return its guard. Waits until it is free.
    ///
    /// Any number of holders may have a key shared; otherwise one has it alone, among all threads of all processes. owner is
    /// a label for errors and listings, of which the first 32 bytes are kept. timeout is in seconds; None is the table's
    /// default_timeout, and math.inf is for as long as it takes. wait=False does not wait at all.
    ///
    /// Raises LockTimeout, which names the holders; WouldBlock, with wait=False; TableFull; SharedFileError; Forked.
    #[pyo3(
        signature = (key, *, shared = false, owner = None, timeout = None, wait = true),
        text_signature = "($self, key, *, shared=False, owner=None, timeout=None, wait=True)"
    )]
    fn lock<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        shared: bool,
        owner: Option<Bound<'py, PyString>>,
        timeout: Option<&Bound<'py, PyAny>>,
        wait: bool,
    ) -> PyResult<SharedGuard> {
        let (py, asked) = (key.py(), Asked::of(key, shared, owner)?);
        let deadline = self.deadline(timeout)?;
        if let Some(hold) = self.try_now(py, &asked)? {
            return Ok(asked.guard(hold));
        }
        if !wait {
            return Err(self.refused(py, &asked, None));
        }
        let begun = Instant::now();
        let prepared = self.table.prepare_owned(asked.parsed.as_ref()).or_raise(py)?;
        match wait::acquire(py, &prepared, asked.mode, &asked.label, deadline)? {
            Some(hold) => Ok(asked.guard(hold)),
            None => Err(self.refused(py, &asked, Some(begun.elapsed()))),
        }
    }

    /// Take a lock if it is free now, and return its guard, or None.
    #[pyo3(
        signature = (key, *, shared = false, owner = None),
        text_signature = "($self, key, *, shared=False, owner=None)"
    )]
    fn try_lock<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        shared: bool,
        owner: Option<Bound<'py, PyString>>,
    ) -> PyResult<Option<SharedGuard>> {
        let asked = Asked::of(key, shared, owner)?;
        Ok(self.try_now(key.py(), &asked)?.map(|hold| asked.guard(hold)))
    }

    /// Begins what `alock` awaits: the guard, or what an event loop waits for.
    fn _begin_lock<'py>(
        slf: &Bound<'py, Self>,
        key: &Bound<'py, PyAny>,
        shared: bool,
        owner: Option<Bound<'py, PyString>>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, this, asked) = (key.py(), slf.get(), Asked::of(key, shared, owner)?);
        let deadline = this.deadline(timeout)?;
        if let Some(hold) = this.try_now(py, &asked)? {
            return Ok(Bound::new(py, asked.guard(hold))?.into_any());
        }
        let begun = Instant::now();
        let prepared = Arc::new(this.table.prepare_owned(asked.parsed.as_ref()).or_raise(py)?);
        let mut future = prepared.acquire_until(asked.mode, &asked.label, deadline);
        let (table, key, shared) = (slf.clone().unbind(), asked.key.unbind(), asked.mode == Mode::Shared);
        let owner = asked.owner.map(Bound::unbind);
        let waiting = Pending::new(move |py, context| {
            let Poll::Ready(held) = Pin::new(&mut future).poll(context) else { return Poll::Pending };
            let result = held.or_raise(py).and_then(|held| match held {
                Some(hold) => {
                    let owner = owner.as_ref().map(|owner| owner.clone_ref(py));
                    Ok(Bound::new(py, SharedGuard::new(hold, key.clone_ref(py), owner))?.into_any().unbind())
                }
                None => {
                    let asked = Asked::of(key.bind(py), shared, None)?;
                    Err(table.get().refused(py, &asked, Some(begun.elapsed())))
                }
            });
            Poll::Ready(result)
        });
        Ok(Bound::new(py, waiting)?.into_any())
    }

    /// Tell whether a process holds the key at this moment.
    ///
    /// It may be otherwise as soon as this returns: to lock, ask for the lock.
    fn locked(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.table.is_locked(AskedKey::of(key)?.as_ref()).or_raise(key.py())
    }

    /// How many processes wait for the key at this moment.
    ///
    /// Each counts once, whatever number of its requests waits.
    fn waiting(&self, key: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.table.waiting(AskedKey::of(key)?.as_ref()).or_raise(key.py())
    }

    /// All holds of all processes, or those of one key, as a list of SharedHolder.
    ///
    /// Stops nothing, so holds that come and go may be missing.
    #[pyo3(signature = (key = None))]
    fn holders<'py>(&self, py: Python<'py>, key: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyList>> {
        let key = key.map(AskedKey::of).transpose()?;
        let infos = self.table.holders(key.as_ref().map(AskedKey::as_ref)).or_raise(py)?;
        listed::holders(py, &infos)
    }

    /// Take a lock away from a holder that holders() has shown.
    ///
    /// Its process may run or be stopped. Returns whether it was taken: not if it was released or revoked before. The process is not interrupted, and finds out
    /// when it asks: what it still writes has a lower fence than its successor. Raises UpgradeConflict if several threads
    /// of the process share the hold, which cannot be taken apart.
    fn revoke(&self, holder: &Bound<'_, PyAny>) -> PyResult<bool> {
        let hold = holder.getattr("hold").ok().and_then(|hold| hold.cast_into::<SharedHold>().ok());
        let hold =
            hold.ok_or_else(|| PyTypeError::new_err("revoke() takes a SharedHolder, as holders() lists them"))?;
        self.table.revoke(hold.get().0).or_raise(holder.py())
    }

    /// Sizes and counts of the table.
    fn figures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        check_process(py, self.process)?;
        let figures = self.table.figures();
        let counts = (figures.keys, figures.members, figures.live_members, figures.recoveries, figures.bytes);
        class(py, "SharedFigures")?.call1(counts)
    }

    /// Look at the file, and raise SharedFileError if it is not what it was.
    ///
    /// It may have been truncated, removed, replaced or damaged. That is done four times a second anyway.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.table.check()).or_raise(py)
    }

    /// The table's file.
    #[getter]
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(self.path.as_os_str().into_pyobject(py)?)
    }

    fn __repr__(&self) -> String {
        format!("<keylatch.SharedTable {}>", self.path.display())
    }

    /// Refused: a table is opened in each process by its path.
    fn __reduce__(&self) -> PyResult<()> {
        Err(pyo3::exceptions::PyTypeError::new_err(
            "a SharedTable belongs to one process and cannot be pickled or copied; pass its path and open it there",
        ))
    }
}
