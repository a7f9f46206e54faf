//! What guards, timeouts, owned guards, downgrades and blocking twins do.

use crate::events;
use crate::waiting::{LONG, block_on, granted, in_line, until_waiting};
use futures_util::FutureExt;
use keylatch_typed::{
    AdaptiveTimeout, AsyncMutex, AsyncRwLock, HeldBy, LockId, LockOptions, LockTimeoutError, LockType,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(2);

#[tokio::test]
async fn readers_share_and_writers_exclude() {
    let lock = AsyncRwLock::new(1, LONG);
    let (first, second) = (lock.read_with_timeout().await.unwrap(), lock.read_with_timeout().await.unwrap());
    assert_eq!((*first, *second), (1, 1));
    assert!(lock.try_write().is_none());
    drop((first, second));
    *lock.write_with_timeout().await.unwrap() += 1;
    let writing = lock.write_with_custom_timeout(SHORT).await.unwrap();
    assert!(lock.try_read().is_none() && lock.try_write().is_none());
    drop(writing);
    assert_eq!(lock.into_inner(), 2);
}

#[tokio::test]
async fn mutex_protects_its_value() {
    let mutex = Arc::new(AsyncMutex::new(0, LONG));
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let mutex = Arc::clone(&mutex);
            tokio::spawn(async move {
                for _ in 0..100 {
                    let mut value = mutex.lock_with_timeout().await.unwrap();
                    let before = *value;
                    tokio::task::yield_now().await;
                    *value = before + 1;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*mutex.try_lock().unwrap(), 2000);
    assert_eq!(mutex.stats().total_acquisitions(), 2001);
}

#[tokio::test]
async fn timeout_names_everything() {
    let lock = AsyncRwLock::with_id(1, SHORT, LockId::new("memory/service.rs", "data"));
    let holder_line = line!() + 1;
    let held = lock.write_with_timeout().await.unwrap();
    let ahead = in_line(lock.read_with_custom_timeout(LONG));
    let error = lock.write_with_timeout().await.unwrap_err();
    let LockTimeoutError::Timeout { lock_type, timeout, details } = &error else { panic!("{error}") };
    assert_eq!((*lock_type, *timeout), (LockType::WriteLock, SHORT));
    assert_eq!(details.id, LockId::new("memory/service.rs", "data"));
    assert!(details.waited >= SHORT && details.waited < LONG);
    assert_eq!((details.place, details.waiters, details.held_by), (2, 2, HeldBy::Writer));
    assert_eq!(details.holder.map(|holder| (holder.file(), holder.line())), Some((file!(), holder_line)));
    assert_eq!((details.requested_at.file(), details.requested_at.line()), (file!(), holder_line + 2));
    let text = error.to_string();
    assert!(
        text.starts_with("WriteLock acquisition timeout after 2ms: lock memory/service.rs:data, waited "),
        "{text}"
    );
    assert!(
        text.contains(&format!("place 2 of 2 in line, held exclusively, last acquired at {}:{holder_line}:", file!())),
        "{text}"
    );
    drop((held, ahead));
    assert_eq!(lock.stats().timeout_count(), 1);
    assert!(lock.try_write().is_some());
}

#[test]
fn timeout_of_blocking_twin_names_readers() {
    let lock = AsyncRwLock::new(1, SHORT);
    let _readers = [lock.blocking_read_with_timeout().unwrap(), lock.blocking_read_with_custom_timeout(LONG).unwrap()];
    let error = lock.blocking_write_with_timeout().unwrap_err();
    assert_eq!(error.details().unwrap().held_by, HeldBy::Readers(2));
    assert!(error.to_string().contains("held by 2 readers, last acquired at"), "{error}");
    assert_eq!(lock.stats().id(), LockId::new(file!(), &(line!() - 5).to_string()));
    assert!(lock.blocking_write_with_custom_timeout(SHORT).is_err());
    let mutex = AsyncMutex::new(1, SHORT);
    let _held = mutex.blocking_lock_with_timeout().unwrap();
    let error = mutex.blocking_lock_with_custom_timeout(SHORT).unwrap_err();
    assert!(matches!(error, LockTimeoutError::Timeout { lock_type: LockType::Mutex, timeout: SHORT, .. }));
}

/// The lock was handed on: the holder before is not the culprit.
#[test]
fn timeout_beside_an_unpolled_grant_blames_none() {
    let lock = AsyncRwLock::new(1, SHORT);
    let held = lock.try_write().unwrap();
    let granted_later = in_line(lock.write_with_custom_timeout(LONG));
    drop(held);
    let error = lock.blocking_write_with_timeout().unwrap_err();
    let details = error.details().unwrap();
    assert_eq!((details.held_by, details.unpolled, details.holder), (HeldBy::Writer, 1, None));
    assert!(error.to_string().contains("held exclusively, granted to 1 not polled yet, requested at"), "{error}");
    drop(granted(granted_later));
}

#[test]
fn place_far_back_is_said_so() {
    let mutex = AsyncMutex::new(1, LONG);
    let _held = mutex.try_lock().unwrap();
    let _ahead: Vec<_> = (0..1500).map(|_| in_line(mutex.lock_with_timeout())).collect();
    let error = mutex.blocking_lock_with_custom_timeout(SHORT).unwrap_err();
    assert_eq!(error.details().unwrap().place, 1001);
    assert!(error.to_string().contains("behind place 1000 of 1501 in line"), "{error}");
}

#[test]
fn options_serve_several_locks() {
    let policy = AdaptiveTimeout { floor: SHORT, ..AdaptiveTimeout::default() };
    let options = LockOptions::new(LONG).adaptive(policy).unwrap();
    let locks = [1, 2].map(|value| AsyncMutex::with_options(value, options.clone()));
    assert!(locks.iter().all(|lock| lock.stats().adaptive_timeout().unwrap().floor == SHORT));
}

#[test]
fn timeout_without_a_runtime() {
    let mutex = AsyncMutex::new(1, SHORT);
    let held = mutex.try_lock().unwrap();
    let errors = futures_util::future::join_all((0..50).map(|_| mutex.lock_with_timeout()));
    // An executor that knows nothing of tokio.
    for result in block_on(errors) {
        assert!(result.is_err());
    }
    drop(held);
    assert!(mutex.try_lock().is_some());
}

#[tokio::test]
async fn owned_guards_keep_the_lock() {
    let lock = Arc::new(AsyncRwLock::new(vec![1], LONG));
    let reading = lock.read_owned_with_timeout().await.unwrap();
    let also = lock.try_read_owned().unwrap();
    assert!(lock.try_write_owned().is_none());
    drop(lock);
    let held = tokio::task::spawn_blocking(move || reading.len()).await.unwrap();
    assert_eq!((held, also.len()), (1, 1));
    let mutex = Arc::new(AsyncMutex::new(1, LONG));
    let guard = mutex.lock_owned_with_custom_timeout(LONG).await.unwrap();
    assert!(mutex.try_lock_owned().is_none());
    drop(guard);
    *mutex.lock_owned_with_timeout().await.unwrap() += 1;
    assert_eq!(Arc::into_inner(mutex).unwrap().into_inner(), 2);
}

#[test]
fn downgrade_lets_waiting_readers_in() {
    let lock = Arc::new(AsyncRwLock::new(1, LONG));
    let mut writing = lock.try_write_owned().unwrap();
    let readers = [in_line(lock.read_with_timeout()), in_line(lock.read_with_timeout())];
    let writer = in_line(lock.write_with_timeout());
    let late = in_line(lock.read_with_timeout());
    *writing = 2;
    let reading = writing.downgrade();
    let readers = readers.map(granted);
    assert_eq!((*reading, *readers[0], *readers[1]), (2, 2, 2));
    let late = in_line(late);
    drop((reading, readers));
    drop(granted(writer));
    assert_eq!(*granted(late), 2);
}

#[test]
fn blocking_twins_wait_for_each_other() {
    let lock = AsyncRwLock::new(0, LONG);
    let held = lock.try_write().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| *lock.blocking_write_with_timeout().unwrap() += 1);
            scope.spawn(|| drop(lock.blocking_read_with_custom_timeout(Duration::MAX).unwrap()));
        }
        until_waiting(lock.stats(), 6);
        drop(held);
    });
    assert_eq!(*lock.try_read().unwrap(), 3);
    let figures = lock.stats().figures();
    assert_eq!((figures.waited_count, figures.total_acquisitions, figures.current_waiters), (6, 8, 0));
}

#[test]
fn cancel_waiters_ends_every_wait() {
    let lock = AsyncRwLock::new(0, LONG);
    let held = lock.try_write().unwrap();
    let waiting: Vec<_> = (0..100).map(|_| in_line(lock.read_with_timeout())).collect();
    assert_eq!(lock.cancel_waiters(), 100);
    let named = events::of(|| {
        for request in waiting {
            assert_eq!(request.now_or_never().unwrap().unwrap_err(), LockTimeoutError::Cancelled);
        }
    });
    let place = format!("lock={} kind=ReadLock requested_at={}", lock.stats().id(), file!());
    assert!(named.len() == 100 && named.iter().all(|(_, event)| event.contains(&place)), "{named:?}");
    assert_eq!((lock.cancel_waiters(), lock.stats().figures().cancelled_count), (0, 100));
    drop(held);
    drop(lock.try_write().expect("no line is left"));
    let (held, next) = (lock.try_write().unwrap(), in_line(lock.read_with_timeout()));
    drop(held);
    drop(granted(next));
    assert_eq!(LockTimeoutError::Cancelled.to_string(), "Lock acquisition cancelled");
}

#[test]
fn unsized_values_can_be_locked() {
    let lock: Arc<AsyncRwLock<dyn Fn() -> i32 + Send + Sync>> = Arc::new(AsyncRwLock::new(|| 7, LONG));
    assert_eq!(lock.try_read().unwrap()(), 7);
}

// Without the feature the crate's own timer follows the real clock.
#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn timeout_follows_the_paused_clock() {
    let mutex = AsyncMutex::new((), Duration::from_secs(3600));
    let _held = mutex.lock_with_timeout().await.unwrap();
    let before = tokio::time::Instant::now();
    assert!(mutex.lock_with_timeout().await.is_err());
    assert_eq!(before.elapsed().as_secs(), 3600);
}

#[test]
fn get_mut_needs_no_lock() {
    let mut lock = AsyncRwLock::new(HashMap::new(), LONG);
    lock.get_mut().insert(1, 2);
    assert_eq!(format!("{:?} {}", lock.try_read().unwrap(), AsyncMutex::new(3, LONG).try_lock().unwrap()), "{1: 2} 3");
    assert!(format!("{lock:?}").starts_with("AsyncRwLock { stats: LockStats { id: LockId("));
}
