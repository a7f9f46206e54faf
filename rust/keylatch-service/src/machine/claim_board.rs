//! The board of claims that the machine begins with, and what it notes of answers.

use super::call::{Limits, RequestKey};
use keylatch::claim::{ClaimAnswer, ClaimBoard, ClaimConfig, ClaimStart};
use std::time::Duration;

/// A claim's answer changed: what the session's stream carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNote {
    /// The request.
    pub request: RequestKey,
    /// Its stored answer.
    pub answer: ClaimAnswer,
}

/// Returns an empty board with the machine's limits.
pub(super) fn board(limits: &Limits, epoch: u64, quiet: Duration) -> ClaimBoard {
    let config = ClaimConfig {
        retain_for: limits.claim_retention,
        retain_count: limits.claim_outcomes.max(1),
        ring: limits.claim_events.max(1),
        max_sessions: usize::MAX,
        max_open: limits.open_requests.max(1),
        max_waiters: limits.waiters,
        max_text_bytes: limits.text_bytes,
        max_key_bytes: limits.key_bytes.max(1),
        max_ttl: limits.max_ttl.max(Duration::from_millis(1)),
        grace: limits.grace.max(Duration::from_millis(1)),
    };
    let start = ClaimStart { epoch, fences: 0..0, quiet_until: quiet };
    ClaimBoard::new(config, start).expect("each setting that may not be zero is not")
}
