//! A reader becomes the writer, and waits for the other readers until then.
//!
//! It puts its name into `next`, with UP, and stays a reader. From then on none enters. Readers leave, a writer that waits
//! for readers goes back in line, and each signals the reader that upgrades. Once it is alone, one swap takes its reader's
//! name and UP out, and makes it the writer. So a recoverer finds in the word which of the two it was, and a second reader
//! that would upgrade finds the first: each would wait for the other.

use super::enter::Sharers;
use super::turn::{Turn, choose, last_turn, ring, ring_upgrader, settle};
use super::{load, swap};
use crate::region::{Bitmap, Region};
use crate::word::{MemberId, Place, Waits, Word};

/// What a look of the reader that upgrades has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Upgrade {
    /// It is the writer.
    Done,
    /// Another reader upgrades.
    Conflict,
    /// Others are in the way; the word says which.
    Waits(Word),
}

/// Says that the reader upgrades, ahead of all that wait.
///
/// `false` if another one does.
///
/// Caller holds: the member's mutex of the entry.
#[must_use]
pub(crate) fn begin(region: &Region, slot: u32, me: MemberId, sharers: &mut Sharers) -> bool {
    if sharers.upgrades {
        return false;
    }
    loop {
        let seen = load(region, slot);
        if seen.upgrader().is_some() {
            return false;
        }
        if swap(region, slot, seen, seen.with_upgrade(me)) {
            sharers.upgrades = true;
            if let Some(writer) = seen.writer() {
                // It waits for this reader, and goes back in line.
                ring(region, writer, slot);
            }
            return true;
        }
    }
}

/// Makes the reader the writer, if it is alone.
///
/// Caller holds: the member's mutex of the entry, and an upgrade that has begun.
pub(crate) fn advance(region: &Region, slot: u32, me: MemberId, place: Place, sharers: &mut Sharers) -> Upgrade {
    loop {
        let seen = load(region, slot);
        if seen.upgrader() != Some(me) {
            return Upgrade::Conflict;
        }
        if seen.writer().is_some() || !is_alone(region, slot, me, (seen, place), sharers) {
            return Upgrade::Waits(seen);
        }
        // None has entered since: the word would be another one, or its bit have been there at the look.
        if swap(region, slot, seen, seen.with_upgraded(me)) {
            region.clear_bit(slot, Bitmap::Readers, me);
            *sharers = Sharers::default();
            return Upgrade::Done;
        }
    }
}

/// Whether no other member, and no other thread of this one, shares the slot.
fn is_alone(region: &Region, slot: u32, me: MemberId, (seen, place): (Word, Place), sharers: &Sharers) -> bool {
    let threads = match place {
        Place::Word if seen.is_joined(me) => sharers.named,
        Place::Word => 1,
        Place::Overflow => sharers.overflow,
    };
    let has_other = || region.bits(slot, Bitmap::Readers).any(|id| id != me);
    threads == 1 && !seen.without_reader(me).has_named_readers() && !(seen.has_overflow() && has_other())
}

/// Gives the upgrade up; the member stays a reader.
///
/// Caller holds: the member's mutex of the entry, and an upgrade that has begun.
pub(crate) fn end(region: &Region, slot: u32, me: MemberId, sharers: &mut Sharers) {
    sharers.upgrades = false;
    loop {
        let seen = load(region, slot);
        if seen.upgrader() != Some(me) {
            return;
        }
        let without = seen.without_upgrade(me);
        let (wanted, turn) = if without.needs_turn() {
            let choice = choose(region, slot, last_turn(region, slot, me), None);
            (without.with_turn(choice), Turn::of(choice))
        } else {
            (without, Turn::Unchanged)
        };
        if swap(region, slot, seen, wanted) {
            return settle(region, slot, turn);
        }
    }
}

/// Takes a writer that waits for readers back into line.
///
/// One of them upgrades.
/// Says whether it did: not if none upgrades any more.
#[must_use]
pub(crate) fn back_into_line(region: &Region, slot: u32, me: MemberId) -> bool {
    region.set_bit(slot, Bitmap::Waiters, me);
    loop {
        let seen = load(region, slot);
        if seen.upgrader().is_none() {
            region.clear_bit(slot, Bitmap::Waiters, me);
            return false;
        }
        if swap(region, slot, seen, seen.without_writer(me).registered(Waits::Asleep)) {
            ring_upgrader(region, seen, slot);
            return true;
        }
    }
}
