//! `keylatch hold KEY -- COMMAND`: runs a command while a lock is held.

use super::child::{self, Signals};
use super::exit;
use super::guardian::Guardian;
use super::options::{ClientOptions, KeyArgument};
use crate::client::{ClientError, Guard, Session, SessionOptions, Wanted};
use crate::server::wire::{ItemBody, ModeWord};
use clap::Args;
use serde_json::json;
use std::time::Duration;

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
    /// The lease in seconds
    ///
    /// The server keeps the lock this long when it hears nothing though the connection stands.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    ttl: f64,
    /// Stands ahead of lower priorities
    #[arg(long, default_value_t = 0)]
    priority: u8,
    /// Label for listings, events and errors; default: command name and process
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
        Err(error) => return args.client.fail(&error),
    };
    let status = match lock(&args, &session).await {
        Ok(guard) => run_command(&args, (&session, guard), guardian).await,
        Err(error) => args.client.fail(&error),
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

async fn run_command(args: &HoldArgs, (session, guard): (&Session, Guard), guardian: Guardian) -> u8 {
    let (program, arguments) = args.command.split_first().expect("clap asks for one");
    let mut command = std::process::Command::new(program);
    command.args(arguments).env("KEYLATCH_FENCE", guard.fence().to_string()).env("KEYLATCH_GRANT", guard.grant());
    let grant = json!({"grant": guard.grant(), "fence": guard.fence()});
    let status = match child::run(command, session, guard.lost(), guardian).await {
        Ok(status) => child::exit_status(status),
        Err(status) => {
            args.client.report(exit::word(status), status, &grant);
            return status;
        }
    };
    if !guard.is_valid() {
        return args.client.give_up(exit::LOST, format_args!("the lock was lost; the command was ended"));
    }
    match guard.release().await {
        Err(ClientError::Lost) => {
            args.client.give_up(exit::LOST, format_args!("the lock was lost while the command ran"))
        }
        released => {
            args.client.report("ended", status, &grant);
            match released {
                Ok(()) => status,
                // The command has ended, and its work was covered.
                Err(error) => exit::say(status, format_args!("not released ({error}); the lease ends by itself")),
            }
        }
    }
}
