//! A lock file that this process has open.

use crate::handle::SharedTable;
use crate::lock_file::descriptor::Descriptor;
use crate::lock_file::id::{FileId, mark};
use crate::lock_file::kept::Kept;
use crate::lock_file::term::{self, Term};
use crate::lock_file::watches::Watch;
use crate::mutex::lock;
use crate::os::filesystem;
use std::ffi::{CStr, CString};
use std::fmt;
use std::io::{Error, Result};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// For how long nothing is kept once another program has opened the file.
///
/// The package tries every 50 milliseconds.
pub(crate) const POLITE: Duration = Duration::from_secs(1);

/// For how long a holder leaves the file free, and how often.
///
/// It does so before it releases the key. Between two holds there is no other moment in which a program that sleeps for the
/// file could wake and lock it.
const GAP: Duration = Duration::from_millis(1);
const BETWEEN_GAPS: Duration = Duration::from_millis(5);

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
    /// How long its lock is kept, while a watcher sees who opens the file.
    watched: OnceLock<(Watch, Arc<Term>)>,
    /// Held by a thread that locks or unlocks the file.
    changing: Mutex<()>,
    /// A [`Kept`].
    state: AtomicU64,
    /// Nothing is kept until then: milliseconds since the first lock file.
    polite_until: AtomicU64,
    /// No gap is left until then: milliseconds likewise.
    gap_from: AtomicU64,
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
        let mut error = None;
        let descriptor = Descriptor::open(|| match open_or_make(&name, mode) {
            Ok(fd) => fd,
            Err(why) => {
                error = Some(why);
                -1
            }
        });
        let descriptor = descriptor.ok_or_else(|| error.unwrap_or_else(Error::last_os_error))?;
        let fd = descriptor.as_raw();
        let id = FileId::of_descriptor(fd)?;
        let is_marked = descriptor.is_listed() && filesystem::not_local(fd).is_none() && mark(fd, table)?;
        Ok(Self {
            descriptor,
            name,
            id,
            is_marked,
            watched: OnceLock::new(),
            changing: Mutex::new(()),
            state: AtomicU64::new(Kept::NOTHING.0),
            polite_until: AtomicU64::new(0),
            gap_from: AtomicU64::new(0),
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

    /// Notes that a watcher sees who opens the file.
    ///
    /// Says whether none did before.
    pub(crate) fn set_watched(&self, watch: Watch, term: &Arc<Term>) -> bool {
        self.watched.set((watch, Arc::clone(term))).is_ok()
    }

    /// Bars other programs, with no system call but one if the lock was kept.
    ///
    /// `hold` is a number that no other hold of the key has: its fence.
    ///
    /// # Errors
    /// The system's.
    ///
    /// Caller holds: the file's key in the table.
    #[inline]
    pub fn enter(&self, hold: u64) -> Result<Entered> {
        if let Some(entered) = self.enter_kept(hold) {
            return Ok(entered);
        }
        match self.enter_slow(hold)? {
            Entered::Yes => Ok(self.check_name(hold)),
            other => Ok(other),
        }
    }

    /// As [`enter`](Self::enter), if the lock was kept.
    ///
    /// Never waits. `None` if it was not kept.
    #[inline]
    pub fn enter_kept(&self, hold: u64) -> Option<Entered> {
        self.swap(Kept::IDLE, Kept::held(hold)).then(|| self.check_name(hold))
    }

    #[inline(always)]
    fn check_name(&self, hold: u64) -> Entered {
        if FileId::of_name(&self.name) == Some(self.id) {
            return Entered::Yes;
        }
        self.leave(hold);
        Entered::Stale
    }

    #[cold]
    #[inline(never)]
    fn enter_slow(&self, hold: u64) -> Result<Entered> {
        let changing = lock(&self.changing);
        // Kept after all, or a hold is inside that was revoked: the kernel's lock is there.
        let mut seen = self.load();
        while let Some(next) = seen.taken(hold) {
            if self.swap(seen, next) {
                return Ok(Entered::Yes);
            }
            seen = self.load();
        }
        // Before the lock: what is kept was locked when all might keep.
        let is_polite = now() < self.polite_until.load(Ordering::Relaxed) || term::has_just_ended();
        let operation = if self.is_marked { libc::LOCK_SH } else { libc::LOCK_EX };
        // SAFETY: takes numbers.
        if unsafe { libc::flock(self.descriptor.as_raw(), operation | libc::LOCK_NB) } != 0 {
            let error = Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EWOULDBLOCK | libc::EACCES | libc::EINTR) => Ok(Entered::Busy),
                _ => Err(error),
            };
        }
        let watched = self.watched.get().filter(|_| self.is_marked && !is_polite);
        let term = watched.map(|(_, term)| term);
        self.state.store(Kept::locked(hold, term.is_some()).0, Ordering::Release);
        drop(changing);
        // The word comes first: what is kept when a term ends is given up.
        if term.is_some_and(|term| term.begin().is_err()) {
            self.give_way(POLITE);
        }
        Ok(Entered::Yes)
    }

    /// Ends what `enter` began. It comes before the release of the key.
    ///
    /// Does nothing if another hold is inside by now, which the key was revoked for. While other programs may wait for the
    /// file it takes a millisecond now and then, in which they find it free.
    #[inline]
    pub fn leave(&self, hold: u64) {
        if !self.leave_kept(hold) {
            self.leave_slow(hold);
        }
    }

    /// As [`leave`](Self::leave), if the lock is kept; says whether it was.
    ///
    /// Never waits.
    #[inline]
    pub fn leave_kept(&self, hold: u64) -> bool {
        self.swap(Kept::held(hold), Kept::IDLE)
    }

    #[cold]
    #[inline(never)]
    fn leave_slow(&self, hold: u64) {
        let changing = lock(&self.changing);
        if !self.load().is_unlocked_by(hold) {
            return;
        }
        self.unlock();
        drop(changing);
        let now = now();
        // A file that is not marked is opened anew for each hold.
        if self.is_marked && now >= self.gap_from.load(Ordering::Relaxed) {
            self.gap_from.store(now + BETWEEN_GAPS.as_millis() as u64, Ordering::Relaxed);
            std::thread::sleep(GAP);
        }
    }

    #[inline(always)]
    fn load(&self) -> Kept {
        Kept(self.state.load(Ordering::Acquire))
    }

    /// Changes the word if it is `from`; says whether it did.
    #[inline(always)]
    fn swap(&self, from: Kept, to: Kept) -> bool {
        // Pairs with: itself, in the other thread. The watcher leaves the lock alone while a holder is inside.
        self.state.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Caller holds: the mutex, and the word is such that no swap changes it.
    fn unlock(&self) {
        // SAFETY: takes numbers. It cannot fail for a descriptor that is open.
        unsafe { libc::flock(self.descriptor.as_raw(), libc::LOCK_UN) };
        self.state.store(Kept::NOTHING.0, Ordering::Release);
    }

    /// Gives up what is kept, and keeps nothing for that long.
    ///
    /// If a holder is inside, it does so when it leaves.
    pub(crate) fn give_way(&self, polite: Duration) {
        self.polite_until.fetch_max(now() + polite.as_millis() as u64, Ordering::Relaxed);
        let _changing = lock(&self.changing);
        loop {
            let seen = self.load();
            let Some(next) = seen.asked() else { return };
            if self.swap(seen, next) {
                if next == Kept::NOTHING {
                    self.unlock();
                }
                return;
            }
        }
    }
}

/// Opens the file, or makes it, with these permissions whatever the umask is.
fn open_or_make(name: &CStr, mode: Option<u32>) -> Result<RawFd> {
    let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: a C string.
    let fd = unsafe { libc::open(name.as_ptr(), flags | libc::O_CREAT | libc::O_EXCL, mode.unwrap_or(0o666)) };
    if fd >= 0 {
        if let Some(mode) = mode {
            // SAFETY: takes numbers. It may be refused, as on file systems that have no permissions.
            unsafe { libc::fchmod(fd, mode) };
        }
        return Ok(fd);
    }
    let not_made = Error::last_os_error();
    if !matches!(not_made.raw_os_error(), Some(libc::EEXIST | libc::EACCES | libc::EPERM)) {
        return Err(not_made);
    }
    // SAFETY: a C string.
    let fd = unsafe { libc::open(name.as_ptr(), flags) };
    if fd >= 0 {
        return Ok(fd);
    }
    let not_opened = Error::last_os_error();
    // A file that is missing could not be made: that is what is wrong.
    let is_missing = not_opened.raw_os_error() == Some(libc::ENOENT);
    Err(if is_missing && not_made.raw_os_error() != Some(libc::EEXIST) { not_made } else { not_opened })
}

impl fmt::Debug for LockFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockFile").field("name", &self.name).finish_non_exhaustive()
    }
}
