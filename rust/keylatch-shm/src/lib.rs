//! Locks between processes of one machine, in a file that they map.
//!
//! A process that is killed, wherever, blocks no other: the kernel says that it is dead, and the next process that
//! notices removes its traces. There is nothing to clean up by hand.
//!
//! ```
//! # fn main() -> Result<(), keylatch_shm::ShmError> {
//! use keylatch_shm::{LockRequest, SharedTable, TableConfig};
//! let table = SharedTable::memfd("example", &TableConfig::default().keys(1_000).members(8))?;
//! let reader = table.lock(LockRequest::read(("photos", "cat.jpg")).owner("thumbnailer")).blocking()?;
//! let busy = table.lock(LockRequest::write(("photos", "cat.jpg"))).now();
//! assert!(busy.unwrap_err().to_string().contains("thumbnailer"));
//! # drop(reader); Ok(()) }
//! ```
//!
//! # What is promised
//!
//! * **Exclusion**: an exclusive holder is alone among the threads of all processes of the machine.
//! * **Death**: what a dead process held is free as soon as another process notices, at most about 20 ms later. The next
//!   exclusive holder hears of it ([`LockGuard::previous_holder_died`]). A process that lives, however slow, and a process
//!   that is stopped keep what they hold.
//! * **Order**: within a process, requests that wait are served in order. Between processes, each other waiting process
//!   is served at most once before a process that waits; a process that is stopped loses its turn, not its place.
//! * **Fences** grow for a key over all processes, evictions of the key, and new files, unless the clock is set back.
//! * **Fork**: in a forked child every call says [`ShmError::Forked`]; open the table again there. `exec` counts as death.
//! * **Damage** of the file, by truncation or otherwise, is an error; it is no signal and no endless wait.
//!
//! A task's first poll may block for the length of another process's insertion into the same bucket of keys.

#[cfg(not(target_os = "linux"))]
compile_error!("keylatch-shm needs Linux: futexes and robust lists are what it rests on");

mod acquire;
mod attendant;
mod attending;
mod change;
mod config;
mod core;
mod death;
mod error;
mod file;
mod guard;
mod handle;
mod layout;
mod lines;
mod listed;
mod listing;
mod lock_file;
mod log;
mod lookup;
mod member;
#[cfg(test)]
mod model;
mod mutex;
mod os;
mod pending;
mod prepared;
mod progress;
mod protocol;
mod recall;
mod record_lists;
mod records;
mod region;
mod request;
mod revoke;
mod sigbus;
mod sleeper;
mod slot_state;
mod table;
pub mod tier;
mod upgrading;
mod wait;
mod waiter;
mod watch;
mod word;

pub use config::TableConfig;
pub use error::ShmError;
pub use guard::{LockBatch, LockGuard, OwnedSharedLockGuard, SharedLockGuard, TableRef};
pub use handle::SharedTable;
pub use listed::{HoldId, HolderInfo, TableFigures};
pub use lock_file::{Entered, FileId, LockFile, LockFileWatcher};
pub use pending::{Acquire, Lock};
pub use prepared::{OwnedAcquire, OwnedPreparedKey, Prepared, PreparedKey};
pub use request::{BatchLockRequest, LockRequest};
