//! CLAIMS IN EVENT LOOPS
//!
//! Answers of claims in a queue, and the numbered events of a resource. Both have a file descriptor that is readable while there
//! is something to fetch: poll it for reading, then fetch until KEYLATCH_EWOULDBLOCK. Neither function waits.

use crate::boundary::{Out, SizedOut, Versioned, call};
use crate::claim_verbs::{keylatch_claim_answer, keylatch_claim_policy, pending, status_of};
use crate::claims::{enter, enter_claims, keylatch_claimant, keylatch_claims, timeout};
use crate::figures;
use crate::handle::{self, Kind, Mark};
use crate::key::{self, keylatch_key};
use crate::manager::handed_out;
use crate::refusal::Failure;
use crate::status::{KEYLATCH_EWOULDBLOCK, KEYLATCH_OK};
use keylatch::claim::{ClaimChange, ClaimEventId, ClaimNotice, ClaimQueue, ClaimSnapshot, ClaimWatch};
use std::ffi::c_char;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

/// Answers of claims: keylatch_claim_queue_new() makes it.
///
/// Freed by keylatch_claim_queue_free().
#[derive(Debug)]
pub struct keylatch_claim_queue {
    queue: ClaimQueue,
}

impl Kind for keylatch_claim_queue {
    const MARK: &'static Mark = {
        static MARK: Mark = Mark::new();
        &MARK
    };
    const NAME: &'static str = "keylatch_claim_queue";
}

/// A subscription to a resource: keylatch_claim_watch_new() makes it.
///
/// Freed by keylatch_claim_watch_free().
#[derive(Debug)]
pub struct keylatch_claim_watch {
    watch: Mutex<ClaimWatch>,
}

impl Kind for keylatch_claim_watch {
    const MARK: &'static Mark = {
        static MARK: Mark = Mark::new();
        &MARK
    };
    const NAME: &'static str = "keylatch_claim_watch";
}

/// Makes a queue for the answers of claims. Takes two file descriptors.
///
/// Writes *queue on success; it is the caller's, to be freed with keylatch_claim_queue_free(). Errors: KEYLATCH_ESYSTEM if there are no
/// descriptors; KEYLATCH_ECLOSED, KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_queue_new(
    claims: *const keylatch_claims,
    queue: *mut *mut keylatch_claim_queue,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(queue) }?;
        let made = keylatch_claim_queue { queue: enter_claims(claims)?.claims.completion_queue()? };
        out.write(handed_out(handle::create(made)?));
        Ok(())
    })
}

/// Frees a queue.
///
/// Answers that were not fetched are dropped; the requests stay as they are. NULL is fine and does nothing.
///
/// Errors: KEYLATCH_EHANDLE; KEYLATCH_EFORKED in a forked child. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_queue_free(queue: *mut keylatch_claim_queue) -> i32 {
    call(|| {
        if !queue.is_null() {
            drop(handle::end::<keylatch_claim_queue>(queue.cast(), |_| ())?);
        }
        Ok(())
    })
}

/// Gets the descriptor that is readable while answers lie in the queue.
///
/// It is the queue's: poll it, do not read or close it.
///
/// Writes *fd on success. Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_queue_fd(queue: *const keylatch_claim_queue, fd: *mut i32) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(fd) }?;
        out.write(handle::enter_here::<keylatch_claim_queue>(queue.cast())?.queue.as_fd().as_raw_fd());
        Ok(())
    })
}

/// As keylatch_claim(), with the answer in a queue of the same claims.
///
/// It comes under this token, also if there is an answer already.
///
/// Errors: as keylatch_claim(), without KEYLATCH_ETIMEOUT, which arrives in the queue; KEYLATCH_ECONFIG for a queue of other claims; nothing
/// arrives then. Threads: any; also from callbacks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_queue_submit(
    claimant: *const keylatch_claimant,
    resource: *const keylatch_key,
    number: u64,
    timeout_ns: u64,
    policy: *const keylatch_claim_policy,
    queue: *const keylatch_claim_queue,
    token: u64,
) -> i32 {
    call(|| {
        let claimant = enter(claimant)?;
        let queue = handle::enter_here::<keylatch_claim_queue>(queue.cast())?;
        // SAFETY: the header says what the caller promises.
        let mut pending = unsafe { pending(&claimant, resource, number, policy) }?;
        if let Some(timeout) = timeout(timeout_ns) {
            pending = pending.timeout(timeout);
        }
        pending.with_queue(&queue.queue, token)?;
        Ok(())
    })
}

/// Fetches the oldest answer, without waiting.
///
/// It consists of a token, a status, and the answer if the status is KEYLATCH_OK.
///
/// Set answer->struct_size first. Writes *token and *status on success, and the rest of answer if the status is KEYLATCH_OK. Errors:
/// KEYLATCH_EWOULDBLOCK if nothing is there; KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any;
/// each answer is fetched by one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_queue_next(
    queue: *const keylatch_claim_queue,
    token: *mut u64,
    status: *mut i32,
    answer: *mut keylatch_claim_answer,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let (token, status, out) = unsafe { (Out::new(token)?, Out::new(status)?, SizedOut::new(answer)?) };
        let queue = handle::enter_here::<keylatch_claim_queue>(queue.cast())?;
        let next = queue.queue.try_next().ok_or_else(nothing)?;
        token.write(next.token);
        match next.result {
            Ok(found) => {
                status.write(KEYLATCH_OK);
                out.write(&keylatch_claim_answer::of(&found));
            }
            Err(error) => status.write(status_of(error)),
        }
        Ok(())
    })
}

fn nothing() -> Failure {
    Failure::new(KEYLATCH_EWOULDBLOCK, "there is nothing to fetch")
}

/// The events up to this one are not kept; the event has the state after it.
///
/// That is owner and fence if the work has an owner, waiting, and succeeded and text if it has an outcome.
pub const KEYLATCH_CLAIM_EVENT_RESET: i32 = 1;
/// A request became the owner: owner, fence, attempt.
///
/// number is its claimant's number for it.
pub const KEYLATCH_CLAIM_EVENT_GRANTED: i32 = 2;
/// An attempt failed: fence; text is the reason.
///
/// number is that of the request that owns the work now, or 0.
pub const KEYLATCH_CLAIM_EVENT_FAILED: i32 = 3;
/// The work has an outcome: fence, attempt, succeeded, text.
pub const KEYLATCH_CLAIM_EVENT_DONE: i32 = 4;
/// The owner reported how far it is: fence, done, total; text is the address.
pub const KEYLATCH_CLAIM_EVENT_PROGRESS: i32 = 5;
/// The outcome is no longer retained.
pub const KEYLATCH_CLAIM_EVENT_FORGOTTEN: i32 = 6;

/// One event of a resource.
///
/// sequence counts without gaps; after a reset it goes on with the next one. owner and text are the caller's, to be
/// freed with keylatch_text_free(), and NULL where there is none.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct keylatch_claim_event {
    /// sizeof(keylatch_claim_event)
    pub struct_size: usize,
    pub owner: *mut c_char,
    pub text: *mut c_char,
    pub epoch: u64,
    pub sequence: u64,
    pub number: u64,
    pub fence: u64,
    pub done: u64,
    pub total: u64,
    pub waiting: u64,
    /// KEYLATCH_CLAIM_EVENT_...
    pub kind: i32,
    pub succeeded: i32,
    pub attempt: u32,
    /// 1 if the work has an outcome. For a reset.
    pub has_outcome: u32,
}

// SAFETY: integers and pointers without padding.
unsafe impl Versioned for keylatch_claim_event {
    const FIRST_SIZE: usize = 96;
    const NAME: &'static str = "keylatch_claim_event";
}

const _: () = assert!(size_of::<keylatch_claim_event>() == 96 || size_of::<usize>() != 8);

impl keylatch_claim_event {
    fn new(kind: i32, id: ClaimEventId) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            owner: null_mut(),
            text: null_mut(),
            epoch: id.epoch,
            sequence: id.sequence,
            number: 0,
            fence: 0,
            done: 0,
            total: 0,
            waiting: 0,
            kind,
            succeeded: 0,
            attempt: 0,
            has_outcome: 0,
        }
    }

    fn of(notice: &ClaimNotice) -> Self {
        let said = |text: &str| figures::text(text.to_owned());
        match notice {
            ClaimNotice::Reset { id, snapshot } => Self::of_state(*id, snapshot),
            ClaimNotice::Event(event) => match &event.change {
                ClaimChange::Granted { request, owner, owned } => Self {
                    owner: said(owner),
                    number: request.number,
                    fence: owned.grant.fence,
                    attempt: owned.attempt,
                    ..Self::new(KEYLATCH_CLAIM_EVENT_GRANTED, event.id)
                },
                ClaimChange::Failed { fence, reason, next, .. } => Self {
                    text: said(&reason.to_string()),
                    number: next.map_or(0, |next| next.number),
                    fence: *fence,
                    ..Self::new(KEYLATCH_CLAIM_EVENT_FAILED, event.id)
                },
                ClaimChange::Done { outcome } => Self {
                    text: said(outcome.result.as_ref().unwrap_or_else(|reason| reason)),
                    owner: said(&outcome.owner),
                    succeeded: i32::from(outcome.result.is_ok()),
                    fence: outcome.grant.fence,
                    attempt: outcome.attempt,
                    ..Self::new(KEYLATCH_CLAIM_EVENT_DONE, event.id)
                },
                ClaimChange::Progress { fence, progress } => Self {
                    text: said(&progress.address),
                    fence: *fence,
                    done: progress.done,
                    total: progress.total,
                    ..Self::new(KEYLATCH_CLAIM_EVENT_PROGRESS, event.id)
                },
                ClaimChange::Forgotten => Self::new(KEYLATCH_CLAIM_EVENT_FORGOTTEN, event.id),
            },
        }
    }

    fn of_state(id: ClaimEventId, snapshot: &ClaimSnapshot) -> Self {
        let mut event = Self::new(KEYLATCH_CLAIM_EVENT_RESET, id);
        event.waiting = (snapshot.waiting.len() + snapshot.more_waiting) as u64;
        if let Some(owner) = &snapshot.owner {
            event.owner = figures::text(owner.name.to_string());
            event.number = owner.request.number;
            (event.fence, event.attempt) = (owner.owned.grant.fence, owner.owned.attempt);
            (event.done, event.total) = (owner.progress.done, owner.progress.total);
        }
        if let Some(outcome) = &snapshot.outcome {
            let said = outcome.result.as_ref().unwrap_or_else(|reason| reason);
            event.text = figures::text(said.to_string());
            (event.has_outcome, event.succeeded) = (1, i32::from(outcome.result.is_ok()));
        }
        event
    }
}

/// Subscribes to the events of a resource after the one given.
///
/// That is the one of this epoch and sequence; with both 0 they begin with a reset.
///
/// Writes *watch on success; it is the caller's, to be freed with keylatch_claim_watch_free(). Errors: KEYLATCH_EKEY, KEYLATCH_ECLOSED,
/// KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EINVALID, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_watch_new(
    claims: *const keylatch_claims,
    resource: *const keylatch_key,
    epoch: u64,
    sequence: u64,
    watch: *mut *mut keylatch_claim_watch,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let (out, resource) = unsafe { (Out::new(watch)?, key::read(resource)?) };
        let last = ((epoch, sequence) != (0, 0)).then_some(ClaimEventId { epoch, sequence });
        let watch = Mutex::new(enter_claims(claims)?.claims.watch(resource, last)?);
        out.write(handed_out(handle::create(keylatch_claim_watch { watch })?));
        Ok(())
    })
}

/// Ends a subscription and frees it. NULL is fine and does nothing.
///
/// Errors: KEYLATCH_EHANDLE; KEYLATCH_EFORKED in a forked child. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_watch_free(watch: *mut keylatch_claim_watch) -> i32 {
    call(|| {
        if !watch.is_null() {
            drop(handle::end::<keylatch_claim_watch>(watch.cast(), |_| ())?);
        }
        Ok(())
    })
}

/// Gets a descriptor that is readable when there may be an event.
///
/// It is the subscription's: poll it, do not read or close it. Takes two file descriptors when it is called first.
///
/// Writes *fd on success. Errors: KEYLATCH_ESYSTEM if there are no descriptors; KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE.
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_watch_fd(watch: *const keylatch_claim_watch, fd: *mut i32) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(fd) }?;
        let entered = handle::enter_here::<keylatch_claim_watch>(watch.cast())?;
        let watch = entered.watch.lock().unwrap_or_else(PoisonError::into_inner);
        out.write(watch.descriptor()?.as_raw_fd());
        Ok(())
    })
}

/// Fetches the next event, without waiting.
///
/// Set event->struct_size first; the rest is written on success. Errors: KEYLATCH_EWOULDBLOCK if nothing is there; KEYLATCH_ECLOSED,
/// KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_ESTRUCT, KEYLATCH_EHANDLE. Threads: any; each event is fetched by one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_claim_watch_next(
    watch: *const keylatch_claim_watch,
    event: *mut keylatch_claim_event,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { SizedOut::new(event) }?;
        let entered = handle::enter_here::<keylatch_claim_watch>(watch.cast())?;
        let mut watch = entered.watch.lock().unwrap_or_else(PoisonError::into_inner);
        out.write(&keylatch_claim_event::of(&watch.try_next()?.ok_or_else(nothing)?));
        Ok(())
    })
}
