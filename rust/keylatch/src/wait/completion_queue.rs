//! Results for somebody who fetches them: those that have come, how many are still to come, and whether there will be more.
//!
//! Who fetches sleeps at a bell. So that nobody sleeps for ever, the bell is rung when the last result that was expected
//! after the end has come or will not come, whichever of the end and that is the later. Both happen under the mutex.

use crate::sync::Mutex;
use crate::sync::fault::fault;
use std::collections::VecDeque;
use std::sync::Arc;

pub(crate) struct Arrivals<T> {
    state: Mutex<State<T>>,
    /// Rung off the mutex.
    bell: Box<dyn Fn() + Send + Sync>,
}

struct State<T> {
    come: VecDeque<T>,
    expected: usize,
    /// No more will be expected that could succeed.
    ended: bool,
}

impl<T> std::fmt::Debug for Arrivals<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the mutex, which nobody may wait for in a forked child.
        f.debug_struct("Arrivals").finish_non_exhaustive()
    }
}

impl<T> Arrivals<T> {
    pub(crate) fn new(bell: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let state = State { come: VecDeque::new(), expected: 0, ended: false };
        Arc::new(Self { state: Mutex::new(state), bell: Box::new(bell) })
    }

    /// Another one may come.
    pub(crate) fn expect(self: &Arc<Self>) -> Expected<T> {
        self.state.lock().expected += 1;
        Expected { at: Arc::clone(self) }
    }

    /// The oldest that has come.
    pub(crate) fn take(&self) -> Option<T> {
        self.state.lock().come.pop_front()
    }

    /// Whether some may still come.
    pub(crate) fn are_expected(&self) -> bool {
        self.state.lock().expected > 0
    }

    /// Whether everything has come and been taken, and nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.ended && state.expected == 0 && state.come.is_empty()
    }
}

/// What has an end that somebody else knows of.
pub(crate) trait Ending: std::fmt::Debug + Send + Sync {
    /// Nothing more is to be expected but what is.
    fn end(&self);
}

impl<T: Send> Ending for Arrivals<T> {
    fn end(&self) {
        self.state.lock().ended = true;
        (self.bell)();
    }
}

/// A result that may come. Dropped, it will not.
#[derive(Debug)]
pub(crate) struct Expected<T> {
    at: Arc<Arrivals<T>>,
}

impl<T> Expected<T> {
    /// It has come. Whoever waits for it is told by somebody else.
    pub(crate) fn has_come(self, result: T) {
        self.at.state.lock().come.push_back(result);
    }
}

impl<T> Drop for Expected<T> {
    fn drop(&mut self) {
        let mut state = self.at.state.lock();
        state.expected -= 1;
        let was_the_last = state.ended && state.expected == 0;
        drop(state);
        if was_the_last && !fault!("last-expected-not-told") {
            (self.at.bell)();
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::{Condvar, Mutex};

    /// As the real one: rung before somebody waits, it does not let them wait.
    #[derive(Default)]
    struct Bell {
        rung: Mutex<bool>,
        changed: Condvar,
    }

    impl Bell {
        fn ring(&self) {
            *self.rung.lock().unwrap() = true;
            self.changed.notify_all();
        }

        fn hush(&self) {
            *self.rung.lock().unwrap() = false;
        }

        fn wait(&self) {
            let mut rung = self.rung.lock().unwrap();
            while !*rung {
                rung = self.changed.wait(rung).unwrap();
            }
        }
    }

    /// Would catch: somebody who sleeps though nothing will come any more, because the end and the last result that was
    /// expected each leave it to the other to ring.
    #[test]
    fn whoever_fetches_is_told_of_the_end() {
        for comes in [true, false] {
            loom::model(move || {
                let bell = Arc::new(Bell::default());
                let ringer = Arc::clone(&bell);
                let arrivals = Arrivals::new(move || ringer.ring());
                let expected = arrivals.expect();
                let ends = Arc::clone(&arrivals);
                let ends = loom::thread::spawn(move || ends.end());
                let told = Arc::clone(&bell);
                let answers = loom::thread::spawn(move || {
                    if comes {
                        expected.has_come(());
                        told.ring();
                    }
                });
                let mut came = 0;
                loop {
                    bell.hush();
                    came += usize::from(arrivals.take().is_some());
                    if arrivals.is_over() {
                        break;
                    }
                    bell.wait();
                }
                assert_eq!(came, usize::from(comes));
                ends.join().unwrap();
                answers.join().unwrap();
            });
        }
    }
}
