//! BATCHES WITHOUT A THREAD THAT WAITS
//!
//! As keylatch_acquire_batch(), with the result by a callback or in a queue. A batch that waits has the locks of the keys
//! before the one that it waits for. With a queue it goes on when results are fetched: fetch them whenever the
//! descriptor is readable.

use crate::acquire::{array_len, keylatch_callback, keylatch_free_fn};
use crate::annotate;
use crate::batch::{keylatch_batch_item, named_once, read_items};
use crate::boundary::{Out, call};
use crate::callbacks::{Cancellable, InParts, Promise};
use crate::handle;
use crate::key;
use crate::last_error;
use crate::manager::{self, keylatch_manager};
use crate::options::{
    Given, KEYLATCH_BEST_EFFORT, KEYLATCH_WAIT_DEFAULT, KEYLATCH_WAIT_FOREVER, keylatch_request_options,
};
use crate::owner::KeptOwner;
use crate::queue::{Continuation, keylatch_completion, keylatch_queue};
use crate::refusal::{Failure, invalid, null};
use crate::section::Section;
use crate::status::{KEYLATCH_EHANDLE, KEYLATCH_OK};
use keylatch::{
    Completion, FastObjectLockManager, LockError, LockRequest, Mode, ObjectKey, OwnedLockGuard, Submitted, Ticket,
};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Takes count locks; if one is held, callback is called with the result.
///
/// It never waits. On success *ticket is 0 if all locks were had, and callback will not be called. Otherwise callback will be called,
/// maybe before this function returns, with the status and with 0 for its grant; keylatch_cancel() ends the wait. grants
/// and statuses are written as by keylatch_acquire_batch(), on success only, before this function returns or before
/// callback is called: until then they belong to the library. items may go when this function returns. free_fn (NULL for none)
/// is called once with user_data when nothing needs that any longer, as by keylatch_acquire_callback().
///
/// Errors: as keylatch_acquire_batch(); callback is not called then. KEYLATCH_ESYSTEM if there is no thread for callbacks.
/// Threads: any; also from callbacks.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_acquire_batch_callback(
    manager: *mut keylatch_manager,
    items: *const keylatch_batch_item,
    count: usize,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    callback: keylatch_callback,
    user_data: *mut c_void,
    free_fn: keylatch_free_fn,
    grants: *mut u64,
    statuses: *mut i32,
    ticket: *mut u64,
) -> i32 {
    let promise = Promise::new(user_data, free_fn);
    let status = call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(ticket) }?;
        let callback = callback.ok_or_else(|| null("the callback"))?;
        let manager = manager::enter_here(manager)?;
        // SAFETY: the header says what the caller promises.
        let read = unsafe { Asked::read(&manager, items, count, timeout_ns, options) }?;
        let to = Arrays { grants, statuses };
        to.check(count)?;
        promise.is_owed(manager.number, &manager.callbacks);
        let kept = Arc::clone(&promise);
        // SAFETY: the caller gave the function for this pointer.
        let tell = move |status| kept.call(|user_data| unsafe { callback(user_data, status, 0) });
        let tell: Tell = Arc::new(Mutex::new(Some(Box::new(tell))));
        out.write(read.later(&manager, to).begin(&manager.in_parts, &tell)?);
        Ok(())
    });
    // Out of the manager, so that free_fn may free it.
    drop(promise);
    status
}

/// Takes count locks; if one is held, the result arrives in queue.
///
/// It never waits. The queue is one of the manager's. On success *ticket is 0 if all locks were had, and nothing will arrive. Otherwise a result will arrive with this ticket and
/// token, and with 0 for its grant; keylatch_cancel() ends the wait. grants and statuses are written as by
/// keylatch_acquire_batch(), on success only, before this function returns or when the result is fetched: until then they
/// belong to the library. items may go when this function returns.
///
/// Errors: as keylatch_acquire_batch(); nothing arrives then. KEYLATCH_EHANDLE also for another manager's queue. Threads: any; also
/// from callbacks.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_acquire_batch_queue(
    manager: *mut keylatch_manager,
    items: *const keylatch_batch_item,
    count: usize,
    timeout_ns: u64,
    options: *const keylatch_request_options,
    queue: *mut keylatch_queue,
    token: u64,
    grants: *mut u64,
    statuses: *mut i32,
    ticket: *mut u64,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(ticket) }?;
        let manager = manager::enter_here(manager)?;
        let queue = handle::enter_here::<keylatch_queue>(queue.cast())?;
        if queue.manager != manager.number {
            return Err(Failure::new(KEYLATCH_EHANDLE, "the queue belongs to another manager"));
        }
        // SAFETY: the header says what the caller promises.
        let read = unsafe { Asked::read(&manager, items, count, timeout_ns, options) }?;
        let to = Arrays { grants, statuses };
        to.check(count)?;
        let batch = read.later(&manager, to);
        let _section = Section::begin();
        // Held meanwhile: the first result may be fetched before its ticket is noted.
        let mut waiting = queue.continuations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = batch.state();
        let ended =
            batch.go_on(&mut state, |request| manager.locks.lock(request).with_queue(&queue.completions, token));
        let first = match ended {
            Step::Ended(result) => {
                drop(state);
                batch.write(result)?;
                0
            }
            Step::Waits(first) => {
                batch.note(&mut state, &manager.in_parts, first);
                drop(state);
                waiting.insert(first.to_raw(), batch.goes_on());
                first.to_raw()
            }
        };
        out.write(first);
        Ok(())
    })
}

/// Where the grants of a batch go.
struct Arrays {
    grants: *mut u64,
    statuses: *mut i32,
}

// SAFETY: the header says that the arrays belong to the library until they are written, on whatever thread.
unsafe impl Send for Arrays {}

impl Arrays {
    fn check(&self, count: usize) -> Result<(), Failure> {
        if count > 0 && self.grants.is_null() { Err(null("the array for the grants")) } else { Ok(()) }
    }

    /// # Safety
    /// As the header says of the arrays, which have room for that many.
    unsafe fn write(&self, numbers: &[(u64, i32)]) {
        for (position, (grant, status)) in numbers.iter().enumerate() {
            // SAFETY: promised.
            unsafe { self.grants.add(position).write_unaligned(*grant) };
            if let Some(statuses) = NonNull::new(self.statuses) {
                // SAFETY: promised.
                unsafe { statuses.add(position).write_unaligned(*status) };
            }
        }
    }
}

/// A key of a batch, with a copy of its own.
struct Part {
    key: ObjectKey,
    mode: Mode,
    /// Where it is named, the first place first.
    positions: Vec<usize>,
}

/// A batch as it was asked for.
struct Asked {
    parts: Vec<Part>,
    count: usize,
    owner: KeptOwner,
    priority: u8,
    ttl: Option<Duration>,
    deadline: Option<Instant>,
    best_effort: bool,
}

impl Asked {
    /// # Safety
    /// As the header says of the items and options.
    unsafe fn read(
        manager: &keylatch_manager,
        items: *const keylatch_batch_item,
        count: usize,
        timeout_ns: u64,
        options: *const keylatch_request_options,
    ) -> Result<Self, Failure> {
        let count = array_len::<keylatch_batch_item>(count)?;
        // SAFETY: promised.
        let wanted = unsafe { read_items(items, count) }?;
        // SAFETY: promised.
        let given = unsafe { Given::read(options, manager, KEYLATCH_BEST_EFFORT) }?;
        if given.request_id.is_some() {
            return Err(invalid("a batch has no request_id; requests for one lock have".into()));
        }
        let mut parts = Vec::new();
        for first in named_once(&wanted) {
            let key = key::lockable(first.key, &manager.locks)?.to_owned();
            parts.push(Part { key, mode: first.mode, positions: first.positions });
        }
        let timeout = match timeout_ns {
            KEYLATCH_WAIT_DEFAULT => manager.locks.default_timeout(),
            KEYLATCH_WAIT_FOREVER => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        };
        Ok(Self {
            parts,
            count,
            owner: given.kept_owner(),
            priority: given.priority,
            ttl: given.ttl,
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            best_effort: given.flags & KEYLATCH_BEST_EFFORT != 0,
        })
    }

    fn later(self, manager: &keylatch_manager, to: Arrays) -> Arc<LaterBatch> {
        let state =
            State { next: 0, got: Vec::new(), missing: Vec::new(), current: None, first: 0, cancelled: false, to };
        Arc::new(LaterBatch {
            locks: manager.locks.clone(),
            manager: manager.number,
            asked: self,
            state: Mutex::new(state),
        })
    }
}

/// A batch that is answered later.
struct LaterBatch {
    locks: FastObjectLockManager,
    /// The manager's number.
    manager: u64,
    asked: Asked,
    state: Mutex<State>,
}

struct State {
    /// The part that is waited for, or is next.
    next: usize,
    got: Vec<(usize, OwnedLockGuard)>,
    missing: Vec<(usize, i32)>,
    /// What is waited for.
    current: Option<Ticket>,
    /// The ticket that the caller knows.
    first: u64,
    cancelled: bool,
    to: Arrays,
}

/// How far a batch has come.
enum Step {
    Waits(Ticket),
    Ended(Result<(), LockError>),
}

/// What tells the status of a batch to its callback, once.
type Tell = Arc<Mutex<Option<Box<dyn FnOnce(i32) + Send>>>>;

impl std::fmt::Debug for LaterBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaterBatch").finish_non_exhaustive()
    }
}

impl LaterBatch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for one part after the other until one has to be waited for.
    fn go_on(&self, state: &mut State, mut ask: impl FnMut(LockRequest<'_>) -> Result<Submitted, LockError>) -> Step {
        while let Some(part) = self.asked.parts.get(state.next) {
            let request = LockRequest::new(&part.key, part.mode).owner(self.asked.owner.as_ref());
            let request = request.priority(self.asked.priority);
            let request = self.asked.deadline.map_or(request.no_timeout(), |at| request.deadline(at));
            match ask(request) {
                Ok(Submitted::Waiting(ticket)) => {
                    state.current = Some(ticket);
                    return Step::Waits(ticket);
                }
                Ok(Submitted::Granted(guard)) => {
                    if let Err(error) = self.part_ended(state, Ok(guard)) {
                        return Step::Ended(Err(error));
                    }
                }
                Err(error) => {
                    if let Err(error) = self.part_ended(state, Err(error)) {
                        return Step::Ended(Err(error));
                    }
                }
            }
        }
        Step::Ended(self.begin_leases(state))
    }

    /// Takes in the answer for a part; an error ends the whole batch.
    fn part_ended(&self, state: &mut State, answer: Result<OwnedLockGuard, LockError>) -> Result<(), LockError> {
        let place = state.next;
        let key = &self.asked.parts[place].key;
        state.next += 1;
        state.current = None;
        let answer = match answer {
            Err(error @ (LockError::Closed | LockError::Forked)) => Err(error),
            // It was answered in the moment in which it was cancelled.
            _ if state.cancelled => Err(LockError::Cancelled { key: key.clone() }),
            answer => answer,
        };
        let error = match answer {
            Ok(guard) => {
                state.got.push((place, guard));
                return Ok(());
            }
            Err(error @ (LockError::Closed | LockError::Forked)) => error,
            Err(error) => {
                if self.asked.best_effort && !matches!(error, LockError::Cancelled { .. }) {
                    state.missing.push((place, error.code()));
                    return Ok(());
                }
                LockError::Batch { key: key.clone(), cause: Box::new(error) }
            }
        };
        state.got.clear();
        Err(error)
    }

    /// From the moment on in which all locks are had.
    fn begin_leases(&self, state: &mut State) -> Result<(), LockError> {
        let Some(ttl) = self.asked.ttl else { return Ok(()) };
        let begun = state.got.iter().try_for_each(|(_, guard)| guard.renew(ttl));
        if begun.is_err() {
            state.got.clear();
        }
        begun
    }

    /// Writes what was had where the caller wants it.
    fn write(&self, result: Result<(), LockError>) -> Result<(), Failure> {
        result?;
        let mut numbers = vec![(0, KEYLATCH_OK); self.asked.count];
        let mut state = self.state();
        for (place, why) in std::mem::take(&mut state.missing) {
            self.asked.parts[place].positions.iter().for_each(|position| numbers[*position].1 = why);
        }
        for (place, guard) in std::mem::take(&mut state.got) {
            annotate::handed_over(self.manager, &guard);
            numbers[self.asked.parts[place].positions[0]].0 = guard.into_grant().to_raw();
        }
        // SAFETY: the header says what the caller promises.
        unsafe { state.to.write(&numbers) };
        Ok(())
    }

    /// Remembers the ticket under which the batch can be cancelled.
    fn note(self: &Arc<Self>, state: &mut State, requests: &InParts, ticket: Ticket) {
        state.first = ticket.to_raw();
        let this: Arc<dyn Cancellable> = self.clone();
        requests.add(ticket.to_raw(), Arc::downgrade(&this));
    }

    /// What happens when its part has been answered in a queue.
    fn goes_on(self: Arc<Self>) -> Continuation {
        Continuation(Box::new(move |queue, answer| self.fetched(queue, answer)))
    }

    /// Begins a batch with a callback: its ticket, or 0 if it has ended.
    fn begin(self: &Arc<Self>, requests: &InParts, tell: &Tell) -> Result<u64, Failure> {
        let _section = Section::begin();
        let mut state = self.state();
        let step = self.go_on(&mut state, |request| self.ask_back(request, tell));
        match step {
            Step::Ended(result) => {
                drop(state);
                self.write(result)?;
                Ok(0)
            }
            Step::Waits(first) => {
                // The state is held: the answer to the first part cannot be taken in before this.
                self.note(&mut state, requests, first);
                Ok(first.to_raw())
            }
        }
    }

    fn ask_back(self: &Arc<Self>, request: LockRequest<'_>, tell: &Tell) -> Result<Submitted, LockError> {
        let (batch, tell) = (Arc::clone(self), Arc::clone(tell));
        self.locks.lock(request).with_callback(move |result| batch.called_back(result, &tell))
    }

    /// A part has been answered, on the thread of the callbacks.
    fn called_back(self: &Arc<Self>, result: Result<OwnedLockGuard, LockError>, tell: &Tell) {
        let section = Section::begin();
        let mut state = self.state();
        let step = match self.part_ended(&mut state, result) {
            Err(error) => Step::Ended(Err(error)),
            Ok(()) => self.go_on(&mut state, |request| self.ask_back(request, tell)),
        };
        drop(state);
        drop(section);
        let Step::Ended(result) = step else { return };
        let status = status_of(self.write(result));
        let tell = tell.lock().unwrap_or_else(PoisonError::into_inner).take();
        tell.into_iter().for_each(|tell| tell(status));
    }

    /// Takes in an answer on a fetching thread; `None` if the batch waits on.
    fn fetched(self: Arc<Self>, queue: &keylatch_queue, answer: Completion) -> Option<keylatch_completion> {
        let Completion { token, result, .. } = answer;
        let _section = Section::begin();
        // In this order as where it began.
        let mut waiting = queue.continuations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        let step = match self.part_ended(&mut state, result) {
            Err(error) => Step::Ended(Err(error)),
            Ok(()) => self.go_on(&mut state, |request| self.locks.lock(request).with_queue(&queue.completions, token)),
        };
        let ticket = state.first;
        drop(state);
        match step {
            Step::Waits(next) => {
                waiting.insert(next.to_raw(), self.goes_on());
                None
            }
            Step::Ended(result) => {
                drop(waiting);
                let status = status_of(self.write(result));
                Some(keylatch_completion { ticket, token, grant: 0, status, reserved: 0 })
            }
        }
    }
}

impl Cancellable for LaterBatch {
    fn cancel(&self) -> bool {
        let mut state = self.state();
        let Some(current) = state.current else { return false };
        // If the part has been granted in this moment, the thread that takes it in finds this.
        state.cancelled = true;
        drop(state);
        self.locks.cancel(current);
        true
    }
}

fn status_of(written: Result<(), Failure>) -> i32 {
    written.map_or_else(last_error::note, |()| KEYLATCH_OK)
}
