//! Foreign code that is called: which managers' a thread is in the middle of, and what is still to be called.
//!
//! Who frees a manager waits for its callbacks, but a thread cannot wait for what it is in the middle of itself.

use crate::annotate;
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::{from_ref, null};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};

/// Frees what a callback is given; `keylatch_free_fn` in the header.
type Free = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// A callback that a thread is in, and the one that it was in before.
struct Frame {
    /// The manager's number.
    manager: u64,
    before: *const Frame,
}

thread_local! {
    static INNERMOST: Cell<*const Frame> = const { Cell::new(null()) };
}

/// Runs foreign code that was given for this manager; 0 if no manager knows of it.
fn calling_back(manager: u64, foreign: impl FnOnce()) {
    let frame = Frame { manager, before: INNERMOST.get() };
    INNERMOST.set(from_ref(&frame));
    // Whatever comes out of `foreign`: the frame ends with this function.
    let _left = Left(frame.before);
    annotate::outside(foreign);
}

struct Left(*const Frame);

impl Drop for Left {
    fn drop(&mut self) {
        INNERMOST.set(self.0);
    }
}

/// Whether this thread is in a callback of that manager, inside others or not.
fn in_callback_of(manager: u64) -> bool {
    // SAFETY: each frame lives until `Left` has put the one before it in its place.
    let frames = std::iter::successors(unsafe { INNERMOST.get().as_ref() }, |frame| unsafe { frame.before.as_ref() });
    frames.into_iter().any(|frame| frame.manager == manager)
}

/// What a given callback is owed: one call, and one free of its user data.
pub(crate) struct Promise {
    user_data: Option<UserData>,
    /// Whose it is, and its count.
    owed: OnceLock<(u64, Owed)>,
}

impl Promise {
    pub(crate) fn new(user_data: *mut c_void, free: Free) -> Arc<Self> {
        let promise = Arc::new(Self { user_data: Some(UserData { data: user_data, free }), owed: OnceLock::new() });
        annotate::release(&*promise);
        promise
    }

    /// From now on, freeing the manager of this number and count waits for it.
    ///
    /// Other owners of the count wait too.
    pub(crate) fn is_owed(&self, number: u64, callbacks: &Arc<Outstanding>) {
        self.owed.get_or_init(|| (number, callbacks.add()));
    }

    /// The manager's number.
    pub(crate) fn manager(&self) -> u64 {
        self.owed.get().map_or(0, |(manager, _)| *manager)
    }

    /// Calls it with what it was to be given.
    pub(crate) fn call(&self, callback: impl FnOnce(*mut c_void)) {
        if let Some(user_data) = &self.user_data {
            annotate::acquire(self);
            calling_back(self.manager(), || callback(user_data.data));
            annotate::release(self);
        }
    }
}

impl Drop for Promise {
    /// Frees first; then it is not owed any more.
    fn drop(&mut self) {
        annotate::acquire(&*self);
        calling_back(self.manager(), || drop(self.user_data.take()));
    }
}

/// What a callback wants to be given, to be freed when it is no longer needed.
struct UserData {
    data: *mut c_void,
    free: Free,
}

// SAFETY: the header says that both are used on other threads.
unsafe impl Send for UserData {}
// SAFETY: as above; only the pointer is handed out.
unsafe impl Sync for UserData {}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: the caller gave it for this pointer, to be called once.
            unsafe { free(self.data) }
        }
    }
}

/// Waits in several parts, and is cancelled by its first ticket.
pub(crate) trait Cancellable: Send + Sync {
    /// Ends the wait, if there is one.
    fn cancel(&self) -> bool;
}

/// Such requests of a manager, by their first tickets.
#[derive(Default)]
pub(crate) struct InParts {
    waiting: Mutex<HashMap<u64, Weak<dyn Cancellable>>>,
}

impl InParts {
    pub(crate) fn add(&self, ticket: u64, request: Weak<dyn Cancellable>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, request| request.strong_count() > 0);
        waiting.insert(ticket, request);
    }

    /// Cancels the request of a ticket; `false` if there is none that waits.
    pub(crate) fn cancel(&self, ticket: u64) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let request = waiting.get(&ticket).and_then(Weak::upgrade);
        drop(waiting);
        request.is_some_and(|request| request.cancel())
    }
}

impl std::fmt::Debug for InParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InParts").finish_non_exhaustive()
    }
}

/// A manager's callbacks that are still to be called or freed.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    count: Mutex<usize>,
    settled: Condvar,
}

impl Outstanding {
    pub(crate) fn add(self: &Arc<Self>) -> Owed {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Owed(Arc::clone(self))
    }

    /// Waits until there are none; `false`, without a wait, if the thread is in one.
    pub(crate) fn wait_for_all(&self, manager: u64) -> bool {
        if in_callback_of(manager) {
            return false;
        }
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            count = self.settled.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
        annotate::acquire(&self.settled);
        true
    }
}

/// One of them, until dropped.
#[derive(Debug)]
pub(crate) struct Owed(Arc<Outstanding>);

impl Drop for Owed {
    fn drop(&mut self) {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        annotate::release(&self.0.settled);
        if *count == 0 {
            self.0.settled.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_knows_whose_callbacks_it_is_in() {
        let seen = || [1, 2].map(in_callback_of);
        calling_back(1, || {
            assert_eq!(seen(), [true, false]);
            calling_back(2, || {
                assert_eq!(seen(), [true, true]);
                assert_eq!(std::thread::spawn(move || [1, 2].map(in_callback_of)).join().unwrap(), [false, false]);
            });
            let panicked = std::panic::catch_unwind(|| calling_back(2, || std::panic::resume_unwind(Box::new(()))));
            assert!(panicked.is_err());
            assert_eq!(seen(), [true, false]);
        });
        assert_eq!(seen(), [false, false]);
    }
}
