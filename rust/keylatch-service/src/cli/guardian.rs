//! The process that ends a command before its lease can be over.
//!
//! `keylatch hold` may be stopped, killed or starved; its command would go on and believe in a lock that another client has
//! by then. So the deadline is kept by a process of its own, in a session of its own, which does nothing else. It knows the
//! command's process group and the deadline, which `hold` moves on with each renewal, over a pipe:
//!
//! | what it reads | what it does |
//! |---|---|
//! | a deadline | waits for that one |
//! | the end of the pipe: `hold` is gone | SIGKILL to the group, now |
//! | `DONE` | ends |
//! | nothing until the deadline minus the notice | SIGTERM to the group |
//! | nothing until the deadline minus the margin | SIGKILL to the group |
//!
//! It is forked before the program has a second thread.

use crate::client::clock::boottime;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

/// How long before the end of the lease the kill comes.
///
/// A busy machine wakes the guardian late.
const MARGIN: Duration = Duration::from_millis(500);
/// The command hears SIGTERM so long before that, if the lease is long enough.
const NOTICE: Duration = Duration::from_millis(1000);
/// In place of a deadline: the command has ended.
const DONE: u64 = 0;

/// The writing end of the guardian's pipe.
#[derive(Debug)]
pub(super) struct Guardian(io::PipeWriter);

impl Guardian {
    /// Forks the guardian.
    ///
    /// # Safety
    /// The process has one thread.
    pub(super) unsafe fn fork() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        // SAFETY: the caller promises that there is one thread, so the child may go on as any program does.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                drop(writer);
                // SAFETY: no argument; a session of its own keeps the terminal's signals and stops away.
                unsafe { libc::setsid() };
                close_standard_streams();
                Watch { reader, group: 0, deadline: None, warned: false }.run();
                std::process::exit(0)
            }
            _ => Ok(Self(writer)),
        }
    }

    /// Names the process group to end, and until when its lease is safe.
    pub(super) fn watch(&mut self, group: i32, until: Duration) -> io::Result<()> {
        let mut message = [0; 16];
        message[..8].copy_from_slice(&i64::from(group).to_ne_bytes());
        message[8..].copy_from_slice(&(until.as_nanos() as u64).max(1).to_ne_bytes());
        self.0.write_all(&message)
    }

    /// Says that the command has ended.
    pub(super) fn done(&mut self) {
        let mut message = [0; 16];
        message[8..].copy_from_slice(&DONE.to_ne_bytes());
        // A guardian that is gone has nothing left to do either.
        let _ = self.0.write_all(&message);
    }
}

/// Its parent's readers must see the end of what they read when the command ends.
fn close_standard_streams() {
    for descriptor in 0..3 {
        // SAFETY: closing a number that is not open does no harm, and nothing here uses these.
        unsafe { libc::close(descriptor) };
    }
}

struct Watch {
    reader: io::PipeReader,
    group: i32,
    deadline: Option<Duration>,
    warned: bool,
}

impl Watch {
    fn run(mut self) {
        loop {
            let now = boottime();
            if let Some(deadline) = self.deadline {
                if now >= deadline.saturating_sub(MARGIN) {
                    return self.signal(libc::SIGKILL);
                }
                if !self.warned && now >= deadline.saturating_sub(MARGIN + NOTICE) {
                    self.signal(libc::SIGTERM);
                    self.warned = true;
                }
            }
            if self.wait_for_message(now) && !self.take_message() {
                return;
            }
        }
    }

    /// Waits until there is something to read, or until something is due.
    fn wait_for_message(&self, now: Duration) -> bool {
        let due =
            self.deadline.map(|deadline| deadline.saturating_sub(if self.warned { MARGIN } else { MARGIN + NOTICE }));
        let timeout = due.map_or(-1, |due| due.saturating_sub(now).as_millis().min(60_000) as i32 + 1);
        let mut poll = libc::pollfd { fd: self.reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, which `reader` keeps open.
        unsafe { libc::poll(&raw mut poll, 1, timeout) > 0 }
    }

    /// Reads a message. Returns whether the watch goes on.
    fn take_message(&mut self) -> bool {
        let mut message = [0; 16];
        if self.reader.read_exact(&mut message).is_err() {
            // `hold` is gone, and with it whatever renewed the lease.
            self.signal(libc::SIGKILL);
            return false;
        }
        let (group, deadline) = message.split_at(8);
        let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        if number(deadline) == DONE {
            return false;
        }
        self.group = number(group) as i32;
        self.deadline = Some(Duration::from_nanos(number(deadline)));
        self.warned = false;
        true
    }

    fn signal(&self, signal: i32) {
        if self.group > 0 {
            // SAFETY: sends a signal; the group's number is not used again while its leader is not waited for, which
            // `hold` does only before it says `DONE`.
            unsafe { libc::kill(-self.group, signal) };
        }
    }
}
