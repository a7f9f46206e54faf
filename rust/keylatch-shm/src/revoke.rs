//! Taking a hold away from a process that lives.

use crate::change::{is_changing, is_revocation, question, revocation, revoked};
use crate::core::Core;
use crate::error::ShmError;
use crate::listed::HoldId;
use crate::log::{self, Kind};
use crate::lookup::read_text;
use crate::os::barrier;
use crate::protocol::{leave, load, turn};
use crate::recall::ring_keeper;
use crate::region::Bitmap;
use crate::word::MemberId;
use std::sync::PoisonError;
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
    // A question names the process, so a process has one at a time.
    let _one = core.revoking.lock().unwrap_or_else(PoisonError::into_inner);
    let (asks, taken) = (question(id.hold, core.me), revocation(id.hold, core.me));
    let before = record.revoked.load(Ordering::SeqCst);
    if is_revocation(before, id.hold) {
        return Ok(false);
    }
    let swap = |from, to| record.revoked.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok();
    // In the place of an older question, which then has no answer.
    let asked = swap(before, asks);
    // Pairs with: the compiler fence of `begin_change`. After the barrier, each thread of the holder either has its
    // `releasing` visible here, or sees the question before it touches the word.
    barrier::all_processors();
    // In this order: a change that has ended before the look has renamed the hold, which the second look sees.
    if !asked || is_changing(record, id.hold) || !current() {
        // Unless the holder took it back.
        let _ = swap(asks, 0);
        return Ok(false);
    }
    if !swap(asks, taken) {
        return Ok(false);
    }
    // Its tier looks whether it has lost what it keeps.
    ring_keeper(region, member);
    match kind {
        Kind::Exclusive => leave::leave_exclusive(region, slot, member),
        _ if leave::remove_reader(region, slot, member) => {}
        _ => {
            // A thread of the process has joined the name since: it has its lock, so the hold stays.
            record.revoked.store(0, Ordering::SeqCst);
            return Err(ShmError::UpgradeConflict { key: read_text(region.entry(slot)) });
        }
    }
    // From here on the holder may clear the record.
    let _ = swap(taken, revoked(id.hold));
    // A writer that waits for readers asks again.
    turn::ring(region, member, slot);
    Ok(true)
}
