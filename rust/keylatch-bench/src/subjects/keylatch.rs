//! Our own lock manager, with owners, hold records and metrics on: as a user gets it.

use std::sync::OnceLock;

use keylatch::{BatchLockRequest, Fairness, FastObjectLockManager, Filter, Grant, LockConfig, Owner, PinnedKey};

use crate::keys::Key;
use crate::subject::{BATCH, Batch, Exclusive, ExclusiveAsync, Holding, Listing, Shared, Subject};

/// `keylatch::FastObjectLockManager`, with the default fairness or strictly first in, first out.
pub(crate) struct Keylatch<const FIFO: bool> {
    locks: FastObjectLockManager,
    owner: Owner,
}

impl<const FIFO: bool> Subject for Keylatch<FIFO> {
    const NAME: &'static str = if FIFO { "keylatch_fifo" } else { "keylatch" };

    fn create() -> Self {
        let locks = if FIFO {
            let config = LockConfig { fairness: Fairness::Fifo, ..LockConfig::default() };
            FastObjectLockManager::with_config(config).expect("the default configuration is valid with any fairness")
        } else {
            FastObjectLockManager::new()
        };
        let owner = locks.owner("node-7");
        Self { locks, owner }
    }
}

impl<const FIFO: bool> Exclusive for Keylatch<FIFO> {
    #[inline(always)]
    fn exclusive(&self, key: Key<'_>, inside: impl FnOnce()) {
        let _guard = self
            .locks
            .acquire_write_lock_blocking(key.bucket, key.object, self.owner)
            .expect("a lock nobody keeps is granted");
        inside();
    }
}

impl<const FIFO: bool> Shared for Keylatch<FIFO> {
    #[inline(always)]
    fn shared(&self, key: Key<'_>, inside: impl FnOnce()) {
        let _guard = self
            .locks
            .acquire_read_lock_blocking(key.bucket, key.object, self.owner)
            .expect("a lock nobody keeps is granted");
        inside();
    }
}

impl<const FIFO: bool> ExclusiveAsync for Keylatch<FIFO> {
    #[inline(always)]
    async fn exclusive_async<'a>(&'a self, key: Key<'a>, inside: impl FnOnce() + 'a) {
        let _guard = self
            .locks
            .acquire_write_lock(key.bucket, key.object, self.owner)
            .await
            .expect("a lock nobody keeps is granted");
        inside();
    }
}

impl<const FIFO: bool> Batch for Keylatch<FIFO> {
    #[inline(always)]
    fn batch(&self, keys: &[Key<'_>; BATCH], inside: impl FnOnce()) {
        let request = keys
            .iter()
            .fold(BatchLockRequest::new(self.owner), |request, key| request.add_write_lock(key.bucket, key.object));
        let _guards = self.locks.acquire_locks_batch_blocking(request).expect("free keys are granted");
        inside();
    }
}

impl<const FIFO: bool> Holding for Keylatch<FIFO> {
    type Held<'a> = Grant;

    fn hold<'a>(&'a self, key: Key<'a>) -> Self::Held<'a> {
        self.locks
            .acquire_write_lock_blocking(key.bucket, key.object, self.owner)
            .expect("a free key is granted")
            .into_grant()
    }

    fn give_back<'a>(&'a self, held: Self::Held<'a>) {
        self.locks.release(held).expect("a grant that is held can be released");
    }
}

impl<const FIFO: bool> Listing for Keylatch<FIFO> {
    fn list(&self) -> usize {
        self.locks.holders(&Filter::new()).len()
    }
}

/// One key of ours that is pinned: the first that is asked for.
pub(crate) struct Pinned {
    locks: FastObjectLockManager,
    owner: Owner,
    key: OnceLock<PinnedKey>,
}

impl Pinned {
    #[inline(always)]
    fn key(&self, key: Key<'_>) -> &PinnedKey {
        match self.key.get() {
            Some(pinned) => pinned,
            None => self.pin_first(key),
        }
    }

    /// Apart, so that the measured loop need not have the key in memory.
    #[cold]
    #[inline(never)]
    fn pin_first(&self, key: Key<'_>) -> &PinnedKey {
        self.key.get_or_init(|| self.locks.pin((key.bucket, key.object)).expect("a short key"))
    }
}

impl Subject for Pinned {
    const NAME: &'static str = "keylatch_pinned";

    fn create() -> Self {
        let locks = FastObjectLockManager::new();
        let owner = locks.owner("node-7");
        Self { locks, owner, key: OnceLock::new() }
    }
}

impl Exclusive for Pinned {
    #[inline(always)]
    fn exclusive(&self, key: Key<'_>, inside: impl FnOnce()) {
        let _guard = self.key(key).acquire_write_lock_blocking(self.owner).expect("a free lock is granted");
        inside();
    }
}

impl Shared for Pinned {
    #[inline(always)]
    fn shared(&self, key: Key<'_>, inside: impl FnOnce()) {
        let _guard = self.key(key).acquire_read_lock_blocking(self.owner).expect("a free lock is granted");
        inside();
    }
}
