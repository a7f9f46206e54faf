//! What settings may be, and what happens at each limit they set.

use crate::steps::*;
use keylatch::{
    Backend, BatchLockRequest, Fairness, FastObjectLockManager, Filter, LockConfig, LockError, LockRequest, ObjectKey,
    open_backend,
};
use std::time::Duration;

#[track_caller]
fn wrong(config: LockConfig, name: &str, hint: &str) {
    let answers = [
        config.validate(),
        FastObjectLockManager::with_config(config.clone()).map(drop),
        keylatch::GlobalLockManager::with_config(config.clone()).map(drop),
        open_backend(config).map(drop),
    ];
    for answer in answers {
        match answer {
            Err(error @ LockError::InvalidConfig { .. }) => {
                assert_eq!(error.code(), -10);
                let LockError::InvalidConfig { setting, problem } = error else { unreachable!() };
                assert_eq!(setting, name);
                assert!(problem.contains(hint), "{problem:?} does not say {hint:?}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn invalid_setting_error_names_valid_value() {
    let usual = LockConfig::default;
    for (shards, right) in [
        (0, "1 is"),
        (3, "4 is"),
        (1000, "1024 is"),
        (65_537, "65536 is"),
        (1 << 17, "65536 is"),
        (u32::MAX, "65536 is"),
    ] {
        wrong(LockConfig { shards, ..usual() }, "shards", right);
    }
    for max_locks in [0, (1 << 25) + 1, u32::MAX] {
        wrong(LockConfig { max_locks, ..usual() }, "max_locks", "from 1 to 33554432");
    }
    for max_waiters in [0, (1 << 24) + 1, u32::MAX] {
        wrong(LockConfig { max_waiters, ..usual() }, "max_waiters", "from 1 to 16777216");
    }
    for max_key_bytes in [0, 65_536, usize::MAX] {
        wrong(LockConfig { max_key_bytes, ..usual() }, "max_key_bytes", "from 1 to 65535");
    }
    assert!("fastest".parse::<Backend>().unwrap_err().to_string().contains("fast, global, disabled"));
}

#[test]
fn settings_at_their_bounds_work() {
    let small = LockConfig {
        shards: 1,
        max_locks: 1,
        max_waiters: 1,
        max_key_bytes: 1,
        overtake_limit: 0,
        ..LockConfig::default()
    };
    let large = LockConfig {
        shards: 1 << 16,
        max_locks: 1 << 25,
        max_waiters: 1 << 24,
        max_key_bytes: 65_535,
        overtake_limit: u32::MAX,
        default_timeout: Some(Duration::MAX),
        fairness: Fairness::Eventual { after: Duration::MAX },
        ..LockConfig::default()
    };
    for config in
        [small, large, LockConfig { fairness: Fairness::Eventual { after: Duration::ZERO }, ..LockConfig::default() }]
    {
        let locks = with(config.clone());
        assert_eq!(*locks.config(), config);
        let held = locks.acquire_write_lock_blocking("", "o", "x").unwrap();
        let mut waiter = ByHand::waiting(locks.acquire_write_lock("", "o", "y"));
        drop(held);
        drop(waiter.after_wakes().unwrap());
        drop(waiter);
        assert_at_rest(&locks);
    }
}

#[test]
fn key_length_limit_is_exact() {
    for limit in [1, 16, 8192, 65_535] {
        let locks = with(LockConfig { max_key_bytes: limit, ..LockConfig::default() });
        let text = vec![b'k'; limit + 1];
        let fits = limit / 2;
        let held = locks.try_acquire_write_lock(&text[..fits], &text[..limit - fits], "x").unwrap();
        assert_eq!(held.key().object().len(), limit - fits);
        drop(held);
        let requests = [
            LockRequest::write((&text[..fits], &text[..=limit - fits])),
            LockRequest::read((&text, "")),
            LockRequest::read(("", "", &text)),
            LockRequest::read((&text[..limit], "", "v")),
        ];
        let queue = locks.completion_queue().unwrap();
        for request in requests {
            let answers = [
                locks.lock(request).try_now().map(drop),
                locks.lock(request).blocking().map(drop),
                ByHand::new(locks.lock(request)).ready().map(drop),
                locks.lock(request).with_callback(|_| panic!("not called")).map(drop),
                locks.lock(request).with_queue(&queue, 1).map(drop),
            ];
            for answer in answers {
                assert_eq!(answer, Err(LockError::InvalidKey { bytes: limit + 1, limit }));
            }
        }
        drop(queue);
        assert_at_rest(&locks);
    }
    let locks = FastObjectLockManager::new();
    let megabyte = vec![0; 1 << 20];
    assert!(matches!(locks.try_acquire_read_lock("b", &megabyte, "x"), Err(LockError::InvalidKey { .. })));
    assert!(matches!(locks.try_acquire_read_lock(&megabyte, &megabyte, "x"), Err(LockError::InvalidKey { .. })));
}

/// As many different keys as can be held together.
fn fill<'a>(
    locks: &'a FastObjectLockManager,
    names: &'a [String],
) -> (Vec<keylatch::FastLockGuard<'a>>, Option<LockError>) {
    let mut held = Vec::new();
    for name in names {
        match locks.try_acquire_write_lock("b", name, "x") {
            Ok(guard) => held.push(guard),
            Err(error) => return (held, Some(error)),
        }
    }
    (held, None)
}

#[test]
fn full_table_works_again_after_release() {
    for limit in [1, 31, 100, 1000, 5000] {
        let locks = with(LockConfig { shards: 4, max_locks: limit, ..LockConfig::default() });
        let names: Vec<String> = (0..limit + 200).map(|n| format!("{n}")).collect();
        let (mut held, error) = fill(&locks, &names);
        let count = held.len() as u32;
        assert!((limit..=limit + 64).contains(&count), "{count} locks, {limit} was the limit");
        assert_eq!(error, Some(LockError::TableFull { limit }));
        assert!(error.unwrap().is_transient());
        let request = || LockRequest::write(("b", "one more"));
        assert_eq!(locks.lock(request()).blocking().map(drop), Err(LockError::TableFull { limit }));
        assert_eq!(ByHand::new(locks.lock(request())).ready().map(drop), Err(LockError::TableFull { limit }));
        assert_eq!(locks.lock(request()).with_callback(|_| panic!()).map(drop), Err(LockError::TableFull { limit }));
        let batch = BatchLockRequest::new("x").add_write_lock("b", "one more");
        assert!(matches!(locks.acquire_locks_batch_blocking(batch), Err(LockError::Batch { .. })));
        // What is in the table already works as ever.
        assert!(matches!(locks.try_acquire_read_lock("b", &names[0], "y"), Err(LockError::WouldBlock { .. })));
        drop(held.swap_remove(count as usize / 2));
        held.push(locks.lock(request()).try_now().unwrap());
        assert!(locks.try_acquire_write_lock("b", "yet one more", "x").is_err());
        drop(held);
        let (held, _) = fill(&locks, &names);
        assert_eq!(held.len() as u32, count, "as many as before");
        drop(held);
        assert_at_rest(&locks);
    }
}

#[test]
fn idle_keys_never_fill_the_table() {
    let limit = 64;
    let locks = with(LockConfig { shards: 1024, max_locks: limit, ..LockConfig::default() });
    for n in 0..20_000_u32 {
        drop(locks.try_acquire_write_lock("b", &n.to_le_bytes(), "x").unwrap());
    }
    let names: Vec<String> = (0..limit).map(|n| format!("held-{n}")).collect();
    let (held, error) = fill(&locks, &names);
    assert_eq!((held.len() as u32, error), (limit, None));
    drop(held);
    assert_at_rest(&locks);
}

#[test]
fn small_table_limit_holds_for_many_threads() {
    let limit = 200;
    let locks = with(LockConfig { shards: 16, max_locks: limit, ..LockConfig::default() });
    let barrier = std::sync::Barrier::new(33);
    std::thread::scope(|scope| {
        for thread in 0..32_u8 {
            let (locks, barrier) = (&locks, &barrier);
            scope.spawn(move || {
                // Each leaves behind whatever a thread keeps to itself, and stays alive.
                let names: Vec<_> = (0..6_u8).map(|n| [thread, n]).collect();
                let held: Vec<_> =
                    names.iter().map(|name| locks.try_acquire_write_lock("t", name, "x").unwrap()).collect();
                drop(held);
                barrier.wait();
                barrier.wait();
            });
        }
        barrier.wait();
        let names: Vec<String> = (0..limit).map(|n| format!("held-{n}")).collect();
        let (held, error) = fill(&locks, &names);
        let count = held.len();
        drop(held);
        barrier.wait();
        assert_eq!((count as u32, error), (limit, None), "a small table's limit is exact");
    });
    assert_at_rest(&locks);
}

#[test]
fn long_keys_count_as_several_and_are_given_back() {
    let locks = with(LockConfig { shards: 1, max_locks: 300, ..LockConfig::default() });
    let long: Vec<Vec<u8>> = (0..10_u8).map(|n| vec![n; 4096]).collect();
    for _ in 0..50 {
        let mut held = Vec::new();
        let mut full = false;
        for name in &long {
            match locks.try_acquire_write_lock("b", name, "x") {
                Ok(guard) => held.push(guard),
                Err(LockError::TableFull { limit: 300 }) => full = true,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(full && held.len() >= 2, "{} fit", held.len());
    }
    let names: Vec<String> = (0..300).map(|n| format!("{n}")).collect();
    let (held, error) = fill(&locks, &names);
    assert_eq!((held.len(), error), (300, None));
    drop(held);
    assert_at_rest(&locks);
}

/// One reader stays, so the key's entry is never idle.
///
/// The guards of all others are there still when they have lost it.
#[test]
fn long_reader_and_lost_guards_fill_no_table() {
    let locks = with(LockConfig { shards: 4, max_locks: 1000, ..LockConfig::default() });
    let stays = locks.try_acquire_read_lock("b", "hot", "stays").unwrap();
    let mut lost = Vec::new();
    for _ in 0..5000 {
        lost.push(locks.try_acquire_read_lock("b", "hot", "goes").unwrap());
        assert_eq!(locks.force_release(&Filter::new().owner("goes")).len(), 1, "after {} losses", lost.len());
        assert!(!lost.last().unwrap().is_valid() && stays.is_valid());
    }
    assert_eq!(locks.get_metrics().shard_metrics.holders, 1);
    let names: Vec<String> = (0..900).map(|n| format!("{n}")).collect();
    let (held, error) = fill(&locks, &names);
    assert_eq!((held.len(), error), (900, None), "nothing uses the table but these and one reader");
    assert_eq!(lost[17].key(), ObjectKey::new("b", "hot"));
    drop((lost, held, stays));
    assert_at_rest(&locks);
}

#[test]
fn locks_are_taken_away_in_a_full_table_as_ever() {
    within("force in a full table", || {
        let limit = 700;
        let locks = with(LockConfig { shards: 16, max_locks: limit, ..LockConfig::default() });
        let names: Vec<String> = (0..1000).map(|n| format!("{n}")).collect();
        let long = "long".repeat(2000);
        let mut most = None;
        for _ in 0..5 {
            let session = locks.session("session").release_on_drop(true);
            let mine =
                ["one", "two"].map(|key| locks.lock(LockRequest::write(("b", key)).owner(&session)).try_now().unwrap());
            let of_long_key = locks.try_acquire_write_lock("b", &long, "x").unwrap();
            let leased = locks.lock(LockRequest::write(("b", "leased"))).try_now().unwrap();
            let (held, error) = fill(&locks, &names);
            assert_eq!(error, Some(LockError::TableFull { limit }));
            assert_eq!(*most.get_or_insert(held.len()), held.len(), "as many as the last time");
            let mut waits = ByHand::waiting(locks.lock(LockRequest::write(("b", &*names[0]))));
            let mut waits_for_long = ByHand::waiting(locks.lock(LockRequest::write(("b", &*long))));

            // Not before: where a request looks for room, what has run out goes.
            leased.renew(Duration::from_nanos(1)).unwrap();
            until("the end of the lease", || leased.remaining().is_none_or(|left| left.is_zero()));

            // One key, whatever a session has, what has run out, and everything.
            assert_eq!(locks.force_release(&Filter::new().key(("b", &*names[0]))).len(), 1);
            let next = waits.ready().unwrap();
            assert!(!held[0].is_valid() && next.is_valid() && next.fence() > held[0].fence());
            drop(locks.lock(LockRequest::write(("b", "leased"))).try_now().expect("its lease has run out"));
            assert!(matches!(leased.try_release(), Err(LockError::LeaseLost { .. })));
            assert_eq!(session.release_all(), 2);
            assert!(mine.iter().all(|guard| !guard.is_valid()));
            let again =
                locks.lock(LockRequest::write(("b", "one")).owner(&session)).try_now().expect("it was released");
            drop(session);
            assert!(!again.is_valid());
            assert_eq!(locks.force_release(&Filter::all()).len(), held.len() - 1 + 2);
            let next_of_long = waits_for_long.ready().unwrap();
            assert_eq!(of_long_key.key().object(), long.as_bytes());
            assert!(!of_long_key.is_valid() && held.iter().all(|guard| !guard.is_valid()));

            // Those who lost them use no place in the table.
            let (more, error) = fill(&locks, &names);
            assert_eq!(error, Some(LockError::TableFull { limit }));
            assert!(more.len() >= held.len(), "{} of {}", more.len(), held.len());
            drop((mine, of_long_key, held, next, again, next_of_long, more));
            assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
        }
        assert_at_rest(&locks);
    });
}

#[test]
fn waiter_above_limit_is_refused() {
    let limit = 3;
    let locks = with(LockConfig { shards: 4, max_waiters: limit, ..LockConfig::default() });
    let mut held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let mut line: Vec<_> = (0..limit).map(|_| ByHand::waiting(locks.acquire_read_lock("b", "o", "w"))).collect();
    let queue = locks.completion_queue().unwrap();
    let request = || LockRequest::read(("b", "o")).owner("late");
    let refusals = [
        locks.lock(request()).blocking().map(drop),
        ByHand::new(locks.lock(request())).ready().map(drop),
        locks.lock(request()).with_callback(|_| panic!("not called")).map(drop),
        locks.lock(request()).with_queue(&queue, 1).map(drop),
    ];
    for refusal in refusals {
        assert_eq!(refusal, Err(LockError::TooManyWaiters { limit }));
        assert!(refusal.unwrap_err().is_transient());
    }
    assert!(
        matches!(locks.lock(request()).try_now(), Err(LockError::WouldBlock { .. })),
        "who does not wait is no waiter"
    );
    drop(locks.try_acquire_write_lock("b", "free", "x").unwrap());
    line.pop();
    line.push(ByHand::waiting(locks.lock(request())));
    held.downgrade();
    line.iter_mut().for_each(|waiter| drop(waiter.ready().unwrap()));
    let other = locks.acquire_read_lock_blocking("b", "o", "other").unwrap();
    line.clear();
    let mut writers: Vec<_> = (0..limit).map(|_| ByHand::waiting(locks.acquire_write_lock("b", "o", "w"))).collect();
    assert_eq!(held.upgrade_blocking(None), Err(LockError::TooManyWaiters { limit }));
    drop((held, other));
    writers.iter_mut().for_each(|writer| drop(writer.after_wakes().unwrap()));
    drop((writers, queue));
    assert_at_rest(&locks);
}
