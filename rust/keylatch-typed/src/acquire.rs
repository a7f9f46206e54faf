//! The futures that acquire a lock, and their blocking twin.
//!
//! A future that finds the lock free touches the lock's word only. One that does not makes a `Wait`: its place in line,
//! its deadline and its alarm. Dropping the future gives the place up, and a grant that came meanwhile goes on to the next
//! in line.

use crate::alarm::Alarm;
use crate::clock;
use crate::error::{LockTimeoutError, LockType};
use crate::guard::{ExclusiveGuard, LockRef, ReadGuard};
use crate::lock::{Answered, Checked, Joined, Mode, Patience, Refusal, WaitingPlace};
use crate::stats::{HoldStart, Request, WaitEnd};
use crate::sync::block_on;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What a future asks for. Implemented by this crate only.
pub trait Kind: crate::guard::sealed::Sealed {
    /// What holds the lock.
    type Guard<R: LockRef>;
    #[doc(hidden)]
    const TYPE: LockType;
    #[doc(hidden)]
    fn guard<R: LockRef>(lock: R, start: Hold) -> Self::Guard<R>;
}

/// The beginning of a hold; only this crate looks inside.
#[doc(hidden)]
#[derive(Debug)]
pub struct Hold(HoldStart);

/// Asks for a read lock.
#[derive(Debug)]
pub enum Read {}
/// Asks for a write lock.
#[derive(Debug)]
pub enum Write {}
/// Asks for the lock of a mutex.
#[derive(Debug)]
pub enum Lock {}

impl crate::guard::sealed::Sealed for Read {}
impl crate::guard::sealed::Sealed for Write {}
impl crate::guard::sealed::Sealed for Lock {}

impl Kind for Read {
    type Guard<R: LockRef> = ReadGuard<R>;
    const TYPE: LockType = LockType::ReadLock;
    #[inline]
    fn guard<R: LockRef>(lock: R, Hold(start): Hold) -> ReadGuard<R> {
        ReadGuard::new(lock, start)
    }
}

impl Kind for Write {
    type Guard<R: LockRef> = ExclusiveGuard<R>;
    const TYPE: LockType = LockType::WriteLock;
    #[inline]
    fn guard<R: LockRef>(lock: R, Hold(start): Hold) -> ExclusiveGuard<R> {
        ExclusiveGuard::new(lock, start)
    }
}

impl Kind for Lock {
    type Guard<R: LockRef> = ExclusiveGuard<R>;
    const TYPE: LockType = LockType::Mutex;
    #[inline]
    fn guard<R: LockRef>(lock: R, Hold(start): Hold) -> ExclusiveGuard<R> {
        ExclusiveGuard::new(lock, start)
    }
}

impl LockType {
    #[inline]
    const fn mode(self) -> Mode {
        match self {
            Self::ReadLock => Mode::Shared,
            Self::WriteLock | Self::Mutex => Mode::Exclusive,
        }
    }
}

/// Acquires a lock; what `read_with_timeout` and the other methods return.
///
/// Await it.
///
/// The timeout begins with the first poll. Dropping the future at any point leaves nothing behind.
#[must_use = "futures do nothing unless awaited"]
pub struct Acquire<R: LockRef, K: Kind> {
    /// Taken when the future is ready.
    lock: Option<R>,
    /// `None` asks for the lock's default.
    timeout: Option<Duration>,
    caller: &'static Location<'static>,
    wait: Option<Box<Wait>>,
    kind: PhantomData<fn() -> K>,
}

/// What a request keeps while it waits.
struct Wait {
    /// Taken when the wait is over.
    place: Option<WaitingPlace>,
    timeout: Duration,
    /// `None` when the clock cannot express it: then it is never reached.
    deadline: Option<Instant>,
    began: u64,
    alarm: Alarm,
}

impl<R: LockRef, K: Kind> Acquire<R, K> {
    #[inline]
    pub(crate) const fn new(lock: R, timeout: Option<Duration>, caller: &'static Location<'static>) -> Self {
        Self { lock: Some(lock), timeout, caller, wait: None, kind: PhantomData }
    }

    /// Acquires the lock if that takes no wait.
    #[inline]
    pub(crate) fn try_now(mut self) -> Option<K::Guard<R>> {
        let raw = self.lock().stats().raw();
        let count = raw.try_acquire(K::TYPE.mode()).or_else(|| raw.try_acquire_slow(K::TYPE.mode()))?;
        Some(self.finish(count))
    }

    /// Blocks the thread until the lock is acquired or its time is over.
    pub(crate) fn blocking(mut self) -> Result<K::Guard<R>, LockTimeoutError> {
        if let Some(count) = self.lock().stats().raw().try_acquire(K::TYPE.mode()) {
            return Ok(self.finish(count));
        }
        self.wait = Some(Box::new(self.new_wait(Alarm::Caller)));
        block_on(self, |acquire| acquire.wait.as_ref().and_then(|wait| wait.deadline))
    }

    #[inline]
    fn lock(&self) -> &R {
        self.lock.as_ref().expect("polled after it was ready")
    }

    #[inline]
    fn finish(&mut self, count: u64) -> K::Guard<R> {
        let lock = self.lock.take().expect("polled after it was ready");
        let start = lock.stats().begin_hold(count, self.caller);
        K::guard(lock, Hold(start))
    }

    fn new_wait(&self, alarm: Alarm) -> Wait {
        let timeout = self.timeout.unwrap_or_else(|| self.lock().stats().default_timeout());
        let deadline = Instant::now().checked_add(timeout);
        Wait { place: None, timeout, deadline, began: clock::ticks(), alarm }
    }

    #[cold]
    #[inline(never)]
    fn poll_slow(&mut self, context: &mut Context<'_>) -> Poll<Result<K::Guard<R>, LockTimeoutError>> {
        let mut wait = self.wait.take().unwrap_or_else(|| Box::new(self.new_wait(Alarm::Unset)));
        let raw = self.lock().stats().raw();
        let mut is_first = false;
        if wait.place.is_none() {
            if wait.timeout.is_zero() {
                return Poll::Ready(match raw.answer(K::TYPE.mode()) {
                    Answered::Acquired(count) => Ok(self.finish(count)),
                    Answered::Refused(refusal) => Err(self.time_out(refusal, &wait)),
                });
            }
            match raw.join(K::TYPE.mode(), wait.began, context.waker().clone()) {
                Joined::Acquired(count) => return Poll::Ready(Ok(self.finish(count))),
                Joined::Waiting(place) => wait.place = Some(place),
            }
            is_first = true;
        }
        // Kept here from now on: should setting the alarm panic, dropping the future gives the place up.
        self.wait = Some(wait);
        // A grant first: it needs no timer, whose runtime may be gone.
        if !is_first && let Some(ended) = self.check(context, Patience::Left) {
            return Poll::Ready(ended);
        }
        let wait = self.wait.as_mut().expect("kept above, and the wait is not over");
        match wait.alarm.poll(wait.deadline, wait.timeout, context) {
            Poll::Ready(()) => self.check(context, Patience::Over).map_or(Poll::Pending, Poll::Ready),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Looks at the place in line. `None` if the wait goes on.
    fn check(
        &mut self,
        context: &mut Context<'_>,
        patience: Patience,
    ) -> Option<Result<K::Guard<R>, LockTimeoutError>> {
        let wait = self.wait.as_mut().expect("only a request that waits looks at its place");
        let place = wait.place.take().expect("a wait that is not over has a place");
        let raw = self.lock.as_ref().expect("polled after it was ready").stats().raw();
        match raw.check(place, context.waker().clone(), patience) {
            Checked::Waiting(place) => {
                wait.place = Some(place);
                None
            }
            Checked::Acquired(count) => {
                let waited = clock::ticks_since(wait.began);
                self.wait = None;
                self.lock().stats().observe_wait(waited, WaitEnd::Granted);
                Some(Ok(self.finish(count)))
            }
            Checked::TimedOut(refusal) => {
                let wait = self.wait.take().expect("looked at above");
                Some(Err(self.time_out(refusal, &wait)))
            }
            Checked::Cancelled => {
                self.lock().stats().cancelled(K::TYPE, self.caller);
                (self.wait, self.lock) = (None, None);
                Some(Err(LockTimeoutError::Cancelled))
            }
        }
    }

    fn time_out(&mut self, refusal: Refusal, wait: &Wait) -> LockTimeoutError {
        let lock = self.lock.take().expect("polled after it was ready");
        let ticks = clock::ticks_since(wait.began);
        // A request that must not wait says nothing of how long waits take.
        if !wait.timeout.is_zero() {
            lock.stats().observe_wait(ticks, WaitEnd::TimedOut);
        }
        let waited = clock::duration(ticks);
        let request = Request { lock_type: K::TYPE, timeout: wait.timeout, waited, requested_at: self.caller };
        lock.stats().timed_out(refusal, &request)
    }
}

impl<R: LockRef, K: Kind> Future for Acquire<R, K> {
    type Output = Result<K::Guard<R>, LockTimeoutError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.wait.is_none()
            && let Some(count) = this.lock().stats().raw().try_acquire(K::TYPE.mode())
        {
            return Poll::Ready(Ok(this.finish(count)));
        }
        this.poll_slow(context)
    }
}

impl<R: LockRef, K: Kind> Drop for Acquire<R, K> {
    #[inline]
    fn drop(&mut self) {
        if let Some(wait) = self.wait.take() {
            self.leave_slow(*wait);
        }
    }
}

impl<R: LockRef, K: Kind> Acquire<R, K> {
    #[cold]
    #[inline(never)]
    fn leave_slow(&self, mut wait: Wait) {
        if let (Some(place), Some(lock)) = (wait.place.take(), &self.lock) {
            lock.stats().raw().leave(place);
        }
    }
}
