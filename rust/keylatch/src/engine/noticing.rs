//! What happens under a shard's mutex and is worth telling those who listen.
//!
//! It is noted there, where key, owner and holders are at hand, and told after the mutex is released: whoever comes from
//! the mutex tells what was noted, see `settle_and_wake`. When nobody listens, each place costs one look at a word.

use super::core::Core;
use crate::error::LockError;
use crate::observe::Event;
use crate::sync::atomic::Ordering;
use crate::table::Entry;
use crate::wait::Waiter;
use std::time::Duration;

impl Core {
    /// A wait has ended. The caller owns the shard, and the entry has its key still.
    #[inline]
    pub(crate) fn notice_wait(&self, entry: &Entry, waiter: &Waiter, now: u64, granted: bool) {
        let waited = now.saturating_sub(waiter.since.load(Ordering::Relaxed));
        if self.events.hears_wait(waited) {
            self.notice_wait_slow(entry, waiter, waited, granted);
        }
    }

    #[cold]
    fn notice_wait_slow(&self, entry: &Entry, waiter: &Waiter, waited: u64, granted: bool) {
        let owner = self.owner_label(waiter.owner.load(Ordering::Relaxed));
        self.events.note(Event::SlowWait {
            key: entry.key(self.table.arena()),
            mode: waiter.asking().mode,
            owner: owner.name,
            source: owner.source,
            waited: Duration::from_nanos(waited),
            granted,
        });
    }

    /// A wait ends because its time is over: says who holds the lock, while nobody can come or go, in the error that the
    /// waiter will have and to those who listen. The caller owns the shard and has not told the waiter yet.
    #[cold]
    pub(crate) fn explain_timeout(&self, entry: &Entry, waiter: &Waiter, now: u64) {
        let waited = Duration::from_nanos(now.saturating_sub(waiter.since.load(Ordering::Relaxed)));
        let holders = self.holders(waiter.entry.load(Ordering::Relaxed), entry, true);
        let key = entry.key(self.table.arena());
        if self.events.is_heard() {
            let owner = self.owner_label(waiter.owner.load(Ordering::Relaxed));
            let (key, mode, holders) = (key.clone(), waiter.asking().mode, holders.clone());
            let (owner, source) = (owner.name, owner.source);
            self.events.note(Event::Timeout { key, mode, owner, source, waited, holders });
        }
        waiter.explain(LockError::Timeout { key, waited, holders });
    }
}
