//! A lock file that this process has open, and its `flock`, by which programs that know nothing of the table are excluded.
//!
//! Among the processes of one table the table decides. Beside it, a holder has a shared `flock` of the file, which bars all
//! that lock it exclusively, as the package `filelock` does. The shared lock is kept when the holder leaves, so that the
//! next hold of this process costs no system call but a look at the file's name. A program that tries its exclusive lock
//! opens the file; `watcher` notices, and for a second nothing is kept. One that opened the file before and sleeps until it
//! is free is not noticed, so `term` ends each second what is kept, in all processes at the same moment. The holder that
//! leaves then waits a moment between the file and the key: nothing of the table locks the file, and the program gets it.
//!
//! Shared locks exclude no other table. So each process marks the file with its table first: a read lock of one byte, whose
//! place is a hash of the table's file, and a look whether there is a mark of another. Of two processes that do so at the
//! same time, one at least sees the other. It takes an exclusive `flock` for each hold instead, with the file opened each
//! time, and so does all that is on a network or in user space, where other machines may lock the file.

mod descriptor;
mod id;
pub(crate) mod kept;
mod open;
mod term;
mod watcher;
mod watches;

pub use id::FileId;
pub use open::{Entered, LockFile};
pub use watcher::LockFileWatcher;
