// The same lines for the published crate and for the one that stands in for it: included by a module that says which
// crate `rustfs_lock` is, and what it is called in the report.
//
// The published one is async only and needs a tokio runtime for its timers and its clean-up task, so the subject brings
// one along; the futures are polled on the measuring thread itself, without the runtime's scheduler.

use std::sync::Arc;

use rustfs_lock::fast_lock::{BatchLockRequest, FastLockGuard, FastObjectLockManager, ObjectKey};
use tokio::runtime::Runtime;

use crate::keys::Key;
use crate::polling::block_on;
use crate::subject::{BATCH, Batch, Exclusive, ExclusiveAsync, Holding, Shared, Subject};

/// `rustfs_lock::fast_lock::FastObjectLockManager` as it comes.
pub(crate) struct Rustfs {
    locks: FastObjectLockManager,
    owner: Arc<str>,
    runtime: Runtime,
}

impl Subject for Rustfs {
    const NAME: &'static str = NAME;

    fn create() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a tokio runtime can be built");
        let inside = runtime.enter();
        let locks = FastObjectLockManager::new();
        drop(inside);
        Self { locks, owner: "node-7".into(), runtime }
    }

    fn enter(&self) -> impl Sized {
        self.runtime.enter()
    }
}

impl Rustfs {
    #[inline(always)]
    async fn write(&self, key: Key<'_>) -> FastLockGuard {
        let key = ObjectKey::new(key.bucket, key.object);
        self.locks.acquire_write_lock(key, Arc::clone(&self.owner)).await.expect("a lock without holders is granted")
    }

    #[inline(always)]
    async fn read(&self, key: Key<'_>) -> FastLockGuard {
        let key = ObjectKey::new(key.bucket, key.object);
        self.locks.acquire_read_lock(key, Arc::clone(&self.owner)).await.expect("a lock without holders is granted")
    }
}

impl Exclusive for Rustfs {
    #[inline(always)]
    fn exclusive(&self, key: Key<'_>, inside: impl FnOnce()) {
        let _guard = block_on(self.write(key));
        inside();
    }
}

impl Shared for Rustfs {
    #[inline(always)]
    fn shared(&self, key: Key<'_>, inside: impl FnOnce()) {
        let _guard = block_on(self.read(key));
        inside();
    }
}

impl ExclusiveAsync for Rustfs {
    #[inline(always)]
    async fn exclusive_async<'a>(&'a self, key: Key<'a>, inside: impl FnOnce() + 'a) {
        let _guard = self.write(key).await;
        inside();
    }
}

impl Batch for Rustfs {
    #[inline(always)]
    fn batch(&self, keys: &[Key<'_>; BATCH], inside: impl FnOnce()) {
        let request = keys.iter().fold(BatchLockRequest::new(Arc::clone(&self.owner)), |request, key| {
            request.add_write_lock(ObjectKey::new(key.bucket, key.object))
        });
        let granted = block_on(self.locks.acquire_locks_batch(request));
        assert!(granted.all_acquired, "free keys are granted");
        inside();
    }
}

impl Holding for Rustfs {
    type Held<'a> = FastLockGuard;

    fn hold<'a>(&'a self, key: Key<'a>) -> Self::Held<'a> {
        block_on(self.write(key))
    }

    fn give_back<'a>(&'a self, held: Self::Held<'a>) {
        drop(held);
    }
}
