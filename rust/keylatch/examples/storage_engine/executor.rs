//! An executor: polls what was woken, on the thread that calls it. keylatch asks for nothing more.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// Tasks that were woken, by number.
struct Woken {
    numbers: Mutex<VecDeque<usize>>,
    thread: Thread,
}

impl Woken {
    fn next(&self) -> Option<usize> {
        self.numbers.lock().pop_front()
    }
}

/// Wakes one task.
struct TaskWaker {
    number: usize,
    woken: Arc<Woken>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.numbers.lock().push_back(self.number);
        self.woken.thread.unpark();
    }
}

/// Runs all futures to their end and returns what they came to.
pub(crate) fn run<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let numbers = Mutex::new((0..futures.len()).collect());
    let woken = Arc::new(Woken { numbers, thread: std::thread::current() });
    let mut tasks: Vec<Option<(Pin<Box<_>>, Waker)>> = futures
        .into_iter()
        .enumerate()
        .map(|(number, future)| {
            let waker = TaskWaker { number, woken: Arc::clone(&woken) };
            Some((Box::pin(future), Waker::from(Arc::new(waker))))
        })
        .collect();
    let mut results = Vec::with_capacity(tasks.len());
    while results.len() < tasks.len() {
        let Some(number) = woken.next() else {
            std::thread::park();
            continue;
        };
        let Some((future, waker)) = &mut tasks[number] else { continue };
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(waker)) {
            results.push(result);
            tasks[number] = None;
        }
    }
    results
}

/// Lets the other tasks run first.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Polls a future once and drops it, whether it was ready or not.
pub(crate) async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
