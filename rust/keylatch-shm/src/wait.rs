//! A request that waits, and what its leader does in turn: enter, drain, sleep.

use crate::change::{begin_change, changed};
use crate::core::{Core, Status};
use crate::error::ShmError;
use crate::log::Kind;
use crate::mutex::lock;
use crate::os::{clock, futex};
use crate::protocol::enter::{Death, Drain, Entry, drain, enter_exclusive, enter_shared, register, unregister};
use crate::protocol::{leave, turn, upgrade};
use crate::records;
use crate::region::Bitmap;
use crate::sleeper::{self, Announced};
use crate::slot_state::{SlotState, Tenure};
use crate::waiter::{Held, Phase, Waiter};
use crate::word::{Place, Waits, Word};
use keylatch::Mode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a member may have its turn without using it.
const PATIENCE: Duration = Duration::from_millis(1);
/// After this long, a waiter checks that the holders' logs know of the hold.
const AUDIT: Duration = Duration::from_secs(1);
/// Looks at the word before a sleep.
const SPINS: u32 = 200;

/// What the leader does next.
#[derive(Debug)]
#[must_use]
pub(crate) enum Next {
    Done(Held),
    /// Sleep on the announced bell until it changes, but no longer than this.
    Sleep(Duration),
}

impl Waiter {
    /// Joins the line; leads if it is the first.
    pub(crate) fn enqueue(self: &Arc<Self>, core: &Core) {
        let mut phase = lock(&self.phase);
        let first = core.lines.with(self.slot, |line| {
            line.queue.push_back(self.clone());
            line.queue.len() == 1
        });
        if first {
            *phase = Phase::Leads;
        }
    }

    /// Leaves the line, and makes the next one its leader.
    ///
    /// A writer that was granted registers on behalf of the next, so that its release gives the turn to this process and
    /// no thread of it that comes later enters first.
    fn dequeue(self: &Arc<Self>, core: &Core) {
        let next = core.lines.with(self.slot, |line| {
            let led = line.queue.front().is_some_and(|front| Arc::ptr_eq(front, self));
            line.queue.retain(|other| !Arc::ptr_eq(other, self));
            if line.queue.is_empty() {
                // No leader is left to use a turn that comes.
                unregister(&core.region, self.slot, core.me);
            }
            line.queue.front().filter(|_| led).cloned()
        });
        if let Some(next) = next {
            if self.mode == Mode::Exclusive {
                let _ = register(&core.region, self.slot, core.me, Waits::Asleep);
            }
            next.lead(core);
        }
    }

    /// Makes the request, the first of its line now, deal with the file.
    fn lead(self: &Arc<Self>, core: &Core) {
        {
            let mut phase = lock(&self.phase);
            if *phase != Phase::Queued {
                return;
            }
            *phase = Phase::Leads;
        }
        self.word.store(1, Ordering::Release);
        if self.is_task { core.attendant.attend(self.clone(), None) } else { futex::wake_all(&self.word) }
    }

    /// One step of the leader.
    ///
    /// A caller that sleeps next has announced that before.
    pub(crate) fn step(self: &Arc<Self>, core: &Arc<Core>, waits: Waits) -> Result<Next, ShmError> {
        core.check()?;
        let mut phase = lock(&self.phase);
        let (region, slot, me) = (&core.region, self.slot, core.me);
        if *phase == Phase::Leads {
            let entry = match self.mode {
                Mode::Exclusive => enter_exclusive(region, slot, me),
                Mode::Shared => core.lines.with(slot, |line| enter_shared(region, slot, me, &mut line.sharers)),
            };
            match entry {
                Entry::Reader(place, death) => {
                    self.entered(core, Death::None);
                    *phase = Phase::Granted(Held { place, death });
                    drop(phase);
                    unregister(region, slot, me);
                    self.dequeue(core);
                    return Ok(Next::Done(Held { place, death }));
                }
                Entry::Writer => {
                    *phase = Phase::Drains;
                    unregister(region, slot, me);
                }
                Entry::Blocked(_) => {
                    return match register(region, slot, me, waits) {
                        // The lock became free in between.
                        None => Ok(Next::Sleep(Duration::ZERO)),
                        Some(word) => self.blocked(core, word),
                    };
                }
            }
        }
        // While it sleeps, a revoker may take the name: a process that is stopped then must not bar readers for ever.
        if begin_change(&core.region, self.record()) {
            if let Err(full) = self.begin_again(core) {
                *phase = Phase::Ended;
                drop(phase);
                self.dequeue(core);
                records::put_revoked(core, self.record());
                return Err(full);
            }
            *phase = Phase::Leads;
            return Ok(Next::Sleep(Duration::ZERO));
        }
        match drain(region, slot) {
            Drain::Done(death) => {
                let held = Held { place: Place::Word, death };
                self.entered(core, death);
                *phase = Phase::Granted(held);
                drop(phase);
                self.dequeue(core);
                Ok(Next::Done(held))
            }
            Drain::Waits(word) if word.upgrader().is_some() && upgrade::back_into_line(region, slot, me) => {
                // It is a request that waits, as before its entry.
                *phase = Phase::Leads;
                Ok(Next::Sleep(Duration::ZERO))
            }
            Drain::Waits(word) => {
                changed(&core.region, self.record());
                self.blocked(core, word)
            }
        }
    }

    /// Ends the acquisition: from here on the hold is listed, and can be revoked.
    ///
    /// Caller holds: the mutex of the phase, which is not granted yet.
    fn entered(&self, core: &Core, death: Death) {
        // A death that it took out of the word would go with the name of a hold that is revoked before its caller has it.
        if death == Death::Reported {
            return;
        }
        core.region.record(self.record()).since_ms.store(core.now_ms(), Ordering::Relaxed);
        changed(&core.region, self.record());
    }

    /// Asks anew after the request was revoked while it waited for readers.
    ///
    /// The old record stays for as long as the name may be in the word.
    fn begin_again(&self, core: &Arc<Core>) -> Result<(), ShmError> {
        let holds = core.region.layout().record_count();
        let fresh = records::take(core).ok_or(ShmError::LogFull { holds })?;
        let old = self.record.swap(fresh, Ordering::Relaxed);
        let owner = records::read_owner(core.region.record(old));
        records::begin(core, fresh, self.slot, Kind::Exclusive, &owner);
        records::put_revoked(core, old);
        Ok(())
    }

    /// Looks at who is in the way; how long to sleep.
    fn blocked(&self, core: &Core, word: Word) -> Result<Next, ShmError> {
        if word.is_damaged() {
            core.fail(Status::Corrupt);
            core.check()?;
        }
        let region = &core.region;
        let late = &region.member(core.me).late;
        if late.load(Ordering::Relaxed) != 0 {
            late.store(0, Ordering::Relaxed);
        }
        if recover_or_recall(core, self.slot, word)? {
            return Ok(Next::Sleep(Duration::ZERO));
        }
        if self.since.elapsed() >= AUDIT {
            self.audit(core, word)?;
        }
        let mut patience = lock(&self.patience);
        let turn = word.next().filter(|next| *next != core.me && word.upgrader().is_none());
        let Some(next) = turn else {
            *patience = None;
            return Ok(Next::Sleep(core.recheck()));
        };
        match *patience {
            Some((id, since)) if id == next => {
                if since.elapsed() >= PATIENCE {
                    region.member(next).late.store(1, Ordering::Relaxed);
                    turn::pass_on(region, self.slot, next);
                    *patience = None;
                    return Ok(Next::Sleep(Duration::ZERO));
                }
            }
            _ => *patience = Some((next, Instant::now())),
        }
        Ok(Next::Sleep(PATIENCE))
    }

    /// Finds names that no member wrote: a word that something else has changed.
    fn audit(&self, core: &Core, word: Word) -> Result<(), ShmError> {
        let region = &core.region;
        for id in word.readers().into_iter().flatten().chain(word.writer()) {
            let is_known = || {
                let quiet = Tenure::of(region, id).is(SlotState::Quiet);
                let knows = |head: &std::sync::atomic::AtomicU64| {
                    crate::log::unpack(head.load(Ordering::Acquire)).is_some_and(|(slot, _)| slot == self.slot)
                };
                !quiet && crate::log::heads_of(region, id).any(knows)
            };
            let unchanged = || crate::protocol::load(region, self.slot) == word;
            if !is_known() && unchanged() && !is_known() && unchanged() {
                core.fail(Status::Corrupt);
                core.check()?;
            }
        }
        Ok(())
    }

    /// Ends the request without a grant, and gives its record back.
    ///
    /// `Some` is a grant that came first.
    pub(crate) fn abandon(self: &Arc<Self>, core: &Core) -> Option<Held> {
        let mut phase = lock(&self.phase);
        let was = *phase;
        if let Phase::Granted(held) = was {
            return Some(held);
        }
        if was == Phase::Ended {
            return None;
        }
        *phase = Phase::Ended;
        drop(phase);
        if core.is_forked() {
            return None;
        }
        let is_revoked = was == Phase::Drains && begin_change(&core.region, self.record());
        if was == Phase::Drains && !is_revoked {
            leave::leave_exclusive(&core.region, self.slot, core.me);
        }
        if was == Phase::Leads {
            unregister(&core.region, self.slot, core.me);
        }
        self.dequeue(core);
        // A revoker may have the name still to take out.
        if is_revoked {
            records::put_revoked(core, self.record());
        } else {
            records::put(core, self.record());
        }
        None
    }
}

/// Recovers those in the way that are dead; says whether one was.
///
/// Has the tiers of the others give back what they only keep.
pub(crate) fn recover_or_recall(core: &Core, slot: u32, word: Word) -> Result<bool, ShmError> {
    let region = &core.region;
    let overflow = || region.bits(slot, Bitmap::Readers).filter(|_| word.has_overflow());
    let holders = || word.readers().into_iter().flatten().chain(word.writer()).chain(overflow());
    let mut recovered = false;
    for id in holders().chain(word.next()) {
        if !region.has_member(id) {
            core.fail(Status::Corrupt);
            core.check()?;
        }
        recovered |= core.recover(id);
    }
    if !recovered {
        holders().filter(|id| *id != core.me).for_each(|id| turn::ring_keeper(region, id));
    }
    Ok(recovered)
}

/// Says whether the caller still waits.
///
/// It is asked after each sleep of its thread, which a signal ends.
pub(crate) type GoOn<'f> = &'f mut dyn FnMut() -> bool;

/// Waits until granted, until the deadline, or until `go_on` returns false.
pub(crate) fn wait_blocking(
    core: &Arc<Core>,
    waiter: &Arc<Waiter>,
    deadline: Option<Instant>,
    go_on: GoOn<'_>,
) -> Result<Option<Held>, ShmError> {
    let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    waiter.enqueue(core);
    while *lock(&waiter.phase) == Phase::Queued {
        if left() == Some(Duration::ZERO) || core.check().is_err() {
            break;
        }
        let pause = left().map_or(core.recheck(), |left| left.min(core.recheck()));
        if waiter.word.load(Ordering::Acquire) == 0 {
            futex::wait(&waiter.word, 0, Some(pause));
            if !go_on() {
                return Ok(waiter.abandon(core));
            }
        }
    }
    let bell = turn::bell_of(&core.region, core.me, waiter.slot);
    let mut spins = SPINS;
    let mut announced = None;
    let mut timed_out = None;
    loop {
        if *lock(&waiter.phase) != Phase::Queued {
            let waits = if announced.is_none() && spins > 0 { Waits::Awake } else { Waits::Asleep };
            match waiter.step(core, waits) {
                Ok(Next::Done(held)) => {
                    if timed_out == Some(sleeper::rings(bell)) {
                        core.late_signals.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok(Some(held));
                }
                Ok(Next::Sleep(pause)) => {
                    if left() == Some(Duration::ZERO) {
                        return Ok(waiter.abandon(core));
                    }
                    if pause.is_zero() {
                        continue;
                    }
                    let Some(asleep) = announced.take() else {
                        if !spin(core, waiter, &mut spins) {
                            // From here on it is woken. It looks once more before it sleeps.
                            announced = Some(Announced::new(bell));
                        }
                        continue;
                    };
                    let pause = left().map_or(pause, |left| left.min(pause));
                    let (begun, rings) = (clock::monotonic(), sleeper::rings(bell));
                    asleep.sleep(pause);
                    let slept = clock::monotonic() - begun;
                    timed_out = (slept >= pause && sleeper::rings(bell) == rings).then_some(rings);
                    if timed_out.is_some() {
                        core.rechecks.fetch_add(1, Ordering::Relaxed);
                    } else {
                        // It was woken because the lock was free, and gets the next turn if it is still awake then.
                        spins = SPINS;
                    }
                    if !go_on() {
                        return Ok(waiter.abandon(core));
                    }
                }
                Err(error) => {
                    return match waiter.abandon(core) {
                        Some(held) => Ok(Some(held)),
                        None => Err(error),
                    };
                }
            }
        } else {
            return Ok(waiter.abandon(core));
        }
    }
}

/// Looks at the word for a while; says whether it became worth another step.
fn spin(core: &Core, waiter: &Waiter, spins: &mut u32) -> bool {
    let drains = *lock(&waiter.phase) == Phase::Drains;
    while *spins > 0 {
        *spins -= 1;
        std::hint::spin_loop();
        let word = Word(core.region.word(waiter.slot).load(Ordering::Relaxed));
        if word.is_open_to(core.me) || drains && !word.has_named_readers() && !word.has_overflow() {
            return true;
        }
    }
    false
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::change::{revocation, revoked};
    use crate::{LockRequest, SharedTable, TableConfig};
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn sleeper_looks_once_more() {
        let path = std::env::temp_dir().join(format!("keylatch-looks-{}", std::process::id()));
        let open = || SharedTable::open(&path, &TableConfig::default().keys(8).members(2)).expect("a table");
        let (one, two) = (open(), open());
        let meet = Arc::new(Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let writes = one.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free");
                meet.wait();
                meet.wait();
                drop(writes);
                meet.wait();
            });
            meet.wait();
            let met = meet.clone();
            // The writer leaves after the request looked, and sees no sleeper.
            sleeper::BEFORE_NEXT.set(Some(Box::new(move || {
                met.wait();
                met.wait();
            })));
            let key = two.prepare(("photos", "cat.jpg")).expect("a key");
            let held = key.acquire_while(Mode::Exclusive, "", None, &mut || true).expect("sound");
            assert!(held.is_some());
        });
        assert_eq!(two.core().rechecks.load(Ordering::Relaxed), 0, "it slept beside a free lock");
        std::fs::remove_file(&path).expect("it is there");
    }

    #[test]
    fn name_of_revoked_request_has_a_record() {
        let path = std::env::temp_dir().join(format!("keylatch-drains-{}", std::process::id()));
        let open = || SharedTable::open(&path, &TableConfig::default().keys(8).members(2)).expect("a table");
        let (one, two) = (open(), open());
        let (region, me) = (&two.core().region, one.core().me);
        let reads = two.lock(LockRequest::read(("photos", "cat.jpg"))).now().expect("free");
        let slot = reads.slot();
        let heads = || {
            let heads = crate::log::heads_of(region, me).map(|head| crate::log::unpack(head.load(Ordering::SeqCst)));
            heads.flatten().filter(|(at, _)| *at == slot).count()
        };
        let end = Instant::now() + Duration::from_secs(60);
        for goes_on in [false, true] {
            let (key, waits) = (one.prepare(("photos", "cat.jpg")).expect("a key"), AtomicBool::new(true));
            std::thread::scope(|scope| {
                let mut go_on = || waits.load(Ordering::SeqCst);
                let writes = scope
                    .spawn(move || key.acquire_while(Mode::Exclusive, "", None, &mut go_on).map(|held| held.is_some()));
                let drains = loop {
                    let found = two.holders(Some(("photos", "cat.jpg").into())).expect("sound");
                    if let Some(found) = found.into_iter().find(|found| found.mode == Mode::Exclusive) {
                        break found.hold;
                    }
                    std::thread::yield_now();
                };
                // A revoker that is stopped before it takes the name out.
                let record = region.record(drains.record);
                record.revoked.store(revocation(drains.hold, two.core().me), Ordering::SeqCst);
                if goes_on {
                    turn::ring(region, me, slot);
                    // It asks anew, with another record.
                    while heads() < 2 && Instant::now() < end {
                        std::thread::yield_now();
                    }
                }
                let records = heads();
                waits.store(false, Ordering::SeqCst);
                turn::ring(region, me, slot);
                assert_eq!(writes.join().expect("no panic"), Ok(false));
                assert_eq!(records, if goes_on { 2 } else { 1 }, "a name without a record is damage");
                assert_eq!(crate::protocol::load(region, slot).writer(), Some(me));
                assert_eq!(heads(), 1, "a name without a record is damage");
                // It goes on.
                leave::leave_exclusive(region, slot, me);
                record.revoked.store(revoked(drains.hold), Ordering::SeqCst);
            });
            while heads() > 0 {
                assert!(Instant::now() < end, "its record is not cleared");
                std::thread::yield_now();
            }
        }
        drop(reads);
        std::fs::remove_file(&path).expect("it is there");
    }
}
