//! How long a shard is without a biased entry after one ended.

/// How much longer than the end of a bias took the shard is without one.
///
/// So collecting takes a thirtieth of the time in the long run.
const RESTS: u64 = if cfg!(loom) { 0 } else { 30 };
/// Bounds of that rest, in nanoseconds, before it is doubled.
const SHORTEST_REST: u64 = if cfg!(loom) { 0 } else { 100_000 };
const LONGEST_REST: u64 = 10_000_000;
/// How often it is doubled at most.
const MOST_DOUBLED: u32 = 7;

/// When a shard may have a biased entry again.
///
/// Times are nanoseconds of the table's clock.
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
    /// Returns whether a bias may begin now.
    pub(super) fn allows(&self, now: u64) -> bool {
        now >= self.rests_until
    }

    /// Notes that a bias begins.
    pub(super) fn begin(&mut self, now: u64) {
        self.began = now;
    }

    /// Notes that a bias ended, and how long that took.
    pub(super) fn end(&mut self, now: u64, took: u64) {
        let rest = (took * RESTS).clamp(SHORTEST_REST, LONGEST_REST);
        let was_short = now.saturating_sub(self.began) < 2 * (rest << self.doubled);
        self.doubled = if was_short { (self.doubled + 1).min(MOST_DOUBLED) } else { 0 };
        // Several that began before the first of them ended rest one after the other.
        self.rests_until = self.rests_until.max(now).saturating_add(rest << self.doubled);
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
            assert!(backoff.allows(now));
            backoff.begin(now);
            backoff.end(now, 10_000);
            let rest = backoff.rests_until - now;
            assert!(rest > last && !backoff.allows(now + rest - 1));
            (now, last) = (now + rest, rest);
        }
        assert!(last <= LONGEST_REST << MOST_DOUBLED);
        // One that was worth it.
        backoff.begin(now);
        backoff.end(now + 10 * last, 10_000);
        assert_eq!(backoff.rests_until - now - 10 * last, 300_000);
    }
}
