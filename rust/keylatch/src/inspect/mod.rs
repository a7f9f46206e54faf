//! Questions about all of it: who holds what, who waits for what, and who for whom.
//!
//! Beside the engine, and never in its way: records and waiters are walked without a lock, and only to read a key is the
//! mutex of its shard taken, for as long as it takes to copy the key. So a listing is not one moment of the whole, but
//! each of its rows is true: a lock held from before the listing to after it is in it exactly once, and what is
//! in it was so while it was made.
//!
//! And one question whose answer has a consequence: who waits for whom in a circle. One of them is made to give way. Where
//! it is asked for, orders of locks that could become such a circle are reported before they do.

mod chain;
pub(crate) mod deadlock;
mod listing;
pub(crate) mod lock_order;
mod taking;
mod top;
pub(crate) mod wait_for;

pub use crate::hold::Filter;
pub use crate::listed::{Cycle, LockOrderReports, TopKey};
pub use chain::{BlockingChain, ChainLink, ChainStart};
pub use top::TopBy;
