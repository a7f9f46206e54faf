//! `keylatch hold KEY -- COMMAND`: runs a command while a lock is held.

use super::exit;
use super::guardian::Guardian;
use super::options::{ClientOptions, KeyArgument};
use crate::client::{ClientError, Guard, Session, SessionOptions, Wanted};
use crate::server::wire::{ItemBody, ModeWord};
use clap::Args;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs a command while a lock is held.
#[derive(Debug, Args)]
pub(super) struct HoldArgs {
    #[command(flatten)]
    client: ClientOptions,
    /// Shares the key with other readers
    #[arg(long)]
    shared: bool,
    /// Waits at most this number of seconds for the lock; 0 does not wait
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// The lease in seconds: for how long the server keeps the lock when it hears nothing though the connection stands
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    ttl: f64,
    /// Stands ahead of lower priorities
    #[arg(long, default_value_t = 0)]
    priority: u8,
    /// Label for listings, events and errors; default: the command's name and this process
    #[arg(long)]
    owner: Option<String>,
    /// More keys, all held or none
    #[arg(long = "also", value_name = "KEY")]
    also: Vec<KeyArgument>,
    /// What to lock: bucket/object or bucket/object@version
    key: KeyArgument,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs `hold`. Returns the exit status.
pub(super) fn run(args: HoldArgs) -> u8 {
    // SAFETY: this is called from `main` before any thread is started.
    let guardian = match unsafe { Guardian::fork() } {
        Ok(guardian) => guardian,
        Err(error) => return exit::say(exit::SYSTEM, format_args!("no process for the guardian: {error}")),
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(hold(args, guardian)),
        Err(error) => exit::say(exit::SYSTEM, format_args!("{error}")),
    }
}

async fn hold(args: HoldArgs, guardian: Guardian) -> u8 {
    let session = match open(&args).await {
        Ok(session) => session,
        Err(error) => return exit::say(exit::of(&error), format_args!("{error}")),
    };
    let status = match lock(&args, &session).await {
        Ok(guard) => run_command(&args, (&session, guard), guardian).await,
        Err(error) => exit::say(exit::of(&error), format_args!("{error}")),
    };
    session.end().await;
    status
}

async fn open(args: &HoldArgs) -> Result<Session, ClientError> {
    let command = args.command.first().map_or("", String::as_str);
    let owner = args.owner.clone().unwrap_or_else(|| format!("{command} ({})", std::process::id()));
    let ttl = Duration::try_from_secs_f64(args.ttl).unwrap_or_default();
    Session::open(args.client.http()?, SessionOptions { owner, ttl }).await
}

async fn lock(args: &HoldArgs, session: &Session) -> Result<Guard, ClientError> {
    let mode = if args.shared { ModeWord::Shared } else { ModeWord::Exclusive };
    let items = std::iter::once(&args.key).chain(&args.also).map(|key| ItemBody { mode, ..key.0.clone() }).collect();
    let wait = args.timeout.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO));
    let mut interrupt = Signals::listen();
    tokio::select! {
        guard = session.lock(Wanted { items, wait, priority: args.priority }) => guard,
        _ = interrupt.next() => Err(ClientError::Timeout),
    }
}

/// Signals that are passed on to the command.
struct Signals(Vec<(i32, Signal)>);

impl Signals {
    fn listen() -> Self {
        let passed_on = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];
        let listen = |number: i32| Some((number, signal(SignalKind::from_raw(number)).ok()?));
        Self(passed_on.into_iter().filter_map(listen).collect())
    }

    async fn next(&mut self) -> i32 {
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

async fn run_command(args: &HoldArgs, (session, guard): (&Session, Guard), mut guardian: Guardian) -> u8 {
    let (program, arguments) = args.command.split_first().expect("clap asks for one");
    let mut command = std::process::Command::new(program);
    command.args(arguments).env("KEYLATCH_FENCE", guard.fence().to_string()).env("KEYLATCH_GRANT", guard.grant());
    // A group of its own: the guardian ends the command with all that it started.
    command.process_group(0);
    let mut child = match Command::from(command).spawn() {
        Ok(child) => child,
        Err(error) => {
            let status = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
            return exit::say(status, format_args!("{program}: {error}"));
        }
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
    let terminal = Terminal::give_to(group);
    let ended = supervise(&mut child, group, (session, &guard), &mut guardian).await;
    drop(terminal);
    guardian.done();
    let status = match ended {
        Ok(status) => status,
        Err(error) => return exit::say(exit::SYSTEM, format_args!("{program}: {error}")),
    };
    if !guard.is_valid() {
        return exit::say(exit::LOST, format_args!("the lock was lost; the command was ended"));
    }
    match guard.release().await {
        Ok(()) => exit_status(status),
        Err(ClientError::Lost) => exit::say(exit::LOST, format_args!("the lock was lost while the command ran")),
        // The command has ended, and its work was covered.
        Err(error) => exit::say(exit_status(status), format_args!("not released ({error}); the lease ends by itself")),
    }
}

/// Waits for the command; passes signals on, and each new deadline to the guardian.
async fn supervise(
    child: &mut Child,
    group: i32,
    (session, guard): (&Session, &Guard),
    guardian: &mut Guardian,
) -> std::io::Result<ExitStatus> {
    let mut until = session.follow_belief();
    let mut signals = Signals::listen();
    let mut is_lost = false;
    guardian.watch(group, *until.borrow_and_update())?;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            number = signals.next() => send(group, number),
            _ = until.changed(), if !is_lost => guardian.watch(group, *until.borrow_and_update())?,
            () = guard.lost(), if !is_lost => {
                // Released by force, or the session is gone: another client may have the lock now.
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

fn exit_status(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(exit::SYSTEM)
}

/// The terminal, while it belongs to the command's process group: it reads, and gets the keyboard's signals.
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
