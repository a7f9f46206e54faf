//! Claims through the public interface.

mod board;
mod fixture;
mod race;
mod sessions;
mod subscribing;
mod waiting;
