//! Words that requests sleep on, and how a ringer spares the wake-up when none sleeps.
//!
//! ```text
//!  31..16    15..0
//! +-------+----------+
//! | rings | sleepers |
//! +-------+----------+
//! ```
//!
//! | step | who | what |
//! |---|---|---|
//! | announce | a request | adds a sleeper, looks at the lock once more, and sleeps on the value if it still has to wait |
//! | end | the same request | takes the sleeper away, once it is awake or has its lock |
//! | ring | who changed the lock | adds a ring, and wakes; nothing if there is no sleeper |
//!
//! A request announces before its look, and a ringer changes the lock before its look at the bell. So the request sees the
//! change, or the ringer sees the sleeper. Requests for several slots share a bell, and ringers do not take sleepers away: one
//! that is stopped or killed between its ring and its wake-up keeps no other from waking. The model is `model/sleeps.rs`.

use crate::os::futex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const SLEEPERS: u32 = 0xFFFF;
const ONE_RING: u32 = SLEEPERS + 1;

/// The value after a request has said that it is about to sleep.
pub(crate) const fn announced(bell: u32) -> u32 {
    bell.wrapping_add(1)
}

/// The value after it has ended that.
#[cfg(test)]
pub(crate) const fn ended(bell: u32) -> u32 {
    bell.wrapping_sub(1)
}

/// Whether a ringer has to wake.
pub(crate) const fn has_sleeper(bell: u32) -> bool {
    bell & SLEEPERS != 0
}

/// The value after a ring.
#[cfg(test)]
pub(crate) const fn rung(bell: u32) -> u32 {
    bell.wrapping_add(ONE_RING)
}

/// Whether the bell was rung between two values.
pub(crate) const fn is_rung(before: u32, now: u32) -> bool {
    before / ONE_RING != now / ONE_RING
}

/// How often the bell was rung, modulo 65,536.
pub(crate) fn rings(bell: &AtomicU32) -> u32 {
    bell.load(Ordering::SeqCst) / ONE_RING
}

#[cfg(all(test, not(loom)))]
thread_local! {
    /// What a test does right before this thread's next announcement.
    pub(crate) static BEFORE_NEXT: std::cell::Cell<Option<Box<dyn FnOnce()>>> = const { std::cell::Cell::new(None) };
}

/// That a request is about to sleep on a bell.
///
/// Its owner looks at the lock once more before it sleeps.
pub(crate) struct Announced<'b> {
    bell: &'b AtomicU32,
    seen: u32,
}

impl<'b> Announced<'b> {
    pub(crate) fn new(bell: &'b AtomicU32) -> Self {
        #[cfg(all(test, not(loom)))]
        if let Some(change) = BEFORE_NEXT.take() {
            change();
        }
        // Pairs with: the load of a ringer.
        Self { bell, seen: announced(bell.fetch_add(1, Ordering::SeqCst)) }
    }

    /// The bell, and the value to sleep on.
    ///
    /// Other sleepers that come and go are no reason to wake up.
    pub(crate) fn wait(&self) -> futex::Wait<'b> {
        let now = self.bell.load(Ordering::SeqCst);
        (self.bell, if is_rung(self.seen, now) { self.seen } else { now })
    }

    pub(crate) fn sleep(self, timeout: Duration) {
        let (bell, value) = self.wait();
        futex::wait(bell, value, Some(timeout));
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.bell.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Wakes those that sleep, to look again.
///
/// The caller has changed the lock before.
pub(crate) fn ring(bell: &AtomicU32) {
    // Pairs with: the announcement, before the sleeper's last look.
    if has_sleeper(bell.load(Ordering::SeqCst)) {
        add_ring(bell);
        futex::wake_all(bell);
    }
}

/// Counts a ring; the sleepers stay in the count.
fn add_ring(bell: &AtomicU32) {
    bell.fetch_add(ONE_RING, Ordering::SeqCst);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Instant;

    /// Whether the thread sleeps in a call into the kernel.
    fn is_asleep(thread: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
    }

    #[test]
    fn ring_after_a_killed_ringer_wakes() {
        let (bell, thread) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let sleeper = std::thread::spawn({
            let (bell, thread) = (bell.clone(), thread.clone());
            move || {
                let announced = Announced::new(&bell);
                // SAFETY: takes nothing and cannot fail.
                thread.store(unsafe { libc::gettid() } as u32, Ordering::SeqCst);
                announced.sleep(Duration::from_secs(3600));
            }
        });
        let end = Instant::now() + Duration::from_secs(20);
        while thread.load(Ordering::SeqCst) == 0 || !is_asleep(thread.load(Ordering::SeqCst)) {
            std::thread::yield_now();
        }
        // A ringer that is killed before it wakes.
        add_ring(&bell);
        while !sleeper.is_finished() {
            assert!(Instant::now() < end, "none wakes it");
            ring(&bell);
            std::thread::yield_now();
        }
        sleeper.join().expect("no panic");
        assert!(!has_sleeper(bell.load(Ordering::SeqCst)));
    }

    #[test]
    fn ring_without_sleeper_leaves_the_bell() {
        let bell = AtomicU32::new(4 * ONE_RING);
        ring(&bell);
        assert_eq!(rings(&bell), 4);
        let announced = Announced::new(&bell);
        ring(&bell);
        assert_eq!(rings(&bell), 5);
        drop(announced);
        ring(&bell);
        assert_eq!(bell.load(Ordering::Relaxed), 5 * ONE_RING);
    }
}
