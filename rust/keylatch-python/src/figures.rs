//! Figures on their way to Python, as the keyword arguments of the classes that show them.

use keylatch::{AdaptiveState, Health, LockMetrics, ShardMetrics};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

pub(crate) fn metrics<'py>(py: Python<'py>, metrics: &LockMetrics, per_shard: bool) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    all.set_item("shard_metrics", of_shard(py, &metrics.shard_metrics)?)?;
    let shards = if per_shard { metrics.shards.as_slice() } else { &[] };
    let shards = shards.iter().map(|shard| of_shard(py, shard)).collect::<PyResult<Vec<_>>>()?;
    all.set_item("shards", PyList::new(py, shards)?)?;
    all.set_item("uptime", metrics.uptime.as_secs_f64())?;
    for (name, figure) in [
        ("bytes", metrics.bytes),
        ("expired_leases", metrics.expired_leases),
        ("forced_releases", metrics.forced_releases),
        ("events_dropped", metrics.events_dropped),
        ("max_locks", metrics.max_locks),
    ] {
        all.set_item(name, figure)?;
    }
    all.set_item("adaptive", metrics.adaptive.as_ref().map(|state| adaptive(py, state)).transpose()?)?;
    Ok(all)
}

pub(crate) fn adaptive<'py>(py: Python<'py>, state: &AdaptiveState) -> PyResult<Bound<'py, PyDict>> {
    let figures = PyDict::new(py);
    figures.set_item("timeout", state.timeout.as_secs_f64())?;
    figures.set_item("quantile", state.quantile.map(|quantile| quantile.as_secs_f64()))?;
    figures.set_item("samples", state.samples)?;
    figures.set_item("timeouts", state.timeouts)?;
    figures.set_item("floor", state.floor.as_secs_f64())?;
    figures.set_item("ceiling", state.ceiling.as_secs_f64())?;
    figures.set_item("times_at_floor", state.times_at_floor)?;
    figures.set_item("times_at_ceiling", state.times_at_ceiling)?;
    Ok(figures)
}

fn of_shard<'py>(py: Python<'py>, shard: &ShardMetrics) -> PyResult<Bound<'py, PyDict>> {
    let figures = PyDict::new(py);
    for (name, figure) in [
        ("fast", shard.fast),
        ("inserted", shard.inserted),
        ("slow", shard.slow),
        ("releases", shard.releases),
        ("waits", shard.waits),
        ("timeouts", shard.timeouts),
        ("cancelled", shard.cancelled),
        ("deadlocks", shard.deadlocks),
        ("refused", shard.refused),
        ("holders", shard.holders),
        ("waiters", shard.waiters),
        ("entries", shard.entries),
    ] {
        figures.set_item(name, figure)?;
    }
    figures.set_item("wait_time", shard.wait_time.as_secs_f64())?;
    figures.set_item("max_wait_time", shard.max_wait_time.as_secs_f64())?;
    let buckets = shard.wait_histogram.buckets().map(|(bound, count)| (bound.map(|bound| bound.as_secs_f64()), count));
    figures.set_item("wait_histogram", PyList::new(py, buckets.collect::<Vec<_>>())?)?;
    Ok(figures)
}

pub(crate) fn health<'py>(py: Python<'py>, health: &Health) -> PyResult<Bound<'py, PyDict>> {
    let verdict = PyDict::new(py);
    verdict.set_item("healthy", health.healthy)?;
    verdict.set_item("fast_path_rate", health.fast_path_rate)?;
    verdict.set_item("timeout_rate", health.timeout_rate)?;
    verdict.set_item("avg_wait_time", health.avg_wait_time.as_secs_f64())?;
    verdict.set_item("max_wait_time", health.max_wait_time.as_secs_f64())?;
    verdict.set_item("window", health.window.as_secs_f64())?;
    verdict.set_item("problems", PyList::new(py, &health.problems)?.to_tuple())?;
    Ok(verdict)
}
