//! What the machine keeps of the tier, and what it wants there.

use super::call::{Item, RequestKey, Wait};
use std::sync::Arc;
use std::time::Duration;

/// What the tier is asked for.
#[derive(Debug, Clone)]
pub struct TierAsk {
    /// The request that waits for it.
    pub request: RequestKey,
    /// Its keys.
    pub items: Arc<[Item]>,
    /// The owner's label.
    pub owner: Arc<str>,
    /// Whether it may wait there.
    pub wait: Wait,
}

/// What the shell has to do at the tier.
#[derive(Debug, Clone)]
pub enum TierNote {
    /// Ask for the keys of a request.
    Ask(TierAsk),
    /// Give back what this request has there, or stop asking.
    Over(RequestKey),
}

/// What is known of the tier.
#[derive(Debug, Clone, Default)]
pub(super) struct TierState {
    /// The number of its lease; `None` without one.
    pub(super) lease: Option<u64>,
    /// Until when that lasts.
    pub(super) until: Duration,
    /// No other lease is noted.
    pub(super) is_ending: bool,
    pub(super) notes: Vec<TierNote>,
}
