//! The HTTP service around the [`Machine`](crate::machine::Machine): sockets, time, marks on disk, authentication.

#![allow(clippy::result_large_err, reason = "a problem is made once for each call that fails, and sent")]

mod asked;
mod attach;
mod auth;
mod body;
mod claim_events;
pub mod claim_rows;
pub mod claim_wire;
mod claims;
mod etcd_settings;
mod events;
mod host;
mod listen;
mod listings;
mod locks;
mod marks;
mod outbox;
mod problem;
mod router;
mod run;
mod sessions;
mod shared;
#[cfg(target_os = "linux")]
mod space;
#[cfg(not(target_os = "linux"))]
#[path = "no_space.rs"]
mod space;
mod status;
mod texts;
mod threads;
mod tier;
mod tier_link;
mod tls;
pub mod wire;

pub use auth::{AccessError, Scope, Tokens, Verb};
pub use etcd_settings::EtcdSettings;
pub use marks::{Marks, MarksError};
pub use problem::Problem;
pub use router::ROUTES;
pub use run::{Running, ServeError, Settings, Stopped, start};
pub use tls::{TlsError, TlsFiles};
pub(crate) use tls::{certificates, private_key, roots};
