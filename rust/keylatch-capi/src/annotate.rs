//! Tells ThreadSanitizer what the locks order, in programs that it watches.
//!
//! It does not see the atomics of a library that it was not compiled into, so it takes everything that a lock protects for a
//! data race. Its runtime has two functions for that: what happened before `__tsan_release` of an address is ordered before
//! what comes after `__tsan_acquire` of the same one. The library refers to them weakly. They are NULL, and nothing is done,
//! in programs without the runtime.
//!
//! The runtime does see where the library calls malloc(), free() and memmove(). Inside the library these are ignored, and in the
//! program's callbacks they are not.
//!
//! A lock has two addresses. Exclusive holders release both and acquire both; shared holders release the second and acquire the
//! first, so that readers are not ordered among each other and their races are still found. Two keys may share their addresses;
//! then a race between holders of the two can be missed.

use keylatch::{FastObjectLockManager, Grant, KeyRef, Mode, OwnedLockGuard, PinnedKey};
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ptr::from_ref;
use std::sync::atomic::AtomicU64;

type Annotation = Option<unsafe extern "C" fn(*mut c_void)>;

type Ignoring = Option<unsafe extern "C" fn(*const c_char, c_int)>;

#[repr(C)]
struct Runtime {
    acquire: Annotation,
    release: Annotation,
    begin_ignoring: Ignoring,
    end_ignoring: Ignoring,
    /// Only the runtime for C has it.
    ///
    /// That of Go has functions of the same names as the first two that take other arguments.
    for_c: Annotation,
}

// The language has no weak references: a table is filled in by the linker, with NULL for what it does not find.
#[cfg(all(target_os = "linux", not(tsan)))]
std::arch::global_asm!(
    ".weak __tsan_acquire",
    ".weak __tsan_release",
    ".weak AnnotateIgnoreWritesBegin",
    ".weak AnnotateIgnoreWritesEnd",
    ".weak __tsan_func_entry",
    ".pushsection .data.rel.ro.keylatch_tsan,\"aw\",@progbits",
    ".p2align 3",
    ".globl __keylatch_tsan_runtime",
    ".hidden __keylatch_tsan_runtime",
    ".type __keylatch_tsan_runtime,@object",
    ".size __keylatch_tsan_runtime,40",
    "__keylatch_tsan_runtime:",
    ".quad __tsan_acquire",
    ".quad __tsan_release",
    ".quad AnnotateIgnoreWritesBegin",
    ".quad AnnotateIgnoreWritesEnd",
    ".quad __tsan_func_entry",
    ".popsection",
);

#[cfg(all(target_os = "linux", not(tsan)))]
#[inline(always)]
fn runtime() -> &'static Runtime {
    unsafe extern "C" {
        static __keylatch_tsan_runtime: Runtime;
    }
    // SAFETY: defined above, of this layout, and filled in when the program starts.
    unsafe { &__keylatch_tsan_runtime }
}

/// A library built with ThreadSanitizer needs none: they would hide its races.
#[cfg(not(all(target_os = "linux", not(tsan))))]
#[inline(always)]
fn runtime() -> &'static Runtime {
    &Runtime { acquire: None, release: None, begin_ignoring: None, end_ignoring: None, for_c: None }
}

/// Orders what came before this before what follows [`acquire`] of the address.
#[inline(always)]
pub(crate) fn release<T>(address: &T) {
    if let Some(release) = runtime().release.filter(|_| is_watched()) {
        // SAFETY: the runtime takes any address of the program's memory.
        unsafe { release(from_ref(address).cast_mut().cast()) }
    }
}

/// See [`release`].
#[inline(always)]
pub(crate) fn acquire<T>(address: &T) {
    if let Some(acquire) = runtime().acquire.filter(|_| is_watched()) {
        // SAFETY: as in `release`.
        unsafe { acquire(from_ref(address).cast_mut().cast()) }
    }
}

thread_local! {
    /// How often this thread has begun to be ignored.
    static IGNORED: Cell<u32> = const { Cell::new(0) };
}

/// Whether there is a runtime for C.
#[inline(always)]
fn is_watched() -> bool {
    runtime().for_c.is_some() && runtime().acquire.is_some()
}

/// The thread is inside the library, whose memory is not the program's.
pub(crate) struct Unwatched;

impl Unwatched {
    #[inline(always)]
    pub(crate) fn enter() -> Option<Self> {
        is_watched().then(|| {
            begin(1);
            Self
        })
    }
}

impl Drop for Unwatched {
    fn drop(&mut self) {
        end(1);
    }
}

/// Runs a thread of the library's own, which is watched in [`outside`] alone.
pub(crate) fn own_thread(run: &mut dyn FnMut()) {
    let _unwatched = Unwatched::enter();
    run();
}

/// Runs the program's code.
pub(crate) fn outside(foreign: impl FnOnce()) {
    struct Back(u32);
    impl Drop for Back {
        fn drop(&mut self) {
            begin(self.0);
        }
    }
    if !is_watched() {
        return foreign();
    }
    let depth = IGNORED.get();
    end(depth);
    let _back = Back(depth);
    foreign();
}

#[cold]
fn begin(times: u32) {
    if let Some(begin) = runtime().begin_ignoring {
        IGNORED.set(IGNORED.get() + times);
        // SAFETY: the runtime wants a file and a line, for its own messages.
        (0..times).for_each(|_| unsafe { begin(c"keylatch".as_ptr(), 0) });
    }
}

#[cold]
fn end(times: u32) {
    if let Some(end) = runtime().end_ignoring {
        IGNORED.set(IGNORED.get() - times);
        // SAFETY: as in `begin`.
        (0..times).for_each(|_| unsafe { end(c"keylatch".as_ptr(), 0) });
    }
}

/// The addresses of one lock.
struct Addresses {
    of_writers: AtomicU64,
    of_all: AtomicU64,
}

const PLACES: usize = 4096;
static ADDRESSES: [Addresses; PLACES] =
    [const { Addresses { of_writers: AtomicU64::new(0), of_all: AtomicU64::new(0) } }; PLACES];

/// Orders a call that names no lock before every later grant of its manager.
static REVOKED: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

fn revoked(manager: u64) -> &'static AtomicU64 {
    &REVOKED[manager as usize % REVOKED.len()]
}

/// The caller is about to release or to revoke locks that it does not name.
pub(crate) fn revoking(manager: u64) {
    release(revoked(manager));
}

fn addresses(manager: u64, key: &KeyRef<'_>) -> &'static Addresses {
    let mut hasher = DefaultHasher::new();
    (manager, key).hash(&mut hasher);
    &ADDRESSES[hasher.finish() as usize % PLACES]
}

/// A lock of the manager of this number was granted to the caller.
#[inline(always)]
pub(crate) fn granted(manager: u64, locks: &FastObjectLockManager, grant: Grant) {
    if is_watched() {
        granted_slow(manager, locks, grant);
    }
}

/// The lock of a pin of the manager of this number was granted to the caller.
#[inline(always)]
pub(crate) fn granted_pin(manager: u64, pin: &PinnedKey, mode: Mode) {
    if is_watched() {
        granted_pin_slow(manager, pin, mode);
    }
}

#[cold]
#[inline(never)]
fn granted_pin_slow(manager: u64, pin: &PinnedKey, mode: Mode) {
    take_over(manager, &pin.key().as_ref(), mode);
}

#[cold]
#[inline(never)]
fn granted_slow(manager: u64, locks: &FastObjectLockManager, grant: Grant) {
    if let Ok((key, mode)) = locks.key_and_mode(grant) {
        take_over(manager, &key.as_ref(), mode);
    }
}

/// A lock of this manager was granted, and is handed to the calling thread.
pub(crate) fn handed_over(manager: u64, guard: &OwnedLockGuard) {
    if is_watched() {
        take_over(manager, &guard.key().as_ref(), guard.mode());
    }
}

fn take_over(manager: u64, key: &KeyRef<'_>, mode: Mode) {
    let lock = addresses(manager, key);
    acquire(revoked(manager));
    acquire(&lock.of_writers);
    if mode == Mode::Exclusive {
        acquire(&lock.of_all);
    }
}

/// The caller is about to release or to downgrade a lock of this manager.
#[inline(always)]
pub(crate) fn releasing(manager: u64, locks: &FastObjectLockManager, grant: Grant) {
    if is_watched() {
        releasing_slow(manager, locks, grant);
    }
}

#[cold]
#[inline(never)]
fn releasing_slow(manager: u64, locks: &FastObjectLockManager, grant: Grant) {
    if let Ok((key, mode)) = locks.key_and_mode(grant) {
        let lock = addresses(manager, &key.as_ref());
        release(&lock.of_all);
        if mode == Mode::Exclusive {
            release(&lock.of_writers);
        }
    }
}
