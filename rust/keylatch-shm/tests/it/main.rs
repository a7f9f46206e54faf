//! Tests of the crate's public face, with real processes.

mod bad_input;
mod children;
mod lock_file;
mod locking;
mod prepared;
mod processes;
mod tier;
