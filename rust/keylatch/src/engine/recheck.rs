//! What a request sees to while it waits, and who keeps the time for it.
//!
//! A waiter that has something to see to is given a moment to *look* at: see [`crate::wait::waiter`]. Its thread looks
//! itself; for futures and mail the timer does. Either way it comes to [`Core::look`], which says when to look next.

use super::core::Core;
use crate::hold::SESSION;
use crate::wait::{NEVER, Phase, Purpose, Ticket, Waiter};
use std::time::Instant;

/// A waiter to wake after the shard's mutex, because it rechecks earlier now.
#[derive(Debug, Clone, Copy)]
#[must_use = "the waiter may be asleep: hand this to `remind` after the mutex is released"]
pub(crate) struct RecheckWakeup {
    ticket: Ticket,
    at: u64,
}

impl Core {
    /// When a request that begins to wait now looks for the first time.
    pub(crate) fn first_look(&self, owner: u32, now: u64) -> u64 {
        match self.config.deadlock_delay {
            Some(delay) if is_session(owner) => now.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(NEVER)),
            _ => NEVER,
        }
    }

    /// Whether deadlocks are looked for on behalf of an owner.
    pub(crate) fn detects(&self, owner: u32) -> bool {
        self.config.deadlock_delay.is_some() && is_session(owner)
    }

    /// A waiter's moment has come. Returns when to look next, or `NEVER`.
    pub(crate) fn look(&self, ticket: Ticket) -> u64 {
        // Leases first: no request waits for an expired hold.
        let leases = self.look_at_leases(ticket);
        leases.min(self.pass_over(ticket)).min(self.look_for_deadlock(ticket))
    }

    /// Does the first recheck of a future or callback if it is due, or sets the timer.
    pub(crate) fn begin_to_look(&self, ticket: Ticket) {
        // Should the request have ended and the waiter be another's by now, this is the wrong moment for a ticket that
        // is void.
        let mut at = self.waiters.get(ticket.index()).first_look();
        if at == NEVER {
            return;
        }
        if at <= self.now() {
            at = self.look(ticket);
        }
        self.set_look(at, ticket);
    }

    /// Has a waiter recheck at this moment, or before. Caller holds: shard mutex.
    pub(crate) fn look_again(&self, waiter: &Waiter, at: u64) -> Option<RecheckWakeup> {
        let recheck = Some(RecheckWakeup { ticket: waiter.ticket(waiter.index()), at });
        if !waiter.keeps_time() {
            // Noted, so that the thread that finishes the request knows that a moment is set.
            waiter.look_by(at);
            return recheck;
        }
        if !waiter.look_by(at) {
            return None;
        }
        // Only its own thread changes the phase meanwhile, and only to Parked: whether it was or was about to, it does
        // not sleep on now.
        let asleep = waiter.phase().is_asleep() && waiter.advance(Phase::Waiting) == Phase::Parked;
        recheck.filter(|_| asleep)
    }

    /// Does what `look_again` asked for, off every mutex.
    pub(crate) fn remind(&self, recheck: RecheckWakeup) {
        let waiter = self.waiters.get(recheck.ticket.index());
        // The waiter may be another's by now, who then looks at its phase once for nothing, or whose ticket the timer
        // finds to be another one.
        if waiter.keeps_time() {
            waiter.wake();
        } else {
            self.set_look(recheck.at, recheck.ticket);
        }
    }

    fn set_look(&self, at: u64, ticket: Ticket) {
        if let Some(at) = self.moment(at) {
            self.set_timer(at, ticket, Purpose::Look);
            // The request may have ended already, and forgotten its moments before this one was set.
            if !self.waiters.is_current(ticket) {
                self.timer.unset_look(ticket);
            }
        }
    }

    /// Has something done for a waiter that cannot keep time itself.
    pub(crate) fn set_timer(&self, at: Instant, ticket: Ticket, purpose: Purpose) {
        // Absent under the model checker, where there is no timer.
        let Some(core) = self.this.get().cloned() else { return };
        let on_time = move |ticket, purpose| {
            if let Some(core) = core.upgrade() {
                core.on_time(ticket, purpose);
            }
        };
        if self.timer.set((at, ticket, purpose), on_time).is_err() {
            // Without a timer thread the request gives up early. Otherwise it could wait for ever for its deadline, or
            // for a lease or a deadlock that no thread rechecks.
            self.on_time(ticket, Purpose::GiveUp);
        }
    }

    fn on_time(&self, ticket: Ticket, purpose: Purpose) {
        match purpose {
            Purpose::GiveUp => {
                self.end_by_ticket(ticket, Phase::TimedOut, |_| true);
            }
            Purpose::Look => self.set_look(self.look(ticket), ticket),
        }
    }

    /// Removes the moments of a request that has ended.
    ///
    /// Its ticket is void, so a thread that sets a moment later sees that. `look` is the first recheck of its waiter, read
    /// before.
    pub(crate) fn forget_moments(&self, deadline: Option<Instant>, look: u64, ticket: Ticket) {
        if let Some(deadline) = deadline {
            self.timer.unset_end(deadline, ticket);
        }
        if look != NEVER {
            self.timer.unset_look(ticket);
        }
    }
}

/// Whether an owner is a session, of which something is known while it waits.
pub(crate) fn is_session(owner: u32) -> bool {
    owner & SESSION != 0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::{FastObjectLockManager, LockRequest, Submitted};
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn ended_requests_leave_no_moments() {
        let locks = FastObjectLockManager::new();
        let queue = locks.completion_queue().unwrap();
        let (timer, session) = (&locks.core().timer, locks.session("s"));
        let write = LockRequest::write(("b", "o"));
        let held = locks.lock(write.ttl(LONG)).blocking().unwrap();
        let by_queue = |request| match locks.lock(request).with_queue(&queue, 1).unwrap() {
            Submitted::Waiting(ticket) => ticket,
            Submitted::Granted(_) => panic!("it is held"),
        };
        let poll = |waits: std::pin::Pin<&mut crate::Acquire<'_, '_>>| {
            waits.poll(&mut Context::from_waker(Waker::noop())).is_pending()
        };
        for request in [write, write.timeout(LONG), write.owner(&session), write.owner(&session).timeout(LONG)] {
            assert_eq!(timer.len(), 0);
            let mut dropped = pin!(Some(locks.lock(request).into_future()));
            assert!(poll(dropped.as_mut().as_pin_mut().unwrap()));
            assert!(timer.len() > 0, "a moment is set for the end of the lease");
            dropped.set(None);
            assert_eq!(timer.len(), 0, "{request:?}");
            assert!(locks.cancel(by_queue(request)));
            assert!(queue.try_next().is_some_and(|ended| ended.result.is_err()));
            assert_eq!(timer.len(), 0, "{request:?}");
        }
        // Of those that stand in line each has its moments, and however often the lease is renewed, no more.
        let mut first = pin!(locks.lock(write).into_future());
        assert!(poll(first.as_mut()));
        let second = by_queue(write);
        for turn in 1..100 {
            held.renew(LONG - Duration::from_secs(turn)).unwrap();
        }
        assert!(timer.len() <= 2, "{}", timer.len());
        drop(held);
        assert!(!poll(first.as_mut()));
        assert!(locks.cancel(second) || queue.try_next().is_some());
        drop((queue.try_next(), queue));
        assert_eq!(timer.len(), 0);
    }
}
