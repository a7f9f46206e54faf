//! What the thread that deals with the file for requests of tasks is given.

use crate::mutex::lock;
use crate::os::futex;
use crate::waiter::Waiter;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A task's request and its deadline.
pub(crate) type Attended = (Arc<Waiter>, Option<Instant>);

#[derive(Default)]
pub(crate) struct Attendant {
    pub(crate) arrivals: Mutex<Vec<Attended>>,
    /// Wakes the thread for arrivals and ends.
    pub(crate) kick: AtomicU32,
    pub(crate) is_running: Mutex<bool>,
}

impl Attendant {
    /// Has the thread look after a request from now on.
    ///
    /// The task's own call gives the deadline.
    pub(crate) fn attend(&self, waiter: Arc<Waiter>, deadline: Option<Instant>) {
        lock(&self.arrivals).push((waiter, deadline));
        self.kick();
    }

    pub(crate) fn kick(&self) {
        // Pairs with: the thread's load before it takes the arrivals.
        self.kick.fetch_add(1, Ordering::SeqCst);
        futex::wake_all(&self.kick);
    }
}
