//! What the last failure of a thread was about.

use crate::refusal::Failure;
use crate::status::KEYLATCH_OK;
use keylatch::{Holders, LockError, ObjectKey};
use std::cell::RefCell;
use std::ffi::CString;

/// A failure with its text, which is made when it is asked for.
#[derive(Debug, Default)]
pub(crate) struct LastError {
    failure: Option<Failure>,
    text: Option<CString>,
}

thread_local! {
    static LAST: RefCell<LastError> = const { RefCell::new(LastError { failure: None, text: None }) };
}

/// Notes a failure and answers its number.
#[cold]
#[inline(never)]
pub(crate) fn note(failure: Failure) -> i32 {
    let status = failure.status();
    // A thread that is ending has nowhere to note it any more; the number is returned all the same.
    let _ = LAST.try_with(|last| last.replace(LastError { failure: Some(failure), text: None }));
    status
}

/// Forgets the failure.
pub(crate) fn clear() {
    let _ = LAST.try_with(RefCell::take);
}

/// Looks at the last failure. `None` on a thread that is ending.
pub(crate) fn look<T>(at: impl FnOnce(&mut LastError) -> T) -> Option<T> {
    LAST.try_with(|last| at(&mut last.borrow_mut())).ok()
}

impl LastError {
    pub(crate) fn status(&self) -> i32 {
        self.failure.as_ref().map_or(KEYLATCH_OK, Failure::status)
    }

    /// Its text; it stays where it is until the next failure.
    pub(crate) fn text(&mut self) -> Option<&CString> {
        let failure = self.failure.as_ref()?;
        Some(self.text.get_or_insert_with(|| {
            // Keys and names are escaped, so that nothing is lost here.
            CString::new(failure.to_string().replace('\0', "\\0")).unwrap_or_default()
        }))
    }

    /// The core's error; for a batch the one of the key that failed.
    pub(crate) fn cause(&self) -> Option<&LockError> {
        match self.failure.as_ref()? {
            Failure::Core(LockError::Batch { cause, .. }) => Some(cause),
            Failure::Core(error) => Some(error),
            Failure::Claim(_) | Failure::Border { .. } => None,
        }
    }

    pub(crate) fn key(&self) -> Option<&ObjectKey> {
        match self.cause()? {
            LockError::Timeout { key, .. }
            | LockError::WouldBlock { key, .. }
            | LockError::Cancelled { key }
            | LockError::UpgradeConflict { key, .. }
            | LockError::Deadlock { key, .. } => Some(key),
            _ => match self.failure.as_ref()? {
                Failure::Core(LockError::Batch { key, .. }) => Some(key),
                _ => None,
            },
        }
    }

    pub(crate) fn holders(&self) -> Option<&Holders> {
        match self.cause()? {
            LockError::Timeout { holders, .. }
            | LockError::WouldBlock { holders, .. }
            | LockError::UpgradeConflict { holders, .. } => Some(holders),
            _ => None,
        }
    }
}
