//! Locks as numbers, for programs that keep them beyond an object: a service, a table of their own.

use crate::acquire::ask;
use crate::errors::OrRaise;
use crate::guard;
use crate::key::{self, AskedKey};
use crate::manager::LockManager;
use crate::numbers::Whole;
use crate::request::Asked;
use crate::wait::wait_for;
use keylatch::{Grant, LockError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::ptr::null_mut;

/// A grant from a number that somebody was told, which may be any number.
pub(crate) fn grant_of(py: Python<'_>, number: &Whole) -> PyResult<Grant> {
    match number {
        Whole::Of(grant) => Grant::from_raw(*grant).ok_or(LockError::NotHeld { grant: *grant }).or_raise(py),
        Whole::Beyond(shown) => Err(guard::is_not_held(py, &format!("no grant has the number {shown}"))),
    }
}

/// Takes the lock that was asked for.
pub(crate) fn take(
    py: Python<'_>,
    manager: &LockManager,
    asked: &Asked<'_, '_>,
    request_id: Option<u64>,
) -> PyResult<u64> {
    let key = AskedKey::of(&asked.key)?;
    let request = asked.request(&key, manager.id());
    if request_id.is_some() || !asked.wait {
        let numbered = request_id.map_or(request, |number| request.request_id(number));
        match manager.locks().lock(numbered).grant_now() {
            Err(LockError::WouldBlock { .. }) if asked.wait => {}
            answer => return Ok(answer.or_raise(py)?.to_raw()),
        }
    }
    let held = match ask(manager, request) {
        Ok(held) => held,
        Err(future) => wait_for(py, future)?,
    };
    let grant = held.or_raise(py)?.into_grant();
    if let (Some(number), Some(session)) = (request_id, asked.owner.session()) {
        session.answered(number, grant);
    }
    Ok(grant.to_raw())
}

/// A guard for a lock that was a number.
pub(crate) fn adopt<'py>(manager: &Bound<'py, LockManager>, grant: &Whole) -> PyResult<Bound<'py, PyAny>> {
    let (py, locks) = (manager.py(), manager.get().locks());
    let hold = locks.adopt(grant_of(py, grant)?).or_raise(py)?;
    let (key, owner) = (key::to_python(py, &hold.key())?, hold.owner());
    let owner = (!owner.is_empty()).then(|| PyString::new(py, &owner));
    let owner = owner.as_ref().map_or(null_mut(), |owner| owner.as_ptr());
    let guard = guard::from_answer(py, Ok(hold), manager.as_ptr(), key.as_ptr(), owner)?;
    // SAFETY: a new reference.
    Ok(unsafe { Bound::from_owned_ptr(py, guard) })
}
