//! A command that runs for as long as something is ours: in a process group of its own, under the guardian's eyes.

use super::exit;
use super::guardian::Guardian;
use crate::client::Session;
use std::future::Future;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::ExitStatus;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs a command until it ends, or `lost` returns, which ends it.
///
/// Returns its status, or the program's own where it did not run.
pub(super) async fn run(
    mut command: std::process::Command,
    session: &Session,
    lost: impl Future<Output = ()>,
    mut guardian: Guardian,
) -> Result<ExitStatus, u8> {
    let program = command.get_program().to_string_lossy().into_owned();
    // A group of its own: the guardian ends the command with all that it started.
    command.process_group(0);
    let mut child = Command::from(command).spawn().map_err(|error| {
        let status = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
        exit::say(status, format_args!("{program}: {error}"))
    })?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
    let terminal = Terminal::give_to(group);
    let ended = supervise(&mut child, group, (session, lost), &mut guardian).await;
    drop(terminal);
    guardian.done();
    ended.map_err(|error| exit::say(exit::SYSTEM, format_args!("{program}: {error}")))
}

/// Waits for the command; passes on signals, and deadlines to the guardian.
async fn supervise(
    child: &mut Child,
    group: i32,
    (session, lost): (&Session, impl Future<Output = ()>),
    guardian: &mut Guardian,
) -> std::io::Result<ExitStatus> {
    let mut until = session.follow_belief();
    let mut signals = Signals::listen();
    let mut is_lost = false;
    tokio::pin!(lost);
    guardian.watch(group, *until.borrow_and_update())?;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            number = signals.next() => send(group, number),
            _ = until.changed(), if !is_lost => guardian.watch(group, *until.borrow_and_update())?,
            () = &mut lost, if !is_lost => {
                // Released by force, or the session is gone: another client may have it now.
                is_lost = true;
                send(group, libc::SIGKILL);
            }
        }
    }
}

fn send(group: i32, number: i32) {
    if group > 0 {
        // SAFETY: sends a signal to a group whose leader has not been waited for.
        unsafe { libc::kill(-group, number) };
    }
}

pub(super) fn exit_status(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(exit::SYSTEM)
}

/// The terminal, while it belongs to the command's process group.
///
/// The group reads from it, and gets the keyboard's signals.
struct Terminal;

impl Terminal {
    fn give_to(group: i32) -> Option<Self> {
        // SAFETY: asks about a descriptor.
        let is_terminal = unsafe { libc::isatty(0) } == 1;
        (is_terminal && group > 0).then(|| {
            set_foreground(group);
            Self
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // SAFETY: asks for the own group's number.
        set_foreground(unsafe { libc::getpgrp() });
    }
}

fn set_foreground(group: i32) {
    // SAFETY: a process in the background that changes the foreground group gets SIGTTOU, which is ignored meanwhile;
    // the handler before is put back.
    unsafe {
        let before = libc::signal(libc::SIGTTOU, libc::SIG_IGN);
        libc::tcsetpgrp(0, group);
        libc::signal(libc::SIGTTOU, before);
    }
}

/// Signals that are passed on to the command.
pub(super) struct Signals(Vec<(i32, Signal)>);

impl Signals {
    pub(super) fn listen() -> Self {
        let passed_on = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];
        let listen = |number: i32| Some((number, signal(SignalKind::from_raw(number)).ok()?));
        Self(passed_on.into_iter().filter_map(listen).collect())
    }

    pub(super) async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
