//! Permits of a tier, where the paths of a request meet them.
//!
//! A permit is entry data: it changes under the shard's mutex, and `settle` in [`super::hand_off`], to which everything
//! comes that could let a waiter go on, also finds out which call to the tier is due. The call is made after the mutex is
//! released, by the thread that found it due; then the thread takes the mutex again and looks again.
//!
//! What the fast path may do is in the word's bars. So the order is: set the bars, look at the word, decide.

use super::core::Core;
use super::local::Local;
use super::tiered::Tiered;
use crate::error::{Holder, Holders, LockError};
use crate::hold::Grant;
use crate::key::ObjectKey;
use crate::mode::Mode;
use crate::sync::atomic::Ordering;
use crate::table::{Entry, LockedShard, Word};
use crate::tier::permit::{Allowed, Call, Ended, First, Outcome, Permit, View};
use crate::tier::{Answer, Ask, PermitId, Tier, TierError};
use crate::wait::{Phase, Waiter, Wakeup, without_panic};
use std::sync::Arc;
use std::time::Duration;

/// Who is named as the holder of a lock that the tier does not permit.
const ANOTHER_PROCESS: &str = "(another process)";

/// A call to the tier, and what it is about.
pub(crate) struct DueCall {
    call: Call,
    /// Key and owner, for an ask.
    about: Option<(ObjectKey, Arc<str>)>,
}

/// A waiter whose wait has ended, to be informed off the mutex.
pub(crate) type EndedWait = (u32, Wakeup);
pub(crate) type EndedWaits = Vec<EndedWait>;

impl Core {
    #[inline]
    pub(crate) fn tiered(&self) -> Option<&Tiered> {
        self.tiered.as_deref()
    }

    /// What the fast path may do with a key that has just been brought in.
    pub(crate) fn opens_to(&self) -> Option<Mode> {
        if self.tiered().is_some() { None } else { Some(Mode::Exclusive) }
    }

    /// What may be granted to those who wait for an entry. The caller owns the shard.
    pub(crate) fn allowed(&self, shard: &LockedShard<'_>, index: u32, now: u64) -> Allowed {
        match self.tiered() {
            None => Allowed::ALL,
            Some(tiered) => self.by_permit(tiered, shard, index, |permit| permit.allowed(now)),
        }
    }

    /// What the permit of an entry allows, after its fences were looked at.
    ///
    /// A hold of the fast path that took the last one may have been revoked before it was noted.
    fn by_permit(
        &self,
        tiered: &Tiered,
        shard: &LockedShard<'_>,
        index: u32,
        allowed: impl FnOnce(&Permit) -> Allowed,
    ) -> Allowed {
        match tiered.permits(shard.index()).get_mut(&index) {
            None => Allowed::NOTHING,
            Some(permit) => {
                permit.note_fence(tiered.is_last_fence(index, self.table.entry(index).fence()));
                allowed(permit)
            }
        }
    }

    /// Whether the permit lets a newcomer take an entry in this mode.
    pub(crate) fn admits_newcomer(&self, shard: &LockedShard<'_>, index: u32, mode: Mode) -> bool {
        let Some(tiered) = self.tiered() else { return true };
        let allowed = self.by_permit(tiered, shard, index, Permit::allowed_to_newcomers);
        allowed.admits(mode) && allowed.left > 0
    }

    /// Whether the permit covers a further hold of an owner that has one.
    pub(crate) fn covers(&self, shard: &LockedShard<'_>, index: u32, mode: Mode) -> bool {
        let Some(tiered) = self.tiered() else { return true };
        tiered.permits(shard.index()).get(&index).is_some_and(|permit| permit.covers(mode))
    }

    /// Whether a sole reader may become the writer without the tier.
    pub(crate) fn lets_upgrade(&self, shard: &LockedShard<'_>, index: u32) -> bool {
        self.allowed(shard, index, 0).upgrade
    }

    /// Whether what is held of an entry has lost its permit.
    ///
    /// The caller owns the shard.
    pub(crate) fn has_lost_permit(&self, shard: &LockedShard<'_>, index: u32) -> bool {
        let Some(tiered) = self.tiered() else { return false };
        tiered.permits(shard.index()).get(&index).is_some_and(Permit::is_lost)
    }

    /// Whether a request that does not wait for others may wait for the tier's answer.
    ///
    /// The caller owns the shard.
    pub(crate) fn may_try_tier(&self, shard: &LockedShard<'_>, index: u32, entry: &Entry) -> bool {
        let Some(tiered) = self.tiered() else { return false };
        let can_try = || tiered.permits(shard.index()).get(&index).is_none_or(Permit::can_try);
        self.queue(entry).is_empty() && !self.is_closed() && can_try()
    }

    /// Notes that a hold was granted under the mutex which the caller has.
    ///
    /// The word counts it, and it is on record.
    pub(crate) fn note_served(&self, shard: u32, (index, entry): (u32, &Entry), record: u32, mode: Mode) {
        if let Some(tiered) = self.tiered() {
            self.note_served_slow(tiered, shard, (index, entry), record, mode);
        }
    }

    #[cold]
    fn note_served_slow(&self, tiered: &Tiered, shard: u32, (index, entry): (u32, &Entry), record: u32, mode: Mode) {
        let mut permits = tiered.permits(shard);
        let Some(permit) = permits.get_mut(&index) else { return };
        let used_up = mode == Mode::Exclusive && tiered.is_last_fence(index, entry.fence());
        if permit.serve(used_up) {
            self.records.get(record).mark_died();
        }
        self.set_bars(entry, permit);
    }

    /// Has the fast path do what the permit allows.
    ///
    /// Returns the word. The caller owns the shard.
    fn set_bars(&self, entry: &Entry, permit: &Permit) -> Word {
        let opens_to = permit.opens_to(self.first_waiter(entry, false), self.is_closed());
        let mut seen = entry.word();
        loop {
            let barred = seen.open_to(opens_to).with_evict(opens_to.is_none());
            if barred == seen {
                return seen;
            }
            match entry.swap(seen, barred) {
                Ok(()) => return barred,
                Err(now) => seen = now,
            }
        }
    }

    /// The first waiter, as the permit sees it.
    ///
    /// It `rises` if its session alone shares the lock.
    fn first_waiter(&self, entry: &Entry, rises: bool) -> Option<First> {
        let (_, first) = self.queue(entry).first()?;
        let asking = first.asking();
        let alone = rises || (asking.upgrade && entry.word().readers() == 1);
        Some(First { mode: asking.mode, tries: asking.tries, upgrades: asking.goes_first(), alone })
    }

    /// Finds out which call to the tier is due, and which waiter is refused.
    ///
    /// After the waiters that can be served were. The caller owns the shard.
    pub(crate) fn settle_permit(
        &self,
        tiered: &Tiered,
        shard: &mut LockedShard<'_>,
        (index, entry): (u32, &Entry),
        rises: bool,
    ) -> (Option<DueCall>, Option<EndedWait>) {
        let mut permits = tiered.permits(shard.index());
        let has_waiters = !self.queue(entry).is_empty();
        if has_waiters && !self.is_closed() && !permits.contains_key(&index) {
            permits.insert(index, Permit::wish(tiered.fresh(index)));
            shard.begin_permit(index);
        }
        let Some(permit) = permits.get_mut(&index) else { return (None, None) };
        // A hold that was revoked may have raised the fence.
        permit.note_fence(tiered.is_last_fence(index, entry.fence()));
        // First barred, then looked at.
        let word = self.set_bars(entry, permit);
        let view = View {
            free: word.is_free(),
            written: word.is_exclusive(),
            first: self.first_waiter(entry, rises),
            closed: self.is_closed(),
            present: tiered.present(),
        };
        let call = permit.next_call(&view, || tiered.fresh(index));
        let refused = view.first.is_some_and(|first| first.tries) && !permit.tries();
        let problem = permit.is_lost().then(TierError::no_term);
        let is_over = permit.is_over() && !has_waiters;
        if is_over {
            permits.remove(&index);
        }
        drop(permits);
        if is_over {
            shard.end_permit(index);
        }
        let refused = if refused { self.refuse_first(shard, entry, problem) } else { None };
        if let Some(Call::Ask { .. }) = call {
            self.call_back_notified(entry);
        }
        (call.map(|call| self.describe(call, entry)), refused)
    }

    /// Has a waiter that was notified under a permit that is gone wait again.
    fn call_back_notified(&self, entry: &Entry) {
        if let Some((_, first)) = self.queue(entry).first()
            && first.phase() == Phase::Notified
        {
            first.advance(Phase::Waiting);
        }
    }

    fn describe(&self, call: Call, entry: &Entry) -> DueCall {
        let about = matches!(call, Call::Ask { .. }).then(|| {
            let owner = self.queue(entry).first().map_or(0, |(_, first)| first.owner.load(Ordering::Relaxed));
            (entry.key(self.table.arena()), self.owner_name(owner))
        });
        DueCall { call, about }
    }

    /// Makes a call. Off every mutex.
    ///
    /// A tier that panics has failed: the entry must not wait for the end of its call.
    fn make_call(&self, tiered: &Tiered, due: &DueCall) -> Option<(PermitId, Answer)> {
        without_panic(|| self.call(tiered, due)).unwrap_or_else(|| {
            let failed = |id| (id, Answer::Failed(TierError::panicked()));
            match due.call {
                Call::Ask { id, .. } | Call::Upgrade { id, .. } => Some(failed(id)),
                _ => None,
            }
        })
    }

    fn call(&self, tiered: &Tiered, due: &DueCall) -> Option<(PermitId, Answer)> {
        let tier = tiered.tier();
        match due.call {
            Call::Ask { id, mode, term, replaces, effort } => {
                let (key, owner) = due.about.as_ref().map(|(key, owner)| (key.as_ref(), &**owner))?;
                let replaces = replaces.map(|ended| end_permit(tier, ended));
                let (ask, mut answers) = ([Ask { id, key, mode, term, replaces, owner }], [Answer::Pending]);
                tier.ask(&ask, effort, &mut answers);
                let [answer] = answers;
                return Some((id, answer));
            }
            Call::Upgrade { id, term, effort } => return Some((id, tier.upgrade(id, term, effort))),
            Call::Withdraw(id) => tier.withdraw(id),
            Call::GiveBack(ended) => tier.give_back(end_permit(tier, ended)),
            Call::Unreported(id) => tier.death_unreported(id),
            Call::Downgrade(id) => tier.downgrade(id),
        }
        None
    }

    /// Makes a call that is due for an entry, and takes its answer in.
    ///
    /// Off every mutex; returns the shard's.
    ///
    /// The entry keeps its key: it has a permit, or a call out.
    #[cold]
    pub(crate) fn call_tier(
        &self,
        tiered: &Tiered,
        due: &DueCall,
        (index, entry): (u32, &Entry),
        hash: u64,
    ) -> (LockedShard<'_>, EndedWaits) {
        let answer = self.make_call(tiered, due);
        let mut shard = self.lock_shard(hash);
        let ended = match answer {
            Some((id, answer)) if answer != Answer::Pending => {
                self.take_answer(tiered, &mut shard, (index, entry), id, answer)
            }
            _ => Vec::new(),
        };
        if let Some(permit) = tiered.permits(shard.index()).get_mut(&index) {
            permit.called();
        }
        (shard, ended)
    }

    /// Takes in an answer to an ask or upgrade of an entry.
    ///
    /// The caller owns the shard, and settles it afterwards.
    pub(crate) fn take_answer(
        &self,
        tiered: &Tiered,
        shard: &mut LockedShard<'_>,
        (index, entry): (u32, &Entry),
        id: PermitId,
        answer: Answer,
    ) -> EndedWaits {
        let (now, renewals) = (self.now(), tiered.present().renewals);
        let outcome = match tiered.permits(shard.index()).get_mut(&index) {
            Some(permit) => permit.answered(id, answer, now, renewals),
            None => Outcome::Nothing,
        };
        let first = self.first_waiter(entry, false);
        let tries = first.is_some_and(|first| first.tries);
        let waits_alone = first.is_some_and(|first| first.tries || first.upgrades);
        match outcome {
            Outcome::Nothing => Vec::new(),
            Outcome::Granted { fences, anew } => {
                // Barred, and no thread holds it exclusively: the next exclusive hold gets the first number.
                if fences.first > 0 {
                    entry.set_fence(fences.first - 1);
                }
                tiered.set_fences(index, fences);
                if anew {
                    tiered.permits(shard.index()).keep(index, id);
                }
                Vec::new()
            }
            Outcome::Busy if tries => self.refuse_first(shard, entry, None).into_iter().collect(),
            Outcome::Conflict if waits_alone => self.refuse_upgrade(shard, (index, entry)).into_iter().collect(),
            Outcome::FailsTries(error) if tries => self.refuse_first(shard, entry, Some(error)).into_iter().collect(),
            Outcome::FailsUpgrade(error) if waits_alone => {
                self.refuse_first(shard, entry, Some(error)).into_iter().collect()
            }
            Outcome::FailsAll(error) => {
                std::iter::from_fn(|| self.refuse_first(shard, entry, Some(error.clone()))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Informs waiters whose wait has ended. Off every mutex.
    pub(crate) fn deliver_ended(&self, ended: EndedWaits) {
        for (index, answer) in ended {
            self.deliver(index, answer);
        }
    }

    /// Ends the wait of the first in line, because the tier says no, or why it cannot.
    fn refuse_first(&self, shard: &mut LockedShard<'_>, entry: &Entry, error: Option<TierError>) -> Option<EndedWait> {
        let (waiter_index, first) = self.queue(entry).first()?;
        let error = match error {
            Some(error) => LockError::Tier { error },
            None => self.would_block(entry, first),
        };
        first.explain(error);
        Some((waiter_index, self.end_wait(shard, entry, first, Phase::Refused)))
    }

    fn would_block(&self, entry: &Entry, waiter: &Waiter) -> LockError {
        let key = entry.key(self.table.arena());
        let index = waiter.entry.load(Ordering::Relaxed);
        LockError::WouldBlock { key, holders: self.holders(index, entry) }
    }

    /// Ends the wait of the first in line: another process upgrades first.
    fn refuse_upgrade(&self, shard: &mut LockedShard<'_>, (index, entry): (u32, &Entry)) -> Option<EndedWait> {
        let (waiter_index, first) = self.queue(entry).first()?;
        let own = first.record.load(Ordering::Relaxed);
        let mut holders = self.holders_beside(index, entry, own);
        holders.named.push(another_process(Mode::Shared));
        first.explain(LockError::UpgradeConflict { key: entry.key(self.table.arena()), holders });
        Some((waiter_index, self.end_wait(shard, entry, first, Phase::Refused)))
    }

    /// Who holds a lock that no other thread of this process holds.
    ///
    /// Another process, if the tier does not permit it.
    pub(crate) fn other_process(&self, word: Word) -> Holders {
        let named = word.is_barred().then(|| another_process(Mode::Exclusive)).into_iter().collect();
        Holders { named, more: 0 }
    }

    /// Gives a hold up if the tier does not vouch for it.
    #[inline]
    pub(crate) fn check_term(&self, grant: Grant) -> Result<Grant, LockError> {
        match self.tiered() {
            Some(tiered) if !tiered.tier().is_current() => {
                self.give_up_grant(tiered, grant);
                Err(LockError::Tier { error: TierError::term_over() })
            }
            _ => Ok(grant),
        }
    }

    /// Ends a hold that was granted in a term which is over.
    #[cold]
    pub(crate) fn give_up_grant(&self, tiered: &Tiered, grant: Grant) {
        // Read before the flag is: if the flag says that a term is over, it is this one or one before it.
        let term = tiered.last_term();
        self.give_back_taken(grant);
        // The tier says so as well, and later.
        if let Some(term) = term
            && !tiered.tier().is_current()
        {
            self.lose_term(tiered, term);
        }
    }

    /// Releases a hold that is not known outside yet.
    #[cold]
    pub(crate) fn give_back_taken(&self, grant: Grant) {
        // A loose one is taken as a guard would.
        let _ = self.records.get(grant.index()).adopt(grant);
        self.release_unseen(grant);
    }

    /// Releases the hold of a guard that its caller did not get.
    ///
    /// The next holder is informed of a death in its place.
    #[cold]
    pub(crate) fn release_unseen(&self, grant: Grant) {
        let record = self.records.get(grant.index());
        if let Some(tiered) = self.tiered()
            && record.follows_death(grant)
            && !self.is_forked()
            && let Some((index, _)) = record.seen_by_guard(grant)
            && let Some((shard, entry, _)) = self.lock_permitted(tiered, index, |_| true)
            && record.lost(grant).is_none()
        {
            self.pass_death_on(&shard, (index, entry), grant);
        }
        self.release_guard(grant);
    }

    /// Has the next holder informed of the death that follows this grant, if any.
    ///
    /// That one may leave without having repaired what the lock protects. The caller owns the shard.
    pub(crate) fn pass_death_on(&self, shard: &LockedShard<'_>, (index, entry): (u32, &Entry), grant: Grant) {
        if let Some(tiered) = self.tiered()
            && self.records.get(grant.index()).follows_death(grant)
            && let Some(permit) = tiered.permits(shard.index()).get_mut(&index)
        {
            permit.follows_death();
            self.set_bars(entry, permit);
        }
    }

    /// Gives idle permits of a shard back, beyond those that it keeps.
    ///
    /// Off every mutex.
    pub(crate) fn trim_permits(&self, local: &Local, shard: u32) {
        let Some(tiered) = self.tiered() else { return };
        for (index, id) in tiered.to_look_at(shard) {
            if !self.dismiss_if_idle(tiered, local, index, |permit| permit.id() == id) {
                tiered.permits(shard).keep(index, id);
            }
        }
    }

    /// Gives all idle permits back. Off every mutex.
    pub(crate) fn dismiss_idle_permits(&self, local: &Local) {
        let Some(tiered) = self.tiered() else { return };
        for shard in 0..tiered.shards() {
            let indexes: Vec<u32> = {
                let _shard = self.table.lock(shard);
                tiered.permits(shard).keys().copied().collect()
            };
            for index in indexes {
                self.dismiss_if_idle(tiered, local, index, |_| true);
            }
        }
    }

    /// Gives a permit back if it is idle. `false` if it is in use.
    fn dismiss_if_idle(&self, tiered: &Tiered, local: &Local, index: u32, is_it: impl FnOnce(&Permit) -> bool) -> bool {
        let Some((shard, entry, hash)) = self.lock_permitted(tiered, index, is_it) else { return true };
        // It may be taken in this moment; then it goes back after that.
        if !entry.word().is_free() || !self.queue(entry).is_empty() || entry.pinned() > 0 {
            return false;
        }
        let now = self.now();
        if let Some(permit) = tiered.permits(shard.index()).get_mut(&index)
            && permit.is_kept()
        {
            permit.dismiss(now);
        }
        self.grant_waiters_and_unlock(local, shard, index, entry, hash, None);
        true
    }

    /// Locks the shard of an entry that has a permit, if that is the one.
    pub(crate) fn lock_permitted(
        &self,
        tiered: &Tiered,
        index: u32,
        is_it: impl FnOnce(&Permit) -> bool,
    ) -> Option<(LockedShard<'_>, &Entry, u64)> {
        if !self.table.arena().could_be(index) {
            return None;
        }
        let entry = self.table.entry(index);
        let hash = entry.hash();
        let shard = self.lock_shard(hash);
        // While it has a permit its entry keeps its key, so this is the shard; if it is not, there is nothing to do.
        let found = entry.hash() == hash && tiered.permits(shard.index()).get(&index).is_some_and(is_it);
        found.then_some((shard, entry, hash))
    }
}

/// Informs the tier of what a permit that is about to end leaves over.
///
/// A panic there does not keep the permit from its end.
fn end_permit(tier: &dyn Tier, ended: Ended) -> PermitId {
    if ended.unreported {
        without_panic(|| tier.death_unreported(ended.id));
    }
    ended.id
}

fn another_process(mode: Mode) -> Holder {
    let owner = ANOTHER_PROCESS.into();
    Holder { owner, mode, held_for: Duration::ZERO, grant: None, fence: None, lease: None }
}

impl std::fmt::Debug for DueCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.call.fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Mutex;
    use crate::tier::{Effort, Fences, Term, TierEvents};
    use crate::{FastObjectLockManager, LockConfig, LockRequest, Submitted};
    use std::sync::atomic::AtomicBool;

    const GRANTED: Answer = Answer::Granted { fences: Fences { first: 1, count: 100 }, previous_died: false };

    /// Panics in its first ask, and grants all that come after.
    #[derive(Debug, Default)]
    struct Clumsy(AtomicBool);

    impl Tier for Clumsy {
        fn attach(&self, _: Arc<dyn TierEvents>) -> Result<Term, TierError> {
            Ok(Term(0))
        }
        fn ask(&self, _: &[Ask<'_>], _: Effort, answers: &mut [Answer]) {
            assert!(self.0.swap(true, Ordering::Relaxed), "on purpose");
            answers.fill(GRANTED);
        }
        fn withdraw(&self, _: PermitId) {}
        fn give_back(&self, _: PermitId) {}
        fn downgrade(&self, _: PermitId) {}
        fn upgrade(&self, _: PermitId, _: Term, _: Effort) -> Answer {
            Answer::Busy
        }
        fn detach(&self) {}
    }

    #[test]
    fn panic_in_an_ask_fails_the_request() {
        let locks = FastObjectLockManager::with_tier(LockConfig::default(), Arc::<Clumsy>::default()).unwrap();
        let write = LockRequest::write(("b", "o"));
        let failed = locks.lock(write).blocking().unwrap_err();
        assert!(matches!(failed, LockError::Tier { .. }), "{failed}");
        drop(locks.lock(write).blocking().expect("it is asked for anew"));
        assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
    }

    /// Answers when the test says so, and panics in every call that returns nothing.
    #[derive(Debug, Default)]
    struct Slow {
        events: Mutex<Option<Arc<dyn TierEvents>>>,
        asked: Mutex<Vec<PermitId>>,
        given_back: Mutex<Vec<PermitId>>,
    }

    impl Slow {
        /// Returns the number of the last ask or upgrade.
        fn last(&self) -> PermitId {
            *self.asked.lock().last().expect("it was asked")
        }

        fn answer(&self, id: PermitId, answer: Answer) {
            let events = self.events.lock().clone().expect("attached");
            events.answered(id, answer);
        }
    }

    impl Tier for Slow {
        fn attach(&self, events: Arc<dyn TierEvents>) -> Result<Term, TierError> {
            *self.events.lock() = Some(events);
            Ok(Term(0))
        }
        fn ask(&self, asks: &[Ask<'_>], _: Effort, _: &mut [Answer]) {
            self.asked.lock().extend(asks.iter().map(|ask| ask.id));
        }
        fn withdraw(&self, _: PermitId) {
            panic!("on purpose");
        }
        fn death_unreported(&self, _: PermitId) {
            panic!("on purpose");
        }
        fn give_back(&self, id: PermitId) {
            self.given_back.lock().push(id);
            panic!("on purpose");
        }
        fn downgrade(&self, _: PermitId) {
            panic!("on purpose");
        }
        fn upgrade(&self, id: PermitId, _: Term, _: Effort) -> Answer {
            self.asked.lock().push(id);
            Answer::Pending
        }
        fn detach(&self) {}
    }

    fn slow() -> (FastObjectLockManager, Arc<Slow>) {
        let tier = Arc::<Slow>::default();
        (FastObjectLockManager::with_tier(LockConfig::default(), tier.clone()).unwrap(), tier)
    }

    #[test]
    fn panic_in_a_withdrawal_leaves_the_key_usable() {
        let (locks, tier) = slow();
        let write = LockRequest::write(("b", "o"));
        let late = locks.lock(write.timeout(Duration::from_millis(1))).blocking().unwrap_err();
        assert!(matches!(late, LockError::Timeout { .. }), "{late}");
        // The ask is in the tier's line still.
        tier.answer(tier.last(), GRANTED);
        drop(locks.lock(write).blocking().expect("it is permitted"));
        assert_eq!(tier.asked.lock().len(), 1);
        assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
    }

    #[test]
    fn panic_about_a_death_gives_the_permit_back() {
        let (locks, tier) = slow();
        let late = locks.lock(LockRequest::write(("b", "o")).timeout(Duration::from_millis(1))).blocking();
        assert!(late.is_err());
        let id = tier.last();
        tier.answer(id, Answer::Granted { fences: Fences { first: 1, count: 100 }, previous_died: true });
        let events = tier.events.lock().clone().expect("attached");
        events.recalled(id, Mode::Exclusive);
        assert_eq!(*tier.given_back.lock(), [id]);
    }

    /// A queue of completions never blocks the thread that asks.
    #[test]
    fn queued_upgrade_without_time_asks_the_tier() {
        let (locks, tier) = slow();
        let queue = Arc::new(locks.completion_queue().unwrap());
        let Ok(Submitted::Waiting(_)) = locks.lock(LockRequest::read(("b", "o"))).with_queue(&queue, 1) else {
            panic!("the tier answers later")
        };
        tier.answer(tier.last(), GRANTED);
        let grant = queue.next(None).unwrap().expect("answered").result.unwrap().into_grant();
        for (answer, upgraded) in [(Answer::Busy, false), (GRANTED, true)] {
            let (sender, posted) = std::sync::mpsc::channel();
            let (asking, arrivals) = (locks.clone(), Arc::clone(&queue));
            std::thread::spawn(move || {
                let _ = sender.send(asking.upgrade_with_queue(grant, Some(Duration::ZERO), &arrivals, 2));
            });
            let ticket = posted.recv_timeout(Duration::from_secs(60)).expect("it does not block").unwrap();
            assert!(ticket.is_some(), "the tier answers later");
            tier.answer(tier.last(), answer);
            match queue.next(None).unwrap().expect("answered").result {
                Ok(held) => assert_eq!((held.into_grant(), upgraded), (grant, true)),
                Err(error) => assert!(matches!(error, LockError::Timeout { .. }) && !upgraded, "{error}"),
            }
        }
        locks.release(grant).unwrap();
        assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
    }
}
