//! The steps that tests of waiting are made of: a future polled by hand, a line watched until a waiter stands in it, a
//! bound on hanging, and the look at what is left behind.

#![allow(dead_code, reason = "each test file takes some of these steps")]

use keylatch::{Fairness, FastObjectLockManager, LockConfig};
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// No wait of a test takes this long unless it hangs, even on a busy machine.
pub(crate) const FOREVER: Duration = Duration::from_secs(match () {
    () if cfg!(tsan) => 300,
    () if option_env!("KEYLATCH_MUTANTS").is_some() => 5,
    () => 180,
});

/// All policies, with bounds that tests can reach.
pub(crate) const POLICIES: [Fairness; 4] = [
    Fairness::Eventual { after: Duration::from_micros(500) },
    Fairness::Fifo,
    Fairness::WriterFirst,
    Fairness::ReaderFirst,
];

/// Returns a manager with few shards, so that its figures are cheap to read.
pub(crate) fn few_shards(fairness: Fairness) -> FastObjectLockManager {
    with(LockConfig { shards: 4, fairness, ..LockConfig::default() })
}

pub(crate) fn with(config: LockConfig) -> FastObjectLockManager {
    FastObjectLockManager::with_config(config).expect("these settings are fine")
}

/// Waits, awake, for something that another thread is about to do.
#[track_caller]
pub(crate) fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < FOREVER, "this never happened: {what}");
        std::thread::yield_now();
    }
}

pub(crate) fn waiters(locks: &FastObjectLockManager) -> u64 {
    locks.get_metrics().shard_metrics.waiters
}

/// Waits until `count` requests stand in line.
#[track_caller]
pub(crate) fn until_in_line(locks: &FastObjectLockManager, count: u64) {
    until("requests in line", || waiters(locks) == count);
}

/// Runs something on a thread of its own, and fails instead of hanging with it.
#[track_caller]
pub(crate) fn within<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, finished) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = done.send(work());
    });
    match finished.recv_timeout(FOREVER) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("this hangs: {what}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it ended without a result"))
        }
    }
}

/// Checks that there are no holders and no waiters, and no keys but the warm ones.
#[track_caller]
pub(crate) fn assert_at_rest(locks: &FastObjectLockManager) {
    // A thread counts a release a moment after the lock is free for others.
    let began = Instant::now();
    while locks.get_metrics().shard_metrics.holders != 0 && began.elapsed() < FOREVER {
        std::thread::yield_now();
    }
    let figures = locks.get_metrics().shard_metrics;
    let most = 4 * u64::from(locks.config().shards);
    assert_eq!((figures.holders, figures.waiters), (0, 0), "{figures:?}");
    assert!(figures.entries <= most, "{} entries are left, {most} may be", figures.entries);
    assert_eq!(figures.acquisitions(), figures.releases, "{figures:?}");
}

/// A future that is polled by hand, on no executor at all.
pub(crate) struct ByHand<F: Future> {
    future: Pin<Box<F>>,
    wakes: Arc<Wakes>,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl<F: Future> ByHand<F> {
    pub(crate) fn new(future: impl IntoFuture<IntoFuture = F, Output = F::Output>) -> Self {
        Self { future: Box::pin(future.into_future()), wakes: Arc::default() }
    }

    /// Returns a future that has been polled once and waits.
    #[track_caller]
    pub(crate) fn waiting(future: impl IntoFuture<IntoFuture = F, Output = F::Output>) -> Self {
        let mut this = Self::new(future);
        assert!(this.poll().is_pending(), "it did not have to wait");
        this
    }

    /// Forgets it, but keeps its memory reachable, so that leak checkers find none.
    pub(crate) fn forget(self) {
        static FORGOTTEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());
        let forgotten = Box::leak(Box::new(ManuallyDrop::new(self)));
        FORGOTTEN.lock().unwrap().push(std::ptr::from_mut(forgotten).expose_provenance());
    }

    pub(crate) fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Polls with another task's waker.
    pub(crate) fn poll_with(&mut self, waker: &Waker) -> Poll<F::Output> {
        self.future.as_mut().poll(&mut Context::from_waker(waker))
    }

    pub(crate) fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::SeqCst)
    }

    /// Returns the result, which must be there now.
    #[track_caller]
    pub(crate) fn ready(&mut self) -> F::Output {
        match self.poll() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it still waits"),
        }
    }

    /// The result, whenever it is there; polls only after a wake, as executors do.
    #[track_caller]
    pub(crate) fn after_wakes(&mut self) -> F::Output {
        loop {
            let seen = self.wakes();
            if let Poll::Ready(output) = self.poll() {
                return output;
            }
            until("a wake", || self.wakes() > seen);
        }
    }
}

/// What happened, in order, as several threads report it.
#[derive(Clone, Default)]
pub(crate) struct Story<T>(Arc<Mutex<Vec<T>>>);

impl<T: Clone> Story<T> {
    pub(crate) fn tell(&self, what: T) {
        self.0.lock().unwrap().push(what);
    }

    pub(crate) fn so_far(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }
}

/// Has others stop when it goes, also where a test fails in their scope.
pub(crate) struct Stops<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
