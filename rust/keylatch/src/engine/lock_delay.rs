//! Locks that nobody is given for a while, because the lease of a writer ran out: the word is the table's own, the entry
//! is marked, and the end of the delay is looked at like that of a lease.

use super::core::{Core, KEPT_SHUT};
use super::local::Local;
use crate::hold::{Grant, Kept, Lost};
use crate::key::ObjectKey;
use crate::memory::NONE;
use crate::mode::Mode;
use crate::sync::fault::fault;
use crate::table::Entry;
use crate::wait::NEVER;

/// As many are opened at least with each that is shut, so that those are never many that could be open.
const A_FEW: usize = 2;

impl Core {
    /// Has nobody hold a lock for as long as is set. It is held exclusively by somebody who cannot leave it any more, and
    /// the caller owns its shard. `false` if there is no such time.
    pub(crate) fn keep_shut(&self, index: u32, entry: &Entry, grant: Grant) -> bool {
        let delay = u64::try_from(self.config.lock_delay.as_nanos()).unwrap_or(u64::MAX);
        // Once the manager is closed nobody gets a lock any more.
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
        self.kept_shut.add(kept, |kept| self.is_kept(kept.entry, kept.until));
        true
    }

    /// Whether a lock is still kept shut until then. Exact for the shard's owner.
    fn is_kept(&self, entry: u32, until: u64) -> bool {
        self.table.entry(entry).is_shut() && self.leases.first_end(entry) == until
    }

    /// Opens a few locks that have been kept shut for long enough. Off every mutex.
    pub(crate) fn open_a_few(&self, local: &Local) {
        self.open_shut(local, A_FEW, Lost::Expired);
    }

    /// Opens all locks that have been kept shut for long enough. Off every mutex.
    pub(crate) fn open_those_due(&self, local: &Local) {
        self.open_shut(local, usize::MAX, Lost::Expired);
    }

    /// Opens all locks that are kept shut. Off every mutex.
    pub(crate) fn open_all(&self, local: &Local) {
        if !fault!("shut-beyond-the-close") {
            self.open_shut(local, usize::MAX, Lost::Forced);
        }
    }

    fn open_shut(&self, local: &Local, most: usize, why: Lost) {
        if self.config.lock_delay.is_zero() {
            return;
        }
        let due = if why == Lost::Forced { NEVER } else { self.now() };
        for _ in 0..most {
            let Some(kept) = self.kept_shut.take_due(due) else { return };
            self.open(local, kept.entry, kept.until);
        }
    }

    /// Opens a lock that is kept shut, if it still is. Returns whether it was. Off every mutex.
    pub(crate) fn open(&self, local: &Local, index: u32, until: u64) -> bool {
        let entry = self.table.entry(index);
        let hash = entry.hash();
        let mut shard = self.lock_shard(hash);
        // An entry that is shut keeps its key, so if it still is, this is its shard.
        if entry.hash() != hash || !self.is_kept(index, until) {
            return false;
        }
        // Nobody held it: only now that it ends it is counted as granted, for it counts as released.
        shard.counts().immediate += 1;
        self.leave(local, shard, (index, entry), NONE, Mode::Exclusive);
        true
    }

    /// All locks that are kept shut, for listings.
    pub(crate) fn all_kept(&self) -> Vec<Kept> {
        if self.config.lock_delay.is_zero() {
            return Vec::new();
        }
        self.kept_shut.all()
    }

    /// Key and number of a lock that is kept shut, if it still is.
    pub(crate) fn key_of_kept(&self, kept: &Kept) -> Option<(ObjectKey, u64)> {
        let entry = self.table.entry(kept.entry);
        let hash = entry.hash();
        let _shard = self.lock_shard(hash);
        (entry.hash() == hash && self.is_kept(kept.entry, kept.until))
            .then(|| (entry.key(self.table.arena()), entry.fence()))
    }

    /// Who is named as the holder of a lock that is kept shut.
    pub(crate) fn kept_shut_name() -> &'static str {
        KEPT_SHUT
    }
}
