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
///
/// No slot is claimed while it is Live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum SlotState {
    Quiet = 0,
    Live = 1,
    Dead = 2,
}

/// The state of a slot as it lies in the file.
///
/// ```text
///      31..2        1..0
/// +-------------+-----------+
/// | members had | SlotState |
/// +-------------+-----------+
/// ```
///
/// A joiner that was stopped does not take the member of now for the one that it saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tenure(u32);

impl Tenure {
    const ONE: u32 = 4;

    pub(crate) fn of(region: &Region, id: MemberId) -> Self {
        // Pairs with: the stores and the swap below.
        Self(region.member(id).state.load(Ordering::SeqCst))
    }

    pub(crate) fn is(self, state: SlotState) -> bool {
        self.0 % Self::ONE == state as u32
    }

    /// Sets the state of the member that the slot has, or had last.
    ///
    /// Caller holds: an announcement of the slot, or its life word.
    pub(crate) fn set(region: &Region, id: MemberId, state: SlotState) {
        let word = &region.member(id).state;
        let now = word.load(Ordering::SeqCst);
        // Pairs with: `of`.
        word.store(now - now % Self::ONE + state as u32, Ordering::SeqCst);
    }

    /// Has the slot's new member be live.
    ///
    /// Caller holds: the slot's life word, and no live member announces the slot.
    pub(crate) fn begin(region: &Region, id: MemberId) {
        let word = &region.member(id).state;
        let now = word.load(Ordering::SeqCst);
        // Pairs with: `of`.
        word.store((now - now % Self::ONE).wrapping_add(Self::ONE + SlotState::Live as u32), Ordering::SeqCst);
    }

    /// Says that the member is gone; `false` if the slot has had another one since.
    ///
    /// It was dead at a look after `self` was read.
    #[must_use]
    pub(crate) fn end(self, region: &Region, id: MemberId) -> bool {
        let word = &region.member(id).state;
        let ended =
            if self.is(SlotState::Live) { self.0 - SlotState::Live as u32 + SlotState::Dead as u32 } else { self.0 };
        // Pairs with: `of`, and the claim that follows.
        word.compare_exchange(self.0, ended, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
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
/// The caller has announced the slot before. Who claims the slot has said before that the member is gone.
pub(crate) fn is_unclaimed(region: &Region, slot: MemberId) -> bool {
    !is_alive(life(region, slot)) || Tenure::of(region, slot).is(SlotState::Live)
}
