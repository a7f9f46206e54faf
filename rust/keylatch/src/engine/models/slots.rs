//! Readers in slots, and all that wants to know of them.
//!
//! The reader that a model has from the beginning is in its slot before another thread is there: that costs no executions.

use super::*;
use crate::hold::Lost;
use crate::request::Limit;
use crate::table::{Pin, Word};

/// A manager with a key that is biased and idle, in the warm slot.
pub(super) fn biased(fairness: Fairness, key: usize) -> Model {
    let model = Model::with(LockConfig { shards: 1, fairness, reader_slots: true, ..LockConfig::default() });
    model.lock_and_work(key, EXCLUSIVE);
    bias(&model, key);
    assert!(word(&model, key).is_biased());
    take_line(&model);
    model
}

/// What a crowd of readers does.
pub(super) fn bias(model: &Model, key: usize) {
    let wanted = model.wanted(key, SHARED);
    let mut shard = model.core().lock_shard(wanted.hash);
    if let Some((index, _)) = shard.find(wanted.hash, &wanted.key) {
        shard.bias(&model.core().local().entries, index);
    }
}

pub(super) fn word(model: &Model, key: usize) -> Word {
    let wanted = model.wanted(key, SHARED);
    let shard = model.core().lock_shard(wanted.hash);
    shard.find(wanted.hash, &wanted.key).map(|(_, entry)| entry.word()).expect("it is in the table")
}

/// Gives the calling thread slots, as its first shared hold of a biased key does.
pub(super) fn take_line(model: &Model) {
    model.core().find_line(model.core().local());
}

/// A reader in a slot.
pub(super) fn enter(model: &Model, key: usize) -> Grant {
    let before = word(model, key).readers();
    let grant = model.lock_fast(key, SHARED).expect("no writer");
    assert_eq!(word(model, key).readers(), before, "the word counts it");
    grant
}

/// Shares a key on the fast path, works and releases.
pub(super) fn read_fast(model: &Model, key: usize) {
    if let Some(grant) = model.lock_fast(key, SHARED) {
        model.work(key, SHARED);
        model.release(grant);
    }
}

/// Takes a key on the fast path alone, works and releases.
pub(super) fn write_fast(model: &Model, key: usize) {
    if let Some(grant) = model.lock_fast(key, EXCLUSIVE) {
        model.work(key, EXCLUSIVE);
        model.release(grant);
    }
}

pub(super) fn try_to_write(model: &Model, key: usize) {
    if let Ok(grant) = model.try_lock(key, EXCLUSIVE) {
        model.work(key, EXCLUSIVE);
        model.release(grant);
    }
}

pub(super) fn force(model: &Model, grants: &[Grant]) -> Vec<Grant> {
    model.core().revoke(model.core().local(), grants, Lost::Forced)
}

/// Would catch a writer that overlooks a reader who enters its slot meanwhile.
///
/// And a reader that is let in after that, and a writer that no reader wakes.
#[test]
fn reader_enters_while_a_writer_comes() {
    for fairness in [Fairness::Fifo, NEVER] {
        check(move || {
            let model = biased(fairness, 0);
            let reader = model.spawn(|model| {
                take_line(model);
                read_fast(model, 0);
            });
            model.lock_and_work(0, EXCLUSIVE);
            reader.join().unwrap();
            model.assert_nothing_left();
        });
    }
}

/// Would catch a writer that comes before the reader in a slot has left.
///
/// And one that does not see what the reader did.
#[test]
fn reader_leaves_while_a_writer_comes() {
    for fairness in [Fairness::Fifo, NEVER] {
        check(move || {
            let model = biased(fairness, 0);
            let grant = enter(&model, 0);
            let writer = model.spawn(|model| model.lock_and_work(0, EXCLUSIVE));
            model.work(0, SHARED);
            model.release(grant);
            writer.join().unwrap();
            model.assert_nothing_left();
        });
    }
}

/// Would catch a writer on the fast path while another collects the readers.
#[test]
fn writer_is_quick_while_another_collects() {
    check(|| {
        let model = biased(NEVER, 0);
        let grant = enter(&model, 0);
        let collects = model.spawn(|model| try_to_write(model, 0));
        let quick = model.spawn(|model| {
            write_fast(model, 0);
        });
        model.work(0, SHARED);
        model.release(grant);
        collects.join().unwrap();
        quick.join().unwrap();
        model.assert_nothing_left();
    });
}

/// As before, with the reader on its way in.
#[test]
fn reader_enters_between_two_writers() {
    check_within(2, || {
        let model = biased(NEVER, 0);
        let reader = model.spawn(|model| {
            take_line(model);
            read_fast(model, 0);
        });
        let collects = model.spawn(|model| try_to_write(model, 0));
        write_fast(&model, 0);
        collects.join().unwrap();
        reader.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a reader of two that is counted twice or not at all.
#[test]
fn two_readers_leave_while_they_are_collected() {
    check(|| {
        let model = biased(NEVER, 0);
        let first = enter(&model, 0);
        let second = model.spawn(|model| {
            take_line(model);
            read_fast(model, 0);
        });
        let writer = model.spawn(|model| try_to_write(model, 0));
        model.work(0, SHARED);
        model.release(first);
        second.join().unwrap();
        writer.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a guard that leaves by a slot which its thread has filled anew.
#[test]
fn guard_is_released_on_another_thread() {
    check(|| {
        let model = biased(NEVER, 0);
        let grant = enter(&model, 0);
        let foreign = model.spawn(move |model| {
            model.work(0, SHARED);
            model.release(grant);
        });
        let writer = model.spawn(|model| try_to_write(model, 0));
        read_fast(&model, 0);
        foreign.join().unwrap();
        writer.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a hold that leaves twice, by its slot and by its revocation.
#[test]
fn hold_is_revoked_while_its_guard_leaves() {
    check(|| {
        let model = biased(NEVER, 0);
        let grant = enter(&model, 0);
        let holder = model.spawn(move |model| model.release(grant));
        force(&model, &[grant]);
        model.lock_and_work(0, EXCLUSIVE);
        holder.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a revocation that takes another reader off the word.
///
/// Its own guard has left by the slot.
#[test]
fn reader_is_revoked_while_two_leave() {
    check(|| {
        let model = biased(NEVER, 0);
        let lost = enter(&model, 0);
        let stays = model.spawn(|model| {
            take_line(model);
            read_fast(model, 0);
        });
        let releases = model.spawn(move |model| model.release(lost));
        force(&model, &[lost]);
        try_to_write(&model, 0);
        stays.join().unwrap();
        releases.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a late release that empties a slot which is used again.
#[test]
fn revoked_guard_finds_its_slot_used_again() {
    check(|| {
        let model = biased(NEVER, 0);
        let lost = enter(&model, 0);
        let releases = model.spawn(move |model| model.release(lost));
        let revokes = model.spawn(move |model| {
            force(model, &[lost]);
            bias(model, 0);
            write_fast(model, 0);
        });
        read_fast(&model, 0);
        releases.join().unwrap();
        revokes.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a number that is released by two.
#[test]
fn number_of_a_slot_is_released_by_one_of_two() {
    check(|| {
        let model = biased(NEVER, 0);
        let grant = model.core().try_now(request(0, SHARED), true).unwrap();
        assert_eq!(word(&model, 0).readers(), 0);
        let holder = model.spawn(move |model| model.core().release_number(grant).is_ok());
        let taken = force(&model, &[grant]).len();
        let released = holder.join().unwrap();
        assert_ne!(released, taken == 1);
        model.lock_and_work(0, EXCLUSIVE);
        model.assert_nothing_left();
    });
}

/// Would catch an upgrade beside another reader in a slot.
#[test]
fn reader_upgrades_while_another_comes() {
    for waits in [false, true] {
        check(move || {
            let model = biased(NEVER, 0);
            let grant = enter(&model, 0);
            let other = model.spawn(|model| {
                take_line(model);
                read_fast(model, 0);
            });
            let core = model.core();
            let upgraded = match waits {
                false => core.try_upgrade(grant),
                true => core.upgrade_blocking(grant, Limit::Never),
            };
            if upgraded.is_ok() {
                model.work(0, EXCLUSIVE);
                if waits {
                    core.downgrade(grant);
                    model.work(0, SHARED);
                }
            }
            assert!(upgraded.is_ok() || !waits);
            model.release(grant);
            other.join().unwrap();
            model.assert_nothing_left();
        });
    }
}

/// Would catch a reader that enters a slot for the key that an entry had before.
#[test]
fn reader_enters_while_the_entry_is_evicted() {
    check(|| {
        let model = biased(NEVER, 0);
        let evicts = model.spawn(|model| {
            model.core().table.evict_idle(&model.core().local().entries);
            model.lock_and_work(1, EXCLUSIVE);
            model.lock_and_work(0, EXCLUSIVE);
        });
        read_fast(&model, 0);
        evicts.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch an idle entry that is in no warm slot.
///
/// Its last reader leaves without a look at the word.
#[test]
fn reader_leaves_while_its_warm_slot_is_wanted() {
    check(|| {
        let model = biased(NEVER, 0);
        let grant = enter(&model, 0);
        let others = model.spawn(|model| {
            model.lock_and_work(1, EXCLUSIVE);
            model.lock_and_work(2, EXCLUSIVE);
        });
        model.work(0, SHARED);
        model.release(grant);
        others.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch an entry that stays for ever after its last pin.
#[test]
fn last_pin_ends_while_a_reader_leaves() {
    check(|| {
        let model = Model::with(LockConfig { shards: 1, fairness: NEVER, reader_slots: true, ..LockConfig::default() });
        let pin: Pin = model.core().pin(&KeyRef::new("b", KEYS[0])).expect("there is room");
        // The warm slot is another key's.
        model.lock_and_work(1, EXCLUSIVE);
        bias(&model, 0);
        take_line(&model);
        let grant = enter(&model, 0);
        let holder = model.spawn(move |model| {
            model.work(0, SHARED);
            model.release(grant);
        });
        model.core().unpin(&pin);
        holder.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a grant that is given again while a collector has it in hand.
///
/// For another key.
#[test]
fn slot_gets_another_key_while_collected() {
    check(|| {
        let model = Model::with(LockConfig { shards: 1, fairness: NEVER, reader_slots: true, ..LockConfig::default() });
        let pin: Pin = model.core().pin(&KeyRef::new("b", KEYS[1])).expect("there is room");
        model.lock_and_work(0, EXCLUSIVE);
        bias(&model, 0);
        bias(&model, 1);
        let collects = model.spawn(|model| try_to_write(model, 0));
        take_line(&model);
        read_fast(&model, 0);
        let grant = model.lock_fast(1, SHARED).expect("no writer");
        collects.join().unwrap();
        assert!(model.try_lock(1, EXCLUSIVE).is_err(), "it is held");
        model.release(grant);
        model.lock_and_work(1, EXCLUSIVE);
        model.core().unpin(&pin);
        model.assert_nothing_left();
    });
}

/// Would catch a question that overlooks the reader in a slot.
#[test]
fn questions_see_readers_in_slots() {
    check(|| {
        let model = biased(NEVER, 0);
        let grant = enter(&model, 0);
        let other = model.spawn(|model| {
            take_line(model);
            read_fast(model, 0);
        });
        let core = model.core();
        assert!(core.is_locked(&request(0, SHARED)).unwrap());
        assert!(core.is_held(grant));
        assert!(!core.list_holders(&crate::Filter::all().key(("b", KEYS[0]))).is_empty());
        let Err(LockError::WouldBlock { holders, .. }) = model.try_lock(0, EXCLUSIVE) else { panic!("it is held") };
        assert!(holders.named.len() == 1 && holders.named[0].mode == SHARED);
        model.release(grant);
        other.join().unwrap();
        assert!(!core.is_locked(&request(0, SHARED)).unwrap());
        model.assert_nothing_left();
    });
}

/// Would catch a bias that begins beside a writer.
#[test]
fn bias_begins_while_a_writer_comes() {
    check(|| {
        let model = Model::with(LockConfig { shards: 1, fairness: NEVER, reader_slots: true, ..LockConfig::default() });
        model.lock_and_work(0, EXCLUSIVE);
        let writer = model.spawn(|model| {
            write_fast(model, 0);
        });
        take_line(&model);
        bias(&model, 0);
        read_fast(&model, 0);
        writer.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a reader beside those in slots that the word does not count.
#[test]
fn reader_without_slots_meets_a_writer() {
    check(|| {
        let model = biased(NEVER, 0);
        let in_slot = enter(&model, 0);
        let reader = model.spawn(|model| read_fast(model, 0));
        let writer = model.spawn(|model| try_to_write(model, 0));
        model.work(0, SHARED);
        model.release(in_slot);
        reader.join().unwrap();
        writer.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a reader that is counted nowhere after two biases.
#[test]
fn bias_begins_again_while_a_reader_enters() {
    check(|| {
        let model = biased(NEVER, 0);
        let again = model.spawn(|model| {
            try_to_write(model, 0);
            bias(model, 0);
            try_to_write(model, 0);
        });
        read_fast(&model, 0);
        again.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a reader that is let in for the key that an entry had before.
///
/// The entry is biased for its next key, too.
#[test]
fn reader_enters_while_the_entry_gets_a_key() {
    check_deeper(3, || {
        let model = biased(NEVER, 0);
        let evicts = model.spawn(|model| {
            // The one warm slot: this takes over the entry.
            model.core().table.evict_idle(&model.core().local().entries);
            model.lock_and_work(1, EXCLUSIVE);
            bias(model, 1);
            try_to_write(model, 1);
            model.lock_and_work(0, EXCLUSIVE);
        });
        read_fast(&model, 0);
        evicts.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a collector that sees the next hold of a slot but not the last one.
///
/// Another thread ended that.
#[test]
fn slot_gets_another_key_while_looked_at() {
    check(|| {
        let model = Model::with(LockConfig { shards: 1, fairness: NEVER, reader_slots: true, ..LockConfig::default() });
        let pin: Pin = model.core().pin(&KeyRef::new("b", KEYS[1])).expect("there is room");
        model.lock_and_work(0, EXCLUSIVE);
        bias(&model, 0);
        bias(&model, 1);
        take_line(&model);
        let grant = enter(&model, 0);
        let foreign = model.spawn(move |model| {
            model.work(0, SHARED);
            model.release(grant);
        });
        let writer = model.spawn(|model| try_to_write(model, 0));
        read_fast(&model, 1);
        foreign.join().unwrap();
        writer.join().unwrap();
        model.core().unpin(&pin);
        model.assert_nothing_left();
    });
}

/// Would catch a full slot that is filled again.
#[test]
fn thread_with_a_full_slot_meets_a_writer() {
    check(|| {
        let model = biased(NEVER, 0);
        let first = enter(&model, 0);
        let writer = model.spawn(|model| try_to_write(model, 0));
        read_fast(&model, 0);
        model.work(0, SHARED);
        model.release(first);
        writer.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch two entries in one warm slot, and an idle one in none.
///
/// A crowded entry outside of the warm slots takes over the slot of another.
#[test]
fn crowded_entry_takes_over_a_warm_slot() {
    for rival_is_biased in [false, true] {
        check(move || {
            let model =
                Model::with(LockConfig { shards: 1, fairness: NEVER, reader_slots: true, ..LockConfig::default() });
            take_line(&model);
            let mut rival = model.lock(0, SHARED);
            if rival_is_biased {
                bias(&model, 0);
                model.release(rival);
                rival = enter(&model, 0);
            }
            let crowded = model.lock(1, SHARED);
            assert!(word(&model, 1).is_to_evict());
            let leaves = model.spawn(move |model| model.release(rival));
            bias(&model, 1);
            read_fast(&model, 1);
            model.release(crowded);
            leaves.join().unwrap();
            model.assert_nothing_left();
        });
    }
}
