//! What the engine measures: waits and holds, in all and lately, and the timeout that they suggest.

mod adaptive;
mod health;
mod histogram;
mod metrics;
mod tally;
mod wait_window;

pub(crate) use adaptive::Adaptive;
pub use adaptive::AdaptiveState;
pub use health::Health;
pub use histogram::WaitHistogram;
pub(crate) use histogram::bucket_of;
pub use metrics::{LockMetrics, ShardMetrics};
pub use tally::HoldTimes;
pub(crate) use tally::Tally;
pub use wait_window::{EndedWaits, RecentFigures, WaitOutcomes};
pub(crate) use wait_window::{WaitKind, WaitOutcome};
