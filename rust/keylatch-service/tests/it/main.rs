//! Integration tests of the lock service.

mod client;
mod client_claims;
mod command;
mod command_claims;
#[cfg(target_os = "linux")]
mod etcd;
mod http_access;
mod http_claim_events;
mod http_claims;
mod http_events;
mod http_hostile;
mod http_locks;
mod machine_claims;
mod machine_exhaustive;
mod machine_locks;
mod machine_sessions;
mod machine_tier;
mod schema;
mod service;
mod small_world;
