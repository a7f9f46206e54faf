//! A client of etcd's v3 interface: what the protocol needs of it, and no more.
//!
//! [`channels`] keeps one connection a member and changes members when one does not answer. [`calls`] sends one request
//! again until it has an answer. [`watches`] carries many watches on one stream.

mod auth;
mod calls;
mod channels;
mod open;
mod reason;
mod watches;

pub(crate) use calls::{Answer, CallError, Client, Sent};
pub(crate) use watches::{Signal, Watches};
