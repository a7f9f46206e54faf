//! Whose turn it is: choosing, signalling, passing on.

use super::{load, swap};
use crate::layout::BELLS;
use crate::os::futex;
use crate::region::{Bitmap, Region};
use crate::sleeper;
use crate::word::{MemberId, Word};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What a swap did with the turn; the signals that it owes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "waiters sleep until they are signalled"]
pub(crate) enum Turn {
    Unchanged,
    Given(MemberId),
    /// No waiter was seen, and Q was cleared.
    Dropped,
}

impl Turn {
    pub(crate) fn of(choice: Option<MemberId>) -> Self {
        choice.map_or(Turn::Dropped, Turn::Given)
    }
}

/// How often a writer may leave without giving a turn, between two turns.
///
/// It leaves the entry to the first that comes, which is often its own process, awake and with the key at hand.
const OPEN_LEAVES: u64 = 32;

// `turns` of an entry: who had the last turn as a writer, and the open leaves since.
const LAST: u64 = 0xFFFF;
const ONE_LEAVE: u64 = LAST + 1;

/// A gate has none: each leaver gives a turn.
fn turns(region: &Region, slot: u32) -> Option<&AtomicU64> {
    (slot < region.layout().entry_count()).then(|| &region.entry(slot).turns)
}

/// After whom the next turn goes.
pub(crate) fn last_turn(region: &Region, slot: u32, leaver: MemberId) -> MemberId {
    let turns = turns(region, slot).map(|turns| turns.load(Ordering::Relaxed) & LAST);
    turns.and_then(MemberId::new).unwrap_or(leaver)
}

/// Notes that the member enters by its turn.
///
/// Caller holds: the slot as its named writer.
pub(crate) fn note_turn(region: &Region, slot: u32, me: MemberId) {
    if let Some(turns) = turns(region, slot) {
        turns.store(u64::from(me.number()), Ordering::Relaxed);
    }
}

/// Whether the writer may leave without giving a turn; counts that.
///
/// Caller holds: the slot as its named writer.
pub(crate) fn may_leave_open(region: &Region, slot: u32) -> bool {
    let Some(turns) = turns(region, slot) else { return false };
    let seen = turns.load(Ordering::Relaxed);
    let may = seen / ONE_LEAVE < OPEN_LEAVES;
    if may {
        turns.store(seen + ONE_LEAVE, Ordering::Relaxed);
    }
    may
}

/// The word that a member's requests for a slot sleep on.
pub(crate) fn bell_of(region: &Region, id: MemberId, slot: u32) -> &AtomicU32 {
    &region.member(id).bells[slot as usize % BELLS]
}

/// Wakes a member's requests for a slot, to look again.
///
/// Those that are awake look before they sleep.
pub(crate) fn ring(region: &Region, id: MemberId, slot: u32) {
    if region.has_member(id) {
        sleeper::ring(bell_of(region, id, slot));
    }
}

/// Wakes the tier of a member that holds what the caller waits for, if it has one.
pub(crate) fn ring_keeper(region: &Region, holder: MemberId) {
    let member = region.member(holder);
    // Set before the tier's first hold, whose swap the caller has seen.
    if member.keeps.load(Ordering::Relaxed) != 0 {
        // Pairs with: the keeper's load before it looks.
        member.recall_bell.fetch_add(1, Ordering::SeqCst);
        futex::wake_all(&member.recall_bell);
    }
}

/// Wakes the reader that upgrades, if one does: its thread, or its tier's.
pub(crate) fn ring_upgrader(region: &Region, word: Word, slot: u32) {
    if let Some(id) = word.upgrader().filter(|id| region.has_member(*id)) {
        ring(region, id, slot);
        ring_keeper(region, id);
    }
}

/// Chooses the waiting member after `last` in cyclic order.
///
/// One that let its turn pass only if no other waits.
///
/// The order bounds how often a waiter is passed: each other waiting member has at most one turn before it.
pub(crate) fn choose(region: &Region, slot: u32, last: MemberId, except: Option<MemberId>) -> Option<MemberId> {
    let mut choices = [None; 4];
    for id in region.bits(slot, Bitmap::Waiters).filter(|id| Some(*id) != except) {
        let is_late = region.member(id).late.load(Ordering::Relaxed) != 0;
        let rank = usize::from(id <= last) + 2 * usize::from(is_late);
        choices[rank].get_or_insert(id);
    }
    choices.into_iter().flatten().next()
}

/// Signals the chosen member and checks that it still waits, or looks again.
pub(crate) fn settle(region: &Region, slot: u32, turn: Turn) {
    match turn {
        Turn::Unchanged => {}
        Turn::Given(id) => {
            ring(region, id, slot);
            if !region.has_bit(slot, Bitmap::Waiters, id) {
                // It gave up before the swap and cannot know of its turn.
                pass_on(region, slot, id);
            }
        }
        // A waiter that set its bit after the scan saw Q set and sleeps.
        Turn::Dropped => region.bits(slot, Bitmap::Waiters).for_each(|id| ring(region, id, slot)),
    }
}

/// Passes the turn on from a member, until the one that has it still waits.
///
/// Gives a turn where a writer gave none: the member may have been signalled for that.
pub(crate) fn pass_on(region: &Region, slot: u32, gone: MemberId) {
    let mut gone = gone;
    loop {
        let seen = load(region, slot);
        let had_turn = seen.next() == Some(gone);
        if !had_turn && !seen.needs_turn() {
            return;
        }
        let last = if had_turn { gone } else { last_turn(region, slot, gone) };
        let without = seen.without_turn(gone);
        if !without.needs_turn() {
            if swap(region, slot, seen, without) {
                return;
            }
            continue;
        }
        let choice = choose(region, slot, last, Some(gone))
            .or_else(|| region.has_bit(slot, Bitmap::Waiters, gone).then_some(gone));
        if !swap(region, slot, seen, without.with_turn(choice)) {
            continue;
        }
        match choice {
            Some(id) => {
                ring(region, id, slot);
                if region.has_bit(slot, Bitmap::Waiters, id) {
                    return;
                }
                gone = id;
            }
            None => return region.bits(slot, Bitmap::Waiters).for_each(|id| ring(region, id, slot)),
        }
    }
}
