//! The number of a hold: epoch, revision, and a count within.

/// Bits of the count within one entry: holds of a process under one permit.
const COUNT_BITS: u32 = 16;
/// Bits of the revision: enough for three years of 10,000 writes a second.
const REVISION_BITS: u32 = 40;

/// The greatest epoch.
pub(crate) const LAST_EPOCH: u64 = (1 << (64 - COUNT_BITS - REVISION_BITS)) - 1;

/// The numbers that one entry has: holds of a process under one permit.
///
/// The other half is for upgrades, which come before a writer that has its place already.
pub(crate) const COUNT: u32 = (1 << (COUNT_BITS - 1)) - 1;

/// As often as a permit is upgraded before the same writer.
const UPGRADES: u32 = 16;
/// The numbers that such an upgrade has.
pub(crate) const UPGRADE_COUNT: u32 = (1 << (COUNT_BITS - 1)) / UPGRADES;

/// The first number of an upgrade before the writer of this revision.
///
/// It is the `nth` of the permit there. It is greater than those of all that held before, and lower than that of the
/// writer. `None` once those are used up.
pub(crate) fn first_before(epoch: u64, writer: i64, nth: u32) -> Option<u64> {
    let begin = first(epoch, writer.checked_sub(1)?)?;
    (nth < UPGRADES).then_some(begin + (1 << (COUNT_BITS - 1)) + u64::from(nth * UPGRADE_COUNT))
}

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
        let upgrades: Vec<u64> = (0..UPGRADES).map(|nth| first_before(3, 8, nth).expect("fits")).collect();
        assert!(first(3, 7).expect("fits") + u64::from(COUNT) < upgrades[0]);
        assert!(upgrades.windows(2).all(|two| two[0] + u64::from(UPGRADE_COUNT) <= two[1]));
        assert!(upgrades[15] + u64::from(UPGRADE_COUNT) <= first(3, 8).expect("fits"));
        assert_eq!(first_before(3, 8, UPGRADES), None);
    }
}
