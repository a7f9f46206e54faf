//! The handle: one process's door to the locks of a namespace.

use crate::config::EtcdConfig;
use crate::core::Core;
use crate::entry::Wish;
use crate::error::EtcdError;
use crate::listing::{self, EntryInfo, Whose};
use crate::pending::Lock;
use crate::request::{BatchLockRequest, LockRequest};
use keylatch::KeyRef;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Locks on an etcd cluster. Clones are handles of the same.
///
/// The handle has a lease, a thread for the network, and nothing else. When the last handle and the last guard are gone,
/// the lease is revoked.
#[derive(Clone)]
pub struct EtcdLocks {
    core: Arc<Core>,
}

impl EtcdLocks {
    /// Connects, checks the cluster, and gets a lease.
    ///
    /// Blocks for at most about the connect timeout.
    ///
    /// # Errors
    /// What keeps it from working, each with what to do: see [`EtcdError`].
    pub fn open(config: EtcdConfig) -> Result<Self, EtcdError> {
        Ok(Self { core: Arc::new(Core::open(config)?) })
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Asks for a lock: continue with `.blocking()`, `.now()` or `.await`.
    pub fn lock(&self, request: LockRequest<'_>) -> Lock {
        let wish = Wish::new(vec![(request.key.to_owned(), request.mode)], request.owner);
        Lock { core: Arc::clone(&self.core), wish, timeout: request.timeout }
    }

    /// Asks for several locks at a time.
    ///
    /// Continue with `.blocking()`, `.now()` or `.await`.
    pub fn lock_batch(&self, request: BatchLockRequest) -> Lock {
        let wish = Wish::new(request.keys, &request.owner);
        Lock { core: Arc::clone(&self.core), wish, timeout: request.timeout }
    }

    /// Lists who holds and who waits, over all processes: for one key, oldest first.
    ///
    /// Blocks.
    ///
    /// # Errors
    /// What keeps the cluster from answering.
    pub fn entries<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<Vec<EntryInfo>, EtcdError> {
        let (space, key) = (self.core.space(), key.into().to_owned());
        self.core.wait_for(async move { listing::list(&space, Some(key.as_ref())).await })
    }

    /// Lists who holds and who waits, over all processes and keys. Blocks.
    ///
    /// # Errors
    /// What keeps the cluster from answering.
    pub fn all_entries(&self) -> Result<Vec<EntryInfo>, EtcdError> {
        let space = self.core.space();
        self.core.wait_for(async move { listing::list(&space, None).await })
    }

    /// Takes a key from all that hold it, by force, and returns how many did. Blocks.
    ///
    /// Their guards say so a little later; what they write in between is for fences to refuse.
    ///
    /// # Errors
    /// What keeps the cluster from answering.
    pub fn revoke<'k>(&self, key: impl Into<KeyRef<'k>>) -> Result<u32, EtcdError> {
        let (space, key) = (self.core.space(), key.into().to_owned());
        self.core.wait_for(async move { listing::revoke(&space, key.as_ref(), Whose::All).await })
    }

    /// Whether the lease lasts by our own clock.
    ///
    /// Without one, requests wait for the next.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        let space = self.core.space();
        !space.is_forked() && space.session_now().is_some()
    }

    /// The number of the lease, and for how long it lasts by our own clock.
    ///
    /// `None` without one. A lease that is lost is replaced by one with a greater number, and what was held under the old one is lost.
    #[must_use]
    pub fn lease(&self) -> Option<(u64, Duration)> {
        let space = self.core.space();
        let session = space.session_now().filter(|_| !space.is_forked())?;
        Some((session.number, session.remaining()))
    }

    /// Ends all holds and waits of this process.
    ///
    /// Waits until the server knows, for at most the connect timeout.
    pub fn close(&self) {
        self.core.close();
    }
}

impl fmt::Debug for EtcdLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdLocks")
            .field("config", self.core.config())
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}
