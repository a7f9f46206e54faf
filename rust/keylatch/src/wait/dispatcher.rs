//! Who opens the letters that callbacks wait for, and what ends with the manager.

use super::{Ending, Mailbox};
use crate::sync::OnceLock;
use crate::sync::thread::Running;
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, Weak};

/// Calls the callbacks, in one thread a manager.
///
/// The first request that has to wait for a callback starts it.
#[derive(Debug, Default)]
pub(crate) struct Dispatcher {
    pub(crate) desk: OnceLock<Arc<CallbackThread>>,
    pub(crate) mailbox: OnceLock<Arc<Mailbox>>,
}

/// What ends with the manager: completion queues.
#[derive(Debug, Default)]
pub(crate) struct EndsWithIt {
    pub(crate) all: crate::sync::Mutex<Vec<Weak<dyn Ending>>>,
}

/// Where the thread of the callbacks waits for work.
#[derive(Debug, Default)]
pub(crate) struct CallbackThread {
    pub(crate) state: Mutex<CallbackState>,
    pub(crate) changed: Condvar,
}

/// See [`CallbackThread`].
#[derive(Debug, Default)]
pub(crate) struct CallbackState {
    pub(crate) thread: Option<Running>,
    pub(crate) stopping: bool,
    pub(crate) rung: bool,
    /// Callbacks that were promised and have not been called.
    pub(crate) owed: usize,
}
