//! The tests of the drop-in, as one program.

// What an engine's manifest does: the crate goes by the name of the one it stands in for.
extern crate keylatch_rustfs as rustfs_lock;

mod batch;
mod early;
mod environment;
mod face;
mod listing;
