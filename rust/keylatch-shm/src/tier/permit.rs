//! One permit or ask, and how it wakes the keeper.

use super::explain::explained;
use crate::guard::OwnedSharedLockGuard;
use crate::handle::SharedTable;
use crate::lookup::Fingerprint;
use crate::os::futex;
use crate::prepared::OwnedAcquire;
use crate::protocol::upgrade::Upgrade;
use crate::word::Word;
use keylatch::Mode;
use keylatch::tier::{Answer, Fences, PermitId, Term};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::Wake;

/// The only term: permits end with their process, or with the table.
pub(super) const TERM: Term = Term(1);
/// What comes after the loss of the table; nothing is granted in it.
pub(super) const AFTER: Term = Term(2);

/// Exclusive holds of one permit.
///
/// A new file begins with the nanoseconds since 1970, so fences must not outrun the clock: no process has two permits of a
/// key within this many nanoseconds.
const FENCES: u32 = 2_048;

/// What a number stands for.
pub(super) enum Permit {
    Waits(Asking),
    /// A thread looks at the ask without the mutex.
    ///
    /// It looks once more if the ask was woken meanwhile.
    Looked {
        again: bool,
    },
    Held(Held),
}

/// An ask in the table's line.
pub(super) type Asking = Pin<Box<OwnedAcquire>>;

/// A hold of the key in the table.
pub(super) struct Held {
    pub(super) guard: OwnedSharedLockGuard,
    /// The key, for a hold that was lost and whose entry may have another one.
    pub(super) print: Fingerprint,
    /// An answer has said that a process died.
    pub(super) has_reported: bool,
    /// Recalled because there were too many, which is said once.
    pub(super) is_excess: bool,
    /// It waits to become exclusive.
    pub(super) upgrades: bool,
}

impl Held {
    pub(super) fn new(guard: OwnedSharedLockGuard) -> Self {
        Self { print: guard.print(), guard, has_reported: false, is_excess: false, upgrades: false }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.guard.end_upgrade(&mut self.upgrades);
    }
}

/// What is in the way of an upgrade: the slot, and its word.
pub(super) type InTheWay = (u32, Word);

/// Looks whether a hold that upgrades is exclusive by now.
///
/// Returns its answer then, or why it stays shared.
pub(super) fn upgraded(held: &mut Held) -> Result<Answer, InTheWay> {
    if held.guard.mode() == Mode::Exclusive {
        return Ok(granted(held));
    }
    match held.guard.look_at_upgrade(&mut held.upgrades) {
        Ok(Upgrade::Done) => Ok(granted(held)),
        Ok(Upgrade::Conflict) => Ok(Answer::UpgradeConflict),
        Ok(Upgrade::Waits(word)) => Err((held.guard.slot(), word)),
        Err(error) => Ok(Answer::Failed(explained(&error))),
    }
}

/// The answer that a hold is, with numbers for the holds under it.
pub(super) fn granted(held: &mut Held) -> Answer {
    let guard = &held.guard;
    let is_exclusive = guard.mode() == Mode::Exclusive;
    let fences = match is_exclusive {
        true => Fences { first: guard.fence(), count: guard.reserve_fences(FENCES) },
        false => Fences { first: guard.fence().max(1), count: 1 },
    };
    let died = is_exclusive && guard.previous_holder_died();
    Answer::Granted { fences, previous_died: died && !std::mem::replace(&mut held.has_reported, true) }
}

/// What the keeper's thread has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Poll(PermitId),
    Withdrawn(PermitId),
}

/// The list of that, and the bell of the thread.
pub(super) struct Dues {
    table: SharedTable,
    list: Mutex<Vec<Due>>,
}

impl Dues {
    pub(super) fn new(table: SharedTable) -> Self {
        Self { table, list: Mutex::default() }
    }

    pub(super) fn push(&self, due: Due) {
        crate::mutex::lock(&self.list).push(due);
        self.ring();
    }

    pub(super) fn take(&self) -> Vec<Due> {
        std::mem::take(&mut *crate::mutex::lock(&self.list))
    }

    /// Has the thread look at everything.
    pub(super) fn ring(&self) {
        let core = self.table.core();
        let bell = &core.region.member(core.me).recall_bell;
        // Pairs with: the thread's load before it looks.
        bell.fetch_add(1, Ordering::SeqCst);
        futex::wake_all(bell);
    }
}

/// Wakes the thread for one ask.
pub(super) struct Alarm {
    pub(super) id: PermitId,
    pub(super) dues: Arc<Dues>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.dues.push(Due::Poll(self.id));
    }
}
