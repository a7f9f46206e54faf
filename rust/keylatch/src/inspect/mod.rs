//! Questions about who holds and who waits, and what follows from the answers.
//!
//! This room stands beside the engine: it reads through the lines, the records and the sessions, and changes nothing,
//! but that it ends the wait of the session that gives way in a deadlock.

pub(crate) mod deadlock;
pub(crate) mod wait_for;

pub use deadlock::Cycle;
