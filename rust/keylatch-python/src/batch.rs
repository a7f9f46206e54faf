//! Many locks together.

use crate::errors::{OrRaise, to_exception};
use crate::guard::{self, GuardObject, LetGo};
use crate::key::{self, AskedKey, plain_key};
use crate::manager::LockManager;
use crate::owner::AskedOwner;
use crate::pending::Pending;
use crate::request::{Timeout, priority_of, ttl_of};
use crate::wait::wait_for;
use keylatch::{BatchLockRequest, BatchMode, LockBatch, LockError, LockRequest, Mode, OwnerRef};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use std::future::Future;
use std::pin::Pin;
use std::ptr::null_mut;
use std::task::Poll;
use std::time::Duration;

/// How many keys a batch takes without a plan.
///
/// Those that are read are compared with each other.
const MOST_UNPLANNED: usize = 32;

/// The arguments of `lock_many`.
pub(crate) struct Asked<'py> {
    manager: Bound<'py, LockManager>,
    wanted: Vec<(Bound<'py, PyAny>, Mode)>,
    owner: Bound<'py, PyAny>,
    timeout: Timeout,
    ttl: Option<Duration>,
    priority: u8,
    best_effort: bool,
}

/// What a batch borrows from, kept while it waits. The future goes first.
struct Long {
    future: Pin<Box<dyn Future<Output = Result<LockBatch<'static>, LockError>> + Send>>,
    manager: Py<LockManager>,
    given: Given,
    _kept: Vec<Py<PyAny>>,
}

/// For the guards: each key's first place and form, and the owner's name.
///
/// Keys are found by the form in which errors show them.
struct Given {
    keys: Py<PyDict>,
    owner: Option<Py<PyString>>,
}

impl<'py> Asked<'py> {
    #[expect(clippy::too_many_arguments, reason = "as many as the function that people call has")]
    pub(crate) fn of(
        manager: &Bound<'py, LockManager>,
        exclusive: &Bound<'py, PyAny>,
        shared: &Bound<'py, PyAny>,
        owner: &Bound<'py, PyAny>,
        timeout: &Bound<'py, PyAny>,
        ttl: &Bound<'py, PyAny>,
        priority: &Bound<'py, PyAny>,
        best_effort: bool,
    ) -> PyResult<Self> {
        let mut wanted = Vec::new();
        for (keys, mode) in [(exclusive, Mode::Exclusive), (shared, Mode::Shared)] {
            match keys.cast_exact::<PyList>() {
                Ok(keys) => wanted.extend(keys.iter().map(|key| (key, mode))),
                Err(_) => {
                    for key in keys.try_iter()? {
                        wanted.push((key?, mode));
                    }
                }
            }
        }
        let (timeout, ttl, priority) = (Timeout::of(timeout)?, ttl_of(ttl)?, priority_of(priority)?);
        Ok(Self { manager: manager.clone(), wanted, owner: owner.clone(), timeout, ttl, priority, best_effort })
    }

    /// Waits in this thread.
    pub(crate) fn wait(self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.manager.py();
        if let Some(guards) = self.take_fast()? {
            return Ok((guards, PyTuple::empty(py)).into_pyobject(py)?.into_any());
        }
        let mut long = self.ask()?;
        let batch = wait_for(py, &mut long.future)?.or_raise(py)?;
        to_python(py, batch, &long.manager, &long.given)
    }

    /// Waits in an event loop.
    pub(crate) fn begin(self) -> PyResult<Pending> {
        let mut long = self.ask()?;
        Ok(Pending::new(move |py, context| {
            // The whole of it: a closure that names single fields keeps no others.
            let long = &mut long;
            let Poll::Ready(batch) = long.future.as_mut().poll(context) else { return Poll::Pending };
            let result = batch.or_raise(py).and_then(|batch| to_python(py, batch, &long.manager, &long.given));
            Poll::Ready(result.map(Bound::unbind))
        }))
    }

    /// Takes all the locks if each of them is free and asked for in an ordinary way.
    ///
    /// `None` says nothing; nothing is held then. No lock is waited for, so any order will do.
    fn take_fast(&self) -> PyResult<Option<Bound<'py, PyTuple>>> {
        if self.ttl.is_some() || self.best_effort || self.priority != 0 || self.wanted.len() > MOST_UNPLANNED {
            return Ok(None);
        }
        let (py, manager) = (self.manager.py(), self.manager.get());
        let owner = AskedOwner::asking(self.owner.as_borrowed())?;
        if matches!(owner.as_ref(manager.id()), OwnerRef::Session(_)) {
            // It may be given a lock that it has already, and is to have each key of a batch once.
            return Ok(None);
        }
        let mut held = Vec::with_capacity(self.wanted.len());
        let mut readers = Vec::new();
        for (key, mode) in &self.wanted {
            // SAFETY: an object that `wanted` keeps, and the thread is attached.
            let Some(key) = (unsafe { plain_key(key.as_ptr()) }) else { return Ok(None) };
            // A key that is named twice is refused by the lock itself, unless both want to read: that would be two holds.
            if *mode == Mode::Shared {
                if readers.contains(&key) {
                    return Ok(None);
                }
                readers.push(key);
            }
            let request = LockRequest::new(key, *mode).owner(owner.as_ref(manager.id()));
            let Ok(hold) = manager.locks().lock(request).try_now() else { return Ok(None) };
            held.push(hold);
        }
        let owner = owner.name(py);
        let owner = owner.as_ref().map_or(null_mut(), |name| name.as_ptr());
        let mut guards = Vec::with_capacity(held.len());
        for (hold, (key, _)) in held.into_iter().zip(&self.wanted) {
            let guard = guard::from_answer(py, Ok(hold), self.manager.as_ptr(), key.as_ptr(), owner)?;
            // SAFETY: a new reference.
            guards.push(unsafe { Bound::from_owned_ptr(py, guard) });
        }
        PyTuple::new(py, guards).map(Some)
    }

    fn ask(self) -> PyResult<Long> {
        let py = self.manager.py();
        let owner = AskedOwner::asking(self.owner.as_borrowed())?;
        let keys = PyDict::new(py);
        let mut asked = Vec::with_capacity(self.wanted.len());
        for (given, mode) in &self.wanted {
            let key = AskedKey::of(given)?;
            let name = key::to_python(py, &key.as_ref().to_owned())?;
            if !keys.contains(&name)? {
                keys.set_item(name, (keys.len(), given))?;
            }
            asked.push((key, *mode));
        }
        let manager = self.manager.get();
        let mut request = BatchLockRequest::new(owner.as_ref(manager.id())).priority(self.priority);
        for (key, mode) in &asked {
            request = request.add(key.as_ref(), *mode);
        }
        match self.timeout {
            Timeout::Default => {}
            Timeout::Never => request = request.timeout(std::time::Duration::MAX),
            Timeout::After(timeout) => request = request.timeout(timeout),
        }
        if let Some(ttl) = self.ttl {
            request = request.ttl(ttl);
        }
        if self.best_effort {
            request = request.mode(BatchMode::BestEffort);
        }
        let mut kept: Vec<_> = asked.iter().flat_map(|(key, _)| key.keep()).collect();
        kept.push(self.owner.clone().unbind());
        kept.extend(owner.keep());
        let future: Pin<Box<dyn Future<Output = _> + Send + '_>> =
            Box::pin(manager.locks().acquire_locks_batch(request));
        // SAFETY: the future borrows from the manager, the parts of the keys and the owner, all of which are kept with
        // it, and dropped after it.
        let future = unsafe {
            std::mem::transmute::<
                Pin<Box<dyn Future<Output = _> + Send + '_>>,
                Pin<Box<dyn Future<Output = _> + Send + 'static>>,
            >(future)
        };
        let given = Given { keys: keys.unbind(), owner: owner.name(py).map(Bound::unbind) };
        Ok(Long { future, manager: self.manager.clone().unbind(), given, _kept: kept })
    }
}

/// The guards, and the keys that a best-effort batch did not get, with exceptions.
fn to_python<'py>(
    py: Python<'py>,
    batch: LockBatch<'_>,
    manager: &Py<LockManager>,
    given: &Given,
) -> PyResult<Bound<'py, PyAny>> {
    let as_given = |key: &keylatch::ObjectKey| -> PyResult<(usize, Bound<'py, PyAny>)> {
        let key = key::to_python(py, key)?;
        given.keys.bind(py).get_item(&key)?.map_or(Ok((usize::MAX, key)), |given| given.extract())
    };
    let missing = PyList::empty(py);
    for (key, why) in batch.missing() {
        missing.append((as_given(key)?.1, to_exception(py, why).into_value(py)))?;
    }
    let owner = given.owner.as_ref().map_or(null_mut(), Py::as_ptr);
    let mut guards = Vec::with_capacity(batch.len());
    for hold in batch.into_guards() {
        let (position, key) = as_given(&hold.key())?;
        let guard = guard::from_answer(py, Ok(hold), manager.as_ptr(), key.as_ptr(), owner)?;
        // SAFETY: a new reference.
        guards.push((position, unsafe { Bound::from_owned_ptr(py, guard) }));
    }
    guards.sort_by_key(|(position, _)| *position);
    let guards = PyList::new(py, guards.into_iter().map(|(_, guard)| guard))?;
    Ok((guards, missing).into_pyobject(py)?.into_any())
}

/// Enters the guards of a batch that are held, and returns how many those are.
#[pyfunction]
pub(crate) fn enter_all(py: Python<'_>, guards: &Bound<'_, PyTuple>) -> PyResult<usize> {
    let mut held = 0;
    for guard in guards.iter_borrowed() {
        if let Some(guard) = GuardObject::from_object(&guard).filter(|guard| !guard.is_released()) {
            guard.enter_block(py)?;
            held += 1;
        }
    }
    Ok(held)
}

/// Releases the guards of a batch that are held, the last one first.
///
/// Tries all of them, then raises the first exception.
#[pyfunction]
pub(crate) fn release_all(py: Python<'_>, guards: &Bound<'_, PyTuple>) -> PyResult<()> {
    let mut lost = Ok(());
    for position in (0..guards.len()).rev() {
        let guard = guards.get_borrowed_item(position)?;
        if let Some(guard) = GuardObject::from_object(&guard) {
            match guard.let_go() {
                LetGo::Released | LetGo::NotHeld => {}
                other => lost = other.into_result(py, guard),
            }
        }
    }
    lost
}
