//! COMPLETION QUEUES
//!
//! For event loops: results of requests that had to wait lie in a queue until they are fetched, and a file descriptor is
//! readable while there are any. Poll it for reading, then fetch until there are no more.
//!
//! Once its manager is closed or freed, a queue hands out what is still to come, the requests that this has ended too.
//! Then it says KEYLATCH_ECLOSED, and its descriptor stays readable until it is freed.

use crate::boundary::{Out, call};
use crate::handed::{Handed, answer};
use crate::handle::{self, Kind, Mark};
use crate::manager::{self, handed_out, keylatch_manager};
use crate::options::{KEYLATCH_WAIT_DEFAULT, KEYLATCH_WAIT_FOREVER};
use crate::refusal::{Failure, null};
use crate::section::Section;
use crate::status::{KEYLATCH_ECLOSED, KEYLATCH_EHANDLE, KEYLATCH_ESYSTEM, KEYLATCH_ETIMEOUT, KEYLATCH_EWOULDBLOCK};
use keylatch::{Completion, CompletionQueue, Grant, RequestTurn};
use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Results of requests that had to wait: keylatch_queue_new() makes it.
///
/// Freed by keylatch_queue_free().
#[derive(Debug)]
pub struct keylatch_queue {
    pub(crate) completions: CompletionQueue,
    /// The manager's number.
    pub(crate) manager: u64,
    /// Hangs up when the queue is being freed, so that waits for a result end.
    line: PipeReader,
    other_end: Mutex<Option<PipeWriter>>,
    /// Numbered requests that wait, by their tickets.
    numbered: Mutex<HashMap<u64, RequestTurn>>,
    /// What goes on when a ticket has been answered: requests of several parts.
    pub(crate) continuations: Mutex<HashMap<u64, Continuation>>,
}

/// Takes in an answer; `None` if the request waits for another part.
pub(crate) struct Continuation(pub(crate) Box<GoesOn>);

type GoesOn = dyn FnOnce(&keylatch_queue, Completion) -> Option<keylatch_completion> + Send;

impl std::fmt::Debug for Continuation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Continuation").finish_non_exhaustive()
    }
}

impl Kind for keylatch_queue {
    const MARK: &'static Mark = {
        static MARK: Mark = Mark::new();
        &MARK
    };
    const NAME: &'static str = "keylatch_queue";
}

/// One result. This struct will never change.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct keylatch_completion {
    /// The request, as the call that made it returned it.
    pub ticket: u64,
    /// What the caller gave along.
    pub token: u64,
    /// The lock, which is the caller's now, if status is KEYLATCH_OK; otherwise 0.
    pub grant: u64,
    /// KEYLATCH_OK, or why not.
    pub status: i32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<keylatch_completion>() == 32);

impl keylatch_queue {
    /// The result as C has it; `None` of a part of a request that waits for another.
    fn completion(&self, from: Completion) -> Option<keylatch_completion> {
        let (ticket, token) = (from.ticket.to_raw(), from.token);
        let continuation = self.continuations.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
        if let Some(Continuation(goes_on)) = continuation {
            return goes_on(self, from);
        }
        let (status, grant) = answer(self.manager, from.result);
        let turn = self.numbered.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
        if let (Some(turn), Some(grant)) = (turn, Grant::from_raw(grant)) {
            turn.answer(grant);
        }
        Some(keylatch_completion { ticket, token, grant, status, reserved: 0 })
    }

    /// Makes a request whose grant is reported, whether it comes immediately or later.
    pub(crate) fn numbered(
        &self,
        turn: RequestTurn,
        ask: impl FnOnce() -> Result<Handed, Failure>,
    ) -> Result<Handed, Failure> {
        let _section = Section::begin();
        // Held meanwhile: the result may be fetched before its ticket is noted.
        let mut numbered = self.numbered.lock().unwrap_or_else(PoisonError::into_inner);
        let handed = ask()?;
        match handed {
            Handed::Granted(grant) => turn.answer(grant),
            Handed::Waiting(ticket) => drop(numbered.insert(ticket.to_raw(), turn)),
        }
        Ok(handed)
    }
}

pub(crate) fn system(error: &io::Error) -> Failure {
    Failure::owned(KEYLATCH_ESYSTEM, format!("the operating system says: {error}"))
}

/// Makes a queue for requests of a manager. Takes three file descriptors.
///
/// Writes *queue on success; it is the caller's, to be freed with keylatch_queue_free(), before or after its manager.
/// Errors: KEYLATCH_ESYSTEM if there are no descriptors; KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_queue_new(manager: *mut keylatch_manager, queue: *mut *mut keylatch_queue) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(queue) }?;
        let manager = manager::enter(manager)?;
        let completions = manager.locks.completion_queue().map_err(|error| system(&error))?;
        let (line, other_end) = io::pipe().map_err(|error| system(&error))?;
        let queue = keylatch_queue {
            completions,
            manager: manager.number,
            line,
            other_end: Mutex::new(Some(other_end)),
            numbered: Mutex::default(),
            continuations: Mutex::default(),
        };
        out.write(handed_out(handle::create(queue)?));
        Ok(())
    })
}

/// Frees a queue.
///
/// Requests that still wait are cancelled, and locks that were granted or upgraded and not fetched are released. A
/// thread that waits in keylatch_queue_next() comes out with KEYLATCH_EHANDLE. NULL is fine and does nothing.
///
/// Errors: KEYLATCH_EHANDLE, KEYLATCH_EFORKED in a forked child. Threads: any; waits for calls in progress on this
/// queue, and for requests that are just being answered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_queue_free(queue: *mut keylatch_queue) -> i32 {
    call(|| {
        if !queue.is_null() {
            let hang_up = |queue: &keylatch_queue| {
                drop(queue.other_end.lock().unwrap_or_else(PoisonError::into_inner).take());
            };
            drop(handle::end(queue.cast(), hang_up)?);
        }
        Ok(())
    })
}

/// Gets the descriptor that is readable while results lie in the queue.
///
/// It is readable, too, once there will be no more. It is the queue's: poll it, do not read or close it.
///
/// Writes *fd on success. Errors: KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_queue_fd(queue: *const keylatch_queue, fd: *mut i32) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(fd) }?;
        out.write(handle::enter_here::<keylatch_queue>(queue.cast())?.completions.as_fd().as_raw_fd());
        Ok(())
    })
}

/// Fetches up to capacity results without waiting, the oldest first.
///
/// *count says how many; when it is less than capacity, there are no more, and the descriptor is unreadable until more
/// arrive. If the last one is a failure, keylatch_last_error() and its like tell more of it.
///
/// Writes *count and as many of results on success; none at all is a success. Errors: KEYLATCH_ECLOSED when the manager is closed or freed
/// and all was fetched; KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_EHANDLE. Threads: any; each result is
/// fetched by one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_queue_drain(
    queue: *mut keylatch_queue,
    results: *mut keylatch_completion,
    capacity: usize,
    count: *mut usize,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(count) }?;
        let queue = handle::enter_here::<keylatch_queue>(queue.cast())?;
        if results.is_null() && capacity > 0 {
            return Err(null("the array for the results"));
        }
        let mut fetched = 0;
        while fetched < capacity {
            let Some(next) = queue.completions.try_next() else { break };
            let Some(completion) = queue.completion(next) else { continue };
            // SAFETY: the header says what the caller promises.
            unsafe { results.add(fetched).write_unaligned(completion) };
            fetched += 1;
        }
        if fetched == 0 && capacity > 0 && queue.completions.is_over() {
            return Err(no_more());
        }
        out.write(fetched);
        Ok(())
    })
}

fn no_more() -> Failure {
    Failure::new(KEYLATCH_ECLOSED, "the lock manager is closed, and all results were fetched")
}

/// Fetches the oldest result, waiting for one for at most timeout_ns.
///
/// It waits in the calling thread: 0 is not at all, KEYLATCH_WAIT_FOREVER for as long as it takes. KEYLATCH_OK says
/// that a result was fetched; what the result is, result->status says, and if that is a failure, keylatch_last_error()
/// and its like tell more of it.
///
/// Writes *result on success. Errors: KEYLATCH_EWOULDBLOCK if nothing is there and timeout_ns is 0; KEYLATCH_ETIMEOUT;
/// KEYLATCH_ECLOSED when the manager is closed or freed and all was fetched; KEYLATCH_EHANDLE, also if the queue is freed meanwhile;
/// KEYLATCH_EFORKED, KEYLATCH_ENULL, KEYLATCH_ESYSTEM. Threads: any, but callbacks must not wait; each result is
/// fetched by one. Signals do not end the wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keylatch_queue_next(
    queue: *mut keylatch_queue,
    timeout_ns: u64,
    result: *mut keylatch_completion,
) -> i32 {
    call(|| {
        // SAFETY: the header says what the caller promises.
        let out = unsafe { Out::new(result) }?;
        let queue = handle::enter_here::<keylatch_queue>(queue.cast())?;
        let deadline = match timeout_ns {
            KEYLATCH_WAIT_FOREVER | KEYLATCH_WAIT_DEFAULT => None,
            nanoseconds => Instant::now().checked_add(Duration::from_nanos(nanoseconds)),
        };
        loop {
            if let Some(next) = queue.completions.try_next() {
                let Some(completion) = queue.completion(next) else { continue };
                out.write(completion);
                return Ok(());
            }
            if queue.completions.is_over() {
                return Err(no_more());
            }
            if timeout_ns == 0 {
                return Err(Failure::new(KEYLATCH_EWOULDBLOCK, "nothing lies in the queue"));
            }
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return Err(Failure::new(KEYLATCH_ETIMEOUT, "nothing arrived in the queue within the time"));
            }
            if queue.wait(deadline).map_err(|error| system(&error))? {
                return Err(Failure::new(KEYLATCH_EHANDLE, "the queue was freed while this call waited"));
            }
        }
    })
}

impl keylatch_queue {
    /// Waits for a result, or the end of the time; `true` if the queue is being freed.
    fn wait(&self, deadline: Option<Instant>) -> io::Result<bool> {
        // Rounded up, so that it does not spin through the last millisecond; at most a day at a time.
        let milliseconds = deadline.map_or(-1, |at| {
            let left = at.saturating_duration_since(Instant::now()).min(Duration::from_secs(86_400));
            libc::c_int::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
        });
        let asked = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut both = [asked(self.completions.as_fd().as_raw_fd()), asked(self.line.as_raw_fd())];
        // SAFETY: two pollfds that live through the call, of descriptors that we own.
        if unsafe { libc::poll(both.as_mut_ptr(), 2, milliseconds) } < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
        }
        Ok(both[1].revents != 0)
    }
}
