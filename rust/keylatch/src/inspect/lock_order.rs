//! Deadlocks that have not happened yet: sessions that take locks in orders that go round.
//!
//! A session that holds one lock and asks for another, ready to wait, makes an *order*. Orders that go round can become a
//! deadlock once the sessions meet: each holds what the one before it asks for. So a circle is reported when its last
//! order is seen, however far apart in time they were.
//!
//! How a lock is held or wanted does not matter for that, as long as some session also asks for each of the
//! keys exclusively: readers do not stand in each other's way, but a writer in line between them does. Keys that are only
//! read are in no circle.
//!
//! | | an order? |
//! |---|---|
//! | a request that may wait, of a session that holds something | from each of the 16 locks that it took last |
//! | an attempt that does not wait | none to what it asks for; once it holds it, from there on |
//! | a batch | from key to key as they are sorted, even if all were free together |
//! | an upgrade that may wait | from everything else that the session holds |
//! | a session that asks again for what it holds | none: it has it or is refused |
//! | a label, or a guard without an owner | none: nothing is known of what else its thread holds |
//!
//! A lock that is always held around both, so that the sessions can never meet, is not taken into account.
//!
//! While the lint is on the fast path is off: every request comes by here, and every session remembers what it took in
//! which order. While it is off, nothing of this exists.

use crate::engine::Core;
use crate::engine::batch;
use crate::engine::recheck::is_session;
use crate::engine::wanted::Wanted;
use crate::events::{Event, LockOrders, Seen};
use crate::hold::{Grant, OwnerRef, SessionState, Taken};
use crate::key::{KeyRef, ObjectKey};
use crate::listed::{LockOrderReport, LockOrderReports};
use crate::mode::Mode;
use crate::request::BatchLockRequest;
use std::collections::VecDeque;
use std::sync::Arc;

/// Locks that a session holds from which an order goes out: those it took last.
const MOST_HELD: usize = 16;
/// A session, and what it holds, the lock it took last in front.
struct Holding {
    session: Arc<SessionState>,
    held: VecDeque<(ObjectKey, Mode)>,
}

impl Core {
    /// A request has come that will wait if it has to, or not.
    ///
    /// The caller owns no mutex.
    #[inline]
    pub(crate) fn note_order(&self, wanted: &Wanted<'_>, waits: bool) {
        if let Some(orders) = &self.orders {
            let holding = if waits { self.holding(wanted.owner, &wanted.key) } else { None };
            self.note_orders(orders, holding, [(wanted.key.to_owned(), wanted.mode)]);
        }
    }

    /// A batch has come.
    ///
    /// It may get all its locks without waiting; the next time it may not.
    pub(crate) fn note_batch_order(&self, wanted: &BatchLockRequest<'_>) {
        if let (Some(orders), OwnerRef::Session(session)) = (&self.orders, wanted.owner)
            && session.manager == self.identity()
            && !self.is_forked()
            && let Some(session) = self.sessions.get(session.number)
        {
            let in_order = batch::in_order(wanted);
            let held = session.taken_last(MOST_HELD, |grant| self.standing(grant).is_ok());
            // What it holds already it does not wait for.
            let is_new = |key: &KeyRef<'_>| !session.has_taken(key, |grant| self.standing(grant).is_ok());
            let new: Vec<_> = in_order.into_iter().filter(|(key, _)| is_new(key)).collect();
            let new = new.into_iter().map(|(key, mode)| (key.to_owned(), mode));
            self.note_orders(orders, Some(Holding { session: Arc::clone(&session), held: held.into() }), new);
        }
    }

    /// A session that shares a lock asks to have it alone.
    ///
    /// The caller owns no mutex, and the lock is held for it.
    #[inline]
    pub(crate) fn note_upgrade_order(&self, owner: u32, grant: Grant) {
        if let Some(orders) = &self.orders
            && let Some(key) = self.guard_key(grant)
        {
            let holding = self.session_of(owner).map(|session| {
                let mut held = session.taken_last(MOST_HELD + 1, |grant| self.standing(grant).is_ok());
                held.retain(|(held, _)| *held != key);
                Holding { session, held: held.into() }
            });
            self.note_orders(orders, holding, [(key, Mode::Exclusive)]);
        }
    }

    /// Notes that a session has a lock. The caller may hold the shard mutex.
    #[inline]
    pub(crate) fn note_taken(&self, owner: u32, grant: Grant, key: impl FnOnce() -> ObjectKey, mode: Mode) {
        if self.orders.is_some()
            && let Some(session) = self.session_of(owner)
        {
            session.takes(Taken { grant, key: key(), mode }, |grant| self.standing(grant).is_ok());
        }
    }

    fn session_of(&self, owner: u32) -> Option<Arc<SessionState>> {
        if is_session(owner) { self.sessions.get(owner) } else { None }
    }

    /// What a session holds that asks for a key; `None` if it holds none, or that key.
    fn holding(&self, owner: u32, key: &KeyRef<'_>) -> Option<Holding> {
        let session = self.session_of(owner)?;
        let is_held = |grant| self.standing(grant).is_ok();
        if session.has_taken(key, is_held) {
            return None;
        }
        let held = session.taken_last(MOST_HELD, is_held).into();
        Some(Holding { session, held })
    }

    /// Notes that a holder asked for some keys, one after the other.
    fn note_orders(
        &self,
        orders: &LockOrders,
        mut holding: Option<Holding>,
        wanted: impl IntoIterator<Item = (ObjectKey, Mode)>,
    ) {
        let at = self.uptime();
        let mut found = Vec::new();
        let mut memory = orders.memory();
        for (key, mode) in wanted {
            if mode == Mode::Exclusive {
                found.extend(memory.graph.note_write(&key));
            }
            let Some(Holding { session, held }) = &mut holding else { continue };
            for (held, held_mode) in held.iter() {
                let seen = Seen { session: Arc::clone(&session.name), source: session.source, at };
                found.extend(memory.graph.note_order((held, *held_mode), (&key, mode), seen));
            }
            held.push_front((key, mode));
            held.truncate(MOST_HELD);
        }
        let found: Vec<_> = found.into_iter().map(|links| LockOrderReport { at, links: links.into() }).collect();
        memory.remember(&found);
        drop(memory);
        for report in found {
            self.announce(&Event::LockOrder(report));
        }
    }

    /// Returns what the lint has found so far.
    pub(crate) fn lock_order_reports(&self) -> LockOrderReports {
        let Some(orders) = self.orders.as_ref().filter(|_| !self.is_forked()) else {
            return LockOrderReports::default();
        };
        orders.memory().reports()
    }
}
