//! How a thread, a task or an event loop learns that it has to look again.

use crate::sync::atomic::Ordering;
use crate::sync::{Mutex, Park, ParkedUntil};
use crate::wait::{EventFd, UserCode};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Instant;

const RAISED: u32 = 1;

/// A flag that one thread sleeps on, one task awaits, and an event loop polls.
///
/// `word` is 0 or `RAISED`. It is raised after the state that it stands for has changed, and cleared before that state is
/// looked at, so a change is never missed.
#[derive(Default)]
pub(super) struct Signal {
    word: Park,
    state: Mutex<SignalState>,
    event_fd: OnceLock<EventFd>,
}

#[derive(Default)]
struct SignalState {
    waker: Option<UserCode<std::task::Waker>>,
}

impl std::fmt::Debug for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signal").finish_non_exhaustive()
    }
}

impl Signal {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Raises the flag and wakes. Runs a waker, so the caller holds no mutex.
    pub(super) fn raise(&self) {
        let mut state = self.state.lock();
        // Pairs with: the swap in `clear`.
        self.word.store(RAISED, Ordering::Release);
        let waker = state.waker.take();
        if let Some(event_fd) = self.event_fd.get() {
            event_fd.signal();
        }
        drop(state);
        self.word.wake();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Lowers the flag. The caller looks at the state afterwards.
    pub(super) fn clear(&self) {
        let _state = self.state.lock();
        // Pairs with: the store in `raise`.
        self.word.swap(0, Ordering::Acquire);
        if let Some(event_fd) = self.event_fd.get() {
            event_fd.clear();
        }
    }

    /// Sleeps until the flag is raised.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> ParkedUntil {
        loop {
            // Pairs with: the store in `raise`.
            if self.word.load(Ordering::Acquire) == RAISED {
                return ParkedUntil::Woken;
            }
            if self.word.park(0, deadline) == ParkedUntil::Deadline {
                return ParkedUntil::Deadline;
            }
        }
    }

    /// Ready once the flag is raised; has the task woken then.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        // Cloned and dropped off the mutex: either runs user code.
        let fresh = UserCode::new(context.waker().clone());
        let mut state = self.state.lock();
        if self.word.load(Ordering::Acquire) == RAISED {
            return Poll::Ready(());
        }
        let old = state.waker.replace(fresh);
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Returns a descriptor that is readable while the flag is raised.
    pub(super) fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        if self.event_fd.get().is_none() {
            let made = EventFd::new()?;
            let _state = self.state.lock();
            let event_fd = self.event_fd.get_or_init(|| made);
            if self.word.load(Ordering::Acquire) == RAISED {
                event_fd.signal();
            }
        }
        Ok(self.event_fd.get().expect("made above").as_fd())
    }
}
