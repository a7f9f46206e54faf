//! Managers that share their keys with other machines, in a module that was built with etcd.

use crate::etcd::Given;
use keylatch::{FastObjectLockManager, LockConfig, LockError};
use keylatch_etcd::PlainSettings;
use keylatch_etcd::tier::EtcdTier;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The tier of a manager, which ends before the manager does.
#[derive(Clone)]
pub(crate) struct Remote(EtcdTier);

/// Makes a manager whose keys are those of a namespace; blocks.
pub(crate) fn manager(
    py: Python<'_>,
    config: LockConfig,
    given: &Given,
) -> PyResult<Result<(FastObjectLockManager, Remote), LockError>> {
    close_at_exit(py)?;
    let options = &given.options;
    let settings = PlainSettings {
        endpoints: &given.endpoints,
        namespace: &options.namespace,
        ttl: options.ttl,
        connect_timeout: options.connect_timeout,
        ca_file: options.ca_file.as_deref(),
        certificate_file: options.certificate_file.as_deref(),
        key_file: options.key_file.as_deref(),
        server_name: &options.server_name,
        user: &options.user,
        password: &options.password,
        label: &options.label,
    };
    let made = py.detach(|| settings.manager(config));
    Ok(made.map(|(locks, tier)| (locks, Remote(tier))))
}

/// The tiers of managers that are there, by the managers' numbers.
static OPEN: Mutex<Option<HashMap<u64, Remote>>> = Mutex::new(None);

fn open<T>(look: impl FnOnce(&mut HashMap<u64, Remote>) -> T) -> T {
    look(OPEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

impl Remote {
    /// Has the tier closed when the program ends.
    pub(crate) fn remember(&self, manager: u64) {
        open(|open| open.insert(manager, self.clone()));
    }

    /// Gives everything back, and waits until the cluster knows.
    pub(crate) fn close(&self, manager: u64) {
        open(|open| open.remove(&manager));
        // Other threads may hold the interpreter's lock while they wait for this one to let go of theirs.
        Python::attach(|py| py.detach(|| self.0.close()));
    }
}

/// Managers of a module are not always dropped when a program ends.
fn close_at_exit(py: Python<'_>) -> PyResult<()> {
    static ONCE: PyOnceLock<()> = PyOnceLock::new();
    let register = || {
        let close = |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
            let tiers: Vec<_> = open(|open| open.drain().map(|(_, tier)| tier).collect());
            arguments.py().detach(|| tiers.iter().for_each(|tier| tier.0.close()));
        };
        let close = PyCFunction::new_closure(py, None, None, close)?;
        py.import("atexit")?.call_method1("register", (close,)).map(|_| ())
    };
    ONCE.get_or_try_init(py, register).copied()
}
