//! Everything that a user of the crate can see, by subject.

mod adaptive;
mod bad_input;
mod cancellation;
mod events;
mod fairness;
mod locks;
mod monitor;
mod seed_programs;
mod snapshot;
mod statistics;
mod waiting;
