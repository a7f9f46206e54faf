//! Everything that a user of the crate can see, by subject.

mod bad_input;
mod cancellation;
mod fairness;
mod locks;
mod snapshot;
mod waiting;
