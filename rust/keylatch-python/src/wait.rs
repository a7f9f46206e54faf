//! How a Python thread waits: off the interpreter, and awake for signals.

use pyo3::prelude::*;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// How long the main thread sleeps before it looks for a signal.
///
/// One that is delivered to it wakes it immediately; this is for those that another thread was given.
const SLICE: Duration = Duration::from_millis(40);
/// How long other threads sleep, which run no signal handlers.
const LONG: Duration = Duration::from_secs(3600);

/// Waits for a future.
///
/// An exception raised by a signal's handler ends the wait and drops the future. That withdraws the request, and gives
/// back what has just arrived.
pub(crate) fn wait_for<F: Future + Unpin>(py: Python<'_>, future: F) -> PyResult<F::Output> {
    match wait_until(py, future, None)? {
        Some(output) => Ok(output),
        None => unreachable!("without a deadline there is an answer"),
    }
}

/// The same until then; `None` if the time is over first.
pub(crate) fn wait_until<F: Future + Unpin>(
    py: Python<'_>,
    mut future: F,
    deadline: Option<Instant>,
) -> PyResult<Option<F::Output>> {
    let sleeper = Arc::new(Sleeper { state: AtomicU32::new(QUIET) });
    let waker = Waker::from(Arc::clone(&sleeper));
    let mut context = Context::from_waker(&waker);
    let slice = if is_main_thread(py)? { SLICE } else { LONG };
    loop {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(&mut context) {
            return Ok(Some(output));
        }
        let left = deadline.map_or(slice, |deadline| deadline.saturating_duration_since(Instant::now()).min(slice));
        if left.is_zero() {
            return Ok(None);
        }
        py.detach(|| sleeper.sleep(left));
        py.check_signals()?;
    }
}

/// Sleeps in slices, between which it looks for signals.
///
/// `sleep` gets the time until which to sleep, and returns whether what it sleeps for has come. `false` if the time is
/// over first.
pub(crate) fn sleep_until(
    py: Python<'_>,
    deadline: Option<Instant>,
    sleep: impl Fn(Option<Instant>) -> bool + Sync,
) -> PyResult<bool> {
    let slice = if is_main_thread(py)? { SLICE } else { LONG };
    loop {
        let end_of_slice = Instant::now() + slice;
        let end = deadline.map_or(end_of_slice, |deadline| deadline.min(end_of_slice));
        if py.detach(|| sleep(Some(end))) {
            return Ok(true);
        }
        py.check_signals()?;
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(false);
        }
    }
}

/// Only the main thread runs the handlers of signals.
pub(crate) fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    main.eq(threading.call_method0("get_ident")?)
}

const QUIET: u32 = 0;
const WOKEN: u32 = 1;

/// A thread that sleeps until it is woken, or a signal comes, or time has passed.
struct Sleeper {
    /// `QUIET` until the waker has been called.
    ///
    /// The waker's `Release` store pairs with the `Acquire` swap of the sleeper.
    state: AtomicU32,
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.state.store(WOKEN, Ordering::Release);
        wake(&self.state);
    }
}

impl Sleeper {
    /// Returns immediately if it was woken since the last time.
    fn sleep(&self, at_most: Duration) {
        if self.state.load(Ordering::Relaxed) == QUIET {
            sleep_while_quiet(&self.state, at_most);
        }
        self.state.swap(QUIET, Ordering::Acquire);
    }
}

/// Sleeps while the state is `QUIET`.
///
/// Unlike the sleep of the standard library this one ends when a signal arrives, whose handler can then run.
#[cfg(target_os = "linux")]
fn sleep_while_quiet(state: &AtomicU32, at_most: Duration) {
    let time = libc::timespec { tv_sec: at_most.as_secs() as libc::time_t, tv_nsec: at_most.subsec_nanos().into() };
    let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word and the time outlive the call, and the kernel only reads them.
    unsafe { libc::syscall(libc::SYS_futex, state.as_ptr(), wait, QUIET, &raw const time) };
}

#[cfg(target_os = "linux")]
fn wake(state: &AtomicU32) {
    // SAFETY: only the word's address is used.
    unsafe { libc::syscall(libc::SYS_futex, state.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
}

#[cfg(not(target_os = "linux"))]
fn sleep_while_quiet(state: &AtomicU32, at_most: Duration) {
    // Looked at now and then: elsewhere there is no sleep on a word that a signal ends.
    let began = std::time::Instant::now();
    while state.load(Ordering::Relaxed) == QUIET && began.elapsed() < at_most.min(SLICE) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(not(target_os = "linux"))]
fn wake(_: &AtomicU32) {}
