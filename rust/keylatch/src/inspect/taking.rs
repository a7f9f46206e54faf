//! Taking locks away from those a question finds: by force, or because their leases have run out.

use super::Filter;
use crate::engine::Core;
use crate::hold::{Grant, Lost};
use crate::listed::HolderInfo;
use crate::manager::FastObjectLockManager;
use std::collections::{HashMap, HashSet};

impl Core {
    /// Takes locks away from their holders, key by key. Returns from whom.
    fn take_from(&self, holders: Vec<HolderInfo>, why: Lost) -> Vec<HolderInfo> {
        let taken = self.take_away_all(holders.iter().map(|holder| holder.grant), why);
        holders.into_iter().filter(|holder| taken.contains(&holder.grant)).collect()
    }

    /// Takes locks away from the holders of these grants. Returns which were taken.
    pub(crate) fn take_away_all(&self, grants: impl Iterator<Item = Grant>, why: Lost) -> HashSet<Grant> {
        let mut by_entry: HashMap<u32, Vec<Grant>> = HashMap::new();
        for grant in grants {
            if let Some(held) = self.records.get(grant.index()).held() {
                by_entry.entry(held.entry).or_default().push(grant);
            }
        }
        let local = self.local();
        let taken = by_entry.into_values().flat_map(|grants| self.take_away(local, &grants, why).grants);
        taken.collect()
    }

    /// Releases by force whatever a session holds. Returns how many locks that were.
    pub(crate) fn release_all_of(&self, session: u32) -> usize {
        if self.is_forked() {
            return 0;
        }
        let mut grants = Vec::new();
        self.records.for_each(usize::MAX, |index, record| {
            grants.extend(record.held().filter(|held| held.owner == session).map(|held| held.grant(index)));
        });
        self.take_away_all(grants.into_iter(), Lost::Forced).len()
    }
}

impl FastObjectLockManager {
    /// Takes locks away from whoever holds them, as far as the filter lets pass; from none if it is
    /// [unspecified](Filter::is_unspecified). Who waits for them is served; the old
    /// holders' guards and grants are void, and releasing them harms nobody. Returns from whom they were taken.
    ///
    /// It works in a full table, too. Only where more locks than [`LockConfig::max_locks`](crate::LockConfig::max_locks)
    /// says, or than 65,536, were taken from guards that are still there, and have other holders by now, may a holder be
    /// left that is not in the answer.
    ///
    /// The work that such a lock was for may still be going on: it is the [`fence`](crate::LockGuard::fence) that keeps
    /// it from doing harm.
    ///
    /// ```
    /// # fn main() -> Result<(), keylatch::LockError> {
    /// use keylatch::{FastObjectLockManager, Filter};
    /// let locks = FastObjectLockManager::new();
    /// let stuck = locks.acquire_write_lock_blocking("photos", "cat.jpg", "node-7")?;
    /// let taken = locks.force_release(&Filter::new().owner("node-7"));
    /// assert_eq!(taken.len(), 1);
    /// let next = locks.try_acquire_write_lock("photos", "cat.jpg", "node-8")?;
    /// assert!(stuck.try_release().is_err()); // harms nobody
    /// assert!(next.is_valid());
    /// # Ok(()) }
    /// ```
    pub fn force_release(&self, filter: &Filter) -> Vec<HolderInfo> {
        if filter.is_unspecified() {
            return Vec::new();
        }
        self.core().take_from(self.core().list_holders(filter), Lost::Forced)
    }

    /// Takes locks away whose leases have run out although nobody waits for them, as far as the filter lets pass; none
    /// if it is [unspecified](Filter::is_unspecified). Returns from whom.
    pub fn expire(&self, filter: &Filter) -> Vec<HolderInfo> {
        if filter.is_unspecified() {
            return Vec::new();
        }
        let mut holders = self.core().list_holders(filter);
        holders.retain(|holder| holder.lease.is_some_and(|left| left.is_zero()));
        self.core().take_from(holders, Lost::Expired)
    }
}
