//! What happened: figures, whether they are healthy, and what is worth telling at once.

mod adaptive;
mod events;
mod health;
mod metrics;
mod openmetrics;
#[cfg(feature = "tracing")]
mod tracing;

pub(crate) use adaptive::Adaptive;
pub use adaptive::AdaptiveState;
pub(crate) use events::{Audience, Inbox, Outlet};
pub use events::{Event, EventOptions};
pub use health::Health;
pub use metrics::{LockMetrics, ShardMetrics, WaitHistogram};
pub use openmetrics::OPENMETRICS_CONTENT_TYPE;
