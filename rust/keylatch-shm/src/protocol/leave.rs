//! Ceasing to be a holder.

use super::enter::Sharers;
use super::turn::{Turn, choose, last_turn, may_leave_open, pass_on, ring, ring_upgrader, settle};
use super::{load, swap};
use crate::os::robust::is_alive;
use crate::region::{Bitmap, Region};
use crate::slot_state::life;
use crate::word::{MemberId, Place, Word};
use std::sync::atomic::Ordering;

/// Removes the member's name from the word, passes the turn on, and signals.
fn leave(region: &Region, slot: u32, me: MemberId, remove: impl Fn(Word) -> Word) {
    let left = leave_if(region, slot, me, |word| Some(remove(word)));
    debug_assert!(left, "it always can");
}

/// The same, unless `remove` refuses; says whether it did.
fn leave_if(region: &Region, slot: u32, me: MemberId, remove: impl Fn(Word) -> Option<Word>) -> bool {
    loop {
        let seen = load(region, slot);
        let Some(without) = remove(seen) else { return false };
        let (wanted, turn) = if without.needs_turn() {
            let choice = choose(region, slot, last_turn(region, slot, me), None);
            (without.with_turn(choice), Turn::of(choice))
        } else {
            (without, Turn::Unchanged)
        };
        if wanted != seen && !swap(region, slot, seen, wanted) {
            continue;
        }
        if let Some(writer) = wanted.writer() {
            // It may wait for this reader to leave.
            ring(region, writer, slot);
        }
        ring_upgrader(region, wanted, slot);
        settle(region, slot, turn);
        return true;
    }
}

/// Ends the shared hold of another member's thread.
///
/// Says whether it did: not if several threads share the name.
#[must_use]
pub(crate) fn remove_reader(region: &Region, slot: u32, member: MemberId) -> bool {
    leave_if(region, slot, member, |word| word.without_lone_reader(member))
}

/// Names a revoker as the writer in the place of the holder.
///
/// The next holder is informed if the old one died before. Says whether it did: not if the holder is not the writer any more.
///
/// Caller holds: a record of the slot with [`crate::log::Kind::Exclusive`].
#[must_use]
pub(crate) fn replace_writer(region: &Region, slot: u32, holder: MemberId, me: MemberId) -> bool {
    loop {
        let seen = load(region, slot);
        if seen.writer() != Some(holder) {
            return false;
        }
        let mine = seen.with_writer_replaced(me);
        let wanted = if is_alive(life(region, holder)) { mine } else { mine.with_died() };
        if swap(region, slot, seen, wanted) {
            return true;
        }
    }
}

/// Ends an exclusive hold, or gives up draining.
pub(crate) fn leave_exclusive(region: &Region, slot: u32, me: MemberId) {
    if !leave_open(region, slot, me) {
        leave(region, slot, me, |word| word.without_writer(me));
    }
}

/// Ends an exclusive hold without giving a turn, though others wait.
///
/// Says whether it did. Not for a tier, which has served the requests of its process before it gives the key back.
fn leave_open(region: &Region, slot: u32, me: MemberId) -> bool {
    if region.member(me).keeps.load(Ordering::Relaxed) != 0 {
        return false;
    }
    let seen = load(region, slot);
    let open = seen.without_writer(me);
    // One that is awake takes its turn as fast as a newcomer.
    let waits_awake = seen.has_awake_waiter();
    if open == seen
        || waits_awake
        || !open.is_left_open()
        || !may_leave_open(region, slot)
        || !swap(region, slot, seen, open)
    {
        return false;
    }
    // After the swap: one that gives up later gives the turn itself.
    match choose(region, slot, last_turn(region, slot, me), None) {
        Some(id) => ring(region, id, slot),
        None => pass_on(region, slot, me),
    }
    true
}

/// Ends one shared hold of one thread; the name goes with the last.
///
/// Caller holds: the member's mutex of the entry.
pub(crate) fn leave_shared(region: &Region, slot: u32, me: MemberId, place: Place, sharers: &mut Sharers) {
    match place {
        Place::Word => {
            // Joining happens under the caller's mutex, so the mark cannot appear after this look.
            let seen = load(region, slot);
            if seen.is_joined(me) {
                sharers.named = sharers.named.saturating_sub(1);
                if sharers.named > 0 {
                    // It may wait for the other threads of its own process.
                    ring_upgrader(region, seen, slot);
                    return;
                }
            }
            leave(region, slot, me, |word| word.without_reader(me));
        }
        Place::Overflow => {
            sharers.overflow = sharers.overflow.saturating_sub(1);
            if sharers.overflow == 0 {
                region.clear_bit(slot, Bitmap::Readers, me);
                leave(region, slot, me, |word| word);
            } else {
                ring_upgrader(region, load(region, slot), slot);
            }
        }
    }
}

/// Turns the exclusive hold into a shared one, without a gap for another writer.
pub(crate) fn downgrade(region: &Region, slot: u32, me: MemberId) {
    leave(region, slot, me, |word| {
        let without = word.without_writer(me);
        without.with_reader(me).unwrap_or(without)
    });
}

/// Turns the shared hold of one thread into the exclusive one.
///
/// Says whether it could: not if another reader shares.
///
/// Caller holds: the member's mutex of the entry.
#[must_use]
pub(crate) fn try_upgrade(region: &Region, slot: u32, me: MemberId, place: Place, sharers: &mut Sharers) -> bool {
    if place == Place::Overflow {
        return try_upgrade_overflow(region, slot, me, sharers);
    }
    loop {
        let seen = load(region, slot);
        let overflow = seen.has_overflow() && !region.is_empty(slot, Bitmap::Readers);
        if overflow {
            return false;
        }
        if let Some(upgraded) = upgrade_seen(region, slot, me, seen, sharers) {
            return upgraded;
        }
    }
}

/// Names the reader as the writer if the word is as it was seen.
///
/// At that look no reader was in the overflow. One that set its bit since, and found the word as it is, may hold the lock:
/// then the hold stays shared. `None` if the word is another one.
fn upgrade_seen(region: &Region, slot: u32, me: MemberId, seen: Word, sharers: &mut Sharers) -> Option<bool> {
    let Some(wanted) = seen.upgraded(me, sharers.named) else { return Some(false) };
    if !swap(region, slot, seen, wanted) {
        return None;
    }
    if seen.has_overflow() && !region.is_empty(slot, Bitmap::Readers) {
        downgrade(region, slot, me);
        return Some(false);
    }
    // The name is the writer's now, and none counts on it.
    sharers.named = 0;
    Some(true)
}

/// The same for a reader that found no place in the word.
///
/// It is named as the writer first, and keeps its bit until it is alone: it shares the lock all the time.
fn try_upgrade_overflow(region: &Region, slot: u32, me: MemberId, sharers: &mut Sharers) -> bool {
    let has_others = || region.bits(slot, Bitmap::Readers).any(|id| id != me);
    loop {
        let seen = load(region, slot);
        let is_free = seen.writer().is_none() && seen.next().is_none() && !seen.has_named_readers();
        if !is_free || sharers.overflow != 1 || has_others() {
            return false;
        }
        if swap(region, slot, seen, seen.with_writer(me)) {
            break;
        }
    }
    // A reader whose bit came before the swap may hold the lock; one that comes later sees the writer.
    if has_others() {
        leave_exclusive(region, slot, me);
        return false;
    }
    region.clear_bit(slot, Bitmap::Readers, me);
    sharers.overflow = 0;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LockRequest, SharedTable, TableConfig};

    /// A reader in the overflow came between the look and the swap.
    #[test]
    fn late_overflow_reader_keeps_upgrade_out() {
        let folder = std::env::temp_dir().join(format!("keylatch-leave-{}", std::process::id()));
        let table = SharedTable::open(&folder, &TableConfig::default()).unwrap();
        std::fs::remove_file(&folder).unwrap();
        let guard = table.lock(LockRequest::read(("b", "o"))).blocking().unwrap();
        let (core, slot) = (guard.core(), guard.slot());
        let (region, me) = (&core.region, core.me);
        let other = MemberId::new(u64::from(me.number()) + 1).unwrap();
        assert!(swap(region, slot, load(region, slot), load(region, slot).with_overflow()));

        let seen = load(region, slot);
        region.set_bit(slot, Bitmap::Readers, other);
        let mut sharers = Sharers::default();
        assert_eq!(upgrade_seen(region, slot, me, seen, &mut sharers), Some(false));
        let now = load(region, slot);
        assert!(now.is_reader(me) && now.writer().is_none(), "it shares as before: {now:?}");

        region.clear_bit(slot, Bitmap::Readers, other);
        assert_eq!(upgrade_seen(region, slot, me, load(region, slot), &mut sharers), Some(true));
        downgrade(region, slot, me);
    }

    /// A table, the slot of a key, and three members that are not there.
    fn slot_of_three(name: &str) -> (SharedTable, u32, [MemberId; 3]) {
        let table = SharedTable::memfd(name, &TableConfig::default().keys(8).members(8)).unwrap();
        let guard = table.lock(LockRequest::write(("b", "o"))).blocking().unwrap();
        let slot = guard.slot();
        drop(guard);
        (table, slot, [3, 4, 5].map(|number| MemberId::new(number).unwrap()))
    }

    /// Makes a member the writer while others wait.
    fn write_before(region: &Region, slot: u32, writer: MemberId, waiting: &[MemberId]) {
        waiting.iter().for_each(|id| region.set_bit(slot, Bitmap::Waiters, *id));
        let seen = load(region, slot);
        assert!(
            seen.is_open_to(writer)
                && swap(region, slot, seen, seen.with_writer(writer).registered(crate::word::Waits::Asleep))
        );
    }

    #[test]
    fn open_leaves_are_bounded_and_turns_go_round() {
        let (table, slot, [one, two, three]) = slot_of_three("open");
        let region = &table.core().region;
        for turn in [two, three, two] {
            let mut leaves = 0;
            let next = loop {
                write_before(region, slot, one, &[two, three]);
                leave_exclusive(region, slot, one);
                match load(region, slot).next() {
                    Some(next) => break next,
                    None => leaves += 1,
                }
            };
            assert_eq!((leaves, next), (32, turn));
            assert_eq!(
                crate::protocol::enter::enter_exclusive(region, slot, next),
                crate::protocol::enter::Entry::Writer
            );
            let seen = load(region, slot);
            assert!(swap(region, slot, seen, seen.without_writer(next)));
        }
        [two, three].iter().for_each(|id| region.clear_bit(slot, Bitmap::Waiters, *id));
        assert!(swap(region, slot, load(region, slot), Word::FREE));
    }

    #[test]
    fn open_turn_goes_on_from_one_that_gives_up() {
        let (table, slot, [one, two, three]) = slot_of_three("gives-up");
        let region = &table.core().region;
        write_before(region, slot, one, &[two, three]);
        leave_exclusive(region, slot, one);
        assert!(load(region, slot).is_left_open());
        crate::protocol::enter::unregister(region, slot, two);
        assert_eq!(load(region, slot).next(), Some(three));
        crate::protocol::enter::unregister(region, slot, three);
        assert_eq!(load(region, slot), Word::FREE, "none waits");
    }
}
