//! Becoming a holder of a slot, and registering to wait for that.

use super::turn::{Turn, choose, last_turn, note_turn, ring, ring_upgrader, settle};
use super::{load, swap};
use crate::region::{Bitmap, Region};
use crate::word::{MemberId, Place, Waits, Word};

/// Whether a step made the member a holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Entry {
    /// As a writer: named, and readers may still have to leave.
    Writer,
    /// As a reader, at this place.
    Reader(Place, Death),
    /// Another member is in the way; the word says which.
    Blocked(Word),
}

/// Whether a writer died since the last exclusive hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Death {
    None,
    Reported,
}

impl Death {
    pub(crate) fn of(word: Word) -> Self {
        if word.died() { Death::Reported } else { Death::None }
    }
}

/// Whether the readers have left a writer alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Drain {
    Done(Death),
    Waits(Word),
}

/// How many threads of this member share its names at one entry.
///
/// The member's own mutex of the entry guards it.
#[derive(Default, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sharers {
    /// Threads behind the name in the word.
    ///
    /// Counts only while the word says that it is joined.
    pub(crate) named: u32,
    /// Threads behind the bit in `rd`.
    pub(crate) overflow: u32,
    /// One of them waits to be the writer.
    pub(crate) upgrades: bool,
}

/// Names the member as the writer, unless a writer or a turn is in the way.
///
/// New readers are barred from here on; [`drain`] says when the old ones have left.
pub(crate) fn enter_exclusive(region: &Region, slot: u32, me: MemberId) -> Entry {
    loop {
        let seen = load(region, slot);
        if !seen.is_open_to(me) {
            return Entry::Blocked(seen);
        }
        if swap(region, slot, seen, seen.with_writer(me)) {
            if seen.next().is_some() {
                note_turn(region, slot, me);
            }
            return Entry::Writer;
        }
    }
}

/// The same, if no reader is in the way either: nothing is left behind when one is.
pub(crate) fn try_enter_exclusive(region: &Region, slot: u32, me: MemberId) -> Entry {
    loop {
        let seen = load(region, slot);
        let has_readers = seen.has_named_readers() || seen.has_overflow() && !region.is_empty(slot, Bitmap::Readers);
        if !seen.is_open_to(me) || has_readers {
            return Entry::Blocked(seen);
        }
        if swap(region, slot, seen, seen.with_writer(me)) {
            if seen.next().is_some() {
                note_turn(region, slot, me);
            }
            return Entry::Writer;
        }
    }
}

/// Makes the member the writer of an entry that its last one left open.
///
/// Others wait for it. Not before a request of its own process that waits.
pub(crate) fn enter_open(region: &Region, slot: u32, me: MemberId) -> bool {
    let seen = load(region, slot);
    seen.is_left_open() && !region.has_bit(slot, Bitmap::Waiters, me) && swap(region, slot, seen, seen.with_writer(me))
}

/// Looks whether the readers have left the named writer alone.
pub(crate) fn drain(region: &Region, slot: u32) -> Drain {
    loop {
        let seen = load(region, slot);
        if seen.has_named_readers() {
            return Drain::Waits(seen);
        }
        if seen.has_overflow() && !region.is_empty(slot, Bitmap::Readers) {
            return Drain::Waits(seen);
        }
        let clean = seen.without_overflow().without_died();
        if clean == seen || swap(region, slot, seen, clean) {
            return Drain::Done(Death::of(seen));
        }
    }
}

/// Takes the report of a death out of the word.
///
/// Caller holds: the slot alone, as its named writer.
pub(crate) fn take_death(region: &Region, slot: u32) -> Death {
    loop {
        let seen = load(region, slot);
        if !seen.died() || swap(region, slot, seen, seen.without_died()) {
            return Death::of(seen);
        }
    }
}

/// Makes the member a reader, unless a writer or a turn is in the way.
///
/// Caller holds: the member's mutex of the entry.
pub(crate) fn enter_shared(region: &Region, slot: u32, me: MemberId, sharers: &mut Sharers) -> Entry {
    loop {
        let seen = load(region, slot);
        if !seen.is_open_to(me) {
            return Entry::Blocked(seen);
        }
        let was_joined = seen.is_joined(me);
        let place = if sharers.overflow > 0 || !seen.is_reader(me) && seen.with_reader(me).is_none() {
            Place::Overflow
        } else {
            Place::Word
        };
        if place == Place::Overflow {
            // The bit comes before the second look: a writer that is named after that look sees the bit.
            region.set_bit(slot, Bitmap::Readers, me);
            let again = load(region, slot);
            if again != seen {
                undo_overflow(region, slot, me, sharers);
                continue;
            }
        }
        // The baton goes on in the same swap, so that no newcomer enters between this reader and the next waiter.
        let used = seen.without_turn(me);
        let (turned, turn) = if used.needs_turn() {
            let last = if seen.next() == Some(me) { me } else { last_turn(region, slot, me) };
            let choice = choose(region, slot, last, Some(me));
            (used.with_turn(choice), Turn::of(choice))
        } else {
            (used, Turn::Unchanged)
        };
        let wanted = match place {
            Place::Overflow => turned.with_overflow(),
            Place::Word if seen.is_reader(me) => turned.joined(me),
            Place::Word => turned.with_reader(me).unwrap_or(turned),
        };
        if wanted != seen && !swap(region, slot, seen, wanted) {
            if place == Place::Overflow {
                undo_overflow(region, slot, me, sharers);
            }
            continue;
        }
        match place {
            Place::Overflow => sharers.overflow += 1,
            Place::Word if !seen.is_reader(me) => {}
            Place::Word => sharers.named = if was_joined { sharers.named + 1 } else { 2 },
        }
        settle(region, slot, turn);
        return Entry::Reader(place, Death::of(seen));
    }
}

/// Takes the bit back and signals those that may have seen it.
fn undo_overflow(region: &Region, slot: u32, me: MemberId, sharers: &Sharers) {
    if sharers.overflow > 0 {
        return;
    }
    region.clear_bit(slot, Bitmap::Readers, me);
    let now = load(region, slot);
    if let Some(writer) = now.writer() {
        ring(region, writer, slot);
    }
    ring_upgrader(region, now, slot);
}

/// Registers the member as waiting.
///
/// `Some` is the word that it may sleep on: blocked, with Q set.
///
/// A caller that sleeps next has announced that on its bell before.
pub(crate) fn register(region: &Region, slot: u32, me: MemberId, waits: Waits) -> Option<Word> {
    region.set_bit(slot, Bitmap::Waiters, me);
    loop {
        let seen = load(region, slot);
        if seen.is_open_to(me) {
            return None;
        }
        if swap(region, slot, seen, seen.registered(waits)) {
            return Some(seen);
        }
    }
}

/// Ends waiting: takes the bit back, and passes on a turn that came meanwhile.
pub(crate) fn unregister(region: &Region, slot: u32, me: MemberId) {
    region.clear_bit(slot, Bitmap::Waiters, me);
    super::turn::pass_on(region, slot, me);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::protocol::turn::bell_of;
    use crate::sleeper::{Announced, rings};
    use crate::{LockRequest, SharedTable, TableConfig};

    #[test]
    fn reader_that_backs_out_wakes_an_upgrade() {
        let table = SharedTable::memfd("backs-out", &TableConfig::default().keys(8).members(4)).expect("a table");
        let guard = table.lock(LockRequest::read(("b", "o"))).now().expect("free");
        let (region, me, slot) = (&table.core().region, table.core().me, guard.slot());
        let other = MemberId::new(u64::from(me.number()) + 1).expect("not 0");
        let seen = load(region, slot);
        assert!(swap(region, slot, seen, seen.with_overflow().with_upgrade(me)));
        region.set_bit(slot, Bitmap::Readers, other);
        let bell = bell_of(region, me, slot);
        let (asleep, before) = (Announced::new(bell), rings(bell));
        undo_overflow(region, slot, other, &Sharers::default());
        assert_ne!(rings(bell), before, "it waits for the bit");
        drop(asleep);
        let seen = load(region, slot);
        assert!(swap(region, slot, seen, seen.without_upgrade(me)));
    }
}
