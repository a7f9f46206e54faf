//! Wakers and callbacks that panic when they are called, copied or dropped: no lock is lost, and no waiter is stuck.

use crate::steps::*;
use keylatch::{
    Backend, EventOptions, Fairness, FastObjectLockManager, Filter, LockConfig, LockError, LockRequest, Mode,
    Submitted, open_backend,
};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

/// What a waker does wrong, and how often it was woken.
#[derive(Default)]
struct Mood {
    when_woken: AtomicBool,
    when_cloned: AtomicBool,
    when_dropped: AtomicBool,
    wakes: AtomicUsize,
}

/// A panic that the hook does not print.
fn panic_if(mood: &AtomicBool) {
    if mood.load(SeqCst) {
        resume_unwind(Box::new("meant to"));
    }
}

const MOODY: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

fn waker(mood: &Arc<Mood>) -> Waker {
    // SAFETY: the functions below treat the pointer as the count of an `Arc<Mood>` that it is.
    unsafe { Waker::new(Arc::into_raw(Arc::clone(mood)).cast(), &MOODY) }
}

unsafe fn clone(mood: *const ()) -> RawWaker {
    // SAFETY: see `waker`; the count stays the waker's.
    let mood = ManuallyDrop::new(unsafe { Arc::from_raw(mood.cast::<Mood>()) });
    panic_if(&mood.when_cloned);
    RawWaker::new(Arc::into_raw(Arc::clone(&mood)).cast(), &MOODY)
}

unsafe fn wake(mood: *const ()) {
    // SAFETY: see `waker`; the count goes with the waker.
    let mood = unsafe { Arc::from_raw(mood.cast::<Mood>()) };
    mood.wakes.fetch_add(1, SeqCst);
    panic_if(&mood.when_woken);
}

unsafe fn wake_by_ref(mood: *const ()) {
    // SAFETY: as in `clone`.
    let mood = ManuallyDrop::new(unsafe { Arc::from_raw(mood.cast::<Mood>()) });
    mood.wakes.fetch_add(1, SeqCst);
    panic_if(&mood.when_woken);
}

unsafe fn drop_waker(mood: *const ()) {
    // SAFETY: as in `wake`.
    let mood = unsafe { Arc::from_raw(mood.cast::<Mood>()) };
    panic_if(&mood.when_dropped);
}

fn in_a_mood(choose: impl Fn(&Mood) -> &AtomicBool) -> Arc<Mood> {
    let mood = Arc::<Mood>::default();
    choose(&mood).store(true, SeqCst);
    mood
}

/// Only a panic of our own is expected.
fn meant_to<T>(call: impl FnOnce() -> T) {
    let panic = catch_unwind(AssertUnwindSafe(call)).err().expect("it panics");
    assert_eq!(panic.downcast_ref(), Some(&"meant to"));
}

#[test]
fn panicking_waker_lets_others_wake() {
    for fairness in POLICIES {
        for mode in [Mode::Shared, Mode::Exclusive] {
            let locks = few_shards(fairness);
            within("a line with a panicking waker in it", move || {
                let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
                let mood = in_a_mood(|mood| &mood.when_woken);
                let moody = waker(&mood);
                let request = LockRequest::new(("b", "o"), mode);
                let mut line: Vec<_> = (0..3).map(|_| ByHand::new(locks.lock(request))).collect();
                assert!(line[0].poll_with(&moody).is_pending());
                assert!(line[1].poll().is_pending() && line[2].poll().is_pending());
                std::thread::scope(|scope| {
                    scope.spawn(|| drop(locks.lock(request).blocking().unwrap()));
                    until_in_line(&locks, 4);
                    // The release itself does not panic: it may happen in a drop, and others are to be woken.
                    drop(held);
                    until("the first is woken", || mood.wakes.load(SeqCst) > 0);
                    drop(line.remove(0));
                    for mut other in line.drain(..) {
                        drop(other.after_wakes().unwrap());
                    }
                });
                assert_at_rest(&locks);
            });
        }
    }
}

#[test]
fn waker_panic_in_drop_loses_no_grant() {
    for fairness in POLICIES {
        let locks = with(LockConfig { shards: 1, max_waiters: 2, fairness, ..LockConfig::default() });
        for round in 0..20 {
            let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
            let (mood, calm) = (in_a_mood(|mood| &mood.when_dropped), Arc::<Mood>::default());
            let (moody, usual) = (waker(&mood), waker(&calm));
            let mut first = ByHand::new(locks.acquire_write_lock("b", "o", "first"));
            let mut second = ByHand::new(locks.acquire_write_lock("b", "o", "second"));
            assert!(second.poll_with(&moody).is_pending());
            // Replaced while it waits, given back with the grant, and dropped with the future.
            assert!(first.poll_with(&moody).is_pending());
            assert!(first.poll_with(if round % 2 == 0 { &usual } else { &moody }).is_pending());
            drop(held);
            drop(second);
            let Poll::Ready(guard) = first.poll_with(&moody) else { panic!("it is the only one left") };
            drop((guard.unwrap(), first));
            mood.when_dropped.store(false, SeqCst);
            drop((moody, usual));
            assert_eq!((Arc::strong_count(&mood), Arc::strong_count(&calm)), (1, 1), "no waker stays behind");
        }
        assert_at_rest(&locks);
    }
}

#[test]
fn waker_panic_in_clone_ends_only_its_poll() {
    for fairness in POLICIES {
        let locks = with(LockConfig { shards: 1, max_waiters: 1, fairness, ..LockConfig::default() });
        for _ in 0..3 {
            let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
            let mood = in_a_mood(|mood| &mood.when_cloned);
            let moody = waker(&mood);
            let mut future = ByHand::new(locks.acquire_write_lock("b", "o", "me"));
            meant_to(|| future.poll_with(&moody));
            drop(future);
            assert_eq!(waiters(&locks), 0);
            drop(held);
            drop(locks.try_acquire_write_lock("b", "o", "next").unwrap());
        }
        assert_at_rest(&locks);
    }
}

/// What a callback captured, and panics when it is let go.
struct Captured;

impl Drop for Captured {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            resume_unwind(Box::new("meant to"));
        }
    }
}

fn submit(locks: &FastObjectLockManager, key: &str) -> Result<Submitted, LockError> {
    let captured = Captured;
    locks.lock(LockRequest::write(("b", key))).with_callback(move |answer| drop((answer, captured)))
}

#[test]
fn a_callback_whose_drop_panics_loses_nothing() {
    let locks = with(LockConfig { shards: 1, max_waiters: 2, max_key_bytes: 16, ..LockConfig::default() });
    // Dropped uncalled: because the lock was free, because the request was wrong, because there was no room in line.
    let Ok(Submitted::Granted(held)) = submit(&locks, "o") else { panic!("it is free") };
    assert!(matches!(submit(&locks, "longer than keys may be"), Err(LockError::InvalidKey { .. })));
    let mut line = vec![submit(&locks, "o").unwrap(), submit(&locks, "o").unwrap()];
    assert!(matches!(submit(&locks, "o"), Err(LockError::TooManyWaiters { .. })));
    // Called, and panics as it ends.
    drop(held);
    until("both have been called", || locks.get_metrics().shard_metrics.holders == 0 && waiters(&locks) == 0);
    line.push(submit(&locks, "o").unwrap());
    drop(line);
    until("all is over", || locks.get_metrics().shard_metrics.holders == 0 && waiters(&locks) == 0);
    assert_at_rest(&locks);
    locks.close();
    assert!(matches!(submit(&locks, "o"), Err(LockError::Closed)));
}

/// Waits in vain: the keeper of the time has to notice.
fn in_vain(locks: &FastObjectLockManager) {
    let request = LockRequest::write(("b", "held")).timeout(Duration::from_millis(1));
    assert!(matches!(ByHand::new(locks.lock(request)).after_wakes(), Err(LockError::Timeout { .. })));
    let queue = locks.completion_queue().unwrap();
    let Submitted::Waiting(_) = locks.lock(request).with_queue(&queue, 1).unwrap() else { panic!("it is held") };
    let arrived = queue.next(Some(FOREVER)).unwrap().expect("its time is over soon");
    assert!(matches!(arrived.result, Err(LockError::Timeout { .. })));
    assert!(matches!(locks.lock(request).blocking(), Err(LockError::Timeout { .. })));
}

#[test]
fn subscriber_waker_panic_stops_no_timer() {
    let moods: [fn(&Mood) -> &AtomicBool; 2] = [|mood| &mood.when_woken, |mood| &mood.when_dropped];
    for choose in moods {
        let locks = few_shards(Fairness::default());
        within("timeouts beside a panicking subscriber", move || {
            let held = locks.acquire_write_lock_blocking("b", "held", "holder").unwrap();
            let (mut first, mut second) =
                (locks.subscribe(EventOptions::default()), locks.subscribe(EventOptions::default()));
            for _ in 0..3 {
                let mood = in_a_mood(choose);
                let moody = waker(&mood);
                // Replaced by itself once, woken by the first timeout.
                let mut events = ByHand::new(first.recv());
                assert!(events.poll_with(&moody).is_pending() && events.poll_with(&moody).is_pending());
                let mut other = ByHand::waiting(second.recv());
                in_vain(&locks);
                assert!(other.after_wakes().is_some(), "the other subscriber is woken");
                assert!(mood.wakes.load(SeqCst) > 0);
                drop((events, other));
                while first.try_next().is_some() {}
                while second.try_next().is_some() {}
                mood.when_dropped.store(false, SeqCst);
            }
            drop(held);
            let mood = in_a_mood(choose);
            assert!(ByHand::new(first.recv()).poll_with(&waker_of(&mood)).is_pending());
            locks.close();
            assert!(first.is_closed() && second.is_closed());
            mood.when_dropped.store(false, SeqCst);
        });
    }
}

/// A waker whose drop here is none of those that are watched.
struct Ours(Option<Waker>, Arc<Mood>);

fn waker_of(mood: &Arc<Mood>) -> Ours {
    Ours(Some(waker(mood)), Arc::clone(mood))
}

impl std::ops::Deref for Ours {
    type Target = Waker;

    fn deref(&self) -> &Waker {
        self.0.as_ref().expect("until it is dropped")
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let was = self.1.when_dropped.swap(false, SeqCst);
        drop(self.0.take());
        self.1.when_dropped.store(was, SeqCst);
    }
}

#[test]
fn listener_panic_in_drop_loses_no_lock() {
    let locks = few_shards(Fairness::default());
    let listener = || {
        let captured = Captured;
        move |_| drop(captured)
    };
    // Released: dropped uncalled.
    let guard = locks.acquire_write_lock_blocking("b", "o", "guard").unwrap();
    guard.on_lost(listener());
    drop(guard);
    let grant = locks.try_acquire_write_lock("b", "o", "grant").expect("it was released").into_grant();
    locks.on_lost(grant, listener()).unwrap();
    locks.release(grant).unwrap();
    // Refused: it is held no more.
    assert!(matches!(locks.on_lost(grant, listener()), Err(LockError::NotHeld { .. })));
    // Lost: called, and the others too.
    let guard = locks.try_acquire_write_lock("b", "o", "guard").expect("it was released");
    let calls = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        guard.on_lost(listener());
        let calls = Arc::clone(&calls);
        guard.on_lost(move |_| {
            calls.fetch_add(1, SeqCst);
        });
    }
    assert_eq!(locks.force_release(&Filter::all()).len(), 1);
    assert_eq!(calls.load(SeqCst), 3);
    // Lost already: called immediately.
    guard.on_lost(listener());
    drop((guard, locks.try_acquire_write_lock("b", "o", "next").expect("it was taken away")));
    // Never called: dropped with the manager.
    let held = locks.acquire_write_lock_blocking("b", "o", "kept").unwrap().into_grant();
    locks.on_lost(held, listener()).unwrap();
    drop(locks);
}

#[test]
fn loss_waker_panic_affects_no_others() {
    let moods: [fn(&Mood) -> &AtomicBool; 2] = [|mood| &mood.when_woken, |mood| &mood.when_dropped];
    for choose in moods {
        let locks = few_shards(Fairness::default());
        let mood = in_a_mood(choose);
        let moody = waker_of(&mood);
        for released in [true, false] {
            let guard = locks.acquire_write_lock_blocking("b", "o", "me").unwrap();
            let (mut lost, mut other) = (ByHand::new(guard.lost()), ByHand::waiting(guard.lost()));
            assert!(lost.poll_with(&moody).is_pending());
            if released {
                drop(lost);
                drop(guard);
            } else {
                assert_eq!(locks.force_release(&Filter::all()).len(), 1);
                assert!(other.poll().is_ready() && lost.poll_with(&moody).is_ready());
                drop((guard, lost));
            }
            drop(locks.try_acquire_write_lock("b", "o", "next").expect("it is free"));
        }
        assert_at_rest(&locks);
    }
}

/// What is thrown, and throws again when it is let go.
struct Thrown;

impl Drop for Thrown {
    fn drop(&mut self) {
        resume_unwind(Box::new("meant to"));
    }
}

#[test]
fn what_a_callback_throws_may_throw_again() {
    let locks = few_shards(Fairness::default());
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let (said, hears) = std::sync::mpsc::channel();
    let waiting =
        locks.lock(LockRequest::write(("b", "o"))).with_callback(|_| resume_unwind(Box::new(Thrown))).unwrap();
    let after =
        locks.lock(LockRequest::write(("b", "o"))).with_callback(move |answer| said.send(answer).unwrap()).unwrap();
    assert!(waiting.ticket().is_some() && after.ticket().is_some());
    held.on_lost(|_| resume_unwind(Box::new(Thrown)));
    assert_eq!(locks.force_release(&Filter::all()).len(), 1);
    drop(hears.recv_timeout(FOREVER).expect("the thread of the callbacks goes on").unwrap());
    drop(held);
    assert_at_rest(&locks);
}

#[test]
fn global_backend_survives_waker_panics() {
    let config = LockConfig { backend: Backend::Global, ..LockConfig::default() };
    let locks = open_backend(config).unwrap();
    for choose in [(|mood| &mood.when_woken) as fn(&Mood) -> &AtomicBool, |mood| &mood.when_dropped] {
        let mood = in_a_mood(choose);
        let moody = waker_of(&mood);
        let held = locks.try_acquire(&LockRequest::write(("b", "o"))).unwrap();
        let mut first = ByHand::new(locks.acquire(LockRequest::read(("b", "o"))));
        let mut second = ByHand::waiting(locks.acquire(LockRequest::read(("b", "o"))));
        assert!(first.poll_with(&moody).is_pending() && first.poll_with(&moody).is_pending());
        locks.release(held).unwrap();
        for grant in [first.poll_with(&moody), second.poll()] {
            let Poll::Ready(grant) = grant else { panic!("both read") };
            locks.release(grant.unwrap()).unwrap();
        }
        drop(first);
    }
}
