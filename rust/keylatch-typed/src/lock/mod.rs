//! The lock itself, without a value and without statistics of holds.

mod line;
mod raw;
mod waits;
mod wakes;
mod words;

pub(crate) use line::FURTHEST_PLACE;
pub(crate) use raw::{Answered, Checked, Counts, Joined, Look, Patience, RawLock, Refusal, WaitingPlace};
pub use waits::EndedWaits;
pub(crate) use words::Mode;
