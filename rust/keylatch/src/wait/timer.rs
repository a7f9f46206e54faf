//! The clock of those who cannot keep time themselves: futures and callbacks. Threads keep their own.
//!
//! One thread, started when the first moment is set, sleeps until the earliest one. Whoever's time is over comes first:
//! where very many look for deadlocks at the same time, that takes a while, and nobody else's timeout is late for it.

use super::foreign::without_panic;
use super::waiter::Ticket;
use crate::sync::fault::fault;
use crate::sync::thread::{self, Running};
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
    ends: BTreeSet<(Instant, Ticket)>,
    looks: BTreeSet<(Instant, Ticket)>,
    /// When each waiter looks next: once is enough, for then it is said when to look again.
    next_looks: HashMap<Ticket, Instant>,
    thread: Option<Running>,
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
        if state.thread.is_none() {
            let timer = Arc::clone(self);
            state.thread = Some(thread::spawn("keylatch-timer", move || timer.run(on_time))?);
        }
        let earlier = state.add(moment);
        drop(state);
        if earlier && !fault!("timer-not-told-of-earlier") {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Forgets the moment at which a waiter was to give up.
    pub(crate) fn unset_end(&self, at: Instant, ticket: Ticket) {
        self.state.lock().ends.remove(&(at, ticket));
    }

    /// Forgets the moment at which a waiter was to look.
    pub(crate) fn unset_look(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        if let Some(at) = state.next_looks.remove(&ticket) {
            state.looks.remove(&(at, ticket));
        }
    }

    /// How many moments are set.
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
            // Nothing in there panics. If something did all the same, everybody whose time is kept here would wait for ever.
            parking_lot::MutexGuard::unlocked(&mut state, || without_panic(|| on_time(ticket, purpose)));
        }
    }
}

impl State {
    /// Adds a moment. Returns whether there was none as early.
    fn add(&mut self, (at, ticket, purpose): (Instant, Ticket, Purpose)) -> bool {
        let first = self.first();
        match purpose {
            Purpose::GiveUp => drop(self.ends.insert((at, ticket))),
            Purpose::Look => match self.next_looks.get(&ticket).copied() {
                // It looks earlier in any case.
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

    /// The earliest moment.
    fn first(&self) -> Option<Instant> {
        let [end, look] = [&self.ends, &self.looks].map(|moments| moments.first().map(|(at, _)| *at));
        end.into_iter().chain(look).min()
    }

    /// Takes out a moment that has come.
    fn take_due(&mut self, now: Instant) -> Option<(Ticket, Purpose)> {
        let mut purposes = [Purpose::GiveUp, Purpose::Look];
        if fault!("looks-before-ends") {
            purposes.reverse();
        }
        purposes.into_iter().find_map(|purpose| {
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

    #[test]
    fn whose_time_is_over_does_not_wait_for_those_who_look() {
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
        // While one looks the moments of others come, and that of an end comes last.
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
    fn of_several_looks_of_one_the_earliest_counts() {
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
