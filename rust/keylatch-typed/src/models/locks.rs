//! Locks: exclusion, wake-ups, and futures that are dropped at any moment.

use super::{NEVER, check, poll_once};
use crate::sync::block_on;
use crate::{AsyncMutex, AsyncRwLock, LockId, LockTimeoutError};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use std::sync::Arc;
use std::time::Duration;

/// Data that the model checker watches.
///
/// Two accesses that are not ordered, one of them a write, end the model.
struct Watched(UnsafeCell<u32>);

// SAFETY: the lock around it orders the accesses; that it does is what the models check.
unsafe impl Send for Watched {}
// SAFETY: as above.
unsafe impl Sync for Watched {}

impl Watched {
    fn add(&self) {
        // SAFETY: the caller holds the lock exclusively, which the model checker verifies.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }

    fn get(&self) -> u32 {
        // SAFETY: the caller holds the lock, which the model checker verifies.
        self.0.with(|value| unsafe { *value })
    }
}

fn rwlock() -> Arc<AsyncRwLock<Watched>> {
    Arc::new(AsyncRwLock::new(Watched(UnsafeCell::new(0)), NEVER))
}

fn mutex() -> Arc<AsyncMutex<Watched>> {
    Arc::new(AsyncMutex::new(Watched(UnsafeCell::new(0)), NEVER))
}

/// Two threads that read if they can.
fn two_readers(lock: &Arc<AsyncRwLock<Watched>>) -> [thread::JoinHandle<Option<u32>>; 2] {
    [(); 2].map(|()| {
        let lock = Arc::clone(lock);
        thread::spawn(move || lock.try_read().map(|held| held.get()))
    })
}

#[track_caller]
fn assert_idle(stats: &crate::LockStats) {
    assert!(stats.raw().is_idle(), "{stats:?}");
}

/// Would catch: a release that publishes nothing, an acquisition that sees none.
#[test]
fn fast_writers_exclude() {
    check(|| {
        let mutex = mutex();
        let turn = |mutex: &AsyncMutex<Watched>| mutex.try_lock().map(|held| held.add()).is_some();
        let other = {
            let mutex = Arc::clone(&mutex);
            thread::spawn(move || u32::from(turn(&mutex)) + u32::from(turn(&mutex)))
        };
        let mine = u32::from(turn(&mutex)) + u32::from(turn(&mutex));
        let sum = mine + other.join().unwrap();
        assert_eq!((mutex.try_lock().unwrap().get(), u64::from(sum) + 1), (sum, mutex.stats().total_acquisitions()));
        assert_idle(mutex.stats());
    });
}

/// Would catch: a reader beside a writer, or a release that no writer sees.
#[test]
fn fast_readers_and_writer_exclude() {
    check(|| {
        let lock = rwlock();
        let readers = two_readers(&lock);
        if let Some(held) = lock.try_write() {
            held.add();
        }
        readers.into_iter().for_each(|reader| assert!(reader.join().unwrap() <= Some(1)));
        assert_idle(lock.stats());
    });
}

/// Would catch: a waiter that joins while the lock is released and is never woken.
#[test]
fn writers_wait_for_each_other() {
    check(|| {
        let mutex = mutex();
        let other = {
            let mutex = Arc::clone(&mutex);
            thread::spawn(move || mutex.blocking_lock_with_timeout().unwrap().add())
        };
        mutex.blocking_lock_with_timeout().unwrap().add();
        other.join().unwrap();
        assert_eq!(mutex.try_lock().unwrap().get(), 2);
        assert_idle(mutex.stats());
    });
}

/// Would catch: a reader that leaves last and grants nothing.
#[test]
fn last_reader_wakes_the_writer() {
    check(|| {
        let lock = rwlock();
        let (first, second) = (lock.try_read_owned().unwrap(), lock.try_read_owned().unwrap());
        let other = thread::spawn(move || {
            first.get();
            drop(first);
        });
        let writer = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || lock.blocking_write_with_timeout().unwrap().add())
        };
        second.get();
        drop(second);
        other.join().unwrap();
        writer.join().unwrap();
        assert_eq!(lock.try_read().unwrap().get(), 1);
        assert_idle(lock.stats());
    });
}

/// Would catch: the last reader to leave misses that another entered and left.
#[test]
fn last_of_two_readers_wakes_the_writer() {
    check(|| {
        let lock = rwlock();
        let readers = two_readers(&lock);
        lock.blocking_write_with_timeout().unwrap().add();
        readers.into_iter().for_each(|reader| assert!(reader.join().unwrap() <= Some(1)));
        assert_idle(lock.stats());
    });
}

/// Would catch: a reader granted before a writer that wakes none when it leaves.
#[test]
fn granted_reader_wakes_the_writer() {
    check(|| {
        let lock = rwlock();
        let held = lock.try_write_owned().unwrap();
        let mut reader = lock.read_owned_with_timeout();
        assert!(poll_once(&mut reader).is_none());
        let writer = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || lock.blocking_write_with_timeout().unwrap().add())
        };
        let reading = thread::spawn(move || block_on(reader, |_| None).unwrap().get());
        held.add();
        drop(held);
        assert_eq!(reading.join().unwrap(), 1);
        writer.join().unwrap();
        assert_eq!(lock.try_read().unwrap().get(), 2);
        assert_idle(lock.stats());
    });
}

/// Would catch: a reader waits for room in a full set until the last one leaves.
#[test]
fn full_set_lets_one_in() {
    check(|| {
        let lock = rwlock();
        let mut set: Vec<_> = (0..3).map(|_| lock.try_read_owned().unwrap()).collect();
        assert!(lock.try_read().is_none());
        let waiting = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || lock.blocking_read_with_timeout().unwrap().get())
        };
        let first = set.pop();
        let leaving = thread::spawn(move || drop(first));
        // The others hold on.
        assert_eq!(waiting.join().unwrap(), 0);
        leaving.join().unwrap();
        drop(set);
        assert_idle(lock.stats());
        assert!(lock.try_write().is_some());
    });
}

/// Would catch: a dropped future's grant is not passed on, or is counted.
#[test]
fn dropped_future_passes_its_grant_on() {
    check(|| {
        let mutex = mutex();
        let held = mutex.try_lock_owned().unwrap();
        let mut first = mutex.lock_owned_with_timeout();
        assert!(poll_once(&mut first).is_none());
        let second = {
            let mutex = Arc::clone(&mutex);
            thread::spawn(move || mutex.blocking_lock_with_timeout().unwrap().add())
        };
        let dropping = thread::spawn(move || drop(first));
        held.add();
        drop(held);
        dropping.join().unwrap();
        second.join().unwrap();
        assert_eq!(mutex.try_lock().unwrap().get(), 2);
        let figures = mutex.stats().figures();
        assert_eq!((figures.total_acquisitions, figures.timed_holds), (3, 3));
        assert_idle(mutex.stats());
    });
}

/// Would catch: a writer that gives up and leaves the readers behind it.
#[test]
fn leaving_writer_lets_the_reader_in() {
    check(|| {
        let lock = rwlock();
        let held = lock.try_read().unwrap();
        let mut writer = lock.write_owned_with_timeout();
        assert!(poll_once(&mut writer).is_none());
        let leaving = thread::spawn(move || drop(writer));
        let reader = lock.blocking_read_with_timeout().unwrap();
        assert_eq!(reader.get(), held.get());
        drop((reader, held));
        leaving.join().unwrap();
        assert_idle(lock.stats());
    });
}

/// Would catch: a writer came in, and stores the bit of a line that ended.
#[test]
fn line_ends_against_a_fast_writer() {
    check(|| {
        let lock = rwlock();
        let held = lock.try_read_owned().unwrap();
        let mut waiting = lock.write_owned_with_timeout();
        assert!(poll_once(&mut waiting).is_none());
        let leaving = thread::spawn(move || drop(waiting));
        let reading = thread::spawn(move || drop(held));
        if let Some(held) = lock.try_write() {
            held.add();
        }
        leaving.join().unwrap();
        reading.join().unwrap();
        assert!(lock.try_read().unwrap().get() <= 1);
        assert_idle(lock.stats());
    });
}

/// Would catch: a timeout that leaves its place, or a late grant, behind.
#[test]
fn timeout_against_grant_leaves_nothing() {
    check(|| {
        let mutex = mutex();
        let held = mutex.try_lock_owned().unwrap();
        let other = thread::spawn(move || {
            held.add();
            drop(held);
        });
        match mutex.blocking_lock_with_custom_timeout(Duration::from_nanos(1)) {
            Ok(held) => held.add(),
            Err(error) => assert!(matches!(error, LockTimeoutError::Timeout { .. })),
        }
        other.join().unwrap();
        assert!(mutex.try_lock().unwrap().get() > 0);
        assert_idle(mutex.stats());
    });
}

/// Would catch: a downgrade that publishes nothing, or that grants no reader.
#[test]
fn downgrade_lets_the_reader_in() {
    check(|| {
        let lock = rwlock();
        let writing = lock.try_write_owned().unwrap();
        let reader = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || lock.blocking_read_with_timeout().unwrap().get())
        };
        writing.add();
        let reading = writing.downgrade();
        // The reader holds beside this guard: it must not have to wait for its end.
        assert_eq!(reader.join().unwrap(), reading.get());
        drop(reading);
        assert_idle(lock.stats());
    });
}

/// Would catch: a cancelled line whose bit stays, or a waiter that is granted too.
#[test]
fn cancelled_line_leaves_nothing() {
    check(|| {
        let mutex = mutex();
        let held = mutex.try_lock_owned().unwrap();
        let mut waiting = mutex.lock_owned_with_timeout();
        assert!(poll_once(&mut waiting).is_none());
        let cancelling = {
            let mutex = Arc::clone(&mutex);
            thread::spawn(move || mutex.cancel_waiters())
        };
        drop(held);
        let cancelled = cancelling.join().unwrap();
        match poll_once(&mut waiting).expect("granted or cancelled") {
            Ok(held) => held.add(),
            Err(error) => assert_eq!((error, cancelled), (LockTimeoutError::Cancelled, 1)),
        }
        drop(waiting);
        assert_idle(mutex.stats());
    });
}

/// Would catch: a hold that a reset loses, or counts twice.
#[test]
fn reset_divides_holds_exactly() {
    check(|| {
        let lock = rwlock();
        let other = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || drop(lock.blocking_read_with_timeout().unwrap()))
        };
        let period = lock.stats().reset();
        drop(lock.blocking_write_with_timeout().unwrap());
        other.join().unwrap();
        let rest = lock.stats().figures();
        assert_eq!(period.total_acquisitions + rest.total_acquisitions, 2);
        assert_eq!(period.timed_holds + rest.timed_holds, 2);
    });
}

/// Would catch: a hold that is shown twice or never by a monitor.
#[test]
fn sorted_holds_add_up() {
    check(|| {
        let lock = rwlock();
        drop(lock.try_read().unwrap());
        lock.stats().begin_watch(&LockId::new("a", "b"));
        let other = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || drop(lock.try_read().unwrap()))
        };
        let early = lock.stats().counters().holds;
        drop(lock.try_read().unwrap());
        other.join().unwrap();
        let sorted = lock.stats().counters().holds;
        assert!(early.count() <= 1, "{early:?}");
        assert_eq!((sorted.count(), sorted.total), (2, Duration::from_nanos(2)));
    });
}

/// Would catch: a first watch that loses holds, or counts earlier ones.
#[test]
fn watch_begins_beside_a_reader() {
    check(|| {
        let lock = rwlock();
        let other = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || drop(lock.try_read().unwrap()))
        };
        lock.stats().begin_watch(&LockId::new("a", "b"));
        let early = lock.stats().counters().holds.count();
        drop(lock.try_read().unwrap());
        other.join().unwrap();
        let late = lock.stats().counters().holds.count();
        assert!(early <= late && (1..=2).contains(&late), "{early}, {late}");
    });
}

/// Would catch: a holder that overwrites what another noted of its hold.
#[test]
fn hold_times_add_up() {
    check(|| {
        let lock = rwlock();
        let reading: Vec<_> = (0..2)
            .map(|_| {
                let lock = Arc::clone(&lock);
                thread::spawn(move || lock.try_read().map(|held| drop(held)).is_some())
            })
            .collect();
        let wrote = lock.try_write().map(|held| drop(held)).is_some();
        let read = lock.try_read().map(|held| drop(held)).is_some();
        let others = reading.into_iter().map(|reader| u32::from(reader.join().unwrap())).sum::<u32>();
        let figures = lock.stats().figures();
        // Each hold is one tick long, and a tick is a nanosecond.
        assert_eq!(figures.total_hold_time, Duration::from_nanos(1) * (others + u32::from(wrote) + u32::from(read)));
        assert_idle(lock.stats());
    });
}

/// Would catch: a wait that is counted as timed out and as cancelled.
#[test]
fn timeout_against_cancel_ends_once() {
    check(|| {
        let mutex = mutex();
        let held = mutex.try_lock_owned().unwrap();
        let cancelling = {
            let mutex = Arc::clone(&mutex);
            thread::spawn(move || mutex.cancel_waiters())
        };
        let ended = mutex.blocking_lock_with_custom_timeout(Duration::from_nanos(1)).map(drop);
        let error = ended.unwrap_err();
        let cancelled = u64::from(cancelling.join().unwrap());
        let figures = mutex.stats().figures();
        assert_eq!((figures.timeout_count, figures.cancelled_count), (1 - cancelled, cancelled), "{error}");
        drop(held);
        assert_idle(mutex.stats());
    });
}

/// Would catch: a reader refused by a line that another reader begins and ends.
#[test]
fn reader_that_must_not_wait_joins_a_reader() {
    check(|| {
        let lock = rwlock();
        let held = lock.try_write_owned().unwrap();
        let released = Arc::new(AtomicBool::new(false));
        let waiting = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || lock.blocking_read_with_timeout().unwrap().get())
        };
        let writing = {
            let released = Arc::clone(&released);
            thread::spawn(move || {
                drop(held);
                released.store(true, Ordering::Release);
            })
        };
        if released.load(Ordering::Acquire) {
            // A reader at most is there, or about to be.
            assert!(lock.blocking_read_with_custom_timeout(Duration::ZERO).is_ok());
        }
        assert_eq!(waiting.join().unwrap(), 0);
        writing.join().unwrap();
        assert_idle(lock.stats());
    });
}

/// Would catch: an attempt refused by a line that another reader begins and ends.
#[test]
fn attempt_joins_a_reader() {
    check(|| {
        let lock = rwlock();
        let held = lock.try_write_owned().unwrap();
        let released = Arc::new(AtomicBool::new(false));
        let waiting = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || lock.blocking_read_with_timeout().unwrap().get())
        };
        let writing = {
            let released = Arc::clone(&released);
            thread::spawn(move || {
                drop(held);
                released.store(true, Ordering::Release);
            })
        };
        if released.load(Ordering::Acquire) {
            assert!(lock.try_read().is_some());
        }
        assert_eq!(waiting.join().unwrap(), 0);
        writing.join().unwrap();
        assert_idle(lock.stats());
    });
}
