//! What a caller has while it holds locks.

use crate::core::Core;
use crate::entry::{Removed, Wish};
use crate::error::EtcdError;
use crate::hold::Hold;
use keylatch::{Mode, ObjectKey};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A held lock, or a held batch.
///
/// Dropping it releases it, without waiting for the server.
///
/// A lock of etcd can end before it is released. Ask [`is_valid`](Self::is_valid) before each step that counts, and give
/// [`fence`](Self::fence) to what is written: only the store that is written to can refuse a writer that is late.
#[must_use = "a guard that is dropped releases its lock"]
pub struct LockGuard {
    // Before the handle: its removal needs the runtime.
    hold: Hold,
    core: Arc<Core>,
    wish: Wish,
}

impl LockGuard {
    pub(crate) fn new(core: Arc<Core>, wish: Wish, hold: Hold) -> Self {
        Self { hold, core, wish }
    }

    /// The key that is held; of a batch, the first.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        self.wish.key()
    }

    /// All keys that are held, in order, with their modes.
    pub fn keys(&self) -> impl Iterator<Item = (&ObjectKey, Mode)> {
        self.wish.keys.iter().map(|(key, mode)| (key, *mode))
    }

    /// The number of this hold.
    ///
    /// It is greater than that of every earlier hold of the key in any process.
    ///
    /// A store that refuses numbers below the greatest it has seen is safe from holders that have lost the lock.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.hold.fence()
    }

    /// The revision of etcd at which the request joined its queues.
    ///
    /// The order in which locks are granted.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.hold.revision()
    }

    /// Whether the lock is held.
    ///
    /// Its lease lasts by our own clock, and nothing was heard of a revocation.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.hold.is_valid()
    }

    /// The same as an error that says which key was lost.
    ///
    /// # Errors
    /// [`EtcdError::Lost`].
    pub fn check(&self) -> Result<(), EtcdError> {
        if self.is_valid() { Ok(()) } else { Err(EtcdError::Lost { key: self.key() }) }
    }

    /// Returns when the lock is lost.
    pub async fn lost(&self) {
        self.hold.lost().await;
    }

    /// Releases, and waits for the server's answer.
    ///
    /// The wait ends with the lease, which ends without contact.
    ///
    /// # Errors
    /// [`EtcdError::Lost`] if it was not held any more; what the server refuses, and then the lease of the process is given
    /// up with all its locks; [`EtcdError::Forked`].
    pub async fn release(self) -> Result<(), EtcdError> {
        let (was_valid, key) = (self.is_valid(), self.key());
        let Some(removing) = self.hold.release() else { return Err(EtcdError::Forked) };
        released(removing.await.ok(), was_valid, key)
    }

    /// The same for threads; the time is how long it waits for the answer.
    ///
    /// The release goes on after it.
    ///
    /// # Errors
    /// As [`release`](Self::release); [`EtcdError::Timeout`].
    pub fn release_blocking(self, timeout: Duration) -> Result<(), EtcdError> {
        let (was_valid, key) = (self.is_valid(), self.key());
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let Some(removing) = self.hold.release() else { return Err(EtcdError::Forked) };
        self.core.spawn(async move {
            let _ = sender.send(removing.await.ok());
        });
        match receiver.recv_timeout(timeout) {
            Ok(removed) => released(removed, was_valid, key),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Err(EtcdError::Timeout { key, waited: timeout }),
            // The runtime was stopped.
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => released(None, was_valid, key),
        }
    }
}

/// What the caller of a release hears.
fn released(removed: Option<Removed>, was_valid: bool, key: ObjectKey) -> Result<(), EtcdError> {
    match removed {
        Some(Removed::Refused(error)) => Err(error),
        Some(Removed::Missing) => Err(EtcdError::Lost { key }),
        Some(Removed::Found | Removed::LeaseOver) | None if was_valid => Ok(()),
        Some(Removed::Found | Removed::LeaseOver) | None => Err(EtcdError::Lost { key }),
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("keys", &self.wish.keys)
            .field("fence", &self.fence())
            .field("is_valid", &self.is_valid())
            .finish_non_exhaustive()
    }
}
