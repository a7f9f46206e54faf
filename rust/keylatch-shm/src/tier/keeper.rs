//! The permits of one process, and the thread that gives them back when others wait.

use super::explain::explained;
use super::permit::{AFTER, Alarm, Asking, Due, Dues, Held, Permit, TERM, granted, upgraded};
use crate::death;
use crate::error::ShmError;
use crate::guard::OwnedSharedLockGuard;
use crate::handle::SharedTable;
use crate::lookup::{self, Fingerprint, find};
use crate::mutex::lock;
use crate::os::futex;
use crate::prepared::OwnedPreparedKey;
use crate::protocol::load;
use crate::recall;
use crate::wait::recover_or_recall;
use keylatch::tier::{Answer, Ask, PermitId, Term, TierError, TierErrorKind, TierEvents};
use keylatch::{BlockedSignals, Mode};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Rechecks of a request between two looks of the thread without a reason.
///
/// It looks whether the table is sound.
const LOOK: u32 = 10;

/// How long others have to give back what they only keep.
///
/// For requests that do not wait, and upgrades.
const HAND_OVER: Duration = Duration::from_millis(2);
/// How often the caller looks whether they have.
const HAND_OVER_LOOK: Duration = Duration::from_micros(50);

/// Looks after which those that keep it are asked again.
const LOOKS_A_WISH: u32 = 4;

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
    /// The process wishes for one slot at a time.
    wishing: Mutex<()>,
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
            wishing: Mutex::default(),
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
        // The program's signal handlers are kept off the thread.
        let _blocked = BlockedSignals::all_but_faults();
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
        if let Some(guard) = self.take_now(&key, ask)? {
            return Ok(self.keep(ask.id, guard));
        }
        let asking = Box::pin(key.acquire_until(ask.mode, ask.owner, None));
        lock(&self.permits).insert(ask.id, Permit::Looked { again: false });
        Ok(self.look(ask.id, asking).unwrap_or(Answer::Pending))
    }

    /// Enters a permit; returns its answer.
    fn keep(&self, id: PermitId, guard: OwnedSharedLockGuard) -> Answer {
        let mut permits = lock(&self.permits);
        let mut held = Held::new(guard);
        let answer = granted(&mut held);
        permits.insert(id, Permit::Held(held));
        self.ring_if_due(permits, id);
        answer
    }

    /// Has the thread look at a new permit, if it may have looked too early.
    fn ring_if_due(&self, permits: MutexGuard<'_, BTreeMap<PermitId, Permit>>, id: PermitId) {
        let is_due = match permits.get(&id) {
            // A revoker rings before this look, or after it.
            Some(Permit::Held(held)) => held.guard.wanted_as().is_some() || !held.guard.is_valid(),
            _ => false,
        };
        let is_due = is_due || permits.len() > self.most;
        drop(permits);
        if is_due {
            self.dues.ring();
        }
    }

    /// Looks whether an ask has its answer; it is held then, or gone.
    ///
    /// The look may wait for the insertion of the key, so that no mutex is held. The ask is [`Permit::Looked`] meanwhile.
    fn look(&self, id: PermitId, mut asking: Asking) -> Option<Answer> {
        loop {
            let waker = Waker::from(Arc::new(Alarm { id, dues: Arc::clone(&self.dues) }));
            let looked = asking.as_mut().poll(&mut Context::from_waker(&waker));
            let mut permits = lock(&self.permits);
            let Some(permit) = permits.get_mut(&id) else {
                drop(permits);
                // It was withdrawn: no caller has what has come.
                if let Poll::Ready(Ok(Some(guard))) = looked {
                    guard.give_back();
                }
                return None;
            };
            let failed = match looked {
                Poll::Pending if matches!(permit, Permit::Looked { again: true }) => {
                    *permit = Permit::Looked { again: false };
                    continue;
                }
                Poll::Pending => {
                    *permit = Permit::Waits(asking);
                    return None;
                }
                Poll::Ready(Ok(Some(guard))) => {
                    let mut held = Held::new(guard);
                    let answer = granted(&mut held);
                    *permit = Permit::Held(held);
                    self.ring_if_due(permits, id);
                    return Some(answer);
                }
                // An ask without a deadline is not late.
                Poll::Ready(Ok(None)) => ShmError::Closed,
                Poll::Ready(Err(error)) => error,
            };
            permits.remove(&id);
            return Some(Answer::Failed(explained(&failed)));
        }
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
            taken.into_iter().for_each(OwnedSharedLockGuard::give_back);
            answers.fill(refusal);
            return;
        }
        for ((ask, answer), guard) in asks.iter().zip(answers).zip(taken) {
            *answer = self.keep(ask.id, guard);
        }
    }

    /// Takes a key now, or as soon as the process that keeps it has given it back.
    ///
    /// Nothing stands in the word meanwhile that bars others.
    fn try_one(&self, ask: &Ask<'_>, deadline: Instant) -> Result<Option<OwnedSharedLockGuard>, TierError> {
        self.check_term(ask.term)?;
        let core = self.table.core();
        let take = || {
            let key = self.table.prepare_owned(ask.key)?;
            let guard = self.take_now(&key, ask)?;
            let slot = find(&core.region, self.table.fingerprint(ask.key)?);
            match slot.filter(|slot| guard.is_none() && recall::is_kept(&core.region, core.me, *slot)) {
                Some(slot) => {
                    let again = || key.try_acquire(ask.mode, ask.owner).transpose();
                    self.wish(slot, ask.mode, deadline, again).transpose()
                }
                None => Ok(guard),
            }
        };
        take().map_err(|error: ShmError| explained(&error))
    }

    /// Takes a key now, if it is free.
    ///
    /// A key that finds no room has permits given back that no thread may need.
    fn take_now(&self, key: &OwnedPreparedKey, ask: &Ask<'_>) -> Result<Option<OwnedSharedLockGuard>, ShmError> {
        let again = || match key.try_acquire(ask.mode, ask.owner) {
            Err(ShmError::TableFull { .. }) => None,
            taken => Some(taken),
        };
        if let Some(taken) = again() {
            return taken;
        }
        let (deadline, core) = (Instant::now() + HAND_OVER, self.table.core());
        let slots = lookup::slots(&core.region, self.table.fingerprint(ask.key)?);
        for id in self.permits_of(&slots) {
            self.event(|events| events.recalled(id, Mode::Exclusive));
        }
        if let Some(taken) = again() {
            return taken;
        }
        for slot in slots.into_iter().filter(|slot| recall::is_kept(&core.region, core.me, *slot)) {
            // What its process uses is not given back soon: each has a part of the time.
            let deadline = deadline.min(Instant::now() + HAND_OVER / 4);
            if let Some(taken) = self.wish(slot, Mode::Exclusive, deadline, again) {
                return taken;
            }
        }
        key.try_acquire(ask.mode, ask.owner)
    }

    fn permits_of(&self, slots: &[u32]) -> Vec<PermitId> {
        let permits = lock(&self.permits);
        let is_one = |permit: &Permit| matches!(permit, Permit::Held(held) if slots.contains(&held.guard.slot()));
        permits.iter().filter(|(_, permit)| is_one(permit)).map(|(id, _)| *id).collect()
    }

    /// Asks the processes that keep a slot for it.
    ///
    /// Returns what `take` gets, or `None` when the time is over.
    fn wish<T>(&self, slot: u32, mode: Mode, deadline: Instant, mut take: impl FnMut() -> Option<T>) -> Option<T> {
        let is_over = || Instant::now() >= deadline;
        let _one = loop {
            match self.wishing.try_lock() {
                Ok(one) => break one,
                Err(TryLockError::Poisoned(one)) => break one.into_inner(),
                Err(TryLockError::WouldBlock) if is_over() => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(HAND_OVER_LOOK),
            }
        };
        let core = self.table.core();
        let (mut asked, mut looks) = (None, 0_u32);
        let taken = loop {
            // Another process may have got it, and keep it: also one that had it before, whose word is the same.
            let word = load(&core.region, slot);
            if asked.replace(word) != Some(word) || looks.is_multiple_of(LOOKS_A_WISH) {
                recall::wish(&core.region, core.me, slot, mode, HAND_OVER);
            }
            looks += 1;
            std::thread::sleep(HAND_OVER_LOOK);
            match take() {
                None if !is_over() => {}
                taken => break taken,
            }
        };
        recall::end_wish(&core.region, core.me);
        taken
    }

    pub(super) fn withdraw(&self, id: PermitId) {
        let mut permits = lock(&self.permits);
        let permit = match permits.get_mut(&id) {
            Some(Permit::Held(held)) if held.upgrades => {
                held.guard.end_upgrade(&mut held.upgrades);
                None
            }
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
        let region = &self.table.core().region;
        if let Some(Permit::Held(held)) = lock(&self.permits).get_mut(&id) {
            held.has_reported = false;
            death::mark(region, held.guard.slot());
            // A hold that stands keeps its key in the entry.
            if !held.guard.is_valid() {
                death::report(region, held.print);
            }
        }
        let lost = lock(&self.lost_deaths).remove(&id);
        if let Some(print) = lost {
            death::report(region, print);
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

    /// Makes a shared permit exclusive, ahead of all that wait.
    ///
    /// Waits for those that share the key.
    pub(super) fn upgrade(&self, id: PermitId, term: Term) -> Answer {
        if let Err(error) = self.check_term(term) {
            return Answer::Failed(error);
        }
        let looked = match lock(&self.permits).get_mut(&id) {
            Some(Permit::Held(held)) => upgraded(held),
            _ => Ok(Answer::Failed(TierError::term_over())),
        };
        looked.unwrap_or_else(|_| {
            // The thread recovers who is dead, has the others give it back, and sleeps less long.
            self.dues.ring();
            Answer::Pending
        })
    }

    /// Makes a shared permit exclusive now.
    ///
    /// Not if another process uses the key or waits for it. Those that only keep it are asked to give it back.
    pub(super) fn try_upgrade(&self, id: PermitId, term: Term) -> Answer {
        let deadline = Instant::now() + HAND_OVER;
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
        let answered = || Some(self.upgrade_now(id)).filter(|answer| *answer != Answer::Busy);
        self.wish(slot, Mode::Exclusive, deadline, answered).unwrap_or(Answer::Busy)
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
            let waits = self.look_at_upgrades();
            self.recall();
            futex::wait(bell, seen, Some(if waits { core.recheck() } else { core.recheck() * LOOK }));
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
        let Some(permit) = permits.get_mut(&id) else { return };
        let asking = match permit {
            // It was answered before.
            Permit::Held(_) => return,
            Permit::Looked { again } => {
                *again = true;
                return;
            }
            Permit::Waits(_) => std::mem::replace(permit, Permit::Looked { again: false }),
        };
        drop(permits);
        let Permit::Waits(asking) = asking else { return };
        if let Some(answer) = self.look(id, asking) {
            self.event(|events| events.answered(id, answer));
        }
    }

    /// Answers the upgrades that are done; says whether others wait.
    fn look_at_upgrades(&self) -> bool {
        let (mut answers, mut waits) = (Vec::new(), Vec::new());
        for (id, permit) in lock(&self.permits).iter_mut() {
            let Permit::Held(held) = permit else { continue };
            if held.upgrades {
                match upgraded(held) {
                    Ok(answer) => answers.push((*id, answer)),
                    Err(in_the_way) => waits.push(in_the_way),
                }
            }
        }
        for (slot, word) in &waits {
            // The loss of the table is noticed by the next look.
            if recover_or_recall(self.table.core(), *slot, *word).unwrap_or(false) {
                self.dues.ring();
            }
        }
        for (id, answer) in answers {
            self.event(|events| events.answered(id, answer));
        }
        !waits.is_empty()
    }

    /// Recalls what other processes wait for, and the oldest of too many.
    fn recall(&self) {
        let (mut recalled, mut lost) = (Vec::new(), Vec::new());
        let core = self.table.core();
        let wishes = recall::wishes(&core.region, core.me);
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
            } else if let Some(wished) = wished_as(&wishes, guard.slot(), guard.mode()) {
                recalled.push((*id, wished));
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

/// How other processes wish for a slot, if this hold is in their way.
fn wished_as(wishes: &[(u32, Mode)], slot: u32, held: Mode) -> Option<Mode> {
    let mut modes = wishes.iter().filter(|wish| wish.0 == slot).map(|wish| wish.1);
    modes.find(|mode| held == Mode::Exclusive || *mode == Mode::Exclusive)
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("table", &self.table).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::TableConfig;
    use std::os::fd::AsFd;

    #[test]
    fn wish_is_heard_by_who_keeps_it_again() {
        let table = SharedTable::memfd("wishes", &TableConfig::default().keys(8).members(2)).expect("a table");
        let other = table.as_fd().try_clone_to_owned().expect("a descriptor");
        let other = SharedTable::from_fd(other, &TableConfig::default()).expect("a table");
        let guard = other.prepare_owned(("photos", "cat.jpg")).expect("a key").try_acquire(Mode::Exclusive, "");
        let guard = guard.expect("sound").expect("free");
        let keeper = &table.core().region.member(other.core().me);
        keeper.keeps.store(1, Ordering::SeqCst);
        // The word is the same at each look.
        let (mut looks, begun) = (0, keeper.recall_bell.load(Ordering::SeqCst));
        let taken = Keeper::new(table.clone()).wish(
            guard.slot(),
            Mode::Exclusive,
            Instant::now() + Duration::from_secs(60),
            || {
                looks += 1;
                (looks > 2 * LOOKS_A_WISH).then_some(())
            },
        );
        assert!(taken.is_some());
        assert!(keeper.recall_bell.load(Ordering::SeqCst) - begun >= 2, "it is rung again");
        keeper.keeps.store(0, Ordering::SeqCst);
    }

    #[test]
    fn permit_revoked_before_its_entry_is_looked_at() {
        let table = SharedTable::memfd("keeper", &TableConfig::default().keys(8).members(1)).expect("a table");
        let guard = table.prepare_owned(("photos", "cat.jpg")).expect("a key").try_acquire(Mode::Exclusive, "");
        let guard = guard.expect("sound").expect("free");
        let keeper = Keeper::new(table.clone());
        let bell = || table.core().region.member(table.core().me).recall_bell.load(Ordering::SeqCst);
        // The thread has heard of it, and found no permit.
        assert_eq!(table.revoke(guard.id()).ok(), Some(true));
        let heard = bell();
        keeper.keep(PermitId::from_raw(1).expect("not 0"), guard);
        assert_ne!(bell(), heard, "it looks once more");
    }
}
