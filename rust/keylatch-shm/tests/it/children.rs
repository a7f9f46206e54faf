//! Children that run a closure in a process of their own, and folders that vanish.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A process that was forked from this one and runs one closure.
pub(crate) struct Child {
    pid: libc::pid_t,
}

impl Child {
    /// Forks. The closure must not rely on other threads of this process.
    pub(crate) fn run(work: impl FnOnce()) -> Self {
        // What the library installs once a process is installed before the fork: no thread is in the middle of it then.
        static INSTALLED: std::sync::Once = std::sync::Once::new();
        INSTALLED.call_once(|| {
            let folder = Folder::new();
            let config = keylatch_shm::TableConfig::default().keys(8).members(1);
            drop(keylatch_shm::SharedTable::open(folder.file(), &config).expect("a table"));
        });
        // SAFETY: the child runs the closure and leaves by `_exit`; the allocator and std are usable after a fork with
        // the C library of Linux, and no mutex of this crate is touched before a table is opened anew.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid == 0 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(result.is_err())) };
        }
        Self { pid }
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: takes numbers; the child has not been waited for.
        assert_eq!(unsafe { libc::kill(self.pid, signal) }, 0);
    }

    /// Waits for the end; says whether the closure returned.
    pub(crate) fn wait(self) -> bool {
        let mut status = 0;
        // SAFETY: the status is a local.
        assert_eq!(unsafe { libc::waitpid(self.pid, &raw mut status, 0) }, self.pid);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }

    pub(crate) fn kill(self) {
        self.signal(libc::SIGKILL);
        assert!(!self.wait());
    }
}

/// Lets processes wait for each other: a pipe through which bytes go.
pub(crate) struct Pipe {
    ends: [i32; 2],
}

impl Pipe {
    pub(crate) fn new() -> Self {
        let mut ends = [0; 2];
        // SAFETY: the array is a local.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        Self { ends }
    }

    pub(crate) fn say(&self) {
        // SAFETY: the byte is a local.
        assert_eq!(unsafe { libc::write(self.ends[1], [1_u8].as_ptr().cast(), 1) }, 1);
    }

    pub(crate) fn hear(&self) {
        let mut byte = [0_u8];
        // SAFETY: the byte is a local.
        assert_eq!(unsafe { libc::read(self.ends[0], byte.as_mut_ptr().cast(), 1) }, 1);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        for end in self.ends {
            // SAFETY: both ends are this value's own.
            unsafe { libc::close(end) };
        }
    }
}

/// A folder of one test.
pub(crate) struct Folder(PathBuf);

static FOLDERS: AtomicU32 = AtomicU32::new(0);

impl Folder {
    pub(crate) fn new() -> Self {
        let shm = Path::new("/dev/shm");
        let parent = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("keylatch-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("locks")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
