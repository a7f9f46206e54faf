//! Locks between machines, on an etcd cluster.
//!
//! Each lock is a queue of keys in etcd, in the order of their create revisions. All keys of a process are attached to one
//! lease; a process that dies or loses contact loses its locks when the lease ends. There is no server of ours.
//!
//! ```no_run
//! # fn main() -> Result<(), keylatch_etcd::EtcdError> {
//! use keylatch_etcd::{EtcdConfig, EtcdLocks, LockRequest};
//! let locks = EtcdLocks::open(EtcdConfig::new(["http://127.0.0.1:2379"]).namespace("photos"))?;
//! let guard = locks.lock(LockRequest::write(("photos", "cat.jpg")).owner("indexer")).blocking()?;
//! // Write with `guard.fence()`; a store refuses fences below the greatest it has seen.
//! guard.check()?;
//! # Ok(()) }
//! ```
//!
//! # What is promised
//!
//! * **Exclusion by the clocks**: of the guards of one key that say [`LockGuard::is_valid`], an exclusive one is alone,
//!   over all machines, as long as the clocks of two machines differ in speed by less than a hundredth.
//! * **Fences**: a later hold has a greater [`LockGuard::fence`], over processes, leader changes and restarts. A holder that
//!   is stopped between the question and the write is caught by a store that compares fences, and by nothing else.
//! * **Order**: locks are granted in the order of their requests' revisions. Neighbouring readers share.
//! * **Loss** is noticed by our own clock, which counts from the moment a renewal is sent. A guard says so before the
//!   server would give the lock to another.
//! * **Time**: a request with a timeout ends by it, whatever the network does.
//! * **Batches** of up to [`KEYS_PER_BATCH`] keys join all their queues in one step, so they do not wait for each other in a
//!   circle.
//!   Threads that hold one lock and wait for another can; such a circle ends by a timeout.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(not(target_os = "linux"))]
compile_error!("keylatch-etcd needs Linux: its leases are counted on CLOCK_BOOTTIME");

mod acquire;
#[cfg(test)]
mod bench;
mod client;
mod clock;
mod config;
mod core;
mod entry;
mod error;
mod fence;
pub mod fenced;
mod guard;
mod hold;
mod layout;
mod listing;
mod locks;
#[cfg(test)]
mod model;
mod pending;
mod plain;
mod removals;
mod request;
mod session;
mod slots;
mod space;
pub mod tier;
mod wire;

pub use config::EtcdConfig;
pub use entry::KEYS_PER_BATCH;
pub use error::EtcdError;
pub use guard::LockGuard;
pub use listing::EntryInfo;
pub use locks::EtcdLocks;
pub use pending::{Acquire, Lock};
#[doc(hidden)]
pub use plain::PlainSettings;
pub use request::{BatchLockRequest, LockRequest};
