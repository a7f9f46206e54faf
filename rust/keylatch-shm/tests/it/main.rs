//! Tests of the crate's public face, with real processes.

mod bad_input;
mod children;
mod lock_file;
mod locking;
mod prepared;
mod processes;
mod tier;
#[path = "../../../keylatch/tests/tier_events/mod.rs"]
mod tier_events;
