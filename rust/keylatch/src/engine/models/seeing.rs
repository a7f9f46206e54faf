//! Listings against everything that moves under them, and subscribers who come and go.

use super::*;
use crate::events::{EventOptions, Outlet};
use crate::inspect::Filter;
use crate::listed::HolderInfo;

/// Takes a key with a priority that tells which key it was.
fn marked(key: usize, mode: Mode) -> LockRequest<'static> {
    request(key, mode).priority(key as u8 + 10)
}

/// The keys of a listing, each of which must be the one that its holder asked for.
fn keys(holders: &[HolderInfo]) -> Vec<usize> {
    let key = |hold: &HolderInfo| {
        let key = KEYS.iter().position(|key| key.as_bytes() == hold.key.object()).expect("a key that is used");
        assert_eq!(usize::from(hold.priority), key + 10, "one's hold with another's key");
        key
    };
    let mut keys: Vec<usize> = holders.iter().map(key).collect();
    keys.sort_unstable();
    keys
}

/// Would catch: a torn key, a hold with a wrong key, one missing or listed twice.
#[test]
fn a_listing_while_entries_change_their_keys() {
    for mode in [EXCLUSIVE, SHARED] {
        check(move || {
            let model = Model::new(NEVER);
            let stays = model.core().blocking(marked(0, mode), false).expect("free");
            let others = model.spawn(move |model| {
                for key in [1, 2] {
                    let grant = model.core().blocking(marked(key, mode), false).expect("free");
                    model.release(grant);
                }
            });
            let listed = keys(&model.core().list_holders(&Filter::new()));
            assert!(matches!(listed[..], [0] | [0, 1] | [0, 2]), "{listed:?}");
            others.join().unwrap();
            assert_eq!(keys(&model.core().list_holders(&Filter::new())), [0]);
            model.release(stays);
            assert_eq!(model.core().list_holders(&Filter::new()), []);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a key that is read under the mutex of another shard.
#[test]
fn listing_while_an_entry_changes_shard() {
    check(|| {
        let model = Model::with_shards(NEVER, 2);
        let shard_of = |key| model.core().table.shard_of(model.wanted(key, EXCLUSIVE).hash);
        let there = (1..KEYS.len()).find(|key| shard_of(*key) != shard_of(0)).expect("all keys in one of two shards");
        let first = model.core().blocking(marked(0, EXCLUSIVE), false).expect("free");
        let moves = model.spawn(move |model| {
            let core = model.core();
            model.release(first);
            core.table.evict_idle(&core.local().entries);
            let grant = core.blocking(marked(there, EXCLUSIVE), false).expect("free");
            model.release(grant);
        });
        let listed = keys(&model.core().list_holders(&Filter::new()));
        assert!(listed.len() <= 1, "{listed:?}");
        moves.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch: a copy that mixes two holds of the same record.
#[test]
fn a_hold_is_read_while_its_record_is_used_again() {
    check(|| {
        let model = Model::new(NEVER);
        // Both keys stay in their entries.
        let stay = [0, 1].map(|key| model.lock(key, SHARED));
        let entry_of = |grant: Grant| model.core().records.get(grant.index()).held().expect("held").entry;
        let entries = stay.map(entry_of);
        let uses = model.spawn(|model| {
            for key in [0, 1] {
                let grant = model.core().blocking(marked(key, SHARED), false).expect("free");
                model.release(grant);
            }
        });
        model.core().records.for_each(usize::MAX, |_, record| {
            if let Some(held) = record.held().filter(|held| held.priority >= 10) {
                assert_eq!(held.entry, entries[usize::from(held.priority) - 10]);
            }
        });
        uses.join().unwrap();
        stay.into_iter().for_each(|grant| model.release(grant));
        model.assert_nothing_left();
    });
}

/// Would catch: an exclusive hold that is listed with an earlier fence.
#[test]
fn a_hold_that_is_listed_has_its_own_number() {
    check(|| {
        let model = Model::with_warm_key(NEVER, 0, EXCLUSIVE);
        let second = model.spawn(|model| model.lock_and_work(0, EXCLUSIVE));
        for hold in model.core().list_holders(&Filter::new()) {
            assert_eq!(hold.fence, Some(2));
        }
        second.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch: a waiter that is not listed exactly once.
#[test]
fn a_listing_while_a_line_moves() {
    check(|| {
        let model = Model::new(Fairness::Fifo);
        let held = model.lock(0, EXCLUSIVE);
        let (first, second) = (model.queue(0, EXCLUSIVE), model.queue(0, SHARED));
        let leaves = model.spawn(move |model| {
            assert!(matches!(model.wait_until(first, 0, Some(Instant::now())), Ended::Failed { .. }));
        });
        let line = model.core().list_waiters(&Filter::new());
        let readers: Vec<usize> = line.iter().filter(|wait| wait.mode == SHARED).map(|wait| wait.position).collect();
        assert!(matches!(readers[..], [1] | [2]), "{line:?}");
        leaves.join().unwrap();
        assert_eq!(model.core().list_waiters(&Filter::new()).len(), 1);
        model.release(held);
        model.wait_and_work(second, 0, SHARED);
        assert_eq!(model.core().list_waiters(&Filter::new()), []);
        model.assert_nothing_left();
    });
}

const HOLDS: EventOptions = EventOptions { wait_above: None, hold_above: Some(Duration::ZERO), capacity: 8 };

/// Would catch: a lost release, or a fast path that stays closed.
///
/// The subscriber comes first, because loom cannot check how existing holds are marked: after a compare-and-swap of a
/// record, its holder may store without a load, and loom does not know the order of the two.
#[test]
fn holds_begin_and_end_while_a_subscriber_leaves() {
    check(|| {
        let model = Model::with_warm_key(NEVER, 0, EXCLUSIVE);
        let inbox = model.core().subscribe(&HOLDS, Outlet::Queue);
        let works = model.spawn(|model| {
            model.lock_and_work(0, EXCLUSIVE);
            model.lock_and_work(0, SHARED);
        });
        model.core().unsubscribe(&inbox);
        works.join().unwrap();
        let fetched = std::iter::from_fn(|| inbox.fetch()).count();
        assert!(fetched <= 2, "{fetched}");
        let grant = model.lock_fast(0, SHARED).expect("the fast path is open again");
        model.release(grant);
        assert_eq!(inbox.fetch(), None);
        model.assert_nothing_left();
    });
}

/// Would catch: a subscriber whose leaving puts a closed manager back in service.
#[test]
fn a_subscriber_leaves_while_the_manager_closes() {
    check(|| {
        let model = Model::with_warm_key(NEVER, 0, EXCLUSIVE);
        let inbox = model.core().subscribe(&HOLDS, Outlet::Queue);
        let closes = model.spawn(|model| model.core().close());
        model.core().unsubscribe(&inbox);
        closes.join().unwrap();
        assert!(model.lock_fast(0, EXCLUSIVE).is_none());
        model.assert_nothing_left();
    });
}
