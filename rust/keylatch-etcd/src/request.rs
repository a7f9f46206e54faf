//! A request, as the caller writes it.

use keylatch::{KeyRef, Mode, ObjectKey};
use std::time::Duration;

/// A request for one lock: key, mode, owner, and how long to wait.
///
/// ```
/// use keylatch_etcd::LockRequest;
/// use std::time::Duration;
/// let request = LockRequest::write(("photos", "cat.jpg")).owner("indexer").timeout(Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use = "a request does nothing until it is given to a handle"]
pub struct LockRequest<'a> {
    pub(crate) key: KeyRef<'a>,
    pub(crate) owner: &'a str,
    pub(crate) mode: Mode,
    pub(crate) timeout: Duration,
}

impl<'a> LockRequest<'a> {
    /// Asks for the key in a mode.
    pub fn new(key: impl Into<KeyRef<'a>>, mode: Mode) -> Self {
        Self { key: key.into(), owner: "", mode, timeout: Duration::MAX }
    }

    /// Asks to hold the key alone.
    pub fn write(key: impl Into<KeyRef<'a>>) -> Self {
        Self::new(key, Mode::Exclusive)
    }

    /// Asks to share the key.
    pub fn read(key: impl Into<KeyRef<'a>>) -> Self {
        Self::new(key, Mode::Shared)
    }

    /// Names the owner, a label for listings; the first 256 bytes are kept.
    pub fn owner(self, owner: &'a str) -> Self {
        Self { owner, ..self }
    }

    /// Waits for at most this long, whatever the network does.
    ///
    /// Without it, for as long as it takes.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

/// A request for several locks at a time: all, or none.
///
/// The keys join their queues in one step, so two batches never wait for each other in a circle.
///
/// ```
/// use keylatch_etcd::BatchLockRequest;
/// let request = BatchLockRequest::new().write(("photos", "cat.jpg")).read(("photos", "index")).owner("indexer");
/// ```
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is given to a handle"]
pub struct BatchLockRequest {
    pub(crate) keys: Vec<(ObjectKey, Mode)>,
    pub(crate) owner: String,
    pub(crate) timeout: Duration,
}

impl Default for BatchLockRequest {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchLockRequest {
    /// Asks for nothing yet.
    pub fn new() -> Self {
        Self { keys: Vec::new(), owner: String::new(), timeout: Duration::MAX }
    }

    /// Asks for one more key. Of two modes for one key, the exclusive one counts.
    pub fn key<'k>(mut self, key: impl Into<KeyRef<'k>>, mode: Mode) -> Self {
        self.keys.push((key.into().to_owned(), mode));
        self
    }

    /// Asks to hold one more key alone.
    pub fn write<'k>(self, key: impl Into<KeyRef<'k>>) -> Self {
        self.key(key, Mode::Exclusive)
    }

    /// Asks to share one more key.
    pub fn read<'k>(self, key: impl Into<KeyRef<'k>>) -> Self {
        self.key(key, Mode::Shared)
    }

    /// Names the owner, a label for listings; the first 256 bytes are kept.
    pub fn owner(self, owner: impl Into<String>) -> Self {
        Self { owner: owner.into(), ..self }
    }

    /// Waits for at most this long, whatever the network does.
    ///
    /// Without it, for as long as it takes.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}
