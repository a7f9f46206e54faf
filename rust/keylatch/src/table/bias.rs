//! When the readers of an entry use slots, and when they cease to.
//!
//! While an entry is *biased* its readers are in slots of their own threads (see [`super::slots`]), which is cheap for them
//! and dear for the first that wants to know how many there are. So the bias ends before the shard's owner does anything but
//! to share the lock: take it exclusively, line up, convert, revoke, list, evict. After that the word is exact, as that of
//! any other entry.
//!
//! Ending it takes a look at each slot there is. How long it takes is measured, and for a multiple of that no entry of the
//! shard is biased; for twice as long each time a bias ends soon after it began.

use super::entry::Entry;
use super::shard::LockedShard;
use crate::memory::NONE;
use crate::sync::Clock;
use crate::sync::atomic::Ordering;

/// So many times as long as the end of a bias took, the shard is without one: collecting takes a thirtieth of the time at
/// most.
const RESTS: u64 = if cfg!(loom) { 0 } else { 30 };
/// Bounds of that rest, in nanoseconds, before it is doubled.
const SHORTEST_REST: u64 = if cfg!(loom) { 0 } else { 100_000 };
const LONGEST_REST: u64 = 10_000_000;
/// How often it is doubled at most.
const MOST_DOUBLED: u32 = 7;

/// When a shard may have a biased entry again. Times are nanoseconds of the table's clock.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// When the latest bias began.
    began: u64,
    /// When the next may begin.
    rests_until: u64,
    /// How often the rest is doubled.
    doubled: u32,
}

impl Backoff {
    fn begin(&mut self, now: u64) -> bool {
        if now < self.rests_until {
            return false;
        }
        self.began = now;
        true
    }

    /// A bias ended that took so long to end.
    fn end(&mut self, now: u64, took: u64) {
        let rest = (took * RESTS).clamp(SHORTEST_REST, LONGEST_REST);
        let was_short = now.saturating_sub(self.began) < 2 * (rest << self.doubled);
        self.doubled = if was_short { (self.doubled + 1).min(MOST_DOUBLED) } else { 0 };
        self.rests_until = now.saturating_add(rest << self.doubled);
    }
}

fn nanos(clock: &Clock) -> u64 {
    u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl LockedShard<'_> {
    /// Has the readers of an entry use slots, if nothing but readers is in it and it is time.
    ///
    /// The entry is in this shard.
    pub(crate) fn bias(&mut self, index: u32) {
        let entry = self.table.entry(index);
        let is_plain = entry.queue_head.load(Ordering::Relaxed) == NONE
            && !entry.has_permit()
            && !entry.is_leased()
            && entry.counted() == 0;
        if !is_plain || !self.book.backoff.begin(nanos(&self.table.began)) {
            return;
        }
        let mut seen = entry.word();
        while let Some(biased) = seen.biased() {
            match entry.swap(seen, biased) {
                Ok(()) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Has the word of an entry say all there is to say of its holders, for as long as the mutex is held.
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
        self.book.backoff.end(ended, ended.saturating_sub(began));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn rest_grows_while_biases_are_short() {
        let mut backoff = Backoff::default();
        let mut now = 1;
        let mut last = 0;
        for _ in 0..MOST_DOUBLED {
            assert!(backoff.begin(now));
            backoff.end(now, 10_000);
            let rest = backoff.rests_until - now;
            assert!(rest > last && !backoff.begin(now + rest - 1));
            (now, last) = (now + rest, rest);
        }
        assert!(last <= LONGEST_REST << MOST_DOUBLED);
        // One that was worth it.
        assert!(backoff.begin(now));
        backoff.end(now + 10 * last, 10_000);
        assert_eq!(backoff.rests_until - now - 10 * last, 300_000);
    }
}
