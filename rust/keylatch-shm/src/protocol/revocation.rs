//! Taking the name of a revoked hold out of the word.
//!
//! The mark of the record names the process that does so. It has announced the slot of the holder's member before, and looked
//! whether its member is still there: the name in the word may be that of another hold otherwise.
//!
//! It puts its own name in the place of a writer's, marks the record, and leaves. If it is killed, its recoverer sees by the
//! word how far it was. While the mark names it, no thread of the holder's process takes the lock again: the word has its name
//! or theirs. With its name, the recoverer marks the record, and takes the name out as that of each dead writer. With theirs, it
//! leaves the name to them, for two recoverers cannot take out the name of a member that lives.
//!
//! A reader's name is taken out in one step. None goes on for a revoker that is killed there: the name may be out by then, and
//! another thread of the process have put it in again. The model is `model/revokers.rs`.

use super::{leave, load, turn};
use crate::change::{is_revocation_by, left, revocation, revoked};
use crate::log::{self, Kind};
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
/// Caller holds: an announcement of the holder's slot, whose member is still there, and the mark, which names it. For a
/// writer, also of this process, a record of the slot.
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
    // If the holder was recovered meanwhile, another thread of this process may be the writer.
    let is_named = kind != Kind::Shared && (holder == me || leave::replace_writer(region, slot, holder, me));
    // From here on the holder may clear the record. It comes before the name goes and another thread takes the lock.
    let _ = mark.compare_exchange(revocation(hold, me), revoked(hold), Ordering::SeqCst, Ordering::Relaxed);
    if is_named {
        leave::leave_exclusive(region, slot, me);
    }
    // A writer that waits for readers asks again.
    turn::ring(region, holder, slot);
    true
}

/// Ends the revocation of a dead revoker.
///
/// Its name, if it is in the word, may be taken out after this. Two may do so at a time.
pub(crate) fn recover_revocation(region: &Region, dead: MemberId) {
    let announced = region.member(dead).revoking.load(Ordering::SeqCst);
    let index = (announced >> 32).checked_sub(1).and_then(|index| u32::try_from(index).ok());
    let holder = MemberId::new(announced & u64::from(u32::MAX)).filter(|id| region.has_member(*id));
    if let (Some(index), Some(holder)) = (index.filter(|index| *index < region.layout().record_count()), holder) {
        let record = region.record(index);
        let seen = record.revoked.load(Ordering::SeqCst);
        let of = log::unpack(record.head.load(Ordering::Acquire));
        if let Some((slot, Kind::Exclusive)) = of.filter(|(slot, _)| *slot < region.layout().entry_count())
            && is_revocation_by(seen, dead)
        {
            let is_replaced = load(region, slot).writer() == Some(dead);
            let after = if is_replaced { revoked(seen) } else { left(seen, holder) };
            // Pairs with: the looks of the holder's process. It fails if the record has another use by now.
            let _ = record.revoked.compare_exchange(seen, after, Ordering::SeqCst, Ordering::Relaxed);
        }
    }
    region.member(dead).revoking.store(0, Ordering::SeqCst);
}
