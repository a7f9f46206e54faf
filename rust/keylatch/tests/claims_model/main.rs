//! The protocol of claims, model-checked: the board that ships behind a network that does what networks do.
//!
//! `protocol` is the model, `ghost` its invariants, `setups` what is tried. `reference` is the protocol as it is written
//! down, with the faults of `fault` to be switched on: each has to be noticed.

#![allow(clippy::print_stdout)]

mod client;
mod events;
mod fault;
mod ghost;
mod production;
mod protocol;
mod reference;
mod setups;
mod time;
mod wire;
