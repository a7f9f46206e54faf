//! A lock file that this process has open.

use crate::lock_file::descriptor::Descriptor;
use crate::lock_file::id::{FileId, is_local, mark};
use crate::lock_file::kept::Kept;
use crate::table::SharedTable;
use std::ffi::CString;
use std::fmt;
use std::io::{Error, Result};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// For how long nothing is kept once another program has opened the file.
///
/// The package tries every 50 milliseconds.
const POLITE: Duration = Duration::from_secs(1);

/// Whether the holder has the file to itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Entered {
    /// Other programs are barred until it leaves.
    Yes,
    /// Another program has locked it; try again later.
    Busy,
    /// The name stands for another file by now, or for none; open it again.
    Stale,
}

/// A lock file that other programs lock with `flock`, beside a key of the table.
pub struct LockFile {
    descriptor: Descriptor,
    name: CString,
    id: FileId,
    /// Whether all that hold a shared `flock` of it use the same table.
    is_marked: bool,
    /// Whether the watcher sees who opens it.
    is_watched: AtomicBool,
    /// A [`Kept`].
    state: AtomicU32,
    /// Nothing is kept until then: milliseconds since the first lock file.
    polite_until: AtomicU64,
}

/// Milliseconds since the first use.
fn now() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed().as_millis() as u64
}

impl LockFile {
    /// Opens the file, which is made if there is none, as the package `filelock` does.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path, mode: Option<u32>, table: &SharedTable) -> Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // Permissions that were asked for are set whatever the umask is, by the process that makes the file.
        // SAFETY: a C string.
        let mut fd = unsafe { libc::open(name.as_ptr(), flags | libc::O_CREAT | libc::O_EXCL, mode.unwrap_or(0o666)) };
        let mut error = Error::last_os_error();
        if fd >= 0 {
            if let Some(mode) = mode {
                // SAFETY: takes numbers. It may be refused, as on file systems that have no permissions.
                unsafe { libc::fchmod(fd, mode) };
            }
        } else if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EACCES | libc::EPERM)) {
            // SAFETY: a C string.
            fd = unsafe { libc::open(name.as_ptr(), flags) };
            let why = Error::last_os_error();
            // A file that is missing could not be made: that is what is wrong.
            if error.raw_os_error() == Some(libc::EEXIST) || why.raw_os_error() != Some(libc::ENOENT) {
                error = why;
            }
        }
        let descriptor = Descriptor::own(fd).ok_or(error)?;
        let fd = descriptor.as_raw();
        let id = FileId::of_descriptor(fd)?;
        let is_marked = descriptor.is_listed() && is_local(fd) && mark(fd, table)?;
        Ok(Self {
            descriptor,
            name,
            id,
            is_marked,
            is_watched: false.into(),
            state: AtomicU32::new(0),
            polite_until: AtomicU64::new(0),
        })
    }

    /// Which file it is; its key in the table is made of that.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.descriptor.as_raw()
    }

    /// Whether it may stay open between holds. If not, each try opens it anew.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.is_marked
    }

    /// Notes that the watcher sees who opens the file from now on.
    pub(crate) fn set_watched(&self) {
        self.is_watched.store(true, Ordering::Release);
    }

    /// Bars other programs, with no system call but one if the lock was kept.
    ///
    /// # Errors
    /// The system's.
    ///
    /// Caller holds: the file's key in the table.
    #[inline]
    pub fn enter(&self) -> Result<Entered> {
        if self.swap(Kept::IDLE, Kept::HELD).is_err() {
            match self.enter_slow()? {
                Entered::Yes => {}
                other => return Ok(other),
            }
        }
        if FileId::of_name(&self.name) == Some(self.id) {
            return Ok(Entered::Yes);
        }
        self.leave();
        Ok(Entered::Stale)
    }

    #[cold]
    #[inline(never)]
    fn enter_slow(&self) -> Result<Entered> {
        // The watcher is about to unlock: a lock that is taken before would go with it.
        while Kept(self.state.load(Ordering::Acquire)).is_busy() {
            std::thread::yield_now();
        }
        let operation = if self.is_marked { libc::LOCK_SH } else { libc::LOCK_EX };
        // SAFETY: takes numbers.
        if unsafe { libc::flock(self.descriptor.as_raw(), operation | libc::LOCK_NB) } != 0 {
            let error = Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EWOULDBLOCK | libc::EACCES | libc::EINTR) => Ok(Entered::Busy),
                _ => Err(error),
            };
        }
        let keep = self.is_marked
            && self.is_watched.load(Ordering::Acquire)
            && now() >= self.polite_until.load(Ordering::Relaxed);
        self.state.store(Kept::locked(keep).0, Ordering::Release);
        Ok(Entered::Yes)
    }

    /// Ends what `enter` began. It comes before the release of the key.
    #[inline]
    pub fn leave(&self) {
        if self.swap(Kept::HELD, Kept::IDLE).is_err() {
            self.leave_slow();
        }
    }

    #[cold]
    #[inline(never)]
    fn leave_slow(&self) {
        self.unlock();
        self.state.store(Kept::NOTHING.0, Ordering::Release);
    }

    /// Changes the word if it is `from`.
    #[inline(always)]
    fn swap(&self, from: Kept, to: Kept) -> std::result::Result<u32, u32> {
        // Pairs with: itself, in the other thread. The watcher leaves the lock alone while a holder is inside.
        self.state.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed)
    }

    fn unlock(&self) {
        // SAFETY: takes numbers. It cannot fail for a descriptor that is open.
        unsafe { libc::flock(self.descriptor.as_raw(), libc::LOCK_UN) };
    }

    /// Another program has opened the file: it may want to lock it.
    pub(crate) fn give_way(&self) {
        self.polite_until.store(now() + POLITE.as_millis() as u64, Ordering::Relaxed);
        loop {
            let seen = Kept(self.state.load(Ordering::Relaxed));
            let Some(next) = seen.asked() else { return };
            if self.swap(seen, next).is_err() {
                continue;
            }
            if next.is_busy() {
                self.unlock();
                self.state.store(Kept::NOTHING.0, Ordering::Release);
            }
            return;
        }
    }
}

impl fmt::Debug for LockFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockFile").field("name", &self.name).finish_non_exhaustive()
    }
}
