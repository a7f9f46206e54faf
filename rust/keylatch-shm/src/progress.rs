//! A task's request on its way: what its future keeps between two polls.

use crate::acquire::{Attempt, GATE_PATIENCE, Hold, Patience, Wanted, attempt, confirm, give_back};
use crate::attending;
use crate::core::Core;
use crate::error::ShmError;
use crate::mutex::lock;
use crate::records;
use crate::request::Limit;
use crate::waiter::{Phase, Waiter};
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
    waiting: Option<Arc<Waiter>>,
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
                if let Err(error) = attending::start(core) {
                    records::put(core, record);
                    let problem = format!("no thread could be started: {error}; end some");
                    return Poll::Ready(Err(ShmError::Unsupported { problem }));
                }
                let waiter = Waiter::new(slot, record, wanted.mode, true);
                *lock(&waiter.waker) = Some(context.waker().clone());
                waiter.enqueue(core);
                core.attendant.attend(waiter.clone(), self.deadline);
                self.waiting = Some(waiter);
                Poll::Pending
            }
        }
    }

    fn next(&mut self, core: &Arc<Core>, wanted: &Wanted<'_>, context: &Context<'_>) -> Poll<Outcome> {
        loop {
            let Some(waiter) = self.waiting.clone() else { return self.begin(core, wanted, context) };
            let fresh = Some(context.waker().clone());
            let old = std::mem::replace(&mut *lock(&waiter.waker), fresh);
            drop(old);
            let phase = *lock(&waiter.phase);
            let over = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
            let held = match phase {
                Phase::Granted(held) => Some(held),
                // It was revoked while it waited for readers, and found no record to go on with.
                Phase::Ended => {
                    self.waiting = None;
                    let holds = core.region.layout().record_count();
                    return Poll::Ready(Err(ShmError::LogFull { holds }));
                }
                _ if over || core.check().is_err() => waiter.abandon(core),
                _ => return Poll::Pending,
            };
            self.waiting = None;
            let Some(held) = held else {
                core.check()?;
                return Poll::Ready(Ok(None));
            };
            if let Some(hold) = confirm(core, wanted, waiter.slot, waiter.record(), held)? {
                return Poll::Ready(Ok(Some(hold)));
            }
        }
    }

    /// Ends a request that has no outcome; a hold that has come goes to the next.
    pub(crate) fn abandon(&mut self, core: &Core) {
        let Some(waiter) = self.waiting.take() else { return };
        if core.is_forked() {
            return;
        }
        if let Some(held) = waiter.abandon(core) {
            let (slot, mode, record) = (waiter.slot, waiter.mode, waiter.record());
            let hold = Hold { slot, record, mode, place: held.place, death: held.death, fence: 0 };
            give_back(core, &hold);
        }
        core.attendant.kick();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::protocol::enter::{Entry, try_enter_exclusive};
    use crate::protocol::leave::leave_exclusive;
    use crate::{LockRequest, SharedTable, ShmError, TableConfig};
    use keylatch::Mode;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use std::time::{Duration, Instant};

    #[test]
    fn granted_future_is_a_hold_before_its_poll() {
        let table = SharedTable::memfd("granted", &TableConfig::default().keys(8).members(1)).expect("a table");
        let cat = ("photos", "cat.jpg");
        let key = Arc::new(table.prepare_owned(cat).expect("a key"));
        for mode in [Mode::Exclusive, Mode::Shared] {
            let held = table.acquire_write_lock_blocking("photos", "cat.jpg", "").expect("free");
            let mut asks = pin!(key.acquire_until(mode, "later", None));
            let mut context = Context::from_waker(Waker::noop());
            assert!(asks.as_mut().poll(&mut context).is_pending());
            let first = held.id();
            drop(held);
            let end = Instant::now() + Duration::from_secs(60);
            let granted = loop {
                let found = table.holders(Some(cat.into())).expect("sound");
                if let Some(found) = found.into_iter().find(|found| found.hold != first) {
                    break found;
                }
                assert!(Instant::now() < end, "it is not listed");
                std::thread::yield_now();
            };
            assert_eq!((granted.mode, granted.owner.as_str()), (mode, "later"));
            assert_eq!(table.revoke(granted.hold).ok(), Some(true));
            assert!(!table.is_locked(cat).expect("sound"));
            // It asks anew.
            let Poll::Ready(Ok(Some(guard))) = asks.as_mut().poll(&mut context) else { panic!("it is free") };
            assert!(guard.is_valid() && guard.id() != granted.hold);
        }
    }

    #[test]
    fn granted_future_that_heard_of_a_death_is_kept() {
        let table = SharedTable::memfd("heard", &TableConfig::default().keys(8).members(1)).expect("a table");
        let cat = ("photos", "cat.jpg");
        let key = Arc::new(table.prepare_owned(cat).expect("a key"));
        let held = table.acquire_write_lock_blocking("photos", "cat.jpg", "").expect("free");
        let mut asks = Box::pin(key.acquire_until(Mode::Exclusive, "", None));
        let mut context = Context::from_waker(Waker::noop());
        assert!(asks.as_mut().poll(&mut context).is_pending());
        crate::death::mark(&table.core().region, held.slot());
        let (slot, first, region) = (held.slot(), held.id(), &table.core().region);
        drop(held);
        let end = Instant::now() + Duration::from_secs(60);
        while crate::protocol::load(region, slot).died() || table.waiting_here(cat).expect("sound") > 0 {
            assert!(Instant::now() < end, "it is never granted");
            std::thread::yield_now();
        }
        // The next holder would not be informed.
        for record in (0..region.layout().record_count()).filter(|record| *record != first.record) {
            let hold = region.record(record).hold.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(table.revoke(crate::listed::HoldId { record, hold, ..first }).ok(), Some(false));
        }
        drop(asks);
        assert!(table.lock(LockRequest::write(cat)).now().expect("free").previous_holder_died());
    }

    #[test]
    fn revoked_future_without_a_record_fails() {
        let path = std::env::temp_dir().join(format!("keylatch-full-{}", std::process::id()));
        let config = TableConfig::default().keys(8).members(2).holds(1);
        let open = || SharedTable::open(&path, &config).expect("a table");
        let (one, two, cat) = (open(), open(), ("photos", "cat.jpg"));
        let reads = two.lock(LockRequest::read(cat)).now().expect("free");
        let key = Arc::new(one.prepare_owned(cat).expect("a key"));
        let mut asks = pin!(key.acquire_until(Mode::Exclusive, "", None));
        let mut context = Context::from_waker(Waker::noop());
        assert!(asks.as_mut().poll(&mut context).is_pending());
        while crate::records::take(one.core_arc()).is_some() {}
        let end = Instant::now() + Duration::from_secs(60);
        // The request is listed while it sleeps, and cannot be revoked in the middle of a look.
        loop {
            let found = two.holders(Some(cat.into())).expect("sound");
            let waits = found.into_iter().find(|found| found.mode == Mode::Exclusive);
            if waits.is_some_and(|waits| two.revoke(waits.hold).expect("one thread")) {
                break;
            }
            assert!(Instant::now() < end, "it is never revoked");
            std::thread::yield_now();
        }
        let error = loop {
            if let Poll::Ready(outcome) = asks.as_mut().poll(&mut context) {
                break outcome.expect_err("there is no record");
            }
            assert!(Instant::now() < end, "it waits for ever");
            std::thread::yield_now();
        };
        assert!(matches!(error, ShmError::LogFull { .. }), "{error}");
        drop(reads);
        drop(two.lock(LockRequest::write(cat)).now().expect("nothing is left"));
        std::fs::remove_file(&path).expect("it is there");
    }

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
