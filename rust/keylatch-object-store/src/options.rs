//! How a store is locked.

use keylatch::FastObjectLockManager;
use std::time::Duration;

/// For how long a read keeps its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadHold {
    /// Until the body has been read or dropped.
    ///
    /// No write replaces or deletes an object that is being read.
    ///
    /// A task that keeps an unread [`GetResult`](object_store::GetResult) and writes the same object waits for itself.
    #[default]
    Body,
    /// Until the store has answered.
    ///
    /// For stores whose bodies stay whole while their object is replaced.
    Answer,
}

/// How writes prove that no later writer was there before them.
///
/// A lock excludes writers of one process. A fence refuses those that are late: whose lease ran out, whose lock was
/// revoked, or whose process was replaced by another one that opened the store since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fencing {
    /// They do not.
    #[default]
    Off,
    /// By files beside the objects.
    ///
    /// Each write leaves its number there, and is refused where it finds a greater one.
    ///
    /// Works with every store that lists what was put. A writer that is paused between this check and the write
    /// itself is not noticed.
    Files,
    /// By files and conditional puts.
    ///
    /// A put succeeds only if nothing was written since the check: no put is late.
    ///
    /// Needs a store with conditional puts ([`PutMode::Update`](object_store::PutMode::Update)): not `LocalFileSystem`.
    /// Commits of several parts, copies, renames and deletions have no condition in the interface of `object_store`,
    /// and are fenced as by [`Files`](Self::Files).
    Conditional,
}

/// The settings of a [`LockedStore`](crate::LockedStore).
#[derive(Debug, Clone)]
pub struct Options {
    /// The locks; stores and other code that share them exclude each other.
    pub locks: FastObjectLockManager,
    /// The bucket of all keys: stores with different names do not meet.
    pub name: String,
    /// The label that errors and listings show.
    pub owner: String,
    /// How long a call waits for its locks; `None` waits as the manager is set.
    pub timeout: Option<Duration>,
    /// After how long others may take the lock of a write; `None` is never.
    ///
    /// Only with fences: without, a late write would go through.
    pub lease: Option<Duration>,
    /// For how long a read keeps its lock.
    pub read_hold: ReadHold,
    /// How writes prove that no later writer was there before them.
    pub fencing: Fencing,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            locks: FastObjectLockManager::new(),
            name: String::new(),
            owner: String::new(),
            timeout: None,
            lease: None,
            read_hold: ReadHold::default(),
            fencing: Fencing::default(),
        }
    }
}
