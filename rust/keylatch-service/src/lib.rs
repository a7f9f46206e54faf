//! keylatch over HTTP: the lock service, its client and the command line.
//!
//! | module | what it is |
//! |---|---|
//! | [`machine`] | the rules, as a state machine without clock, sockets and threads |
//! | [`server`] | the HTTP service around it |
//! | [`client`] | sessions that renew themselves, guards that know whether they are safe |
//! | [`cli`] | the command `keylatch` |

pub mod cli;
pub mod client;
pub mod machine;
pub mod server;
