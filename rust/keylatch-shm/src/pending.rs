//! A request that waits to be told how to wait.

use crate::acquire::{Attempt, Hold, Patience, Wanted, acquire, attempt, confirm, give_back, try_fast};
use crate::attendant::Attendant;
use crate::error::ShmError;
use crate::guard::SharedLockGuard;
use crate::lines::lock;
use crate::lookup::{Fingerprint, find};
use crate::records;
use crate::request::{Limit, LockRequest};
use crate::table::SharedTable;
use crate::wait::{Phase, Waiter};
use keylatch::{KeyRef, Mode};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// A request at a table: `.blocking()`, `.now()` or `.await`.
#[must_use = "a request does nothing until it is waited for"]
#[derive(Debug, Clone, Copy)]
pub struct Lock<'a> {
    pub(crate) table: &'a SharedTable,
    pub(crate) request: LockRequest<'a>,
}

impl<'a> Lock<'a> {
    fn wanted(&self) -> Result<Wanted<'a>, ShmError> {
        let LockRequest { key, owner, mode, .. } = self.request;
        Ok(Wanted { key, print: self.table.fingerprint(key)?, mode, owner })
    }

    #[inline(always)]
    fn fast(&self, wanted: &Wanted<'_>) -> Option<SharedLockGuard<'a>> {
        let core = self.table.core();
        if core.is_forked() {
            return None;
        }
        let slot = find(&core.region, wanted.print)?;
        try_fast(core, wanted, slot).map(|hold| SharedLockGuard::new(self.table, hold))
    }

    /// Waits on the calling thread.
    ///
    /// # Errors
    /// [`ShmError::Timeout`] with the holders at the end, and those of every call: `Forked`, `Damaged`, `InvalidKey`,
    /// `TableFull`, `LogFull`.
    #[inline]
    pub fn blocking(self) -> Result<SharedLockGuard<'a>, ShmError> {
        let wanted = self.wanted()?;
        match self.fast(&wanted) {
            Some(guard) => Ok(guard),
            None => self.blocking_slow(&wanted),
        }
    }

    #[cold]
    #[inline(never)]
    fn blocking_slow(self, wanted: &Wanted<'_>) -> Result<SharedLockGuard<'a>, ShmError> {
        let begun = Instant::now();
        let deadline = self.request.limit.deadline(self.table.core().config.default_timeout);
        match acquire(self.table.core_arc(), wanted, Patience::Until(deadline))? {
            Some(hold) => Ok(SharedLockGuard::new(self.table, hold)),
            None => Err(self.timed_out(wanted.key, begun)),
        }
    }

    /// Takes the lock if that is possible now.
    ///
    /// # Errors
    /// [`ShmError::WouldBlock`] with the holders, and those of every call.
    #[inline]
    pub fn now(self) -> Result<SharedLockGuard<'a>, ShmError> {
        let wanted = self.wanted()?;
        match self.fast(&wanted) {
            Some(guard) => Ok(guard),
            None => self.now_slow(&wanted),
        }
    }

    #[cold]
    #[inline(never)]
    fn now_slow(self, wanted: &Wanted<'_>) -> Result<SharedLockGuard<'a>, ShmError> {
        match acquire(self.table.core_arc(), wanted, Patience::Try)? {
            Some(hold) => Ok(SharedLockGuard::new(self.table, hold)),
            None => {
                let holders = self.table.holders_of_print(wanted.print);
                Err(ShmError::WouldBlock { key: wanted.key.to_owned(), holders })
            }
        }
    }

    fn timed_out(&self, key: KeyRef<'_>, begun: Instant) -> ShmError {
        let holders = self.table.fingerprint(key).map(|print| self.table.holders_of_print(print)).unwrap_or_default();
        ShmError::Timeout { key: key.to_owned(), waited: begun.elapsed(), holders }
    }
}

impl<'a> IntoFuture for Lock<'a> {
    type Output = Result<SharedLockGuard<'a>, ShmError>;
    type IntoFuture = Acquire<'a>;

    fn into_future(self) -> Acquire<'a> {
        Acquire { lock: self, begun: Instant::now(), deadline: None, print: None, waiting: None, is_done: false }
    }
}

/// A waiting request; see [`Lock`]. Dropping it before it is done leaves nothing behind.
#[must_use = "a future does nothing until it is awaited"]
pub struct Acquire<'a> {
    lock: Lock<'a>,
    begun: Instant,
    deadline: Option<Instant>,
    print: Option<Fingerprint>,
    waiting: Option<(Arc<Waiter>, u32)>,
    is_done: bool,
}

impl std::fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acquire").field("key", &self.lock.request.key).finish_non_exhaustive()
    }
}

impl<'a> Acquire<'a> {
    /// The first look, and every later one after the key had moved.
    fn begin(&mut self, context: &Context<'_>) -> Poll<Result<Hold, ShmError>> {
        let core = self.lock.table.core_arc();
        let wanted = self.lock.wanted()?;
        self.print = Some(wanted.print);
        if self.lock.request.limit != Limit::Never && self.deadline.is_none() {
            self.deadline = self.lock.request.limit.deadline(core.config.default_timeout);
        }
        match attempt(core, &wanted, Patience::Until(self.deadline))? {
            Attempt::Held(hold) => Poll::Ready(Ok(hold)),
            Attempt::Blocked { slot, record } => {
                if let Err(error) = Attendant::start(core) {
                    records::put(core, record);
                    let problem = format!("no thread could be started: {error}; end some");
                    return Poll::Ready(Err(ShmError::Unsupported { problem }));
                }
                let waiter = Waiter::new(slot, wanted.mode, true);
                *lock(&waiter.waker) = Some(context.waker().clone());
                waiter.enqueue(core);
                core.attendant.attend_until(waiter.clone(), self.deadline);
                self.waiting = Some((waiter, record));
                Poll::Pending
            }
        }
    }

    fn next(&mut self, context: &Context<'_>) -> Poll<Result<Hold, ShmError>> {
        let core = self.lock.table.core_arc();
        loop {
            let Some((waiter, record)) = &self.waiting else { return self.begin(context) };
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
                return Poll::Ready(Err(self.lock.timed_out(self.lock.request.key, self.begun)));
            };
            let wanted = self.lock.wanted()?;
            if let Some(hold) = confirm(core, &wanted, waiter.slot, record, held)? {
                return Poll::Ready(Ok(hold));
            }
        }
    }
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<SharedLockGuard<'a>, ShmError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.is_done {
            return Poll::Pending;
        }
        let result = std::task::ready!(this.next(context));
        this.is_done = true;
        Poll::Ready(result.map(|hold| SharedLockGuard::new(this.lock.table, hold)))
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let Some((waiter, record)) = self.waiting.take() else { return };
        let core = self.lock.table.core();
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

/// A key that is looked up once; acquiring it again costs no hashing and mostly no look-up.
///
/// ```
/// # fn main() -> Result<(), keylatch_shm::ShmError> {
/// use keylatch_shm::{SharedTable, TableConfig};
/// let table = SharedTable::memfd("example", &TableConfig::default().keys(64).members(2))?;
/// let cat = table.prepare(("photos", "cat.jpg"))?;
/// drop(cat.write()?);
/// drop(cat.read()?);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PreparedKey<'a> {
    table: &'a SharedTable,
    key: keylatch::ObjectKey,
    print: Fingerprint,
    slot: std::sync::atomic::AtomicU32,
}

impl<'a> PreparedKey<'a> {
    pub(crate) fn new(table: &'a SharedTable, key: KeyRef<'_>, print: Fingerprint) -> Self {
        let slot = find(&table.core().region, print).unwrap_or(0);
        Self { table, key: key.to_owned(), print, slot: slot.into() }
    }

    /// Waits for the key alone, with the table's default timeout.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline]
    pub fn write(&self) -> Result<SharedLockGuard<'a>, ShmError> {
        self.acquire(Mode::Exclusive)
    }

    /// Waits to share the key, with the table's default timeout.
    ///
    /// # Errors
    /// As [`Lock::blocking`].
    #[inline]
    pub fn read(&self) -> Result<SharedLockGuard<'a>, ShmError> {
        self.acquire(Mode::Shared)
    }

    #[inline(always)]
    fn acquire(&self, mode: Mode) -> Result<SharedLockGuard<'a>, ShmError> {
        let core = self.table.core();
        let wanted = Wanted { key: self.key.as_ref(), print: self.print, mode, owner: "" };
        let slot = self.slot.load(std::sync::atomic::Ordering::Relaxed);
        if !core.is_forked()
            && let Some(hold) = try_fast(core, &wanted, slot)
        {
            return Ok(SharedLockGuard::new(self.table, hold));
        }
        self.acquire_slow(mode)
    }

    #[cold]
    #[inline(never)]
    fn acquire_slow(&self, mode: Mode) -> Result<SharedLockGuard<'a>, ShmError> {
        let guard = self.table.acquire_here(LockRequest::new(&self.key, mode), Patience::Until(None))?;
        self.slot.store(guard.slot(), std::sync::atomic::Ordering::Relaxed);
        Ok(guard)
    }
}
