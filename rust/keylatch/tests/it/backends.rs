//! The same verbs with other managers behind them: the one that everybody had before, and none at all.

use crate::steps::*;
use keylatch::{
    Backend, BatchLockRequest, BatchMode, BoxedAcquire, Fairness, Filter, GlobalLockManager, Grant, KeyRef, LockConfig,
    LockError, LockRequest, Mode, ObjectLocks, open_backend,
};
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

fn open(backend: Backend) -> Arc<dyn ObjectLocks> {
    open_backend(LockConfig { backend, fairness: Fairness::Fifo, ..LockConfig::default() }).unwrap()
}

fn write() -> LockRequest<'static> {
    LockRequest::write(("b", "o")).owner("me")
}

#[test]
fn environment_variable_overrides_setting() {
    const ASKED: &str = "KEYLATCH_TEST_BACKEND_ASKED";
    if let Ok(expected) = std::env::var(ASKED) {
        let config = || LockConfig { backend: Backend::Fast, ..LockConfig::default() };
        match expected.as_str() {
            "error" => {
                assert!(matches!(open_backend(config()), Err(LockError::InvalidConfig { setting: "backend", .. })))
            }
            name => assert_eq!(open_backend(config()).unwrap().backend(), name.parse().unwrap()),
        }
        return;
    }
    for backend in [Backend::Fast, Backend::Global, Backend::Disabled] {
        assert_eq!(open(backend).backend(), backend);
    }
    for (set, expected) in
        [("fast", "fast"), ("global", "global"), ("disabled", "disabled"), ("Global", "error"), ("", "error")]
    {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "--nocapture", "backends::environment_variable_overrides_setting"]);
        let output = again.env("KEYLATCH_BACKEND", set).env(ASKED, expected).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("1 passed"), "{set}: {printed}");
        let warned = String::from_utf8_lossy(&output.stderr).contains("they exclude nothing");
        assert_eq!(warned, set == "disabled");
    }
}

#[test]
fn the_real_one_and_the_one_before_exclude_alike() {
    for backend in [Backend::Fast, Backend::Global] {
        let locks = open(backend);
        let reader = locks.try_acquire(&LockRequest::read(("b", "o")).owner("reader")).unwrap();
        let reader_too = locks.acquire_blocking(&LockRequest::read(("b", "o"))).unwrap();
        match locks.try_acquire(&write()) {
            Err(LockError::WouldBlock { key, holders }) => {
                assert_eq!(key.to_string(), "b/o");
                assert_eq!(holders.named.len() + holders.more as usize, 2);
            }
            other => panic!("{other:?}"),
        }
        drop(locks.guarded(locks.try_acquire(&LockRequest::write(("b", "o", "v"))).unwrap()));
        locks.release(reader).unwrap();
        assert!(matches!(locks.release(reader), Err(LockError::NotHeld { .. })));
        locks.release(reader_too).unwrap();
        let writer = locks.guarded(locks.try_acquire(&write()).unwrap());
        assert!(locks.try_acquire(&LockRequest::read(("b", "o"))).is_err());
        drop(writer);
        let figures = locks.get_metrics().shard_metrics;
        assert_eq!((figures.holders, figures.waiters, figures.acquisitions(), figures.releases), (0, 0, 4, 4));
    }
}

#[test]
fn both_serve_in_the_order_of_arrival() {
    for backend in [Backend::Fast, Backend::Global] {
        let locks = open(backend);
        let story = Story::default();
        let held = locks.try_acquire(&write()).unwrap();
        std::thread::scope(|scope| {
            for number in 0..12_u64 {
                let (story, locks) = (story.clone(), &locks);
                scope.spawn(move || {
                    let grant = if number % 2 == 0 {
                        locks.acquire_blocking(&write()).unwrap()
                    } else {
                        ByHand::new(locks.acquire(write())).after_wakes().unwrap()
                    };
                    story.tell(number);
                    locks.release(grant).unwrap();
                });
                until("one more in line", || locks.get_metrics().shard_metrics.waiters == number + 1);
            }
            locks.release(held).unwrap();
        });
        assert_eq!(story.so_far(), (0..12).collect::<Vec<_>>(), "{backend:?}");
    }
}

#[test]
fn both_keep_the_time_of_threads_and_futures() {
    for backend in [Backend::Fast, Backend::Global] {
        let locks = open(backend);
        let held = locks.try_acquire(&write().owner("holder")).unwrap();
        for asked in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(4)] {
            let began = Instant::now();
            let answers = [
                locks.acquire_blocking(&write().timeout(asked)),
                ByHand::new(locks.acquire(write().timeout(asked))).after_wakes(),
                locks.acquire_blocking(&write().deadline(Instant::now() - Duration::from_secs(1))),
            ];
            for answer in answers {
                let Err(LockError::Timeout { holders, .. }) = answer else {
                    panic!("{backend:?} {asked:?}: {answer:?}")
                };
                assert_eq!(&*holders.named[0].owner, "holder");
            }
            assert!(began.elapsed() >= 2 * asked);
        }
        let patient = ByHand::waiting(locks.acquire(write().timeout(Duration::MAX)));
        drop(patient);
        locks.release(held).unwrap();
        assert_eq!(locks.get_metrics().shard_metrics.waiters, 0);
        drop(locks.guarded(locks.try_acquire(&write()).unwrap()));
    }
}

#[test]
fn both_end_all_waits_when_closed() {
    for backend in [Backend::Fast, Backend::Global] {
        let locks = open(backend);
        let held = locks.try_acquire(&write()).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| locks.acquire_blocking(&write()));
            let mut future = ByHand::waiting(locks.acquire(write()));
            until("two in line", || locks.get_metrics().shard_metrics.waiters == 2);
            locks.close();
            assert_eq!(thread.join().unwrap(), Err(LockError::Closed));
            assert_eq!(future.ready(), Err(LockError::Closed));
        });
        assert_eq!(locks.try_acquire(&write()), Err(LockError::Closed));
        locks.release(held).unwrap();
    }
}

#[test]
fn both_heed_the_limits() {
    for backend in [Backend::Fast, Backend::Global] {
        let config = LockConfig {
            backend,
            max_key_bytes: 8,
            max_waiters: 1,
            default_timeout: Some(Duration::from_millis(3)),
            ..LockConfig::default()
        };
        let locks = open_backend(config).unwrap();
        assert_eq!(
            locks.try_acquire(&LockRequest::read(("b", "too long"))),
            Err(LockError::InvalidKey { bytes: 9, limit: 8 })
        );
        let held = locks.try_acquire(&write()).unwrap();
        let mut waiter = ByHand::waiting(locks.acquire(write().no_timeout()));
        assert_eq!(locks.acquire_blocking(&write()), Err(LockError::TooManyWaiters { limit: 1 }));
        locks.release(held).unwrap();
        let held = waiter.ready().unwrap();
        assert!(matches!(locks.acquire_blocking(&write()), Err(LockError::Timeout { .. })));
        locks.release(held).unwrap();
    }
}

#[test]
fn future_dropped_during_grant_frees_lock() {
    for backend in [Backend::Fast, Backend::Global] {
        let locks = open(backend);
        within("futures dropped while granted", move || {
            let (handing, handed) = mpsc::sync_channel::<Grant>(0);
            let releasing = Arc::clone(&locks);
            let releaser =
                std::thread::spawn(move || handed.into_iter().for_each(|grant| releasing.release(grant).unwrap()));
            for round in 0..40_000 {
                let held = locks
                    .acquire_blocking(&write().timeout(FOREVER / 3))
                    .unwrap_or_else(|error| panic!("{backend:?}, round {round}: {error}"));
                let future = ByHand::waiting(locks.acquire(write()));
                handing.send(held).unwrap();
                for _ in 0..round % 80 {
                    std::hint::spin_loop();
                }
                drop(future);
            }
            drop(handing);
            releaser.join().unwrap();
            let figures = locks.get_metrics().shard_metrics;
            assert_eq!((figures.holders, figures.waiters), (0, 0), "{backend:?}");
        });
    }
}

/// One release grants to two readers; waking the first drops the other's future.
///
/// That happens before the other one is woken.
#[test]
fn future_dropped_by_other_waker_frees_lock() {
    struct Dropper(Mutex<Option<ByHand<BoxedAcquire<'static>>>>);
    impl Wake for Dropper {
        fn wake(self: Arc<Self>) {
            let dropped = self.0.lock().unwrap().take();
            drop(dropped);
        }
    }
    for backend in [Backend::Fast, Backend::Global] {
        // For ever, and in sight.
        static OPEN: Mutex<Vec<&dyn ObjectLocks>> = Mutex::new(Vec::new());
        let locks: &'static dyn ObjectLocks = &**Box::leak(Box::new(open(backend)));
        OPEN.lock().unwrap().push(locks);
        let read = || locks.acquire(LockRequest::read(("b", "o")));
        let held = locks.try_acquire(&write()).unwrap();
        let mut first = ByHand::new(read());
        let dropper = Arc::new(Dropper(Mutex::new(None)));
        assert!(first.poll_with(&Waker::from(Arc::clone(&dropper))).is_pending());
        *dropper.0.lock().unwrap() = Some(ByHand::waiting(read()));
        locks.release(held).unwrap();
        assert!(dropper.0.lock().unwrap().is_none(), "the other future is gone");
        drop(first);
        assert_eq!(locks.get_metrics().shard_metrics.holders, 0, "{backend:?}");
        assert!(locks.try_acquire(&write()).is_ok(), "{backend:?}");
    }
}

#[test]
fn the_disabled_one_grants_everything() {
    let locks = open(Backend::Disabled);
    let grants: Vec<_> = (0..10).map(|_| locks.acquire_blocking(&write()).unwrap()).collect();
    let more = ByHand::new(locks.acquire(write())).ready().unwrap();
    assert_eq!(locks.get_metrics().shard_metrics.holders, 11);
    grants.into_iter().chain([more]).for_each(|grant| locks.release(grant).unwrap());
    assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
    locks.close();
    assert_eq!(locks.try_acquire(&write()), Err(LockError::Closed));
}

#[test]
fn global_backend_names_every_kind_of_owner() {
    let locks = GlobalLockManager::new();
    let held = locks.try_acquire(&write().owner("by name")).unwrap();
    let Err(LockError::WouldBlock { holders, .. }) = locks.try_acquire(&write()) else { panic!("it is held") };
    assert_eq!(&*holders.named[0].owner, "by name");
    locks.release(held).unwrap();
}

#[test]
fn every_backend_converts_lists_and_judges() {
    for backend in [Backend::Fast, Backend::Global] {
        let locks = open(backend);
        let key = KeyRef::new("b", "o");
        assert!(!locks.is_locked(key).unwrap());
        let grant = locks.try_acquire(&write()).unwrap();
        assert!(locks.is_locked(key).unwrap() && locks.health().healthy);
        locks.downgrade(grant).unwrap();
        let reader = locks.try_acquire(&LockRequest::read(key).owner("reader")).unwrap();
        assert!(matches!(locks.try_upgrade(grant), Err(LockError::WouldBlock { .. })), "{backend:?}");
        let of_reader = locks.holders(&Filter::new().owner("reader"));
        assert_eq!(of_reader.iter().map(|hold| (hold.grant, hold.mode)).collect::<Vec<_>>(), [(reader, Mode::Shared)]);
        assert_eq!(locks.holders(&Filter::new().bucket("b")).len(), 2);
        assert_eq!(locks.holders(&Filter::new().bucket("other")).len(), 0);
        locks.release(reader).unwrap();
        locks.try_upgrade(grant).unwrap();
        assert!(locks.try_acquire(&LockRequest::read(key)).is_err());
        locks.release(grant).unwrap();
        for verb in [locks.downgrade(grant), locks.try_upgrade(grant)] {
            assert!(matches!(verb, Err(LockError::NotHeld { .. })));
        }
    }
    let none = open(Backend::Disabled);
    let grant = none.try_acquire(&write()).unwrap();
    none.downgrade(grant).and_then(|()| none.try_upgrade(grant)).unwrap();
    assert!(none.holders(&Filter::all()).is_empty() && !none.is_locked(KeyRef::new("b", "o")).unwrap());
    assert!(none.health().healthy);
}

#[test]
fn every_backend_takes_batches() {
    for backend in [Backend::Fast, Backend::Global, Backend::Disabled] {
        let locks = open(backend);
        let batch =
            BatchLockRequest::new("me").add_write_lock("b", "y").add_read_lock("b", "x").add_read_lock("b", "y");
        let batch = batch.timeout(Duration::from_millis(1));
        let held = locks.acquire_batch_blocking(&batch).unwrap();
        let mut keys: Vec<_> = held.iter().map(|(key, _)| key.to_string()).collect();
        keys.sort();
        assert_eq!(keys, ["b/x", "b/y"], "{backend:?}");
        if backend != Backend::Disabled {
            let refused = locks.acquire_batch_blocking(&batch);
            assert!(matches!(refused, Err(LockError::Batch { key, .. }) if key.to_string() == "b/y"));
            let some = locks.acquire_batch_blocking(&batch.clone().mode(BatchMode::BestEffort)).unwrap();
            assert_eq!(some.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>(), ["b/x"]);
            some.into_iter().for_each(|(_, grant)| locks.release(grant).unwrap());
        }
        held.into_iter().for_each(|(_, grant)| locks.release(grant).unwrap());
        assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
        locks.close();
        assert!(matches!(locks.acquire_batch_blocking(&batch), Err(LockError::Closed)));
    }
}
