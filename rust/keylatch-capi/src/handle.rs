//! Handles: what callers hold pointers to, such that a pointer that is used too late is an error and not a crash.
//!
//! The memory of a handle is never given back, and the contents of one are used again only after about as many others
//! as there are. So reading the word that says what a handle is, is sound for every pointer that was once a handle.
//!
//! Freeing has to know that no thread is inside a call on the handle. Counting callers would have all threads write to
//! one cache line with every lock. Instead each thread notes, in memory of its own, which handles it is inside of:
//!
//! ```text
//!   the caller                          who frees
//!   note the handle          (a)        mark the handle dead           (c)
//!   light barrier                       heavy barrier
//!   is the handle alive?     (b)        who has noted the handle?      (d)
//! ```
//!
//! Either (a) came before (d), and who frees waits for the caller to leave, or (c) came before (b), and the caller
//! sees a dead handle. The heavy barrier (`membarrier`) makes every running thread execute a full barrier, so that the light one costs the caller
//! nothing but the compiler's order. Where the system has no such call the light barrier is a full one.

use crate::refusal::Failure;
use crate::status::{KEYLATCH_EBUSY, KEYLATCH_EFORKED, KEYLATCH_EHANDLE, KEYLATCH_ENULL};
use std::cell::Cell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::{NonNull, null, null_mut};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, compiler_fence, fence};
use std::time::Duration;

/// What can be behind a handle.
pub(crate) trait Kind: Send + Sync + Sized + 'static {
    /// Says what a handle is.
    const MARK: &'static Mark;
    /// What it is called in messages.
    const NAME: &'static str;
}

/// What handles bear is its address.
///
/// Where a process has several copies of the library, such as one inside the program and one that a plug-in brought
/// along, each has its own, so that it does not take handles of another for its own.
#[derive(Debug)]
pub(crate) struct Mark {
    /// What has no size needs no address of its own.
    _somewhere: u8,
}

impl Mark {
    pub(crate) const fn new() -> Self {
        Self { _somewhere: 0 }
    }

    const fn at(&'static self) -> *mut Self {
        std::ptr::from_ref(self).cast_mut()
    }
}

const FREE: *mut Mark = null_mut();
/// Being made or being freed.
const TAKEN: &Mark = {
    static TAKEN: Mark = Mark::new();
    &TAKEN
};

/// | mark | body | who may change it |
/// |---|---|---|
/// | `FREE` | null | the thread that swaps in `TAKEN` |
/// | `TAKEN` | being put in or taken out | the one who swapped |
/// | a kind's | a box of that kind | the thread that swaps in `TAKEN`, to free it |
#[derive(Debug)]
#[repr(C, align(64))]
struct Handle {
    mark: AtomicPtr<Mark>,
    body: AtomicPtr<c_void>,
    /// How many forks lie between the first process of all and the one that made it.
    forks: AtomicU32,
}

const PER_CHUNK: usize = 256;
const MAX_CHUNKS: usize = 1 << 14;

type Chunk = [Handle; PER_CHUNK];

/// Chunks are added and never taken away.
static CHUNKS: [AtomicPtr<Chunk>; MAX_CHUNKS] = [const { AtomicPtr::new(null_mut()) }; MAX_CHUNKS];
static CHUNK_COUNT: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Makes a handle. Takes no mutex: a forked child could find it locked for ever.
pub(crate) fn create<T: Kind>(body: T) -> Result<NonNull<c_void>, Failure> {
    prepare();
    let body = Box::into_raw(Box::new(body)).cast::<c_void>();
    loop {
        let chunks = CHUNK_COUNT.load(Ordering::Acquire);
        // Half of all are free, so that one is found quickly and a freed one rests.
        if LIVE.load(Ordering::Relaxed) * 2 >= chunks * PER_CHUNK && !add_chunk(chunks) {
            // SAFETY: made from a box a few lines up.
            drop(unsafe { Box::from_raw(body.cast::<T>()) });
            return Err(Failure::new(KEYLATCH_EHANDLE, "there are as many handles as there can be; free some"));
        }
        let chunks = CHUNK_COUNT.load(Ordering::Acquire).max(1);
        let position = NEXT.fetch_add(1, Ordering::Relaxed) % (chunks * PER_CHUNK);
        let Some(chunk) = NonNull::new(CHUNKS[position / PER_CHUNK].load(Ordering::Acquire)) else { continue };
        // SAFETY: chunks are initialised before their pointer is stored and are never freed.
        let handle = unsafe { &chunk.as_ref()[position % PER_CHUNK] };
        if handle.mark.compare_exchange(FREE, TAKEN.at(), Ordering::Acquire, Ordering::Relaxed).is_err() {
            continue;
        }
        LIVE.fetch_add(1, Ordering::Relaxed);
        handle.body.store(body, Ordering::Relaxed);
        handle.forks.store(FORKS.load(Ordering::Relaxed), Ordering::Relaxed);
        // Release pairs with the Acquire in `enter`.
        handle.mark.store(T::MARK.at(), Ordering::Release);
        return Ok(NonNull::from(handle).cast());
    }
}

/// Adds the chunk of that number, unless another thread does; `false` if full.
#[cold]
fn add_chunk(number: usize) -> bool {
    if number >= MAX_CHUNKS {
        return false;
    }
    let handle = || Handle { mark: AtomicPtr::new(FREE), body: AtomicPtr::default(), forks: AtomicU32::new(0) };
    let chunk: Box<Chunk> = Box::new(std::array::from_fn(|_| handle()));
    let chunk = Box::into_raw(chunk);
    match CHUNKS[number].compare_exchange(null_mut(), chunk, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: ours still; it was not published.
        Err(_) => drop(unsafe { Box::from_raw(chunk) }),
        Ok(_) => {
            let _ = CHUNK_COUNT.compare_exchange(number, number + 1, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
    true
}

/// A handle that this thread is inside a call on: it is not freed meanwhile.
pub(crate) struct Entered<T: Kind> {
    body: NonNull<T>,
    calls: &'static Calls,
    /// Belongs to this thread.
    on_this_thread: PhantomData<*const T>,
}

impl<T: Kind> Deref for Entered<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the handle was alive after it was noted, so the thread that frees it waits until `self` is dropped.
        unsafe { self.body.as_ref() }
    }
}

impl<T: Kind> Drop for Entered<T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.calls.leave();
    }
}

fn not_one<T: Kind>() -> Failure {
    Failure::owned(KEYLATCH_EHANDLE, format!("the pointer is not that of a {} in use: it may have been freed", T::NAME))
}

#[inline(always)]
fn checked<T: Kind>(handle: *const c_void) -> Result<&'static Handle, Failure> {
    let address = handle.addr();
    if address == 0 || !address.is_multiple_of(align_of::<Handle>()) {
        return Err(not_a_pointer::<T>(address));
    }
    // SAFETY: the caller promises a pointer that some function of this library has given out for a handle, whether it
    // was freed or not, and the memory of handles stays for ever.
    Ok(unsafe { &*handle.cast::<Handle>() })
}

#[cold]
fn not_a_pointer<T: Kind>(address: usize) -> Failure {
    if address == 0 { Failure::owned(KEYLATCH_ENULL, format!("the {} is NULL", T::NAME)) } else { not_one::<T>() }
}

/// Goes inside.
#[inline(always)]
pub(crate) fn enter<T: Kind>(pointer: *const c_void) -> Result<Entered<T>, Failure> {
    let handle = checked::<T>(pointer)?;
    let calls = Calls::mine();
    calls.note(pointer)?;
    light_barrier();
    // Acquire pairs with the Release in `create`.
    if handle.mark.load(Ordering::Acquire) != T::MARK.at() {
        calls.leave();
        return Err(not_one::<T>());
    }
    let body = handle.body.load(Ordering::Relaxed).cast::<T>();
    // SAFETY: a handle that bears the mark of a kind has a body.
    Ok(Entered { body: unsafe { NonNull::new_unchecked(body) }, calls, on_this_thread: PhantomData })
}

/// As [`enter`], for a fast path: `None` if anything is wrong.
///
/// Also `None` for the thread's first call. The slow path finds out why.
#[inline(always)]
pub(crate) fn enter_fast<T: Kind>(pointer: *const c_void) -> Option<Inside<T>> {
    // SAFETY: never freed.
    Inside::enter(unsafe { MINE.get().as_ref() }?, pointer)
}

/// What a fast path is inside of, as [`Entered`].
///
/// A thread that keeps its `Calls` only while it is inside of something is never the outermost here, because outside it
/// has no `MINE`; so there is nothing to give back.
pub(crate) struct Inside<T: Kind> {
    body: NonNull<T>,
    calls: &'static Calls,
    depth: u32,
    on_this_thread: PhantomData<*const T>,
}

impl<T: Kind> Inside<T> {
    #[inline(always)]
    fn enter(calls: &'static Calls, pointer: *const c_void) -> Option<Self> {
        if pointer.is_null() || !pointer.addr().is_multiple_of(align_of::<Handle>()) {
            return None;
        }
        // SAFETY: the caller promises a pointer that some function of this library has given out for a handle, whether it
        // was freed or not, and the memory of handles stays for ever.
        let handle = unsafe { &*pointer.cast::<Handle>() };
        let depth = calls.depth.load(Ordering::Relaxed);
        calls.inside.get(depth as usize)?.store(pointer.cast_mut(), Ordering::Relaxed);
        calls.depth.store(depth + 1, Ordering::Relaxed);
        light_barrier();
        // Acquire pairs with the Release in `create`.
        if handle.mark.load(Ordering::Acquire) != T::MARK.at() {
            calls.leave_to(depth);
            return None;
        }
        let body = handle.body.load(Ordering::Relaxed).cast::<T>();
        // SAFETY: a handle that bears the mark of a kind has a body.
        Some(Self { body: unsafe { NonNull::new_unchecked(body) }, calls, depth, on_this_thread: PhantomData })
    }

    /// Goes inside of another one too, to come out of it first.
    #[inline(always)]
    pub(crate) fn and<U: Kind>(&self, pointer: *const c_void) -> Option<Inside<U>> {
        Inside::enter(self.calls, pointer)
    }
}

impl<T: Kind> Deref for Inside<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: as for `Entered`.
        unsafe { self.body.as_ref() }
    }
}

impl<T: Kind> Drop for Inside<T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.calls.leave_to(self.depth);
    }
}

/// As [`enter`], but not with a handle of the parent's in a forked child.
pub(crate) fn enter_here<T: Kind>(pointer: *const c_void) -> Result<Entered<T>, Failure> {
    let entered = enter(pointer)?;
    if checked::<T>(pointer)?.is_of_parent() {
        return Err(of_parent());
    }
    Ok(entered)
}

impl Handle {
    fn is_of_parent(&self) -> bool {
        self.forks.load(Ordering::Relaxed) != FORKS.load(Ordering::Relaxed)
    }
}

#[cold]
fn of_parent() -> Failure {
    Failure::new(KEYLATCH_EFORKED, "the handle is the parent process's; leave it alone in a forked child")
}

/// Ends a handle: from now on it is none, and returns what was behind it.
///
/// `first` has all who are inside come out; then it waits until they have.
pub(crate) fn end<T: Kind>(pointer: *const c_void, first: impl FnOnce(&T)) -> Result<T, Failure> {
    let handle = checked::<T>(pointer)?;
    if Calls::mine().is_inside(pointer) {
        let message = format!("this {} cannot be freed by a callback that runs inside a call on it", T::NAME);
        return Err(Failure::owned(KEYLATCH_EBUSY, message));
    }
    if handle.mark.load(Ordering::Acquire) != T::MARK.at() {
        return Err(not_one::<T>());
    }
    if handle.is_of_parent() {
        return Err(of_parent());
    }
    if handle.mark.compare_exchange(T::MARK.at(), TAKEN.at(), Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return Err(not_one::<T>());
    }
    // It stays where it is: a thread that saw the mark before it was swapped may be about to read the pointer.
    let body = handle.body.load(Ordering::Relaxed).cast::<T>();
    // SAFETY: made by `create` from a box of this kind, and ours since the mark was swapped; those who are still inside
    // share it.
    first(unsafe { &*body });
    heavy_barrier();
    let mut pause = Duration::from_micros(1);
    while Calls::any_inside(pointer) {
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    handle.body.store(null_mut(), Ordering::Relaxed);
    // SAFETY: as above, and no thread is inside any more.
    let body = unsafe { Box::from_raw(body) };
    LIVE.fetch_sub(1, Ordering::Relaxed);
    handle.mark.store(FREE, Ordering::Release);
    Ok(*body)
}

/// Handles that a thread is inside of at a time.
///
/// The manager, an owner and a queue, and the same once more in a callback.
const DEPTH: usize = 8;

/// What a thread is inside of; on cache lines of its own.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Calls {
    inside: [AtomicPtr<c_void>; DEPTH],
    depth: AtomicU32,
    taken: AtomicBool,
    /// Given back when the thread comes out, because its end is under way already.
    for_once: AtomicBool,
    next: *const Calls,
}

// SAFETY: everything is atomic but `next`, which is written before the value is published.
unsafe impl Sync for Calls {}

/// All of them; added and never taken away, used again by later threads.
static ALL_CALLS: AtomicPtr<Calls> = AtomicPtr::new(null_mut());

thread_local! {
    static MINE: Cell<*const Calls> = const { Cell::new(null()) };
    static AT_THREAD_END: AtThreadEnd = const { AtThreadEnd };
}

struct AtThreadEnd;

impl Drop for AtThreadEnd {
    fn drop(&mut self) {
        if let Some(calls) = NonNull::new(MINE.replace(null()).cast_mut()) {
            // SAFETY: never freed.
            let calls = unsafe { calls.as_ref() };
            calls.taken.store(false, Ordering::Release);
        }
    }
}

impl Calls {
    #[inline(always)]
    fn mine() -> &'static Self {
        let mine = MINE.get();
        if mine.is_null() {
            return Self::mine_slow();
        }
        // SAFETY: never freed.
        unsafe { &*mine }
    }

    #[cold]
    #[inline(never)]
    fn mine_slow() -> &'static Self {
        let lives_on = AT_THREAD_END.try_with(|_| ()).is_ok();
        let calls = Self::all().find(|calls| !calls.taken.swap(true, Ordering::Acquire)).unwrap_or_else(Self::add);
        calls.for_once.store(!lives_on, Ordering::Relaxed);
        MINE.set(calls);
        calls
    }

    fn all() -> impl Iterator<Item = &'static Self> {
        // SAFETY: never freed, and published with everything in it.
        let first = unsafe { ALL_CALLS.load(Ordering::Acquire).as_ref() };
        // SAFETY: as above.
        std::iter::successors(first, |calls| unsafe { calls.next.as_ref() })
    }

    fn add() -> &'static Self {
        let calls = Box::into_raw(Box::new(Self {
            inside: [const { AtomicPtr::new(null_mut()) }; DEPTH],
            depth: AtomicU32::new(0),
            taken: AtomicBool::new(true),
            for_once: AtomicBool::new(false),
            next: null(),
        }));
        let mut first = ALL_CALLS.load(Ordering::Acquire);
        loop {
            // SAFETY: ours until it is published by the swap below.
            unsafe { (*calls).next = first };
            match ALL_CALLS.compare_exchange_weak(first, calls, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: never freed.
                Ok(_) => return unsafe { &*calls },
                Err(now) => first = now,
            }
        }
    }

    #[inline(always)]
    fn note(&self, handle: *const c_void) -> Result<(), Failure> {
        let depth = self.depth.load(Ordering::Relaxed);
        let Some(place) = self.inside.get(depth as usize) else {
            return Err(Failure::new(KEYLATCH_EBUSY, "callbacks have called functions with callbacks too often"));
        };
        place.store(handle.cast_mut(), Ordering::Relaxed);
        self.depth.store(depth + 1, Ordering::Relaxed);
        Ok(())
    }

    #[inline(always)]
    fn leave(&self) {
        let depth = self.depth.load(Ordering::Relaxed).wrapping_sub(1) as usize % DEPTH;
        self.depth.store(depth as u32, Ordering::Relaxed);
        // Release pairs with the Acquire in `any_inside`: the thread that frees does so after all that was done inside.
        self.inside[depth].store(null_mut(), Ordering::Release);
        if self.for_once.load(Ordering::Relaxed) && depth == 0 {
            MINE.set(null());
            self.taken.store(false, Ordering::Release);
        }
    }

    #[inline(always)]
    fn leave_to(&self, depth: u32) {
        self.depth.store(depth, Ordering::Relaxed);
        if let Some(place) = self.inside.get(depth as usize) {
            // As in `leave`.
            place.store(null_mut(), Ordering::Release);
        }
    }

    fn is_inside(&self, handle: *const c_void) -> bool {
        self.inside.iter().any(|inside| std::ptr::eq(inside.load(Ordering::Acquire), handle))
    }

    fn any_inside(handle: *const c_void) -> bool {
        Self::all().any(|calls| calls.is_inside(handle))
    }
}

/// Forks between the first process of all and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// In a forked child only the forking thread goes on: no other is inside a handle.
extern "C" fn forget_others() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    let mine = MINE.get();
    for calls in Calls::all().filter(|calls| !std::ptr::eq(*calls, mine)) {
        calls.inside.iter().for_each(|inside| inside.store(null_mut(), Ordering::Relaxed));
        calls.depth.store(0, Ordering::Relaxed);
        calls.taken.store(false, Ordering::Relaxed);
    }
}

fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler is a function of this library, which is never unloaded, and works on atomics alone.
        unsafe { libc::pthread_atfork(None, None, Some(forget_others)) };
        if membarrier(REGISTER) {
            LIGHT_IS_ENOUGH.store(true, Ordering::SeqCst);
        }
    });
}

/// Whether every thread can be made to execute a barrier.
///
/// Said before the first handle exists, and never taken back.
static LIGHT_IS_ENOUGH: AtomicBool = AtomicBool::new(false);

#[inline(always)]
fn light_barrier() {
    compiler_fence(Ordering::SeqCst);
    if !LIGHT_IS_ENOUGH.load(Ordering::Relaxed) {
        // Pairs with the fence in `heavy_barrier`.
        fence(Ordering::SeqCst);
    }
}

fn heavy_barrier() {
    fence(Ordering::SeqCst);
    if LIGHT_IS_ENOUGH.load(Ordering::Relaxed) && !membarrier(EXECUTE) {
        // A child that did not inherit the registration.
        assert!(membarrier(REGISTER) && membarrier(EXECUTE), "membarrier worked before and does not any more");
    }
}

#[cfg(target_os = "linux")]
const REGISTER: libc::c_int = 1 << 4; // MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED
#[cfg(target_os = "linux")]
const EXECUTE: libc::c_int = 1 << 3; // MEMBARRIER_CMD_PRIVATE_EXPEDITED

#[cfg(target_os = "linux")]
fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: takes no pointers.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

#[cfg(not(target_os = "linux"))]
const REGISTER: libc::c_int = 0;
#[cfg(not(target_os = "linux"))]
const EXECUTE: libc::c_int = 0;

#[cfg(not(target_os = "linux"))]
fn membarrier(_: libc::c_int) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Debug)]
    struct Thing(Arc<AtomicU32>);

    impl Kind for Thing {
        const MARK: &'static Mark = {
            static MARK: Mark = Mark::new();
            &MARK
        };
        const NAME: &'static str = "thing";
    }

    impl Drop for Thing {
        fn drop(&mut self) {
            self.0.fetch_add(1 << 16, Ordering::SeqCst);
        }
    }

    #[derive(Debug)]
    struct Other;

    impl Kind for Other {
        const MARK: &'static Mark = {
            static MARK: Mark = Mark::new();
            &MARK
        };
        const NAME: &'static str = "other";
    }

    fn code<T>(result: Result<T, Failure>) -> i32 {
        result.err().map_or(0, |failure| failure.status())
    }

    #[test]
    fn freed_handle_differs_from_live_one() {
        let count = Arc::new(AtomicU32::new(0));
        let pointer = create(Thing(Arc::clone(&count))).unwrap().as_ptr();
        assert_eq!(code(enter::<Thing>(pointer).map(drop)), 0);
        assert_eq!(code(enter::<Other>(pointer).map(drop)), KEYLATCH_EHANDLE);
        assert_eq!(code(enter::<Thing>(null()).map(drop)), KEYLATCH_ENULL);
        assert_eq!(code(enter::<Thing>(pointer.wrapping_byte_add(8)).map(drop)), KEYLATCH_EHANDLE);
        assert_eq!(code(end::<Other>(pointer, |_| ())), KEYLATCH_EHANDLE);
        drop(end::<Thing>(pointer, |_| ()).unwrap());
        assert_eq!(count.load(Ordering::SeqCst), 1 << 16);
        assert_eq!(code(end::<Thing>(pointer, |_| ())), KEYLATCH_EHANDLE);
        assert_eq!(code(enter::<Thing>(pointer).map(drop)), KEYLATCH_EHANDLE);
    }

    /// A caller reads the mark, then the pointer; the mark may be swapped in between.
    #[test]
    fn reader_of_live_handle_finds_its_body() {
        let pointer = create(Thing(Arc::default())).unwrap().as_ptr();
        // SAFETY: the memory of handles stays for ever.
        let handle = unsafe { &*pointer.cast::<Handle>() };
        let while_freed = |_: &Thing| assert!(!handle.body.load(Ordering::Relaxed).is_null());
        drop(end::<Thing>(pointer, while_freed).unwrap());
        assert!(handle.body.load(Ordering::Relaxed).is_null());
    }

    #[test]
    fn a_freed_handle_rests_before_it_is_used_again() {
        let count = Arc::new(AtomicU32::new(0));
        let first = create(Thing(Arc::clone(&count))).unwrap().as_ptr();
        drop(end::<Thing>(first, |_| ()).unwrap());
        for _ in 0..100 {
            let later = create(Thing(Arc::clone(&count))).unwrap().as_ptr();
            assert_ne!(later, first);
            drop(end::<Thing>(later, |_| ()).unwrap());
        }
    }

    #[test]
    fn a_thousand_live_handles_are_all_different() {
        let count = Arc::new(AtomicU32::new(0));
        let mut all: Vec<_> = (0..1000).map(|_| create(Thing(Arc::clone(&count))).unwrap().as_ptr()).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 1000);
        for pointer in all {
            drop(end::<Thing>(pointer, |_| ()).unwrap());
        }
    }

    #[test]
    fn free_waits_for_callers_and_refuses_later_ones() {
        for _ in 0..300 {
            let count = Arc::new(AtomicU32::new(0));
            let pointer = create(Thing(Arc::clone(&count))).unwrap();
            let address = pointer.as_ptr().expose_provenance();
            let users: Vec<_> = (0..3)
                .map(|_| {
                    std::thread::spawn(move || {
                        let pointer = std::ptr::with_exposed_provenance::<c_void>(address);
                        let mut inside = 0_u64;
                        while let Ok(thing) = enter::<Thing>(pointer) {
                            let before = thing.0.fetch_add(1, Ordering::SeqCst);
                            assert!(before < 1 << 16, "used after it was freed");
                            thing.0.fetch_sub(1, Ordering::SeqCst);
                            inside += 1;
                        }
                        inside
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_micros(20));
            drop(end::<Thing>(pointer.as_ptr(), |_| ()).unwrap());
            assert_eq!(count.load(Ordering::SeqCst), 1 << 16);
            for user in users {
                let _: u64 = user.join().unwrap();
            }
        }
    }

    #[test]
    fn callback_cannot_free_handle_of_its_call() {
        let pointer = create(Other).unwrap().as_ptr();
        let inside = enter::<Other>(pointer).unwrap();
        assert_eq!(code(end::<Other>(pointer, |_| ())), KEYLATCH_EBUSY);
        drop(inside);
        assert_eq!(code(end::<Other>(pointer, |_| ())), 0);
    }

    #[test]
    fn too_deep_is_refused() {
        let pointer = create(Other).unwrap().as_ptr();
        let inside: Vec<_> = (0..DEPTH).map(|_| enter::<Other>(pointer).unwrap()).collect();
        assert_eq!(code(enter::<Other>(pointer).map(drop)), KEYLATCH_EBUSY);
        drop(inside);
        assert_eq!(code(end::<Other>(pointer, |_| ())), 0);
    }
}
