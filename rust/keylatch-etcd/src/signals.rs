//! Threads of the network leave signals to the program's threads.

use std::mem::MaybeUninit;

/// Signals that a fault of the thread itself raises.
///
/// Blocked, they would end the process without the program's handler.
const FAULTS: [libc::c_int; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// Blocks all signals but faults in the calling thread.
///
/// Threads that it starts block them, too. /// Dropping it gives the calling thread its old mask back.
pub(crate) struct Blocked(libc::sigset_t);

impl Blocked {
    pub(crate) fn all_but_faults() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: each set is filled in before it is read, and the calls cannot fail with these arguments.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            for fault in FAULTS {
                libc::sigdelset(all.as_mut_ptr(), fault);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the mask is one that the thread had.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
        }
    }
}
