//! A barrier in two halves, of which the frequent one costs nothing where the other can do its part.
//!
//! Each side stores and then loads what the other stores; one of them has to see the other. Fences of the processor on both
//! sides do that. On Linux the rare side can have the kernel put one on each processor that runs a thread of this process,
//! and the frequent side needs the order of the compiler alone.

use super::atomic::{Ordering, fence};

/// How long the rare side waits where the kernel refuses the barrier later on.
///
/// A processor keeps a store to itself for less than a microsecond, and a thread that leaves it has no store kept.
#[cfg(all(target_os = "linux", not(loom), not(tsan)))]
const WITHOUT_BARRIER: std::time::Duration = std::time::Duration::from_millis(2);

/// How the two sides of one protocol do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// The rare side does it for both.
    #[cfg_attr(any(loom, tsan, not(target_os = "linux")), allow(dead_code, reason = "there is no such barrier"))]
    Asymmetric,
    /// Each side has a fence.
    Fences,
}

impl Barrier {
    /// Returns the best that the kernel gives this process.
    pub(crate) fn best() -> Self {
        #[cfg(all(target_os = "linux", not(loom), not(tsan)))]
        if membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) {
            return Self::Asymmetric;
        }
        Self::Fences
    }

    /// The frequent side, between its store and its load.
    #[inline(always)]
    pub(crate) fn light(self) {
        match self {
            #[cfg(not(loom))]
            Self::Asymmetric => std::sync::atomic::compiler_fence(Ordering::SeqCst),
            // Pairs with: the fence of the other side.
            _ => fence(Ordering::SeqCst),
        }
    }

    /// The rare side, between its store and its load.
    ///
    /// Returns `false` if the kernel refuses by now. Then it has waited instead, for far longer than the barrier takes.
    #[cold]
    pub(crate) fn heavy(self) -> bool {
        // Pairs with: the fence of the other side.
        fence(Ordering::SeqCst);
        #[cfg(all(target_os = "linux", not(loom), not(tsan)))]
        if self == Self::Asymmetric {
            // Refused where the program has forbidden the call since, or the kernel has no memory for it.
            if !membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED) {
                std::thread::sleep(WITHOUT_BARRIER);
                return false;
            }
        }
        true
    }
}

#[cfg(all(target_os = "linux", not(loom), not(tsan)))]
fn membarrier(command: i32) -> bool {
    // SAFETY: the call takes three numbers and touches no memory of the caller.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, AtomicU64};

    /// Never do both sides miss the other.
    fn one_side_sees_the_other(barrier: Barrier) {
        const ROUNDS: u64 = 2_000;
        // Round numbers that a side has stored, what the frequent side has seen, and how far it is.
        let (frequent, rare) = (AtomicU64::new(0), AtomicU64::new(0));
        let (seen, round) = (AtomicU64::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=ROUNDS {
                    while u64::from(round.load(Ordering::Acquire)) < number {
                        std::thread::yield_now();
                    }
                    frequent.store(number, Ordering::Relaxed);
                    barrier.light();
                    let looked = rare.load(Ordering::Relaxed);
                    seen.store(number << 1 | u64::from(looked == number), Ordering::Release);
                }
            });
            for number in 1..=ROUNDS {
                round.store(number as u32, Ordering::Release);
                for _ in 0..number % 64 {
                    std::hint::spin_loop();
                }
                rare.store(number, Ordering::Relaxed);
                barrier.heavy();
                let is_seen_here = frequent.load(Ordering::Relaxed) == number;
                let answer = loop {
                    let answer = seen.load(Ordering::Acquire);
                    if answer >> 1 == number {
                        break answer;
                    }
                    std::thread::yield_now();
                };
                assert!(is_seen_here || answer & 1 == 1, "round {number}: both have missed the other");
            }
        });
    }

    #[test]
    fn barrier_halves_one_sees_other() {
        one_side_sees_the_other(Barrier::best());
        one_side_sees_the_other(Barrier::Fences);
    }
}
