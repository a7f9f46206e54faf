//! Managers that share their keys on a cluster.

use super::EtcdTier;
use super::explain::explained;
use crate::config::EtcdConfig;
use crate::error::EtcdError;
use keylatch::{FastObjectLockManager, LockConfig, LockError};
use std::sync::Arc;

/// Makes managers that share their keys with other machines, on an etcd cluster.
pub trait Etcd: sealed::Sealed {
    /// Makes a manager whose keys are those of the namespace.
    ///
    /// The verbs are the manager's: [`keylatch::tier`] says what differs, and [`EtcdTier`] what this tier does not have.
    /// Blocks for at most about the connect timeout.
    ///
    /// The tier ends with the manager; a plug-in that is unloaded opens an [`EtcdTier`] itself, which it can close.
    ///
    /// # Errors
    /// As [`FastObjectLockManager::with_config`]; [`LockError::InvalidConfig`] for a setting of the cluster that cannot
    /// be, and [`LockError::Tier`] for what else keeps the cluster from working.
    ///
    /// # Examples
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use keylatch::LockConfig;
    /// use keylatch_etcd::{EtcdConfig, tier::Etcd};
    /// let locks = LockConfig::default().etcd(EtcdConfig::new(["http://10.0.0.1:2379"]).namespace("photos"))?;
    /// let guard = locks.acquire_write_lock_blocking("photos", "cat.jpg", "thumbnailer")?;
    /// # drop(guard); Ok(()) }
    /// ```
    fn etcd(self, config: EtcdConfig) -> Result<FastObjectLockManager, LockError>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for keylatch::LockConfig {}
}

impl Etcd for LockConfig {
    fn etcd(self, config: EtcdConfig) -> Result<FastObjectLockManager, LockError> {
        self.validate()?;
        let tier = EtcdTier::open(config).map_err(refused)?;
        FastObjectLockManager::with_tier(self, Arc::new(tier))
    }
}

/// Why no manager was made, as managers say it.
pub(crate) fn refused(error: EtcdError) -> LockError {
    match error {
        EtcdError::InvalidConfig { setting, problem } => LockError::InvalidConfig { setting, problem },
        other => LockError::Tier { error: explained(&other) },
    }
}
