//! What a caller has while it holds a lock.

use crate::acquire::{Hold, give_back, kind, release};
use crate::change::{begin_change, changed, is_revocation};
use crate::core::Core;
use crate::error::ShmError;
use crate::handle::SharedTable;
use crate::listed::HoldId;
use crate::lookup::{self, Fingerprint};
use crate::protocol::enter::{Death, Drain, drain, take_death};
use crate::protocol::leave;
use crate::protocol::upgrade::{self, Upgrade};
use crate::recall;
use crate::records;
use crate::word::Place;
use keylatch::{Mode, ObjectKey};
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering;

/// How a guard refers to its table: by reference, or by a handle of its own.
pub trait TableRef: sealed::Sealed {
    #[doc(hidden)]
    fn table(&self) -> &SharedTable;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &super::SharedTable {}
    impl Sealed for super::SharedTable {}
}

impl TableRef for &SharedTable {
    #[inline(always)]
    fn table(&self) -> &SharedTable {
        self
    }
}

impl TableRef for SharedTable {
    #[inline(always)]
    fn table(&self) -> &SharedTable {
        self
    }
}

/// A held lock that borrows its table. Dropping it releases the lock.
pub type SharedLockGuard<'a> = LockGuard<&'a SharedTable>;

/// A held lock with a table handle of its own.
///
/// Made by [`SharedLockGuard::into_owned`].
pub type OwnedSharedLockGuard = LockGuard<SharedTable>;

/// A held lock.
///
/// Dropping it releases the lock, from any thread of the process, and never blocks.
///
/// In a forked child a guard of the parent does nothing: the parent still holds the lock.
#[must_use = "a guard that is dropped releases its lock"]
pub struct LockGuard<T: TableRef> {
    table: T,
    hold: Hold,
}

impl<T: TableRef> LockGuard<T> {
    #[inline(always)]
    pub(crate) fn new(table: T, hold: Hold) -> Self {
        Self { table, hold }
    }

    pub(crate) fn table(&self) -> &SharedTable {
        self.table.table()
    }

    #[inline(always)]
    pub(crate) fn core(&self) -> &Core {
        self.table.table().core()
    }

    /// How the lock is held.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.hold.mode
    }

    /// The key that is held, cut after 80 bytes.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        lookup::read_text(self.core().region.entry(self.hold.slot))
    }

    /// Returns the fence of this exclusive hold.
    ///
    /// It is greater than that of every earlier exclusive hold of the key, in any process.
    ///
    /// For a shared hold, the number of the latest exclusive one. A store that refuses lower numbers than it has seen is
    /// safe from holders that were revoked or stopped.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.hold.fence
    }

    /// Returns whether the last exclusive holder of the key died.
    ///
    /// What the lock protects may be half-written. It may say so once too often: when a process died that was about to
    /// become the holder, or when the table was so full that the report had to be kept for a group of keys.
    #[must_use]
    pub fn previous_holder_died(&self) -> bool {
        self.hold.death == Death::Reported
    }

    /// Whether the lock is held: not revoked, and the table is sound.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let core = self.core();
        let record = core.region.record(self.hold.record);
        let hold = record.hold.load(Ordering::Relaxed);
        core.check().is_ok() && !is_revocation(record.revoked.load(Ordering::Acquire), hold)
    }

    /// Names the hold for [`SharedTable::revoke`].
    #[must_use]
    pub fn id(&self) -> HoldId {
        let core = self.core();
        let hold = core.region.record(self.hold.record).hold.load(Ordering::Relaxed);
        HoldId { member: core.me.number(), record: self.hold.record, hold }
    }

    /// Turns an exclusive hold into a shared one, without a gap for another writer.
    ///
    /// Does nothing to a shared hold.
    ///
    /// # Errors
    /// [`ShmError::Revoked`], [`ShmError::Forked`], [`ShmError::Damaged`]; then nothing has changed.
    pub fn downgrade(&mut self) -> Result<(), ShmError> {
        if self.hold.mode == Mode::Shared {
            return Ok(());
        }
        self.change(|core, hold| {
            leave::downgrade(&core.region, hold.slot, core.me);
            hold.mode = Mode::Shared;
            Ok(())
        })
    }

    /// Turns a shared hold into an exclusive one, if it has no rival.
    ///
    /// Does nothing to an exclusive hold.
    ///
    /// # Errors
    /// [`ShmError::UpgradeConflict`], [`ShmError::Revoked`], [`ShmError::Forked`], [`ShmError::Damaged`]; the shared hold
    /// stays as it is.
    pub fn try_upgrade(&mut self) -> Result<(), ShmError> {
        if self.hold.mode == Mode::Exclusive {
            return Ok(());
        }
        let key = self.key();
        self.change(|core, hold| {
            let (slot, place) = (hold.slot, hold.place);
            let alone =
                core.lines.with(slot, |line| leave::try_upgrade(&core.region, slot, core.me, place, &mut line.sharers));
            if !alone {
                return Err(ShmError::UpgradeConflict { key });
            }
            become_writer(core, hold);
            Ok(())
        })
    }

    /// Looks whether an upgrade that waits is done.
    ///
    /// `begun` is false before the first look, and [`end_upgrade`](Self::end_upgrade) makes it so again.
    ///
    /// # Errors
    /// As [`try_upgrade`](Self::try_upgrade).
    pub(crate) fn look_at_upgrade(&mut self, begun: &mut bool) -> Result<Upgrade, ShmError> {
        let looked = self.change(|core, hold| {
            let (region, slot, me) = (&core.region, hold.slot, core.me);
            let looked = core.lines.with(slot, |line| {
                *begun = *begun || upgrade::begin(region, slot, me, &mut line.sharers);
                if *begun {
                    upgrade::advance(region, slot, me, hold.place, &mut line.sharers)
                } else {
                    Upgrade::Conflict
                }
            });
            if looked == Upgrade::Done {
                *begun = false;
                become_writer(core, hold);
            }
            Ok(looked)
        });
        if !matches!(looked, Ok(Upgrade::Waits(_))) {
            self.end_upgrade(begun);
        }
        looked
    }

    /// Gives up an upgrade that waits; the hold stays shared.
    pub(crate) fn end_upgrade(&mut self, begun: &mut bool) {
        let core = self.core();
        if std::mem::take(begun) && !core.is_forked() {
            let slot = self.hold.slot;
            core.lines.with(slot, |line| upgrade::end(&core.region, slot, core.me, &mut line.sharers));
        }
    }

    /// How other processes want the key, if this hold is in their way.
    pub(crate) fn wanted_as(&self) -> Option<Mode> {
        recall::wanted_as(&self.core().region, self.core().me, self.hold.slot, self.hold.mode)
    }

    pub(crate) fn slot(&self) -> u32 {
        self.hold.slot
    }

    /// The key's fingerprint.
    ///
    /// Of a hold that was revoked and reported no death, it may be that of the entry's next key.
    pub(crate) fn print(&self) -> Fingerprint {
        let core = self.core();
        let informed = core.informed.key_of(&core.region, self.hold.record);
        informed.unwrap_or_else(|| lookup::read_print(core.region.entry(self.hold.slot)))
    }

    /// Keeps that many fences for this hold.
    ///
    /// Returns how many there are, from its own on; the next hold of the key counts on behind the last. A hold that was
    /// revoked has its own alone.
    ///
    /// Caller holds: the key exclusively.
    pub(crate) fn reserve_fences(&self, count: u32) -> u32 {
        let core = self.core();
        if begin_change(&core.region, self.hold.record) {
            changed(&core.region, self.hold.record);
            return 1;
        }
        let last = self.hold.fence + u64::from(count) - 1;
        core.region.entry(self.hold.slot).fence.store(last, Ordering::Relaxed);
        changed(&core.region, self.hold.record);
        count
    }

    /// Runs a change of the word that no revoker may run into.
    fn change<R>(&mut self, work: impl FnOnce(&Core, &mut Hold) -> Result<R, ShmError>) -> Result<R, ShmError> {
        let mut hold = self.hold;
        let core = self.table.table().core();
        core.check()?;
        if begin_change(&core.region, hold.record) {
            // The revoker may take it back.
            changed(&core.region, hold.record);
            return Err(ShmError::Revoked { key: self.key() });
        }
        let result = work(core, &mut hold);
        records::rename(core, hold.record, hold.slot, kind(hold.mode));
        changed(&core.region, hold.record);
        self.hold = hold;
        result
    }

    /// Releases the lock; an error if it was not held any more, which a drop hides.
    ///
    /// # Errors
    /// [`ShmError::Revoked`] if it was revoked; no other hold is touched. [`ShmError::Forked`], [`ShmError::Damaged`].
    pub fn try_release(self) -> Result<(), ShmError> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the value is not used or dropped after this; the handle is dropped at the end of this function.
        let table = unsafe { std::ptr::read(&raw const this.table) };
        let core = table.table().core();
        core.check()?;
        if release(core, &this.hold) {
            return Ok(());
        }
        Err(ShmError::Revoked { key: lookup::read_text(core.region.entry(this.hold.slot)) })
    }

    /// Releases the lock; the same as dropping the guard.
    pub fn release(self) {}

    /// Releases the lock as if no caller had had it.
    ///
    /// The report of a death is for the next holder.
    pub fn give_back(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: the value is not used or dropped after this; the handle is dropped at the end of this function.
        let table = unsafe { std::ptr::read(&raw const this.table) };
        let core = table.table().core();
        if !core.is_forked() {
            give_back(core, &this.hold);
        }
    }
}

/// Makes the hold of a reader that was named as the writer an exclusive one.
fn become_writer(core: &Core, hold: &mut Hold) {
    (hold.mode, hold.place) = (Mode::Exclusive, Place::Word);
    // What a writer that comes by itself takes out of the word: this is the one that is informed.
    let death = match drain(&core.region, hold.slot) {
        Drain::Done(death) => death,
        // The bit of a reader that backs out.
        Drain::Waits(_) => take_death(&core.region, hold.slot),
    };
    if death == Death::Reported {
        hold.death = Death::Reported;
        core.informed.note(&core.region, hold.record, lookup::read_print(core.region.entry(hold.slot)));
    }
    let fence = &core.region.entry(hold.slot).fence;
    hold.fence = fence.load(Ordering::Relaxed) + 1;
    fence.store(hold.fence, Ordering::Relaxed);
}

impl SharedLockGuard<'_> {
    /// Gives the guard a table handle of its own, so that it can outlive the borrow.
    pub fn into_owned(self) -> OwnedSharedLockGuard {
        let this = ManuallyDrop::new(self);
        LockGuard::new(this.table.clone(), this.hold)
    }
}

impl<T: TableRef> Drop for LockGuard<T> {
    #[inline(always)]
    fn drop(&mut self) {
        let core = self.table.table().core();
        if !core.is_forked() {
            release(core, &self.hold);
        }
    }
}

impl<T: TableRef> fmt::Debug for LockGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("key", &self.key()).field("mode", &self.mode()).finish_non_exhaustive()
    }
}

/// The locks that a batch has while it waits for more.
///
/// Dropped, it gives them back as if no caller had had them.
pub(crate) struct Unfinished<'a>(Vec<SharedLockGuard<'a>>);

impl<'a> Unfinished<'a> {
    pub(crate) fn new(locks: usize) -> Self {
        Self(Vec::with_capacity(locks))
    }

    pub(crate) fn push(&mut self, guard: SharedLockGuard<'a>) {
        self.0.push(guard);
    }

    pub(crate) fn finish(mut self) -> LockBatch<'a> {
        LockBatch { guards: std::mem::take(&mut self.0) }
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        for guard in self.0.drain(..) {
            let guard = ManuallyDrop::new(guard);
            let core = guard.table.core();
            if !core.is_forked() {
                // A death that it would have reported is reported to the next holder.
                give_back(core, &guard.hold);
            }
        }
    }
}

/// The locks of a batch, in the order of their keys.
///
/// Dropping it releases all of them.
#[must_use = "a batch that is dropped releases its locks"]
#[derive(Debug)]
pub struct LockBatch<'a> {
    pub(crate) guards: Vec<SharedLockGuard<'a>>,
}

impl<'a> LockBatch<'a> {
    /// How many locks are held: one a key.
    #[must_use]
    pub fn len(&self) -> usize {
        self.guards.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.guards.is_empty()
    }

    /// The guards, in the order of their keys.
    pub fn guards(&self) -> &[SharedLockGuard<'a>] {
        &self.guards
    }

    /// A guard for each lock, to be released one by one.
    #[must_use = "guards that are dropped release their locks"]
    pub fn into_guards(self) -> Vec<SharedLockGuard<'a>> {
        self.guards
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::change::{begin_change, changed, question, revocation, revoked};
    use crate::listed::HoldId;
    use crate::word::MemberId;
    use crate::{LockRequest, SharedTable, TableConfig};
    use std::sync::atomic::Ordering;

    #[test]
    fn revoked_hold_reserves_no_fences() {
        let table = SharedTable::memfd("fences", &TableConfig::default().keys(8).members(1)).expect("a table");
        let write = || table.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free");
        let first = write();
        assert_eq!(table.revoke(first.id()).ok(), Some(true));
        let second = write();
        assert_eq!(second.reserve_fences(10), 10);
        assert_eq!(first.reserve_fences(1_000), 1);
        assert_eq!(second.fence(), first.fence() + 1);
        let last = second.fence() + 9;
        drop((first, second));
        assert_eq!(write().fence(), last + 1);
    }

    #[test]
    fn hold_that_changes_is_not_revoked() {
        let table = SharedTable::memfd("changes", &TableConfig::default().keys(8).members(1)).expect("a table");
        let write = || table.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free");
        let core = table.core();
        let held = write();
        let record = held.hold.record;
        assert!(!begin_change(&core.region, record));
        assert_eq!(table.revoke(held.id()).ok(), Some(false));
        changed(&core.region, record);
        assert!(held.is_valid());
        drop(held);
        let held = write();
        // A revoker that was killed after it asked; the next change takes the question back.
        let record = core.region.record(held.hold.record);
        record.revoked.store(question(record.hold.load(Ordering::Relaxed), core.me), Ordering::SeqCst);
        assert!(held.is_valid());
        drop(held);
        let held = write();
        let record = core.region.record(held.hold.record);
        record.revoked.store(question(record.hold.load(Ordering::Relaxed), core.me), Ordering::SeqCst);
        assert_eq!(table.revoke(held.id()).ok(), Some(true), "another revoker goes on");
        assert!(!held.is_valid());
        assert_eq!(table.revoke(held.id()).ok(), Some(false));
        drop((write(), held));
        drop(write());
    }

    #[test]
    fn waiting_request_is_no_hold() {
        let table = SharedTable::memfd("waits", &TableConfig::default().keys(8).members(1)).expect("a table");
        let held = table.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| table.lock(LockRequest::write(("photos", "cat.jpg"))).blocking().map(drop));
            while table.waiting_here(("photos", "cat.jpg")).expect("sound") == 0 {
                std::thread::yield_now();
            }
            let found = table.holders(None).expect("sound");
            assert_eq!(found.iter().map(|holder| holder.hold).collect::<Vec<_>>(), [held.id()]);
            // Its name is that of the thread that holds.
            let requests =
                (0..table.core().region.layout().record_count()).filter(|record| *record != held.hold.record);
            for record in requests {
                let hold = table.core().region.record(record).hold.load(Ordering::Relaxed);
                assert_eq!(table.revoke(HoldId { record, hold, ..held.id() }).ok(), Some(false));
            }
            assert!(held.is_valid() && table.is_locked(("photos", "cat.jpg")).expect("sound"));
            drop(held);
            assert!(waiter.join().expect("no panic").is_ok());
        });
    }

    #[test]
    fn revoked_record_stays_until_name_is_out() {
        let table = SharedTable::memfd("left", &TableConfig::default().keys(8).members(2)).expect("a table");
        let other = MemberId::new(2).expect("not 0");
        let held = table.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free");
        let core = table.core();
        let record = core.region.record(held.hold.record);
        let use_number = record.hold.load(Ordering::Relaxed);
        // As a revoker leaves it that is killed before it takes the name out.
        record.revoked.store(revocation(use_number, other), Ordering::SeqCst);
        assert!(!held.is_valid());
        drop(held);
        assert_ne!(record.head.load(Ordering::SeqCst), 0, "a name without a record is damage");
        record.revoked.store(revoked(use_number), Ordering::SeqCst);
        crate::protocol::leave::leave_exclusive(&core.region, 0, core.me);
        let next = table.lock(LockRequest::write(("photos", "dog.jpg"))).now().expect("free");
        assert_eq!(table.revoke(next.id()).ok(), Some(true));
        drop(next);
        assert_eq!(record.head.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn upgrade_reports_a_death() {
        let table = SharedTable::memfd("deaths", &TableConfig::default().keys(8).members(1)).expect("a table");
        let mut held = table.lock(LockRequest::read(("photos", "cat.jpg"))).now().expect("free");
        crate::death::report(&table.core().region, held.print());
        assert!(!held.previous_holder_died());
        held.try_upgrade().expect("alone");
        assert!(held.previous_holder_died());
        drop(held);
        let next = table.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free");
        assert!(!next.previous_holder_died(), "it was reported");
    }

    #[test]
    fn upgrade_beside_a_late_bit_reports_a_death() {
        let table = SharedTable::memfd("late-bit", &TableConfig::default().keys(8).members(4)).expect("a table");
        let mut held = table.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free");
        let (core, slot) = (table.core(), held.slot());
        let other = MemberId::new(u64::from(core.me.number()) + 1).expect("not 0");
        let seen = crate::protocol::load(&core.region, slot);
        assert!(crate::protocol::swap(&core.region, slot, seen, seen.with_overflow().with_died()));
        core.region.set_bit(slot, crate::region::Bitmap::Readers, other);
        let mut hold = held.hold;
        super::become_writer(core, &mut hold);
        held.hold = hold;
        assert!(held.previous_holder_died());
        assert!(!crate::protocol::load(&core.region, slot).died(), "it is reported once");
        core.region.clear_bit(slot, crate::region::Bitmap::Readers, other);
    }
}
