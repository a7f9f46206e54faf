//! The deadlines of leases. They lie beside the records, which have no room for them.
//!
//! A lease is written and renewed under the mutex of its lock's shard, where it is also decided whether it has expired. It
//! names its grant, so that a lease left behind by an earlier hold of the same record is not taken for the present one.
//!
//! For each lock, and for all locks together, a moment is known before which no lease ends. Until then no thread has to look
//! for expired leases. A renewal or a release does not move that moment: the first look after it finds the next one.
//!
//! The word of a lock names its exclusive holder. All other holds with a lease are *listed* for their lock. A release does not
//! change the list, so that it may have holds that have ended; a list that has doubled is cleared of them.

use super::Grant;
use crate::memory::{Region, Vacant};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::collections::HashMap;

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

/// Before this moment none of a lock's leases ends. All zero: at any time.
#[derive(Debug)]
#[repr(transparent)]
struct FirstEnd(AtomicU64);

#[cfg(not(loom))]
// SAFETY: an integer.
unsafe impl Vacant for FirstEnd {}
#[cfg(loom)]
// SAFETY: built by hand under the model checker.
unsafe impl Vacant for FirstEnd {
    fn vacant() -> Self {
        Self(AtomicU64::new(0))
    }
    fn vacate(&self) {}
}

/// Mutexes for the lists of leased holds.
const STRIPES: u32 = if cfg!(loom) { 1 } else { 64 };
/// The least length at which a list is cleared.
const FIRST_CLEARING: usize = 16;

/// Holds of a lock that have a lease and are not named by its word.
#[derive(Debug, Default)]
struct Listed {
    grants: Vec<Grant>,
    /// The length at which those that have ended are taken out.
    cleared_at: usize,
}

/// The leases of all records, by the record's index.
#[derive(Debug)]
pub(crate) struct Leases {
    region: Region<Lease>,
    /// By the entry's index; changed and read under the mutex of its shard.
    by_entry: Region<FirstEnd>,
    /// By the entry's index, in stripes.
    ///
    /// A list changes and is read under the mutex of the entry's shard as well.
    listed: Box<[Mutex<HashMap<u32, Listed>>]>,
    /// Of all locks.
    of_all: AtomicU64,
    /// The highest indexes of records and entries that had a lease.
    ///
    /// They bound how much of the regions has memory.
    highest: [AtomicU32; 2],
}

impl Leases {
    /// Reserves address space for this many records and entries.
    pub(crate) fn reserve(records: u32, entries: u32) -> std::io::Result<Self> {
        let (region, by_entry) = (Region::reserve(records)?, Region::reserve(entries)?);
        let listed = (0..STRIPES).map(|_| Mutex::new(HashMap::new())).collect();
        let highest = [AtomicU32::new(0), AtomicU32::new(0)];
        Ok(Self { region, by_entry, listed, of_all: AtomicU64::new(u64::MAX), highest })
    }

    /// Sets the deadline of a hold that has just begun or is renewed.
    ///
    /// Caller holds: shard mutex.
    pub(crate) fn set(&self, grant: Grant, deadline: u64) {
        let lease = self.region.get(grant.index());
        raise(&self.highest[0], grant.index());
        // Pairs with: `deadline`. In between no reader takes the new deadline for the old grant's.
        lease.grant.store(0, Ordering::Relaxed);
        lease.deadline.store(deadline, Ordering::Release);
        lease.grant.store(grant.to_raw(), Ordering::Release);
        // Pairs with: `begin_search`. A search that does not find this moment there finds the lease.
        self.of_all.fetch_min(deadline, Ordering::Release);
    }

    /// Notes that a lease of an entry's lock ends at this moment.
    ///
    /// If the lock `has_others`, they count, too. Caller holds: shard mutex.
    pub(crate) fn add_end(&self, entry: u32, deadline: u64, has_others: bool) {
        raise(&self.highest[1], entry);
        let first = if has_others { self.first_end(entry).min(deadline) } else { deadline };
        self.set_first_end(entry, first);
    }

    fn listed(&self, entry: u32) -> &Mutex<HashMap<u32, Listed>> {
        &self.listed[(entry % STRIPES) as usize]
    }

    /// Lists a leased hold of an entry's lock.
    ///
    /// `is_held` says which of the others are held. Caller holds: shard mutex.
    pub(crate) fn list(&self, entry: u32, grant: Grant, is_held: impl Fn(Grant) -> bool) {
        let mut lists = self.listed(entry).lock();
        let list = lists.entry(entry).or_default();
        if list.grants.len() >= list.cleared_at {
            list.grants.retain(|grant| is_held(*grant));
            // A renewal lists a hold once more.
            list.grants.sort_unstable_by_key(|grant| grant.to_raw());
            list.grants.dedup();
            list.cleared_at = FIRST_CLEARING.max(2 * list.grants.len());
        }
        list.grants.push(grant);
    }

    /// Calls `visit` with the listed holds of an entry's lock.
    ///
    /// Some may have ended, and some may come twice. Caller holds: shard mutex. `visit` takes no mutex.
    pub(crate) fn for_each_listed(&self, entry: u32, visit: impl FnMut(Grant)) {
        if let Some(list) = self.listed(entry).lock().get(&entry) {
            list.grants.iter().inspect(|_| crate::sync::step()).copied().for_each(visit);
        }
    }

    /// Forgets the list of an entry whose lock has no lease. Caller holds: shard mutex.
    pub(crate) fn forget_listed(&self, entry: u32) {
        self.listed(entry).lock().remove(&entry);
    }

    /// Returns a moment before which no lease of the entry's lock ends.
    ///
    /// Caller holds: shard mutex.
    pub(crate) fn first_end(&self, entry: u32) -> u64 {
        self.by_entry.get(entry).0.load(Ordering::Relaxed)
    }

    /// Sets what `first_end` returns. Caller holds: shard mutex.
    pub(crate) fn set_first_end(&self, entry: u32, first: u64) {
        self.by_entry.get(entry).0.store(first, Ordering::Relaxed);
    }

    /// Returns a moment before which no lease of any lock ends.
    ///
    /// While a search runs it may be later. Acquire: the caller sees that a search has begun, and what one that has ended did.
    pub(crate) fn first_end_of_all(&self) -> u64 {
        self.of_all.load(Ordering::Acquire)
    }

    /// Begins a search: leases that begin from now on are noted anew.
    ///
    /// The search finds those that have begun before.
    pub(crate) fn begin_search(&self) {
        self.of_all.swap(u64::MAX, Ordering::AcqRel);
    }

    /// Ends a search that found no lease that ends before `first`.
    pub(crate) fn end_search(&self, first: u64) {
        self.of_all.fetch_min(first, Ordering::AcqRel);
    }

    /// Returns how many bytes of memory leases use at most.
    pub(crate) fn bytes(&self) -> u64 {
        let [records, entries] = [0, 1].map(|which| u64::from(self.highest[which].load(Ordering::Relaxed)));
        records * size_of::<Lease>() as u64 + entries * size_of::<FirstEnd>() as u64
    }

    /// Returns the deadline of a grant, if it has a lease.
    pub(crate) fn deadline(&self, grant: Grant) -> Option<u64> {
        let lease = self.region.get(grant.index());
        let is_its = || lease.grant.load(Ordering::Acquire) == grant.to_raw();
        let deadline = is_its().then(|| lease.deadline.load(Ordering::Acquire));
        deadline.filter(|_| is_its())
    }
}

/// Raises a highest index; writes only where it is one.
fn raise(highest: &AtomicU32, index: u32) {
    if highest.load(Ordering::Relaxed) < index {
        highest.fetch_max(index, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_of_one_grant_only() {
        let leases = Leases::reserve(100, 100).unwrap();
        let (first, second) = (Grant::from_raw(1 << 26 | 7).unwrap(), Grant::from_raw(2 << 26 | 7).unwrap());
        assert_eq!(leases.deadline(first), None);
        leases.set(first, 50);
        assert_eq!((leases.deadline(first), leases.deadline(second)), (Some(50), None));
        leases.set(second, 60);
        assert_eq!((leases.deadline(first), leases.deadline(second)), (None, Some(60)));
    }

    #[test]
    fn the_first_end_is_never_after_one() {
        let leases = Leases::reserve(100, 100).unwrap();
        leases.add_end(7, 50, false);
        leases.add_end(7, 60, true);
        assert_eq!(leases.first_end(7), 50);
        leases.add_end(7, 40, true);
        assert_eq!(leases.first_end(7), 40);
        leases.add_end(7, 90, false);
        assert_eq!((leases.first_end(7), leases.first_end(8)), (90, 0));
        let grant = |number: u64| Grant::from_raw(1 << 26 | number).unwrap();
        leases.set(grant(1), 50);
        leases.set(grant(2), 40);
        leases.set(grant(1), 70);
        assert_eq!(leases.first_end_of_all(), 40);
        leases.begin_search();
        leases.set(grant(3), 80);
        leases.end_search(70);
        assert_eq!(leases.first_end_of_all(), 70);
    }
}
