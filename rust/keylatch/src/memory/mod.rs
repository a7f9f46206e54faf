//! Memory that stays what it is: values named by index, reserved once, never unmapped while the manager lives.
//!
//! This is what lets a look-up read without a lock, an epoch or a reference count: whatever an old index names, it names
//! a value of the same kind, and whether it is the right one is for the reader's own compare-and-swap to find out.

pub(crate) mod arena;
pub(crate) mod region;

pub(crate) use arena::{Arena, Cache, NONE, Pooled};
pub(crate) use region::{Region, Vacant};
