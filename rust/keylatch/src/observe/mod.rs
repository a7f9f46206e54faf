//! What people read: figures, and whether they are healthy.

mod health;
mod learned_timeout;
mod metrics;
mod openmetrics;

pub use crate::events::{Event, EventOptions};
pub use crate::measure::{AdaptiveState, EndedWaits, HoldTimes, RecentFigures, WaitHistogram, WaitOutcomes};
pub(crate) use crate::measure::{WaitKind, WaitOutcome, bucket_of};
pub use health::Health;
pub use learned_timeout::LearnedTimeout;
pub use metrics::{LockMetrics, ShardMetrics};
pub use openmetrics::{HOTTEST_KEYS, OPENMETRICS_CONTENT_TYPE};
