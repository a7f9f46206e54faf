//! The answer of a request that may have to wait: immediately, by a callback, or in a queue.

use crate::annotate;
use crate::boundary::Out;
use crate::last_error;
use crate::refusal::Failure;
use crate::status::KEYLATCH_OK;
use keylatch::{Grant, LockError, OwnedLockGuard, Submitted, Ticket};

/// What a callback or a completion says of a result.
///
/// A success leaves the last failure of the thread alone: its text may still be read.
pub(crate) fn answer(manager: u64, result: Result<OwnedLockGuard, LockError>) -> (i32, u64) {
    match result {
        Ok(guard) => {
            annotate::handed_over(manager, &guard);
            (KEYLATCH_OK, guard.into_grant().to_raw())
        }
        Err(error) => (last_error::note(Failure::Core(error)), 0),
    }
}

/// The immediate outcome of a request that may be answered later.
#[derive(Clone, Copy)]
pub(crate) enum Handed {
    Granted(Grant),
    Waiting(Ticket),
}

impl From<Submitted> for Handed {
    fn from(submitted: Submitted) -> Self {
        match submitted {
            Submitted::Granted(guard) => Self::Granted(guard.into_grant()),
            Submitted::Waiting(ticket) => Self::Waiting(ticket),
        }
    }
}

impl Handed {
    pub(crate) fn write(self, (grant, ticket): (Out<u64>, Out<u64>)) {
        let (granted, waits) = match self {
            Self::Granted(grant) => (grant.to_raw(), 0),
            Self::Waiting(ticket) => (0, ticket.to_raw()),
        };
        grant.write(granted);
        ticket.write(waits);
    }
}
