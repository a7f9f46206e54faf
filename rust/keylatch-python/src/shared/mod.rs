//! Locks between processes: tables in mapped files.
//!
//! `table` has the verbs, `guard` what they return, `wait` how a thread waits, `failure` what goes wrong, `listed` what
//! listings say. `process_lock` and `process_semaphore` are locks that are passed to other processes, and share the
//! tables of `processes`. `file_lock` is the lock of a file, and `open_files` keeps such files open. `holds` are those of
//! one lock object, and `per_process` is what a forked child begins anew.

pub(crate) mod failure;
mod file_lock;
mod guard;
mod holds;
mod joining;
mod listed;
mod open_files;
mod per_process;
mod process_lock;
mod process_semaphore;
mod processes;
mod table;
mod thread;
mod wait;

pub(crate) use file_lock::{FileLock, FileTurn};
pub(crate) use guard::SharedGuard;
pub(crate) use listed::SharedHold;
pub(crate) use process_lock::ProcessLock;
pub(crate) use process_semaphore::ProcessSemaphore;
pub(crate) use table::SharedTable;
