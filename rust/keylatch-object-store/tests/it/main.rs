//! The tests of the locked store, as one program.

mod fencing;
mod integration;
mod locking;
mod paused;
mod several;
