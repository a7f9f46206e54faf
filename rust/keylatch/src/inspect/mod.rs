//! Questions about the whole: the holders, the waiters, and which session waits for which.
//!
//! The room reads beside the engine and does not stop it. Records and waiters are visited without a mutex; only to copy a
//! key is the mutex of its shard taken. So a listing is not one moment of the whole, but each of its rows is true. A lock
//! that is held from before the listing to after it is in it exactly once.
//!
//! The search for deadlocks is the one question with a consequence: it ends the wait of a victim. On request, lock orders
//! that could become a deadlock are reported before they do.

mod chain;
pub(crate) mod deadlock;
mod holders;
pub(crate) mod lock_order;
mod revoke;
mod top;
pub(crate) mod wait_for;
mod waiters;

pub use crate::hold::Filter;
pub use crate::listed::{Cycle, LockOrderReports, TopKey};
pub use chain::{BlockingChain, ChainLink, ChainStart};
pub use top::TopBy;
