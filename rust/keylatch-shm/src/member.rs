//! Slots of members: joining, leaving, and who watches whom.

use crate::error::ShmError;
use crate::log;
use crate::os::robust::{OWNER_DIED, RobustWord, THREAD, is_alive};
use crate::os::{barrier, clock, futex};
use crate::protocol::recover::recover_slot;
use crate::region::Region;
use crate::slot_state::{SlotState, Tenure, is_announced, life};
use crate::word::MemberId;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// How many members watch each member, so that a few of them may be stopped.
const WATCHERS: usize = 4;
/// How long a joining process looks for a slot that is not being recovered.
const PATIENCE: Duration = Duration::from_millis(500);

/// Claims a slot for the calling thread, recovers its predecessor, and joins.
pub(crate) fn join(region: &Region, mut robust: Pin<&mut RobustWord>, label: &str) -> Result<MemberId, ShmError> {
    let end = clock::monotonic() + PATIENCE;
    loop {
        let mut busy = false;
        // A joiner that is stopped in the place of a dead member keeps that one's locks: the free slots come first.
        // Divided in one look, so that a slot that becomes free meanwhile is in one of the two.
        let (free, dead): (Vec<_>, Vec<_>) = region.members().partition(|id| is_quiet(region, *id));
        for id in free.into_iter().chain(dead) {
            if is_alive(life(region, id)) {
                continue;
            }
            let life = &region.member(id).life;
            if !end_last(region, id).is_some_and(|free| robust.as_mut().claim(life, free)) {
                busy = true;
                continue;
            }
            // Pairs with: the fence between an announcement of a recoverer or revoker and its look at the life word and the
            // state. One of the two sees the other.
            fence(Ordering::SeqCst);
            if is_announced(region, id) {
                // It may be stopped; another slot will do.
                robust.as_mut().give_up(life, OWNER_DIED);
                busy = true;
                continue;
            }
            become_live(region, id, label);
            return Ok(id);
        }
        if !busy || clock::monotonic() >= end {
            return Err(ShmError::TooManyMembers { members: region.layout().sizes.members as u16 });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Says that the last member of a slot is gone, before the slot is claimed.
///
/// So no revoker takes the joiner's life for that of the member.
///
/// `Some` is the life word that a claim replaces. The kernel leaves the same value after each death; this one is the
/// joiner's, so the claim fails if the slot was another's meanwhile. `None` if it is in use or announced.
fn end_last(region: &Region, id: MemberId) -> Option<u32> {
    let word = &region.member(id).life;
    // In this order: the member that the slot has now may not be the one that was dead at the look, and a revoker that
    // announced the slot while that one lived is seen.
    let tenure = Tenure::of(region, id);
    let seen = life(region, id);
    if is_alive(seen) || is_announced(region, id) {
        return None;
    }
    let free = OWNER_DIED | (region.header().claims.fetch_add(1, Ordering::Relaxed) % (THREAD - 1) + 1);
    let is_stamped = word.compare_exchange(seen, free, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    (is_stamped && tenure.end(region, id)).then_some(free)
}

/// Caller holds: the slot's life word, and no live member announces the slot.
fn become_live(region: &Region, id: MemberId, label: &str) {
    let member = region.member(id);
    if !Tenure::of(region, id).is(SlotState::Quiet) {
        recover_slot(region, id);
    } else {
        // A recoverer that announced the slot and died may still run where it was not interrupted.
        barrier::all_processors();
    }
    // The predecessor's announcement, if it died in the middle of one: from here on it would count as this member's.
    member.recovering.store(0, Ordering::SeqCst);
    member.revoking.store(0, Ordering::SeqCst);
    member.taking.store(0, Ordering::SeqCst);
    log::mend_chain(region, id);
    log::give_chunks_back(region, id);
    member.late.store(0, Ordering::Relaxed);
    // Its predecessor's sleepers are gone.
    member.bells.iter().for_each(|bell| bell.store(0, Ordering::SeqCst));
    member.keeps.store(0, Ordering::Relaxed);
    member.wish.store(0, Ordering::Relaxed);
    // SAFETY: takes nothing and cannot fail.
    member.pid.store(unsafe { libc::getpid() }.try_into().unwrap_or(0), Ordering::Relaxed);
    member.joined_ms.store(clock::monotonic().as_millis() as u64, Ordering::Relaxed);
    write_name(&member.name, label);
    // Pairs with: `is_dead`.
    Tenure::begin(region, id);
    for watcher in before(region, id) {
        let bell = &region.member(watcher).watch_bell;
        // Pairs with: the life thread's load before it collects whom it watches.
        bell.fetch_add(1, Ordering::SeqCst);
        futex::wake_all(bell);
    }
}

/// Ends the membership in order.
///
/// What is still held, by guards that were forgotten, is recovered as if the process died.
pub(crate) fn leave(region: &Region, me: MemberId, robust: Pin<&mut RobustWord>) {
    recover_slot(region, me);
    log::give_chunks_back(region, me);
    robust.give_up(&region.member(me).life, 0);
}

/// The next live members after this one in cyclic order, whose deaths it reports.
pub(crate) fn after(region: &Region, me: MemberId) -> Vec<MemberId> {
    let count = region.layout().sizes.members as usize;
    let others = (1..count).map(|step| MemberId::at((me.index() + step) % count));
    others.filter(|id| life(region, *id) != 0 && !is_quiet(region, *id)).take(WATCHERS).collect()
}

/// The live members that watch this one.
fn before(region: &Region, me: MemberId) -> Vec<MemberId> {
    let count = region.layout().sizes.members as usize;
    let others = (1..count).map(|step| MemberId::at((me.index() + count - step) % count));
    others.filter(|id| is_alive(life(region, *id))).take(WATCHERS).collect()
}

fn is_quiet(region: &Region, id: MemberId) -> bool {
    Tenure::of(region, id).is(SlotState::Quiet)
}

const PROGRAM_BYTES: usize = 16;

fn write_name(name: &[AtomicU64; 8], label: &str) {
    let mut bytes = [0_u8; 64];
    let named = std::fs::read("/proc/self/comm").unwrap_or_default();
    let program = named.trim_ascii_end();
    let kept = program.len().min(PROGRAM_BYTES - 1);
    bytes[..kept].copy_from_slice(&program[..kept]);
    let kept = label.len().min(31);
    bytes[PROGRAM_BYTES..PROGRAM_BYTES + kept].copy_from_slice(&label.as_bytes()[..kept]);
    for (word, bytes) in name.iter().zip(bytes.chunks_exact(8)) {
        word.store(u64::from_le_bytes(bytes.try_into().expect("eight bytes")), Ordering::Relaxed);
    }
}

/// The program's name and the label of a member.
pub(crate) fn read_name(region: &Region, id: MemberId) -> (String, String) {
    let bytes: Vec<u8> =
        region.member(id).name.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
    let (program, label) = bytes.split_at(PROGRAM_BYTES);
    (text(program), text(label))
}

/// Bytes up to the first zero.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{LockRequest, SharedTable, TableConfig};

    #[test]
    fn death_before_a_claim_is_reported() {
        let path = std::env::temp_dir().join(format!("keylatch-claim-{}", std::process::id()));
        let open = || SharedTable::open(&path, &TableConfig::default().keys(8).members(2)).expect("a table");
        let (one, two) = (open(), open());
        let (region, holder) = (&one.core().region, two.core().me);
        let held = two.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free");
        let id = held.id();
        std::mem::forget(held);
        let word = &region.member(holder).life;
        let lived = word.swap(OWNER_DIED, Ordering::SeqCst);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut robust = RobustWord::register().expect("every Linux has robust lists");
                let free = end_last(region, holder).expect("it is dead");
                assert!(robust.as_mut().claim(word, free));
                // It is stopped here, and looks alive.
                assert_eq!(one.revoke(id).ok(), Some(false), "recovery reports the death");
                robust.as_mut().give_up(word, OWNER_DIED);
            });
        });
        one.core().recover(holder);
        assert!(one.lock(LockRequest::write(("photos", "cat.jpg"))).now().expect("free").previous_holder_died());
        word.store(lived, Ordering::SeqCst);
        drop((one, two));
        std::fs::remove_file(&path).expect("it is there");
    }

    #[test]
    fn joiner_takes_a_free_slot_first() {
        let path = std::env::temp_dir().join(format!("keylatch-free-{}", std::process::id()));
        let open = || SharedTable::open(&path, &TableConfig::default().keys(8).members(3)).expect("a table");
        let (one, two) = (open(), open());
        let region = &two.core().region;
        let word = &region.member(one.core().me).life;
        let lived = word.swap(OWNER_DIED, Ordering::SeqCst);
        // None recovers the first one meanwhile.
        let recovery = crate::mutex::lock(&two.core().recovery);
        let three = open();
        drop(recovery);
        assert_ne!(three.core().me, one.core().me, "it may be stopped before it has recovered the dead one");
        word.store(lived, Ordering::SeqCst);
        drop((one, two, three));
        std::fs::remove_file(&path).expect("it is there");
    }

    #[test]
    fn late_joiner_leaves_the_next_member_alone() {
        let table = SharedTable::memfd("joins", &TableConfig::default().keys(8).members(1)).expect("a table");
        let (region, me) = (&table.core().region, table.core().me);
        let word = &region.member(me).life;
        let lived = word.swap(OWNER_DIED, Ordering::SeqCst);
        let seen = Tenure::of(region, me);
        let free = end_last(region, me).expect("it is dead");
        assert!(!seen.end(region, me), "another one was first");
        // The first one has joined, and is dead again.
        Tenure::begin(region, me);
        word.store(OWNER_DIED, Ordering::SeqCst);
        assert!(!seen.end(region, me), "it is another member");
        assert!(Tenure::of(region, me).is(SlotState::Live));
        assert_ne!(word.load(Ordering::SeqCst), free, "a claim with it fails");
        word.store(lived, Ordering::SeqCst);
    }
}
