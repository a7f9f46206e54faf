//! Whose turn it is: choosing, signalling, passing on.

use super::{load, swap};
use crate::layout::BELLS;
use crate::os::futex;
use crate::region::{Bitmap, Region};
use crate::sleeper;
use crate::word::{MemberId, Word};
use std::sync::atomic::{AtomicU32, Ordering};

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
pub(crate) fn pass_on(region: &Region, slot: u32, gone: MemberId) {
    let mut gone = gone;
    loop {
        let seen = load(region, slot);
        if seen.next() != Some(gone) {
            return;
        }
        let without = seen.without_turn(gone);
        if !without.needs_turn() {
            if swap(region, slot, seen, without) {
                return;
            }
            continue;
        }
        let choice = choose(region, slot, gone, Some(gone))
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
