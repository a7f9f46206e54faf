//! What nobody has a right to any more goes, although nobody asks for it: locks open that were kept shut for long enough,
//! and where the table is full, holds end whose leases have run out.

use super::core::Core;
use super::local::Local;
use crate::hold::{Grant, Lost, Standing};
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use crate::sync::fault::fault;
use crate::wait::NEVER;
use std::collections::VecDeque;

/// Locks that are kept shut.
pub(crate) type KeptShut = Mutex<Shut>;

/// As many are opened at least with each that is shut, so that those are never many that could be open.
const A_FEW: usize = 2;
/// Nanoseconds until another search, if guards have leases that have run out.
const A_WHILE: u64 = 1_000_000;
/// So many before it is looked which of them were opened already.
const WORTH_A_LOOK: usize = 64;

/// See [`KeptShut`].
#[derive(Debug, Default)]
pub(crate) struct Shut {
    /// When they open, and the grants that keep them shut. All are shut for the same time, so the first opens first.
    line: VecDeque<(u64, Grant)>,
    /// The length at which those that were opened already are taken out.
    cleared_at: usize,
}

impl Core {
    /// Notes that a lock is kept shut by this grant until then. The caller owns its shard.
    pub(crate) fn note_shut(&self, until: u64, grant: Grant) {
        let mut shut = self.kept_shut.lock();
        if shut.line.len() >= shut.cleared_at {
            shut.line.retain(|(_, grant)| self.standing(*grant).is_ok());
            shut.cleared_at = WORTH_A_LOOK.max(2 * shut.line.len());
        }
        shut.line.push_back((until, grant));
    }

    /// Opens a few locks that have been kept shut for long enough. Off every mutex.
    pub(crate) fn open_a_few(&self, local: &Local) {
        self.open_shut(local, A_FEW, Lost::Expired);
    }

    /// Opens all locks that have been kept shut for long enough. Off every mutex.
    pub(crate) fn open_those_due(&self, local: &Local) {
        self.open_shut(local, usize::MAX, Lost::Expired);
    }

    /// Opens all locks that are kept shut. Off every mutex.
    pub(crate) fn open_all(&self, local: &Local) {
        if !fault!("shut-beyond-the-close") {
            self.open_shut(local, usize::MAX, Lost::Forced);
        }
    }

    fn open_shut(&self, local: &Local, most: usize, why: Lost) {
        if self.config.lock_delay.is_zero() {
            return;
        }
        let due = if why == Lost::Forced { NEVER } else { self.now() };
        for _ in 0..most {
            let mut shut = self.kept_shut.lock();
            let Some((_, grant)) = shut.line.front().copied().filter(|(until, _)| *until <= due) else { return };
            shut.line.pop_front();
            drop(shut);
            // `None` if somebody opened it who wanted the lock.
            if self.take_number(local, grant, why) == Some(true) {
                self.losses.tell(grant, why);
            }
        }
    }

    /// Makes what room there is to be made in a full table. Off every mutex.
    #[cold]
    #[inline(never)]
    pub(crate) fn make_room(&self, local: &Local) {
        self.open_those_due(local);
        self.end_expired();
        self.table.evict_idle(&local.entries);
    }

    /// Takes away all locks whose leases have run out and that are held by numbers. A guard that loses its lock leaves no
    /// room before it is gone itself, so it keeps it until somebody wants just that.
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
            match grant.and_then(|grant| Some((grant, self.leases.deadline(grant)?, record.standing(grant)))) {
                Some((grant, deadline, Standing::Held { loose: true })) if deadline <= now => expired.push(grant),
                Some((_, deadline, _)) if deadline > now => next = next.min(deadline),
                // A guard's, which may be a number's later.
                Some(_) => next = next.min(now.saturating_add(A_WHILE)),
                None => {}
            }
        });
        if late {
            self.leases.begin_search();
        }
        let taken = self.take_away_all(expired.iter().copied(), Lost::Expired).len();
        // What could not be taken is looked for again.
        self.leases.end_search(if taken < expired.len() { now } else { next });
        self.making_room.fetch_sub(1, Ordering::AcqRel);
    }
}
