//! The protocol, searched state by state with lost, doubled and late messages.
//!
//! [`server`] is what etcd does with a request, in one step. [`client`] is what a process does, one decision a step.
//! [`search`] joins them with a network and a clock, and says what has to hold. [`runs`] lists what is searched, and the
//! deliberate [`fault`]s that have to be noticed.

#![allow(clippy::print_stdout, reason = "the searches say how many states they went through")]

mod client;
mod fault;
mod runs;
mod search;
mod server;
mod state;
