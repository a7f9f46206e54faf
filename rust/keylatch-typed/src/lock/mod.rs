//! The lock itself, without a value and without statistics of holds.

mod line;
mod raw;
mod wakes;
mod word;

pub(crate) use raw::{Checked, Counts, Joined, Patience, RawLock, Refusal, WaitingPlace};
pub(crate) use word::Mode;
