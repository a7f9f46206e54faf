//! Holds, waits and what follows from them, as the dataclasses that show them to Python, and the filters that ask for them.

use crate::classes::{class, mode_to_python};
use crate::errors::cycle_to_python;
use crate::key::{self, AskedKey};
use crate::numbers::{Seconds, Text, argument};
use crate::owner::AskedOwner;
use keylatch::tier::RemoteHold;
use keylatch::{
    BlockingChain, ChainLink, Cycle, Filter, HolderInfo, LockOrderLink, LockOrderReport, LockOrderReports, Mode,
    TopKey, WaiterInfo,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

/// A filter from the arguments that were given by name.
pub(crate) fn filter(asked: &Bound<'_, PyDict>) -> PyResult<Filter> {
    let mut filter = Filter::new();
    for (name, value) in asked {
        if value.is_none() {
            continue;
        }
        filter = match name.cast::<PyString>()?.to_str()? {
            "bucket" => filter.bucket(key::part_bytes("bucket", &value)?),
            "key" => filter.key(AskedKey::of(&value)?.as_ref()),
            "prefix" => filter.prefix(key::part_bytes("prefix", &value)?),
            "owner" => {
                let owner = AskedOwner::of(value.as_borrowed())?;
                let name = owner.name(value.py()).map(|name| crate::numbers::text_of(&name)).unwrap_or_default();
                if owner.session().is_some() { filter.session(name) } else { filter.owner(name) }
            }
            "sessions" => {
                if value.is_truthy()? {
                    filter.sessions()
                } else {
                    filter
                }
            }
            "all" => Filter::all(),
            "source" => filter.source(argument::<Text>("a source", "a str", value.as_borrowed())?.0),
            "mode" => filter.mode(mode_of(&value)?),
            "older_than" => filter.older_than(
                argument::<Seconds>("older_than", "a number of seconds", value.as_borrowed())?
                    .required("older_than")?,
            ),
            other => {
                return Err(PyTypeError::new_err(format!(
                    "there is no condition {other:?}: they are bucket, key, prefix, owner, sessions, source, mode, older_than"
                )));
            }
        };
    }
    Ok(filter)
}

fn mode_of(mode: &Bound<'_, PyAny>) -> PyResult<Mode> {
    match argument::<Text>("a mode", "a Mode or a str", mode.as_borrowed())?.0.as_str() {
        "shared" => Ok(Mode::Shared),
        "exclusive" => Ok(Mode::Exclusive),
        other => Err(PyValueError::new_err(format!("a mode is \"shared\" or \"exclusive\", not {other:?}"))),
    }
}

pub(crate) fn holder<'py>(py: Python<'py>, info: &HolderInfo) -> PyResult<Bound<'py, PyAny>> {
    class(py, "HolderInfo")?.call1((
        key::to_python(py, &info.key)?,
        mode_to_python(py, info.mode)?,
        &*info.owner,
        info.source,
        info.session,
        info.priority,
        info.held_for.as_secs_f64(),
        info.lease.map(|left| left.as_secs_f64()),
        info.fence,
        info.grant.to_raw(),
        info.in_lock_delay,
        info.to_string(),
    ))
}

pub(crate) fn holders<'py>(py: Python<'py>, infos: &[HolderInfo]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, infos.iter().map(|info| holder(py, info)).collect::<PyResult<Vec<_>>>()?)
}

fn waiter<'py>(py: Python<'py>, info: &WaiterInfo) -> PyResult<Bound<'py, PyAny>> {
    class(py, "WaiterInfo")?.call1((
        key::to_python(py, &info.key)?,
        mode_to_python(py, info.mode)?,
        &*info.owner,
        info.source,
        info.session,
        info.priority,
        info.waited.as_secs_f64(),
        info.upgrade,
        info.position,
        info.to_string(),
    ))
}

pub(crate) fn waiters<'py>(py: Python<'py>, infos: &[WaiterInfo]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, infos.iter().map(|info| waiter(py, info)).collect::<PyResult<Vec<_>>>()?)
}

pub(crate) fn tier_holds<'py>(py: Python<'py>, holds: &[RemoteHold]) -> PyResult<Bound<'py, PyList>> {
    let one = |hold: &RemoteHold| {
        class(py, "TierHold")?.call1((
            key::to_python(py, &hold.key)?,
            mode_to_python(py, hold.mode)?,
            hold.waits,
            &*hold.process,
            &*hold.owner,
            hold.since.map(|since| since.as_secs_f64()),
            hold.own,
            hold.to_string(),
        ))
    };
    PyList::new(py, holds.iter().map(one).collect::<PyResult<Vec<_>>>()?)
}

pub(crate) fn chain<'py>(py: Python<'py>, chain: &BlockingChain) -> PyResult<Bound<'py, PyAny>> {
    let link = |link: &ChainLink| {
        class(py, "ChainLink")?.call1((
            key::to_python(py, &link.key)?,
            link.waiter.as_ref().map(|info| waiter(py, info)).transpose()?,
            holders(py, &link.holders)?.to_tuple(),
            link.after,
        ))
    };
    let links = PyTuple::new(py, chain.links.iter().map(link).collect::<PyResult<Vec<_>>>()?)?;
    let running = holders(py, &chain.running)?.to_tuple();
    class(py, "BlockingChain")?.call1((links, running, chain.circle, chain.to_string()))
}

pub(crate) fn top<'py>(py: Python<'py>, keys: &[TopKey]) -> PyResult<Bound<'py, PyList>> {
    let key = |top: &TopKey| {
        class(py, "TopKey")?.call1((
            key::to_python(py, &top.key)?,
            top.holder.as_ref().map(|info| holder(py, info)).transpose()?,
            top.waiters,
            top.longest_wait.as_secs_f64(),
        ))
    };
    PyList::new(py, keys.iter().map(key).collect::<PyResult<Vec<_>>>()?)
}

/// A `keylatch.LockOrderReport`.
pub(crate) fn lock_order<'py>(py: Python<'py>, report: &LockOrderReport) -> PyResult<Bound<'py, PyAny>> {
    let link = |link: &LockOrderLink| {
        class(py, "LockOrderLink")?.call1((
            &*link.session,
            link.source,
            key::to_python(py, &link.held)?,
            mode_to_python(py, link.held_mode)?,
            key::to_python(py, &link.wanted)?,
            mode_to_python(py, link.wanted_mode)?,
            link.at.as_secs_f64(),
            link.to_string(),
        ))
    };
    let links = PyTuple::new(py, report.links.iter().map(link).collect::<PyResult<Vec<_>>>()?)?;
    class(py, "LockOrderReport")?.call1((report.at.as_secs_f64(), links, report.to_string()))
}

pub(crate) fn lock_orders<'py>(py: Python<'py>, found: &LockOrderReports) -> PyResult<Bound<'py, PyAny>> {
    let reports = found.reports.iter().map(|report| lock_order(py, report)).collect::<PyResult<Vec<_>>>()?;
    class(py, "LockOrderReports")?.call1((PyTuple::new(py, reports)?, found.reported, found.orders, found.forgotten))
}

pub(crate) fn deadlocks<'py>(py: Python<'py>, cycles: &[Cycle]) -> PyResult<Bound<'py, PyList>> {
    let one = |found: &Cycle| {
        let links = cycle_to_python(py, &found.links)?;
        class(py, "Deadlock")?.call1((found.at.as_secs_f64(), &*found.victim, links, found.to_string()))
    };
    PyList::new(py, cycles.iter().map(one).collect::<PyResult<Vec<_>>>()?)
}
