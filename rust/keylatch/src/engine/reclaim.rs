//! Reclaiming places in a full table: lock delays that are over end, expired leases are revoked, idle entries leave, and
//! what threads keep for themselves does not count.

use super::core::Core;
use super::local::Local;
use crate::hold::Lost;
use crate::sync::atomic::Ordering;
use crate::wait::NEVER;

impl Core {
    /// Reclaims all places that can be reclaimed. The caller holds no mutex.
    #[cold]
    #[inline(never)]
    pub(crate) fn reclaim(&self, local: &Local) {
        self.open_those_due(local);
        self.end_expired();
        self.dismiss_idle_permits(local);
        self.table.evict_idle(&local.entries);
        // Entries that threads keep, idle or ended ones too, are not locks.
        self.table.arena().begin_scarcity(|| self.locals().map(|local| local.entries.kept()).sum());
    }

    /// Revokes all holds whose leases have run out.
    fn end_expired(&self) {
        let now = self.now();
        // In this order: a thread that sees no moment because another one searches sees that, or the result.
        if self.leases.first_end_of_all() > now && self.searches.load(Ordering::Acquire) == 0 {
            return;
        }
        self.searches.fetch_add(1, Ordering::AcqRel);
        self.leases.begin_search();
        let (mut expired, mut next) = (Vec::new(), NEVER);
        self.records.for_each(usize::MAX, |index, record| {
            let grant = record.held().filter(|held| held.leased).map(|held| held.grant(index));
            match grant.and_then(|grant| Some((grant, self.leases.deadline(grant)?))) {
                Some((grant, deadline)) if deadline <= now => expired.push(grant),
                Some((_, deadline)) => next = next.min(deadline),
                None => {}
            }
        });
        let revoked = self.revoke(self.local(), &expired, Lost::Expired).len();
        // What was renewed or released in this moment is looked for again.
        self.leases.end_search(if revoked < expired.len() { now } else { next });
        self.searches.fetch_sub(1, Ordering::AcqRel);
    }
}
