//! The permits of one process, and the thread that gives them back when others wait.

use super::explain::explained;
use super::permit::{AFTER, Alarm, Due, Dues, Held, Permit, TERM, granted};
use crate::acquire::report_death;
use crate::error::ShmError;
use crate::lines::lock;
use crate::lookup::{Fingerprint, find};
use crate::os::futex;
use crate::recall;
use crate::table::SharedTable;
use keylatch::Mode;
use keylatch::tier::{Answer, Ask, PermitId, Term, TierError, TierErrorKind, TierEvents};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the thread looks without a reason: whether the table is sound.
const LOOK: Duration = Duration::from_millis(200);

/// How long others have to give back what they only keep.
///
/// For requests that do not wait, and upgrades.
const HAND_OVER: Duration = Duration::from_millis(2);
/// How often an upgrade looks whether they have.
const UPGRADE_LOOK: Duration = Duration::from_micros(50);

/// Permits that are kept at most.
///
/// All are looked at each time that one is recalled.
const MOST: usize = 1_024;

/// Permits and asks by number.
///
/// No event is called while the mutex of the permits is held.
pub(super) struct Keeper {
    table: SharedTable,
    events: Mutex<Option<Arc<dyn TierEvents>>>,
    permits: Mutex<BTreeMap<PermitId, Permit>>,
    /// The keys of permits that were lost, and that may have a death to tell.
    lost_deaths: Mutex<BTreeMap<PermitId, Fingerprint>>,
    /// The process names one slot at a time that it wants alone.
    upgrading: Mutex<()>,
    dues: Arc<Dues>,
    /// More permits than that are not kept.
    most: usize,
    closing: AtomicBool,
}

impl Keeper {
    pub(super) fn new(table: SharedTable) -> Self {
        let most = (table.core().region.layout().sizes.keys as usize / 4).clamp(1, MOST);
        Self {
            dues: Arc::new(Dues::new(table.clone())),
            table,
            events: Mutex::default(),
            permits: Mutex::default(),
            lost_deaths: Mutex::default(),
            upgrading: Mutex::default(),
            most,
            closing: false.into(),
        }
    }

    pub(super) fn table(&self) -> &SharedTable {
        &self.table
    }

    pub(super) fn start(self: &Arc<Self>, events: Arc<dyn TierEvents>) -> Result<JoinHandle<()>, TierError> {
        let core = self.table.core();
        core.check().map_err(|error| explained(&error))?;
        *lock(&self.events) = Some(events);
        // Before the first hold: who sees the hold sees this.
        core.region.member(core.me).keeps.store(1, Ordering::SeqCst);
        let this = Arc::clone(self);
        let thread = std::thread::Builder::new().name("keylatch-tier".into()).spawn(move || this.run());
        thread.map_err(|error| {
            let problem = format!("no thread could be started: {error}");
            TierError::new(TierErrorKind::Other, problem, "end some threads")
        })
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.dues.ring();
    }

    /// Ends all permits and asks.
    pub(super) fn end_all(&self) {
        lock(&self.events).take();
        let core = self.table.core();
        core.region.member(core.me).keeps.store(0, Ordering::SeqCst);
        let all = std::mem::take(&mut *lock(&self.permits));
        drop(all);
    }

    /// Asks with a place in line.
    pub(super) fn queue(&self, ask: &Ask<'_>) -> Answer {
        if let Some(replaced) = ask.replaces {
            self.give_back(replaced);
        }
        if let Err(error) = self.check_term(ask.term) {
            return Answer::Failed(error);
        }
        self.begin(ask).unwrap_or_else(|error| Answer::Failed(explained(&error)))
    }

    /// Refuses when the table is gone, or the term is over.
    ///
    /// The first comes first: no other term ends that.
    fn check_term(&self, term: Term) -> Result<(), TierError> {
        self.table.core().check().map_err(|error| explained(&error))?;
        if term == TERM { Ok(()) } else { Err(TierError::term_over()) }
    }

    fn begin(&self, ask: &Ask<'_>) -> Result<Answer, ShmError> {
        let key = Arc::new(self.table.prepare_owned(ask.key)?);
        if let Some(guard) = key.try_acquire(ask.mode, ask.owner)? {
            return Ok(self.keep(ask.id, Permit::held(guard)));
        }
        let future = Box::pin(key.acquire_until(ask.mode, ask.owner, None));
        Ok(self.keep(ask.id, Permit::Waits(future)))
    }

    /// Enters a permit or an ask; returns its answer.
    fn keep(&self, id: PermitId, permit: Permit) -> Answer {
        let mut permits = lock(&self.permits);
        permits.insert(id, permit);
        // While the mutex is held the thread does not look at it.
        let answer = self.look(&mut permits, id).unwrap_or(Answer::Pending);
        let is_looked_for = match permits.get(&id) {
            Some(Permit::Held(held)) => held.guard.wanted_as().is_some(),
            _ => false,
        };
        let is_looked_for = is_looked_for || permits.len() > self.most;
        drop(permits);
        if is_looked_for {
            self.dues.ring();
        }
        answer
    }

    /// Looks whether an ask has its answer; it is held then, or gone.
    fn look(&self, permits: &mut BTreeMap<PermitId, Permit>, id: PermitId) -> Option<Answer> {
        let permit = permits.get_mut(&id)?;
        let answer = match permit {
            Permit::Held(held) => granted(held),
            Permit::Waits(future) => {
                let waker = Waker::from(Arc::new(Alarm { id, dues: Arc::clone(&self.dues) }));
                match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Pending => return None,
                    Poll::Ready(Ok(Some(guard))) => {
                        *permit = Permit::held(guard);
                        return self.look(permits, id);
                    }
                    // An ask without a deadline is not late.
                    Poll::Ready(Ok(None)) => Answer::Failed(explained(&ShmError::Closed)),
                    Poll::Ready(Err(error)) => Answer::Failed(explained(&error)),
                }
            }
        };
        if matches!(answer, Answer::Failed(_)) {
            permits.remove(&id);
        }
        Some(answer)
    }

    /// Takes all keys now, or none.
    pub(super) fn take_all(&self, asks: &[Ask<'_>], answers: &mut [Answer]) {
        let mut taken = Vec::with_capacity(asks.len());
        let deadline = Instant::now() + HAND_OVER;
        for ask in asks {
            let refusal = match self.try_one(ask, deadline) {
                Ok(Some(guard)) => {
                    taken.push(guard);
                    continue;
                }
                Ok(None) => Answer::Busy,
                Err(error) => Answer::Failed(error),
            };
            // As if no process had had them.
            taken.into_iter().for_each(crate::guard::OwnedSharedLockGuard::give_back);
            answers.fill(refusal);
            return;
        }
        for ((ask, answer), guard) in asks.iter().zip(answers).zip(taken) {
            *answer = self.keep(ask.id, Permit::held(guard));
        }
    }

    /// Takes a key now, or as soon as the process that keeps it has given it back.
    fn try_one(
        &self,
        ask: &Ask<'_>,
        deadline: Instant,
    ) -> Result<Option<crate::guard::OwnedSharedLockGuard>, TierError> {
        self.check_term(ask.term)?;
        let core = self.table.core();
        let take = || {
            let key = self.table.prepare_owned(ask.key)?;
            let guard = key.try_acquire(ask.mode, ask.owner)?;
            let slot = find(&core.region, self.table.fingerprint(ask.key)?);
            if guard.is_some() || !slot.is_some_and(|slot| recall::is_kept(&core.region, core.me, slot)) {
                return Ok(guard);
            }
            key.acquire_while(ask.mode, ask.owner, Some(deadline), &mut || true)
        };
        take().map_err(|error: ShmError| explained(&error))
    }

    pub(super) fn withdraw(&self, id: PermitId) {
        let mut permits = lock(&self.permits);
        let permit = match permits.get(&id) {
            // The grant came first, and so does its event.
            Some(Permit::Held(_)) => return,
            _ => permits.remove(&id),
        };
        drop(permits);
        drop(permit);
        self.dues.push(Due::Withdrawn(id));
    }

    pub(super) fn give_back(&self, id: PermitId) {
        let permit = lock(&self.permits).remove(&id);
        drop(permit);
    }

    /// Has the next holder of a permit's key informed of a death.
    pub(super) fn death_unreported(&self, id: PermitId) {
        let held = match lock(&self.permits).get_mut(&id) {
            Some(Permit::Held(held)) => {
                held.has_reported = false;
                Some(held.print)
            }
            _ => None,
        };
        let lost = lock(&self.lost_deaths).remove(&id);
        if let Some(print) = held.or(lost) {
            report_death(self.table.core(), print);
        }
    }

    pub(super) fn downgrade(&self, id: PermitId) {
        let mut permits = lock(&self.permits);
        if let Some(Permit::Held(Held { guard, .. })) = permits.get_mut(&id) {
            // A hold that was revoked is lost, which the thread finds.
            let _ = guard.downgrade();
        }
        drop(permits);
        self.dues.ring();
    }

    /// Makes a shared permit exclusive.
    ///
    /// Not if another process uses the key or waits for it. Those that only keep it are asked to give it back.
    pub(super) fn upgrade(&self, id: PermitId, term: Term) -> Answer {
        if let Err(error) = self.check_term(term) {
            return Answer::Failed(error);
        }
        let core = self.table.core();
        let slot = match lock(&self.permits).get(&id) {
            Some(Permit::Held(held)) => held.guard.slot(),
            _ => return Answer::Failed(TierError::term_over()),
        };
        let first = self.upgrade_now(id);
        if first != Answer::Busy || !recall::is_kept(&core.region, core.me, slot) {
            return first;
        }
        let _one = lock(&self.upgrading);
        let deadline = Instant::now() + HAND_OVER;
        recall::want_for_upgrade(&core.region, core.me, Some(slot));
        let answer = loop {
            let answer = self.upgrade_now(id);
            if answer != Answer::Busy || Instant::now() >= deadline {
                break answer;
            }
            std::thread::sleep(UPGRADE_LOOK);
        };
        recall::want_for_upgrade(&core.region, core.me, None);
        answer
    }

    fn upgrade_now(&self, id: PermitId) -> Answer {
        let mut permits = lock(&self.permits);
        let Some(Permit::Held(held)) = permits.get_mut(&id) else {
            return Answer::Failed(TierError::term_over());
        };
        match held.guard.try_upgrade() {
            Ok(()) => granted(held),
            Err(ShmError::UpgradeConflict { .. }) => Answer::Busy,
            Err(error) => Answer::Failed(explained(&error)),
        }
    }

    fn run(&self) {
        crate::watch::block_signals();
        let core = self.table.core();
        let bell = &core.region.member(core.me).recall_bell;
        let mut is_lost = false;
        loop {
            // Pairs with: who rings. Read before anything is looked at.
            let seen = bell.load(Ordering::SeqCst);
            if self.closing.load(Ordering::SeqCst) {
                return;
            }
            if !is_lost && core.check().is_err() {
                is_lost = true;
                self.event(|events| events.all_lost(TERM));
                // Requests that come, and those that wait, ask again and get the reason.
                self.event(|events| events.renewed(AFTER));
            }
            for due in self.dues.take() {
                match due {
                    Due::Withdrawn(id) => self.event(|events| events.withdrawn(id)),
                    Due::Poll(id) => self.poll(id),
                }
            }
            self.recall();
            futex::wait(bell, seen, Some(LOOK));
        }
    }

    fn event(&self, call: impl FnOnce(&dyn TierEvents)) {
        let events = lock(&self.events).clone();
        if let Some(events) = events {
            call(&*events);
        }
    }

    fn poll(&self, id: PermitId) {
        let mut permits = lock(&self.permits);
        // One that is held was answered before.
        let answer = match permits.get(&id) {
            Some(Permit::Waits(_)) => self.look(&mut permits, id),
            _ => None,
        };
        drop(permits);
        if let Some(answer) = answer {
            self.event(|events| events.answered(id, answer));
        }
    }

    /// Recalls what other processes wait for, and the oldest of too many.
    fn recall(&self) {
        let (mut recalled, mut lost) = (Vec::new(), Vec::new());
        let core = self.table.core();
        let alone = recall::wanted_alone(&core.region, core.me);
        let mut permits = lock(&self.permits);
        let mut excess = permits.len().saturating_sub(self.most);
        let is_sound = core.is_sound();
        for (id, permit) in permits.iter_mut() {
            let Permit::Held(Held { guard, print, is_excess, .. }) = permit else { continue };
            let is_oldest = excess > 0;
            excess = excess.saturating_sub(1);
            if is_sound && !guard.is_valid() {
                lost.push((*id, guard.previous_holder_died().then_some(*print)));
            } else if is_oldest && !*is_excess {
                *is_excess = true;
                recalled.push((*id, Mode::Exclusive));
            } else if let Some(wanted) = guard.wanted_as() {
                recalled.push((*id, wanted));
            } else if guard.mode() == Mode::Shared && alone.contains(&guard.slot()) {
                recalled.push((*id, Mode::Exclusive));
            }
        }
        let gone: Vec<_> = lost.iter().map(|(id, _)| permits.remove(id)).collect();
        // Before another thread misses the permit.
        for (id, print) in &lost {
            let Some(print) = print else { continue };
            let mut deaths = lock(&self.lost_deaths);
            deaths.insert(*id, *print);
            if deaths.len() > MOST {
                deaths.pop_first();
            }
        }
        drop(permits);
        drop(gone);
        for (id, _) in lost {
            self.event(|events| events.lost(id));
        }
        for (id, wanted) in recalled {
            self.event(|events| events.recalled(id, wanted));
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("table", &self.table).finish_non_exhaustive()
    }
}
