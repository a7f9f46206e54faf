//! One `T` for each thread that uses an object, found without a lock. A thread that ends leaves its `T` to a later one.
//!
//! Each thread has a small number. The destructor of a `pthread` key gives the number back. It runs after the destructors
//! of thread-local values, so a guard that is kept in one of them, or made by one, is released like any other.
//!
//! Each thread caches the `T` that it used last, with the number of the object that it belongs to. Numbers of objects are
//! never used again, so a match proves that the object still exists. It also proves that the process is the one that made
//! the object, because a forked child begins with an empty cache.

#[cfg(not(loom))]
pub(crate) use numbers::keep_nothing_at_hand;
#[cfg(not(loom))]
pub(crate) use real::PerThread;

#[cfg(loom)]
pub(crate) use modelled::PerThread;

#[cfg(not(loom))]
mod numbers {
    //! The numbers of threads, from 1.

    use crate::sync::OnceLock;
    use crate::sync::number_pool::NumberPool;
    use std::cell::Cell;
    use std::ptr::NonNull;

    /// Threads that there can be at a time.
    pub(super) const MOST: u32 = 1 << 18;
    const WORDS: usize = (MOST / u64::BITS) as usize;

    static TAKEN: NumberPool<WORDS> = NumberPool::new();

    /// Rows of places: each is twice as long as the one before.
    pub(super) const ROWS: usize = MOST.ilog2() as usize + 1;
    /// The row of threads that have no number yet: there is nothing in it.
    pub(super) const NO_ROW: usize = ROWS;

    /// Where the values of a thread are. Computed once, because every lock needs it.
    struct Seat {
        row: Cell<usize>,
        position: Cell<usize>,
        /// The object whose value is at hand; 0 for none.
        object: Cell<u64>,
        value: Cell<NonNull<()>>,
    }

    thread_local! {
        /// Without a destructor, so that it can be read as long as the thread runs.
        static SEAT: Seat = const {
            let (row, position) = (Cell::new(NO_ROW), Cell::new(0));
            Seat { row, position, object: Cell::new(0), value: Cell::new(NonNull::dangling()) }
        };
    }

    /// Returns row and position of the calling thread; `NO_ROW` without a number.
    #[inline(always)]
    pub(super) fn current() -> (usize, usize) {
        SEAT.with(|seat| (seat.row.get(), seat.position.get()))
    }

    /// Returns the value at hand, if it is of this object.
    #[inline(always)]
    pub(super) fn at_hand(object: u64) -> Option<NonNull<()>> {
        SEAT.with(|seat| (seat.object.get() == object).then(|| seat.value.get()))
    }

    /// Keeps a value of an object at hand. The thread has a number.
    pub(super) fn keep_at_hand(object: u64, value: NonNull<()>) {
        SEAT.with(|seat| {
            seat.value.set(value);
            seat.object.set(object);
        });
    }

    /// Has the calling thread look its value up the next time.
    pub(crate) fn keep_nothing_at_hand() {
        SEAT.with(|seat| seat.object.set(0));
    }

    fn sit(row: usize, position: usize) {
        SEAT.with(|seat| {
            seat.row.set(row);
            seat.position.set(position);
        });
        // What is at hand belongs to the number that the thread had.
        keep_nothing_at_hand();
    }

    /// Row and position of the calling thread's number, which it has from now on.
    pub(super) fn current_or_new() -> (usize, usize) {
        if current().0 == NO_ROW {
            let number = take();
            let (row, position) = row_and_position(number);
            sit(row, position);
            give_back_at_the_end(number);
        }
        current()
    }

    pub(super) fn row_and_position(number: u32) -> (usize, usize) {
        let row = number.ilog2();
        (row as usize, (number - (1 << row)) as usize)
    }

    fn take() -> u32 {
        TAKEN.take().unwrap_or_else(|| panic!("more than {MOST} threads use lock managers at a time"))
    }

    extern "C" fn thread_ends(number: *mut libc::c_void) {
        // A destructor that runs after this takes another number, which is given back in another round of destructors.
        sit(NO_ROW, 0);
        // It was made from 32 bits.
        TAKEN.give_back(number.addr() as u32);
    }

    fn give_back_at_the_end(number: u32) {
        static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();
        let key = KEY.get_or_init(|| {
            let mut key = 0;
            // SAFETY: `key` is written here and nowhere else, and the destructor is a function that stays.
            let failed = unsafe { libc::pthread_key_create(&raw mut key, Some(thread_ends)) };
            (failed == 0).then_some(key)
        });
        // Without a key, or without memory for a value, the number stays taken: a few kibibytes are lost.
        if let Some(key) = *key {
            let value = std::ptr::without_provenance(number as usize);
            // SAFETY: the key was made above and is never deleted.
            let _ = unsafe { libc::pthread_setspecific(key, value) };
        }
    }
}

#[cfg(not(loom))]
mod real {
    use super::numbers::{self, NO_ROW, ROWS};
    use crate::sync::fork::forks;
    use crossbeam_utils::CachePadded;
    use std::cell::UnsafeCell;
    use std::fmt;
    use std::mem::MaybeUninit;
    use std::ptr::NonNull;
    use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

    /// A power of two, so that any number becomes an index without a branch.
    ///
    /// No row is made from `NO_ROW` on.
    const ROOM: usize = ROWS.next_power_of_two();
    const _: () = assert!(NO_ROW < ROOM);

    /// See the module.
    ///
    /// Padded, because the values of several threads lie side by side, and each thread writes to its own all the time.
    pub(crate) struct PerThread<T> {
        /// Tells this object from all others that there ever were; never 0.
        object: u64,
        /// Forks when it was made.
        forks: u32,
        /// Made when a thread needs them.
        rows: [AtomicPtr<CachePadded<Place<T>>>; ROOM],
    }

    struct Place<T> {
        /// Set once the value is there; it stays until the end of the whole.
        present: AtomicBool,
        /// Written once before `present` is set, by the thread that has the number.
        value: UnsafeCell<MaybeUninit<T>>,
    }

    // SAFETY: it gives out shared references only, which `T` allows, and its values may be dropped on another thread than
    // made them, which `T` allows too.
    unsafe impl<T: Send + Sync> Send for PerThread<T> {}
    // SAFETY: as above; a place is written by one thread alone, the one that has its number.
    unsafe impl<T: Send + Sync> Sync for PerThread<T> {}

    impl<T: Send + Sync> PerThread<T> {
        pub(crate) fn new() -> Self {
            static OBJECTS: AtomicU64 = AtomicU64::new(1);
            let object = OBJECTS.fetch_add(1, Ordering::Relaxed);
            Self { object, forks: forks(), rows: [const { AtomicPtr::new(std::ptr::null_mut()) }; ROOM] }
        }

        /// Returns the calling thread's `T` if it is the one that the thread used last.
        ///
        /// Never in a forked child.
        #[inline(always)]
        pub(crate) fn at_hand(&self) -> Option<&T> {
            // SAFETY: kept by `get_or_slow` for this object, whose values stay until its end.
            numbers::at_hand(self.object).map(|value| unsafe { value.cast().as_ref() })
        }

        /// Returns the calling thread's `T`, made on its first use.
        #[inline(always)]
        pub(crate) fn get_or(&self, make: impl FnOnce() -> T) -> &T {
            match self.at_hand() {
                Some(value) => value,
                None => self.get_or_slow(make),
            }
        }

        #[cold]
        #[inline(never)]
        fn get_or_slow(&self, make: impl FnOnce() -> T) -> &T {
            let value = match self.look_up() {
                Some(value) => value,
                None => self.insert_slow(make),
            };
            if forks() == self.forks {
                numbers::keep_at_hand(self.object, NonNull::from(value).cast());
            }
            value
        }

        fn look_up(&self) -> Option<&T> {
            let (row, position) = numbers::current();
            // Pairs with: the compare-and-swap in `row`.
            let places = self.rows[row % ROOM].load(Ordering::Acquire);
            if places.is_null() {
                return None;
            }
            // SAFETY: a row has as many places as there are numbers of its length, and stays where it is.
            let place = unsafe { &*places.add(position) };
            // What an earlier thread of this number wrote was seen when the number was taken.
            // SAFETY: present, so it was written, and is not written again.
            place.present.load(Ordering::Relaxed).then(|| unsafe { (*place.value.get()).assume_init_ref() })
        }

        /// Not inlined, because every caller would reserve aligned stack for the value.
        #[cold]
        #[inline(never)]
        fn insert_slow(&self, make: impl FnOnce() -> T) -> &T {
            let (row, position) = numbers::current_or_new();
            let place = &self.row(row)[position];
            if !place.present.load(Ordering::Relaxed) {
                let value = make();
                // SAFETY: only the thread with this number writes here, once: `present` is not set yet.
                unsafe { (*place.value.get()).write(value) };
                place.present.store(true, Ordering::Release);
            }
            // SAFETY: it is present.
            unsafe { (*place.value.get()).assume_init_ref() }
        }

        /// Returns a row, made if it is not there.
        fn row(&self, row: usize) -> &[CachePadded<Place<T>>] {
            let len = 1 << row;
            let mut places = self.rows[row].load(Ordering::Acquire);
            if places.is_null() {
                let vacant =
                    || Place { present: AtomicBool::new(false), value: UnsafeCell::new(MaybeUninit::uninit()) };
                let fresh: Box<[CachePadded<Place<T>>]> = (0..len).map(|_| CachePadded::new(vacant())).collect();
                let fresh = Box::into_raw(fresh).cast();
                let there = std::ptr::null_mut();
                match self.rows[row].compare_exchange(there, fresh, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => places = fresh,
                    Err(others) => {
                        // SAFETY: made just now, with this length, and not published.
                        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(fresh, len)) });
                        places = others;
                    }
                }
            }
            // SAFETY: each row is made with this length, and stays until the whole is dropped.
            unsafe { std::slice::from_raw_parts(places, len) }
        }

        /// Iterates over the values of all threads.
        pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
            let rows = (0..ROWS).filter(|row| !self.rows[*row].load(Ordering::Acquire).is_null());
            // Acquire pairs with the Release in `insert_slow`: the value is seen as it was made.
            let present = rows.flat_map(|row| self.row(row)).filter(|place| place.present.load(Ordering::Acquire));
            // SAFETY: present, so it was written, and is not written again.
            present.map(|place| unsafe { (*place.value.get()).assume_init_ref() })
        }
    }

    impl<T> Drop for PerThread<T> {
        fn drop(&mut self) {
            for (row, places) in self.rows.iter_mut().enumerate() {
                let places = *places.get_mut();
                if places.is_null() {
                    continue;
                }
                // SAFETY: made by `row` with this length; `&mut self` shows that there are no references to it.
                let mut places = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(places, 1 << row)) };
                for place in places.iter_mut().filter(|place| place.present.load(Ordering::Acquire)) {
                    // SAFETY: it was written, and is dropped nowhere else.
                    unsafe { place.value.get_mut().assume_init_drop() };
                }
            }
        }
    }

    impl<T: Send + Sync + fmt::Debug> fmt::Debug for PerThread<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_list().entries(self.iter()).finish()
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::sync::Arc;
        use std::sync::atomic::AtomicUsize;

        #[test]
        fn every_number_has_a_place_of_its_own() {
            let mut expected = (0..ROWS).flat_map(|row| (0..1usize << row).map(move |position| (row, position)));
            assert!((1..numbers::MOST).all(|number| Some(numbers::row_and_position(number)) == expected.next()));
            assert_eq!(numbers::row_and_position(numbers::MOST).0, ROWS - 1);
        }

        #[test]
        fn a_thread_finds_what_it_made_and_others_do_not() {
            let each = PerThread::new();
            std::thread::scope(|scope| {
                for thread in 0..20 {
                    let each = &each;
                    scope.spawn(move || {
                        let mine = std::ptr::from_ref(each.get_or(|| AtomicUsize::new(thread))).addr();
                        for _ in 0..100 {
                            let again = each.get_or(|| unreachable!());
                            assert_eq!(std::ptr::from_ref(again).addr(), mine);
                            again.fetch_add(1, Ordering::Relaxed);
                            std::thread::yield_now();
                        }
                    });
                }
            });
            // Some came after others had ended, and went on with theirs: each added its hundred in any case.
            let sum: usize = each.iter().map(|value| value.load(Ordering::Relaxed)).sum();
            assert!(each.iter().count() <= 20 && sum >= 20 * 100, "{each:?}");
        }

        #[test]
        fn numbers_of_ended_threads_are_reused() {
            let each = PerThread::new();
            for _ in 0..2000 {
                std::thread::scope(|scope| drop(scope.spawn(|| drop(each.get_or(Arc::<()>::default).clone()))));
            }
            // Others of this process run at the same time.
            assert!(each.iter().count() < 200, "{}", each.iter().count());
        }

        #[test]
        fn all_of_them_are_dropped_in_the_end() {
            let (each, alive) = (PerThread::new(), Arc::new(()));
            std::thread::scope(|scope| {
                for _ in 0..5 {
                    scope.spawn(|| drop(Arc::clone(each.get_or(|| Arc::clone(&alive)))));
                }
            });
            assert_eq!(Arc::strong_count(&alive), 1 + each.iter().count());
            drop(each);
            assert_eq!(Arc::strong_count(&alive), 1);
        }
    }
}

#[cfg(loom)]
mod modelled {
    //! Under the model checker all model threads share one thread of the operating system, so the real thing would give
    //! them one `T` to share. The list is behind a plain mutex: no model thread is switched while it is held. What is new
    //! is seen by others as it is in the real thing, which publishes each `T` by a mark of its own.

    use loom::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, PoisonError};

    #[derive(Debug)]
    pub(crate) struct PerThread<T> {
        made: Mutex<Vec<(loom::thread::ThreadId, Box<T>)>>,
        present: [AtomicBool; MOST_THREADS],
    }

    /// More than the model checker has.
    const MOST_THREADS: usize = 8;

    impl<T: Send + Sync> PerThread<T> {
        pub(crate) fn new() -> Self {
            Self { made: Mutex::new(Vec::new()), present: std::array::from_fn(|_| AtomicBool::new(false)) }
        }

        fn list(&self) -> Vec<(loom::thread::ThreadId, &T)> {
            let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: the boxes are never moved out or dropped before `self`, and only shared references are given out.
            made.iter().map(|(by, value)| (*by, unsafe { &*std::ptr::from_ref(&**value) })).collect()
        }

        pub(crate) fn at_hand(&self) -> Option<&T> {
            let me = loom::thread::current().id();
            self.list().into_iter().find(|(by, _)| *by == me).map(|(_, value)| value)
        }

        pub(crate) fn get_or(&self, make: impl FnOnce() -> T) -> &T {
            let me = loom::thread::current().id();
            if let Some(value) = self.at_hand() {
                return value;
            }
            let value = Box::new(make());
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.push((me, value));
            let position = made.len() - 1;
            drop(made);
            self.present[position].store(true, Ordering::Release);
            self.list()[position].1
        }

        pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
            let present = |position: &usize| self.present[*position].load(Ordering::Acquire);
            let positions = (0..self.list().len()).filter(present);
            positions.map(|position| self.list()[position].1).collect::<Vec<_>>().into_iter()
        }
    }
}
