//! The kernel's watches of files, each of which ends with the last file that it is for.

use crate::lock_file::descriptor::Descriptor;
use crate::mutex::lock;
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};

/// What the process watches.
#[derive(Debug)]
pub(crate) struct Watches {
    descriptor: Descriptor,
    /// How many are for each number.
    ///
    /// The kernel gives one to all descriptors of a file.
    users: Mutex<HashMap<i32, usize>>,
}

/// One watch, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    watches: Arc<Watches>,
    number: i32,
}

impl Watches {
    /// Watches nothing yet; `None` where the system gives no descriptor.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: takes a number.
        let descriptor = Descriptor::open(|| unsafe { libc::inotify_init1(libc::IN_CLOEXEC) })?;
        Some(Self { descriptor, users: Mutex::default() })
    }

    pub(crate) fn as_raw(&self) -> RawFd {
        self.descriptor.as_raw()
    }

    /// Watches who opens the file of that descriptor.
    ///
    /// `None` where the system gives no more watches.
    pub(crate) fn add(self: &Arc<Self>, file: RawFd) -> Option<Watch> {
        // By its descriptor: another file may have the name by now.
        let name = CString::new(format!("/proc/self/fd/{file}")).expect("no zero byte");
        let mut users = lock(&self.users);
        // SAFETY: a C string.
        let number = unsafe { libc::inotify_add_watch(self.as_raw(), name.as_ptr(), libc::IN_OPEN) };
        if number < 0 {
            return None;
        }
        *users.entry(number).or_default() += 1;
        Some(Watch { watches: Arc::clone(self), number })
    }
}

impl Watch {
    /// The kernel's number, which events carry. It is not used for another file later.
    pub(crate) fn number(&self) -> i32 {
        self.number
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.watches.descriptor.is_of_this_process() {
            return;
        }
        let mut users = lock(&self.watches.users);
        let Some(left) = users.get_mut(&self.number) else { return };
        *left -= 1;
        if *left == 0 {
            users.remove(&self.number);
            // The last event of the number follows. While the mutex is held no other descriptor gets the same one.
            // SAFETY: takes numbers. The number may be gone, with the file.
            unsafe { libc::inotify_rm_watch(self.watches.as_raw(), self.number) };
        }
    }
}
