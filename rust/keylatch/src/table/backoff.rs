//! How long a shard is without a new biased entry after one ended, and how long all shards are.
//!
//! A shard rests for longer each time its biases are short: then they are of no use there. All shards rest together because
//! the end of a bias holds up every thread of the process, whatever shard it is of.

use crate::sync::atomic::{AtomicU64, Ordering};

/// How much longer than the end of a bias took the shard is without one.
///
/// So collecting takes a thirtieth of the time in the long run.
const RESTS: u64 = if cfg!(loom) { 0 } else { 30 };
/// Bounds of that rest, in nanoseconds, before it is doubled.
const SHORTEST_REST: u64 = if cfg!(loom) { 0 } else { 100_000 };
const LONGEST_REST: u64 = 10_000_000;
/// How often it is doubled at most.
const MOST_DOUBLED: u32 = 7;
/// Where rests that follow each other end, however many there are.
const MOST_REST: u64 = LONGEST_REST << MOST_DOUBLED;
/// How long a bias lasts although another entry wants the warm slot.
///
/// To end it once in that time costs next to nothing. An entry that has no readers any more does not keep its slot.
///
/// Under the model checker: from one look at the clock to the next.
const KEEPS_ITS_SLOT: u64 = if cfg!(loom) { 2 } else { 1_000_000_000 };
/// Biases of which a shard knows when they began.
const KNOWN: usize = if cfg!(loom) { 1 } else { 4 };

/// When a shard may have a biased entry again.
///
/// Times are nanoseconds of the table's clock.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// When the next may begin.
    rests_until: u64,
    /// How often the rest is doubled.
    doubled: u32,
    /// Those of several entries that began last.
    biases: [Bias; KNOWN],
}

#[derive(Debug, Default, Clone, Copy)]
struct Bias {
    entry: u32,
    began: u64,
}

impl Backoff {
    /// Returns whether a bias may begin now.
    pub(super) fn allows(&self, now: u64) -> bool {
        now >= self.rests_until
    }

    /// Notes that the bias of an entry begins.
    pub(super) fn begin(&mut self, entry: u32, now: u64) {
        let known = self.biases.iter().position(|bias| bias.entry == entry);
        let oldest = || (0..KNOWN).min_by_key(|place| self.biases[*place].began);
        if let Some(place) = known.or_else(oldest) {
            self.biases[place] = Bias { entry, began: now };
        }
    }

    /// Returns when the latest bias of an entry began.
    ///
    /// Of one that is not known, a later moment: that of the oldest that is.
    fn began(&self, entry: u32) -> u64 {
        let known = self.biases.iter().find(|bias| bias.entry == entry).map(|bias| bias.began);
        known.or_else(|| self.biases.iter().map(|bias| bias.began).min()).unwrap_or(0)
    }

    /// Returns whether a biased entry keeps its warm slot.
    pub(super) fn keeps_its_slot(&self, entry: u32, now: u64) -> bool {
        now.saturating_sub(self.began(entry)) < KEEPS_ITS_SLOT
    }

    /// Notes that the bias of an entry ended, and how long that took.
    pub(super) fn end(&mut self, entry: u32, now: u64, took: u64) {
        let rest = (took * RESTS).clamp(SHORTEST_REST, LONGEST_REST);
        let was_short = now.saturating_sub(self.began(entry)) < 2 * (rest << self.doubled);
        self.doubled = if was_short { (self.doubled + 1).min(MOST_DOUBLED) } else { 0 };
        // Several that began before the first of them ended rest one after the other.
        let until = self.rests_until.max(now).saturating_add(rest << self.doubled);
        self.rests_until = until.min(now.saturating_add(MOST_REST));
    }
}

/// When any shard may have a new biased entry.
///
/// So the ends of all biases together take a thirtieth of the time in the long run.
#[derive(Debug, Default)]
pub(super) struct CommonRest {
    until: AtomicU64,
}

impl CommonRest {
    /// Returns whether a bias may begin now.
    pub(super) fn allows(&self, now: u64) -> bool {
        // Relaxed, as below: nothing is seen by it. A bias that begins too early costs some microseconds.
        now >= self.until.load(Ordering::Relaxed)
    }

    /// Forgets the biases that there were.
    #[cfg(all(test, not(loom)))]
    pub(super) fn forget(&self) {
        self.until.store(0, Ordering::Relaxed);
    }

    /// Notes that a bias ended, and how long that took.
    pub(super) fn end(&self, now: u64, took: u64) {
        // One after the other, like those of a shard.
        let later = |until: u64| Some((until.max(now).saturating_add(took * RESTS)).min(now.saturating_add(MOST_REST)));
        let _ = self.until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn rests_of_all_shards_add_up() {
        let rest = CommonRest::default();
        assert!(rest.allows(0));
        (0..10).for_each(|_| rest.end(1_000, 100));
        assert!(!rest.allows(1_000 + 10 * 100 * RESTS - 1) && rest.allows(1_000 + 10 * 100 * RESTS));
        rest.end(1_000, u64::MAX / RESTS);
        assert!(!rest.allows(999 + MOST_REST) && rest.allows(1_000 + MOST_REST));
    }

    #[test]
    fn rest_grows_while_biases_are_short() {
        let mut backoff = Backoff::default();
        let mut now = 1;
        let mut last = 0;
        for _ in 0..MOST_DOUBLED {
            assert!(backoff.allows(now));
            backoff.begin(1, now);
            backoff.end(1, now, 10_000);
            let rest = backoff.rests_until - now;
            assert!(rest > last && !backoff.allows(now + rest - 1));
            (now, last) = (now + rest, rest);
        }
        assert!(last <= LONGEST_REST << MOST_DOUBLED);
        // One that was worth it.
        backoff.begin(1, now);
        backoff.end(1, now + 10 * last, 10_000);
        assert_eq!(backoff.rests_until - now - 10 * last, 300_000);
    }

    #[test]
    fn rests_of_several_keys_are_bounded() {
        let mut backoff = Backoff::default();
        (1..=1000).for_each(|entry| backoff.begin(entry, 1));
        (1..=1000).for_each(|entry| backoff.end(entry, 2, u64::MAX / RESTS));
        assert!(backoff.allows(2 + MOST_REST) && !backoff.allows(2 + LONGEST_REST));
    }

    #[test]
    fn bias_is_judged_by_its_own_begin() {
        const LATER: u64 = 1_000_000_000;
        let mut backoff = Backoff::default();
        backoff.begin(1, 0);
        backoff.begin(2, LATER);
        backoff.end(1, LATER, 0);
        assert_eq!((backoff.doubled, backoff.rests_until), (0, LATER + SHORTEST_REST), "it lasted for long");
        backoff.end(2, LATER, 0);
        assert_eq!(backoff.doubled, 1);
        // One of more than are known is no older than those.
        (3..).take(KNOWN).for_each(|entry| backoff.begin(entry, 2 * LATER));
        assert!(backoff.keeps_its_slot(1, 3 * LATER - 1) && !backoff.keeps_its_slot(1, 3 * LATER));
    }

    #[test]
    fn bias_that_begins_anew_displaces_no_other() {
        const A_SECOND: u64 = 1_000_000_000;
        let mut backoff = Backoff::default();
        backoff.begin(2, 0);
        (1..=4).for_each(|turn| backoff.begin(1, turn * A_SECOND / 8));
        assert!(backoff.keeps_its_slot(2, A_SECOND - 1) && !backoff.keeps_its_slot(2, A_SECOND));
        assert!(backoff.keeps_its_slot(1, A_SECOND));
    }
}
