//! Asking for what another process keeps: a tier holds a key without using it until another process waits for it.
//!
//! A keeper that sleeps is woken by the bell of its member, which a request rings that has to wait. No recall is lost. The
//! request sets its bit, then registers in the word by a swap, and then rings the members that the word named. The keeper
//! enters by a swap of the same word, and then looks whether it is wanted. If its swap came first, the request saw its name
//! and rings; if not, the keeper sees the bit. It reads the bell before it looks, and sleeps on what it read.

use crate::os::futex;
use crate::protocol::load;
use crate::region::{Bitmap, Region};
use crate::word::MemberId;
use std::sync::atomic::Ordering;

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
