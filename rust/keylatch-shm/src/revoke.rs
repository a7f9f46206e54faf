//! Taking a hold away from a process that lives.

use crate::acquire::revocation;
use crate::core::Core;
use crate::error::ShmError;
use crate::listed::HoldId;
use crate::log::{self, Kind};
use crate::lookup::read_text;
use crate::os::barrier;
use crate::protocol::{leave, load};
use crate::recall::ring_keeper;
use crate::region::Bitmap;
use crate::word::MemberId;
use std::sync::atomic::Ordering;

/// Takes a hold away and removes its name from the word.
///
/// It asks, and makes sure that the process sees that before it touches the word again.
///
/// A hold that its process is changing meanwhile stays: nothing is left of the question then.
pub(crate) fn revoke(core: &Core, id: HoldId) -> Result<bool, ShmError> {
    let region = &core.region;
    let Some(member) = MemberId::new(u64::from(id.member)).filter(|member| region.has_member(*member)) else {
        return Ok(false);
    };
    if id.record >= region.layout().record_count() {
        return Ok(false);
    }
    let record = region.record(id.record);
    let head = record.head.load(Ordering::Acquire);
    let owned = region.chunk(id.record / crate::layout::RECORDS).owner.load(Ordering::Acquire) == u32::from(id.member);
    let current = || record.head.load(Ordering::Acquire) == head && record.hold.load(Ordering::Acquire) == id.hold;
    let Some((slot, kind)) =
        log::unpack(head).filter(|(slot, kind)| *kind != Kind::Rekey && *slot < region.layout().entry_count())
    else {
        return Ok(false);
    };
    if !owned || !current() {
        return Ok(false);
    }
    let word = load(region, slot);
    let shared_by_threads =
        word.is_joined(member) || kind == Kind::Shared && region.has_bit(slot, Bitmap::Readers, member);
    if shared_by_threads {
        return Err(ShmError::UpgradeConflict { key: read_text(region.entry(slot)) });
    }
    let before = record.revoked.load(Ordering::SeqCst);
    if before == revocation(id.hold) {
        return Ok(false);
    }
    // It may have been asked before, by a revoker that was killed.
    let asked = record.revoked.compare_exchange(before, id.hold, Ordering::SeqCst, Ordering::Relaxed).is_ok();
    // Pairs with: the compiler fence of `begin_change`. After the barrier, each thread of the holder either has its
    // `releasing` visible here, or sees the question before it touches the word.
    barrier::all_processors();
    let is_changing = || record.releasing.load(Ordering::SeqCst) == id.hold;
    if !asked || !current() || is_changing() {
        // Unless the holder took it back.
        let _ = record.revoked.compare_exchange(id.hold, before, Ordering::SeqCst, Ordering::Relaxed);
        return Ok(false);
    }
    let taken = revocation(id.hold);
    if record.revoked.compare_exchange(id.hold, taken, Ordering::SeqCst, Ordering::Relaxed).is_err() {
        return Ok(false);
    }
    // Its tier looks whether it has lost what it keeps.
    ring_keeper(region, member);
    match kind {
        Kind::Exclusive => leave::leave_exclusive(region, slot, member),
        _ if leave::remove_reader(region, slot, member) => {}
        _ => {
            // A thread of the process has joined the name since: it has its lock, so the hold stays.
            record.revoked.store(before, Ordering::SeqCst);
            return Err(ShmError::UpgradeConflict { key: read_text(region.entry(slot)) });
        }
    }
    Ok(true)
}
