//! The steps of the lock on shared memory. `docs/shared-memory.md` tells the races; [`crate::model`] searches them.
//!
//! A step that only reads and writes one entry is a function here. Order of all steps on words and bitmaps is SeqCst:
//! each of them is one side of a pair "write mine, then read yours", and the fast path, which is not, is in
//! [`crate::table`].

pub(crate) mod enter;
pub(crate) mod leave;
pub(crate) mod recover;
pub(crate) mod revocation;
pub(crate) mod turn;
pub(crate) mod upgrade;

use crate::region::Region;
use crate::word::Word;
use std::sync::atomic::Ordering;

/// Reads the lock of a slot.
#[inline]
pub(crate) fn load(region: &Region, slot: u32) -> Word {
    // Pairs with: every swap of the word.
    Word(region.word(slot).load(Ordering::SeqCst))
}

/// Replaces the word if it still has the value `from`; says whether it did.
#[inline]
#[must_use]
pub(crate) fn swap(region: &Region, slot: u32, from: Word, to: Word) -> bool {
    // Pairs with: every load and swap of the word.
    region.word(slot).compare_exchange(from.0, to.0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}
