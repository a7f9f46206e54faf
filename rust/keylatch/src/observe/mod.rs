//! What people read: figures, and whether they are healthy.

mod learned_timeout;
mod openmetrics;

pub use crate::events::{Event, EventOptions};
pub use crate::measure::{
    AdaptiveState, EndedWaits, Health, HoldTimes, LockMetrics, RecentFigures, ShardMetrics, WaitHistogram, WaitOutcomes,
};
pub(crate) use crate::measure::{WaitKind, WaitOutcome, bucket_of};
pub use learned_timeout::LearnedTimeout;
pub use openmetrics::{HOTTEST_KEYS, OPENMETRICS_CONTENT_TYPE};
