//! What a manager is made with. A wrong type is a `TypeError`, and whatever else is wrong `InvalidConfig`, a `ValueError`
//! that names the setting.

use crate::classes::class;
use crate::etcd::Given;
use crate::numbers::{Seconds, Whole, shown};
use crate::remote::{self, Remote};
use crate::setting::{invalid, path, seconds, wrong_type};
use crate::shared::failure::OrRaise;
use keylatch::{AdaptiveTimeout, Fairness, FastObjectLockManager, LockConfig, LockError, Reentrancy, Victim};
use keylatch_shm::TableConfig;
use keylatch_shm::tier::SharedMemoryTier;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString};
use std::sync::Arc;
use std::time::Duration;

/// A manager with the settings that were given by name.
pub(crate) fn manager(
    given: Option<&Bound<'_, PyDict>>,
) -> PyResult<Result<(FastObjectLockManager, Option<Remote>), LockError>> {
    let mut config = LockConfig::default();
    let (mut eventual_after, mut max_locks, mut shared_memory) = (None, None, None);
    let (mut etcd, mut etcd_options) = (None, None);
    for (name, value) in given.into_iter().flatten() {
        match name.cast::<PyString>()?.to_str()? {
            "fairness" => {
                config.fairness = choice(
                    "fairness",
                    &value,
                    &[
                        ("eventual", Fairness::default()),
                        ("fifo", Fairness::Fifo),
                        ("writer_first", Fairness::WriterFirst),
                        ("reader_first", Fairness::ReaderFirst),
                    ],
                )?;
            }
            "eventual_after" => eventual_after = Some(seconds("eventual_after", &value)?),
            "default_timeout" => {
                let timeout = optional("default_timeout", &value, seconds)?;
                config.default_timeout = timeout.filter(|timeout| *timeout < Duration::MAX);
            }
            "shards" => config.shards = number("shards", &value)?,
            "max_locks" => max_locks = optional("max_locks", &value, number)?,
            "max_waiters" => config.max_waiters = number("max_waiters", &value)?,
            "max_key_bytes" => config.max_key_bytes = number("max_key_bytes", &value)?,
            "overtake_limit" => config.overtake_limit = number("overtake_limit", &value)?,
            "reentrancy" => {
                let choices = [("deny", Reentrancy::Deny), ("count", Reentrancy::Count)];
                config.reentrancy = choice("reentrancy", &value, &choices)?;
            }
            "deadlock_delay" => config.deadlock_delay = optional("deadlock_delay", &value, seconds)?,
            "victim" => {
                let choices = [
                    ("asker", Victim::Asker),
                    ("youngest", Victim::Youngest),
                    ("lowest_priority", Victim::LowestPriority),
                ];
                config.victim = choice("victim", &value, &choices)?;
            }
            "lock_delay" => config.lock_delay = seconds("lock_delay", &value)?,
            "health_window" => config.health_window = seconds("health_window", &value)?,
            "adaptive" => config.adaptive = optional("adaptive", &value, adaptive)?,
            "lock_order_lint" => config.lock_order_lint = truth("lock_order_lint", &value)?,
            "reader_slots" => config.reader_slots = truth("reader_slots", &value)?,
            "shared_memory" => shared_memory = optional("shared_memory", &value, path)?.map(|path| (value.py(), path)),
            "etcd" => etcd = Some(value).filter(|value| !value.is_none()),
            "etcd_options" => etcd_options = Some(value).filter(|value| !value.is_none()),
            other => {
                let problem = format!("LockManager() got an unexpected keyword argument {other:?}");
                return Err(PyTypeError::new_err(problem));
            }
        }
    }
    if let (Fairness::Eventual { after }, Some(chosen)) = (&mut config.fairness, eventual_after) {
        *after = chosen;
    }
    let given = Given::of(etcd.as_ref(), etcd_options.as_ref(), shared_memory.is_some())?;
    if let (Some(given), Some(etcd)) = (given, &etcd) {
        config.max_locks = max_locks.unwrap_or(config.max_locks);
        return Ok(remote::manager(etcd.py(), config, &given)?.map(|(locks, tier)| (locks, Some(tier))));
    }
    if let Some((py, path)) = shared_memory {
        let tier = py.detach(|| SharedMemoryTier::open(path, &TableConfig::default())).or_raise(py)?;
        config.max_locks = max_locks.unwrap_or(config.max_locks);
        return Ok(FastObjectLockManager::with_tier(config, Arc::new(tier)).map(|locks| (locks, None)));
    }
    let made = match max_locks {
        Some(max_locks) => FastObjectLockManager::with_config(LockConfig { max_locks, ..config }),
        None => FastObjectLockManager::fitting(config),
    };
    Ok(made.map(|locks| (locks, None)))
}

fn optional<T>(
    setting: &'static str,
    value: &Bound<'_, PyAny>,
    read: fn(&'static str, &Bound<'_, PyAny>) -> PyResult<T>,
) -> PyResult<Option<T>> {
    if value.is_none() { Ok(None) } else { read(setting, value).map(Some) }
}

fn truth(setting: &'static str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.cast::<PyBool>().map(|chosen| chosen.is_true()).map_err(|_| wrong_type(setting, "a bool", value))
}

fn choice<T: Copy>(setting: &'static str, value: &Bound<'_, PyAny>, choices: &[(&str, T)]) -> PyResult<T> {
    let Ok(word) = value.cast::<PyString>() else { return Err(wrong_type(setting, "a str", value)) };
    let word = word.to_string_lossy();
    let chosen = choices.iter().find(|(name, _)| *name == word);
    chosen.map(|(_, chosen)| *chosen).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
        invalid(value.py(), setting, format!("{word:?} is none of {}", names.join(", ")))
    })
}

/// A number that fits its type; the manager says whether it is valid.
fn number<T: TryFrom<u64>>(setting: &'static str, value: &Bound<'_, PyAny>) -> PyResult<T> {
    let whole: Whole = value.extract().map_err(|_| wrong_type(setting, "an int", value))?;
    let number = if let Whole::Of(number) = whole { T::try_from(number).ok() } else { None };
    let most = u64::MAX >> (64 - 8 * size_of::<T>().min(8));
    number.ok_or_else(|| invalid(value.py(), setting, format!("it is from 0 to {most}, not {}", shown(value))))
}

/// From a `keylatch.AdaptiveTimeout`.
fn adaptive(setting: &'static str, value: &Bound<'_, PyAny>) -> PyResult<AdaptiveTimeout> {
    let py = value.py();
    if !value.is_instance(&class(py, "AdaptiveTimeout")?)? {
        return Err(wrong_type(setting, "an AdaptiveTimeout or None", value));
    }
    let named = |name: &str| {
        let value = value.getattr(name)?;
        let problem = || wrong_type(&format!("{name} of an AdaptiveTimeout"), "a number", &value);
        value.extract::<Seconds>().map_err(|_| problem()).map(|number| (number, value))
    };
    let duration = |name: &str| {
        let (seconds, value) = named(name)?;
        let problem = || format!("its {name} {} is no number of seconds from 0 on", shown(&value));
        seconds.duration().ok_or_else(|| invalid(py, setting, problem()))
    };
    let per_mille = |name: &str, most: f64, range: &str| {
        let (Seconds(share), value) = named(name)?;
        let per_mille = (share * 1000.0).round();
        if !(1.0..=most).contains(&per_mille) {
            return Err(invalid(py, setting, format!("its {name} {} is not {range}", shown(&value))));
        }
        Ok(per_mille as u32)
    };
    let factor_per_mille = per_mille("factor", f64::from(u32::MAX), "from 1 on")?;
    if factor_per_mille < 1000 {
        let (_, factor) = named("factor")?;
        return Err(invalid(py, setting, format!("its factor {} is below 1, which is once as long", shown(&factor))));
    }
    Ok(AdaptiveTimeout {
        quantile_per_mille: per_mille("quantile", 1000.0, "above 0 and at most 1")?,
        factor_per_mille,
        floor: duration("floor")?,
        ceiling: duration("ceiling")?,
    })
}
