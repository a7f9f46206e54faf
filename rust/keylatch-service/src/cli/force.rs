//! `keylatch force-release`.

use super::exit;
use super::exit::print;
use super::list::{claim_line, every, fail, lock_line};
use super::options::{ClientOptions, FilterOptions};
use crate::client::ClientError;
use crate::server::claim_rows::ClaimRow;
use crate::server::wire::{ForceBody, ForceKind, ForcedBody, LockRow};
use clap::Args;
use serde_json::json;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// Releases locks by force; their holders learn that they are lost.
#[derive(Debug, Args)]
pub(super) struct ForceArgs {
    #[command(flatten)]
    client: ClientOptions,
    #[command(flatten)]
    filter: FilterOptions,
    /// Ends grants of claims in place of locks; each counts as a failed attempt
    #[arg(long)]
    claims: bool,
    /// Releases everything, where nothing else is given
    #[arg(long)]
    all: bool,
    /// Does not ask first
    #[arg(long)]
    yes: bool,
}

/// Runs `force-release`. Returns the exit status.
pub(super) async fn run(args: ForceArgs) -> u8 {
    if args.filter.is_empty() && !args.all {
        return exit::say(exit::USAGE, format_args!("name what to release, for example with --object, or give --all"));
    }
    if !args.yes && !std::io::stdin().is_terminal() {
        return exit::say(
            exit::USAGE,
            format_args!("there is no terminal to ask on; --yes releases without a question"),
        );
    }
    match force(&args).await {
        Ok(Some(forced)) if args.client.json => {
            let rows = if args.claims { json!(forced.claims) } else { json!(forced.released) };
            print(format!("{rows:#}\n").as_bytes())
        }
        Ok(Some(forced)) => {
            let mut lines: Vec<String> = forced.released.iter().map(lock_line).collect();
            lines.extend(forced.claims.iter().map(claim_line));
            print(format!("{}{} released\n", joined(&lines), lines.len()).as_bytes())
        }
        Ok(None) => exit::say(exit::REFUSED, format_args!("nothing was released")),
        Err(error) => fail(&error),
    }
}

async fn force(args: &ForceArgs) -> Result<Option<ForcedBody>, ClientError> {
    let http = args.client.http()?;
    if !args.yes {
        let lines: Vec<String> = if args.claims {
            let claims: Vec<ClaimRow> = every(&http, "/v1/claims", &args.filter).await?;
            claims.iter().filter(|claim| claim.owned_by.is_some()).map(claim_line).collect()
        } else {
            every::<LockRow>(&http, "/v1/locks", &args.filter).await?.iter().map(lock_line).collect()
        };
        if !lines.is_empty() && !confirmed(&lines) {
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
        kind: if args.claims { ForceKind::Claims } else { ForceKind::Locks },
    };
    http.post("/v1/force-release", &body).await.map(Some)
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn confirmed(lines: &[String]) -> bool {
    let mut errors = std::io::stderr();
    let shown = joined(&lines[..lines.len().min(20)]);
    let _ = write!(errors, "{shown}Release {} by force? [y/N] ", lines.len());
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && answer.trim().eq_ignore_ascii_case("y")
}
