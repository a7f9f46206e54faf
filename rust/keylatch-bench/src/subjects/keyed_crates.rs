//! Published crates that lock by key. All three are exclusive only and remove a key when it is unused.

use std::collections::BTreeSet;

use lockable::{LockPool, Lockable};
use lockmap::LockMap;

use crate::keys::Key;
use crate::polling::block_on;
use crate::subject::{BATCH, Batch, Exclusive, ExclusiveAsync, Holding, Subject};

/// `lockmap::LockMap` without values, so that an entry goes when its guard goes.
pub(crate) struct LockMapSubject(LockMap<String, ()>);

impl Subject for LockMapSubject {
    const NAME: &'static str = "lockmap";

    fn create() -> Self {
        Self(LockMap::new())
    }
}

impl Exclusive for LockMapSubject {
    #[inline(always)]
    fn exclusive(&self, key: Key<'_>, inside: impl FnOnce()) {
        let _entry = self.0.entry_by_ref(key.joined);
        inside();
    }
}

impl Batch for LockMapSubject {
    #[inline(always)]
    fn batch(&self, keys: &[Key<'_>; BATCH], inside: impl FnOnce()) {
        let sorted: BTreeSet<String> = keys.iter().map(|key| key.joined.to_owned()).collect();
        let _entries: Vec<_> = self.0.batch_lock(sorted);
        inside();
    }
}

impl Holding for LockMapSubject {
    type Held<'a> = lockmap::Entry<'a, String, ()>;

    fn hold<'a>(&'a self, key: Key<'a>) -> Self::Held<'a> {
        self.0.entry_by_ref(key.joined)
    }

    fn give_back<'a>(&'a self, held: Self::Held<'a>) {
        drop(held);
    }
}

/// `lockable::LockPool`.
pub(crate) struct LockableSubject(LockPool<String>);

impl Subject for LockableSubject {
    const NAME: &'static str = "lockable";

    fn create() -> Self {
        Self(LockPool::new())
    }
}

impl Exclusive for LockableSubject {
    #[inline(always)]
    fn exclusive(&self, key: Key<'_>, inside: impl FnOnce()) {
        let _guard = self.0.blocking_lock(key.joined.to_owned());
        inside();
    }
}

impl ExclusiveAsync for LockableSubject {
    #[inline(always)]
    async fn exclusive_async<'a>(&'a self, key: Key<'a>, inside: impl FnOnce() + 'a) {
        let _guard = self.0.async_lock(key.joined.to_owned()).await;
        inside();
    }
}

impl Holding for LockableSubject {
    type Held<'a> = <LockPool<String> as Lockable<String, ()>>::Guard<'a>;

    fn hold<'a>(&'a self, key: Key<'a>) -> Self::Held<'a> {
        self.0.blocking_lock(key.joined.to_owned())
    }

    fn give_back<'a>(&'a self, held: Self::Held<'a>) {
        drop(held);
    }
}

/// `keyed_lock::sync::KeyedLock`.
pub(crate) struct KeyedLockSubject(keyed_lock::sync::KeyedLock<String>);

impl Subject for KeyedLockSubject {
    const NAME: &'static str = "keyed_lock";

    fn create() -> Self {
        Self(keyed_lock::sync::KeyedLock::new())
    }
}

impl Exclusive for KeyedLockSubject {
    #[inline(always)]
    fn exclusive(&self, key: Key<'_>, inside: impl FnOnce()) {
        let _guard = self.0.lock(key.joined.to_owned());
        inside();
    }
}

impl Holding for KeyedLockSubject {
    type Held<'a> = keyed_lock::sync::Guard<'a, String>;

    fn hold<'a>(&'a self, key: Key<'a>) -> Self::Held<'a> {
        self.0.lock(key.joined.to_owned())
    }

    fn give_back<'a>(&'a self, held: Self::Held<'a>) {
        drop(held);
    }
}

/// `keyed_lock::r#async::KeyedLock`, a type of its own in that crate.
pub(crate) struct KeyedLockAsyncSubject(keyed_lock::r#async::KeyedLock<String>);

impl Subject for KeyedLockAsyncSubject {
    const NAME: &'static str = "keyed_lock_async";

    fn create() -> Self {
        Self(keyed_lock::r#async::KeyedLock::new())
    }
}

impl Exclusive for KeyedLockAsyncSubject {
    #[inline(always)]
    fn exclusive(&self, key: Key<'_>, inside: impl FnOnce()) {
        let _guard = block_on(self.0.lock(key.joined.to_owned()));
        inside();
    }
}

impl ExclusiveAsync for KeyedLockAsyncSubject {
    #[inline(always)]
    async fn exclusive_async<'a>(&'a self, key: Key<'a>, inside: impl FnOnce() + 'a) {
        let _guard = self.0.lock(key.joined.to_owned()).await;
        inside();
    }
}
