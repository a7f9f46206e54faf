//! A request on its way: how the caller waits for it.

use crate::acquire::{acquire, acquire_now};
use crate::core::Core;
use crate::entry::{KEYS_PER_BATCH, Wish};
use crate::error::EtcdError;
use crate::guard::LockGuard;
use crate::hold::Hold;
use crate::space::Space;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

/// A request that was given to a handle: choose how to wait.
#[derive(Debug)]
#[must_use = "nothing is acquired until it is waited for, with `blocking`, `now` or `.await`"]
pub struct Lock {
    pub(crate) core: Arc<Core>,
    pub(crate) wish: Wish,
    pub(crate) timeout: Duration,
}

impl Lock {
    fn check(&self) -> Result<(), EtcdError> {
        self.core.check()?;
        let keys = self.wish.keys.len();
        if keys > KEYS_PER_BATCH {
            return Err(EtcdError::BatchTooLarge { keys, limit: KEYS_PER_BATCH });
        }
        if keys == 0 {
            return Err(EtcdError::InvalidConfig { setting: "batch", problem: "it has no keys; add one".into() });
        }
        Ok(())
    }

    /// Blocks the thread until the lock is held.
    ///
    /// # Errors
    /// [`EtcdError::Timeout`] at the end of the request's time, whatever the network does; what the server refuses.
    pub fn blocking(self) -> Result<LockGuard, EtcdError> {
        self.check()?;
        let begun = Instant::now();
        let (sender, receiver) = mpsc::sync_channel(1);
        let wait = acquire(self.core.space(), self.wish.clone());
        let task = Task::start(&self, async move {
            let _ = sender.send(wait.await);
        });
        let hold = receive(&receiver, self.timeout).unwrap_or_else(|| {
            task.cancel();
            Err(EtcdError::Timeout { key: self.wish.key(), waited: begun.elapsed() })
        });
        Ok(LockGuard::new(self.core, self.wish, hold?))
    }

    /// Acquires the lock if it is free now.
    ///
    /// One round trip to the server, and nothing stays behind; two for a busy batch of more than 64 keys. What this process
    /// is giving back of the keys is awaited first.
    ///
    /// # Errors
    /// [`EtcdError::WouldBlock`] if it is held or another waits for it; [`EtcdError::Unreachable`] without an answer.
    pub fn now(self) -> Result<LockGuard, EtcdError> {
        self.check()?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let attempt = acquire_now(self.core.space(), self.wish.clone());
        let task = Task::start(&self, async move {
            let _ = sender.send(attempt.await);
        });
        let hold = receive(&receiver, self.core.patience()).unwrap_or_else(|| {
            task.cancel();
            Err(self.core.unreachable())
        });
        Ok(LockGuard::new(self.core, self.wish, hold?))
    }

    /// The same as [`now`](Self::now), for tasks.
    pub fn now_async(self) -> Acquire {
        let (attempt, limit) = (acquire_now(self.core.space(), self.wish.clone()), self.core.patience());
        let core = Arc::clone(&self.core);
        self.future(attempt, limit, move |_| core.unreachable())
    }

    /// Starts the work, with a limit of time and the error after it.
    fn future(
        self,
        work: impl Future<Output = Result<Hold, EtcdError>> + Send + 'static,
        limit: Duration,
        late: impl FnOnce(Duration) -> EtcdError + Send + 'static,
    ) -> Acquire {
        if let Err(error) = self.check() {
            return Acquire { core: self.core, wish: self.wish, state: State::Over(Some(error)) };
        }
        let (sender, receiver) = oneshot::channel();
        let task = Task::start(&self, async move {
            let begun = Instant::now();
            // The runtime's timer takes at most some years.
            let limit = limit.min(Duration::from_secs(10 * 365 * 86_400));
            let timed_out = |_| Err(late(begun.elapsed()));
            let _ = sender.send(tokio::time::timeout(limit, work).await.unwrap_or_else(timed_out));
        });
        Acquire { core: self.core, wish: self.wish, state: State::Waiting(receiver, task) }
    }
}

/// The task of an acquisition.
#[derive(Debug)]
struct Task {
    space: Arc<Space>,
    queues: Vec<Vec<u8>>,
    handle: AbortHandle,
    /// Ends after what the task had.
    over: watch::Receiver<()>,
}

impl Task {
    fn start(lock: &Lock, work: impl Future<Output = ()> + Send + 'static) -> Self {
        let space = lock.core.space();
        let (sender, over) = watch::channel(());
        let task = lock.core.spawn(async move {
            let _over = sender;
            work.await;
        });
        Self { queues: lock.wish.queues(&space.layout), space, handle: task.abort_handle(), over }
    }

    /// Cancels it.
    ///
    /// A try that comes after this waits for the removal of what the task had.
    fn cancel(&self) {
        self.handle.abort();
        if self.space.is_forked() {
            return;
        }
        let (removal, mut over) = (self.space.removals.begin(self.queues.clone()), self.over.clone());
        self.space.runtime.spawn(async move {
            // The sender never sends. By its end, a removal has been noted for what was created.
            let _ = over.changed().await;
            drop(removal);
        });
    }
}

fn receive(receiver: &mpsc::Receiver<Result<Hold, EtcdError>>, timeout: Duration) -> Option<Result<Hold, EtcdError>> {
    // A timeout beyond what the clock can add to is none.
    let received = if Instant::now().checked_add(timeout).is_some() {
        receiver.recv_timeout(timeout)
    } else {
        receiver.recv().map_err(Into::into)
    };
    match received {
        Ok(hold) => Some(hold),
        Err(mpsc::RecvTimeoutError::Timeout) => None,
        // The runtime was stopped.
        Err(mpsc::RecvTimeoutError::Disconnected) => Some(Err(EtcdError::Closed)),
    }
}

impl IntoFuture for Lock {
    type Output = Result<LockGuard, EtcdError>;
    type IntoFuture = Acquire;

    fn into_future(self) -> Acquire {
        let (wait, key, timeout) = (acquire(self.core.space(), self.wish.clone()), self.wish.key(), self.timeout);
        self.future(wait, timeout, move |waited| EtcdError::Timeout { key, waited })
    }
}

/// A wait on any executor.
///
/// Dropping it cancels the request, and gives back what was granted meanwhile.
#[derive(Debug)]
#[must_use = "a future does nothing until it is polled"]
pub struct Acquire {
    core: Arc<Core>,
    wish: Wish,
    state: State,
}

#[derive(Debug)]
enum State {
    /// There is nothing to wait for any more, but perhaps an error to return.
    Over(Option<EtcdError>),
    Waiting(oneshot::Receiver<Result<Hold, EtcdError>>, Task),
}

impl Future for Acquire {
    type Output = Result<LockGuard, EtcdError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let hold = match &mut self.state {
            State::Over(error) => return Poll::Ready(Err(error.take().unwrap_or(EtcdError::Closed))),
            State::Waiting(receiver, _) => ready!(Pin::new(receiver).poll(cx)),
        };
        self.state = State::Over(None);
        let hold = hold.unwrap_or(Err(EtcdError::Closed));
        let wish = self.wish.clone();
        Poll::Ready(hold.map(|hold| LockGuard::new(Arc::clone(&self.core), wish, hold)))
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if let State::Waiting(_, task) = &self.state {
            task.cancel();
        }
    }
}
