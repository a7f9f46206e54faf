//! `keylatch force-release`.

use super::list::{every, fail, lock_line};
use super::options::{ClientOptions, FilterOptions};
use super::{exit, print};
use crate::client::ClientError;
use crate::server::wire::{ForceBody, ForcedBody, LockRow};
use clap::Args;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// Releases locks by force; their holders learn that they are lost.
#[derive(Debug, Args)]
pub(super) struct ForceArgs {
    #[command(flatten)]
    client: ClientOptions,
    #[command(flatten)]
    filter: FilterOptions,
    /// Releases every lock, where nothing else is given
    #[arg(long)]
    all: bool,
    /// Does not ask first
    #[arg(long)]
    yes: bool,
}

/// Runs `force-release`. Returns the exit status.
pub(super) async fn run(args: ForceArgs) -> u8 {
    match force(&args).await {
        Ok(Some(forced)) if args.client.json => {
            print((serde_json::to_string_pretty(&forced.released).unwrap_or_default() + "\n").as_bytes())
        }
        Ok(Some(forced)) => {
            let lines: String = forced.released.iter().map(|row| lock_line(row) + "\n").collect();
            print(format!("{lines}{} released\n", forced.released.len()).as_bytes())
        }
        Ok(None) => exit::say(exit::REFUSED, format_args!("nothing was released")),
        Err(error) => fail(&error),
    }
}

async fn force(args: &ForceArgs) -> Result<Option<ForcedBody>, ClientError> {
    let http = args.client.http()?;
    if !args.yes && std::io::stdin().is_terminal() {
        let held: Vec<LockRow> = every(&http, "/v1/locks", &args.filter).await?;
        if !confirmed(&held) {
            return Ok(None);
        }
    }
    let filter = args.filter.clone();
    let body = ForceBody {
        older_than_ms: filter.older_than_ms(),
        bucket: filter.bucket,
        prefix: filter.prefix,
        object: filter.object,
        owner: filter.owner,
        session: filter.session,
        all: args.all,
    };
    http.post("/v1/force-release", &body).await.map(Some)
}

fn confirmed(held: &[LockRow]) -> bool {
    let mut errors = std::io::stderr();
    for row in held.iter().take(20) {
        let _ = writeln!(errors, "{}", lock_line(row));
    }
    let _ = write!(errors, "Release {} by force? [y/N] ", held.len());
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && answer.trim().eq_ignore_ascii_case("y")
}
