//! What the locks protect, and thereby the witness: numbers that only exclusive holders change, one after the other, and
//! that every holder finds in step. The atomics are relaxed, so that nothing but the locks keeps them so.

use crate::tally::Tally;
use keylatch::{KeyRef, LockGuard, ManagerRef, Mode};
use std::sync::atomic::{AtomicU64, Ordering};

const HOT: u32 = 8;
const ALL: u32 = 5000;

#[derive(Debug)]
pub(crate) struct Ledger {
    pages: Vec<Page>,
}

#[derive(Debug)]
struct Page {
    name: Vec<u8>,
    first: AtomicU64,
    second: AtomicU64,
    /// The greatest fence so far.
    fence: AtomicU64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let page = |number: u32| {
            // Some keys are longer than an entry of the table.
            let length = if number.is_multiple_of(5) { 200 } else { 0 };
            let name = format!("{number}{}", "-".repeat(length)).into_bytes();
            Page { name, first: AtomicU64::new(0), second: AtomicU64::new(0), fence: AtomicU64::new(0) }
        };
        Self { pages: (0..ALL).map(page).collect() }
    }

    /// Returns a page, mostly one of the few that everybody wants.
    pub(crate) fn pick(&self, random: &mut crate::random::Random) -> usize {
        (if random.one_in(4) { random.below(ALL) } else { random.below(HOT) }) as usize
    }

    pub(crate) fn key(&self, page: usize) -> KeyRef<'_> {
        KeyRef::new("ledger", &self.pages[page].name)
    }

    /// Looks at a page, and writes it if the guard allows.
    pub(crate) fn visit<M: ManagerRef>(&self, page: usize, guard: &LockGuard<M>, tally: &Tally) {
        let page = &self.pages[page];
        if guard.mode() == Mode::Exclusive {
            let fence = guard.fence();
            let before = page.fence.load(Ordering::Relaxed);
            // One hold may come here several times.
            tally.expect(fence >= before, || format!("fence {fence} after {before}"));
            page.fence.store(fence, Ordering::Relaxed);
        }
        self.visit_bare(page, guard.mode(), tally);
    }

    /// The same for a holder without a guard.
    pub(crate) fn visit_as(&self, page: usize, mode: Mode, tally: &Tally) {
        self.visit_bare(&self.pages[page], mode, tally);
    }

    fn visit_bare(&self, page: &Page, mode: Mode, tally: &Tally) {
        let first = page.first.load(Ordering::Relaxed);
        if mode == Mode::Exclusive {
            page.first.store(first + 1, Ordering::Relaxed);
            for _ in 0..10 {
                std::hint::spin_loop();
            }
            // Not an addition in one step: a second writer would be lost.
            page.second.store(page.second.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        let (first, second) = (page.first.load(Ordering::Relaxed), page.second.load(Ordering::Relaxed));
        tally.expect(first == second, || format!("{mode} holder met another: {first} is not {second}"));
    }
}
