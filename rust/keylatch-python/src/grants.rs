//! Locks as numbers, for programs that keep them beyond an object: a service, a table of their own.

use crate::errors::OrRaise;
use crate::guard;
use crate::key::{self, AskedKey};
use crate::manager::LockManager;
use crate::numbers::Whole;
use crate::request::{Asked, Timeout};
use crate::wait::{sleep_until, wait_for};
use keylatch::{Grant, LockError, LockRequest, NumberedRequest};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::ptr::null_mut;
use std::time::Instant;

/// A grant from a caller's number, which may be any number.
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
    let mut request = asked.request(&key, manager.id());
    let locks = manager.locks();
    let numbered = request_id.map(|number| request.request_id(number));
    if !asked.wait {
        return Ok(locks.lock(numbered.unwrap_or(request)).grant_now().or_raise(py)?.to_raw());
    }
    let mut turn = None;
    if let Some(numbered) = numbered {
        let began = Instant::now();
        match turn_of(py, manager, &numbered, asked.timeout)? {
            (NumberedRequest::Answered(grant), _) => return Ok(grant.to_raw()),
            (NumberedRequest::First(first), deadline) => {
                turn = Some(first);
                // What is left of the time is for its own wait.
                request = deadline.map_or(request, |deadline| request.deadline(deadline));
            }
            (NumberedRequest::Repeated(_), _) => {
                // The time is over. Once more: the first one may have ended in this moment.
                return match locks.lock(numbered).grant_now() {
                    Err(LockError::WouldBlock { key, holders }) => {
                        Err(LockError::Timeout { key, waited: began.elapsed(), holders }).or_raise(py)
                    }
                    answer => Ok(answer.or_raise(py)?.to_raw()),
                };
            }
        }
    }
    let held = match manager.ask(request) {
        Ok(held) => held,
        Err(future) => wait_for(py, future)?,
    };
    let grant = held.or_raise(py)?.into_grant();
    if let Some(turn) = turn {
        turn.answer(grant);
    }
    Ok(grant.to_raw())
}

/// Decides what to do about a numbered request after the same one, made earlier.
///
/// Waits until that one has ended and returns by when this one has to end; `Repeated` if the time is over first.
fn turn_of(
    py: Python<'_>,
    manager: &LockManager,
    numbered: &LockRequest<'_>,
    timeout: Timeout,
) -> PyResult<(NumberedRequest, Option<Instant>)> {
    let locks = manager.locks();
    let mut begun = locks.begin_numbered(numbered).or_raise(py)?;
    if !matches!(begun, NumberedRequest::Repeated(_)) {
        return Ok((begun, None));
    }
    let patience = if let Timeout::Default = timeout { locks.default_timeout() } else { timeout.as_duration() };
    let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
    while let NumberedRequest::Repeated(first) = &begun {
        if !sleep_until(py, deadline, |moment| first.is_over_by(moment))? {
            break;
        }
        begun = locks.begin_numbered(numbered).or_raise(py)?;
    }
    Ok((begun, deadline))
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
