//! The timer of futures and callbacks. Threads that wait keep their own time.
//!
//! One thread, started when the first moment is set, sleeps until the earliest one. Deadlines come before rechecks: where
//! many waiters recheck for deadlocks at the same time, that takes a while, and no timeout may be late for it.

use super::user_code::without_panic;
use super::waiter::Ticket;
use crate::sync::thread::{self, Running};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// What a waiter does when its moment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Its deadline has passed.
    GiveUp,
    /// It looks for expired leases and deadlocks.
    Look,
}

/// The moments of all waiters of a manager.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ends: BTreeSet<(Instant, Ticket)>,
    looks: BTreeSet<(Instant, Ticket)>,
    /// When each waiter rechecks next. Each recheck says when the one after it is.
    next_looks: HashMap<Ticket, Instant>,
    thread: Option<Running>,
    stopped: bool,
}

impl Timer {
    /// Has `on_time` called on the timer's thread at the moment.
    ///
    /// Of the rechecks of a waiter only the earliest counts. Returns an error if no thread could be started; then the
    /// moment passes unnoticed.
    pub(crate) fn set(
        self: &Arc<Self>,
        moment: (Instant, Ticket, Purpose),
        on_time: impl Fn(Ticket, Purpose) + Send + 'static,
    ) -> std::io::Result<()> {
        let mut state = self.state.lock();
        if state.stopped {
            return Ok(());
        }
        if state.thread.is_none() {
            let timer = Arc::clone(self);
            state.thread = Some(thread::spawn("keylatch-timer", move || timer.run(on_time))?);
        }
        let earlier = state.add(moment);
        drop(state);
        if earlier {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Removes the deadline of a waiter.
    pub(crate) fn unset_end(&self, at: Instant, ticket: Ticket) {
        self.state.lock().ends.remove(&(at, ticket));
    }

    /// Removes the recheck of a waiter.
    pub(crate) fn unset_look(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        if let Some(at) = state.next_looks.remove(&ticket) {
            state.looks.remove(&(at, ticket));
        }
    }

    /// Returns how many moments are set.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn len(&self) -> usize {
        let state = self.state.lock();
        assert_eq!(state.looks.len(), state.next_looks.len());
        state.ends.len() + state.looks.len()
    }

    /// Ends the thread, for good.
    pub(crate) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.ends.clear();
        state.looks.clear();
        state.next_looks.clear();
        drop(state);
        self.changed.notify_one();
    }

    /// Waits until the thread has ended. Call `stop` before.
    pub(crate) fn join(&self) {
        let thread = self.state.lock().thread.take();
        thread.into_iter().for_each(Running::join);
    }

    fn run(&self, on_time: impl Fn(Ticket, Purpose)) {
        let mut state = self.state.lock();
        while !state.stopped {
            let Some(at) = state.first() else {
                self.changed.wait(&mut state);
                continue;
            };
            let Some((ticket, purpose)) = state.take_due(Instant::now()) else {
                self.changed.wait_until(&mut state, at);
                continue;
            };
            // Nothing in there panics. If it did nevertheless, all waiters of this timer would wait for ever.
            parking_lot::MutexGuard::unlocked(&mut state, || without_panic(|| on_time(ticket, purpose)));
        }
    }
}

impl State {
    /// Adds a moment. Returns whether it is the earliest.
    fn add(&mut self, (at, ticket, purpose): (Instant, Ticket, Purpose)) -> bool {
        let first = self.first();
        match purpose {
            Purpose::GiveUp => drop(self.ends.insert((at, ticket))),
            Purpose::Look => match self.next_looks.get(&ticket).copied() {
                // It rechecks before that anyway.
                Some(set) if set <= at => {}
                set => {
                    set.map(|set| self.looks.remove(&(set, ticket)));
                    self.next_looks.insert(ticket, at);
                    self.looks.insert((at, ticket));
                }
            },
        }
        self.first() < first || first.is_none()
    }

    /// Returns the earliest moment.
    fn first(&self) -> Option<Instant> {
        let [end, look] = [&self.ends, &self.looks].map(|moments| moments.first().map(|(at, _)| *at));
        end.into_iter().chain(look).min()
    }

    /// Takes a moment that has come.
    fn take_due(&mut self, now: Instant) -> Option<(Ticket, Purpose)> {
        [Purpose::GiveUp, Purpose::Look].into_iter().find_map(|purpose| {
            let moments = if purpose == Purpose::GiveUp { &mut self.ends } else { &mut self.looks };
            moments.first().filter(|(at, _)| *at <= now)?;
            let (_, ticket) = moments.pop_first()?;
            if purpose == Purpose::Look {
                self.next_looks.remove(&ticket);
            }
            Some((ticket, purpose))
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn panic_keeps_the_timer_running() {
        let timer = Arc::new(Timer::default());
        let patience = Duration::from_secs(30);
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

    #[test]
    fn deadline_comes_before_rechecks() {
        let timer = Arc::new(Timer::default());
        let (came, comes) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let on_time = move |ticket: Ticket, purpose| {
            came.send((ticket, purpose)).unwrap();
            let _ = may_go_on.recv();
        };
        let ticket = |number| Ticket::new(number, 7);
        let past = Instant::now();
        timer.set((past, ticket(1), Purpose::Look), on_time).unwrap();
        assert_eq!(comes.recv(), Ok((ticket(1), Purpose::Look)));
        // While one waiter rechecks, the moments of others come; the deadline is the last to be set.
        let set = |moment| timer.set(moment, |_, _| unreachable!("it has its thread")).unwrap();
        for number in [2, 3] {
            set((past, ticket(number), Purpose::Look));
        }
        set((Instant::now(), ticket(4), Purpose::GiveUp));
        drop(go_on);
        let rest: Vec<_> = comes.iter().take(3).collect();
        assert_eq!(rest, [(4, Purpose::GiveUp), (2, Purpose::Look), (3, Purpose::Look)].map(|(n, p)| (ticket(n), p)));
        timer.stop();
    }

    #[test]
    fn earliest_recheck_of_a_waiter_counts() {
        let mut state = State::default();
        let ticket = |number| Ticket::new(number, 7);
        let [early, late] = [0, 60].map(|seconds| Instant::now() + Duration::from_secs(seconds));
        assert!(state.add((late, ticket(1), Purpose::Look)), "there was none");
        assert!(!state.add((late, ticket(2), Purpose::GiveUp)), "no earlier than that");
        assert!(state.add((early, ticket(1), Purpose::Look)));
        assert!(!state.add((late, ticket(1), Purpose::Look)), "it looks before");
        assert_eq!((state.looks.len(), state.next_looks.len(), state.first()), (1, 1, Some(early)));
        assert_eq!(state.take_due(early - Duration::from_nanos(1)), None);
        assert_eq!(state.take_due(early), Some((ticket(1), Purpose::Look)));
        assert_eq!(state.take_due(early), None);
        assert_eq!(state.take_due(late), Some((ticket(2), Purpose::GiveUp)));
        assert_eq!((state.first(), state.next_looks.len()), (None, 0));
    }
}
