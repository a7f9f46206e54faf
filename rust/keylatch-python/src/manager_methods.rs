//! What a manager can do, without the verbs of the fast path, which are in `acquire`.

use crate::errors::OrRaise;
use crate::events::Subscription;
use crate::key::AskedKey;
use crate::manager::LockManager;
use crate::numbers::{Seconds, Text, Whole, text_of};
use crate::owner::{AskedOwner, Owner, source_of};
use crate::pending::Pending;
use crate::request::{Asked, Timeout, priority_from, ttl_of};
use crate::session::Session;
use crate::{batch, figures, grants, listed, setting, settings};
use keylatch::{EventOptions, Grant, TopBy};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

#[pymethods]
impl LockManager {
    #[new]
    #[pyo3(
        signature = (**settings),
        text_signature = "(*, fairness='eventual', eventual_after=0.0005, default_timeout=None, shards=1024, \
            max_locks=None, max_waiters=1048576, max_key_bytes=8192, overtake_limit=64, reentrancy='deny', \
            deadlock_delay=0.05, victim='asker', lock_delay=0.0, adaptive=None, lock_order_lint=False, \
            reader_slots=True, health_window=60.0, shared_memory=None, etcd=None, etcd_options=None)"
    )]
    fn from_settings(py: Python<'_>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let (locks, remote) = settings::manager(settings)?.or_raise(py)?;
        Ok(Self::new(locks, remote))
    }

    /// An owner by name, for many requests, which then need no look-up.
    ///
    /// source says where in the program it comes from, for listings.
    #[pyo3(signature = (name, *, source = Text::default()), text_signature = "($self, name, *, source='')")]
    fn owner(&self, name: &Bound<'_, PyString>, source: Text) -> PyResult<Owner> {
        let (source, locks) = (source_of(&source.0), self.own_locks(name.py())?);
        Ok(Owner::new(locks.owner_with_source(&text_of(name), source), name, source, self.id()))
    }

    /// Begin a session: an owner that is one logical thread of control; see Session.
    ///
    /// A transaction is an example.
    ///
    /// source says where in the program it comes from, for listings.
    #[pyo3(signature = (name, *, source = Text::default()), text_signature = "($self, name, *, source='')")]
    fn session(&self, name: &Bound<'_, PyAny>, source: Text) -> PyResult<Session> {
        let name = name.cast::<PyString>().map_err(|_| {
            let kind = name.get_type().name().map_or_else(|_| "that".into(), |kind| kind.to_string());
            PyTypeError::new_err(format!("the name of a session is a str, not {kind}"))
        })?;
        Ok(Session::begin(self.own_locks(name.py())?, name, source_of(&source.0), self.id()))
    }

    /// Takes many locks, and returns the guards and what was not had.
    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (exclusive, shared, owner, timeout, ttl, priority, best_effort))]
    fn _lock_many<'py>(
        slf: &Bound<'py, Self>,
        exclusive: &Bound<'py, PyAny>,
        shared: &Bound<'py, PyAny>,
        owner: &Bound<'py, PyAny>,
        timeout: &Bound<'py, PyAny>,
        ttl: &Bound<'py, PyAny>,
        priority: &Bound<'py, PyAny>,
        best_effort: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().process().check(slf.py())?;
        batch::Asked::of(slf, exclusive, shared, owner, timeout, ttl, priority, best_effort)?.wait()
    }

    /// The same, for an event loop to wait for.
    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (exclusive, shared, owner, timeout, ttl, priority, best_effort))]
    fn _begin_lock_many<'py>(
        slf: &Bound<'py, Self>,
        exclusive: &Bound<'py, PyAny>,
        shared: &Bound<'py, PyAny>,
        owner: &Bound<'py, PyAny>,
        timeout: &Bound<'py, PyAny>,
        ttl: &Bound<'py, PyAny>,
        priority: &Bound<'py, PyAny>,
        best_effort: bool,
    ) -> PyResult<Pending> {
        slf.get().process().check(slf.py())?;
        batch::Asked::of(slf, exclusive, shared, owner, timeout, ttl, priority, best_effort)?.begin()
    }

    /// Tell whether a key is held at this moment, by whomever.
    ///
    /// It may be otherwise as soon as this returns: to lock, ask for the lock.
    ///
    /// >>> from keylatch import LockManager
    /// >>> locks = LockManager()
    /// >>> with locks.lock("cat.jpg"):
    /// ...     locks.locked("cat.jpg")
    /// True
    /// >>> locks.locked("cat.jpg")
    /// False
    fn locked(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (py, asked) = (key.py(), AskedKey::of(key)?);
        self.own_locks(py)?.is_locked(asked.as_ref()).or_raise(py)
    }

    /// The figures as a `dict` of what `keylatch.LockMetrics` is made of.
    fn _figures<'py>(&self, py: Python<'py>, per_shard: bool) -> PyResult<Bound<'py, PyDict>> {
        let locks = self.own_locks(py)?;
        let metrics = py.detach(|| locks.get_metrics());
        figures::metrics(py, &metrics, per_shard)
    }

    /// The verdict as a `dict` of what `keylatch.Health` is made of.
    fn _verdict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let locks = self.own_locks(py)?;
        let health = py.detach(|| locks.health());
        figures::health(py, &health)
    }

    /// Take a lock as lock() does, and return it as a number for release().
    ///
    /// Any thread may release it.
    ///
    /// A session's requests can be numbered: while the lock is held, the same request_id is answered with the same number
    /// again, for a caller that did not get the answer; while the first one waits, the others wait for its answer.
    ///
    /// >>> from keylatch import LockManager
    /// >>> locks = LockManager()
    /// >>> with locks.session("upload-4711") as session:
    /// ...     grant = locks.grant("cat.jpg", owner=session, request_id=1)
    /// ...     assert locks.grant("cat.jpg", owner=session, request_id=1) == grant
    /// ...     locks.release(grant)
    #[pyo3(signature = (
        key, *, shared = false, owner = None, timeout = None, ttl = None, priority = Whole::Of(0), wait = true,
        request_id = None
    ), text_signature = "($self, key, *, shared=False, owner=None, timeout=None, ttl=None, priority=0, wait=True, \
        request_id=None)")]
    #[allow(clippy::too_many_arguments)]
    fn grant(
        &self,
        key: &Bound<'_, PyAny>,
        shared: bool,
        owner: Option<Bound<'_, PyAny>>,
        timeout: Option<Bound<'_, PyAny>>,
        ttl: Option<Bound<'_, PyAny>>,
        priority: Whole,
        wait: bool,
        request_id: Option<Whole>,
    ) -> PyResult<u64> {
        let asked = Asked {
            key: key.as_borrowed(),
            shared,
            owner: owner.as_ref().map_or(Ok(AskedOwner::Unnamed), |owner| AskedOwner::asking(owner.as_borrowed()))?,
            timeout: timeout.as_ref().map_or(Ok(Timeout::Default), Timeout::of)?,
            ttl: ttl.as_ref().map_or(Ok(None), ttl_of)?,
            priority: priority_from(&priority)?,
            wait,
            renew: false,
        };
        let request_id = match request_id {
            Some(Whole::Beyond(shown)) => {
                return Err(setting::invalid(
                    key.py(),
                    "request_id",
                    format!("it is from 0 to {}, not {shown}", u64::MAX),
                ));
            }
            Some(Whole::Of(number)) => Some(number),
            None => None,
        };
        grants::take(key.py(), self, &asked, request_id)
    }

    /// Release a lock by its number. Never waits.
    ///
    /// Raises LeaseLost if its lease ran out and another caller took the lock; NotHeld if it was released before, taken
    /// away by force, made up, or another manager's. Nothing is released then.
    #[expect(clippy::needless_pass_by_value, reason = "as pyo3 calls it")]
    fn release(&self, py: Python<'_>, grant: Whole) -> PyResult<()> {
        self.own_locks(py)?.release(grants::grant_of(py, &grant)?).or_raise(py)
    }

    /// Turn the number of a lock back into a guard. Raises what release() does.
    #[expect(clippy::needless_pass_by_value, reason = "as pyo3 calls it")]
    fn adopt<'py>(slf: &Bound<'py, Self>, grant: Whole) -> PyResult<Bound<'py, PyAny>> {
        slf.get().process().check(slf.py())?;
        grants::adopt(slf, &grant)
    }

    /// Begin a lock's lease anew, from now, for ttl seconds; or begin one.
    ///
    /// Raises what release() does.
    #[expect(clippy::needless_pass_by_value, reason = "as pyo3 calls it")]
    fn renew(&self, py: Python<'_>, grant: Whole, ttl: Seconds) -> PyResult<()> {
        self.own_locks(py)?.renew(grants::grant_of(py, &grant)?, ttl.lease()?).or_raise(py)
    }

    /// For how many seconds a lock is safe from now on.
    ///
    /// 0.0 once its lease has run out, None if it has none.
    ///
    /// Raises what release() does.
    #[expect(clippy::needless_pass_by_value, reason = "as pyo3 calls it")]
    fn remaining(&self, py: Python<'_>, grant: Whole) -> PyResult<Option<f64>> {
        let left = self.own_locks(py)?.remaining(grants::grant_of(py, &grant)?).or_raise(py)?;
        Ok(left.map(|left| left.as_secs_f64()))
    }

    /// Whether a lock is held and, if it is a lease, safe at this moment.
    #[expect(clippy::needless_pass_by_value, reason = "as pyo3 calls it")]
    fn is_valid(&self, grant: Whole) -> bool {
        let Whole::Of(grant) = grant else { return false };
        Grant::from_raw(grant).is_some_and(|grant| self.locks().is_valid(grant))
    }

    /// Whether the exclusive hold with this fence number still has the key.
    ///
    /// >>> from keylatch import LockManager
    /// >>> locks = LockManager()
    /// >>> with locks.lock("cat.jpg") as guard:
    /// ...     fence = guard.fence
    /// ...     locks.is_current("cat.jpg", fence)
    /// True
    /// >>> locks.is_current("cat.jpg", fence)
    /// False
    #[expect(clippy::needless_pass_by_value, reason = "as pyo3 calls it")]
    fn is_current(&self, key: &Bound<'_, PyAny>, fence: Whole) -> PyResult<bool> {
        let (py, key, locks) = (key.py(), AskedKey::of(key)?, self.own_locks(key.py())?);
        match fence {
            Whole::Of(fence) => locks.is_current(key.as_ref(), fence).or_raise(py),
            Whole::Beyond(_) => Ok(false),
        }
    }

    fn _holders<'py>(&self, asked: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyList>> {
        let (py, filter) = (asked.py(), listed::filter(asked)?);
        let locks = self.own_locks(py)?;
        listed::holders(py, &py.detach(|| locks.holders(&filter)))
    }

    fn _waiters<'py>(&self, asked: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyList>> {
        let (py, filter) = (asked.py(), listed::filter(asked)?);
        let locks = self.own_locks(py)?;
        listed::waiters(py, &py.detach(|| locks.waiters(&filter)))
    }

    fn _force_release<'py>(&self, asked: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyList>> {
        let (py, filter) = (asked.py(), listed::filter(asked)?);
        let locks = self.own_locks(py)?;
        listed::holders(py, &py.detach(|| locks.force_release(&filter)))
    }

    fn _expire<'py>(&self, asked: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyList>> {
        let (py, filter) = (asked.py(), listed::filter(asked)?);
        let locks = self.own_locks(py)?;
        listed::holders(py, &py.detach(|| locks.expire(&filter)))
    }

    /// The chain before a key, or else before an owner.
    fn _blocking_chain<'py>(
        &self,
        py: Python<'py>,
        key: Option<Bound<'py, PyAny>>,
        owner: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let locks = self.own_locks(py)?;
        let chain = match (&key, &owner) {
            (Some(key), None) => {
                let key = AskedKey::of(key)?;
                let start = key.as_ref();
                py.detach(|| locks.blocking_chain(start))
            }
            (None, Some(owner)) => {
                let owner = AskedOwner::of(owner.as_borrowed())?;
                owner.check(py, self.id())?;
                let start = owner.as_ref(self.id());
                py.detach(|| locks.blocking_chain(start))
            }
            _ => return Err(PyTypeError::new_err("blocking_chain() takes a key, or an owner by name")),
        };
        listed::chain(py, &chain)
    }

    /// List what all processes hold and wait for, of one key or of all.
    ///
    /// It is for managers that share their keys by shared_memory or etcd, which it asks; holders() and waiters() know this process alone. A
    /// process keeps a key for a while after its last hold of it, and is listed for as long. Those that wait are listed
    /// with etcd. TierFailed for managers with neither, and if what it asks does not answer.
    ///
    /// >>> from keylatch import LockManager
    /// >>> import os, tempfile
    /// >>> with tempfile.TemporaryDirectory() as folder:
    /// ...     locks = LockManager(shared_memory=os.path.join(folder, "locks"))
    /// ...     with locks.lock("cat.jpg", owner="indexer"):
    /// ...         for hold in locks.tier_holds():
    /// ...             print(hold.key, hold.owner, hold.mode, hold.own)
    /// cat.jpg indexer exclusive True
    #[pyo3(signature = (key = None))]
    fn tier_holds<'py>(&self, py: Python<'py>, key: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyList>> {
        let locks = self.own_locks(py)?;
        let key = key.as_ref().map(AskedKey::of).transpose()?;
        let key = key.as_ref().map(AskedKey::as_ref);
        listed::tier_holds(py, &py.detach(|| locks.tier_holds(key)).or_raise(py)?)
    }

    #[expect(clippy::needless_pass_by_value, reason = "as pyo3 calls it")]
    fn _top<'py>(&self, py: Python<'py>, count: Whole, by: &str) -> PyResult<Bound<'py, PyList>> {
        let by = match by {
            "age" => TopBy::Age,
            "waiters" => TopBy::Waiters,
            other => return Err(PyValueError::new_err(format!("by is \"age\" or \"waiters\", not {other:?}"))),
        };
        let count = count.count("count")?;
        let locks = self.own_locks(py)?;
        listed::top(py, &py.detach(|| locks.top(count, by)))
    }

    fn _recent_deadlocks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let locks = self.own_locks(py)?;
        listed::deadlocks(py, &py.detach(|| locks.recent_deadlocks()))
    }

    fn _lock_order_reports<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let locks = self.own_locks(py)?;
        listed::lock_orders(py, &py.detach(|| locks.lock_order_reports()))
    }

    fn _subscribe(
        &self,
        py: Python<'_>,
        wait_above: Option<Seconds>,
        hold_above: Option<Seconds>,
        capacity: Whole,
    ) -> PyResult<Subscription> {
        let options = EventOptions {
            wait_above: wait_above.map(|time| time.required("wait_above")).transpose()?,
            hold_above: hold_above.map(|time| time.required("hold_above")).transpose()?,
            capacity: capacity.count("capacity")?,
        };
        let locks = self.own_locks(py)?;
        Ok(Subscription::new(py.detach(|| locks.subscribe(options)), self.process()))
    }

    /// The figures of all shards together as OpenMetrics text, for monitoring.
    ///
    /// With hottest_keys the ten keys that most requests wait for are named: a time series each.
    #[pyo3(signature = (*, hottest_keys = false))]
    fn openmetrics(&self, py: Python<'_>, hottest_keys: bool) -> PyResult<String> {
        let locks = self.own_locks(py)?;
        Ok(py.detach(|| match hottest_keys {
            true => locks.get_metrics_with_hottest_keys().to_openmetrics(),
            false => locks.get_metrics().to_openmetrics(),
        }))
    }

    /// Close the manager: all waits, and all requests from now on, raise `Closed`.
    ///
    /// What is held stays held until it is released. In a forked child this does nothing.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.locks().close());
    }

    /// How many seconds a request without a timeout would wait now; None for no limit.
    fn default_timeout(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        Ok(self.own_locks(py)?.default_timeout().map(|timeout| timeout.as_secs_f64()))
    }

    fn _adaptive_timeout<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.own_locks(py)?.adaptive_timeout().map(|state| figures::adaptive(py, &state)).transpose()
    }

    /// Whether the manager was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.locks().is_closed()
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a LockManager belongs to one process and cannot be pickled or copied"))
    }
}
