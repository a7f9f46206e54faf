//! The states of a member's slot, and who may write what is its member's.

use crate::os::robust::is_alive;
use crate::region::Region;
use crate::word::MemberId;
use std::sync::atomic::Ordering;

/// The states of a slot.
///
/// | `life` | state | meaning |
/// |---|---|---|
/// | 0, or dead | Quiet | free |
/// | alive | Quiet, Dead | being joined |
/// | alive | Live | a member |
/// | dead | Live, Dead | to be recovered |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum SlotState {
    Quiet = 0,
    Live = 1,
    Dead = 2,
}

pub(crate) fn life(region: &Region, id: MemberId) -> u32 {
    // Pairs with: claims, and the kernel's mark.
    region.member(id).life.load(Ordering::SeqCst)
}

/// Whether a live member recovers the slot, or revokes a hold of its member.
///
/// Both write what is the slot's only as long as it has the same member.
pub(crate) fn is_announced(region: &Region, slot: MemberId) -> bool {
    region.members().filter(|id| *id != slot).any(|id| {
        let member = region.member(id);
        let recovering = member.recovering.load(Ordering::SeqCst);
        let revoking = member.revoking.load(Ordering::SeqCst) as u32;
        (recovering == u32::from(slot.number()) || revoking == u32::from(slot.number())) && is_alive(life(region, id))
    })
}

/// Whether the slot's member is the one whose log stands there.
///
/// It is live, or dead and none joins in its place.
///
/// The caller has announced the slot before. A new member that does not see that has said by now that the old one is gone.
pub(crate) fn is_unclaimed(region: &Region, slot: MemberId) -> bool {
    !is_alive(life(region, slot)) || region.member(slot).state.load(Ordering::SeqCst) == SlotState::Live as u32
}
