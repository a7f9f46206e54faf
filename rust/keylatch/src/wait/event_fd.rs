//! A file descriptor that is readable while there is something to fetch, for event loops to poll.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// An eventfd on Linux, a pair of sockets elsewhere.
#[derive(Debug)]
pub(crate) struct EventFd {
    written: File,
    read: File,
}

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        let (written, read) = descriptors()?;
        Ok(Self { written: File::from(written), read: File::from(read) })
    }

    /// Makes the descriptor readable. An error means that it is readable already.
    pub(crate) fn signal(&self) {
        let _ = (&self.written).write(&1_u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable.
    pub(crate) fn clear(&self) {
        let mut bytes = [0; 512];
        while let Ok(512) = (&self.read).read(&mut bytes) {}
    }

    /// Waits until the descriptor is readable; `false` if the deadline passes first.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            // Rounded up, so that it does not spin through the last millisecond; at most a day at a time.
            let milliseconds = left.map_or(-1, |left| {
                let left = left.min(Duration::from_secs(86_400));
                libc::c_int::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
            });
            let mut asked = libc::pollfd { fd: self.read.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd that lives through the call, of a descriptor that we own.
            let ready = unsafe { libc::poll(&raw mut asked, 1, milliseconds) };
            if ready > 0 {
                return Ok(true);
            }
            if ready < 0 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return Ok(false);
            }
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

#[cfg(target_os = "linux")]
fn descriptors() -> io::Result<(OwnedFd, OwnedFd)> {
    use std::os::fd::FromRawFd;
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `eventfd` made the descriptor for this call alone.
    let read = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((read.try_clone()?, read))
}

#[cfg(not(target_os = "linux"))]
fn descriptors() -> io::Result<(OwnedFd, OwnedFd)> {
    let (written, read) = std::os::unix::net::UnixStream::pair()?;
    written.set_nonblocking(true)?;
    read.set_nonblocking(true)?;
    Ok((written.into(), read.into()))
}
