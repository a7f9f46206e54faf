//! The lock space that several servers share: etcd.

use super::etcd_settings::EtcdSettings;
use crate::machine::{TierAsk, Wait};
use keylatch_etcd::{BatchLockRequest, EtcdConfig, EtcdError, EtcdLocks, LockGuard};
use std::path::PathBuf;
use std::time::Duration;

/// Keys of one request, at most.
pub(super) const MOST_ITEMS: usize = keylatch_etcd::KEYS_PER_BATCH;

/// The locks of the cluster.
#[derive(Debug, Clone)]
pub(super) struct Space {
    locks: EtcdLocks,
}

impl Space {
    /// Connects. Blocks.
    pub(super) fn open(settings: &EtcdSettings, label: &str) -> Result<Self, String> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let mut config = EtcdConfig::new(&settings.endpoints)
            .namespace(&settings.namespace)
            .ttl(settings.ttl)
            .label(format!("keylatch serve {label}"));
        if let Some((name, password)) = &settings.user {
            config = config.user(name, password);
        }
        if let Some(ca) = &settings.ca {
            config = config.ca_pem(read(ca)?);
        }
        if let Some((certificate, key)) = &settings.identity {
            config = config.identity_pem(read(certificate)?, read(key)?);
        }
        EtcdLocks::open(config).map(|locks| Self { locks }).map_err(|error| error.to_string())
    }

    /// Returns the number of the lease, and for how long it lasts.
    pub(super) fn lease(&self) -> Option<(u64, Duration)> {
        self.locks.lease()
    }

    /// Asks for the keys of a request, all in one step.
    ///
    /// `None` if it was not to wait, and does not get them now.
    pub(super) async fn acquire(&self, ask: &TierAsk) -> Result<Option<LockGuard>, EtcdError> {
        let batch = BatchLockRequest::new().owner(&*ask.owner);
        let batch = ask.items.iter().fold(batch, |batch, item| batch.key(&item.key, item.mode));
        let lock = self.locks.lock_batch(batch);
        if ask.wait == Wait::Queue {
            return lock.await.map(Some);
        }
        match lock.now_async().await {
            Ok(guard) => Ok(Some(guard)),
            Err(EtcdError::WouldBlock { .. } | EtcdError::Unreachable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives everything back. Blocks.
    pub(super) fn close(&self) {
        self.locks.close();
    }
}
