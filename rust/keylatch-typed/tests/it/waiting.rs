//! What tests of waiting share: events instead of sleeps.

use futures_util::FutureExt;
use keylatch_typed::{Acquire, Kind, LockRef, LockStats};
use std::sync::Arc;
use std::time::Duration;

/// A timeout that no test reaches.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// Waits until this many requests are in line.
pub(crate) fn until_waiting(stats: &LockStats, waiters: u32) {
    while stats.current_waiters() != waiters {
        std::thread::yield_now();
    }
}

/// Polls once; the request has to join the line.
pub(crate) fn in_line<R: LockRef, K: Kind>(mut request: Acquire<R, K>) -> Acquire<R, K> {
    assert!((&mut request).now_or_never().is_none(), "the lock was free");
    request
}

/// Polls once; the request has to be granted.
#[track_caller]
pub(crate) fn granted<R: LockRef, K: Kind>(mut request: Acquire<R, K>) -> K::Guard<R> {
    let granted = (&mut request).now_or_never();
    granted.expect("the request still waits").unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the smallest executor there is: it has no timer.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
