//! What a request sees to while it waits, and who keeps the time for it.
//!
//! A waiter that has something to see to is given a moment to *look* at: see [`crate::wait::waiter`]. Its thread looks
//! itself; for futures and mail the timer does. Either way it comes to [`Core::look`], which says when to look next.

use super::core::Core;
use crate::hold::{FOREIGN, SESSION};
use crate::sync::fault::fault;
use crate::wait::{NEVER, Phase, Purpose, Ticket, Waiter};
use std::time::Instant;

/// A waiter that has to be told, once the shard's mutex is released, that it looks earlier now.
#[derive(Debug, Clone, Copy)]
#[must_use = "the waiter may be asleep: hand this to `remind` after the mutex is released"]
pub(crate) struct Reminder {
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
        // Leases first: a hold whose lease has run out keeps nobody waiting.
        let leases = self.look_at_leases(ticket);
        leases.min(self.look_for_deadlock(ticket))
    }

    /// The first look of a request that cannot keep time itself: at once if it is due, otherwise the timer's.
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

    /// Has a waiter in line look at its lock at this moment, or before. The caller owns the shard.
    pub(crate) fn look_again(&self, waiter: &Waiter, at: u64) -> Option<Reminder> {
        let reminder = Some(Reminder { ticket: waiter.ticket(waiter.index), at });
        if !waiter.keeps_time() {
            return reminder;
        }
        if !waiter.look_by(at) {
            return None;
        }
        // Only its own thread changes the phase meanwhile, and only to Parked: whether it was or was about to, it does
        // not sleep on now.
        let asleep = waiter.phase().is_asleep() && waiter.advance(Phase::Waiting) == Phase::Parked;
        reminder.filter(|_| asleep && !fault!("sleeper-not-reminded"))
    }

    /// Does what `look_again` asked for, off every mutex.
    pub(crate) fn remind(&self, reminder: Reminder) {
        let waiter = self.waiters.get(reminder.ticket.index());
        // The waiter may be another's by now, who then looks at its phase once for nothing, or whose ticket the timer
        // finds to be another one.
        if waiter.keeps_time() {
            waiter.wake();
        } else {
            self.set_look(reminder.at, reminder.ticket);
        }
    }

    fn set_look(&self, at: u64, ticket: Ticket) {
        if let Some(at) = self.moment(at) {
            self.set_timer(at, ticket, Purpose::Look);
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
            // No thread to keep the time: better to give up early than to wait for ever, be it for a moment, or for a
            // lease or a deadlock that nobody looks at.
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

    /// The request of a ticket has ended; `look` is the first look of its waiter.
    pub(crate) fn forget_moments(&self, deadline: Option<Instant>, look: u64, ticket: Ticket) {
        if let Some(deadline) = deadline {
            self.timer.unset((deadline, ticket, Purpose::GiveUp));
        }
        // Later looks come to nothing when their moment comes.
        if let Some(at) = self.moment(look) {
            self.timer.unset((at, ticket, Purpose::Look));
        }
    }
}

/// Whether an owner is a session of this manager, of which something is known while it waits.
pub(crate) fn is_session(owner: u32) -> bool {
    owner & SESSION != 0 && owner != FOREIGN
}
