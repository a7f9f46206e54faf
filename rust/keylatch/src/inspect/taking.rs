//! Taking locks away from those a question finds: by force, or because their leases have run out.

use super::Filter;
use crate::engine::Core;
use crate::hold::{Grant, Lost, SessionState};
use crate::listed::HolderInfo;
use crate::manager::FastObjectLockManager;
use std::collections::HashSet;
use std::ops::ControlFlow;

impl Core {
    /// Revokes holds, and ends lock delays. Returns those that were.
    fn revoke_listed(&self, holders: Vec<HolderInfo>, why: Lost) -> Vec<HolderInfo> {
        let grants: Vec<Grant> = holders.iter().filter(|hold| !hold.kept_shut).map(|hold| hold.grant).collect();
        let shut: HashSet<Grant> = holders.iter().filter(|hold| hold.kept_shut).map(|hold| hold.grant).collect();
        let mut gone: HashSet<Grant> = HashSet::new();
        for kept in self.all_kept().iter().filter(|kept| shut.contains(&kept.grant)) {
            gone.extend(self.open(self.local(), kept.entry, kept.until).then_some(kept.grant));
        }
        gone.extend(self.revoke(self.local(), &grants, why));
        holders.into_iter().filter(|holder| gone.contains(&holder.grant)).collect()
    }

    /// Releases by force whatever a session holds. Returns how many locks that were.
    pub(crate) fn release_all_of(&self, session: &SessionState) -> usize {
        if self.is_forked() {
            return 0;
        }
        let mut grants = Vec::new();
        session.for_each_hold(|hold| {
            grants.extend(self.is_held(hold.grant).then_some(hold.grant));
            ControlFlow::Continue(())
        });
        self.revoke(self.local(), &grants, Lost::Forced).len()
    }
}

impl FastObjectLockManager {
    /// Takes locks away from whoever holds them, as far as the filter lets pass; from none if it is
    /// [unspecified](Filter::is_unspecified). Who waits for them is served; the old
    /// holders' guards and grants are void, and releasing them harms nobody. Returns from whom they were taken.
    ///
    /// It works in a full table, too. A shared hold whose guard is about to release it in this moment is not in the answer.
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
        self.core().revoke_listed(self.core().list_holders(filter), Lost::Forced)
    }

    /// Takes locks away whose leases have run out although nobody waits for them, as far as the filter lets pass; none
    /// if it is [unspecified](Filter::is_unspecified). Returns from whom.
    pub fn expire(&self, filter: &Filter) -> Vec<HolderInfo> {
        if filter.is_unspecified() {
            return Vec::new();
        }
        let mut holders = self.core().list_holders(filter);
        holders.retain(|holder| holder.lease.is_some_and(|left| left.is_zero()));
        self.core().revoke_listed(holders, Lost::Expired)
    }
}
