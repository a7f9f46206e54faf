//! Taking the name of a revoked hold out of the word.
//!
//! The mark of the record names the process that does so, and no other one does. It has announced the slot of the holder's
//! member before, and looked whether its member is still there: the name in the word may be that of another hold otherwise. None
//! goes on for it if it is killed: the name may be out by then, and another thread of the process have put it in again. The
//! model is `model/revokers.rs`.

use super::{leave, turn};
use crate::change::{revocation, revoked};
use crate::log::Kind;
use crate::os::futex;
use crate::region::Region;
use crate::word::MemberId;
use std::sync::atomic::{Ordering, fence};

/// A hold whose name is taken out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Revoked {
    pub(crate) holder: MemberId,
    pub(crate) record: u32,
    pub(crate) hold: u32,
    pub(crate) slot: u32,
    pub(crate) kind: Kind,
}

/// That a member revokes a hold of another's slot.
///
/// The slot gets no new member until it is dropped.
pub(crate) struct Announcement<'r> {
    region: &'r Region,
    me: MemberId,
}

impl<'r> Announcement<'r> {
    /// Announces; a process can announce one at a time.
    ///
    /// Caller holds: the calling process's mutex of revocations.
    pub(crate) fn new(region: &'r Region, me: MemberId, holder: MemberId, record: u32) -> Self {
        let announced = u64::from(holder.number()) | u64::from(record + 1) << 32;
        // Pairs with: the look at announcements in joining.
        region.member(me).revoking.store(announced, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Self { region, me }
    }
}

impl Drop for Announcement<'_> {
    fn drop(&mut self) {
        // Pairs with: the look at announcements in joining.
        self.region.member(self.me).revoking.store(0, Ordering::SeqCst);
    }
}

/// Takes the name out, and says so in the mark.
///
/// `false` if a thread of the process has joined a reader's name since: it has its lock, so the hold stays.
///
/// Caller holds: an announcement of the holder's slot, whose member is still there, and the mark, which names it.
pub(crate) fn take_out(region: &Region, me: MemberId, revoked_hold: &Revoked) -> bool {
    let Revoked { holder, record, hold, slot, kind } = *revoked_hold;
    let mark = &region.record(record).revoked;
    if kind == Kind::Shared && !leave::remove_reader(region, slot, holder) {
        let _ = mark.compare_exchange(revocation(hold, me), 0, Ordering::SeqCst, Ordering::Relaxed);
        // The thread that held it may have released it meanwhile, as far as it could.
        let bell = &region.member(holder).watch_bell;
        // Pairs with: the life thread's load before it looks at what is left.
        bell.fetch_add(1, Ordering::SeqCst);
        futex::wake_all(bell);
        return false;
    }
    if kind != Kind::Shared {
        leave::remove_writer(region, slot, holder);
    }
    // From here on the holder may clear the record.
    let _ = mark.compare_exchange(revocation(hold, me), revoked(hold), Ordering::SeqCst, Ordering::Relaxed);
    // A writer that waits for readers asks again.
    turn::ring(region, holder, slot);
    true
}
