//! What goes wrong beside what the store says, as errors of the store.

use keylatch::LockError;
use std::error::Error;
use std::fmt;

/// The name by which errors say where they come from.
const NAME: &str = "keylatch";

/// Says that some of several objects were dealt with before one failed.
#[derive(Debug)]
pub struct Partly {
    /// How many were dealt with, in the order in which they were named.
    pub done: usize,
    /// How many were named.
    pub of: usize,
    /// Why the next one failed.
    pub cause: object_store::Error,
}

impl fmt::Display for Partly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} objects were dealt with before this: {}", self.done, self.of, self.cause)
    }
}

impl Error for Partly {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// Returns a lock that cannot be had, or was lost.
pub(crate) fn lock(error: LockError) -> object_store::Error {
    generic(Box::new(error))
}

pub(crate) fn generic(source: Box<dyn Error + Send + Sync>) -> object_store::Error {
    object_store::Error::Generic { store: NAME, source }
}
