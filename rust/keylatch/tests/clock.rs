//! The time of day jumps, by a day and back, all the while: timeouts and leases do not notice, and nothing asks for it.
#![cfg(target_os = "linux")]

#[path = "it/steps/mod.rs"]
mod steps;

use keylatch::{FastObjectLockManager, LockError, LockRequest};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};
use steps::*;

const A_DAY: i64 = 86_400;
const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(3600);

/// How far the time of day has jumped.
static JUMPED: AtomicI64 = AtomicI64::new(0);
/// How often this program asked for it, and how often for the other clocks.
static ASKED: AtomicU64 = AtomicU64::new(0);
static ASKED_OTHERS: AtomicU64 = AtomicU64::new(0);

/// Takes the place of the C library's, in this program.
///
/// # Safety
/// As that one.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the caller's promise is the kernel's.
    let status = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_REALTIME_COARSE {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: written by the kernel a moment ago.
        unsafe { (*time).tv_sec += JUMPED.load(Ordering::Relaxed) };
    } else {
        ASKED_OTHERS.fetch_add(1, Ordering::Relaxed);
    }
    // 0 or -1.
    status as libc::c_int
}

/// Has the clock jump until dropped.
struct Jumping<'a>(&'a AtomicBool);

impl Drop for Jumping<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[test]
fn jumping_clock_changes_no_timeout_or_lease() {
    let real = SystemTime::now();
    JUMPED.store(A_DAY, Ordering::Relaxed);
    assert!(
        SystemTime::now() > real + Duration::from_secs(A_DAY as u64 - 1),
        "the clock does not jump in this program"
    );
    let goes_on = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut jump = A_DAY;
            while goes_on.load(Ordering::Relaxed) {
                jump = -jump;
                JUMPED.store(jump, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        let _jumping = Jumping(&goes_on);
        let (asked, others) = (ASKED.load(Ordering::Relaxed), ASKED_OTHERS.load(Ordering::Relaxed));
        everything_that_takes_time();
        assert_eq!(ASKED.load(Ordering::Relaxed), asked, "something asked for the time of day");
        assert!(ASKED_OTHERS.load(Ordering::Relaxed) > others, "nothing asked for any time");
    });
}

fn everything_that_takes_time() {
    let locks = FastObjectLockManager::new();
    let write = || LockRequest::write(("b", "o"));
    let held = locks.lock(write().ttl(LONG)).blocking().unwrap();
    let timed_out = |answer: Result<(), LockError>, began: Instant| {
        let Err(LockError::Timeout { waited, .. }) = answer else { panic!("{answer:?}") };
        assert!(waited >= SHORT && began.elapsed() >= SHORT, "too early");
        assert!(waited < LONG, "it was never to be so late: {waited:?}");
    };
    for _ in 0..3 {
        let began = Instant::now();
        timed_out(locks.lock(write().timeout(SHORT)).blocking().map(drop), began);
        let mut future = ByHand::waiting(locks.lock(write().timeout(SHORT)));
        timed_out(future.after_wakes().map(drop), began);
        let (tell, heard) = mpsc::channel();
        let asked =
            locks.lock(write().timeout(SHORT)).with_callback(move |answer| tell.send(answer.map(drop)).unwrap());
        assert!(asked.unwrap().ticket().is_some());
        timed_out(heard.recv().unwrap(), began);
    }
    assert!(held.is_valid() && held.remaining().is_some_and(|left| left > LONG / 2));
    // Runs out when its time is over, and not before.
    let began = Instant::now();
    held.renew(SHORT).unwrap();
    let next = locks.lock(write().timeout(LONG)).blocking().unwrap();
    assert!(began.elapsed() >= SHORT);
    assert!(matches!(held.try_release(), Err(LockError::LeaseLost { .. })));
    drop(next);
    let metrics = locks.get_metrics();
    assert!(metrics.uptime < LONG, "{:?}", metrics.uptime);
    assert_at_rest(&locks);
    locks.close();
}
