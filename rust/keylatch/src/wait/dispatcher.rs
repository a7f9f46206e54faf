//! The thread that calls callbacks, and what ends with the manager.

use super::{Ending, Mailbox};
use crate::sync::OnceLock;
use crate::sync::thread::Running;
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, Weak};

/// Calls the callbacks of a manager, in one thread.
///
/// The first request with a callback that has to wait starts the thread.
#[derive(Debug, Default)]
pub(crate) struct Dispatcher {
    pub(crate) desk: OnceLock<Arc<CallbackThread>>,
    pub(crate) mailbox: OnceLock<Arc<Mailbox>>,
}

/// The completion queues, which end with the manager.
#[derive(Debug, Default)]
pub(crate) struct EndsWithIt {
    pub(crate) all: crate::sync::Mutex<Vec<Weak<dyn Ending>>>,
}

/// What the thread of the callbacks sleeps on.
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
    /// Callbacks that are to be called and have not been.
    pub(crate) owed: usize,
}
