//! Locks between processes: tables in mapped files.
//!
//! `table` has the verbs, `guard` what they return, `wait` how a thread waits, `failure` what goes wrong, `listed` what
//! listings say. `process_lock` and `process_semaphore` are locks that are passed to other processes, and share the
//! tables of `processes`.

mod failure;
mod guard;
mod listed;
mod process_lock;
mod process_semaphore;
mod processes;
mod table;
mod thread;
mod wait;

pub(crate) use guard::SharedGuard;
pub(crate) use listed::SharedHold;
pub(crate) use process_lock::ProcessLock;
pub(crate) use process_semaphore::ProcessSemaphore;
pub(crate) use table::SharedTable;
