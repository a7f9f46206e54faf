//! When the readers of an entry use slots, and when they cease to.
//!
//! While an entry is *biased* its readers are in slots of their own threads (see [`super::slots`]), which is cheap for them
//! and dear for the first that wants to know how many there are. So the bias ends before the shard's owner does anything but
//! to share the lock: take it exclusively, line up, convert, revoke, list, evict. After that the word is exact, as that of
//! any other entry.
//!
//! Ending it takes a look at each slot there is, and a barrier that interrupts every thread of the process. How long that
//! takes is measured, and for a multiple of it no bias begins, in any shard; in this one for twice as long each time a bias
//! ends soon after it began. Nor does an idle key that wants a warm slot end a bias, unless that has lasted for long.

use super::entry::Entry;
use super::shard::LockedShard;
use crate::memory::{Cache, NONE};
use crate::sync::Clock;
use crate::sync::atomic::Ordering;

fn nanos(clock: &Clock) -> u64 {
    u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl LockedShard<'_> {
    /// Has the readers of an entry use slots, if it is time.
    ///
    /// Not if anything but readers is in it, or waits for it. The entry is in this shard, and held if it carries EVICT.
    ///
    /// Returns whether they do.
    pub(crate) fn bias(&mut self, cache: &Cache, index: u32) -> bool {
        let entry = self.table.entry(index);
        let is_plain = entry.queue_head.load(Ordering::Relaxed) == NONE && !entry.has_permit();
        // Asked again after it took over a warm slot: that may have ended another bias.
        if !is_plain || !self.may_bias() || !self.warm_up(cache, index) || !self.may_bias() {
            return false;
        }
        let now = nanos(&self.table.began);
        let mut seen = entry.word();
        while let Some(biased) = seen.biased() {
            match entry.swap(seen, biased) {
                Ok(()) => {
                    self.book.backoff.begin(index, now);
                    return true;
                }
                Err(now) => seen = now,
            }
        }
        seen.is_biased()
    }

    /// Returns whether no bias ended too short a time ago.
    fn may_bias(&self) -> bool {
        let now = nanos(&self.table.began);
        self.book.backoff.allows(now) && self.table.rest.allows(now)
    }

    /// As `bias`, however soon.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn bias_anyway(&mut self, cache: &Cache, index: u32) -> bool {
        self.book.backoff = super::backoff::Backoff::default();
        self.table.rest.forget();
        // Before the first bias, as the engine does.
        self.table.slots.prepare();
        self.bias(cache, index)
    }

    /// Returns whether an entry keeps its warm slot, because it is biased.
    pub(super) fn is_hot(&self, index: u32) -> bool {
        self.table.entry(index).word().is_biased() && self.book.backoff.keeps_its_slot(index, nanos(&self.table.began))
    }

    /// Has the word of an entry count all its readers.
    ///
    /// It does for as long as the mutex is held.
    #[inline]
    pub(crate) fn unbias(&mut self, index: u32, entry: &Entry) {
        if entry.word().is_biased() {
            self.unbias_slow(index, entry);
        }
    }

    #[cold]
    #[inline(never)]
    fn unbias_slow(&mut self, index: u32, entry: &Entry) {
        let began = nanos(&self.table.began);
        self.table.slots.collect(index, entry);
        let ended = nanos(&self.table.began);
        let took = ended.saturating_sub(began);
        self.book.backoff.end(index, ended, took);
        self.table.rest.end(ended, took);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::key::KeyRef;
    use crate::mode::Mode;
    use crate::table::Table;

    #[test]
    fn bias_waits_for_the_rest_of_another_shard() {
        let (table, cache) = (Table::reserve(2, 100).unwrap(), Cache::default());
        let key = KeyRef::new("b", "o");
        let indexes = [0, 1].map(|shard| {
            table.lock(shard).insert_idle(&cache, u64::from(shard), &key, Some(Mode::Exclusive)).unwrap().0
        });
        assert!(table.lock(0).bias(&cache, indexes[0]));
        table.lock(0).unbias(indexes[0], table.entry(indexes[0]));
        // As if that had taken a second.
        table.rest.end(nanos(&table.began), 1_000_000_000);
        let mut other = table.lock(1);
        assert!(!other.bias(&cache, indexes[1]) && other.bias_anyway(&cache, indexes[1]));
    }
}
