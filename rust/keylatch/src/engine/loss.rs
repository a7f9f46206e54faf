//! Listeners to the loss of a hold.

use crate::hold::{Grant, Lost};
use crate::sync::Mutex;
use crate::wait::UserCode;
use std::collections::HashMap;
use std::sync::Weak;

/// A callback that is called once, without any internal mutex.
pub(crate) struct Listener {
    call: UserCode<Box<dyn FnOnce(Lost) + Send>>,
    /// What the callback reports to.
    ///
    /// Once that is gone, dropping the callback runs no user code.
    hears: Option<Weak<dyn Send + Sync>>,
}

impl Listener {
    pub(crate) fn new(call: impl FnOnce(Lost) + Send + 'static) -> Self {
        Self { call: UserCode::new(Box::new(call)), hears: None }
    }

    /// Makes one that is useless once `hears` is gone.
    pub(crate) fn for_whom(hears: Weak<dyn Send + Sync>, call: impl FnOnce(Lost) + Send + 'static) -> Self {
        Self { hears: Some(hears), ..Self::new(call) }
    }

    /// Calls it. A panic does not reach the caller.
    pub(super) fn notify(self, why: Lost) {
        self.call.call(|listener| listener(why));
    }

    fn is_of_use(&self) -> bool {
        self.hears.as_ref().is_none_or(|hears| hears.strong_count() > 0)
    }
}

/// Listeners by the grant they are about.
#[derive(Default)]
pub(crate) struct RevocationListeners {
    listeners: Mutex<HashMap<Grant, Vec<Listener>>>,
}

impl std::fmt::Debug for RevocationListeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Takes no mutex: in a forked child its holder may not exist.
        f.debug_struct("RevocationListeners").finish_non_exhaustive()
    }
}

impl RevocationListeners {
    /// Adds one if `marks` marks the hold as watched; otherwise returns it.
    ///
    /// `is_void` returns whether a grant was released.
    pub(crate) fn add(
        &self,
        grant: Grant,
        listener: Listener,
        marks: impl FnOnce() -> bool,
        is_void: impl Fn(Grant) -> bool,
    ) -> Result<(), Listener> {
        let mut all = self.listeners.lock();
        // Under the mutex: a thread that finds the mark comes here, and finds the listener.
        if !marks() {
            return Err(listener);
        }
        let mut forgotten = Vec::new();
        if all.len() == all.capacity() {
            // A grant that was released while its listener was added left the listener behind.
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
        Ok(())
    }

    /// Removes the listeners of a grant that was released, or never held.
    pub(crate) fn forget(&self, grant: Grant) {
        let listeners = self.listeners.lock().remove(&grant);
        // Dropping one runs user code, in the middle of a release: not under the mutex.
        drop(listeners);
    }

    /// Removes all listeners, once the manager is gone.
    pub(crate) fn forget_all(&self) {
        let listeners = std::mem::take(&mut *self.listeners.lock());
        // As in `forget`.
        drop(listeners);
    }

    /// Calls the listeners of a grant. A panic does not reach the revoking thread.
    pub(crate) fn notify(&self, grant: Grant, why: Lost) {
        let listeners = self.listeners.lock().remove(&grant);
        listeners.into_iter().flatten().for_each(|listener| listener.notify(why));
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

    impl RevocationListeners {
        fn len(&self) -> usize {
            self.listeners.lock().values().map(Vec::len).sum()
        }
    }

    fn poll(future: Pin<&mut impl Future<Output = Lost>>) -> Poll<Lost> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn dropped_listeners_make_way_for_new_ones() {
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

    /// As when a grant is released while a listener is added.
    #[test]
    fn what_numbers_left_behind_is_forgotten() {
        let locks = FastObjectLockManager::new();
        let captured = Arc::new(());
        let held = locks.acquire_write_lock_blocking("b", "held", "me").unwrap().into_grant();
        let kept = Arc::clone(&captured);
        locks.on_lost(held, move |_| drop(kept)).unwrap();
        for _ in 0..1000 {
            let grant = locks.lock(LockRequest::write(("b", "o"))).grant_blocking().unwrap();
            locks.release(grant).unwrap();
            let kept = Arc::clone(&captured);
            let core = locks.core();
            let listener = Listener::new(move |_| drop(kept));
            assert!(core.losses.add(grant, listener, || true, |grant| core.is_void(grant)).is_ok());
        }
        assert!(Arc::strong_count(&captured) <= 20, "{}", Arc::strong_count(&captured));
        locks.force_release(&Filter::all());
        assert!(!locks.core().losses.listeners.lock().contains_key(&held), "it was called");
    }
}
