//! Sessions: owners that are one logical thread of control, such as a transaction.
//!
//! Of a label nothing is concluded; of a session it is known that while it waits it does nothing else, and that what it
//! holds it will not let go of meanwhile. Deadlocks are found by that, and a session that asks again for what it holds is
//! recognised. Its number is told from a label's by [`SESSION`], so that the fast path carries either without looking.

use super::Grant;
use crate::key::{KeyRef, ObjectKey};
use crate::mode::Mode;
use crate::sync::Mutex;
use parking_lot::Condvar;
use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

/// A session that is there for as long as this is; see [`OwnerRef::Session`](crate::OwnerRef::Session).
#[derive(Debug, Clone, Copy)]
pub struct SessionRef<'a> {
    pub(crate) number: u32,
    /// Tells managers apart.
    pub(crate) manager: usize,
    session: PhantomData<&'a SessionState>,
}

impl<'a> SessionRef<'a> {
    #[inline(always)]
    pub(crate) fn new(session: &'a SessionState, manager: usize) -> Self {
        Self { number: session.number, manager, session: PhantomData }
    }
}

/// Set in the number of an owner that is a session.
pub(crate) const SESSION: u32 = 1 << 31;
/// Sessions that ended before their numbers are looked through for those nobody bears any more.
const WORTH_A_LOOK: usize = 64;

/// What a manager keeps of a session.
#[derive(Debug)]
pub(crate) struct SessionState {
    pub(crate) number: u32,
    pub(crate) name: Arc<str>,
    pub(crate) source: &'static str,
    /// Counts sessions: the greater, the younger.
    pub(crate) order: u64,
    /// Indexes of its waiters that stand in line. Changed under the mutex of the shard of each.
    waits: Mutex<Vec<u32>>,
    /// What became of numbered requests, to answer them again when they are repeated.
    answered: Mutex<HashMap<u64, Numbered>>,
    /// What it took, in this order; only where orders are looked at.
    taken: Mutex<TakenInOrder>,
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
    /// Notes that a request has begun to wait.
    pub(crate) fn begins_to_wait(&self, waiter: u32) {
        self.waits.lock().push(waiter);
    }

    /// Notes that a request waits no more; done by whoever ends the wait, before anybody is told.
    pub(crate) fn waits_no_more(&self, waiter: u32) {
        let mut waits = self.waits.lock();
        if let Some(position) = waits.iter().position(|waiting| *waiting == waiter) {
            waits.swap_remove(position);
        }
    }

    /// Its waiters that stand in line now.
    pub(crate) fn waits(&self) -> Vec<u32> {
        self.waits.lock().clone()
    }

    /// A numbered request comes in. `is_held` says which grants are not void.
    pub(crate) fn begin_request(self: &Arc<Self>, request_id: u64, is_held: impl Fn(Grant) -> bool) -> Begun {
        let mut answered = self.answered.lock();
        match answered.get(&request_id) {
            Some(Numbered::Answered(grant)) if is_held(*grant) => Begun::Has(*grant),
            Some(Numbered::Asked(first)) => Begun::Waits(Arc::clone(first)),
            _ => {
                forget_void(&mut answered, is_held);
                let asked = Arc::<Asked>::default();
                answered.insert(request_id, Numbered::Asked(Arc::clone(&asked)));
                Begun::Asks(Turn { session: Arc::clone(self), request_id, asked, answer: None })
            }
        }
    }

    /// Remembers an answer; forgets those that `is_held` says are void, when there are many.
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

    /// What it holds of what it took, the last first, and how it was taken.
    pub(crate) fn taken_last(&self, most: usize, is_held: impl Fn(Grant) -> bool) -> Vec<(ObjectKey, Mode)> {
        let all = self.taken.lock();
        let held = all.list.iter().rev().filter(|taken| is_held(taken.grant)).take(most);
        held.map(|taken| (taken.key.clone(), taken.mode)).collect()
    }

    /// Whether it took a key and holds it.
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

/// A numbered request that was made, for those who repeat it before it is answered.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    over: parking_lot::Mutex<bool>,
    ended: Condvar,
}

impl Asked {
    /// Waits until it has ended, however. `false` if the time is over first.
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

/// The turn to make a numbered request. When it is dropped those who repeated it look again.
#[derive(Debug)]
pub(crate) struct Turn {
    session: Arc<SessionState>,
    request_id: u64,
    asked: Arc<Asked>,
    answer: Option<Grant>,
}

impl Turn {
    /// The request got its lock.
    pub(crate) fn answer(mut self, grant: Grant) {
        self.answer = Some(grant);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
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
    ended: Vec<u32>,
    made: u64,
}

impl Sessions {
    /// A new session. `in_use` tells the numbers that waiters and holders bear.
    pub(crate) fn begin(
        &self,
        name: &str,
        source: &'static str,
        in_use: impl FnOnce() -> HashSet<u32>,
    ) -> Arc<SessionState> {
        let mut slots = self.slots.lock();
        // As many as are in use: a look at all holders is then paid for by that many sessions.
        if slots.free.is_empty() && slots.ended.len() >= WORTH_A_LOOK.max(slots.by_number.len() / 2) {
            let in_use = in_use();
            let (stay, go) =
                std::mem::take(&mut slots.ended).into_iter().partition(|slot| in_use.contains(&(slot | SESSION)));
            slots.ended = stay;
            slots.free = go;
            for slot in slots.free.clone() {
                slots.by_number[slot as usize] = None;
            }
        }
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.by_number.push(None);
            (slots.by_number.len() - 1) as u32
        });
        slots.made += 1;
        let name = &name[..name.floor_char_boundary(super::owner::MAX_NAME_BYTES)];
        let state = Arc::new(SessionState {
            number: slot | SESSION,
            name: name.into(),
            source,
            order: slots.made,
            waits: Mutex::default(),
            answered: Mutex::default(),
            taken: Mutex::default(),
        });
        slots.by_number[slot as usize] = Some(Arc::clone(&state));
        state
    }

    /// The session will make no more requests. Its number stays taken while holders or waiters bear it.
    pub(crate) fn end(&self, session: &SessionState) {
        self.slots.lock().ended.push(session.number & !SESSION);
    }

    /// The session of a number, if it is one's.
    pub(crate) fn get(&self, number: u32) -> Option<Arc<SessionState>> {
        if number & SESSION == 0 {
            return None;
        }
        self.slots.lock().by_number.get((number & !SESSION) as usize).cloned().flatten()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_only_when_nobody_bears_it() {
        let sessions = Sessions::default();
        let held = sessions.begin("held", "", HashSet::new).number;
        sessions.end(&sessions.get(held).unwrap());
        let mut numbers = HashSet::new();
        for i in 0..100 * WORTH_A_LOOK {
            let session = sessions.begin(&format!("txn-{i}"), "", || HashSet::from([held]));
            assert_ne!(session.number, held);
            assert_eq!(sessions.get(session.number).unwrap().order, session.order);
            numbers.insert(session.number);
            sessions.end(&session);
        }
        assert_eq!(&*sessions.get(held).unwrap().name, "held");
        assert!(numbers.len() <= 3 * WORTH_A_LOOK, "{}", numbers.len());
    }

    #[test]
    fn a_label_is_no_session() {
        let sessions = Sessions::default();
        sessions.begin("a", "", HashSet::new);
        assert!(sessions.get(0).is_none());
        assert!(sessions.get(SESSION | 7).is_none());
    }

    #[test]
    fn waits_end_one_by_one_in_any_order() {
        let session = Sessions::default().begin("a", "", HashSet::new);
        (1..4).for_each(|waiter| session.begins_to_wait(waiter));
        session.waits_no_more(1);
        session.waits_no_more(9);
        assert_eq!(HashSet::from_iter(session.waits()), HashSet::from([2, 3]));
    }
}
