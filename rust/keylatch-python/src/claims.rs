//! Claims: the compiled half of `keylatch.claims`, whose Python half keeps the numbers and makes the guards.

use crate::claim_types::{self, OrRaise};
use crate::claim_watch::ClaimWatch;
use crate::fork::Process;
use crate::key::AskedKey;
use crate::numbers::{Seconds, Text, Whole, argument};
use crate::pending::Pending;
use crate::request::{Timeout, ttl_of};
use crate::wait::wait_for;
use keylatch::claim::{
    ClaimConfig, ClaimEventId, ClaimLine, ClaimOwned, ClaimPolicy, ClaimSessionOptions, ClaimWhenTaken, PendingClaim,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// What `keylatch.claims.Claims` is made of.
#[pyclass(frozen, module = "keylatch._keylatch")]
pub(crate) struct Claims {
    claims: keylatch::claim::Claims,
    process: Process,
}

/// What `keylatch.claims.Claimant` is made of.
///
/// Dropping it ends what it waits for and what it owns.
#[pyclass(frozen, module = "keylatch._keylatch")]
pub(crate) struct Claimant {
    owner: keylatch::claim::ClaimOwner,
    process: Process,
}

#[pymethods]
impl Claims {
    #[new]
    #[pyo3(signature = (**settings))]
    fn new(py: Python<'_>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut config = ClaimConfig::default();
        for (name, value) in settings.into_iter().flatten() {
            let name = name.cast::<PyString>()?.to_str()?.to_owned();
            let count = || -> PyResult<usize> { argument::<Whole>(&name, "an int", value.as_borrowed())?.count(&name) };
            let seconds = || -> PyResult<Duration> {
                argument::<Seconds>(&name, "a number of seconds", value.as_borrowed())?.required(&name)
            };
            match &*name {
                "retain_for" => config.retain_for = seconds()?,
                "retain_count" => config.retain_count = count()?,
                "ring" => config.ring = count()?,
                "max_claimants" => config.max_sessions = count()?,
                "max_open" => config.max_open = count()?,
                "max_waiters" => config.max_waiters = count()?,
                "max_text_bytes" => config.max_text_bytes = count()?,
                "max_key_bytes" => config.max_key_bytes = count()?,
                "max_ttl" => config.max_ttl = seconds()?,
                other => {
                    let problem = format!("Claims() got an unexpected keyword argument {other:?}");
                    return Err(PyTypeError::new_err(problem));
                }
            }
        }
        let claims = keylatch::claim::Claims::with_config(config).or_raise(py)?;
        Ok(Self { claims, process: Process::this() })
    }

    /// Makes a claimant, which has to be renewed within its ttl if it has one.
    fn claimant(&self, py: Python<'_>, name: Text, ttl: &Bound<'_, PyAny>) -> PyResult<Claimant> {
        self.process.check(py)?;
        let options = ClaimSessionOptions { owner: name.0.into(), ttl: ttl_of(ttl)?, ..ClaimSessionOptions::default() };
        let owner = self.claims.owner_with(&options).or_raise(py)?;
        Ok(Claimant { owner, process: self.process })
    }

    /// Waits for the answer.
    fn claim<'py>(
        &self,
        py: Python<'py>,
        resource: &Bound<'py, PyAny>,
        claimant: &Claimant,
        number: u64,
        policy: &Bound<'py, PyAny>,
        timeout: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let pending = self.pending(py, resource, (claimant, number), policy, Timeout::of(timeout)?)?;
        let answer = wait_for(py, pending.into_future())?.or_raise(py)?;
        claim_types::answer(py, &answer)
    }

    /// The same, for an event loop to wait for.
    fn begin_claim(
        &self,
        py: Python<'_>,
        resource: &Bound<'_, PyAny>,
        claimant: &Claimant,
        number: u64,
        policy: &Bound<'_, PyAny>,
        timeout: &Bound<'_, PyAny>,
    ) -> PyResult<Pending> {
        let pending = self.pending(py, resource, (claimant, number), policy, Timeout::of(timeout)?)?;
        let mut future = pending.into_future();
        Ok(Pending::new(move |py, context| {
            let Poll::Ready(answer) = Pin::new(&mut future).poll(context) else { return Poll::Pending };
            Poll::Ready(answer.or_raise(py).and_then(|answer| claim_types::answer(py, &answer)).map(Bound::unbind))
        }))
    }

    /// Asks without waiting.
    fn claim_now<'py>(
        &self,
        py: Python<'py>,
        resource: &Bound<'py, PyAny>,
        claimant: &Claimant,
        number: u64,
        policy: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let answer = self.pending(py, resource, (claimant, number), policy, Timeout::Default)?.now().or_raise(py)?;
        claim_types::answer(py, &answer)
    }

    /// Completes the work: with a note as its success, or the reason of its failure.
    fn complete<'py>(
        &self,
        py: Python<'py>,
        claimant: &Claimant,
        work: (u64, u64),
        succeeded: bool,
        text: Text,
    ) -> PyResult<Bound<'py, PyAny>> {
        let work = self.work(py, claimant, work)?;
        let result = if succeeded { Ok(&*text.0) } else { Err(&*text.0) };
        claim_types::answer(py, &self.claims.complete(work, result).or_raise(py)?)
    }

    fn progress(
        &self,
        py: Python<'_>,
        claimant: &Claimant,
        work: (u64, u64),
        units: (u64, u64),
        address: Text,
    ) -> PyResult<()> {
        let work = self.work(py, claimant, work)?;
        self.claims.progress(work, units.0, units.1, &address.0).or_raise(py)
    }

    fn renew(&self, py: Python<'_>, claimant: &Claimant, work: (u64, u64), ttl: &Bound<'_, PyAny>) -> PyResult<()> {
        let work = self.work(py, claimant, work)?;
        let ttl = argument::<Seconds>("a ttl", "a number of seconds", ttl.as_borrowed())?.lease()?;
        self.claims.renew(work, ttl).or_raise(py)
    }

    /// How many seconds the grant's lease lasts; None if it has none.
    fn remaining(&self, py: Python<'_>, claimant: &Claimant, work: (u64, u64)) -> PyResult<Option<f64>> {
        let work = self.work(py, claimant, work)?;
        Ok(self.claims.remaining(work).or_raise(py)?.map(|remaining| remaining.as_secs_f64()))
    }

    fn cancel<'py>(&self, py: Python<'py>, claimant: &Claimant, number: u64) -> PyResult<Bound<'py, PyAny>> {
        self.process.check(py)?;
        claim_types::answer(py, &self.claims.cancel(claimant.owner.request(number)).or_raise(py)?)
    }

    /// Whether the resource had an owner.
    fn force_release(&self, py: Python<'_>, resource: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.process.check(py)?;
        let resource = AskedKey::of(resource)?;
        Ok(self.claims.force_release(resource.as_ref()).or_raise(py)?.is_some())
    }

    /// Whether an outcome was retained.
    fn forget(&self, py: Python<'_>, resource: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.process.check(py)?;
        let resource = AskedKey::of(resource)?;
        self.claims.forget(resource.as_ref()).or_raise(py)
    }

    fn snapshot<'py>(&self, py: Python<'py>, resource: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.process.check(py)?;
        let resource = AskedKey::of(resource)?;
        claim_types::snapshot(py, &self.claims.snapshot(resource.as_ref()).or_raise(py)?)
    }

    /// Claimants, resources, requests in line, resources with an owner.
    fn figures(&self, py: Python<'_>) -> PyResult<(usize, usize, usize, usize)> {
        self.process.check(py)?;
        let figures = self.claims.figures().or_raise(py)?;
        Ok((figures.sessions, figures.resources, figures.waiting, figures.owned))
    }

    /// The events after the one that was seen last: its epoch and sequence.
    fn watch(&self, py: Python<'_>, resource: &Bound<'_, PyAny>, last: Option<(u64, u64)>) -> PyResult<ClaimWatch> {
        self.process.check(py)?;
        let resource = AskedKey::of(resource)?;
        let last = last.map(|(epoch, sequence)| ClaimEventId { epoch, sequence });
        Ok(ClaimWatch::new(self.claims.watch(resource.as_ref(), last).or_raise(py)?, self.process))
    }

    fn close(&self) {
        if !self.process.is_forked() {
            self.claims.close();
        }
    }

    #[getter]
    fn closed(&self) -> bool {
        self.process.is_forked() || self.claims.is_closed()
    }
}

impl Claims {
    fn pending(
        &self,
        py: Python<'_>,
        resource: &Bound<'_, PyAny>,
        (claimant, number): (&Claimant, u64),
        policy: &Bound<'_, PyAny>,
        timeout: Timeout,
    ) -> PyResult<PendingClaim> {
        self.process.check(py)?;
        let (resource, policy) = (AskedKey::of(resource)?, policy_of(policy)?);
        let pending = self.claims.claim(resource.as_ref(), &claimant.owner, number).policy(policy);
        Ok(match timeout.as_duration() {
            Some(timeout) => pending.timeout(timeout),
            None => pending,
        })
    }

    /// What a claimant owns: the request's number and the grant's fence.
    fn work(&self, py: Python<'_>, claimant: &Claimant, (number, fence): (u64, u64)) -> PyResult<ClaimOwned> {
        self.process.check(py)?;
        Ok(claimant.owner.owned(number, fence))
    }
}

/// From a `keylatch.claims.ClaimPolicy`.
fn policy_of(policy: &Bound<'_, PyAny>) -> PyResult<ClaimPolicy> {
    let named = |name: &str| policy.getattr(name);
    let whole = |name: &str| -> PyResult<Option<Whole>> {
        let value = named(name)?;
        if value.is_none() {
            return Ok(None);
        }
        argument(name, "an int or None", value.as_borrowed()).map(Some)
    };
    let max_attempts = whole("max_attempts")?;
    let max_attempts = max_attempts.map(|most| most.within("max_attempts", &(1..=u64::from(u32::MAX)))).transpose()?;
    let retry_after = named("retry_after")?;
    let retry_after = argument::<Seconds>("retry_after", "a number of seconds", retry_after.as_borrowed())?;
    let is_set = |name: &str| named(name)?.is_truthy();
    Ok(ClaimPolicy {
        max_attempts: max_attempts.map(|most| most as u32),
        retry_after: retry_after.required("retry_after")?,
        when_taken: if is_set("skip_if_claimed")? { ClaimWhenTaken::Skip } else { ClaimWhenTaken::Wait },
        line: if is_set("latest_only")? { ClaimLine::LatestOnly } else { ClaimLine::All },
        max_waiting: whole("max_waiting")?.map(|most| most.count("max_waiting")).transpose()?,
        lease: ttl_of(&named("ttl")?)?,
    })
}

#[pymethods]
impl Claimant {
    /// Its session's epoch and number.
    #[getter]
    fn session(&self) -> (u64, u64) {
        let session = self.owner.session();
        (session.epoch, session.number)
    }

    fn settle_below(&self, number: u64) {
        self.owner.settle_below(number);
    }

    fn renew(&self, py: Python<'_>) -> PyResult<()> {
        self.process.check(py)?;
        self.owner.renew().or_raise(py)
    }

    fn end(&self) {
        if !self.process.is_forked() {
            self.owner.end();
        }
    }
}
