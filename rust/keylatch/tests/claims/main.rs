//! Claims through the public interface.

mod board;
mod fixture;
mod sessions;
mod subscribing;
