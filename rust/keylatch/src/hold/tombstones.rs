//! What stays of holds that were revoked: grants that may still be shown, and the keys of guards that are still there.

use super::Grant;
use crate::key::ObjectKey;
use crate::sync::Mutex;
use std::collections::{HashMap, VecDeque};

/// Grants lost by expiry that are remembered as lost; of older ones it is only said that they are not held.
const REMEMBERED: usize = if cfg!(any(test, loom)) { 16 } else { 1 << 16 };

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    /// Grants without a guard whose lease ran out, the latest last. Each has its record.
    numbers: Mutex<VecDeque<Grant>>,
    /// Keys by the grants of guards that are still there: their entries may be other keys' by now.
    keys: Mutex<HashMap<Grant, ObjectKey>>,
}

impl Tombstones {
    /// Keeps in mind that a grant was lost. Returns the one that is forgotten for it.
    #[must_use]
    pub(crate) fn remember(&self, grant: Grant) -> Option<Grant> {
        let mut numbers = self.numbers.lock();
        numbers.push_back(grant);
        if numbers.len() > REMEMBERED { numbers.pop_front() } else { None }
    }

    /// Keeps the key of a guard's hold that is being revoked. The caller owns the shard.
    pub(crate) fn keep_key(&self, grant: Grant, key: ObjectKey) {
        self.keys.lock().insert(grant, key);
    }

    /// The guard is gone.
    pub(crate) fn forget_key(&self, grant: Grant) {
        let key = self.keys.lock().remove(&grant);
        drop(key);
    }
    /// The key of a guard's hold that was revoked.
    pub(crate) fn key(&self, grant: Grant) -> Option<ObjectKey> {
        self.keys.lock().get(&grant).cloned()
    }
}
