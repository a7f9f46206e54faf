//! Who wants to be told when a hold is lost.

use crate::hold::{Grant, Lost};
use crate::sync::Mutex;
use crate::wait::Foreign;
use std::collections::HashMap;

/// What is called, once, off every internal mutex.
pub(crate) type Listener = Foreign<Box<dyn FnOnce(Lost) + Send>>;

/// Listeners by the grant they are about.
#[derive(Default)]
pub(crate) struct Losses {
    listeners: Mutex<HashMap<Grant, Vec<Listener>>>,
}

impl std::fmt::Debug for Losses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the mutex, which nobody may wait for in a forked child.
        f.debug_struct("Losses").finish_non_exhaustive()
    }
}

impl Losses {
    pub(crate) fn add(&self, grant: Grant, listener: Listener) {
        self.listeners.lock().entry(grant).or_default().push(listener);
    }

    /// The grant was released, or never held: nobody has anything to hear.
    pub(crate) fn forget(&self, grant: Grant) {
        let listeners = self.listeners.lock().remove(&grant);
        // Dropping one is foreign code: off the mutex, and in the middle of a release.
        drop(listeners);
    }

    /// The manager is gone: nothing will be lost any more that anybody could have heard of.
    pub(crate) fn forget_all(&self) {
        let listeners = std::mem::take(&mut *self.listeners.lock());
        // As in `forget`.
        drop(listeners);
    }

    /// Tells everybody. One that panics disturbs nobody: the thread that takes a lock away has business of its own.
    pub(crate) fn tell(&self, grant: Grant, why: Lost) {
        let listeners = self.listeners.lock().remove(&grant);
        for listener in listeners.into_iter().flatten() {
            listener.call(|listener| listener(why));
        }
    }
}
