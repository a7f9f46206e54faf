//! Answers, events and errors of claims as Python has them. The classes are Python's own, in `keylatch._claim_types` and
//! `keylatch._claim_exceptions`.

use crate::classes::module;
use crate::key;
use keylatch::claim::{
    ClaimAnswer, ClaimChange, ClaimError, ClaimFailure, ClaimNotice, ClaimOutcome, ClaimOwned, ClaimRequestId,
    ClaimSnapshot,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule, PyTuple};

static TYPES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
static EXCEPTIONS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    module(py, &TYPES, "keylatch._claim_types")?.getattr(name)
}

/// An answer; a `ClaimGrant` stands for `Yours`, which the Python half makes.
pub(crate) fn answer<'py>(py: Python<'py>, answer: &ClaimAnswer) -> PyResult<Bound<'py, PyAny>> {
    match answer {
        ClaimAnswer::Waiting { ahead } => class(py, "Waiting")?.call1((ahead,)),
        ClaimAnswer::Yours(owned) => grant(py, owned),
        ClaimAnswer::Done(done) => class(py, "Done")?.call1((outcome(py, done)?,)),
        ClaimAnswer::Ended(result) => {
            class(py, "Ended")?.call1((result.is_ok(), &**result.as_ref().unwrap_or_else(|reason| reason)))
        }
        ClaimAnswer::Lost(loss) => class(py, "Lost")?.call1((loss.word(), loss.to_string())),
        ClaimAnswer::Skipped { owner } => class(py, "Skipped")?.call1((owner.as_deref(),)),
        ClaimAnswer::Superseded { .. } => class(py, "Superseded")?.call0(),
        ClaimAnswer::Cancelled { grant } => class(py, "Cancelled")?.call1((grant.map(|grant| grant.fence),)),
    }
}

fn grant<'py>(py: Python<'py>, owned: &ClaimOwned) -> PyResult<Bound<'py, PyAny>> {
    class(py, "ClaimGrant")?.call1((owned.grant.epoch, owned.grant.fence, owned.attempt, owned.first_in_epoch))
}

fn outcome<'py>(py: Python<'py>, outcome: &ClaimOutcome) -> PyResult<Bound<'py, PyAny>> {
    let text = outcome.result.as_ref().unwrap_or_else(|reason| reason);
    class(py, "ClaimOutcome")?.call1((
        outcome.result.is_ok(),
        &**text,
        &*outcome.owner,
        outcome.attempt,
        outcome.grant.fence,
    ))
}

fn request<'py>(py: Python<'py>, request: ClaimRequestId) -> PyResult<Bound<'py, PyAny>> {
    class(py, "ClaimRequest")?.call1((request.session.to_string(), request.number))
}

/// A `ClaimSnapshot`.
pub(crate) fn snapshot<'py>(py: Python<'py>, snapshot: &ClaimSnapshot) -> PyResult<Bound<'py, PyAny>> {
    let owner = snapshot.owner.as_ref().map(|owner| {
        class(py, "ClaimOwner")?.call1((
            &*owner.name,
            request(py, owner.request)?,
            grant(py, &owner.owned)?,
            class(py, "ClaimProgress")?.call1((owner.progress.done, owner.progress.total, &*owner.progress.address))?,
        ))
    });
    let waiting = snapshot
        .waiting
        .iter()
        .map(|place| class(py, "ClaimPlace")?.call1((&*place.name, request(py, place.request)?, place.dormant)));
    class(py, "ClaimSnapshot")?.call1((
        key::to_python(py, &snapshot.resource)?,
        owner.transpose()?,
        PyTuple::new(py, waiting.collect::<PyResult<Vec<_>>>()?)?,
        snapshot.more_waiting,
        snapshot.outcome.as_ref().map(|done| outcome(py, done)).transpose()?,
    ))
}

/// One of the event classes of `keylatch.claims`.
pub(crate) fn notice<'py>(py: Python<'py>, notice: &ClaimNotice) -> PyResult<Bound<'py, PyAny>> {
    let event = match notice {
        ClaimNotice::Reset { id, snapshot: state } => {
            return class(py, "ClaimReset")?.call1((id.to_string(), snapshot(py, state)?));
        }
        ClaimNotice::Event(event) => event,
    };
    let id = event.id.to_string();
    match &event.change {
        ClaimChange::Granted { request: whose, owner, owned } => {
            class(py, "ClaimGranted")?.call1((id, request(py, *whose)?, &**owner, grant(py, owned)?))
        }
        ClaimChange::Failed { fence, reason, next, retry_after } => {
            let word = match reason {
                ClaimFailure::Reported(_) => "reported",
                ClaimFailure::Lost(loss) => loss.word(),
                ClaimFailure::Cancelled => "cancelled",
            };
            let next = next.map(|next| request(py, next)).transpose()?;
            class(py, "ClaimFailure")?.call1((id, fence, word, reason.to_string(), next, retry_after.as_secs_f64()))
        }
        ClaimChange::Done { outcome: done } => class(py, "ClaimDone")?.call1((id, outcome(py, done)?)),
        ClaimChange::Progress { fence, progress } => {
            let progress = class(py, "ClaimProgress")?.call1((progress.done, progress.total, &*progress.address))?;
            class(py, "ClaimProgressed")?.call1((id, fence, progress))
        }
        ClaimChange::Forgotten => class(py, "ClaimForgotten")?.call1((id,)),
    }
}

fn make<'py>(py: Python<'py>, error: &ClaimError) -> PyResult<Bound<'py, PyAny>> {
    let details = PyDict::new(py);
    let class = match error {
        ClaimError::EpochChanged { epoch } => {
            details.set_item("epoch", epoch)?;
            "EpochChanged"
        }
        ClaimError::SessionGone => "SessionGone",
        ClaimError::StaleRequest { settled_below } => {
            details.set_item("settled_below", settled_below)?;
            "StaleRequest"
        }
        ClaimError::NumberInUse => "NumberInUse",
        ClaimError::NotYours { .. } => "NotYours",
        ClaimError::TooManyOpen { limit } => {
            details.set_item("limit", limit)?;
            "TooManyOpen"
        }
        ClaimError::LineFull { limit } => {
            details.set_item("limit", limit)?;
            "LineFull"
        }
        ClaimError::TooManySessions { limit } => {
            details.set_item("limit", limit)?;
            "TooManyClaimants"
        }
        ClaimError::TooLong { what: "key", bytes, limit } => {
            details.set_item("bytes", bytes)?;
            details.set_item("limit", limit)?;
            "InvalidKey"
        }
        ClaimError::TooLong { .. } => "TextTooLong",
        ClaimError::InvalidTtl { .. } => {
            details.set_item("setting", "ttl")?;
            "InvalidConfig"
        }
        ClaimError::InvalidConfig { setting, .. } => {
            details.set_item("setting", setting)?;
            "InvalidConfig"
        }
        ClaimError::Timeout { waited } => {
            details.set_item("waited", waited.as_secs_f64())?;
            "ClaimTimeout"
        }
        ClaimError::Closed => "Closed",
        ClaimError::Forked => "Forked",
        _ => "ClaimError",
    };
    details.set_item("code", error.code())?;
    details.set_item("transient", error.is_transient())?;
    let class = module(py, &EXCEPTIONS, "keylatch._claim_exceptions")?.getattr(class)?;
    let exception = class.call1((error.to_string(),))?;
    exception.getattr("__dict__")?.cast_into::<PyDict>()?.update(details.as_mapping())?;
    Ok(exception)
}

/// An error on its way to Python.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for Result<T, ClaimError> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| make(py, &error).map_or_else(|why| why, PyErr::from_value))
    }
}
