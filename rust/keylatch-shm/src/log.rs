//! The log of a member: a superset of the slots that it may have touched.
//!
//! A record is written before the first trace of a request and cleared after its last duty. Records stand in chunks of
//! one page, which a member takes from a pool of the table and keeps; a dead member's chunks wait for the next member in
//! its slot.

use crate::layout::RECORDS;
use crate::region::Region;
use crate::word::MemberId;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a record covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Shared = 1,
    Exclusive = 2,
    /// The entry gets another key.
    ///
    /// Its holder is named as the writer and protects nothing yet.
    Rekey = 3,
}

/// The value of a record's head.
#[inline(always)]
pub(crate) const fn pack(slot: u32, kind: Kind) -> u64 {
    (kind as u64) << 32 | (slot as u64 + 1)
}

/// What a head says, or `None` for a clear one.
pub(crate) fn unpack(head: u64) -> Option<(u32, Kind)> {
    let slot = u32::try_from(head & u64::from(u32::MAX)).ok()?.checked_sub(1)?;
    let kind = match head >> 32 {
        1 => Kind::Shared,
        2 => Kind::Exclusive,
        _ => Kind::Rekey,
    };
    Some((slot, kind))
}

/// The chunks of a member, at most as many as there are: a damaged chain ends.
fn chunks_of(region: &Region, id: MemberId) -> impl Iterator<Item = u32> + '_ {
    let mut left = region.layout().sizes.chunks;
    // Pairs with: the store that links a chunk.
    let mut at = region.member(id).log.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        let chunk = at.checked_sub(1).filter(|chunk| *chunk < region.layout().sizes.chunks)?;
        left = left.checked_sub(1)?;
        at = region.chunk(chunk).next.load(Ordering::Acquire);
        Some(chunk)
    })
}

/// The records of a member.
pub(crate) fn records_of(region: &Region, id: MemberId) -> impl Iterator<Item = u32> + '_ {
    chunks_of(region, id).flat_map(|chunk| chunk * RECORDS..(chunk + 1) * RECORDS)
}

/// The heads of a member's records, and of the one in its slot.
pub(crate) fn heads_of(region: &Region, id: MemberId) -> impl Iterator<Item = &AtomicU64> + '_ {
    records_of(region, id).map(|index| &region.record(index).head).chain([&region.member(id).taking])
}

/// Takes a chunk from the pool and links it to the member.
///
/// `None` when the pool is empty.
///
/// Caller holds: the member's own mutex of its records.
pub(crate) fn take_chunk(region: &Region, me: MemberId) -> Option<u32> {
    let count = region.layout().sizes.chunks;
    let member = region.member(me);
    let hint = &region.header().chunk_hint;
    let first = hint.load(Ordering::Relaxed) % count;
    for step in 0..count {
        let chunk = (first + step) % count;
        let owner = &region.chunk(chunk).owner;
        if owner.load(Ordering::Relaxed) != 0 {
            continue;
        }
        // The next member in this slot finds a chunk that was taken and not linked.
        // Pairs with: `mend_chain`.
        member.log_intent.store(chunk + 1, Ordering::SeqCst);
        if owner.compare_exchange(0, u32::from(me.number()), Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            region.chunk(chunk).next.store(member.log.load(Ordering::Relaxed), Ordering::SeqCst);
            member.log.store(chunk + 1, Ordering::SeqCst);
            member.log_intent.store(0, Ordering::SeqCst);
            hint.store(chunk + 1, Ordering::Relaxed);
            return Some(chunk);
        }
    }
    member.log_intent.store(0, Ordering::SeqCst);
    None
}

/// Ends what a predecessor in the slot was doing with its chunks.
///
/// Caller holds: the slot's life word, and no member announces the slot.
pub(crate) fn mend_chain(region: &Region, me: MemberId) {
    let member = region.member(me);
    // Pairs with: the stores in `take_chunk` and `give_chunks_back`.
    if let Some(chunk) = member.log_intent.load(Ordering::SeqCst).checked_sub(1)
        && chunk < region.layout().sizes.chunks
        && region.chunk(chunk).owner.load(Ordering::SeqCst) == u32::from(me.number())
        && !chunks_of(region, me).any(|linked| linked == chunk)
    {
        region.chunk(chunk).owner.store(0, Ordering::SeqCst);
    }
    member.log_intent.store(0, Ordering::SeqCst);
}

/// Gives all chunks of the member back to the pool.
///
/// None of them has a record that is set.
///
/// Caller holds: the slot's life word, and no member announces the slot.
pub(crate) fn give_chunks_back(region: &Region, me: MemberId) {
    let member = region.member(me);
    // A damaged chain ends. Pairs with: `mend_chain`.
    for _ in 0..region.layout().sizes.chunks {
        let Some(chunk) = member.log.load(Ordering::SeqCst).checked_sub(1) else { break };
        if chunk >= region.layout().sizes.chunks {
            break;
        }
        member.log_intent.store(chunk + 1, Ordering::SeqCst);
        member.log.store(region.chunk(chunk).next.load(Ordering::SeqCst), Ordering::SeqCst);
        region.chunk(chunk).owner.store(0, Ordering::SeqCst);
        member.log_intent.store(0, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{LockRequest, SharedTable, TableConfig};

    #[test]
    fn cyclic_chain_of_chunks_ends() {
        let table = SharedTable::memfd("chain", &TableConfig::default().keys(8).members(2)).expect("a table");
        let held = table.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free");
        let (region, other) = (&table.core().region, MemberId::new(2).expect("not 0"));
        let chunk = held.id().record / RECORDS;
        region.member(other).log.store(chunk + 1, Ordering::SeqCst);
        region.chunk(chunk).next.store(chunk + 1, Ordering::SeqCst);
        give_chunks_back(region, other);
        region.member(other).log.store(0, Ordering::SeqCst);
        region.chunk(chunk).next.store(0, Ordering::SeqCst);
    }
}
