//! The lock delay: after the lease of a writer has run out, no request gets the lock for a while.
//!
//! The word says that the table itself holds the lock, the entry is marked, and the end of the delay is found like that of a
//! lease.

use super::core::{Core, LOCK_DELAY_OWNER};
use super::local::Local;
use crate::hold::{Grant, Kept, Lost};
use crate::key::ObjectKey;
use crate::memory::NONE;
use crate::mode::Mode;
use crate::table::Entry;
use crate::wait::NEVER;

/// Overdue delays that are ended with each one that begins.
const A_FEW: usize = 2;

impl Core {
    /// Begins the lock delay; `false` if none is set.
    ///
    /// The lock is held exclusively by a hold that cannot be released any more. Caller holds: shard mutex.
    pub(crate) fn begin_lock_delay(&self, index: u32, entry: &Entry, grant: Grant) -> bool {
        let delay = u64::try_from(self.config.lock_delay.as_nanos()).unwrap_or(u64::MAX);
        // Once the manager is closed no request gets a lock any more.
        if delay == 0 || self.is_closed() {
            return false;
        }
        let mut seen = entry.word();
        while let Err(now) = entry.swap(seen, seen.with_writer(NONE)) {
            seen = now;
        }
        let since = self.now();
        let kept = Kept { since, until: since.saturating_add(delay), entry: index, grant };
        entry.set_shut();
        // The number of the hold that was revoked is not current any more.
        entry.raise_fence();
        self.leases.set_first_end(index, kept.until);
        self.lock_delays.add(kept, |kept| self.is_delayed(kept.entry, kept.until));
        true
    }

    /// Returns whether the delay of a lock still lasts until then.
    ///
    /// Exact for a caller that holds the shard mutex.
    fn is_delayed(&self, entry: u32, until: u64) -> bool {
        self.table.entry(entry).is_shut() && self.leases.first_end(entry) == until
    }

    /// Ends a few delays that are over. The caller holds no mutex.
    pub(crate) fn open_a_few(&self, local: &Local) {
        self.open_shut(local, A_FEW, Lost::Expired);
    }

    /// Ends all delays that are over. The caller holds no mutex.
    pub(crate) fn open_those_due(&self, local: &Local) {
        self.open_shut(local, usize::MAX, Lost::Expired);
    }

    /// Ends all delays. The caller holds no mutex.
    pub(crate) fn open_all(&self, local: &Local) {
        self.open_shut(local, usize::MAX, Lost::Forced);
    }

    fn open_shut(&self, local: &Local, most: usize, why: Lost) {
        if self.config.lock_delay.is_zero() {
            return;
        }
        let due = if why == Lost::Forced { NEVER } else { self.now() };
        for _ in 0..most {
            let Some(kept) = self.lock_delays.take_due(due) else { return };
            self.open(local, kept.entry, kept.until);
        }
    }

    /// Ends the delay of a lock, if it still lasts. Returns whether it did.
    ///
    /// The caller holds no mutex.
    pub(crate) fn open(&self, local: &Local, index: u32, until: u64) -> bool {
        let entry = self.table.entry(index);
        let hash = entry.hash();
        let mut shard = self.lock_shard(hash);
        // During its delay an entry keeps its key, so if the delay lasts, this is its shard.
        if entry.hash() != hash || !self.is_delayed(index, until) {
            return false;
        }
        // A delay counts as released, so it is counted as granted, too.
        shard.counts().immediate += 1;
        self.leave(local, shard, (index, entry), NONE, Mode::Exclusive);
        true
    }

    /// Returns all locks in their delay, for listings.
    pub(crate) fn all_delayed(&self) -> Vec<Kept> {
        if self.config.lock_delay.is_zero() {
            return Vec::new();
        }
        self.lock_delays.all()
    }

    /// Returns key and fence of a lock in its delay, if that still lasts.
    pub(crate) fn key_of_delayed(&self, kept: &Kept) -> Option<(ObjectKey, u64)> {
        let entry = self.table.entry(kept.entry);
        let hash = entry.hash();
        let _shard = self.lock_shard(hash);
        (entry.hash() == hash && self.is_delayed(kept.entry, kept.until))
            .then(|| (entry.key(self.table.arena()), entry.fence()))
    }

    /// Returns the name of the holder that listings show during the delay.
    pub(crate) fn lock_delay_owner() -> &'static str {
        LOCK_DELAY_OWNER
    }
}
