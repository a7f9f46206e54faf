//! Everything that a user of the crate can see, by subject.

mod snapshot;
