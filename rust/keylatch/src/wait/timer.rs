//! The clock of those who cannot keep time themselves: futures and callbacks. Threads keep their own.
//!
//! One thread, started when the first deadline is set, sleeps until the earliest one.

use super::waiter::Ticket;
use crate::sync::fault::fault;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// Deadlines of waiters.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    deadlines: BTreeSet<(Instant, Ticket)>,
    running: bool,
    stopped: bool,
}

impl Timer {
    /// Calls `on_time` with the ticket at the deadline, on the timer's thread, unless `unset` is called before.
    /// An error means that there is no thread to be had: the deadline will not be noticed.
    pub(crate) fn set(
        self: &Arc<Self>,
        deadline: Instant,
        ticket: Ticket,
        on_time: impl Fn(Ticket) + Send + 'static,
    ) -> std::io::Result<()> {
        let mut state = self.state.lock();
        if state.stopped {
            return Ok(());
        }
        if !state.running {
            let timer = Arc::clone(self);
            std::thread::Builder::new().name("keylatch-timer".into()).spawn(move || timer.run(on_time))?;
            state.running = true;
        }
        let earliest = state.deadlines.first().is_none_or(|(first, _)| deadline < *first);
        state.deadlines.insert((deadline, ticket));
        drop(state);
        if earliest && !fault!("timer-not-told-of-earlier") {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Forgets a deadline.
    pub(crate) fn unset(&self, deadline: Instant, ticket: Ticket) {
        self.state.lock().deadlines.remove(&(deadline, ticket));
    }

    /// How many deadlines are set.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn len(&self) -> usize {
        self.state.lock().deadlines.len()
    }

    /// Ends the thread, for good.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.deadlines.clear();
        drop(state);
        self.changed.notify_one();
    }

    fn run(&self, on_time: impl Fn(Ticket)) {
        let mut state = self.state.lock();
        while !state.stopped {
            let Some((deadline, ticket)) = state.deadlines.first().copied() else {
                self.changed.wait(&mut state);
                continue;
            };
            if Instant::now() < deadline {
                self.changed.wait_until(&mut state, deadline);
                continue;
            }
            state.deadlines.pop_first();
            parking_lot::MutexGuard::unlocked(&mut state, || on_time(ticket));
        }
    }
}
