//! Figures: what happened, and whether that is healthy.

mod health;
mod metrics;
mod openmetrics;

pub use health::Health;
pub use metrics::{LockMetrics, ShardMetrics, WaitHistogram};
pub use openmetrics::OPENMETRICS_CONTENT_TYPE;
