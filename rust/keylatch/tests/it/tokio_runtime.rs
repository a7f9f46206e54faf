//! What locks do to the tasks of a tokio runtime, with the feature `tokio`.

use keylatch::{BatchLockRequest, FastObjectLockManager, LockRequest};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};

/// A task that only takes free locks lets others run.
///
/// It ends by what another task of the same thread does.
#[tokio::test]
async fn free_awaits_let_other_tasks_run() {
    let locks = FastObjectLockManager::new();
    for verb in ["lock", "batch", "upgrade"] {
        let done = AtomicBool::new(false);
        let spins = async {
            while !done.load(Ordering::Relaxed) {
                match verb {
                    "lock" => drop(locks.acquire_write_lock("b", "o", "spins").await.unwrap()),
                    "batch" => {
                        let batch = BatchLockRequest::new("spins").add_write_lock("b", "o").add_read_lock("b", "p");
                        drop(locks.acquire_locks_batch(batch).await.unwrap());
                    }
                    _ => {
                        let mut guard = locks.try_acquire_read_lock("b", "o", "spins").unwrap();
                        guard.upgrade(None).await.unwrap();
                    }
                }
            }
        };
        // `join!` polls one after the other: only a pending one lets the other be polled.
        tokio::join!(spins, async { done.store(true, Ordering::Relaxed) });
    }
}

fn advice(attempt: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(AssertUnwindSafe(attempt)).expect_err("it slept");
    panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap()
}

#[test]
fn blocking_on_runtime_thread_panics() {
    if !cfg!(debug_assertions) {
        return;
    }
    for runtime in [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()] {
        let mut runtime = runtime;
        let runtime = runtime.worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let locks = FastObjectLockManager::new();
            let request = LockRequest::write(("b", "o"));
            let batch = || BatchLockRequest::new("me").add_write_lock("b", "o");
            for advice in [
                advice(|| drop(locks.lock(request).blocking())),
                advice(|| drop(locks.lock(request).grant_blocking())),
                advice(|| drop(locks.acquire_locks_batch_blocking(batch()))),
            ] {
                assert!(advice.contains("spawn_blocking") && advice.contains("await"), "{advice}");
            }
            let mut guard = locks.try_acquire_read_lock("b", "o", "me").unwrap();
            assert!(advice(|| drop(guard.upgrade_blocking(None))).contains("spawn_blocking"));
            drop(guard);
            let also = locks.clone();
            tokio::task::spawn_blocking(move || drop(also.acquire_write_lock_blocking("b", "o", "me").unwrap()))
                .await
                .unwrap();
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocking_in_place_is_allowed() {
    let locks = FastObjectLockManager::new();
    tokio::task::block_in_place(|| drop(locks.acquire_write_lock_blocking("b", "o", "me").unwrap()));
}

#[test]
fn blocking_outside_of_a_runtime_is_allowed() {
    let locks = FastObjectLockManager::new();
    drop(locks.acquire_write_lock_blocking("b", "o", "me").unwrap());
}
