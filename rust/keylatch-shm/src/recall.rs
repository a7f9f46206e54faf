//! Asking for what another process keeps: a tier holds a key without using it until another process waits for it.
//!
//! A keeper that sleeps is woken by the bell of its member, which a request rings that has to wait. No recall is lost. The
//! request sets its bit, then registers in the word by a swap, and then rings the members that the word named. The keeper
//! enters by a swap of the same word, and then looks whether it is wanted. If its swap came first, the request saw its name
//! and rings; if not, the keeper sees the bit. It reads the bell before it looks, and sleeps on what it read.

use crate::log::{self, Kind};
use crate::os::clock;
use crate::protocol::load;
use crate::protocol::turn::ring_keeper;
use crate::region::{Bitmap, Region};
use crate::word::MemberId;
use keylatch::Mode;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Whether another process waits for a slot that this member holds.
pub(crate) fn is_wanted(region: &Region, me: MemberId, slot: u32) -> bool {
    let is_other = |id: &MemberId| *id != me;
    let word = load(region, slot);
    let waits = || region.bits(slot, Bitmap::Waiters).any(|id| is_other(&id));
    // A named writer that waits for readers has no bit.
    word.writer().is_some_and(|id| is_other(&id))
        || word.next().is_some_and(|id| is_other(&id))
        || word.has_queue() && waits()
}

/// How other processes want a slot, if this hold is in their way.
///
/// Readers first: they can share the slot when it is downgraded, and a writer behind them is found by the next look.
pub(crate) fn wanted_as(region: &Region, me: MemberId, slot: u32, held: Mode) -> Option<Mode> {
    if !is_wanted(region, me, slot) {
        return None;
    }
    let word = load(region, slot);
    if word.writer().is_some_and(|id| id != me) || word.upgrader().is_some_and(|id| id != me) {
        return Some(Mode::Exclusive);
    }
    let (mut reads, mut writes) = (false, false);
    for id in region.bits(slot, Bitmap::Waiters).chain(word.next()) {
        if id == me || !region.has_member(id) {
            continue;
        }
        // A request writes its record before it registers.
        for head in log::heads_of(region, id) {
            match log::unpack(head.load(Ordering::Acquire)) {
                Some((at, Kind::Shared)) if at == slot => reads = true,
                Some((at, _)) if at == slot => writes = true,
                _ => {}
            }
        }
    }
    match held {
        Mode::Exclusive if reads => Some(Mode::Shared),
        // Readers come in by themselves.
        Mode::Shared if reads && !writes => None,
        // Who waited has come in or left since the first look. One that comes registers, and then rings.
        _ if !reads && !writes => None,
        _ => Some(Mode::Exclusive),
    }
}

// `wish` of a member: slot + 1, whether it would share, and the millisecond in which it ends.
const SHARES: u64 = 1 << 31;
const ENDS: u32 = 32;
/// A wish that ends later than this is by another clock, as of a time namespace.
const LONGEST_MS: u32 = 1_000;

fn now_ms() -> u32 {
    clock::monotonic().as_millis() as u32
}

/// Has those that keep the slot give it back, without a place in line.
///
/// The wish ends by itself, so that one of a stopped process costs others nothing.
///
/// Caller holds: the process's mutex of wishes, for it can have one at a time.
pub(crate) fn wish(region: &Region, me: MemberId, slot: u32, mode: Mode, patience: Duration) {
    let shares = if mode == Mode::Shared { SHARES } else { 0 };
    let ends = now_ms().wrapping_add(patience.as_millis() as u32 + 1);
    // Comes before the bells; pairs with the load of the keepers that they wake.
    region.member(me).wish.store(u64::from(slot + 1) | shares | u64::from(ends) << ENDS, Ordering::SeqCst);
    keepers(region, me, slot).for_each(|id| ring_keeper(region, id));
}

/// Takes the wish back.
pub(crate) fn end_wish(region: &Region, me: MemberId) {
    region.member(me).wish.store(0, Ordering::SeqCst);
}

/// What other processes wish for now.
pub(crate) fn wishes(region: &Region, me: MemberId) -> Vec<(u32, Mode)> {
    let now = now_ms();
    let others = region.members().filter(|id| *id != me);
    let wishes = others.filter_map(|id| {
        let wish = region.member(id).wish.load(Ordering::SeqCst);
        let slot = (wish & (SHARES - 1)).checked_sub(1)? as u32;
        let mode = if wish & SHARES == 0 { Mode::Exclusive } else { Mode::Shared };
        let left = ((wish >> ENDS) as u32).wrapping_sub(now);
        (1..=LONGEST_MS).contains(&left).then_some((slot, mode))
    });
    wishes.collect()
}

/// The other processes that hold the slot and have a tier.
fn keepers(region: &Region, me: MemberId, slot: u32) -> impl Iterator<Item = MemberId> + '_ {
    let word = load(region, slot);
    let overflow = region.bits(slot, Bitmap::Readers).filter(move |_| word.has_overflow());
    let holders = word.readers().into_iter().flatten().chain(word.writer()).chain(overflow);
    holders
        .filter(move |id| *id != me && region.has_member(*id) && region.member(*id).keeps.load(Ordering::Relaxed) != 0)
}

/// Whether a process that holds the slot may only be keeping it.
pub(crate) fn is_kept(region: &Region, me: MemberId, slot: u32) -> bool {
    keepers(region, me, slot).next().is_some()
}
