//! The clock of those who cannot keep time themselves: futures and callbacks. Threads keep their own.
//!
//! One thread, started when the first moment is set, sleeps until the earliest one.

use super::foreign::without_panic;
use super::waiter::Ticket;
use crate::sync::fault::fault;
use crate::sync::thread;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// What is to be done with a waiter when its moment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Its time is over.
    GiveUp,
    /// Looking what keeps it waiting.
    Look,
}

/// Moments of waiters.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    moments: BTreeSet<(Instant, Ticket, Purpose)>,
    /// When each waiter looks next: once is enough, for then it is said when to look again.
    looks: HashMap<Ticket, Instant>,
    running: bool,
    stopped: bool,
}

impl Timer {
    /// Calls `on_time` with the ticket at the moment, on the timer's thread, unless it is unset before. Of the moments at
    /// which a waiter is to look only the earliest counts. An error means that there is no thread to be had: the moment
    /// will not be noticed.
    pub(crate) fn set(
        self: &Arc<Self>,
        moment: (Instant, Ticket, Purpose),
        on_time: impl Fn(Ticket, Purpose) + Send + 'static,
    ) -> std::io::Result<()> {
        let mut state = self.state.lock();
        if state.stopped {
            return Ok(());
        }
        if !state.running {
            let timer = Arc::clone(self);
            thread::spawn("keylatch-timer", move || timer.run(on_time))?;
            state.running = true;
        }
        let earliest = state.moments.first().is_none_or(|first| moment.0 < first.0);
        if !state.add(moment) {
            return Ok(());
        }
        drop(state);
        if earliest && !fault!("timer-not-told-of-earlier") {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Forgets the moment at which a waiter was to give up.
    pub(crate) fn unset_end(&self, at: Instant, ticket: Ticket) {
        self.state.lock().moments.remove(&(at, ticket, Purpose::GiveUp));
    }

    /// Forgets the moment at which a waiter was to look.
    pub(crate) fn unset_look(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        if let Some(at) = state.looks.remove(&ticket) {
            state.moments.remove(&(at, ticket, Purpose::Look));
        }
    }

    /// How many moments are set.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn len(&self) -> usize {
        self.state.lock().moments.len()
    }

    /// Ends the thread, for good.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.moments.clear();
        state.looks.clear();
        drop(state);
        self.changed.notify_one();
    }

    fn run(&self, on_time: impl Fn(Ticket, Purpose)) {
        let mut state = self.state.lock();
        while !state.stopped {
            let Some((at, ticket, purpose)) = state.moments.first().copied() else {
                self.changed.wait(&mut state);
                continue;
            };
            if Instant::now() < at {
                self.changed.wait_until(&mut state, at);
                continue;
            }
            state.moments.pop_first();
            if purpose == Purpose::Look {
                state.looks.remove(&ticket);
            }
            // Nothing in there panics. If something did all the same, everybody whose time is kept here would wait for ever.
            parking_lot::MutexGuard::unlocked(&mut state, || without_panic(|| on_time(ticket, purpose)));
        }
    }
}

impl State {
    /// Adds a moment. `false` if there is nothing to add, because the waiter looks earlier in any case.
    fn add(&mut self, moment: (Instant, Ticket, Purpose)) -> bool {
        let (at, ticket, purpose) = moment;
        if purpose == Purpose::Look {
            match self.looks.get(&ticket).copied() {
                Some(set) if set <= at => return false,
                Some(set) => drop(self.moments.remove(&(set, ticket, Purpose::Look))),
                None => {}
            }
            self.looks.insert(ticket, at);
        }
        self.moments.insert(moment)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_panic_is_not_the_end_of_the_clock() {
        let timer = Arc::new(Timer::default());
        let patience = Duration::from_secs(if cfg!(faults) { 5 } else { 30 });
        let (came, comes) = mpsc::channel();
        let on_time = move |ticket: Ticket, _| {
            came.send(ticket).unwrap();
            std::panic::resume_unwind(Box::new("meant to"));
        };
        for number in 1..=3 {
            let ticket = Ticket::new(number, 7);
            timer.set((Instant::now(), ticket, Purpose::GiveUp), on_time.clone()).unwrap();
            assert_eq!(comes.recv_timeout(patience), Ok(ticket));
        }
        timer.stop();
    }
}
