//! A task's request on its way: what its future keeps between two polls.

use crate::acquire::{Attempt, GATE_PATIENCE, Hold, Patience, Wanted, attempt, confirm, give_back};
use crate::attendant::Attendant;
use crate::core::Core;
use crate::error::ShmError;
use crate::lines::lock;
use crate::records;
use crate::request::Limit;
use crate::wait::{Phase, Waiter};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Where the request stands.
///
/// Its owner calls [`abandon`](Self::abandon) before it drops it.
pub(crate) struct Progress {
    limit: Limit,
    begun: Instant,
    deadline: Option<Instant>,
    waiting: Option<(Arc<Waiter>, u32)>,
    is_done: bool,
}

/// A hold, or `None` when the time is over.
type Outcome = Result<Option<Hold>, ShmError>;

impl Progress {
    pub(crate) fn new(limit: Limit) -> Self {
        Self { limit, begun: Instant::now(), deadline: None, waiting: None, is_done: false }
    }

    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// One look. `wanted` is the same each time.
    pub(crate) fn poll(&mut self, core: &Arc<Core>, wanted: &Wanted<'_>, context: &Context<'_>) -> Poll<Outcome> {
        if self.is_done {
            return Poll::Pending;
        }
        let outcome = std::task::ready!(self.next(core, wanted, context));
        self.is_done = true;
        Poll::Ready(outcome)
    }

    /// The first look, and every later one after the key had moved.
    fn begin(&mut self, core: &Arc<Core>, wanted: &Wanted<'_>, context: &Context<'_>) -> Poll<Outcome> {
        if self.limit != Limit::Never && self.deadline.is_none() {
            self.deadline = self.limit.deadline(core.config.default_timeout);
        }
        // A process that stops while it inserts a key must not stop the thread that polls.
        let brief = Instant::now() + GATE_PATIENCE;
        let deadline = self.deadline.map_or(brief, |deadline| deadline.min(brief));
        let attempted = match attempt(core, wanted, Patience::Until(Some(deadline)), &mut || true) {
            Err(ShmError::Timeout { .. }) if self.deadline.is_none_or(|over| Instant::now() < over) => {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            attempted => attempted?,
        };
        match attempted {
            Attempt::Held(hold) => Poll::Ready(Ok(Some(hold))),
            Attempt::Blocked { slot, record } => {
                if let Err(error) = Attendant::start(core) {
                    records::put(core, record);
                    let problem = format!("no thread could be started: {error}; end some");
                    return Poll::Ready(Err(ShmError::Unsupported { problem }));
                }
                let waiter = Waiter::new(slot, record, wanted.mode, true);
                *lock(&waiter.waker) = Some(context.waker().clone());
                waiter.enqueue(core);
                core.attendant.attend_until(waiter.clone(), self.deadline);
                self.waiting = Some((waiter, record));
                Poll::Pending
            }
        }
    }

    fn next(&mut self, core: &Arc<Core>, wanted: &Wanted<'_>, context: &Context<'_>) -> Poll<Outcome> {
        loop {
            let Some((waiter, record)) = &self.waiting else { return self.begin(core, wanted, context) };
            let (waiter, record) = (waiter.clone(), *record);
            let fresh = Some(context.waker().clone());
            let old = std::mem::replace(&mut *lock(&waiter.waker), fresh);
            drop(old);
            let phase = *lock(&waiter.phase);
            let over = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
            let held = match phase {
                Phase::Granted(held) => Some(held),
                _ if over || core.check().is_err() => waiter.abandon(core),
                _ => return Poll::Pending,
            };
            self.waiting = None;
            let Some(held) = held else {
                records::put(core, record);
                core.check()?;
                return Poll::Ready(Ok(None));
            };
            if let Some(hold) = confirm(core, wanted, waiter.slot, record, held)? {
                return Poll::Ready(Ok(Some(hold)));
            }
        }
    }

    /// Ends a request that has no outcome; a hold that has come goes to the next.
    pub(crate) fn abandon(&mut self, core: &Core) {
        let Some((waiter, record)) = self.waiting.take() else { return };
        if core.is_forked() {
            return;
        }
        match waiter.abandon(core) {
            Some(held) => {
                let (slot, mode) = (waiter.slot, waiter.mode);
                let hold = Hold { slot, record, mode, place: held.place, death: held.death, fence: 0 };
                give_back(core, &hold);
            }
            None => records::put(core, record),
        }
        core.attendant.kick();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::protocol::enter::{Entry, try_enter_exclusive};
    use crate::protocol::leave::leave_exclusive;
    use crate::{SharedTable, TableConfig};
    use keylatch::Mode;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn poll_does_not_wait_for_stopped_insertion() {
        let path = std::env::temp_dir().join(format!("keylatch-poll-{}", std::process::id()));
        let config = TableConfig::default().keys(8).members(2);
        let open = || SharedTable::open(&path, &config).expect("a table");
        let (one, other) = (open(), open());
        let gate = one.fingerprint(("photos", "cat.jpg").into()).expect("a key").gate(&one.core().region);
        let stopped = other.core();
        assert_eq!(try_enter_exclusive(&stopped.region, gate, stopped.me), Entry::Writer);
        let key = Arc::new(one.prepare_owned(("photos", "cat.jpg")).expect("a key"));
        let mut asks = pin!(key.acquire_until(Mode::Exclusive, "", None));
        let mut context = Context::from_waker(Waker::noop());
        assert!(asks.as_mut().poll(&mut context).is_pending());
        leave_exclusive(&stopped.region, gate, stopped.me);
        assert!(matches!(asks.as_mut().poll(&mut context), Poll::Ready(Ok(Some(_)))));
        std::fs::remove_file(&path).expect("it is there");
    }
}
