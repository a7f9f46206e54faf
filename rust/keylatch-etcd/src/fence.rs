//! The number of a hold: epoch, revision, and a count within.

/// Bits of the count within one entry: holds of a process under one permit.
const COUNT_BITS: u32 = 16;
/// Bits of the revision: enough for three years of 10,000 writes a second.
const REVISION_BITS: u32 = 40;

/// The greatest epoch.
pub(crate) const LAST_EPOCH: u64 = (1 << (64 - COUNT_BITS - REVISION_BITS)) - 1;

/// The numbers that one entry has: holds of a process under one permit.
pub(crate) const COUNT: u32 = (1 << COUNT_BITS) - 1;

/// The first number of an entry that was created at this revision.
///
/// `None` once the revisions are used up.
pub(crate) fn first(epoch: u64, revision: i64) -> Option<u64> {
    let revision = u64::try_from(revision).ok()?;
    let fits = epoch <= LAST_EPOCH && revision < 1 << REVISION_BITS;
    fits.then_some(epoch << (COUNT_BITS + REVISION_BITS) | revision << COUNT_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_grow_with_epoch_and_revision() {
        assert!(first(0, 1).expect("fits") + u64::from(COUNT) < first(0, 2).expect("fits"));
        assert!(first(0, (1 << REVISION_BITS) - 1).expect("fits") < first(1, 1).expect("fits"));
        assert_eq!(first(0, 1 << REVISION_BITS), None);
        assert_eq!(first(LAST_EPOCH + 1, 1), None);
        assert_eq!(first(0, -1), None);
    }
}
