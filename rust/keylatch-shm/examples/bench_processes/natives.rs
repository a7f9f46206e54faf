//! The locks that Linux has between processes, behind one trait.

use std::cell::UnsafeCell;
use std::ffi::CString;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// A lock that is taken and given back, exclusively or shared.
pub(crate) trait Native {
    fn exclusive(&self, at: usize);
    fn shared(&self, at: usize);
}

/// An array of C locks in memory that forked children share.
pub(crate) struct Mapped<T: 'static>(&'static [UnsafeCell<MaybeUninit<T>>]);

// SAFETY: the elements are atomics and locks of C, which threads and processes share.
unsafe impl<T> Sync for Mapped<T> {}

impl<T> Mapped<T> {
    pub(crate) fn new(count: usize, init: impl Fn(*mut T)) -> Self {
        let bytes = count * size_of::<T>();
        // SAFETY: a new shared mapping of that size, never unmapped; each element is initialised before it is used.
        let locks = unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            let base = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert!(base != libc::MAP_FAILED);
            std::slice::from_raw_parts(base.cast::<UnsafeCell<MaybeUninit<T>>>(), count)
        };
        locks.iter().for_each(|lock| init(lock.get().cast()));
        Self(locks)
    }

    pub(crate) fn at(&self, at: usize) -> *mut T {
        self.0[at % self.0.len()].get().cast()
    }
}

pub(crate) struct Mutexes(pub(crate) Mapped<libc::pthread_mutex_t>);

impl Mutexes {
    pub(crate) fn new(count: usize, robust: bool) -> Self {
        Self(Mapped::new(count, |mutex| {
            let mut attributes = MaybeUninit::uninit();
            // SAFETY: initialised by the first call, and used as C says.
            unsafe {
                libc::pthread_mutexattr_init(attributes.as_mut_ptr());
                libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
                if robust {
                    libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
                }
                assert_eq!(libc::pthread_mutex_init(mutex, attributes.as_ptr()), 0);
            }
        }))
    }
}

impl Native for Mutexes {
    fn exclusive(&self, at: usize) {
        // SAFETY: the mutex was initialised, and is unlocked by the thread that locked it.
        unsafe {
            libc::pthread_mutex_lock(self.0.at(at));
            libc::pthread_mutex_unlock(self.0.at(at));
        }
    }

    fn shared(&self, at: usize) {
        self.exclusive(at);
    }
}

pub(crate) struct RwLocks(pub(crate) Mapped<libc::pthread_rwlock_t>);

impl RwLocks {
    pub(crate) fn new(count: usize) -> Self {
        Self(Mapped::new(count, |lock| {
            let mut attributes = MaybeUninit::uninit();
            // SAFETY: initialised by the first call, and used as C says.
            unsafe {
                libc::pthread_rwlockattr_init(attributes.as_mut_ptr());
                libc::pthread_rwlockattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
                assert_eq!(libc::pthread_rwlock_init(lock, attributes.as_ptr()), 0);
            }
        }))
    }
}

impl Native for RwLocks {
    fn exclusive(&self, at: usize) {
        // SAFETY: the lock was initialised, and is unlocked by the thread that locked it.
        unsafe {
            libc::pthread_rwlock_wrlock(self.0.at(at));
            libc::pthread_rwlock_unlock(self.0.at(at));
        }
    }

    fn shared(&self, at: usize) {
        // SAFETY: as above.
        unsafe {
            libc::pthread_rwlock_rdlock(self.0.at(at));
            libc::pthread_rwlock_unlock(self.0.at(at));
        }
    }
}

/// A POSIX semaphore with a name.
pub(crate) struct NamedSemaphore(*mut libc::sem_t);

impl NamedSemaphore {
    pub(crate) fn new() -> Self {
        let name = CString::new(format!("/keylatch-bench-{}", std::process::id())).expect("no zero byte");
        // SAFETY: the name is a C string; unlinking takes the name away, not the semaphore.
        let semaphore = unsafe {
            let semaphore = libc::sem_open(name.as_ptr(), libc::O_CREAT, 0o600, 1);
            libc::sem_unlink(name.as_ptr());
            semaphore
        };
        assert!(semaphore != libc::SEM_FAILED);
        Self(semaphore)
    }
}

impl Native for NamedSemaphore {
    fn exclusive(&self, _: usize) {
        // SAFETY: the semaphore is open.
        unsafe {
            libc::sem_wait(self.0);
            libc::sem_post(self.0);
        }
    }

    fn shared(&self, at: usize) {
        self.exclusive(at);
    }
}

/// A System V semaphore with SEM_UNDO, which survives kill -9.
pub(crate) struct SystemV(i32);

impl SystemV {
    pub(crate) fn new() -> Self {
        // SAFETY: takes numbers; the set is this run's own.
        let set = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
        assert!(set >= 0);
        let this = Self(set);
        this.change(1, 0);
        this
    }

    fn change(&self, by: i16, flags: i32) {
        let mut operation = libc::sembuf { sem_num: 0, sem_op: by, sem_flg: flags as i16 };
        // SAFETY: the operation is a local.
        unsafe { libc::semop(self.0, &raw mut operation, 1) };
    }
}

impl Drop for SystemV {
    fn drop(&mut self) {
        // SAFETY: takes numbers.
        unsafe { libc::semctl(self.0, 0, libc::IPC_RMID) };
    }
}

impl Native for SystemV {
    fn exclusive(&self, _: usize) {
        self.change(-1, libc::SEM_UNDO);
        self.change(1, libc::SEM_UNDO);
    }

    fn shared(&self, at: usize) {
        self.exclusive(at);
    }
}

pub(crate) struct Flock(pub(crate) File);

impl Native for Flock {
    fn exclusive(&self, _: usize) {
        // SAFETY: takes numbers.
        unsafe {
            libc::flock(self.0.as_raw_fd(), libc::LOCK_EX);
            libc::flock(self.0.as_raw_fd(), libc::LOCK_UN);
        }
    }

    fn shared(&self, _: usize) {
        // SAFETY: takes numbers.
        unsafe {
            libc::flock(self.0.as_raw_fd(), libc::LOCK_SH);
            libc::flock(self.0.as_raw_fd(), libc::LOCK_UN);
        }
    }
}

pub(crate) struct FileLocks(pub(crate) File);

impl FileLocks {
    fn set(&self, kind: i32, at: usize) {
        // SAFETY: a structure of numbers.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        (lock.l_type, lock.l_whence, lock.l_start, lock.l_len) = (kind as i16, libc::SEEK_SET as i16, at as i64, 1);
        // SAFETY: the structure is a local.
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_OFD_SETLKW, &raw const lock) };
    }
}

impl Native for FileLocks {
    fn exclusive(&self, at: usize) {
        self.set(libc::F_WRLCK, at);
        self.set(libc::F_UNLCK, at);
    }

    fn shared(&self, at: usize) {
        self.set(libc::F_RDLCK, at);
        self.set(libc::F_UNLCK, at);
    }
}
