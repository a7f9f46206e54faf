//! The thread that notices when other programs open a lock file: one a process, started with the first file.

use crate::lock_file::descriptor::Descriptor;
use crate::lock_file::open::LockFile;
use std::collections::HashMap;
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The files by the number that the kernel gives each.
type Files = Mutex<HashMap<i32, Vec<Weak<LockFile>>>>;

/// Notices programs that open lock files, and has those files give way.
#[derive(Debug)]
pub struct LockFileWatcher {
    descriptor: Descriptor,
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
        let descriptor = Descriptor::own(unsafe { libc::inotify_init1(libc::IN_CLOEXEC) })?;
        let watcher = Arc::new(Self { descriptor, files: Mutex::default() });
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
            file.set_watched();
        }
    }

    fn run(&self) {
        block_signals();
        let mut buffer = [MaybeUninit::<libc::inotify_event>::uninit(); 256];
        loop {
            // SAFETY: the buffer is a local of that size, aligned for events.
            let read =
                unsafe { libc::read(self.descriptor.as_raw(), buffer.as_mut_ptr().cast(), size_of_val(&buffer)) };
            let Ok(read) = usize::try_from(read) else {
                if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted {
                    continue;
                }
                return;
            };
            // Events of files have no names, so each is as large as the structure.
            for event in &buffer[..read / size_of::<libc::inotify_event>()] {
                // SAFETY: the kernel has written that number of events.
                let event = unsafe { event.assume_init_ref() };
                self.tell(event.wd, event.mask);
            }
        }
    }

    fn tell(&self, number: i32, mask: u32) {
        let mut files = lock(&self.files);
        if mask & libc::IN_Q_OVERFLOW != 0 {
            files.values().flatten().filter_map(Weak::upgrade).for_each(|file| file.give_way());
            return;
        }
        let Some(known) = files.get_mut(&number) else { return };
        known.retain(|file| file.upgrade().inspect(|file| file.give_way()).is_some());
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
