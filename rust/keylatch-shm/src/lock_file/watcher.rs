//! The thread that notices when other programs open a lock file, and when a term ends.
//!
//! There is one a process, started with the first file.

use crate::lock_file::open::{LockFile, POLITE};
use crate::lock_file::term::{BREATH, Term};
use crate::lock_file::watches::Watches;
use crate::mutex::lock;
use keylatch::BlockedSignals;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, Weak};

/// The files by the number that the kernel gives each.
type Files = HashMap<i32, Vec<Weak<LockFile>>>;

/// Notices programs that open lock files, and has those files give way.
#[derive(Debug)]
pub struct LockFileWatcher {
    watches: Arc<Watches>,
    term: Arc<Term>,
    files: Mutex<Files>,
}

impl LockFileWatcher {
    /// Starts it; `None` where the system gives no more watches or threads.
    #[must_use]
    pub fn start() -> Option<Arc<Self>> {
        let (watches, term) = (Arc::new(Watches::new()?), Arc::new(Term::new()?));
        let watcher = Arc::new(Self { watches, term, files: Mutex::default() });
        let thread = Arc::clone(&watcher);
        // The program's signal handlers are kept off the thread.
        let _blocked = BlockedSignals::all_but_faults();
        let named = std::thread::Builder::new().name("keylatch-files".into()).stack_size(256 << 10);
        named.spawn(move || thread.run()).ok()?;
        Some(watcher)
    }

    /// Has the file give way to each program that opens it from now on.
    pub fn watch(&self, file: &Arc<LockFile>) {
        // Held over both: the events of the number find the file.
        let mut files = lock(&self.files);
        let Some(watch) = self.watches.add(file.descriptor()) else { return };
        let number = watch.number();
        if file.set_watched(watch, &self.term) {
            files.entry(number).or_default().push(Arc::downgrade(file));
        }
    }

    fn run(&self) {
        let ready = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        loop {
            let mut both = [ready(self.watches.as_raw()), ready(self.term.as_raw())];
            // SAFETY: the array is a local.
            if unsafe { libc::poll(both.as_mut_ptr(), 2, -1) } < 0 {
                continue;
            }
            if both[1].revents != 0 {
                self.term.end();
                let files: Vec<_> = lock(&self.files).values().flatten().filter_map(Weak::upgrade).collect();
                files.iter().for_each(|file| file.give_way(BREATH));
            }
            if both[0].revents != 0 && !self.read_events() {
                return;
            }
        }
    }

    /// Reads what was opened. Says whether there will be more.
    fn read_events(&self) -> bool {
        let mut buffer = [MaybeUninit::<libc::inotify_event>::uninit(); 256];
        // SAFETY: the buffer is a local of that size, aligned for events.
        let read = unsafe { libc::read(self.watches.as_raw(), buffer.as_mut_ptr().cast(), size_of_val(&buffer)) };
        let Ok(read) = usize::try_from(read) else {
            return std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted;
        };
        // Events of files have no names, so each is as large as the structure.
        for event in &buffer[..read / size_of::<libc::inotify_event>()] {
            // SAFETY: the kernel has written that number of events.
            let event = unsafe { event.assume_init_ref() };
            self.give_way(event.wd, event.mask);
        }
        true
    }

    fn give_way(&self, number: i32, mask: u32) {
        let mut files = lock(&self.files);
        if mask & libc::IN_Q_OVERFLOW != 0 {
            files.values().flatten().filter_map(Weak::upgrade).for_each(|file| file.give_way(POLITE));
            return;
        }
        if let Some(known) = files.get_mut(&number) {
            known.retain(|file| file.upgrade().inspect(|file| file.give_way(POLITE)).is_some());
        }
        if mask & libc::IN_IGNORED != 0 {
            // The file is gone, or the last watch of it.
            files.remove(&number);
        }
    }
}
