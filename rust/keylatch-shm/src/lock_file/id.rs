//! Which file it is, who else may lock it, and the mark by which tables know of each other.

use crate::handle::SharedTable;
use std::ffi::CStr;
use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// Which file a descriptor or a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// As the object of a key in the table.
    #[must_use]
    pub fn key(self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.device.to_be_bytes());
        key[8..].copy_from_slice(&self.inode.to_be_bytes());
        key
    }

    /// The file that the name stands for now.
    #[inline]
    pub(crate) fn of_name(name: &CStr) -> Option<Self> {
        // SAFETY: a structure of numbers.
        let mut about: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: a C string, and a local.
        (unsafe { libc::lstat(name.as_ptr(), &raw mut about) } == 0).then_some(Self::of(&about))
    }

    pub(crate) fn of_descriptor(fd: RawFd) -> Result<Self> {
        // SAFETY: a structure of numbers.
        let mut about: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the structure is a local.
        if unsafe { libc::fstat(fd, &raw mut about) } == 0 { Ok(Self::of(&about)) } else { Err(Error::last_os_error()) }
    }

    fn of(about: &libc::stat) -> Self {
        Self { device: about.st_dev, inode: about.st_ino }
    }
}

/// Marks the file with the table, and says whether it has no other mark.
///
/// If it has one, the file is left without ours.
pub(crate) fn mark(fd: RawFd, table: &SharedTable) -> Result<bool> {
    let id = FileId::of_descriptor(table.as_fd().as_raw_fd())?;
    let hash = (id.device ^ id.inode.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 2;
    // From 1 on, so that there is something before it.
    let place = hash.max(1) as libc::off_t;
    let lock = |kind: i32, start: libc::off_t, length: libc::off_t| {
        // SAFETY: a structure of numbers.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        lock.l_start = start;
        lock.l_len = length;
        lock
    };
    let ours = lock(libc::F_RDLCK, place, 1);
    // SAFETY: the structure is a local.
    if unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &raw const ours) } != 0 {
        // A kernel or file system without such locks: nothing is known of others.
        return Ok(false);
    }
    for (start, length) in [(0, place), (place + 1, 0)] {
        let mut other = lock(libc::F_WRLCK, start, length);
        // SAFETY: the structure is a local.
        let asked = unsafe { libc::fcntl(fd, libc::F_OFD_GETLK, &raw mut other) } == 0;
        if !asked || i32::from(other.l_type) != libc::F_UNLCK {
            let nothing = lock(libc::F_UNLCK, place, 1);
            // SAFETY: the structure is a local.
            unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &raw const nothing) };
            return Ok(false);
        }
    }
    Ok(true)
}
