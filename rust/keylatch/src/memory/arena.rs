//! Hands out the values of a region by index and takes them back, page by page.
//!
//! Low pages are preferred, so that what stays after a flood is packed together; pages that became empty are kept up to
//! a bound and given back to the system beyond it. The memory of a value is never anything but such a value.
//!
//! **What threads keep.** Threads keep unused values to themselves. Once a limit that callers rely on is reached, values are
//! scarce: these do not count, and are not used any more. A thread takes one from its cache and then looks whether values
//! are scarce; the thread that finds the limit reached says so, and then counts what caches have. So a value is counted as
//! kept, or the thread that takes it sees that it must not.

use super::region::{Region, Vacant};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{Barrier, Mutex};
use std::ops::ControlFlow;

/// The index that names nothing. The arena never hands it out.
pub(crate) const NONE: u32 = 0;

/// Empty pages beyond this many (of 4 KiB) are given back, down to half of it.
const EMPTY_PAGES_KEPT: u32 = 512;

const PAGE_BYTES: usize = 4096;

/// Values beyond a limit, because threads keep as many without using them.
const MOST_KEPT: u32 = if cfg!(loom) { 4 } else { 1 << 16 };

/// A value that an [`Arena`] keeps.
///
/// # Safety
/// As [`Vacant`]; nothing more.
pub(crate) unsafe trait Pooled: Vacant {
    /// Whether callers rely on the arena's limit: then idle threads may not keep any.
    ///
    /// What idle threads keep must not be missing.
    const IS_LIMITED: bool = false;

    /// Returns a field that is free to link unused values.
    fn link(&self) -> &AtomicU32;

    /// Returns what must survive when the memory is given back, e.g. a generation.
    ///
    /// The arena keeps the greatest of a page. a generation; the arena keeps the greatest of a page.
    fn mark(&self) -> u64 {
        0
    }

    /// Called before the value's first use since it was vacant, with the page's mark.
    fn revive(&self, _mark: u64) {}
}

/// Values of one kind. [`Cache`] is what a thread keeps of them to itself.
#[derive(Debug)]
pub(crate) struct Arena<T: Pooled> {
    region: Region<T>,
    pages: Mutex<Pages>,
    batch: u32,
    /// Values come from the pages alone, and go back there: the limit is near.
    ///
    /// Only where it is relied on.
    scarce: AtomicBool,
    /// Between one that takes from its cache, and one that begins scarcity.
    barrier: Barrier,
}

#[derive(Debug, Default)]
struct Pages {
    /// Pages in use or used before, by number.
    pages: Vec<Page>,
    /// Pages with a free value, one bit a page.
    with_free: Vec<u64>,
    /// No page below this one has a free value.
    lowest: usize,
    /// How many of `pages` are all free and still have their memory.
    empty: u32,
    /// Values that are handed out, those in the caches of threads included.
    out: u32,
    /// How many may be, but for those that are kept.
    most: u32,
    /// While values are scarce: how many threads kept at the last count, and still do.
    ///
    /// They keep them to themselves.
    kept: u32,
    mark: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Page {
    first_free: u32,
    free: u32,
    /// The memory was given back; the free list is gone with it.
    vacant: bool,
    mark: u64,
}

impl<T: Pooled> Arena<T> {
    const PER_PAGE: u32 = {
        let fit = if cfg!(loom) { 4 } else { PAGE_BYTES / size_of::<T>() };
        assert!(cfg!(loom) || PAGE_BYTES.is_multiple_of(size_of::<T>()), "a page holds whole values");
        fit as u32
    };

    /// Room for at least `capacity` values; all begin with `mark`.
    pub(crate) fn reserve(capacity: u32, mark: u64) -> std::io::Result<Self> {
        // For as many as threads may keep while the limit is reached.
        let slack = if T::IS_LIMITED { capacity.min(MOST_KEPT) } else { 0 };
        // One more for index 0, and whole pages.
        let values = capacity.saturating_add(slack).saturating_add(1);
        let values = values.checked_next_multiple_of(Self::PER_PAGE).unwrap_or(u32::MAX - 4095);
        let region = Region::reserve(values.min(u32::MAX - 4095))?;
        // Small arenas are handed out singly, so that their limit is felt exactly.
        let batch = (capacity / 1024).clamp(1, 32);
        let most = if T::IS_LIMITED { capacity } else { region.len() - 1 };
        let pages = Pages { mark, most, ..Pages::default() };
        let barrier = if T::IS_LIMITED { Barrier::best() } else { Barrier::Fences };
        Ok(Self { region, pages: Mutex::new(pages), batch, scarce: AtomicBool::new(false), barrier })
    }

    /// Returns the value at an index that this arena handed out at some time.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> &T {
        self.region.get(index)
    }

    /// Every index is below this.
    pub(crate) fn len(&self) -> u32 {
        self.region.len()
    }

    /// Returns whether the arena could have handed this index out.
    #[inline]
    pub(crate) fn could_be(&self, index: u32) -> bool {
        index != NONE && index < self.region.len()
    }

    /// Returns bytes of memory in use, kept free pages included.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let pages = self.pages.lock();
        let resident = pages.pages.iter().filter(|page| !page.vacant).count();
        (resident * PAGE_BYTES) as u64
    }

    /// Calls `visit` with every index that may be in use, in at most that many pages.
    #[inline]
    pub(crate) fn for_each(&self, most_pages: usize, mut visit: impl FnMut(u32, &T)) {
        self.for_each_until(most_pages, |index, value| {
            visit(index, value);
            ControlFlow::Continue(())
        });
    }

    /// As `for_each`, until `visit` says that it is enough.
    #[inline]
    pub(crate) fn for_each_until(&self, most_pages: usize, mut visit: impl FnMut(u32, &T) -> ControlFlow<()>) {
        let used: Vec<u32> = {
            let pages = self.pages.lock();
            let busy = |page: &Page| !page.vacant && page.free < Self::PER_PAGE;
            (0u32..)
                .zip(&pages.pages)
                .filter(|(_, page)| busy(page))
                .map(|(number, _)| number)
                .take(most_pages)
                .collect()
        };
        for number in used {
            for index in number * Self::PER_PAGE..(number + 1) * Self::PER_PAGE {
                if index == NONE {
                    continue;
                }
                crate::sync::step();
                if visit(index, self.get(index)).is_break() {
                    return;
                }
            }
        }
    }

    /// A value of the thread's own cache, or of the arena; [`NONE`] when all are out.
    #[inline]
    pub(crate) fn take(&self, cache: &Cache) -> u32 {
        let own = cache.pop_any(&self.region);
        if T::IS_LIMITED {
            // Pairs with: `begin_scarcity`.
            self.barrier.light();
            if self.scarce.load(Ordering::Relaxed) {
                return self.take_scarce(cache, own);
            }
        }
        if own == NONE { self.take_slow(cache) } else { own }
    }

    #[cold]
    #[inline(never)]
    fn take_slow(&self, cache: &Cache) -> u32 {
        let mut pages = self.pages.lock();
        for _ in 0..self.batch {
            if pages.out >= pages.most {
                break;
            }
            let Some(index) = pages.take(&self.region, Self::PER_PAGE) else { break };
            cache.push(self.get(index), index);
        }
        cache.pop(&self.region)
    }

    /// Has values taken one by one, so that the limit is exact.
    ///
    /// `kept` counts those that threads keep, which are left out of account. Called when all are out.
    pub(crate) fn begin_scarcity(&self, kept: impl FnOnce() -> u32) {
        // Under the mutex: what is scarce is taken from the caches of threads only here.
        let mut pages = self.pages.lock();
        if !self.scarce.swap(true, Ordering::Relaxed) {
            // Pairs with: `take`.
            self.barrier.heavy();
        }
        pages.kept = kept().min(MOST_KEPT);
    }

    /// Takes one from the pages.
    ///
    /// Gives back `own` before, and all else that the thread keeps.
    #[cold]
    #[inline(never)]
    fn take_scarce(&self, cache: &Cache, mut own: u32) -> u32 {
        let mut pages = self.pages.lock();
        // They count among the others again.
        while own != NONE {
            pages.put(&self.region, Self::PER_PAGE, own);
            pages.kept = pages.kept.saturating_sub(1);
            own = cache.pop_any(&self.region);
        }
        if pages.out - pages.kept.min(pages.out) >= pages.most {
            return NONE;
        }
        pages.take(&self.region, Self::PER_PAGE).unwrap_or(NONE)
    }

    #[cold]
    #[inline(never)]
    fn put_scarce(&self, index: u32) {
        let mut pages = self.pages.lock();
        pages.put(&self.region, Self::PER_PAGE, index);
        // Those in caches may be used from now on.
        if pages.out < pages.most / 2 {
            pages.kept = 0;
            self.scarce.store(false, Ordering::Relaxed);
        }
    }

    /// Gives a value back.
    #[inline]
    pub(crate) fn put(&self, cache: &Cache, index: u32) {
        if T::IS_LIMITED && self.scarce.load(Ordering::Relaxed) {
            return self.put_scarce(index);
        }
        if !cache.put_spare(index) {
            self.put_in_list(cache, index);
        }
    }

    /// As `put`, where there is a spare one at hand already.
    #[inline]
    pub(crate) fn put_in_list(&self, cache: &Cache, index: u32) {
        cache.push(self.get(index), index);
        if cache.len.load(Ordering::Relaxed) >= 2 * self.batch {
            self.put_slow(cache);
        }
    }

    #[cold]
    #[inline(never)]
    fn put_slow(&self, cache: &Cache) {
        let mut pages = self.pages.lock();
        for _ in 0..self.batch {
            let index = cache.pop(&self.region);
            pages.put(&self.region, Self::PER_PAGE, index);
        }
        if pages.empty > EMPTY_PAGES_KEPT {
            pages.give_back(&self.region, Self::PER_PAGE, EMPTY_PAGES_KEPT / 2);
        }
    }
}

impl Pages {
    fn take<T: Pooled>(&mut self, region: &Region<T>, per_page: u32) -> Option<u32> {
        let number = match self.lowest_with_free() {
            Some(number) => number,
            None => self.add_page(region, per_page)?,
        };
        if self.pages[number].vacant {
            self.make_resident(region, per_page, number);
        }
        let page = &mut self.pages[number];
        let index = page.first_free;
        page.first_free = region.get(index).link().load(Ordering::Relaxed);
        if page.free == page_capacity(number, per_page) {
            self.empty -= 1;
        }
        let page = &mut self.pages[number];
        page.free -= 1;
        self.out += 1;
        if page.free == 0 {
            self.with_free[number / 64] &= !(1 << (number % 64));
        }
        Some(index)
    }

    fn put<T: Pooled>(&mut self, region: &Region<T>, per_page: u32, index: u32) {
        let number = (index / per_page) as usize;
        let page = &mut self.pages[number];
        region.get(index).link().store(page.first_free, Ordering::Relaxed);
        page.first_free = index;
        page.free += 1;
        self.out -= 1;
        if page.free == page_capacity(number, per_page) {
            self.empty += 1;
        }
        self.with_free[number / 64] |= 1 << (number % 64);
        self.lowest = self.lowest.min(number);
    }

    fn lowest_with_free(&mut self) -> Option<usize> {
        for block in self.lowest / 64..self.with_free.len() {
            let bits = self.with_free[block];
            if bits != 0 {
                self.lowest = block * 64 + bits.trailing_zeros() as usize;
                return Some(self.lowest);
            }
        }
        self.lowest = self.pages.len();
        None
    }

    fn add_page<T: Pooled>(&mut self, region: &Region<T>, per_page: u32) -> Option<usize> {
        let number = self.pages.len();
        if (number + 1) * per_page as usize > region.len() as usize {
            return None;
        }
        // Without memory for the books there is no page.
        self.pages.try_reserve(1).ok()?;
        self.with_free.try_reserve(1).ok()?;
        self.pages.push(Page {
            vacant: true,
            mark: self.mark,
            free: page_capacity(number, per_page),
            first_free: NONE,
        });
        if self.with_free.len() * 64 <= number {
            self.with_free.push(0);
        }
        self.with_free[number / 64] |= 1 << (number % 64);
        Some(number)
    }

    fn make_resident<T: Pooled>(&mut self, region: &Region<T>, per_page: u32, number: usize) {
        let page = &mut self.pages[number];
        let first = number as u32 * per_page;
        let mut first_free = NONE;
        for index in (first..first + per_page).rev() {
            if index == NONE {
                continue;
            }
            let value = region.get(index);
            value.revive(page.mark);
            value.link().store(first_free, Ordering::Relaxed);
            first_free = index;
        }
        page.first_free = first_free;
        page.vacant = false;
        self.empty += 1;
    }

    /// Gives empty pages back, the highest first, until `keep` are left.
    fn give_back<T: Pooled>(&mut self, region: &Region<T>, per_page: u32, keep: u32) {
        let mut run = 0..0;
        for number in (0..self.pages.len()).rev() {
            if self.empty <= keep {
                break;
            }
            let page = &mut self.pages[number];
            if page.vacant || page.free != page_capacity(number, per_page) {
                continue;
            }
            let first = number as u32 * per_page;
            let values = (first..first + per_page).filter(|index| *index != NONE);
            page.mark = values.map(|index| region.get(index).mark()).max().unwrap_or(page.mark).max(page.mark);
            page.vacant = true;
            self.empty -= 1;
            if first + per_page == run.start {
                run.start = first;
            } else {
                region.give_back(run.start, run.end - run.start);
                run = first..first + per_page;
            }
        }
        region.give_back(run.start, run.end - run.start);
    }
}

/// Values in a page; index 0 is never used.
fn page_capacity(number: usize, per_page: u32) -> u32 {
    per_page - u32::from(number == 0)
}

/// What one thread keeps of an arena: a value at hand, and a list of further ones.
///
/// Only its own thread changes it.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    /// Taken and put back by a thread with one thing at a time, without the list.
    spare: AtomicU32,
    first: AtomicU32,
    len: AtomicU32,
}

impl Cache {
    /// Returns how many it keeps; for others a hint.
    pub(crate) fn kept(&self) -> u32 {
        u32::from(self.spare.load(Ordering::Relaxed) != NONE) + self.len.load(Ordering::Relaxed)
    }

    /// Takes the value at hand, if there is one.
    #[inline(always)]
    pub(crate) fn take_spare(&self) -> Option<u32> {
        let spare = self.spare.load(Ordering::Relaxed);
        if spare == NONE {
            return None;
        }
        self.spare.store(NONE, Ordering::Relaxed);
        Some(spare)
    }

    /// Keeps a value at hand, if there is none.
    #[inline(always)]
    pub(crate) fn put_spare(&self, index: u32) -> bool {
        let is_first = self.spare.load(Ordering::Relaxed) == NONE;
        if is_first {
            self.spare.store(index, Ordering::Relaxed);
        }
        is_first
    }

    /// Takes the value at hand or else one of the list; [`NONE`] if it keeps none.
    #[inline]
    fn pop_any<T: Pooled>(&self, region: &Region<T>) -> u32 {
        self.take_spare().unwrap_or_else(|| self.pop(region))
    }

    #[inline]
    fn push<T: Pooled>(&self, value: &T, index: u32) {
        value.link().store(self.first.load(Ordering::Relaxed), Ordering::Relaxed);
        self.first.store(index, Ordering::Relaxed);
        self.len.store(self.len.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    #[inline]
    fn pop<T: Pooled>(&self, region: &Region<T>) -> u32 {
        let first = self.first.load(Ordering::Relaxed);
        if first != NONE {
            self.first.store(region.get(first).link().load(Ordering::Relaxed), Ordering::Relaxed);
            self.len.store(self.len.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        }
        first
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::atomic::AtomicU64;
    use std::collections::HashSet;

    #[derive(Debug)]
    #[repr(C)]
    struct Thing {
        link: AtomicU32,
        pad: AtomicU32,
        mark: AtomicU64,
    }

    // SAFETY: two integers.
    unsafe impl Vacant for Thing {}
    // SAFETY: as above.
    unsafe impl Pooled for Thing {
        fn link(&self) -> &AtomicU32 {
            &self.link
        }
        fn mark(&self) -> u64 {
            self.mark.load(Ordering::Relaxed)
        }
        fn revive(&self, mark: u64) {
            self.mark.store(mark, Ordering::Relaxed);
        }
    }

    #[test]
    fn indices_are_unique_up_to_the_limit() {
        let arena = Arena::<Thing>::reserve(1000, 5).unwrap();
        let cache = Cache::default();
        let mut seen = HashSet::new();
        loop {
            let index = arena.take(&cache);
            if index == NONE {
                break;
            }
            assert!(seen.insert(index) && arena.could_be(index));
            assert_eq!(arena.get(index).mark(), 5);
        }
        assert!((1000..1000 + 4096 / 16).contains(&seen.len()), "{}", seen.len());
        for index in &seen {
            arena.put(&cache, *index);
        }
        let again: HashSet<u32> = std::iter::from_fn(|| Some(arena.take(&cache)).filter(|i| *i != NONE)).collect();
        assert_eq!(seen, again);
    }

    #[test]
    fn flood_returns_memory_and_keeps_marks() {
        let arena = Arena::<Thing>::reserve(1 << 20, 0).unwrap();
        let cache = Cache::default();
        let all: Vec<u32> = (0..1 << 20).map(|_| arena.take(&cache)).collect();
        let flooded = arena.resident_bytes();
        assert!(flooded >= 16 << 20);
        for index in &all {
            arena.get(*index).mark.store(u64::from(*index), Ordering::Relaxed);
            arena.put(&cache, *index);
        }
        let left = arena.resident_bytes();
        assert!(left <= u64::from(EMPTY_PAGES_KEPT + 2) * 4096, "{left} of {flooded} bytes left");
        // A page that comes back starts at or above everything it ever reached.
        let back: Vec<u32> = (0..1 << 20).map(|_| arena.take(&cache)).collect();
        let reached: HashSet<u32> = all.into_iter().collect();
        let back = back.into_iter().filter(|index| reached.contains(index));
        let lost: Vec<u32> = back.filter(|index| arena.get(*index).mark() < u64::from(*index)).collect();
        assert_eq!(lost, Vec::<u32>::new());
    }
}
