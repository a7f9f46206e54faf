//! Who wants to be told when a hold is lost.

use crate::hold::{Grant, Lost};
use crate::sync::Mutex;
use crate::sync::fault::fault;
use crate::wait::Foreign;
use std::collections::HashMap;
use std::sync::Weak;

/// What is called, once, off every internal mutex.
pub(crate) struct Listener {
    call: Foreign<Box<dyn FnOnce(Lost) + Send>>,
    /// What is gone once nobody would hear of it; calling and dropping it is nothing foreign then.
    hears: Option<Weak<dyn Send + Sync>>,
}

impl Listener {
    pub(crate) fn new(call: impl FnOnce(Lost) + Send + 'static) -> Self {
        Self { call: Foreign::new(Box::new(call)), hears: None }
    }

    /// One that is of no use once this is gone.
    pub(crate) fn for_whom(hears: Weak<dyn Send + Sync>, call: impl FnOnce(Lost) + Send + 'static) -> Self {
        Self { hears: Some(hears), ..Self::new(call) }
    }

    fn is_of_use(&self) -> bool {
        self.hears.as_ref().is_none_or(|hears| hears.strong_count() > 0) || fault!("dropped-future-listens-on")
    }
}

/// Listeners by the grant they are about.
#[derive(Default)]
pub(crate) struct Losses {
    listeners: Mutex<HashMap<Grant, Vec<Listener>>>,
}

impl std::fmt::Debug for Losses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the mutex, which nobody may wait for in a forked child.
        f.debug_struct("Losses").finish_non_exhaustive()
    }
}

impl Losses {
    /// Adds one. `is_void` says which grants are held no more and were not lost.
    pub(crate) fn add(&self, grant: Grant, listener: Listener, is_void: impl Fn(Grant) -> bool) {
        let mut all = self.listeners.lock();
        let mut forgotten = Vec::new();
        if all.len() == all.capacity() {
            // A number that was released in the moment in which somebody asked to be told left its listener behind.
            forgotten.extend(all.extract_if(|grant, _| is_void(*grant)));
            let room = all.len().max(4);
            all.reserve(room);
        }
        let its = all.entry(grant).or_default();
        if its.len() == its.capacity() {
            its.retain(Listener::is_of_use);
            its.reserve(its.len().max(4));
        }
        its.push(listener);
        drop(all);
        // As in `forget`.
        drop(forgotten);
    }

    /// The grant was released, or never held: nobody has anything to hear.
    pub(crate) fn forget(&self, grant: Grant) {
        let listeners = self.listeners.lock().remove(&grant);
        // Dropping one is foreign code: off the mutex, and in the middle of a release.
        drop(listeners);
    }

    /// The manager is gone: nothing will be lost any more that anybody could have heard of.
    pub(crate) fn forget_all(&self) {
        let listeners = std::mem::take(&mut *self.listeners.lock());
        // As in `forget`.
        drop(listeners);
    }

    /// Tells everybody. One that panics disturbs nobody: the thread that takes a lock away has business of its own.
    pub(crate) fn tell(&self, grant: Grant, why: Lost) {
        let listeners = self.listeners.lock().remove(&grant);
        for listener in listeners.into_iter().flatten() {
            listener.call.call(|listener| listener(why));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{FastObjectLockManager, Filter, LockRequest};
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    impl Losses {
        fn len(&self) -> usize {
            self.listeners.lock().values().map(Vec::len).sum()
        }
    }

    fn poll(future: Pin<&mut impl Future<Output = Lost>>) -> Poll<Lost> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_guard_that_is_watched_again_and_again_is_watched_by_those_that_are_left() {
        let locks = FastObjectLockManager::new();
        let guard = locks.acquire_write_lock_blocking("b", "o", "me").unwrap();
        let mut stays = pin!(guard.lost());
        assert!(poll(stays.as_mut()).is_pending());
        for _ in 0..1000 {
            assert!(poll(pin!(guard.lost())).is_pending());
            assert!(locks.core().losses.len() <= 16, "{}", locks.core().losses.len());
        }
        assert_eq!(locks.force_release(&Filter::all()).len(), 1);
        assert_eq!(poll(stays), Poll::Ready(Lost::Forced));
        assert_eq!(locks.core().losses.len(), 0);
    }

    /// As when a number is released in the moment in which somebody asks to be told of its loss.
    #[test]
    fn what_numbers_left_behind_is_forgotten() {
        let locks = FastObjectLockManager::new();
        let captured = Arc::new(());
        let held = locks.acquire_write_lock_blocking("b", "held", "me").unwrap().into_grant();
        let told = Arc::clone(&captured);
        locks.on_lost(held, move |_| drop(told)).unwrap();
        for _ in 0..1000 {
            let grant = locks.lock(LockRequest::write(("b", "o"))).grant_blocking().unwrap();
            locks.release(grant).unwrap();
            let told = Arc::clone(&captured);
            let core = locks.core();
            core.losses.add(grant, Listener::new(move |_| drop(told)), |grant| core.is_void(grant));
        }
        assert!(Arc::strong_count(&captured) <= 20, "{}", Arc::strong_count(&captured));
        locks.force_release(&Filter::all());
        assert!(!locks.core().losses.listeners.lock().contains_key(&held), "it was told");
    }
}
