//! Changes that a holder makes to the word of its hold, and how a revoker asks whether it makes one.

use crate::layout::Record;
use crate::region::Region;
use crate::word::{MAX_MEMBERS, MemberId};
use std::sync::atomic::{Ordering, compiler_fence};

/// Numbers a use.
///
/// No revoker touches it before the request has the lock and ends the change with [`changed`].
#[inline(always)]
pub(crate) fn open_use(record: &Record, hold: u32) {
    record.revoked.store(0, Ordering::Relaxed);
    // Pairs with: a revoker's look. Who sees this use sees that the answer about the last one is gone.
    record.releasing.store(hold, Ordering::Release);
    // Pairs with: a revoker's load, before it asks for this use; it sees `releasing` then.
    record.hold.store(hold, Ordering::Release);
}

/// Whether the hold was revoked; begins a change of the word if not.
///
/// Ends with [`changed`] or a release.
#[inline(always)]
pub(crate) fn begin_change(region: &Region, record: u32) -> bool {
    let record = region.record(record);
    let hold = record.hold.load(Ordering::Relaxed);
    record.releasing.store(hold, Ordering::Relaxed);
    // Pairs with: the barrier on all processors between a revoker's store and its look at `releasing`, which makes this
    // fence of the compiler one of the processor exactly when it is needed.
    compiler_fence(Ordering::SeqCst);
    (record.revoked.load(Ordering::Relaxed) ^ hold) & USE == 0 && is_revoked_for_good(record, hold)
}

// `revoked` of a record: the use that it is about, who asks for it, and whether it is revoked. 0 says nothing.
const USE: u32 = (1 << USE_BITS) - 1;
const USE_BITS: u32 = 19;
const REVOKED: u32 = 1 << 31;
const _: () = assert!((MAX_MEMBERS as u32) << USE_BITS < REVOKED);

/// What `revoked` is while a member asks for a hold.
///
/// The name is in it, so that no revoker takes the answer to another one's question for its own.
pub(crate) fn question(hold: u32, asker: MemberId) -> u32 {
    hold & USE | u32::from(asker.number()) << USE_BITS
}

/// What `revoked` is from the swap that decides until the name is out.
pub(crate) fn revocation(hold: u32, revoker: MemberId) -> u32 {
    question(hold, revoker) | REVOKED
}

/// What it is if the revoker died before it took the holder's name.
///
/// The holder's process takes the name out then.
pub(crate) fn left(hold: u32, holder: MemberId) -> u32 {
    revocation(hold, holder)
}

/// What it is then.
pub(crate) fn revoked(hold: u32) -> u32 {
    hold & USE | REVOKED
}

/// Whether this says that the hold is revoked.
///
/// Its name is gone from the word then, or goes next.
pub(crate) fn is_revocation(mark: u32, hold: u32) -> bool {
    mark & (REVOKED | USE) == revoked(hold)
}

/// Whether this member has the name of a revoked hold still to take out.
pub(crate) fn is_revocation_by(mark: u32, by: MemberId) -> bool {
    mark & !USE == revocation(0, by)
}

/// Whether the name of a revoked hold is still to be taken out.
pub(crate) fn has_name_left(mark: u32) -> bool {
    mark & REVOKED != 0 && mark & !(REVOKED | USE) != 0
}

/// Whether the member acquires, changes or releases the hold.
///
/// What a request is until it has the lock, so that its record is not taken for another's of the process that has it.
pub(crate) fn is_changing(record: &Record, hold: u32) -> bool {
    // Pairs with: the release at the end of a change.
    record.releasing.load(Ordering::SeqCst) == hold
}

/// Whether the hold is revoked for good, where a revoker may have asked.
///
/// One swap decides: the holder takes the question back, or the revoker answers it. So they never both think that the other
/// leaves the word.
#[cold]
#[inline(never)]
fn is_revoked_for_good(record: &Record, hold: u32) -> bool {
    let mut seen = record.revoked.load(Ordering::SeqCst);
    loop {
        if is_revocation(seen, hold) {
            return true;
        }
        if seen == 0 || seen & USE != hold & USE {
            return false;
        }
        match record.revoked.compare_exchange(seen, 0, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return false,
            Err(now) => seen = now,
        }
    }
}

/// Ends a change after which the hold goes on, or the acquisition.
#[inline(always)]
pub(crate) fn changed(region: &Region, record: u32) {
    let record = region.record(record);
    // Pairs with: a revoker's look, which sees then what the change has done.
    record.releasing.store(record.hold.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Release);
}
