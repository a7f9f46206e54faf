//! Waiting for a key, or for a thread of this process to have it, whose hold the waiter can join.

use keylatch::Mode;
use keylatch_shm::{OwnedAcquire, OwnedPreparedKey, OwnedSharedLockGuard, ShmError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// A lock whose hold other threads and tasks may join.
pub(crate) trait Joinable {
    /// Whether there is a hold to join; else the waker hears of the next one.
    fn joins(&self, waker: &Waker) -> bool;
    fn joins_no_more(&self, waker: &Waker);
}

/// Those who hear of the next hold.
#[derive(Default)]
pub(crate) struct Joiners(Vec<Waker>);

impl Joiners {
    pub(crate) fn add(&mut self, waker: &Waker) {
        if !self.0.iter().any(|known| known.will_wake(waker)) {
            self.0.push(waker.clone());
        }
    }

    pub(crate) fn remove(&mut self, waker: &Waker) {
        self.0.retain(|known| !known.will_wake(waker));
    }

    /// To be woken when the lock's mutex is released.
    pub(crate) fn take(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.0)
    }
}

/// What a wait ends with.
pub(crate) enum Came {
    Turn(OwnedSharedLockGuard),
    /// There was a hold to join; it may have ended by now.
    ToJoin,
    Late,
    Failed(ShmError),
}

/// The wait.
pub(crate) struct JoinOrTurn<J: Joinable> {
    lock: J,
    request: OwnedAcquire,
    waker: Option<Waker>,
}

impl<J: Joinable> JoinOrTurn<J> {
    pub(crate) fn new(lock: J, key: &Arc<OwnedPreparedKey>, deadline: Option<Instant>) -> Self {
        Self { lock, request: key.acquire_until(Mode::Exclusive, "", deadline), waker: None }
    }

    fn forget_waker(&mut self) {
        if let Some(waker) = self.waker.take() {
            self.lock.joins_no_more(&waker);
        }
    }
}

impl<J: Joinable + Unpin> Future for JoinOrTurn<J> {
    type Output = Came;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Came> {
        let waker = context.waker();
        if self.waker.as_ref().is_some_and(|known| !known.will_wake(waker)) {
            self.forget_waker();
        }
        if self.lock.joins(waker) {
            return Poll::Ready(Came::ToJoin);
        }
        self.waker.get_or_insert_with(|| waker.clone());
        Pin::new(&mut self.request).poll(context).map(|came| match came {
            Ok(Some(guard)) => Came::Turn(guard),
            Ok(None) => Came::Late,
            Err(error) => Came::Failed(error),
        })
    }
}

impl<J: Joinable> Drop for JoinOrTurn<J> {
    fn drop(&mut self) {
        self.forget_waker();
    }
}
