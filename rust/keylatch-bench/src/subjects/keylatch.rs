//! Our own lock manager, with owners, hold records and metrics on: as a user gets it.

use std::sync::OnceLock;
use std::time::Duration;

use keylatch::{
    BatchLockRequest, Fairness, FastObjectLockManager, Filter, Grant, LockConfig, LockRequest, Mode, Owner, PinnedKey,
    PreparedKey,
};

use crate::keys::Key;
use crate::subject::{BATCH, Batch, Exclusive, ExclusiveAsync, Holding, Leasing, Listing, Shared, Subject};

/// `FastObjectLockManager`, with the default fairness or strictly in order.
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
            .expect("a lock without holders is granted");
        inside();
    }
}

impl<const FIFO: bool> Shared for Keylatch<FIFO> {
    #[inline(always)]
    fn shared(&self, key: Key<'_>, inside: impl FnOnce()) {
        let _guard = self
            .locks
            .acquire_read_lock_blocking(key.bucket, key.object, self.owner)
            .expect("a lock without holders is granted");
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
            .expect("a lock without holders is granted");
        inside();
    }
}

impl<const FIFO: bool> Leasing for Keylatch<FIFO> {
    #[inline(always)]
    fn leased(&self, key: Key<'_>, inside: impl FnOnce()) {
        let request = LockRequest::write((key.bucket, key.object)).owner(self.owner).ttl(Duration::from_secs(60));
        let _guard = self.locks.lock(request).blocking().expect("a lock without holders is granted");
        inside();
    }

    #[inline(always)]
    fn session(&self) {
        drop(self.locks.session("node-7"));
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

/// Defines a subject with one key that is kept.
///
/// It is the first that is asked for.
macro_rules! kept_key {
    ($(#[$says:meta])* $subject:ident, $name:literal, $key:ty, $keep:ident) => {
        $(#[$says])*
        pub(crate) struct $subject {
            locks: FastObjectLockManager,
            owner: Owner,
            key: OnceLock<$key>,
        }

        impl $subject {
            #[inline(always)]
            fn key(&self, key: Key<'_>) -> &$key {
                match self.key.get() {
                    Some(kept) => kept,
                    None => self.keep_first(key),
                }
            }

            /// Apart, so that the measured loop need not have the key in memory.
            #[cold]
            #[inline(never)]
            fn keep_first(&self, key: Key<'_>) -> &$key {
                self.key.get_or_init(|| self.locks.$keep((key.bucket, key.object)).expect("a short key"))
            }
        }

        impl Subject for $subject {
            const NAME: &'static str = $name;

            fn create() -> Self {
                let locks = FastObjectLockManager::new();
                let owner = locks.owner("node-7");
                Self { locks, owner, key: OnceLock::new() }
            }
        }

        impl Exclusive for $subject {
            #[inline(always)]
            fn exclusive(&self, key: Key<'_>, inside: impl FnOnce()) {
                let _guard = self.key(key).acquire_write_lock_blocking(self.owner).expect("a free lock is granted");
                inside();
            }
        }

        impl Shared for $subject {
            #[inline(always)]
            fn shared(&self, key: Key<'_>, inside: impl FnOnce()) {
                let _guard = self.key(key).acquire_read_lock_blocking(self.owner).expect("a free lock is granted");
                inside();
            }
        }

        impl ExclusiveAsync for $subject {
            #[inline(always)]
            async fn exclusive_async<'a>(&'a self, key: Key<'a>, inside: impl FnOnce() + 'a) {
                let _guard = self.key(key).acquire_write_lock(self.owner).await.expect("a free lock is granted");
                inside();
            }
        }
    };
}

kept_key!(
    /// A key that is pinned.
    Pinned,
    "keylatch_pinned",
    PinnedKey,
    pin
);
kept_key!(
    /// A key that is prepared.
    Prepared,
    "keylatch_prepared",
    PreparedKey,
    prepare
);

/// A batch of keys that are pinned: those that are asked for first.
pub(crate) struct PinnedBatch {
    locks: FastObjectLockManager,
    owner: Owner,
    keys: OnceLock<Vec<PinnedKey>>,
}

impl Subject for PinnedBatch {
    const NAME: &'static str = "keylatch_pinned";

    fn create() -> Self {
        let locks = FastObjectLockManager::new();
        let owner = locks.owner("node-7");
        Self { locks, owner, keys: OnceLock::new() }
    }
}

impl Exclusive for PinnedBatch {
    fn exclusive(&self, key: Key<'_>, inside: impl FnOnce()) {
        let _guard =
            self.locks.acquire_write_lock_blocking(key.bucket, key.object, self.owner).expect("a free lock is granted");
        inside();
    }
}

impl Batch for PinnedBatch {
    #[inline(always)]
    fn batch(&self, keys: &[Key<'_>; BATCH], inside: impl FnOnce()) {
        let pin = |key: &Key<'_>| self.locks.pin((key.bucket, key.object)).expect("a short key");
        let request = self
            .keys
            .get_or_init(|| keys.iter().map(pin).collect())
            .iter()
            .fold(BatchLockRequest::new(self.owner), |request, key| request.add_pinned(key, Mode::Exclusive));
        let _guards = self.locks.acquire_locks_batch_blocking(request).expect("free keys are granted");
        inside();
    }
}
