//! Counts of what happened since the start.

use super::call::Reason;
use keylatch::claim::ClaimAnswer;
use std::time::Duration;

/// Upper bounds of the wait histogram's buckets, in µs; one more has no bound.
pub const WAIT_BOUNDS_US: [u64; 14] =
    [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 512_000, 2_000_000, 8_000_000, 32_000_000];

/// Figures of the server since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests that were granted in the step they arrived in.
    pub granted_free: u64,
    /// Requests that were granted after they had waited.
    pub granted_after_wait: u64,
    /// Keys that were granted, each of a request counted.
    pub keys_granted: u64,
    /// Requests that took a place in line.
    pub queued: u64,
    /// Requests that were not to wait and found their keys not free.
    pub refused: u64,
    /// Requests that the client released.
    pub released: u64,
    /// Requests that were cancelled.
    pub cancelled: u64,
    /// Holds that ended by force.
    pub lost_forced: u64,
    /// Holds that ended with a lease.
    pub lost_expired: u64,
    /// Holds that ended with their session, or because later calls did not list them.
    pub lost_given_up: u64,
    /// Holds that the tier lost.
    pub lost_tier: u64,
    /// Sessions that were opened.
    pub sessions_opened: u64,
    /// Sessions whose lease was over.
    pub sessions_expired: u64,
    /// Claims that became owners.
    pub claims_granted: u64,
    /// Owners that completed their work with a success.
    pub claims_completed: u64,
    /// Owners that reported a failure, or gave their work up.
    pub claims_failed: u64,
    /// Claims whose grant or place ended with a lease, with a session or by force.
    pub claims_lost: u64,
    /// How many waits were how long; the last has no bound.
    pub wait_buckets: [u64; WAIT_BOUNDS_US.len() + 1],
    /// Time waited altogether, by requests that were granted.
    pub wait_total: Duration,
    /// The longest of those waits.
    pub wait_max: Duration,
}

impl Figures {
    pub(super) fn granted(&mut self, was_queued: Option<Duration>, keys: usize) {
        self.keys_granted += keys as u64;
        let Some(waited) = was_queued else {
            self.granted_free += 1;
            return;
        };
        self.granted_after_wait += 1;
        let micros = waited.as_micros();
        let bucket = WAIT_BOUNDS_US.iter().position(|bound| micros <= u128::from(*bound));
        self.wait_buckets[bucket.unwrap_or(WAIT_BOUNDS_US.len())] += 1;
        self.wait_total += waited;
        self.wait_max = self.wait_max.max(waited);
    }

    pub(super) fn claim_answered(&mut self, answer: &ClaimAnswer) {
        match answer {
            ClaimAnswer::Yours(_) => self.claims_granted += 1,
            ClaimAnswer::Ended(Ok(_)) => self.claims_completed += 1,
            ClaimAnswer::Ended(Err(_)) | ClaimAnswer::Cancelled { grant: Some(_) } => self.claims_failed += 1,
            ClaimAnswer::Lost(_) => self.claims_lost += 1,
            _ => {}
        }
    }

    pub(super) fn lost(&mut self, reason: Reason) {
        match reason {
            Reason::Forced => self.lost_forced += 1,
            Reason::Expired => self.lost_expired += 1,
            Reason::SessionEnded | Reason::GivenUp => self.lost_given_up += 1,
            Reason::TierLost => self.lost_tier += 1,
        }
    }

    /// Returns a bound that at least this share of waits (0 to 1) stayed within.
    ///
    /// `None` without waits or beyond the last bound.
    #[must_use]
    pub fn wait_quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.granted_after_wait as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let position = self.wait_buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        WAIT_BOUNDS_US.get(position).map(|bound| Duration::from_micros(*bound))
    }
}
