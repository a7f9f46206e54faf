//! Taking a hold away from a process that lives.

use crate::change::{is_changing, is_revocation, is_revocation_by, question, revocation, revoked};
use crate::core::Core;
use crate::error::ShmError;
use crate::listed::HoldId;
use crate::log::{self, Kind};
use crate::lookup::read_text;
use crate::os::barrier;
use crate::os::robust::is_alive;
use crate::protocol::revocation::{Announcement, Revoked, take_out};
use crate::protocol::turn::ring_keeper;
use crate::protocol::{leave, load, turn};
use crate::region::Bitmap;
use crate::slot_state::{is_unclaimed, life};
use crate::word::MemberId;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Takes a hold away and removes its name from the word.
///
/// It asks, and makes sure that the process sees that before it touches the word again.
///
/// A hold that its process is changing meanwhile stays: nothing is left of the question then.
pub(crate) fn revoke(core: &Core, id: HoldId) -> Result<bool, ShmError> {
    let region = &core.region;
    let Some(member) = MemberId::new(u64::from(id.member)).filter(|member| region.has_member(*member)) else {
        return Ok(false);
    };
    if id.record >= region.layout().record_count() {
        return Ok(false);
    }
    let record = region.record(id.record);
    // A question names the process, so a process has one at a time.
    let _one = core.revoking.lock().unwrap_or_else(PoisonError::into_inner);
    // Before the looks: what they find is the same member's until the name is out.
    let _announced = Announcement::new(region, core.me, member, id.record);
    if !is_alive(life(region, member)) || !is_unclaimed(region, member) {
        // Recovery takes the name out, and has the next holder informed.
        return Ok(false);
    }
    let head = record.head.load(Ordering::Acquire);
    let owned = region.chunk(id.record / crate::layout::RECORDS).owner.load(Ordering::Acquire) == u32::from(id.member);
    let current = || record.head.load(Ordering::Acquire) == head && record.hold.load(Ordering::Acquire) == id.hold;
    let Some((slot, kind)) =
        log::unpack(head).filter(|(slot, kind)| *kind != Kind::Rekey && *slot < region.layout().entry_count())
    else {
        return Ok(false);
    };
    if !owned || !current() {
        return Ok(false);
    }
    let _taking = (kind == Kind::Exclusive).then(|| Taking::new(core, slot));
    let word = load(region, slot);
    let shared_by_threads =
        word.is_joined(member) || kind == Kind::Shared && region.has_bit(slot, Bitmap::Readers, member);
    if shared_by_threads {
        return Err(ShmError::UpgradeConflict { key: read_text(region.entry(slot)) });
    }
    let (asks, taken) = (question(id.hold, core.me), revocation(id.hold, core.me));
    let before = record.revoked.load(Ordering::SeqCst);
    if is_revocation(before, id.hold) {
        return Ok(false);
    }
    let swap = |from, to| record.revoked.compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed).is_ok();
    // In the place of an older question, which then has no answer.
    let asked = swap(before, asks);
    // Pairs with: the compiler fence of `begin_change`. After the barrier, each thread of the holder either has its
    // `releasing` visible here, or sees the question before it touches the word.
    barrier::all_processors();
    // In this order: a change that has ended before the look has renamed the hold, which the second look sees.
    if !asked || is_changing(record, id.hold) || !current() {
        // Unless the holder took it back.
        let _ = swap(asks, 0);
        return Ok(false);
    }
    if !swap(asks, taken) {
        return Ok(false);
    }
    // Its tier looks whether it has lost what it keeps.
    ring_keeper(region, member);
    let revoked_hold = Revoked { holder: member, record: id.record, hold: id.hold, slot, kind };
    if !take_out(region, core.me, &revoked_hold) {
        return Err(ShmError::UpgradeConflict { key: read_text(region.entry(slot)) });
    }
    Ok(true)
}

/// Takes the names of this process out that dead revokers have left.
pub(crate) fn clear_left(core: &Core) {
    // A thread that revokes a hold of its own process marks it likewise.
    let _one = core.revoking.lock().unwrap_or_else(PoisonError::into_inner);
    let region = &core.region;
    for index in log::records_of(region, core.me) {
        let record = region.record(index);
        // In this order, which is the other way round in `records::begin`: the mark is not that of an earlier use of the
        // record, or of another member's.
        let seen_head = record.head.load(Ordering::Acquire);
        let hold = record.hold.load(Ordering::Acquire);
        let seen = record.revoked.load(Ordering::SeqCst);
        if !is_revocation_by(seen, core.me) || !is_revocation(seen, hold) {
            continue;
        }
        // A marked hold keeps its record. So if the head is still the one of before, it is that of the marked hold.
        let is_same = record.head.load(Ordering::Acquire) == seen_head;
        let of = log::unpack(seen_head).filter(|(slot, _)| is_same && *slot < region.layout().entry_count());
        let Some((slot, Kind::Exclusive)) = of else { continue };
        leave::leave_exclusive(region, slot, core.me);
        // From here on the record may be cleared, and the lock be taken with another one.
        let _ = record.revoked.compare_exchange(seen, revoked(seen), Ordering::SeqCst, Ordering::Relaxed);
        turn::ring(region, core.me, slot);
    }
}

/// That this process may have its name in the place of a writer.
struct Taking<'c>(&'c Core);

impl<'c> Taking<'c> {
    /// Caller holds: the process's mutex of revocations.
    fn new(core: &'c Core, slot: u32) -> Self {
        // Pairs with: a recoverer's load, through the swap that follows.
        core.region.member(core.me).taking.store(log::pack(slot, Kind::Exclusive), Ordering::Release);
        Self(core)
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        // Pairs with: a recoverer's load. The name is out.
        self.0.region.member(self.0.me).taking.store(0, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::protocol::leave::replace_writer;
    use crate::protocol::recover::recover_slot;
    use crate::{LockRequest, SharedTable, TableConfig};
    use std::path::PathBuf;
    use std::sync::atomic::AtomicU32;

    const CAT: (&str, &str) = ("photos", "cat.jpg");

    /// A table of several members of this process.
    struct Members {
        path: PathBuf,
        config: TableConfig,
    }

    impl Members {
        fn new(members: u16) -> Self {
            static FILES: AtomicU32 = AtomicU32::new(0);
            let number = FILES.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("keylatch-revoke-{}-{number}", std::process::id()));
            Self { path, config: TableConfig::default().keys(8).members(members) }
        }

        fn join(&self) -> SharedTable {
            SharedTable::open(&self.path, &self.config).expect("a table")
        }
    }

    impl Drop for Members {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Decides to revoke a hold, as a revoker that is stopped or killed next.
    fn decide(revoker: &SharedTable, id: HoldId) {
        let (core, holder) = (revoker.core(), MemberId::new(id.member.into()).expect("not 0"));
        std::mem::forget(Announcement::new(&core.region, core.me, holder, id.record));
        core.region.record(id.record).revoked.store(revocation(id.hold, core.me), Ordering::SeqCst);
    }

    #[test]
    fn killed_revoker_leaves_the_name_to_its_process() {
        let members = Members::new(3);
        let (one, two, three) = (members.join(), members.join(), members.join());
        let held = one.lock(LockRequest::write(CAT)).now().expect("free");
        decide(&two, held.id());
        let region = &three.core().region;
        recover_slot(region, two.core().me);
        // The second of two that recover it.
        recover_slot(region, two.core().me);
        assert!(!held.is_valid());
        let patient = LockRequest::write(CAT).timeout(std::time::Duration::from_secs(60));
        let next = one.lock(patient).blocking().expect("its life thread takes the name out");
        clear_left(one.core());
        assert!(three.is_locked(CAT).expect("sound") && next.is_valid() && !held.is_valid());
        let listed = three.holders(Some(CAT.into())).expect("sound");
        assert_eq!(listed.iter().map(|holder| holder.hold).collect::<Vec<_>>(), [next.id()]);
        drop(held);
        assert!(three.is_locked(CAT).expect("sound"));
        drop(next);
        assert!(!three.is_locked(CAT).expect("sound"));
    }

    #[test]
    fn killed_revoker_in_the_word_is_recovered() {
        let members = Members::new(3);
        let (one, two, three) = (members.join(), members.join(), members.join());
        let held = one.lock(LockRequest::write(CAT)).now().expect("free");
        decide(&two, held.id());
        std::mem::forget(Taking::new(two.core(), held.slot()));
        let region = &three.core().region;
        assert!(replace_writer(region, held.slot(), one.core().me, two.core().me));
        let mark = &region.record(held.id().record).revoked;
        let taken = mark.load(Ordering::SeqCst);
        recover_slot(region, two.core().me);
        assert_eq!(mark.load(Ordering::SeqCst), crate::change::revoked(taken));
        assert!(!held.is_valid() && !three.is_locked(CAT).expect("sound"));
        let next = one.lock(LockRequest::write(CAT)).now().expect("free");
        assert!(next.previous_holder_died());
        // Whatever a slow recoverer and the life thread do now, and the guard that lost its hold.
        recover_slot(region, two.core().me);
        clear_left(one.core());
        drop(held);
        assert!(next.is_valid() && three.is_locked(CAT).expect("sound"));
        drop(next);
        assert!(!three.is_locked(CAT).expect("sound"));
    }

    #[test]
    fn name_of_next_member_is_left_alone() {
        let members = Members::new(4);
        let (one, two) = (members.join(), members.join());
        let (region, holder) = (&one.core().region, two.core().me);
        let held = two.lock(LockRequest::write(CAT)).now().expect("free");
        decide(&one, held.id());
        std::mem::forget(held);
        // It ends, and its hold with it.
        drop(two);
        let next = [members.join(), members.join()];
        assert!(next.iter().all(|table| table.core().me != holder), "its slot is announced");
        drop(next);
        region.member(one.core().me).revoking.store(0, Ordering::SeqCst);
        assert_eq!(members.join().core().me, holder);
    }

    #[test]
    fn mark_of_an_earlier_use_is_no_order() {
        let members = Members::new(2);
        let (one, two) = (members.join(), members.join());
        let held = one.lock(LockRequest::write(CAT)).now().expect("free");
        let record = one.core().region.record(held.id().record);
        for hold in [held.id().hold - 1, held.id().hold + 1] {
            record.revoked.store(crate::change::left(hold, one.core().me), Ordering::SeqCst);
            clear_left(one.core());
            assert!(held.is_valid() && two.is_locked(CAT).expect("sound"), "it is another hold's");
        }
    }

    #[test]
    fn recovered_record_has_no_mark() {
        let members = Members::new(3);
        let (one, two, three) = (members.join(), members.join(), members.join());
        let held = one.lock(LockRequest::write(CAT)).now().expect("free");
        decide(&two, held.id());
        let mark = &three.core().region.record(held.id().record).revoked;
        recover_slot(&three.core().region, one.core().me);
        assert_eq!(mark.load(Ordering::SeqCst), 0, "the record's next member would take it for its own");
        recover_slot(&three.core().region, two.core().me);
        assert_eq!(mark.load(Ordering::SeqCst), 0);
        drop(held);
    }

    #[test]
    fn full_log_bars_no_revocation() {
        let mut members = Members::new(2);
        members.config = members.config.clone().holds(1);
        let (one, two) = (members.join(), members.join());
        let held = one.lock(LockRequest::write(CAT)).now().expect("free");
        let chunks = || crate::log::take_chunk(&two.core().region, one.core().me);
        while chunks().is_some() {}
        assert!(matches!(two.lock(LockRequest::read(("photos", "dog.jpg"))).now(), Err(ShmError::LogFull { .. })));
        assert_eq!(two.revoke(held.id()).ok(), Some(true));
        assert!(!held.is_valid());
    }

    #[test]
    fn hold_of_dead_member_is_not_revoked() {
        let members = Members::new(2);
        let (one, two) = (members.join(), members.join());
        let held = two.lock(LockRequest::write(CAT)).now().expect("free");
        let (id, region, holder) = (held.id(), &one.core().region, two.core().me);
        let life = region.member(holder).life.swap(crate::os::robust::OWNER_DIED, Ordering::SeqCst);
        assert_eq!(one.revoke(id).ok(), Some(false), "recovery reports its death");
        region.member(holder).life.store(life, Ordering::SeqCst);
        drop(held);
    }

    #[test]
    fn released_hold_that_is_taken_back_ends() {
        let members = Members::new(3);
        let (one, two) = (members.join(), members.join());
        let read = || one.lock(LockRequest::read(CAT)).now().expect("shared");
        let first = read();
        let (record, slot) = (first.id().record, first.slot());
        decide(&two, first.id());
        // Its thread releases it, and another thread has joined the name.
        let second = read();
        drop(first);
        let (region, holder) = (&two.core().region, one.core().me);
        let hold = region.record(record).hold.load(Ordering::SeqCst);
        let taken = Revoked { holder, record, hold, slot, kind: Kind::Shared };
        assert!(!take_out(region, two.core().me, &taken), "a thread has joined it");
        drop(second);
        // Its life thread is awake, and ends it.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while two.is_locked(CAT).expect("sound") {
            assert!(std::time::Instant::now() < end, "no thread holds it");
            std::thread::yield_now();
        }
        drop(two.lock(LockRequest::write(CAT)).now().expect("free"));
    }
}
