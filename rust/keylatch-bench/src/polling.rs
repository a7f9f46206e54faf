//! Runs a future to its end without a runtime, so that no runtime's cost is in an async figure.
//!
//! The first poll carries a waker that does nothing, which costs nothing: a free lock is ready immediately. Only a
//! future that has to wait gets a waker that unparks the thread.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls once with an idle waker, and parks between further polls.
#[inline(always)]
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => block_on_slow(future),
    }
}

#[cold]
#[inline(never)]
fn block_on_slow<F: Future>(mut future: std::pin::Pin<&mut F>) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_future_that_waits_is_woken() {
        let (give, take) = tokio::sync::oneshot::channel();
        let giver = std::thread::spawn(move || give.send(7));
        assert_eq!(super::block_on(take), Ok(7));
        assert_eq!(giver.join().expect("the giver does not panic"), Ok(()));
    }
}
