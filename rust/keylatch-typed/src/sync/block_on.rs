//! Runs a future on the calling thread, parked between polls.
//!
//! Every blocking twin is its awaited twin on this: one way to wait in line, whatever waits. The future keeps its own
//! deadline; this function asks for it after each poll, to know when to poll again without a wake-up.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

/// Polls until the future is ready; also polls it when its deadline has passed.
pub(crate) fn block_on<F: Future + Unpin>(mut future: F, deadline: impl Fn(&F) -> Option<Instant>) -> F::Output {
    let parker = Arc::new(Parker::new());
    let waker = Waker::from(Arc::clone(&parker));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(&mut context) {
            return output;
        }
        parker.park(deadline(&future));
    }
}

#[cfg(not(loom))]
struct Parker {
    woken: parking_lot::Mutex<bool>,
    wake: parking_lot::Condvar,
}

#[cfg(not(loom))]
impl Parker {
    fn new() -> Self {
        Self { woken: parking_lot::Mutex::new(false), wake: parking_lot::Condvar::new() }
    }

    /// Returns after a wake-up since the last call, or when the deadline has passed.
    fn park(&self, deadline: Option<Instant>) {
        let mut woken = self.woken.lock();
        while !*woken {
            match deadline {
                Some(deadline) if self.wake.wait_until(&mut woken, deadline).timed_out() => return,
                Some(_) => {}
                None => self.wake.wait(&mut woken),
            }
        }
        *woken = false;
    }

    fn unpark(&self) {
        *self.woken.lock() = true;
        self.wake.notify_one();
    }
}

#[cfg(loom)]
struct Parker {
    woken: loom::sync::Mutex<bool>,
    wake: loom::sync::Condvar,
}

#[cfg(loom)]
impl Parker {
    fn new() -> Self {
        Self { woken: loom::sync::Mutex::new(false), wake: loom::sync::Condvar::new() }
    }

    /// Returns after a wake-up since the last call; in a model no deadline passes.
    fn park(&self, _deadline: Option<Instant>) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.wake.wait(woken).unwrap();
        }
        *woken = false;
    }

    fn unpark(&self) {
        *self.woken.lock().unwrap() = true;
        self.wake.notify_one();
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.unpark();
    }
}
