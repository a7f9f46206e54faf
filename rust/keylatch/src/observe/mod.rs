//! What happened: figures, whether they are healthy, and what is worth telling at once.

mod adaptive;
mod event;
mod events;
mod health;
mod histogram;
mod learned_timeout;
mod metrics;
mod openmetrics;
mod tally;
#[cfg(feature = "tracing")]
mod tracing;
mod wait_window;

pub(crate) use adaptive::Adaptive;
pub use adaptive::AdaptiveState;
pub use event::Event;
pub use events::EventOptions;
pub(crate) use events::{Audience, Inbox, Outlet};
pub use health::Health;
pub use histogram::WaitHistogram;
pub(crate) use histogram::bucket_of;
pub use learned_timeout::LearnedTimeout;
pub use metrics::{LockMetrics, ShardMetrics};
pub use openmetrics::{HOTTEST_KEYS, OPENMETRICS_CONTENT_TYPE};
pub use tally::HoldTimes;
pub(crate) use tally::Tally;
pub use wait_window::{EndedWaits, RecentFigures, WaitOutcomes};
pub(crate) use wait_window::{WaitKind, WaitOutcome};
