//! Words that requests sleep on, and how a ringer spares the wake-up when none sleeps.
//!
//! ```text
//!  31..1      0
//! +-------+--------+
//! | rings | SLEEPS |
//! +-------+--------+
//! ```
//!
//! | step | who | what |
//! |---|---|---|
//! | announce | a request | sets SLEEPS, looks at the lock once more, and sleeps on the value if it still has to wait |
//! | ring | who changed the lock | adds 1, and wakes; nothing if SLEEPS was clear |
//!
//! A request announces before its look, and a ringer changes the lock before its look at the bell. So the request sees the
//! change, or the ringer sees SLEEPS. A ringer may be killed between its addition and its wake-up: recovery wakes whatever
//! the bell says. The model is `model/sleeps.rs`.

use crate::os::futex;
use std::sync::atomic::{AtomicU32, Ordering};

/// A request may sleep. Set too long, it costs a ringer one needless wake-up.
const SLEEPS: u32 = 1;

/// The value after a request has said that it is about to sleep.
pub(crate) const fn announced(bell: u32) -> u32 {
    bell | SLEEPS
}

/// Whether a ringer has to wake.
pub(crate) const fn has_sleeper(bell: u32) -> bool {
    bell & SLEEPS != 0
}

/// The value after a ring: another one than those that have been announced before.
pub(crate) const fn rung(bell: u32) -> u32 {
    bell.wrapping_add(1)
}

const _: () = assert!(rung(announced(0)) != announced(0) && !has_sleeper(rung(announced(0))));

/// Says that the caller is about to sleep; the value to sleep on.
///
/// The caller looks at the lock between this and its sleep.
pub(crate) fn announce(bell: &AtomicU32) -> u32 {
    // Pairs with: the load of a ringer.
    announced(bell.fetch_or(SLEEPS, Ordering::SeqCst))
}

/// Wakes those that sleep, to look again.
///
/// The caller has changed the lock before.
pub(crate) fn ring(bell: &AtomicU32) {
    // Pairs with: the announcement, before the sleeper's last look.
    if has_sleeper(bell.load(Ordering::SeqCst)) {
        bell.fetch_add(1, Ordering::SeqCst);
        futex::wake_all(bell);
    }
}

/// The same, also if another ringer was killed before it came to its wake-up.
pub(crate) fn ring_surely(bell: &AtomicU32) {
    if has_sleeper(bell.load(Ordering::SeqCst)) {
        bell.fetch_add(1, Ordering::SeqCst);
    }
    futex::wake_all(bell);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// Whether the thread sleeps in a call into the kernel.
    fn is_asleep(thread: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
    }

    #[test]
    fn recoverer_wakes_for_a_killed_ringer() {
        let (bell, thread) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let sleeper = std::thread::spawn({
            let (bell, thread) = (bell.clone(), thread.clone());
            move || {
                let seen = announce(&bell);
                // SAFETY: takes nothing and cannot fail.
                thread.store(unsafe { libc::gettid() } as u32, Ordering::SeqCst);
                futex::wait(&bell, seen, None);
            }
        });
        let end = Instant::now() + Duration::from_secs(20);
        while thread.load(Ordering::SeqCst) == 0 || !is_asleep(thread.load(Ordering::SeqCst)) {
            std::thread::yield_now();
        }
        // A ringer that is killed before it wakes.
        bell.fetch_add(1, Ordering::SeqCst);
        ring(&bell);
        while !sleeper.is_finished() {
            assert!(Instant::now() < end, "none wakes it");
            ring_surely(&bell);
            std::thread::yield_now();
        }
        sleeper.join().expect("no panic");
    }

    #[test]
    fn ring_without_sleeper_leaves_the_bell() {
        let bell = AtomicU32::new(4);
        ring(&bell);
        assert_eq!(bell.load(Ordering::Relaxed), 4);
        let seen = announce(&bell);
        ring(&bell);
        let now = bell.load(Ordering::Relaxed);
        assert!(now != seen && !has_sleeper(now));
    }
}
