//! Log records of this process that no thread has.

use std::sync::Mutex;

/// The records of all this process's chunks that no thread has.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) free: Mutex<Vec<u32>>,
    /// Of revoked holds whose names were not out of the word yet.
    pub(crate) left: Mutex<Vec<u32>>,
}
