//! Figures: what happened, and whether that is healthy.

mod health;
mod metrics;

pub use health::Health;
pub use metrics::{LockMetrics, ShardMetrics, WaitHistogram};
