//! Locks between machines, on real etcd servers that the tests start and end.

#![allow(clippy::print_stdout, reason = "a second process speaks to its parent, and runs say what they did")]

mod child;
mod cluster;
mod faults;
mod fenced;
mod full;
mod history;
mod late;
mod listing;
mod locking;
mod login;
mod managers;
mod marks;
mod members;
mod opening;
mod postgres;
mod proxy;
mod record;
mod slots;
mod tier;
#[path = "../../../keylatch/tests/tier_events/mod.rs"]
mod tier_events;
mod unknown;
