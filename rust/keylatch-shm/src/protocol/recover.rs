//! Removing the names of a dead member. Every step can be done twice, by two processes, and stopped anywhere.

use super::revocation::recover_revocation;
use super::turn::{choose, last_turn, pass_on, ring, ring_upgrader};
use super::{load, swap};
use crate::log;
use crate::os::{barrier, robust};
use crate::region::{Bitmap, Region};
use crate::slot_state::{SlotState, Tenure};
use crate::word::MemberId;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Returns whether a member needs recovery: it has ended, its slot is not quiet.
pub(crate) fn is_dead(region: &Region, id: MemberId) -> bool {
    let member = region.member(id);
    // Pairs with: the kernel's mark, a claim, and the end of a recovery.
    let life = member.life.load(Ordering::SeqCst);
    !robust::is_alive(life) && !Tenure::of(region, id).is(SlotState::Quiet)
}

/// Recovers a dead member. Says whether it was dead.
///
/// Caller holds: the calling process's recovery mutex, for it can announce one recovery at a time.
pub(crate) fn recover(region: &Region, me: MemberId, dead: MemberId) -> bool {
    let announcement = &region.member(me).recovering;
    // Pairs with: the look at announcements in joining. The slot gets no new member while this stands.
    announcement.store(u32::from(dead.number()), Ordering::SeqCst);
    fence(Ordering::SeqCst);
    let confirmed = is_dead(region, dead);
    if confirmed {
        recover_slot(region, dead);
        region.header().recoveries.fetch_add(1, Ordering::Relaxed);
    }
    // Pairs with: the look at announcements in joining.
    announcement.store(0, Ordering::SeqCst);
    confirmed
}

/// Recovers what the slot's log says, and makes the slot quiet.
///
/// Caller holds: an announcement of the slot, or its life word.
pub(crate) fn recover_slot(region: &Region, dead: MemberId) {
    // A thread of the dead process may still run where the kernel has not interrupted it yet.
    barrier::all_processors();
    Tenure::set(region, dead, SlotState::Dead);
    region.member(dead).wish.store(0, Ordering::SeqCst);
    recover_revocation(region, dead);
    for index in log::records_of(region, dead) {
        let record = region.record(index);
        if recover_head(region, &record.head, dead) {
            // The record is another member's next, which no mark of this use concerns.
            record.revoked.store(0, Ordering::SeqCst);
            // Pairs with: another recoverer's load; what it finds clear is done.
            record.head.store(0, Ordering::Release);
        }
    }
    let taking = &region.member(dead).taking;
    if recover_head(region, taking, dead) {
        taking.store(0, Ordering::Release);
    }
    // Pairs with: `is_dead`, and the claim of the slot's next member.
    Tenure::set(region, dead, SlotState::Quiet);
}

/// Recovers the slot that a record is about, if it is about one.
fn recover_head(region: &Region, head: &AtomicU64, dead: MemberId) -> bool {
    // Pairs with: the release that clears a record, in recovery and in releasing.
    let Some((slot, _)) = log::unpack(head.load(Ordering::Acquire)) else { return false };
    if slot < region.layout().slots() {
        recover_entry(region, slot, dead);
    }
    true
}

/// Removes all traces of a dead member from one slot.
///
/// An entry whose key was being changed needs no more: each moment of a change is safe to die in.
fn recover_entry(region: &Region, slot: u32, dead: MemberId) {
    region.clear_bit(slot, Bitmap::Waiters, dead);
    region.clear_bit(slot, Bitmap::Readers, dead);
    loop {
        let seen = load(region, slot);
        let without = seen.without_writer(dead).without_reader(dead).without_upgrade(dead).without_turn(dead);
        // Also for an entry whose key was being changed: another thread's record may name the same entry, and a
        // report too many is harmless.
        let was_held = seen.writer() == Some(dead);
        let without = if was_held { without.with_died() } else { without };
        let wanted = if without.needs_turn() {
            let last = if seen.next() == Some(dead) { dead } else { last_turn(region, slot, dead) };
            without.with_turn(choose(region, slot, last, None))
        } else {
            without
        };
        if wanted == seen || swap(region, slot, seen, wanted) {
            break;
        }
    }
    // The dead member may have ended between a swap and the signals that it owed, or have cleared Q before it looked
    // again: so the writer, an upgrade, all waiters and the check of the turn are done here whatever the word says.
    let now = load(region, slot);
    if let Some(writer) = now.writer() {
        ring(region, writer, slot);
    }
    ring_upgrader(region, now, slot);
    region.bits(slot, Bitmap::Waiters).for_each(|id| ring(region, id, slot));
    if let Some(next) = load(region, slot).next()
        && !region.has_bit(slot, Bitmap::Waiters, next)
    {
        pass_on(region, slot, next);
    }
}
