//! The thread that notices when other programs open a lock file, and when a term ends.
//!
//! There is one a process, started with the first file.

use crate::lock_file::descriptor::Descriptor;
use crate::lock_file::open::{LockFile, POLITE};
use crate::lock_file::term::Term;
use std::collections::HashMap;
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// For how long nothing is kept at the end of a term.
///
/// In that time a program that sleeps for the file gets its chance, however often this process locks it.
const BREATH: Duration = Duration::from_millis(5);

/// The files by the number that the kernel gives each.
type Files = Mutex<HashMap<i32, Vec<Weak<LockFile>>>>;

/// Notices programs that open lock files, and has those files give way.
#[derive(Debug)]
pub struct LockFileWatcher {
    descriptor: Descriptor,
    term: Arc<Term>,
    files: Files,
}

fn lock(files: &Files) -> MutexGuard<'_, HashMap<i32, Vec<Weak<LockFile>>>> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LockFileWatcher {
    /// Starts it; `None` where the system gives no more watches or threads.
    #[must_use]
    pub fn start() -> Option<Arc<Self>> {
        // SAFETY: takes a number.
        let descriptor = Descriptor::open(|| unsafe { libc::inotify_init1(libc::IN_CLOEXEC) })?;
        let watcher = Arc::new(Self { descriptor, term: Arc::new(Term::new()?), files: Mutex::default() });
        let thread = Arc::clone(&watcher);
        let named = std::thread::Builder::new().name("keylatch-files".into()).stack_size(256 << 10);
        named.spawn(move || thread.run()).ok()?;
        Some(watcher)
    }

    /// Has the file give way to each program that opens it from now on.
    pub fn watch(&self, file: &Arc<LockFile>) {
        // By its descriptor: another file may have the name by now.
        let name = CString::new(format!("/proc/self/fd/{}", file.descriptor())).expect("no zero byte");
        let mut files = lock(&self.files);
        // SAFETY: a C string.
        let number = unsafe { libc::inotify_add_watch(self.descriptor.as_raw(), name.as_ptr(), libc::IN_OPEN) };
        if number >= 0 {
            files.entry(number).or_default().push(Arc::downgrade(file));
            file.set_watched(&self.term);
        }
    }

    fn run(&self) {
        block_signals();
        let ready = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        loop {
            let mut both = [ready(self.descriptor.as_raw()), ready(self.term.as_raw())];
            // SAFETY: the array is a local.
            if unsafe { libc::poll(both.as_mut_ptr(), 2, -1) } < 0 {
                continue;
            }
            if both[1].revents != 0 {
                self.term.end();
                let files: Vec<_> = lock(&self.files).values().flatten().filter_map(Weak::upgrade).collect();
                files.iter().for_each(|file| file.give_way(BREATH));
            }
            if both[0].revents != 0 && !self.hear() {
                return;
            }
        }
    }

    /// Reads what was opened. Says whether there will be more.
    fn hear(&self) -> bool {
        let mut buffer = [MaybeUninit::<libc::inotify_event>::uninit(); 256];
        // SAFETY: the buffer is a local of that size, aligned for events.
        let read = unsafe { libc::read(self.descriptor.as_raw(), buffer.as_mut_ptr().cast(), size_of_val(&buffer)) };
        let Ok(read) = usize::try_from(read) else {
            return std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted;
        };
        // Events of files have no names, so each is as large as the structure.
        for event in &buffer[..read / size_of::<libc::inotify_event>()] {
            // SAFETY: the kernel has written that number of events.
            let event = unsafe { event.assume_init_ref() };
            self.tell(event.wd, event.mask);
        }
        true
    }

    fn tell(&self, number: i32, mask: u32) {
        let mut files = lock(&self.files);
        if mask & libc::IN_Q_OVERFLOW != 0 {
            files.values().flatten().filter_map(Weak::upgrade).for_each(|file| file.give_way(POLITE));
            return;
        }
        let Some(known) = files.get_mut(&number) else { return };
        known.retain(|file| file.upgrade().inspect(|file| file.give_way(POLITE)).is_some());
        if mask & libc::IN_IGNORED != 0 || known.is_empty() {
            files.remove(&number);
            // SAFETY: takes numbers. The number may be gone, with the file.
            unsafe { libc::inotify_rm_watch(self.descriptor.as_raw(), number) };
        }
    }
}

/// Keeps the program's signal handlers off this thread.
fn block_signals() {
    // SAFETY: the set is a local, and the mask is this thread's own.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}
