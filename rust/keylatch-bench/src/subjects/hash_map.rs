//! The plainest keyed lock there is: a `HashMap` of locks behind one mutex, cleaned on release.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use parking_lot::RwLock;
use parking_lot::lock_api::ArcRwLockWriteGuard;

use crate::keys::Key;
use crate::subject::{Exclusive, Holding, Shared, Subject};

type Lock = RwLock<()>;

/// `Mutex<HashMap<String, Arc<parking_lot::RwLock>>>`.
pub(crate) struct MutexedHashMap(Mutex<HashMap<String, Arc<Lock>>>);

impl MutexedHashMap {
    #[inline(always)]
    fn lock_of(&self, key: Key<'_>) -> Arc<Lock> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = map.get(key.joined) {
            return Arc::clone(known);
        }
        Arc::clone(map.entry(key.joined.to_owned()).or_default())
    }

    /// Removes the key if the map holds the last reference to its lock.
    #[inline(always)]
    fn clean(&self, key: &str) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.get(key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            map.remove(key);
        }
    }
}

impl Subject for MutexedHashMap {
    const NAME: &'static str = "mutexed_hashmap";

    fn create() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl Exclusive for MutexedHashMap {
    #[inline(always)]
    fn exclusive(&self, key: Key<'_>, inside: impl FnOnce()) {
        let guard = self.lock_of(key).write_arc();
        inside();
        drop(guard);
        self.clean(key.joined);
    }
}

impl Shared for MutexedHashMap {
    #[inline(always)]
    fn shared(&self, key: Key<'_>, inside: impl FnOnce()) {
        let guard = self.lock_of(key).read_arc();
        inside();
        drop(guard);
        self.clean(key.joined);
    }
}

impl Holding for MutexedHashMap {
    type Held<'a> = (ArcRwLockWriteGuard<parking_lot::RawRwLock, ()>, &'a str);

    fn hold<'a>(&'a self, key: Key<'a>) -> Self::Held<'a> {
        (self.lock_of(key).write_arc(), key.joined)
    }

    fn give_back<'a>(&'a self, (guard, key): Self::Held<'a>) {
        drop(guard);
        self.clean(key);
    }
}
