//! `keylatch claim RESOURCE -- COMMAND`: runs a command once among all machines.
//!
//! | environment of the command | meaning |
//! |---|---|
//! | `KEYLATCH_FENCE`, `KEYLATCH_GRANT` | the grant; the fence grows with every grant |
//! | `KEYLATCH_ATTEMPT` | 1 for the first attempt |
//! | `KEYLATCH_FIRST_IN_EPOCH` | `1`: the server knows of no earlier attempt since its start; look whether it is done |
//! | `KEYLATCH_PROGRESS` | number of a descriptor; each line `DONE TOTAL ADDRESS` written to it is reported |

use super::child::{self, Signals};
use super::exit;
use super::guardian::Guardian;
use super::list::resource_shown;
use super::options::{ClientOptions, KeyArgument, safe};
use crate::client::{ClaimGuard, ClaimWanted, Claimed, ClientError, Session, SessionOptions};
use crate::server::claim_wire::{OutcomeBody, ResourceBody};
use clap::Args;
use keylatch::claim::{ClaimPolicy, ClaimWhenTaken};
use serde_json::json;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;

/// What the help and the man page say about the command's environment.
pub(super) const HELP: &str = "\
The command's success is the outcome: later requests are done, for as long as the server retains it. A command that fails, \
is killed or loses its machine makes the first in line the next to run. The command's environment has KEYLATCH_FENCE, \
KEYLATCH_GRANT, KEYLATCH_ATTEMPT, KEYLATCH_FIRST_IN_EPOCH (1: look whether the work is done before you do it) and \
KEYLATCH_PROGRESS, the number of a descriptor: each line 'DONE TOTAL ADDRESS' that the command writes to it is shown to \
others.";

/// The command's descriptor for its reports.
const PROGRESS: i32 = 3;

/// Runs a command once among all machines that ask for the same resource.
#[derive(Debug, Args)]
pub(super) struct ClaimArgs {
    #[command(flatten)]
    client: ClientOptions,
    /// Waits at most this number of seconds while another does the work
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// Does not wait where another does the work: ends with status 75
    #[arg(long)]
    skip: bool,
    /// After this many failed attempts, all who wait get the failure as the outcome
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    attempts: Option<u32>,
    /// Holds the next attempt back for this many seconds if this one fails
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    retry_after: f64,
    /// What those who wait get along with a success
    #[arg(long, default_value = "")]
    note: String,
    /// The lease in seconds
    ///
    /// The server waits this long for a client that it hears nothing of though the connection stands.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    ttl: f64,
    /// Label for listings, events and errors; default: command name and process
    #[arg(long)]
    owner: Option<String>,
    /// The work: bucket/object or bucket/object@version
    resource: KeyArgument,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs `claim`. Returns the exit status.
pub(super) fn run(args: ClaimArgs) -> u8 {
    // SAFETY: this is called from `main` before any thread is started.
    let guardian = match unsafe { Guardian::fork() } {
        Ok(guardian) => guardian,
        Err(error) => return exit::say(exit::SYSTEM, format_args!("no process for the guardian: {error}")),
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(claim(args, guardian)),
        Err(error) => exit::say(exit::SYSTEM, format_args!("{error}")),
    }
}

async fn claim(args: ClaimArgs, guardian: Guardian) -> u8 {
    let session = match open(&args).await {
        Ok(session) => session,
        Err(error) => return args.client.fail(&error),
    };
    let status = match ask(&args, &session).await {
        Ok(Claimed::Yours(guard)) => work(&args, (&session, guard), guardian).await,
        Ok(Claimed::Done(outcome)) => done_by_another(&args, &outcome),
        Ok(Claimed::Skipped { owner }) => {
            let owner = owner.unwrap_or_default();
            args.client.report("skipped", exit::NOT_FREE, &json!({"owner": owner}));
            exit::say(exit::NOT_FREE, format_args!("skipped: {} does the work", safe(&owner)))
        }
        Ok(Claimed::Superseded) => args.client.give_up(exit::NOT_FREE, format_args!("superseded by a later request")),
        Err(error) => args.client.fail(&error),
    };
    session.end().await;
    status
}

async fn open(args: &ClaimArgs) -> Result<Session, ClientError> {
    let command = args.command.first().map_or("", String::as_str);
    let owner = args.owner.clone().unwrap_or_else(|| format!("{command} ({})", std::process::id()));
    let ttl = Duration::try_from_secs_f64(args.ttl).unwrap_or_default();
    Session::open(args.client.http()?, SessionOptions { owner, ttl }).await
}

async fn ask(args: &ClaimArgs, session: &Session) -> Result<Claimed, ClientError> {
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
    let key = args.resource.0.clone();
    let wanted = ClaimWanted {
        resource: ResourceBody { bucket: key.bucket, object: key.object, version: key.version },
        wait: args.timeout.map(seconds),
        policy: ClaimPolicy {
            max_attempts: args.attempts,
            retry_after: seconds(args.retry_after),
            when_taken: if args.skip { ClaimWhenTaken::Skip } else { ClaimWhenTaken::Wait },
            ..ClaimPolicy::default()
        },
    };
    let mut interrupt = Signals::listen();
    tokio::select! {
        claimed = session.claim(wanted) => claimed,
        _ = interrupt.next() => Err(ClientError::Timeout),
    }
}

fn done_by_another(args: &ClaimArgs, outcome: &OutcomeBody) -> u8 {
    let owner = safe(&outcome.owner);
    let (state, status) = if outcome.error.is_none() { ("done", 0) } else { ("failed", exit::FAILED) };
    args.client.report(state, status, &json!({"outcome": outcome}));
    match &outcome.error {
        None => 0,
        Some(error) => exit::say(status, format_args!("failed for good: {owner}: {}", safe(error))),
    }
}

/// Runs the command, and ends the work as the command ended.
async fn work(args: &ClaimArgs, (session, guard): (&Session, ClaimGuard), guardian: Guardian) -> u8 {
    let (command, reports) = match prepared(args, &guard) {
        Ok(prepared) => prepared,
        Err(error) => return args.client.give_up(exit::SYSTEM, format_args!("no pipe for reports: {error}")),
    };
    let ended = {
        let run = child::run(command, session, guard.lost(), guardian);
        tokio::pin!(run);
        tokio::select! {
            ended = &mut run => ended,
            () = pass_on(reports, &guard) => run.await,
        }
    };
    let status = match ended {
        Ok(status) => child::exit_status(status),
        Err(status) => status,
    };
    if !guard.is_valid() {
        return args.client.give_up(exit::LOST, format_args!("the work was lost; the command was ended"));
    }
    let grant = json!({"grant": guard.grant(), "fence": guard.fence(), "attempt": guard.attempt()});
    let (state, finished) = match status {
        0 => ("ended", guard.complete(&args.note).await),
        _ => ("failed", guard.fail(&format!("exit status {status}")).await),
    };
    match finished {
        Ok(()) => {
            args.client.report(state, status, &grant);
            status
        }
        Err(error) => {
            args.client.give_up(exit::of(&error), format_args!("{}: {error}", resource_shown(&args.resource())))
        }
    }
}

impl ClaimArgs {
    fn resource(&self) -> ResourceBody {
        let key = self.resource.0.clone();
        ResourceBody { bucket: key.bucket, object: key.object, version: key.version }
    }
}

/// Returns the command with its environment, and the reading end of its reports.
fn prepared(args: &ClaimArgs, guard: &ClaimGuard) -> io::Result<(std::process::Command, pipe::Receiver)> {
    let (reader, writer) = io::pipe()?;
    let (program, arguments) = args.command.split_first().expect("clap asks for one");
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .env("KEYLATCH_FENCE", guard.fence().to_string())
        .env("KEYLATCH_GRANT", guard.grant())
        .env("KEYLATCH_ATTEMPT", guard.attempt().to_string())
        .env("KEYLATCH_FIRST_IN_EPOCH", u8::from(guard.is_first_in_epoch()).to_string())
        .env("KEYLATCH_PROGRESS", PROGRESS.to_string());
    // SAFETY: between fork and exec this only calls `dup2` and `fcntl`, which are safe there. The writer moves into the
    // closure, so it is open until the command is started and dropped with it.
    unsafe {
        command.pre_exec(move || {
            let writer = writer.as_raw_fd();
            // Duplicating a descriptor onto itself would leave it closed on exec.
            let placed =
                if writer == PROGRESS { libc::fcntl(writer, libc::F_SETFD, 0) } else { libc::dup2(writer, PROGRESS) };
            if placed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    Ok((command, pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?))
}

/// Reports each line that the command writes.
///
/// A line that is none is passed over: progress is only a service to others.
async fn pass_on(reports: pipe::Receiver, guard: &ClaimGuard) {
    let mut lines = BufReader::new(reports).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut words = line.split_whitespace();
        let Some(Ok(done)) = words.next().map(str::parse) else { continue };
        let total = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let _ = guard.progress(done, total, words.next().unwrap_or_default()).await;
    }
}
