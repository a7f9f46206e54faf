//! The compiled half of the Python package: the module `keylatch._keylatch`.
//!
//! How a lock is taken: `acquire` is called by the interpreter, `key` reads the key where it lies, the core answers, and
//! `guard` is what the caller gets. Who has to wait does so in `wait`, as a thread, or in `event_loop`, as a task; both
//! poll the same futures of the core. `raw` is the layer to the interpreter for what must be fast, and pyo3 is for the
//! rest. The other half is `python/keylatch`.

mod acquire;
mod awaitable;
mod batch;
mod claim_types;
mod claim_watch;
mod claims;
mod classes;
mod errors;
mod etcd;
mod event_loop;
mod events;
mod figures;
mod fork;
mod grants;
mod guard;
mod guard_methods;
mod guard_type;
mod interpreter;
mod key;
mod listed;
mod long_acquire;
mod losses;
mod manager;
mod manager_methods;
mod numbers;
mod owner;
mod pending;
mod pinned;
mod raw;
#[cfg(feature = "etcd")]
mod remote;
#[cfg(not(feature = "etcd"))]
#[path = "no_remote.rs"]
mod remote;
mod request;
mod session;
mod setting;
mod settings;
mod shared;
mod upgrade;
mod wait;

use pyo3::prelude::*;

/// The compiled half of keylatch; import `keylatch` instead.
#[pymodule(gil_used = false)]
mod _keylatch {
    use super::*;

    #[pymodule_export]
    use super::batch::enter_all;
    #[pymodule_export]
    use super::batch::release_all;
    #[pymodule_export]
    use super::claim_watch::ClaimWatch;
    #[pymodule_export]
    use super::claims::Claimant;
    #[pymodule_export]
    use super::claims::Claims;
    #[pymodule_export]
    use super::event_loop::Listener;
    #[pymodule_export]
    use super::event_loop::LoopWaits;
    #[pymodule_export]
    use super::events::Subscription;
    #[pymodule_export]
    use super::losses::RevocationListeners;
    #[pymodule_export]
    use super::manager::LockManager;
    #[pymodule_export]
    use super::owner::Owner;
    #[pymodule_export]
    use super::pending::Pending;
    #[pymodule_export]
    use super::pinned::PinnedKey;
    #[pymodule_export]
    use super::session::Session;
    #[pymodule_export]
    use super::shared::FileLock;
    #[pymodule_export]
    use super::shared::FileTurn;
    #[pymodule_export]
    use super::shared::ProcessLock;
    #[pymodule_export]
    use super::shared::ProcessSemaphore;
    #[pymodule_export]
    use super::shared::SharedGuard;
    #[pymodule_export]
    use super::shared::SharedHold;
    #[pymodule_export]
    use super::shared::SharedTable;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        interpreter::claim(module.py())?;
        fork::watch();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        guard_type::add_type(module)?;
        awaitable::add_types(module)?;
        acquire::add_methods(&module.getattr("LockManager")?)?;
        pinned::add_methods(&module.getattr("PinnedKey")?)
    }
}
