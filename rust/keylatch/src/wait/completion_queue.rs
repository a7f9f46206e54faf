//! The state of a completion queue: the results that have arrived, and how many are still pending.
//!
//! A thread that fetches sleeps on the queue's event descriptor. It must not sleep for ever once nothing more will arrive.
//! So the descriptor is signalled when the queue has ended and its last pending result has arrived or was dropped,
//! whichever comes last. Both are decided under the mutex.

use crate::sync::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

pub(crate) struct CompletionQueueState<T> {
    state: Mutex<State<T>>,
    /// Signals the event descriptor. Called without the mutex.
    signal: Box<dyn Fn() + Send + Sync>,
}

struct State<T> {
    arrived: VecDeque<T>,
    pending: usize,
    /// No request that begins from now on can succeed.
    ended: bool,
}

impl<T> std::fmt::Debug for CompletionQueueState<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Takes no mutex: in a forked child its holder may not exist.
        f.debug_struct("CompletionQueueState").finish_non_exhaustive()
    }
}

impl<T> CompletionQueueState<T> {
    pub(crate) fn new(signal: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let state = State { arrived: VecDeque::new(), pending: 0, ended: false };
        Arc::new(Self { state: Mutex::new(state), signal: Box::new(signal) })
    }

    /// Counts a result that may arrive.
    pub(crate) fn begin(self: &Arc<Self>) -> PendingCompletion<T> {
        self.state.lock().pending += 1;
        PendingCompletion { queue: Arc::clone(self) }
    }

    /// Takes the oldest result that has arrived.
    pub(crate) fn take(&self) -> Option<T> {
        self.state.lock().arrived.pop_front()
    }

    /// Returns whether results may still arrive.
    pub(crate) fn has_pending(&self) -> bool {
        self.state.lock().pending > 0
    }

    /// Returns whether nothing is left to take and nothing more will arrive.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.ended && state.pending == 0 && state.arrived.is_empty()
    }
}

/// Something that ends with its manager.
pub(crate) trait Ending: std::fmt::Debug + Send + Sync {
    /// Says that no further requests will begin.
    fn end(&self);
}

impl<T: Send> Ending for CompletionQueueState<T> {
    fn end(&self) {
        self.state.lock().ended = true;
        (self.signal)();
    }
}

/// A result that may arrive. If this is dropped, it will not.
#[derive(Debug)]
pub(crate) struct PendingCompletion<T> {
    queue: Arc<CompletionQueueState<T>>,
}

impl<T> PendingCompletion<T> {
    /// Adds the result. The caller signals the descriptor afterwards.
    pub(crate) fn complete(self, result: T) {
        self.queue.state.lock().arrived.push_back(result);
    }
}

impl<T> Drop for PendingCompletion<T> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.pending -= 1;
        let was_the_last = state.ended && state.pending == 0;
        drop(state);
        if was_the_last {
            (self.queue.signal)();
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::{Condvar, Mutex};

    /// As the real descriptor: a signal before the wait ends the wait.
    #[derive(Default)]
    struct EventFd {
        readable: Mutex<bool>,
        changed: Condvar,
    }

    impl EventFd {
        fn signal(&self) {
            *self.readable.lock().unwrap() = true;
            self.changed.notify_all();
        }

        fn clear(&self) {
            *self.readable.lock().unwrap() = false;
        }

        fn wait(&self) {
            let mut readable = self.readable.lock().unwrap();
            while !*readable {
                readable = self.changed.wait(readable).unwrap();
            }
        }
    }

    /// Would catch: a thread that sleeps for ever after the end.
    ///
    /// Then the end and the last pending result each leave the signal to the other.
    #[test]
    fn end_wakes_the_fetching_thread() {
        for arrives in [true, false] {
            loom::model(move || {
                let descriptor = Arc::new(EventFd::default());
                let signalled = Arc::clone(&descriptor);
                let queue = CompletionQueueState::new(move || signalled.signal());
                let pending = queue.begin();
                let ending = Arc::clone(&queue);
                let ends = loom::thread::spawn(move || ending.end());
                let signalled = Arc::clone(&descriptor);
                let answers = loom::thread::spawn(move || {
                    if arrives {
                        pending.complete(());
                        signalled.signal();
                    }
                });
                let mut taken = 0;
                loop {
                    descriptor.clear();
                    taken += usize::from(queue.take().is_some());
                    if queue.is_over() {
                        break;
                    }
                    descriptor.wait();
                }
                assert_eq!(taken, usize::from(arrives));
                ends.join().unwrap();
                answers.join().unwrap();
            });
        }
    }
}
