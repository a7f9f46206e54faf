//! Who opens the letters that callbacks wait for, and what ends with the manager.

use super::{Ending, Mailbox};
use crate::sync::OnceLock;
use crate::sync::thread::Running;
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, Weak};

/// Calls the callbacks: one thread a manager, started by the first request that has to wait for one.
#[derive(Debug, Default)]
pub(crate) struct Dispatcher {
    pub(crate) desk: OnceLock<Arc<Desk>>,
    pub(crate) mailbox: OnceLock<Arc<Mailbox>>,
}

/// What ends with the manager: completion queues.
#[derive(Debug, Default)]
pub(crate) struct EndsWithIt {
    pub(crate) all: crate::sync::Mutex<Vec<Weak<dyn Ending>>>,
}

/// Where the thread of the callbacks waits for work.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) state: Mutex<DeskState>,
    pub(crate) changed: Condvar,
}

/// See [`Desk`].
#[derive(Debug, Default)]
pub(crate) struct DeskState {
    pub(crate) thread: Option<Running>,
    pub(crate) stopping: bool,
    pub(crate) rung: bool,
    /// Callbacks that were promised and have not been called.
    pub(crate) owed: usize,
}
