//! What the engine measures: waits and holds, in all and lately, and the timeout that they suggest.

mod adaptive;
mod histogram;
mod tally;
mod wait_window;

pub(crate) use adaptive::Adaptive;
pub use adaptive::AdaptiveState;
pub use histogram::WaitHistogram;
pub(crate) use histogram::bucket_of;
pub use tally::HoldTimes;
pub(crate) use tally::Tally;
pub use wait_window::{EndedWaits, RecentFigures, WaitOutcomes};
pub(crate) use wait_window::{WaitKind, WaitOutcome};
