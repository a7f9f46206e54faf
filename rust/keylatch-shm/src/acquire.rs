//! The paths of an acquisition: fast, try, and wait; and how a key comes into the table on the way.

use crate::change::{begin_change, changed};
use crate::core::Core;
use crate::death;
use crate::error::ShmError;
use crate::log::Kind;
use crate::lookup::{self, Fingerprint, find, has_key};
use crate::protocol::enter::{Death, Drain, Entry, drain, enter_open, enter_shared, try_enter_exclusive};
use crate::protocol::{leave, load};
use crate::records;
use crate::wait::{GoOn, wait_blocking};
use crate::waiter::{Held, Waiter};
use crate::word::{Place, Word};
use keylatch::{KeyRef, Mode};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A lock that this process holds; what a guard is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) slot: u32,
    pub(crate) record: u32,
    pub(crate) mode: Mode,
    pub(crate) place: Place,
    pub(crate) death: Death,
    pub(crate) fence: u64,
}

/// A request, with its key looked at.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) key: KeyRef<'a>,
    pub(crate) print: Fingerprint,
    pub(crate) mode: Mode,
    pub(crate) owner: &'a str,
}

/// How long a request may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    Try,
    Until(Option<Instant>),
}

/// Where a request stands after a look that does not wait.
pub(crate) enum Attempt {
    Held(Hold),
    /// The slot is held in the way; the record covers it.
    Blocked {
        slot: u32,
        record: u32,
    },
}

/// How long a request that may wait looks for a free entry before it lines up.
const SOON: Duration = Duration::from_micros(4);
/// Between two looks, so that a holder meets the other processor's look seldom.
const PAUSES: u32 = 8;

/// How long a `try` waits for the insertion of another key into the same bucket.
pub(crate) const GATE_PATIENCE: Duration = Duration::from_millis(2);
/// Looks for overflow readers that back out.
const BACKING_OUT: u32 = 1000;

pub(crate) fn kind(mode: Mode) -> Kind {
    match mode {
        Mode::Shared => Kind::Shared,
        Mode::Exclusive => Kind::Exclusive,
    }
}

/// Takes an entry that no member uses, with one swap.
///
/// Touches nothing when it cannot.
#[inline(always)]
pub(crate) fn try_fast(core: &Core, wanted: &Wanted<'_>, slot: u32) -> Option<Hold> {
    let record = records::take_fast(core)?;
    let entry = core.region.entry(slot);
    records::begin(core, record, slot, kind(wanted.mode), wanted.owner);
    let mine = if wanted.mode == Mode::Exclusive { Word::only_writer(core.me) } else { Word::only_reader(core.me) };
    // Pairs with: the release of the last holder (Acquire), and a recoverer's load of the record (Release).
    let is_free = entry.word.compare_exchange(Word::FREE.0, mine.0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    let swapped = is_free || wanted.mode == Mode::Exclusive && enter_left_open(core, slot);
    if swapped && has_key(entry, wanted.print) && core.is_sound() {
        let fence = next_fence(core, slot, wanted.mode);
        changed(&core.region, record);
        return Some(Hold { slot, record, mode: wanted.mode, place: Place::Word, death: Death::None, fence });
    }
    if swapped {
        let hold = Hold { slot, record, mode: wanted.mode, place: Place::Word, death: Death::None, fence: 0 };
        release(core, &hold);
    } else {
        records::put(core, record);
    }
    None
}

#[cold]
#[inline(never)]
fn enter_left_open(core: &Core, slot: u32) -> bool {
    enter_open(&core.region, slot, core.me)
}

/// Counts an exclusive hold; tells a shared one the count.
///
/// The acquisition still counts as a change of the hold: once it is revoked, the number would be another's.
#[inline(always)]
fn next_fence(core: &Core, slot: u32, mode: Mode) -> u64 {
    let fence = &core.region.entry(slot).fence;
    let last = fence.load(Ordering::Relaxed);
    if mode == Mode::Shared {
        return last;
    }
    // The named writer alone writes it; the swap that frees the entry publishes it.
    fence.store(last + 1, Ordering::Relaxed);
    last + 1
}

/// Takes an entry that is free within a few microseconds.
///
/// Leaves no trace that bars others. Two processes that take turns so need no wake-up. They line up when one was unlucky for that long; from then on each
/// other waiting process has at most one turn before it.
fn try_soon(core: &Core, wanted: &Wanted<'_>) -> Option<Hold> {
    let slot = find(&core.region, wanted.print)?;
    if !records::has_fast(core) {
        return None;
    }
    let begun = Instant::now();
    while begun.elapsed() < SOON {
        let word = Word(core.region.word(slot).load(Ordering::Relaxed));
        if word == Word::FREE || word.is_left_open() {
            if let Some(hold) = try_fast(core, wanted, slot) {
                return Some(hold);
            }
        } else if word.has_named_readers() || word.has_overflow() {
            // Those that share it need not leave one after the other.
            return None;
        }
        (0..PAUSES).for_each(|_| std::hint::spin_loop());
    }
    None
}

/// Acquires on the calling thread, for as long as `go_on` says so.
pub(crate) fn acquire(
    core: &Arc<Core>,
    wanted: &Wanted<'_>,
    patience: Patience,
    go_on: GoOn<'_>,
) -> Result<Option<Hold>, ShmError> {
    if patience != Patience::Try
        && !core.is_forked()
        && let Some(hold) = try_soon(core, wanted)
    {
        return Ok(Some(hold));
    }
    loop {
        let (slot, record) = match attempt(core, wanted, patience, go_on)? {
            Attempt::Held(hold) => return Ok(Some(hold)),
            Attempt::Blocked { slot, record } => (slot, record),
        };
        let Patience::Until(deadline) = patience else {
            records::put(core, record);
            return Ok(None);
        };
        let waiter = Waiter::new(slot, record, wanted.mode, false);
        match wait_blocking(core, &waiter, deadline, go_on) {
            Ok(Some(held)) => {
                if let Some(hold) = confirm(core, wanted, slot, waiter.record(), held)? {
                    return Ok(Some(hold));
                }
            }
            other => {
                core.check()?;
                return other.map(|_| None);
            }
        }
    }
}

/// Acquires if that is possible without waiting for a holder.
pub(crate) fn attempt(
    core: &Arc<Core>,
    wanted: &Wanted<'_>,
    patience: Patience,
    go_on: GoOn<'_>,
) -> Result<Attempt, ShmError> {
    loop {
        core.check()?;
        let slot = match find(&core.region, wanted.print) {
            Some(slot) => slot,
            None => match insert(core, wanted, patience, go_on)? {
                Inserted::Held(hold) => return Ok(Attempt::Held(hold)),
                Inserted::Found => continue,
            },
        };
        let record = take_record(core)?;
        records::begin(core, record, slot, kind(wanted.mode), wanted.owner);
        match enter(core, slot, wanted.mode) {
            Some(held) => {
                if let Some(hold) = confirm(core, wanted, slot, record, held)? {
                    return Ok(Attempt::Held(hold));
                }
            }
            None if has_key(core.region.entry(slot), wanted.print) => return Ok(Attempt::Blocked { slot, record }),
            None => records::put(core, record),
        }
    }
}

fn take_record(core: &Arc<Core>) -> Result<u32, ShmError> {
    let holds = core.region.layout().record_count();
    records::take(core).ok_or(ShmError::LogFull { holds })
}

/// Enters a slot if nothing is in the way.
///
/// Neither a holder, nor a turn, nor an earlier request of this process.
fn enter(core: &Core, slot: u32, mode: Mode) -> Option<Held> {
    let entry = core.lines.with(slot, |line| {
        if !line.queue.is_empty() {
            return None;
        }
        Some(match mode {
            Mode::Exclusive => try_enter_exclusive(&core.region, slot, core.me),
            Mode::Shared => enter_shared(&core.region, slot, core.me, &mut line.sharers),
        })
    })?;
    match entry {
        Entry::Reader(place, death) => Some(Held { place, death }),
        Entry::Blocked(word) => {
            // A dead holder is no reason to refuse.
            let named = word.readers().into_iter().flatten().chain(word.writer()).chain(word.next());
            let mut recovered = false;
            for id in named {
                recovered |= core.recover(id);
            }
            if recovered { enter(core, slot, mode) } else { None }
        }
        Entry::Writer => {
            for _ in 0..BACKING_OUT {
                if let Drain::Done(death) = drain(&core.region, slot) {
                    return Some(Held { place: Place::Word, death });
                }
                std::hint::spin_loop();
            }
            leave::leave_exclusive(&core.region, slot, core.me);
            None
        }
    }
}

/// Makes a hold of an entry that was entered, if it still has the key.
///
/// Leaves it otherwise, and if it was revoked since.
pub(crate) fn confirm(
    core: &Core,
    wanted: &Wanted<'_>,
    slot: u32,
    record: u32,
    held: Held,
) -> Result<Option<Hold>, ShmError> {
    let Held { place, death } = held;
    let mut hold = Hold { slot, record, mode: wanted.mode, place, death, fence: 0 };
    let sound = core.check();
    if begin_change(&core.region, record) {
        // It took no death out of the word, or it could not be revoked.
        records::put_revoked(core, record);
        return sound.map(|()| None);
    }
    if sound.is_ok() && has_key(core.region.entry(slot), wanted.print) {
        if death == Death::Reported && wanted.mode == Mode::Exclusive {
            core.informed.note(&core.region, record, wanted.print);
        }
        core.region.record(record).since_ms.store(core.now_ms(), Ordering::Relaxed);
        hold.fence = next_fence(core, slot, wanted.mode);
        changed(&core.region, record);
        return Ok(Some(hold));
    }
    put_back(core, &hold);
    sound.map(|()| None)
}

/// Ends a hold that no caller had.
///
/// The next holder is informed of a death that it heard of.
pub(crate) fn give_back(core: &Core, hold: &Hold) {
    if begin_change(&core.region, hold.record) {
        // Its entry may have another key by now.
        let print = core.informed.key_of(&core.region, hold.record);
        if let Some(print) = print.filter(|_| hold.mode == Mode::Exclusive && hold.death == Death::Reported) {
            death::report(&core.region, print);
        }
        records::put_revoked(core, hold.record);
    } else {
        put_back(core, hold);
    }
}

/// Gives a hold back that cannot be revoked meanwhile, so its entry has its key.
///
/// Caller holds: it, in a change that has begun.
fn put_back(core: &Core, hold: &Hold) {
    if hold.mode == Mode::Exclusive && hold.death == Death::Reported {
        death::mark(&core.region, hold.slot);
    }
    release_unrevoked(core, hold);
}

enum Inserted {
    Held(Hold),
    /// Another process was first; look it up again.
    Found,
}

/// Brings the key into the table, and holds it from the first moment on.
#[cold]
#[inline(never)]
fn insert(core: &Arc<Core>, wanted: &Wanted<'_>, patience: Patience, go_on: GoOn<'_>) -> Result<Inserted, ShmError> {
    let region = &core.region;
    let gate = wanted.print.gate(region);
    let gate_record = take_record(core)?;
    records::begin(core, gate_record, gate, Kind::Exclusive, "");
    let deadline = match patience {
        Patience::Try => Some(Instant::now() + GATE_PATIENCE),
        Patience::Until(deadline) => deadline,
    };
    let entered = match enter(core, gate, Mode::Exclusive) {
        Some(_) => true,
        None => match wait_blocking(core, &Waiter::new(gate, gate_record, Mode::Exclusive, false), deadline, go_on) {
            Ok(held) => held.is_some(),
            Err(error) => return Err(error),
        },
    };
    if !entered {
        core.check()?;
        let (key, waited) = (wanted.key.to_owned(), Duration::ZERO);
        return Err(match patience {
            Patience::Try => ShmError::WouldBlock { key, holders: Vec::new() },
            Patience::Until(_) => ShmError::Timeout { key, waited, holders: Vec::new() },
        });
    }
    let mut result = insert_locked(core, wanted);
    if matches!(result, Err(ShmError::TableFull { .. })) {
        // Room that killed processes held counts from their death on, and not from the moment when a neighbour looks.
        core.recover_all();
        result = insert_locked(core, wanted);
    }
    leave::leave_exclusive(region, gate, core.me);
    records::put(core, gate_record);
    result
}

/// Caller holds: the gate of the key's first bucket.
fn insert_locked(core: &Arc<Core>, wanted: &Wanted<'_>) -> Result<Inserted, ShmError> {
    let region = &core.region;
    // Another process may have been first while this one waited for the gate.
    if find(region, wanted.print).is_some() {
        return Ok(Inserted::Found);
    }
    let record = take_record(core)?;
    for turn in 0..64 {
        let Some(slot) = lookup::victim(region, wanted.print, turn) else { break };
        records::begin(core, record, slot, Kind::Rekey, wanted.owner);
        let Some(before) = lookup::claim(region, slot, core.me) else { continue };
        death::note_evicted(region, slot, before);
        lookup::take_key_out(region, slot);
        // The old key's death is noted by now.
        let _ = drain(region, slot);
        lookup::write_key(region, slot, wanted.print, wanted.key);
        death::take_lost(region, wanted.print, slot);
        // The key is whole: from here on the hold is like any other.
        records::rename(core, record, slot, kind(wanted.mode));
        let death = match wanted.mode {
            Mode::Exclusive => match drain(region, slot) {
                Drain::Done(death) => death,
                Drain::Waits(_) => Death::None,
            },
            Mode::Shared => {
                let death = Death::of(load(region, slot));
                leave::downgrade(region, slot, core.me);
                death
            }
        };
        let held = Held { place: Place::Word, death };
        return Ok(confirm(core, wanted, slot, record, held)?.map_or(Inserted::Found, Inserted::Held));
    }
    records::put(core, record);
    Err(ShmError::TableFull { keys: region.layout().sizes.keys })
}

/// Ends a hold; says whether it was still held, and not revoked.
#[inline(always)]
pub(crate) fn release(core: &Core, hold: &Hold) -> bool {
    if begin_change(&core.region, hold.record) {
        records::put_revoked(core, hold.record);
        return false;
    }
    release_unrevoked(core, hold);
    true
}

/// Ends a hold after [`begin_change`] has said that it was not revoked.
#[inline(always)]
fn release_unrevoked(core: &Core, hold: &Hold) {
    let mine = match hold.mode {
        Mode::Exclusive => Word::only_writer(core.me),
        Mode::Shared => Word::only_reader(core.me),
    };
    // Pairs with: the acquisition of the next holder.
    let swapped = hold.place == Place::Word
        && core
            .region
            .word(hold.slot)
            .compare_exchange(mine.0, Word::FREE.0, Ordering::Release, Ordering::Relaxed)
            .is_ok();
    if !swapped {
        release_slow(core, hold);
    }
    records::put(core, hold.record);
}

#[cold]
#[inline(never)]
fn release_slow(core: &Core, hold: &Hold) {
    match hold.mode {
        Mode::Exclusive => leave::leave_exclusive(&core.region, hold.slot, core.me),
        Mode::Shared => core.lines.with(hold.slot, |line| {
            leave::leave_shared(&core.region, hold.slot, core.me, hold.place, &mut line.sharers);
        }),
    }
}
