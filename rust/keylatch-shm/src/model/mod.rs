//! The protocol between processes, searched state by state.
//!
//! [`entry`] and [`recovery`] follow words, bitmaps, logs and bells, one access to shared memory a step, with a crash
//! possible before each; [`rekey`] follows how an entry gets another key, [`sharers`] how threads share a name, and
//! [`revoking`] and [`revokers`] how a hold is taken away. They use the transitions of [`crate::word`], the ones that run in production.
//! [`runs`] lists what is searched, and the deliberate faults that have to be noticed.

#![allow(clippy::print_stdout, reason = "the searches say how many states they went through")]

mod deaths;
mod entry;
mod fault;
mod kept;
mod recall;
mod recovery;
mod rekey;
mod revokers;
mod revoking;
mod runs;
mod searches;
mod sharers;
mod sleeps;
mod state;
mod upgrade;
