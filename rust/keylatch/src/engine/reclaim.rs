//! A table that is full gets back what nobody has a right to any more, although nobody asks for it: locks open that were
//! kept shut for long enough, holds end whose leases have run out, idle entries leave, and what threads keep for themselves
//! does not count.

use super::core::Core;
use super::local::Local;
use crate::hold::Lost;
use crate::sync::atomic::Ordering;
use crate::sync::fault::fault;
use crate::wait::NEVER;

impl Core {
    /// Makes what room there is to be made in a full table. Off every mutex.
    #[cold]
    #[inline(never)]
    pub(crate) fn reclaim(&self, local: &Local) {
        self.open_those_due(local);
        self.end_expired();
        self.dismiss_idle_permits(local);
        self.table.evict_idle(&local.entries);
        // What threads keep, be they idle or gone, is nobody's lock.
        self.table.arena().begin_scarcity(self.locals().map(|local| local.entries.kept()).sum());
    }

    /// Revokes all holds whose leases have run out.
    fn end_expired(&self) {
        let now = self.now();
        // In this order: whoever sees no moment because somebody has begun to search sees that, or what came of it.
        let nobody_searches =
            || self.making_room.load(Ordering::Acquire) == 0 || fault!("search-of-another-overlooked");
        if self.leases.first_end_of_all() > now && nobody_searches() {
            return;
        }
        self.making_room.fetch_add(1, Ordering::AcqRel);
        let late = fault!("search-begun-late");
        if !late {
            self.leases.begin_search();
        }
        let (mut expired, mut next) = (Vec::new(), NEVER);
        self.records.for_each(usize::MAX, |index, record| {
            let grant = record.held().filter(|held| held.leased).map(|held| held.grant(index));
            match grant.and_then(|grant| Some((grant, self.leases.deadline(grant)?))) {
                Some((grant, deadline)) if deadline <= now => expired.push(grant),
                Some((_, deadline)) => next = next.min(deadline),
                None => {}
            }
        });
        if late {
            self.leases.begin_search();
        }
        let revoked = self.revoke(self.local(), &expired, Lost::Expired).len();
        // What was renewed or released in this moment is looked for again.
        self.leases.end_search(if revoked < expired.len() { now } else { next });
        self.making_room.fetch_sub(1, Ordering::AcqRel);
    }
}
