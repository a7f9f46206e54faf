//! The thread that calls callbacks, and what ends with the manager.

use super::{CompletionList, Ending};
use crate::sync::OnceLock;
use crate::sync::thread::Running;
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, Weak};

/// Calls the callbacks of a manager, in one thread.
///
/// The first request with a callback that has to wait starts the thread.
#[derive(Debug, Default)]
pub(crate) struct Dispatcher {
    pub(crate) callbacks_state: OnceLock<Arc<CallbackThread>>,
    pub(crate) completions: OnceLock<Arc<CompletionList>>,
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
    pub(crate) signalled: bool,
    /// Callbacks that are to be called and have not been.
    pub(crate) outstanding: usize,
}
