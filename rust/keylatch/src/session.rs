//! A session: one logical thread of control, such as a transaction.

use crate::error::LockError;
use crate::hold::{Asked, Begun, Grant, OwnerRef, SessionState, Turn};
use crate::inspect::ChainStart;
use crate::manager::FastObjectLockManager;
use crate::request::LockRequest;
use std::sync::Arc;
use std::time::Instant;

/// An owner that is one logical thread of control, such as a transaction; made by
/// [`FastObjectLockManager::session`].
///
/// Two requests with one label wait for each other like any others. A session releases nothing while one of its requests
/// waits. So deadlocks among sessions are found and reported as
/// [`LockError::Deadlock`](crate::LockError::Deadlock), and a session that asks again for what it holds does not wait for
/// itself (see [`Reentrancy`](crate::Reentrancy)).
///
/// ```
/// # fn main() -> Result<(), keylatch::LockError> {
/// use keylatch::{FastObjectLockManager, LockRequest};
/// let locks = FastObjectLockManager::new();
/// let transaction = locks.session("txn-17");
/// let guard = locks.lock(LockRequest::write(("accounts", "alice")).owner(&transaction)).blocking()?;
/// let refused = locks.try_acquire_read_lock("accounts", "alice", "auditor").unwrap_err();
/// assert!(refused.to_string().contains("txn-17"));
/// # drop(guard); Ok(()) }
/// ```
#[derive(Debug)]
pub struct Session {
    manager: FastObjectLockManager,
    /// `None` in a forked child, where every request is refused.
    state: Option<Arc<SessionState>>,
    releases: bool,
}

impl Session {
    pub(crate) fn begin(manager: &FastObjectLockManager, name: &str, source: &'static str) -> Self {
        Self { manager: manager.clone(), state: manager.core().begin_session(name, source), releases: false }
    }

    /// Returns the session's name.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        self.state.as_ref().map_or_else(|| "".into(), |state| Arc::clone(&state.name))
    }

    /// Revokes all holds of the session, as a rollback needs it.
    ///
    /// Holds with a guard, too. Returns how many locks it revoked.
    pub fn release_all(&self) -> usize {
        self.state.as_ref().map_or(0, |state| self.manager.core().release_all_of(state))
    }

    /// Remembers that this request of the session was answered with this grant.
    ///
    /// For bindings that wait in their own way; [`LockRequest::request_id`](crate::LockRequest::request_id) does it by
    /// itself.
    pub fn answered(&self, request_id: u64, grant: Grant) {
        let Some(state) = &self.state else { return };
        let core = self.manager.core();
        if !core.is_forked() {
            state.remember_answer(request_id, grant, |grant| core.standing(grant).is_ok());
        }
    }

    /// Tickets of its requests that stand in line.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn waiters(&self) -> Vec<crate::wait::Ticket> {
        let waiters = &self.manager.core().waiters;
        self.state.iter().flat_map(|state| state.waits()).map(|index| waiters.get(index).ticket(index)).collect()
    }

    /// Returns whether dropping the session releases what it still holds.
    ///
    /// By default it does not: guards and grants outlive the session, and keep its name.
    #[must_use]
    pub fn release_on_drop(self, releases: bool) -> Self {
        let mut this = self;
        this.releases = releases;
        this
    }
}

/// What a binding does with a numbered request that it makes by itself.
///
/// Such as by a queue: see [`FastObjectLockManager::begin_numbered`].
#[doc(hidden)]
#[derive(Debug)]
#[must_use]
pub enum NumberedRequest {
    /// It was answered before, with this grant, which is held.
    Answered(Grant),
    /// It is the first of its number: it is to be made, and its grant reported.
    ///
    /// It is made without its number.
    First(RequestTurn),
    /// The same request was made before and is not answered yet.
    Repeated(RequestRepeat),
}

/// The right to make a numbered request.
///
/// Repetitions wait until its grant is reported, or it is dropped: then one of them makes it.
#[doc(hidden)]
#[derive(Debug)]
pub struct RequestTurn(Turn);

impl RequestTurn {
    /// The request got its lock.
    pub fn answer(self, grant: Grant) {
        self.0.answer(grant);
    }
}

/// A numbered request that another caller made.
#[doc(hidden)]
#[derive(Debug)]
pub struct RequestRepeat(Arc<Asked>);

impl RequestRepeat {
    /// Sleeps until that request has ended; then the caller asks again.
    ///
    /// `false` if the time is over first.
    #[must_use]
    pub fn is_over_by(&self, deadline: Option<Instant>) -> bool {
        self.0.is_over_by(deadline)
    }
}

impl FastObjectLockManager {
    /// Begins a numbered request that the caller makes by itself.
    ///
    /// For bindings to other languages.
    ///
    /// # Errors
    /// An invalid request: for instance, its owner is no session of this manager, or its number was used for another key.
    #[doc(hidden)]
    pub fn begin_numbered(&self, request: &LockRequest<'_>) -> Result<NumberedRequest, LockError> {
        Ok(match self.core().begin_numbered(request)? {
            Begun::Has(grant) => NumberedRequest::Answered(grant),
            Begun::Asks(turn) => NumberedRequest::First(RequestTurn(turn)),
            Begun::Waits(first) => NumberedRequest::Repeated(RequestRepeat(first)),
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(state) = &self.state else { return };
        if !self.manager.core().is_forked() {
            if self.releases {
                self.release_all();
            }
            let core = self.manager.core();
            core.sessions.end(state, |grant| core.is_held(grant));
        }
    }
}

impl<'a> From<&'a Session> for OwnerRef<'a> {
    #[inline(always)]
    fn from(session: &'a Session) -> Self {
        match &session.state {
            Some(state) => Self::Session(state.as_owner(session.manager.core().identity())),
            None => Self::Named(""),
        }
    }
}

impl<'a> From<&'a Session> for ChainStart<'a> {
    fn from(session: &'a Session) -> Self {
        Self::Owner(session.into())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::sync::steps_of;
    use crate::{FastObjectLockManager, LockConfig, LockRequest, Reentrancy};

    /// Other holders do not concern it, when it begins, asks again, or ends.
    #[test]
    fn session_looks_at_its_own_holds_alone() {
        for reentrancy in [Reentrancy::Deny, Reentrancy::Count] {
            let locks = FastObjectLockManager::with_config(LockConfig { reentrancy, ..LockConfig::default() }).unwrap();
            let names: Vec<String> = (0..5000).map(|number| number.to_string()).collect();
            let all: Vec<_> = names.iter().map(|key| locks.try_acquire_write_lock("b", key, "me").unwrap()).collect();
            let shared = locks.try_acquire_read_lock("b", "hot", "other").unwrap();
            let steps = steps_of(|| {
                for _ in 0..200 {
                    let session = locks.session("s").release_on_drop(true);
                    let read = LockRequest::read(("b", "hot")).owner(&session);
                    let grant = locks.lock(read).grant_now().unwrap();
                    locks.release(locks.lock(read).grant_now().unwrap()).unwrap();
                    assert!(locks.lock(LockRequest::write(("b", "0")).owner(&session)).try_now().is_err());
                    let _ = grant;
                }
            });
            assert!(steps < 200 * 20, "{steps}");
            assert_eq!(locks.get_metrics().shard_metrics.holders, 5001);
            drop((all, shared));
        }
    }
}
