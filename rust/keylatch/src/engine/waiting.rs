//! A request that has to wait: the thread that sleeps, and the future.

use super::acquire::{Answer, Wait};
use super::core::Core;
use super::fast::{Missed, Tried};
use super::local::Local;
use super::numbered::Patience;
use super::wanted::Wanted;
use crate::config::Fairness;
use crate::error::LockError;
use crate::hold::{FirstState, Grant, OwnerRef};
use crate::key::KeyRef;
use crate::memory::NONE;
use crate::mode::Mode;
use crate::request::{Limit, LockRequest};
use crate::sync::atomic::Ordering;
use crate::sync::{ParkedUntil, spin_hint, yield_now};
use crate::wait::{Delivery, Phase, Purpose, Ticket, Waiter};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// The most turns that a waiter spins before it sleeps; below that it learns.
const MOST_SPINS: u32 = 2000;
const FEWEST_SPINS: u32 = 16;

/// Looks at a held lock, where one may overtake, before standing in line for it.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 10 };
/// Turns of the first pause between two of them.
const FIRST_PAUSE: u32 = 32;
/// Those of them that keep the core.
const SPINNING_LOOKS: u32 = 3;

/// Waits between two looks at a lock.
///
/// Each look takes the cache line from the holder, so there are few, and soon the core is yielded.
fn pause(round: u32) {
    if round >= SPINNING_LOOKS {
        return yield_now();
    }
    for _ in 0..FIRST_PAUSE << round {
        spin_hint();
    }
}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) enum Ended {
    /// `None` for an upgrade, whose grant is the one it had.
    Granted(Option<Grant>),
    Failed {
        why: Phase,
        /// What to answer, if the thread that ended the wait said it.
        error: Option<Box<LockError>>,
    },
}

impl Core {
    /// The request with everything looked up that the engine needs.
    #[inline(always)]
    pub(crate) fn wanted<'k>(&self, local: &Local, request: &LockRequest<'k>) -> Wanted<'k> {
        self.wanted_hashed(local, request, self.hash(&request.key))
    }

    fn wanted_hashed<'k>(&self, local: &Local, request: &LockRequest<'k>, hash: u64) -> Wanted<'k> {
        Wanted {
            key: request.key,
            hash,
            mode: request.mode,
            owner: self.owner_number(local, request.owner),
            priority: request.priority,
            detached: false,
            lease: request.ttl,
        }
    }

    /// Takes the lock now or says who holds it.
    #[inline(always)]
    pub(crate) fn try_now(&self, request: LockRequest<'_>, detached: bool) -> Result<Grant, LockError> {
        if request.is_special() {
            return self.special(request, detached, Patience::None);
        }
        match self.try_request(&request, detached).granted() {
            Ok(grant) => Ok(grant),
            Err((missed, hash)) => self.try_missed(request, detached, missed, hash),
        }
    }

    /// Tries the fast path for a request that is not special.
    #[inline(always)]
    pub(crate) fn try_request(&self, request: &LockRequest<'_>, detached: bool) -> Tried {
        let owner = self.request_owner(request);
        self.try_fast(request.key, request.mode, FirstState::new(request.mode, request.priority, detached), owner)
    }

    /// As `try_request`, for a request that names the entry of its key.
    #[inline(always)]
    pub(crate) fn try_request_pinned(&self, request: &LockRequest<'_>) -> Option<Grant> {
        let state = FirstState::new(request.mode, request.priority, false);
        self.try_pinned_entry(request.entry, request.mode, state, self.request_owner(request))
    }

    /// The number of a request's owner.
    #[inline(always)]
    fn request_owner(&self, request: &LockRequest<'_>) -> u32 {
        self.label_number(request.owner)
    }

    /// The number of an owner that is no session.
    #[inline(always)]
    pub(crate) fn label_number(&self, owner: OwnerRef<'_>) -> u32 {
        match owner {
            OwnerRef::Known(owner) => owner.0,
            OwnerRef::Named("") => 0,
            owner => self.owner_number(self.local(), owner),
        }
    }

    #[cold]
    #[inline(never)]
    fn try_missed(
        &self,
        request: LockRequest<'_>,
        detached: bool,
        missed: Missed,
        hash: u64,
    ) -> Result<Grant, LockError> {
        let local = self.local();
        let wanted = Wanted { detached, ..self.wanted_hashed(local, &request, hash) };
        self.try_once_more(local, &wanted, missed).map_or_else(|| self.try_slow(local, wanted), Ok)
    }

    /// Takes the lock after the fast path missed.
    ///
    /// For a thread that used another manager last, or a new key.
    fn try_once_more(&self, local: &Local, wanted: &Wanted<'_>, mut missed: Missed) -> Option<Grant> {
        if missed == Missed::NeedsShard {
            match self.acquire_fast(local, wanted) {
                Ok(grant) => return Some(grant),
                Err(now) => missed = now,
            }
        }
        if missed == Missed::Absent { self.bring_in(local, wanted) } else { None }
    }

    /// As `try_request`, after that missed.
    #[inline(never)]
    pub(crate) fn try_request_once_more(
        &self,
        request: LockRequest<'_>,
        detached: bool,
        missed: Missed,
        hash: u64,
    ) -> Option<Grant> {
        let local = self.local();
        let wanted = Wanted { detached, ..self.wanted_hashed(local, &request, hash) };
        self.try_once_more(local, &wanted, missed)
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn try_slow(&self, local: &Local, wanted: Wanted<'_>) -> Result<Grant, LockError> {
        let answer = self.try_uncounted(local, wanted);
        if let Err(LockError::WouldBlock { .. }) = &answer {
            self.lock_shard(wanted.hash).counts().refused += 1;
        }
        answer
    }

    /// As `try_slow`, for a request whose deadline passed before it could wait.
    ///
    /// It timed out as one that waited.
    #[cold]
    #[inline(never)]
    pub(crate) fn try_out_of_time(&self, local: &Local, wanted: Wanted<'_>, limit: Limit) -> Result<Grant, LockError> {
        self.try_uncounted(local, wanted).map_err(|error| self.as_timeout(error, limit, wanted.hash))
    }

    fn try_uncounted(&self, local: &Local, wanted: Wanted<'_>) -> Result<Grant, LockError> {
        match self.acquire_slow(local, &wanted, Wait::ForTier(Delivery::Thread))? {
            Answer::Granted(grant) => Ok(grant),
            // For the tier's answer.
            Answer::Queued(ticket) => match self.wait_blocking(local, ticket.index(), wanted.hash, None) {
                Ended::Granted(grant) => Ok(grant.expect("a request that was queued got its grant")),
                Ended::Failed { why, error } => Err(self.failure((why, error), Limit::Never, &wanted.key)),
            },
        }
    }

    /// Takes the lock as a detached grant, if it is free.
    #[inline(always)]
    pub(crate) fn try_fast_detached(&self, request: LockRequest<'_>) -> Option<Grant> {
        if request.is_special() {
            return None;
        }
        match self.try_request(&request, true).granted() {
            Ok(grant) => Some(grant),
            Err((Missed::Held, _)) => None,
            Err((missed, hash)) => self.try_request_once_more(request, true, missed, hash),
        }
    }

    /// Takes the lock, sleeping until it is free.
    #[inline(always)]
    pub(crate) fn blocking(&self, request: LockRequest<'_>, detached: bool) -> Result<Grant, LockError> {
        if request.is_special() {
            return self.special(request, detached, Patience::Sleeps);
        }
        match self.try_request(&request, detached).granted() {
            Ok(grant) => Ok(grant),
            Err((missed, hash)) => self.blocking_slow(request, detached, missed, hash),
        }
    }

    #[inline(never)]
    fn blocking_slow(
        &self,
        request: LockRequest<'_>,
        detached: bool,
        missed: Missed,
        hash: u64,
    ) -> Result<Grant, LockError> {
        let local = self.local();
        let wanted = Wanted { detached, ..self.wanted_hashed(local, &request, hash) };
        let now = match missed {
            // A request without time does not wait until the lock may become free.
            Missed::Held if request.limit == Limit::After(0) => None,
            Missed::Held => self.barge(local, &wanted),
            missed => self.try_once_more(local, &wanted, missed),
        };
        match now {
            Some(grant) => Ok(grant),
            None => self.blocking_until(local, &wanted, request.limit),
        }
    }

    pub(crate) fn blocking_until(&self, local: &Local, wanted: &Wanted<'_>, limit: Limit) -> Result<Grant, LockError> {
        // Only now: a request that gets the lock immediately needs no clock.
        let limit = self.decided(limit);
        if self.has_no_time(limit) {
            return self.try_out_of_time(local, *wanted, limit);
        }
        let deadline = self.deadline(limit);
        match self.acquire_slow(local, wanted, Wait::InLine(Delivery::Thread))? {
            Answer::Granted(grant) => Ok(grant),
            Answer::Queued(ticket) => match self.wait_blocking(local, ticket.index(), wanted.hash, deadline) {
                Ended::Granted(grant) => Ok(grant.expect("a request that was queued got its grant")),
                Ended::Failed { why, error } => Err(self.failure((why, error), limit, &wanted.key)),
            },
        }
    }

    /// Looks for a moment whether the lock becomes free, before it queues.
    ///
    /// Only where the policy allows to overtake.
    fn barge(&self, local: &Local, wanted: &Wanted<'_>) -> Option<Grant> {
        if self.cores == 1 || !self.lets_barge() {
            return None;
        }
        let (_, entry, _) = self.table.look_up(wanted.hash)?;
        for round in 0..LOOKS {
            pause(round);
            // Only looked at, until it is worth an attempt.
            let word = entry.word();
            if word.is_biased() && wanted.mode == Mode::Exclusive {
                // The shard knows whether anybody holds it.
                return None;
            }
            if word.taken_uncontended(wanted.mode, NONE).is_none() && !word.is_biased() {
                continue;
            }
            match self.acquire_fast(local, wanted) {
                Ok(grant) => return Some(grant),
                Err(Missed::Held) => {}
                Err(Missed::Absent | Missed::NeedsShard) => return None,
            }
        }
        None
    }

    fn lets_barge(&self) -> bool {
        matches!(self.config.fairness, Fairness::Eventual { .. })
    }

    /// Sleeps until the waiter's request has ended, and gives the waiter back.
    pub(crate) fn wait_blocking(&self, local: &Local, index: u32, hash: u64, deadline: Option<Instant>) -> Ended {
        let waiter = self.waiters.get(index);
        self.stay_awake(local, waiter);
        loop {
            match waiter.phase() {
                Phase::Waiting | Phase::Parked => self.sleep(local, waiter, hash, deadline),
                Phase::Notified => {
                    self.await_free(waiter);
                    if !self.compete(local, waiter, hash) {
                        self.stay_awake(local, waiter);
                    }
                }
                _ => return self.finish(local, index),
            }
        }
    }

    /// Sleeps until woken, or until a recheck or the deadline is due, and does that.
    fn sleep(&self, local: &Local, waiter: &Waiter, hash: u64, deadline: Option<Instant>) {
        let look_at = self.moment(waiter.lie_down());
        let looks = look_at.is_some_and(|look_at| deadline.is_none_or(|deadline| look_at < deadline));
        let until = if looks { look_at } else { deadline };
        if waiter.sleep(until) != ParkedUntil::Deadline || !waiter.phase().is_asleep() {
            return;
        }
        if looks {
            waiter.begin_look();
            let _ = waiter.look_by(self.look(waiter.ticket(waiter.index())));
        } else {
            let _ = self.give_up(local, waiter, hash, Phase::TimedOut);
        }
    }

    /// Spins for a while, if the holder may be about to hand over on another core.
    ///
    /// Not where overtaking is allowed: there the request looked before it queued, and a queue slows the others down.
    fn stay_awake(&self, local: &Local, waiter: &Waiter) {
        if self.cores == 1 || self.lets_barge() {
            return;
        }
        let budget = local.spins.load(Ordering::Relaxed);
        let mut turns = 0;
        while turns < 2 * budget && waiter.phase() == Phase::Waiting {
            spin_hint();
            turns += 1;
        }
        let learned = if turns < 2 * budget { budget + turns.max(8) / 8 } else { budget - budget / 8 };
        local.spins.store(learned.clamp(FEWEST_SPINS, MOST_SPINS), Ordering::Relaxed);
    }

    /// Has a notified waiter look for a moment in which the lock is free.
    fn await_free(&self, waiter: &Waiter) {
        let entry = self.table.entry(waiter.entry.load(Ordering::Relaxed));
        let mode = waiter.asking().mode;
        for round in 0..LOOKS {
            if entry.word().taken(mode, NONE).is_some() || waiter.phase() != Phase::Notified || self.cores == 1 {
                return;
            }
            pause(round);
        }
    }

    /// Returns the result of a request that has ended, and gives its waiter back.
    pub(crate) fn finish(&self, local: &Local, index: u32) -> Ended {
        let waiter = self.waiters.get(index);
        let phase = waiter.phase();
        let grant = Grant::from_raw(waiter.grant.load(Ordering::Relaxed));
        let ended = if phase == Phase::Granted {
            match grant.map(|grant| self.check_term(grant)) {
                Some(Err(error)) => Ended::Failed { why: Phase::Refused, error: Some(Box::new(error)) },
                _ => Ended::Granted(grant),
            }
        } else {
            let error = waiter.take_explanation();
            Ended::Failed { why: phase, error }
        };
        self.free_waiter(local, index);
        ended
    }

    /// Turns a refusal into a timeout, and counts it, for a caller with a deadline.
    ///
    /// The lock was looked at after the deadline, so the error never names a shorter time than was asked for. `hash` is the key's.
    pub(crate) fn as_timeout(&self, error: LockError, limit: Limit, hash: u64) -> LockError {
        match error {
            LockError::WouldBlock { key, holders } => {
                self.lock_shard(hash).counts().timeouts += 1;
                self.tally.waits.late(self.now());
                let waited = self.timeout(limit).unwrap_or_default();
                self.learn_from_no_wait(waited);
                LockError::Timeout { key, waited, holders }
            }
            other => other,
        }
    }

    /// Returns the error of a wait.
    ///
    /// `limit` is what was asked for: the wait itself began a moment later.
    pub(crate) fn failure(
        &self,
        (why, error): (Phase, Option<Box<LockError>>),
        limit: Limit,
        key: &KeyRef<'_>,
    ) -> LockError {
        match (error.map(|error| *error), why) {
            (Some(LockError::Timeout { key, waited, holders }), _) => {
                LockError::Timeout { key, waited: waited.max(self.timeout(limit).unwrap_or_default()), holders }
            }
            (Some(error), _) => error,
            (None, Phase::Cancelled) => LockError::Cancelled { key: key.to_owned() },
            (None, _) => {
                debug_assert!(why == Phase::Closed, "a wait that ended as {why:?} needs an explanation");
                LockError::Closed
            }
        }
    }
}

/// A waiter that a future polls.
#[derive(Debug)]
pub(crate) struct Polled {
    ticket: Ticket,
    hash: u64,
    deadline: Option<Instant>,
}

impl Polled {
    /// Follows a waiter that was queued with `Delivery::Task`.
    pub(crate) fn new(core: &Arc<Core>, ticket: Ticket, hash: u64, deadline: Option<Instant>) -> Self {
        if let Some(deadline) = deadline {
            core.set_timer(deadline, ticket, Purpose::GiveUp);
        }
        core.begin_to_look(ticket);
        Self { ticket, hash, deadline }
    }

    pub(crate) fn poll(&self, core: &Core, context: &Context<'_>) -> Poll<Ended> {
        if core.is_forked() {
            // The queue is the parent's.
            return Poll::Ready(Ended::Failed { why: Phase::Closed, error: Some(Box::new(LockError::Forked)) });
        }
        let waiter = core.waiters.get(self.ticket.index());
        loop {
            // Set first, looked at after: a change in between is seen, and a later change finds the waker.
            let old = waiter.set_waker(context.waker());
            drop(old);
            match waiter.phase() {
                Phase::Waiting | Phase::Parked => return Poll::Pending,
                Phase::Notified => {
                    core.compete(core.local(), waiter, self.hash);
                }
                _ => return Poll::Ready(self.finish(core)),
            }
        }
    }

    /// Gives up for a future that is dropped before it had its result.
    ///
    /// A lock that was granted meanwhile goes to the next waiter.
    pub(crate) fn abandon(&self, core: &Core) -> Ended {
        if core.is_forked() {
            // The queue is the parent's.
            return Ended::Failed { why: Phase::Closed, error: None };
        }
        let _ = core.give_up(core.local(), core.waiters.get(self.ticket.index()), self.hash, Phase::Cancelled);
        self.finish(core)
    }

    fn finish(&self, core: &Core) -> Ended {
        let look = core.waiters.get(self.ticket.index()).first_look();
        let ended = core.finish(core.local(), self.ticket.index());
        core.forget_moments(self.deadline, look, self.ticket);
        ended
    }
}
