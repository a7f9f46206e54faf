//! Revoking the holds of a listing: by force, or because their leases have run out.

use crate::engine::Core;
use crate::hold::{Grant, Lost, SessionState};
use crate::listed::HolderInfo;
use std::collections::HashSet;
use std::ops::ControlFlow;

impl Core {
    /// Revokes holds and ends lock delays. Returns the holders that lost their locks.
    pub(crate) fn revoke_listed(&self, holders: Vec<HolderInfo>, why: Lost) -> Vec<HolderInfo> {
        let grants: Vec<Grant> = holders.iter().filter(|hold| !hold.in_lock_delay).map(|hold| hold.grant).collect();
        let shut: HashSet<Grant> = holders.iter().filter(|hold| hold.in_lock_delay).map(|hold| hold.grant).collect();
        let mut gone: HashSet<Grant> = HashSet::new();
        for kept in self.all_delayed().iter().filter(|kept| shut.contains(&kept.grant)) {
            gone.extend(self.open(self.local(), kept.entry, kept.until).then_some(kept.grant));
        }
        gone.extend(self.revoke(self.local(), &grants, why));
        holders.into_iter().filter(|holder| gone.contains(&holder.grant)).collect()
    }

    /// Revokes all holds of a session. Returns how many there were.
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
