//! Threads of the library's own, which leave signals to the program's.

use std::io;
use std::mem::MaybeUninit;
use std::thread::JoinHandle;

/// The signals of faults of the thread itself, which are not blocked.
///
/// A blocked one would end the process without a call of the program's handler, and callbacks are the program's code.
const FAULTS: [libc::c_int; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// Calls what a thread of the library is to do.
type Around = fn(&mut dyn FnMut());

static AROUND: std::sync::OnceLock<Around> = std::sync::OnceLock::new();

/// Has each thread that the library starts from now on run inside this.
///
/// For bindings to other languages. Only the first call counts.
#[doc(hidden)]
pub fn run_threads_inside(around: Around) {
    let _ = AROUND.set(around);
}

/// Starts a thread that blocks all signals but its own faults.
///
/// A program may block a signal in all its threads and fetch it with `sigwait`. Its handler must not run in a thread that
/// the program does not know.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<Running> {
    // A thread begins with the mask of the one that makes it. What arrives meanwhile waits.
    let _before = Blocked::all_but_faults();
    let begin = || {
        let mut run = Some(run);
        let mut once = || run.take().into_iter().for_each(|run| run());
        match AROUND.get() {
            Some(around) => around(&mut once),
            None => once(),
        }
    };
    let handle = std::thread::Builder::new().name(name.into()).spawn(begin)?;
    Ok(Running { handle: Some(handle), process: std::process::id() })
}

/// A thread that was started. Dropping this lets the thread go on by itself.
#[derive(Debug)]
pub(crate) struct Running {
    handle: Option<JoinHandle<()>>,
    /// The process that has the thread: a forked child has not.
    process: u32,
}

impl Running {
    /// Waits until the thread has ended, so that its code may be unloaded.
    ///
    /// A thread does not wait for itself.
    pub(crate) fn join(mut self) {
        let Some(handle) = self.handle.take_if(|_| self.process == std::process::id()) else { return };
        if handle.thread().id() != std::thread::current().id() {
            // What it panicked with was printed by the panic hook.
            let _ = handle.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            std::mem::forget(self.handle.take());
        }
    }
}

/// Blocks signals in the calling thread and in threads that it starts.
///
/// Dropping it gives the calling thread its old mask back.
#[derive(Debug)]
pub struct Blocked(libc::sigset_t);

impl Blocked {
    /// Blocks all signals but those that a fault of the thread raises.
    #[must_use]
    pub fn all_but_faults() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: each is filled in before it is read, and none of these can fail with what they are given.
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
        // SAFETY: the mask is the one that the system returned.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn blocks(signal: libc::c_int) -> bool {
        let mut mask = MaybeUninit::uninit();
        // SAFETY: the mask is asked for and not changed, and it is read when it is filled in.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), mask.as_mut_ptr());
            libc::sigismember(mask.as_ptr(), signal) == 1
        }
    }

    #[test]
    fn library_threads_block_signals() {
        let (send, received) = mpsc::channel();
        let signals = [libc::SIGINT, libc::SIGUSR1, libc::SIGALRM, libc::SIGCHLD, libc::SIGRTMAX()];
        spawn("keylatch-test", move || {
            send.send((signals.map(blocks), FAULTS.map(blocks))).unwrap();
        })
        .unwrap();
        let (blocked, faults) = received.recv().unwrap();
        assert_eq!((blocked, faults), ([true; 5], [false; 6]));
        assert_eq!(signals.map(blocks), [false; 5]);
    }
}
