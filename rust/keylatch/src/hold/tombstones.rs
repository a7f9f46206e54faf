//! What is kept of revoked holds: grants that may still be shown, and the keys of guards that still exist.

use super::Grant;
use crate::key::ObjectKey;
use crate::sync::Mutex;
use std::collections::{HashMap, VecDeque};

/// Expired grants that are remembered. Of older ones only "not held" is known.
const REMEMBERED: usize = if cfg!(any(test, loom)) { 16 } else { 1 << 16 };

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    /// Expired grants without a guard, the latest last. Each keeps its record.
    numbers: Mutex<VecDeque<Grant>>,
    /// Keys of guards that still exist; their entries may have other keys by now.
    keys: Mutex<HashMap<Grant, ObjectKey>>,
}

impl Tombstones {
    /// Remembers a grant as expired. Returns the one that is forgotten for it.
    #[must_use]
    pub(crate) fn remember(&self, grant: Grant) -> Option<Grant> {
        let mut numbers = self.numbers.lock();
        numbers.push_back(grant);
        if numbers.len() > REMEMBERED { numbers.pop_front() } else { None }
    }

    /// Keeps the key of a guard's hold that is revoked. Caller holds: shard mutex.
    pub(crate) fn keep_key(&self, grant: Grant, key: ObjectKey) {
        self.keys.lock().insert(grant, key);
    }

    /// Forgets the key, once the guard is gone.
    pub(crate) fn forget_key(&self, grant: Grant) {
        let key = self.keys.lock().remove(&grant);
        drop(key);
    }

    /// Returns the key of a guard's hold that was revoked.
    pub(crate) fn key(&self, grant: Grant) -> Option<ObjectKey> {
        self.keys.lock().get(&grant).cloned()
    }
}
