//! Until when a hold is safe, for those that are not for ever: kept beside the records, which have no room for it.
//!
//! A lease is written and renewed under the mutex of its lock's shard, where it is also decided whether it ran out. It
//! names the grant that it is of, so that one left behind by an earlier hold of the same record is told from it.

use super::Grant;
use crate::memory::{Region, Vacant};
use crate::sync::atomic::{AtomicU64, Ordering};

/// See the module. All zero: no lease.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Lease {
    grant: AtomicU64,
    /// On the manager's clock.
    deadline: AtomicU64,
}

#[cfg(not(loom))]
// SAFETY: two integers.
unsafe impl Vacant for Lease {}
#[cfg(loom)]
// SAFETY: built by hand under the model checker.
unsafe impl Vacant for Lease {
    fn vacant() -> Self {
        Self { grant: AtomicU64::new(0), deadline: AtomicU64::new(0) }
    }
    fn vacate(&self) {}
}

/// The leases of all records, by the record's index.
#[derive(Debug)]
pub(crate) struct Leases {
    region: Region<Lease>,
}

impl Leases {
    /// Address space for as many records.
    pub(crate) fn reserve(records: u32) -> std::io::Result<Self> {
        Ok(Self { region: Region::reserve(records)? })
    }

    /// The hold of this grant, which has just begun or is being renewed, is safe until then. The caller owns the shard.
    pub(crate) fn set(&self, grant: Grant, deadline: u64) {
        let lease = self.region.get(grant.index());
        // In between nobody takes the new deadline for the old grant's: Release pairs with the Acquire in `deadline`.
        lease.grant.store(0, Ordering::Relaxed);
        lease.deadline.store(deadline, Ordering::Release);
        lease.grant.store(grant.to_raw(), Ordering::Release);
    }

    /// Until when the hold of this grant is safe, if it has a lease.
    pub(crate) fn deadline(&self, grant: Grant) -> Option<u64> {
        let lease = self.region.get(grant.index());
        let is_its = || lease.grant.load(Ordering::Acquire) == grant.to_raw();
        let deadline = is_its().then(|| lease.deadline.load(Ordering::Acquire));
        deadline.filter(|_| is_its())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_of_one_grant_only() {
        let leases = Leases::reserve(100).unwrap();
        let (first, second) = (Grant::from_raw(1 << 26 | 7).unwrap(), Grant::from_raw(2 << 26 | 7).unwrap());
        assert_eq!(leases.deadline(first), None);
        leases.set(first, 50);
        assert_eq!((leases.deadline(first), leases.deadline(second)), (Some(50), None));
        leases.set(second, 60);
        assert_eq!((leases.deadline(first), leases.deadline(second)), (None, Some(60)));
    }
}
