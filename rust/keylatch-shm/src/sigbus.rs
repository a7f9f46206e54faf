//! Turns the signal for a truncated file into an error.
//!
//! A mapped page beyond the end of its file raises SIGBUS. A file without a name (`memfd`) is sealed against shrinking;
//! a named file cannot be, so the first table with a named file installs a handler. For an address inside a table it
//! maps a page of zeros there, marks the table as damaged, and lets the instruction run again; every verb looks at the
//! mark before it reports success. All other addresses go to the handler that was there before.

use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// Tables with a named file that one process may have open.
const TABLES: usize = 64;

struct Watched {
    base: AtomicUsize,
    bytes: AtomicUsize,
    damaged: AtomicPtr<AtomicU32>,
}

static WATCHED: [Watched; TABLES] = [const {
    Watched { base: AtomicUsize::new(0), bytes: AtomicUsize::new(0), damaged: AtomicPtr::new(std::ptr::null_mut()) }
}; TABLES];
static INSTALL: Once = Once::new();
static mut BEFORE: std::mem::MaybeUninit<libc::sigaction> = std::mem::MaybeUninit::uninit();

/// Watches a mapping; a page of it that vanishes sets the word to 1.
///
/// Says whether there was room to.
///
/// # Safety
/// The word outlives the mapping, which is unmapped only after [`forget`].
pub(crate) unsafe fn watch(base: usize, bytes: usize, damaged: &AtomicU32) -> bool {
    INSTALL.call_once(install);
    for watched in &WATCHED {
        if watched.base.compare_exchange(0, usize::MAX, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            watched.bytes.store(bytes, Ordering::Relaxed);
            watched.damaged.store(std::ptr::from_ref(damaged).cast_mut(), Ordering::Relaxed);
            // Pairs with: the handler's load.
            watched.base.store(base, Ordering::Release);
            return true;
        }
    }
    false
}

/// Ends the watch of a mapping, if there was one.
pub(crate) fn forget(base: usize) {
    for watched in &WATCHED {
        // Pairs with: the claim in `watch`.
        let _ = watched.base.compare_exchange(base, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

fn install() {
    // SAFETY: the structures are local or written once, before the handler that reads them is in place.
    unsafe {
        let before = &raw mut BEFORE;
        libc::sigaction(libc::SIGBUS, std::ptr::null(), (*before).as_mut_ptr());
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
    }
}

/// Everything it calls may be called in a signal handler.
extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid structure to a handler with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() } as usize;
    for watched in &WATCHED {
        // Pairs with: the release in `watch`.
        let base = watched.base.load(Ordering::Acquire);
        if base == 0 || base == usize::MAX || address < base || address - base >= watched.bytes.load(Ordering::Relaxed)
        {
            continue;
        }
        // SAFETY: `watch` was given a word that outlives the mapping.
        unsafe { (*watched.damaged.load(Ordering::Relaxed)).store(1, Ordering::SeqCst) };
        // SAFETY: takes a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        // SAFETY: the page lies in a mapping of this library, and becomes a private page of zeros.
        let mapped = unsafe {
            libc::mmap(
                (address / page * page) as *mut libc::c_void,
                page,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if mapped != libc::MAP_FAILED {
            return;
        }
    }
    // SAFETY: `BEFORE` was written before this handler was installed, and the old handler gets what it would have got.
    unsafe {
        let before = (&raw const BEFORE).cast::<libc::sigaction>();
        match (*before).sa_sigaction {
            libc::SIG_DFL => {
                libc::sigaction(signal, before, std::ptr::null_mut());
            }
            libc::SIG_IGN => {}
            handler if (*before).sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
            handler => {
                let handler: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}
