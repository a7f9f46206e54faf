//! Sessions: owners that are one logical thread of control, such as a transaction.
//!
//! A session that waits does nothing else and releases nothing meanwhile. So deadlocks among sessions can be found, and a
//! session that asks again for a lock that it holds is recognised. Nothing of the kind is known of a label. The bit
//! [`SESSION`] marks a session's number, so that the fast path treats both alike.

use super::Grant;
use crate::key::{KeyRef, ObjectKey};
use crate::mode::Mode;
use crate::owner::SessionRef;
use crate::sync::{Mutex, forks};
use parking_lot::Condvar;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

/// Set in the number of an owner that is a session.
pub(crate) const SESSION: u32 = 1 << 31;
/// Ended sessions that a new one checks for a number that is free again.
const ENDED_LOOKED_AT: usize = 2;
/// The least length at which ended holds are removed from a session's list.
const FIRST_CLEARING: usize = 16;

/// What a manager keeps of a session.
#[derive(Debug)]
pub(crate) struct SessionState {
    pub(crate) number: u32,
    pub(crate) name: Arc<str>,
    pub(crate) source: &'static str,
    /// Counts sessions: the greater, the younger.
    pub(crate) order: u64,
    /// Indexes of its waiters in queues, each changed under its shard's mutex.
    waits: Mutex<Vec<u32>>,
    holds: Mutex<Holds>,
    /// What became of numbered requests, to answer them again when they are repeated.
    answered: Mutex<HashMap<u64, Numbered>>,
    /// What it took, in this order; only where orders are looked at.
    taken: Mutex<TakenInOrder>,
}

/// What a session holds, and some of what it held.
///
/// A release does not change the list: an ended hold is recognised by its grant, which is never used again. So acquiring and
/// releasing cost no more than for a label, and a look at the list costs as much as there are holds. A hold that is not in
/// the list yet belongs to a request that is still being answered.
#[derive(Debug, Default)]
struct Holds {
    list: Vec<NotedHold>,
    /// The length at which ended holds are taken out.
    cleared_at: usize,
}

/// A hold of a session: the grant, and the hash of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotedHold {
    pub(crate) hash: u64,
    pub(crate) grant: Grant,
}

/// A lock that a session took, and may have released since.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) grant: Grant,
    pub(crate) key: ObjectKey,
    pub(crate) mode: Mode,
}

#[derive(Debug, Default)]
struct TakenInOrder {
    list: Vec<Taken>,
    /// The length at which released locks are taken out.
    cleared_at: usize,
}

impl SessionState {
    /// This session as the owner of a request to the manager of this identity.
    #[inline(always)]
    pub(crate) fn as_owner(&self, manager: usize) -> SessionRef<'_> {
        SessionRef::new(self, self.number, manager)
    }

    /// Returns its waiters that stand in line now.
    pub(crate) fn waits(&self) -> Vec<u32> {
        self.waits.lock().clone()
    }

    /// Notes a hold. `is_held` says which grants are held.
    pub(crate) fn note_hold(&self, hold: NotedHold, is_held: impl Fn(Grant) -> bool) {
        let mut holds = self.holds.lock();
        if holds.list.len() >= holds.cleared_at {
            holds.list.retain(|hold| is_held(hold.grant));
            holds.cleared_at = FIRST_CLEARING.max(2 * holds.list.len());
        }
        holds.list.push(hold);
    }

    /// Calls `visit` with the holds, the oldest first, until it returns `Break`.
    ///
    /// Ended holds may be among them.
    pub(crate) fn for_each_hold(&self, mut visit: impl FnMut(NotedHold) -> ControlFlow<()>) {
        for hold in &self.holds.lock().list {
            crate::sync::step();
            if visit(*hold).is_break() {
                return;
            }
        }
    }

    /// Returns whether no hold or waiter has its number. `is_held` as in `note_hold`.
    ///
    /// A request that was granted is noted as a hold before it leaves the waits, so that it is seen in one of the two.
    fn is_idle(&self, is_held: impl Fn(Grant) -> bool) -> bool {
        if !self.waits.lock().is_empty() {
            return false;
        }
        let mut holds = self.holds.lock();
        while holds.list.pop_if(|hold| !is_held(hold.grant)).is_some() {
            crate::sync::step();
        }
        holds.list.is_empty()
    }

    /// Begins a numbered request. `is_held` says which grants are not void.
    pub(crate) fn begin_request(self: &Arc<Self>, request_id: u64, is_held: impl Fn(Grant) -> bool) -> Begun {
        let mut answered = self.answered.lock();
        match answered.get(&request_id) {
            Some(Numbered::Answered(grant)) if is_held(*grant) => Begun::Has(*grant),
            Some(Numbered::Asked(first)) => Begun::Waits(Arc::clone(first)),
            _ => {
                forget_void(&mut answered, is_held);
                let asked = Arc::<Asked>::default();
                answered.insert(request_id, Numbered::Asked(Arc::clone(&asked)));
                Begun::Asks(Turn { session: Arc::clone(self), request_id, asked, answer: None, forks: forks() })
            }
        }
    }

    /// Remembers an answer.
    ///
    /// When there are many, it forgets those that `is_held` says are void.
    pub(crate) fn remember_answer(&self, request_id: u64, grant: Grant, is_held: impl Fn(Grant) -> bool) {
        let mut answered = self.answered.lock();
        forget_void(&mut answered, is_held);
        answered.insert(request_id, Numbered::Answered(grant));
    }

    /// Notes that it has got a lock. `is_held` says which grants are not void.
    pub(crate) fn takes(&self, taken: Taken, is_held: impl Fn(Grant) -> bool) {
        let mut all = self.taken.lock();
        if all.list.len() >= all.cleared_at {
            all.list.retain(|taken| is_held(taken.grant));
            all.cleared_at = 16.max(2 * all.list.len());
        }
        all.list.push(taken);
    }

    /// Returns what it holds of what it took, the last first, and how it was taken.
    pub(crate) fn taken_last(&self, most: usize, is_held: impl Fn(Grant) -> bool) -> Vec<(ObjectKey, Mode)> {
        let all = self.taken.lock();
        let held = all.list.iter().rev().filter(|taken| is_held(taken.grant)).take(most);
        held.map(|taken| (taken.key.clone(), taken.mode)).collect()
    }

    /// Returns whether it took a key and holds it.
    pub(crate) fn has_taken(&self, key: &KeyRef<'_>, is_held: impl Fn(Grant) -> bool) -> bool {
        self.taken.lock().list.iter().any(|taken| taken.key.as_ref() == *key && is_held(taken.grant))
    }
}

/// Makes room for another answer, if it is needed.
fn forget_void(answered: &mut HashMap<u64, Numbered>, is_held: impl Fn(Grant) -> bool) {
    if answered.len() == answered.capacity() {
        answered.retain(|_, numbered| match numbered {
            Numbered::Answered(grant) => is_held(*grant),
            Numbered::Asked(_) => true,
        });
    }
}

/// What became of a numbered request.
#[derive(Debug)]
enum Numbered {
    Asked(Arc<Asked>),
    Answered(Grant),
}

/// What a numbered request has to do.
#[derive(Debug)]
#[must_use]
pub(crate) enum Begun {
    /// It is the first, and asks.
    Asks(Turn),
    /// It was answered, and that is held.
    Has(Grant),
    /// The same request has been made and not answered yet.
    Waits(Arc<Asked>),
}

/// A numbered request without an answer yet, for callers that repeat it.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    over: parking_lot::Mutex<bool>,
    ended: Condvar,
}

impl Asked {
    /// Waits until it has an answer; `false` if the deadline passes first.
    pub(crate) fn is_over_by(&self, deadline: Option<Instant>) -> bool {
        let mut over = self.over.lock();
        while !*over {
            match deadline {
                None => self.ended.wait(&mut over),
                Some(at) if Instant::now() >= at => return false,
                Some(at) => drop(self.ended.wait_until(&mut over, at)),
            }
        }
        true
    }
}

/// The right to make a numbered request. Dropping it wakes callers that repeat it.
#[derive(Debug)]
pub(crate) struct Turn {
    session: Arc<SessionState>,
    request_id: u64,
    asked: Arc<Asked>,
    answer: Option<Grant>,
    /// Forks when it began.
    forks: u32,
}

impl Turn {
    /// The request got its lock.
    pub(crate) fn answer(mut self, grant: Grant) {
        self.answer = Some(grant);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // A forked child takes no mutex: its holder may not exist.
        if self.forks != forks() {
            return;
        }
        let mut answered = self.session.answered.lock();
        match self.answer {
            Some(grant) => drop(answered.insert(self.request_id, Numbered::Answered(grant))),
            None => drop(answered.remove(&self.request_id)),
        }
        drop(answered);
        *self.asked.over.lock() = true;
        self.asked.ended.notify_all();
    }
}

/// All sessions of a manager.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    by_number: Vec<Option<Arc<SessionState>>>,
    free: Vec<u32>,
    /// Sessions that ended while holders or waiters had their numbers.
    ended: VecDeque<u32>,
    /// Those that wait for something.
    waiting: BTreeSet<u32>,
    made: u64,
}

impl Sessions {
    /// Returns a new session. `is_held` says which grants are held.
    pub(crate) fn begin(&self, name: &str, source: &'static str, is_held: impl Fn(Grant) -> bool) -> Arc<SessionState> {
        let mut slots = self.slots.lock();
        for _ in 0..ENDED_LOOKED_AT {
            let Some(slot) = slots.ended.pop_front() else { break };
            slots.retire(slot, &is_held);
        }
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.by_number.push(None);
            (slots.by_number.len() - 1) as u32
        });
        slots.made += 1;
        let name = &name[..name.floor_char_boundary(crate::config::MAX_NAME_BYTES)];
        let state = Arc::new(SessionState {
            number: slot | SESSION,
            name: name.into(),
            source,
            order: slots.made,
            waits: Mutex::default(),
            holds: Mutex::default(),
            answered: Mutex::default(),
            taken: Mutex::default(),
        });
        slots.by_number[slot as usize] = Some(Arc::clone(&state));
        state
    }

    /// Ends a session. Its number stays taken while holders or waiters have it.
    pub(crate) fn end(&self, session: &SessionState, is_held: impl Fn(Grant) -> bool) {
        self.slots.lock().retire(session.number & !SESSION, &is_held);
    }

    /// Notes that a request of an owner has begun to wait, if that is a session.
    ///
    /// Caller holds: mutex of the waiter's shard.
    pub(crate) fn begins_to_wait(&self, owner: u32, waiter: u32) {
        if owner & SESSION == 0 {
            return;
        }
        let mut slots = self.slots.lock();
        let Some(session) = slots.get(owner) else { return };
        session.waits.lock().push(waiter);
        slots.waiting.insert(owner);
    }

    /// Notes that a request waits no more, before its caller learns the result.
    ///
    /// Caller holds: mutex of the waiter's shard.
    pub(crate) fn waits_no_more(&self, owner: u32, waiter: u32) {
        if owner & SESSION == 0 {
            return;
        }
        let mut slots = self.slots.lock();
        let Some(session) = slots.get(owner) else { return };
        let mut waits = session.waits.lock();
        if let Some(position) = waits.iter().position(|waiting| *waiting == waiter) {
            waits.swap_remove(position);
        }
        if waits.is_empty() {
            slots.waiting.remove(&owner);
        }
    }

    /// Those that wait for something now.
    pub(crate) fn waiting(&self) -> Vec<Arc<SessionState>> {
        let slots = self.slots.lock();
        slots.waiting.iter().filter_map(|number| slots.get(*number)).collect()
    }

    /// Returns the session of a number, if it is one's.
    pub(crate) fn get(&self, number: u32) -> Option<Arc<SessionState>> {
        if number & SESSION == 0 {
            return None;
        }
        self.slots.lock().get(number)
    }
}

impl Slots {
    fn get(&self, number: u32) -> Option<Arc<SessionState>> {
        self.by_number.get((number & !SESSION) as usize).cloned().flatten()
    }

    /// Frees the number of a session that has ended, or keeps it in mind.
    fn retire(&mut self, slot: u32, is_held: impl Fn(Grant) -> bool) {
        if self.by_number[slot as usize].as_ref().is_none_or(|session| session.is_idle(is_held)) {
            self.by_number[slot as usize] = None;
            self.free.push(slot);
        } else {
            self.ended.push_back(slot);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn grant(number: u64) -> Grant {
        Grant::from_raw(1 << 26 | number).unwrap()
    }

    #[test]
    fn number_is_reused_once_out_of_use() {
        let sessions = Sessions::default();
        let is_held = |held: Grant| held == grant(1);
        let held = sessions.begin("held", "", is_held);
        held.note_hold(NotedHold { hash: 0, grant: grant(1) }, is_held);
        let waits = sessions.begin("waits", "", is_held);
        sessions.begins_to_wait(waits.number, 7);
        sessions.end(&held, is_held);
        sessions.end(&waits, is_held);
        let mut numbers = HashSet::new();
        for i in 0..1000 {
            let session = sessions.begin(&format!("txn-{i}"), "", is_held);
            session.note_hold(NotedHold { hash: 0, grant: grant(2) }, is_held);
            assert_eq!(sessions.get(session.number).unwrap().order, session.order);
            numbers.insert(session.number);
            sessions.end(&session, is_held);
        }
        assert!(!numbers.contains(&held.number) && !numbers.contains(&waits.number));
        assert_eq!((&*sessions.get(held.number).unwrap().name, numbers.len()), ("held", 1));
        // Released, and no longer waiting: both are free again after a few more have begun.
        sessions.waits_no_more(waits.number, 7);
        let others: HashSet<u32> = (0..3).map(|_| sessions.begin("other", "", |_| false).number).collect();
        assert!(others.contains(&held.number) && others.contains(&waits.number), "{others:?}");
    }

    #[test]
    fn holds_that_ended_are_cleared_away() {
        let session = Sessions::default().begin("s", "", |_| false);
        let is_held = |held: Grant| held.index() < 100;
        for number in 0..10_000 {
            session.note_hold(NotedHold { hash: number, grant: grant(number) }, is_held);
        }
        let mut held = 0;
        session.for_each_hold(|hold| {
            held += u64::from(hold.grant.index() < 100);
            ControlFlow::Continue(())
        });
        assert_eq!(held, 100);
        assert!(session.holds.lock().list.len() <= 2 * 100 + FIRST_CLEARING);
        assert!(!session.is_idle(is_held) && session.is_idle(|_| false));
    }

    #[test]
    fn turn_of_a_parent_is_left_alone() {
        let session = Sessions::default().begin("s", "", |_| false);
        let Begun::Asks(mut turn) = session.begin_request(1, |_| false) else { panic!("it is the first") };
        turn.forks = turn.forks.wrapping_sub(1);
        let answered = session.answered.lock();
        // It would wait for the mutex.
        drop(turn);
        drop(answered);
        assert!(matches!(session.begin_request(1, |_| false), Begun::Waits(_)), "it is the parent's to end");
    }

    #[test]
    fn a_label_is_no_session() {
        let sessions = Sessions::default();
        sessions.begin("a", "", |_| false);
        assert!(sessions.get(0).is_none());
        assert!(sessions.get(SESSION | 7).is_none());
    }

    #[test]
    fn waits_end_one_by_one_in_any_order() {
        let sessions = Sessions::default();
        let session = sessions.begin("a", "", |_| false);
        (1..4).for_each(|waiter| sessions.begins_to_wait(session.number, waiter));
        sessions.waits_no_more(session.number, 1);
        sessions.waits_no_more(session.number, 9);
        assert_eq!(HashSet::from_iter(session.waits()), HashSet::from([2, 3]));
        assert_eq!(sessions.waiting().len(), 1);
        [2, 3].into_iter().for_each(|waiter| sessions.waits_no_more(session.number, waiter));
        assert!(sessions.waiting().is_empty());
    }
}
